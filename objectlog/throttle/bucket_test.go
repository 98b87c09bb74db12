package throttle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
	"github.com/splashdam/splashdam/objectlog/retry"
	"github.com/splashdam/splashdam/objectlog/throttle"
)

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func noRandom() uint64 { return 0 }

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket {
		return throttle.New(new(mem.Bucket), throttle.NewGate(noRandom, noSleep))
	})
}

// TestThrottledBucketPassesTheAcceptanceSuite throttles every other request, and loses the reply of some.
func TestThrottledBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket {
		store := &mem.Bucket{Fault: func(r mem.Request) mem.Fault {
			switch {
			case r.N%2 == 0:
				return mem.Throttle
			case r.N%7 == 0:
				return mem.FailAfter
			}
			return mem.None
		}}
		policy := retry.Policy{Budget: retry.NewBudget(100_000), Attempts: 100, Base: 1, PauseMax: 1, Sleep: noSleep, Random: noRandom}
		return retry.New(throttle.New(store, throttle.NewGate(noRandom, noSleep)), policy)
	})
}

// calls makes one request of each kind.
func calls(ctx context.Context, b objectlog.Bucket) map[string]error {
	_, get := b.Get(ctx, "k", objectlog.Extent{})
	_, list := b.List(ctx, "k", "", 1)
	_, stat := b.Stat(ctx, "k")
	return map[string]error{
		"put": b.Put(ctx, "k", []byte("body"), objectlog.UUID{1}), "get": get, "list": list, "delete": b.Delete(ctx, "k"), "stat": stat,
	}
}

func TestEveryKindOfRequestTellsTheGate(t *testing.T) {
	gate := throttle.NewGate(noRandom, noSleep)
	b := throttle.New(&mem.Bucket{Fault: func(mem.Request) mem.Fault { return mem.Throttle }}, gate)
	for op, err := range calls(t.Context(), b) {
		if !errors.Is(err, objectlog.ErrThrottled) {
			t.Errorf("%s: %v, want ErrThrottled", op, err)
		}
	}
	if n := gate.Throttled(); n != 5 {
		t.Errorf("%d throttled answers, want 5", n)
	}
}

func TestEveryKindOfRequestWaitsAtTheGate(t *testing.T) {
	waited := 0
	ended := errors.New("the wait ended")
	gate := throttle.NewGate(noRandom, func(context.Context, time.Duration) error { waited++; return ended })
	gate.Answered(objectlog.ErrThrottled)
	store := new(mem.Bucket)
	for op, err := range calls(t.Context(), throttle.New(store, gate)) {
		if !errors.Is(err, ended) || !errors.Is(err, objectlog.ErrThrottled) || !strings.HasPrefix(err.Error(), op+" k: not sent: ") {
			t.Errorf("%s: %v, want operation, key and both causes", op, err)
		}
	}
	sent := 0
	for _, op := range []mem.Op{mem.OpPut, mem.OpGet, mem.OpList, mem.OpDelete, mem.OpStat} {
		sent += store.Count(op)
	}
	if waited != 5 || sent != 0 {
		t.Errorf("%d requests waited and %d were sent, want 5 and none", waited, sent)
	}
	if n := gate.Throttled(); n != 1 {
		t.Errorf("%d throttled answers, want the 1 of the store", n)
	}
}
