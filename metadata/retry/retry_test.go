package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/metadatatest"
	"github.com/splashdam/splashdam/metadata/retry"
	objectretry "github.com/splashdam/splashdam/objectlog/retry"
)

func policy() objectretry.Policy {
	return objectretry.Policy{
		Budget: objectretry.NewBudget(10_000), Attempts: 3, Base: 1, PauseMax: 1,
		Sleep:  func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Random: func() uint64 { return 0 },
	}
}

// TestTableWithFailingReadsPassesTheAcceptanceSuite fails every other read.
func TestTableWithFailingReadsPassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(*testing.T) metadata.Table {
		return retry.New(&mem.Table{Fault: func(r mem.Request) mem.Fault {
			if (r.Op == mem.OpGet || r.Op == mem.OpQuery) && r.N%2 == 0 {
				return mem.Throttle
			}
			return mem.None
		}}, policy())
	})
}

var k = metadata.Key{PK: "p", SK: "1"}

func TestReadsAreRepeatedUpToTheirAttempts(t *testing.T) {
	ctx := context.Background()
	table := &mem.Table{Fault: func(mem.Request) mem.Fault { return mem.FailBefore }}
	if _, ok, err := retry.New(table, policy()).Get(ctx, k); !errors.Is(err, mem.ErrInjected) || ok || table.Count(mem.OpGet) != 3 {
		t.Errorf("get: %v, %v after %d attempts, want the table's error after 3", ok, err, table.Count(mem.OpGet))
	}
	if _, err := retry.New(table, policy()).Query(ctx, "p", "", 1); !errors.Is(err, mem.ErrInjected) || table.Count(mem.OpQuery) != 3 {
		t.Errorf("query: %v after %d attempts, want the table's error after 3", err, table.Count(mem.OpQuery))
	}
}

func TestAbsentItemIsAnAnswer(t *testing.T) {
	table := new(mem.Table)
	if _, ok, err := retry.New(table, policy()).Get(context.Background(), k); ok || err != nil || table.Count(mem.OpGet) != 1 {
		t.Errorf("get: %v, %v after %d attempts, want absent after 1", ok, err, table.Count(mem.OpGet))
	}
}

func TestWritesAreSentOnce(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []mem.Fault{mem.FailBefore, mem.FailAfter, mem.Hold, mem.Throttle} {
		store := &mem.Table{Fault: func(mem.Request) mem.Fault { return fault }}
		table := retry.New(store, policy())
		item := metadata.Item{Key: k, Rev: 1}
		for op, r := range map[mem.Op]metadata.PutResult{
			mem.OpPut:       table.Put(ctx, item, metadata.If{}),
			mem.OpDelete:    table.Delete(ctx, k, metadata.RevIs(1)),
			mem.OpCreateAll: table.CreateAll(ctx, []metadata.Item{item}),
		} {
			if r.Outcome != metadata.Unknown || store.Count(op) != 1 {
				t.Errorf("%s, %s: %+v after %d attempts, want Unknown after 1", op, fault, r, store.Count(op))
			}
		}
	}
}
