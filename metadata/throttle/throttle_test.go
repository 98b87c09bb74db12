package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/metadatatest"
	"github.com/splashdam/splashdam/metadata/retry"
	"github.com/splashdam/splashdam/metadata/throttle"
	"github.com/splashdam/splashdam/objectlog"
	objectretry "github.com/splashdam/splashdam/objectlog/retry"
	objectthrottle "github.com/splashdam/splashdam/objectlog/throttle"
)

func newGate() *objectthrottle.Gate {
	return objectthrottle.NewGate(noRandom, noSleep)
}

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func noRandom() uint64 { return 0 }

func TestTablePassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(*testing.T) metadata.Table { return throttle.New(new(mem.Table), newGate()) })
}

// TestTableWithThrottledReadsPassesTheAcceptanceSuite throttles every other read.
func TestTableWithThrottledReadsPassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(*testing.T) metadata.Table {
		store := &mem.Table{Fault: func(r mem.Request) mem.Fault {
			if (r.Op == mem.OpGet || r.Op == mem.OpQuery) && r.N%2 == 0 {
				return mem.Throttle
			}
			return mem.None
		}}
		policy := objectretry.Policy{
			Budget: objectretry.NewBudget(100_000), Attempts: 100, Base: 1, PauseMax: 1, Sleep: noSleep, Random: noRandom,
		}
		return retry.New(throttle.New(store, newGate()), policy)
	})
}

var k = metadata.Key{PK: "p", SK: "1"}

// calls makes one request of each kind; reads answer as writes do.
func calls(ctx context.Context, table metadata.Table) map[string]metadata.PutResult {
	item := metadata.Item{Key: k, Rev: 1}
	_, _, get := table.Get(ctx, k)
	_, query := table.Query(ctx, "p", "1", 10)
	return map[string]metadata.PutResult{
		"get": {Err: get}, "query": {Err: query}, "put": table.Put(ctx, item, metadata.If{}),
		"delete": table.Delete(ctx, k, metadata.RevIs(1)), "create all": table.CreateAll(ctx, []metadata.Item{item}),
	}
}

func TestThrottledWriteIsUnknown(t *testing.T) {
	gate := newGate()
	table := throttle.New(&mem.Table{Fault: func(mem.Request) mem.Fault { return mem.Throttle }}, gate)
	for op, r := range calls(t.Context(), table) {
		if r.Outcome != metadata.Unknown || !errors.Is(r.Err, objectlog.ErrThrottled) || r.Current != nil {
			t.Errorf("%s: %+v, want Unknown by ErrThrottled", op, r)
		}
	}
	if n := gate.Throttled(); n != 5 {
		t.Errorf("%d throttled answers, want 5", n)
	}
}

func TestWriteThatWasNotSentIsUnknown(t *testing.T) {
	waited := 0
	ended := errors.New("the wait ended")
	gate := objectthrottle.NewGate(noRandom, func(context.Context, time.Duration) error { waited++; return ended })
	gate.Answered(objectlog.ErrThrottled)
	store := new(mem.Table)
	for op, r := range calls(t.Context(), throttle.New(store, gate)) {
		if r.Outcome != metadata.Unknown || r.Current != nil {
			t.Errorf("%s: %+v, want Unknown", op, r)
		}
		if !errors.Is(r.Err, ended) || !errors.Is(r.Err, objectlog.ErrThrottled) || !strings.HasPrefix(r.Err.Error(), op+" p/1: not sent: ") {
			t.Errorf("%s: %v, want operation, key and both causes", op, r.Err)
		}
	}
	sent := 0
	for _, op := range []mem.Op{mem.OpGet, mem.OpQuery, mem.OpPut, mem.OpDelete, mem.OpCreateAll} {
		sent += store.Count(op)
	}
	if waited != 5 || sent != 0 {
		t.Errorf("%d requests waited and %d were sent, want 5 and none", waited, sent)
	}
}

// TestThrottledPutDecidesNothingAboutItsFirstAttempt loses the reply of a put and throttles the same put again: only the third attempt
// shows that the first was applied.
func TestThrottledPutDecidesNothingAboutItsFirstAttempt(t *testing.T) {
	faults := []mem.Fault{mem.FailAfter, mem.Throttle, mem.None}
	store := &mem.Table{Fault: func(r mem.Request) mem.Fault { return faults[r.N-1] }}
	table := throttle.New(store, newGate())
	item := metadata.Item{Key: k, Rev: 1, Value: []byte("nonce 1234")}
	for attempt, want := range []metadata.Outcome{metadata.Unknown, metadata.Unknown, metadata.Refused} {
		r := table.Put(t.Context(), item, metadata.If{})
		if r.Outcome != want || (want == metadata.Refused) != (r.Current != nil) {
			t.Errorf("attempt %d: %+v, want outcome %d", attempt+1, r, want)
		}
	}
}

