package dynamo

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/metadatatest"
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
	if _, err := table.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return table
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
		if _, err := table.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "splashdam cluster init") {
			t.Errorf("check of an absent table: %v, want one that names cluster init", err)
		}
		warnings, err := table.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Log(warnings)
		again, err := table.Create(t.Context())
		if err != nil || len(again) != 0 {
			t.Errorf("create again: %q, %v", again, err)
		}
		id, err := table.Check(t.Context())
		if err != nil {
			t.Error(err)
		}
		t.Logf("id %q", id)
		described, err := table.describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if protected := described.DeletionProtectionEnabled != nil && *described.DeletionProtectionEnabled; protected == strings.Contains(fmt.Sprint(warnings), "deletion protection") {
			t.Errorf("protected %v, warnings %q", protected, warnings)
		}
		if left, err := table.Query(t.Context(), selfTestPK, "", 10); err != nil || len(left) != 0 {
			t.Errorf("the self-test left %d items, %v", len(left), err)
		}
	})
}

func TestTwoAgentsThatCreateATableBothSucceed(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		name := "dynamo-test-" + rand.Text()
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

// A put of a single writer that is refused by its own item was sent twice, by the SDK or by net/http.
func TestPutsOfALoneWriterAreSentOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, endpoint string) {
		table := createAt(t, Config{Endpoint: endpoint})
		key := metadata.Key{PK: "ring#lone", SK: "000000"}
		value := make([]byte, 8<<10)
		for rev := range metadata.Rev(2000) {
			cond := metadata.RevIs(rev - 1)
			if rev == 0 {
				cond = metadata.If{}
			}
			if r := table.Put(t.Context(), metadata.Item{Key: key, Rev: rev, Value: value}, cond); r.Outcome != metadata.Applied {
				t.Fatalf("put %d: %+v", rev, r)
			}
		}
	})
}
