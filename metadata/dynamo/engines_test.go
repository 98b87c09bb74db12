package dynamo

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/metadatatest"
	"github.com/splashdam/splashdam/objectlog/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(localstacktest.Tests{M: m}) }

var engines = []localstack.Engine{localstack.Ministack, localstack.Dynalite, localstack.Dynoxide}

// onEngines runs the test on a server of each engine.
func onEngines(t *testing.T, test func(t *testing.T, endpoint string)) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) { test(t, localstacktest.Shared(t, engine).Endpoint) })
	}
}

// openAt opens a table of a fresh name.
func openAt(t testing.TB, cfg Config) *Table {
	t.Helper()
	if cfg.Table == "" {
		cfg.Table = "dynamo-test-" + rand.Text()
	}
	table, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if own, ok := table.http.(*http.Transport); ok {
			own.CloseIdleConnections()
		}
	})
	return table
}

func createAt(t testing.TB, cfg Config) *Table {
	t.Helper()
	table := openAt(t, cfg)
	drop(t, table)
	if _, err := table.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return table
}

// drop removes the table after the test, for servers that outlive it.
func drop(t testing.TB, table *Table) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, unprotect := table.client.UpdateTable(ctx, &dynamodb.UpdateTableInput{TableName: &table.name, DeletionProtectionEnabled: aws.Bool(false)})
		if _, err := table.client.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &table.name}); err != nil {
			t.Log(unprotect, err)
		}
	})
}

func TestTablePassesTheAcceptanceSuite(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		table := createAt(t, Config{Endpoint: endpoint})
		metadatatest.Run(t, func(*testing.T) metadata.Table { return table })
	})
}

func TestFreshTablePassesItsCheckAndIsMadeOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		table := openAt(t, Config{Endpoint: endpoint})
		drop(t, table)
		if _, err := table.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "splashdam cluster init") {
			t.Errorf("check of an absent table: %v, want one that names cluster init", err)
		}
		warnings, err := table.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again, err := table.Create(t.Context())
		if err != nil || len(again) != 0 {
			t.Errorf("create again: %q, %v", again, err)
		}
		if _, err := table.Check(t.Context()); err != nil {
			t.Error(err)
		}
		described, err := table.describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if protected := described.DeletionProtectionEnabled != nil && *described.DeletionProtectionEnabled; protected == strings.Contains(fmt.Sprint(warnings), "deletion protection") {
			t.Errorf("protected %v, warnings %q", protected, warnings)
		}
		wantBackups(t, table, !strings.Contains(fmt.Sprint(warnings), "point-in-time recovery"))
		if left, err := table.Query(t.Context(), metadata.SelfTestKey("").PK, "", 10); err != nil || len(left) != 0 {
			t.Errorf("the self-test left %d items, %v", len(left), err)
		}
	})
}

// wantBackups wants point-in-time recovery on, or the engine not to know of it.
func wantBackups(t *testing.T, table *Table, want bool) {
	t.Helper()
	out, err := table.client.DescribeContinuousBackups(t.Context(), &dynamodb.DescribeContinuousBackupsInput{TableName: &table.name})
	if !want && hasNone(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	status := out.ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus
	if on := status == types.PointInTimeRecoveryStatusEnabled; on != want {
		t.Errorf("point-in-time recovery is %s, want it on: %v", status, want)
	}
}

func TestTwoAgentsThatCreateATableBothSucceed(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		name := "dynamo-test-" + rand.Text()
		drop(t, openAt(t, Config{Table: name, Endpoint: endpoint}))
		var both sync.WaitGroup
		for range 4 {
			table := openAt(t, Config{Table: name, Endpoint: endpoint})
			both.Go(func() {
				if _, err := table.Create(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := table.Check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	})
}

// Each engine says what a request consumed, also what only it can know: the size of the item that a put replaces or a delete removes.
func TestEnginesSayWhatTheyCharge(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		var u usage.Counter
		table := createAt(t, Config{Endpoint: endpoint, Usage: &u})
		big := metadata.Item{Key: metadata.Key{PK: "ring#u", SK: "000000"}, Value: make([]byte, 3000)}
		if r := table.CreateAll(t.Context(), []metadata.Item{big}); r.Outcome != metadata.Applied {
			t.Fatal(r)
		}
		for _, size := range []int{3000, 1, 1} { // over a big one, over a big one, over a small one
			if r := table.Put(t.Context(), metadata.Item{Key: big.Key, Rev: big.Rev + 1, Value: make([]byte, size)}, metadata.RevIs(big.Rev)); r.Outcome != metadata.Applied {
				t.Fatal(r)
			}
			big.Rev++
		}
		if _, ok, err := table.Get(t.Context(), metadata.Key{PK: "ring#u", SK: "none"}); ok || err != nil {
			t.Fatal(ok, err)
		}
		if r := table.Delete(t.Context(), big.Key, metadata.RevIs(big.Rev)); r.Outcome != metadata.Applied {
			t.Fatal(r)
		}
		if items, err := table.Query(t.Context(), "ring#u", "", 10); len(items) != 0 || err != nil {
			t.Fatal(items, err)
		}
		want := map[string]uint64{"batch_write_item": 3, "put_item": 3 + 3 + 1, "get_item": 1, "delete_item": 1}
		for _, line := range u.Lines() {
			if units, ok := want[line.Kind]; ok && line.Units != units {
				t.Errorf("%+v, want %d units", line, units)
			}
		}
	})
}

// A put of a single writer that is refused by its own item was sent twice, by the SDK or by net/http.
func TestPutsOfALoneWriterAreSentOnce(t *testing.T) {
	table := createAt(t, Config{Endpoint: localstacktest.Shared(t, localstack.Ministack).Endpoint})
	item := metadata.Item{Key: metadata.Key{PK: "ring#lone", SK: "000000"}, Value: make([]byte, 8<<10)}
	for item.Rev = range metadata.Rev(2000) {
		cond := metadata.RevIs(item.Rev - 1)
		if item.Rev == 0 {
			cond = metadata.If{}
		}
		if r := table.Put(t.Context(), item, cond); r.Outcome != metadata.Applied {
			t.Fatalf("put %d: %+v", item.Rev, r)
		}
	}
}