func TestRefusedWriteOpensTheGate(t *testing.T) {
	waited := 0
	gate := objectthrottle.NewGate(noRandom, func(context.Context, time.Duration) error { waited++; return nil })
	table := throttle.New(new(mem.Table), gate)
	gate.Answered(objectlog.ErrThrottled)
	for range 3 {
		if r := table.Put(t.Context(), metadata.Item{Key: k, Rev: 2}, metadata.RevIs(1)); r.Outcome != metadata.Refused {
			t.Errorf("put: %+v, want Refused", r)
		}
	}
	if waited != 1 {
		t.Errorf("%d of 3 puts waited, want the first", waited)
	}
}

func TestLeaseItemsDoNotWaitButTellTheGate(t *testing.T) {
	waited := 0
	gate := objectthrottle.NewGate(noRandom, func(context.Context, time.Duration) error { waited++; return nil })
	throttled := true
	store := &mem.Table{Fault: func(mem.Request) mem.Fault {
		if throttled {
			return mem.Throttle
		}
		return mem.None
	}}
	table := throttle.New(store, gate)
	lease := metadata.Item{Key: metadata.LeaseKey(7), Rev: 1}
	for range 3 {
		if r := table.Put(t.Context(), lease, metadata.If{}); !errors.Is(r.Err, objectlog.ErrThrottled) {
			t.Errorf("put: %+v, want ErrThrottled", r)
		}
	}
	if n := gate.Throttled(); waited != 0 || n != 3 {
		t.Errorf("%d waited, %d throttled, want none and 3", waited, n)
	}
	throttled = false
	table.Put(t.Context(), metadata.Item{Key: k, Rev: 1}, metadata.If{})
	if waited != 1 {
		t.Errorf("%d waited, want the put of another item to", waited)
	}
	for range 3 { // good answers open the gate again
		table.Put(t.Context(), lease, metadata.If{})
	}
	table.Put(t.Context(), metadata.Item{Key: k, Rev: 1}, metadata.If{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if r := table.Put(ended, lease, metadata.If{}); waited != 1 || r.Outcome != metadata.Unknown || !errors.Is(r.Err, context.Canceled) {
		t.Errorf("%d waited, %+v, want an open gate and Unknown", waited, r)
	}
}

// distant is a table a round trip of 5 ms away.
type distant struct{ *mem.Table }

func (d distant) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	if err := objectretry.Sleep(ctx, 5*time.Millisecond); err != nil {
		return metadata.PutResult{Err: err}
	}
	return d.Table.Put(ctx, item, cond)
}

// TestRenewalsAreNoLaterThanWithoutTheGate plays an hour of one shard's lease of 3 s, renewed every second, while four others append. Half of
// all requests are throttled; whoever was sends again, as a leader does. About 4 renewals are late then; of those that wait at the gate, 90.
func TestRenewalsAreNoLaterThanWithoutTheGate(t *testing.T) {
	without := lateRenewals(t, func(table metadata.Table) metadata.Table { return table })
	with := lateRenewals(t, func(table metadata.Table) metadata.Table {
		return throttle.New(table, objectthrottle.NewGate(rand.Uint64, objectretry.Sleep))
	})
	if with > 3*without+20 {
		t.Errorf("%d renewals were later than the lease, %d without the gate", with, without)
	}
}

func lateRenewals(t *testing.T, wrap func(metadata.Table) metadata.Table) (late int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		table := wrap(distant{&mem.Table{Fault: func(mem.Request) mem.Fault {
			if rand.N(2) == 0 {
				return mem.Throttle
			}
			return mem.None
		}}})
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				item := metadata.Item{Key: metadata.Key{PK: "ring#r#0", SK: fmt.Sprint(i)}}
				for objectretry.Sleep(ctx, 250*time.Millisecond) == nil {
					putUntilApplied(ctx, table, &item)
				}
			})
		}
		lease := metadata.Item{Key: metadata.LeaseKey(0)}
		for landed := time.Now(); ctx.Err() == nil; {
			began := time.Now()
			putUntilApplied(ctx, table, &lease)
			if time.Since(landed) > 3*time.Second {
				late++
			}
			landed = time.Now()
			_ = objectretry.Sleep(ctx, max(time.Until(began.Add(time.Second)), 1)) // ends with ctx, as the loop does
		}
		all.Wait()
	})
	return late
}

// putUntilApplied gives each attempt 2 s, and waits longer before each one.
func putUntilApplied(ctx context.Context, table metadata.Table, item *metadata.Item) {
	cond := metadata.RevIs(item.Rev)
	if item.Rev == 0 {
		cond = metadata.If{}
	}
	item.Rev++
	for pause := 20 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 500*time.Millisecond) {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		r := table.Put(attempt, *item, cond)
		cancel()
		if r.Outcome == metadata.Applied {
			return
		}
		if objectretry.Sleep(ctx, pause/2+rand.N(pause/2)) != nil {
			return
		}
	}
}
