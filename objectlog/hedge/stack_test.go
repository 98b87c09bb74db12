package hedge_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/hedge"
	"github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/objectlog/metered"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
	"github.com/splashdam/splashdam/objectlog/retry"
	"github.com/splashdam/splashdam/objectlog/throttle"
)

// stack is the decorators over one store, as a process stacks them.
type stack struct {
	*retry.Bucket
	metered *metered.Bucket
	gate    *throttle.Gate
	hedged  *hedge.Bucket
}

func newStack(s *store, sleep func(context.Context, time.Duration) error) stack {
	m := metered.New(s, time.Now)
	gate := throttle.NewGate(rand.Uint64, sleep)
	hedged := hedge.New(throttle.New(m, gate), time.Now)
	policy := retry.Policy{
		Budget: retry.NewBudget(100_000), Attempts: 50, Base: 5 * ms, PauseMax: time.Second, Sleep: sleep, Random: rand.Uint64,
	}
	return stack{retry.New(hedged, policy), m, gate, hedged}
}

// puts is how many puts were sent to the store.
func (s stack) puts() (sum int) {
	for _, series := range s.metered.Snapshot() {
		if series.Op == "put" {
			sum += int(series.Requests)
		}
	}
	return sum
}

func faults(r mem.Request) mem.Fault {
	switch {
	case r.N%5 == 0:
		return mem.Throttle
	case r.N%7 == 0:
		return mem.FailBefore
	case r.N%11 == 0:
		return mem.FailAfter
	}
	return mem.None
}

// TestStackWithFaultsPassesTheAcceptanceSuite has one store for all of the suite, so that it learns how long puts take: every 40th is slow.
func TestStackWithFaultsPassesTheAcceptanceSuite(t *testing.T) {
	attempts := 0
	s := &store{script: func(string, int) attempt {
		if attempts++; attempts%40 == 0 {
			return attempt{takes: 80 * ms}
		}
		return attempt{}
	}}
	s.Fault = faults
	all := newStack(s, func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return all })
	s.wantIdle(t)
	if all.hedged.Hedged() == 0 || all.gate.Throttled() == 0 {
		t.Errorf("%d hedged and %d throttled, want some of both", all.hedged.Hedged(), all.gate.Throttled())
	}
}

// TestStackStoresEachObjectOnce puts from many goroutines to a store that is slow now and then, fails in every way, and throttles everything
// for two seconds.
func TestStackStoresEachObjectOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random, start := rand.New(rand.NewPCG(5, 6)), time.Now()
		s := &store{script: func(string, int) attempt {
			if random.IntN(30) == 0 {
				return attempt{takes: 5 * time.Second, stubborn: 10 * ms}
			}
			return attempt{takes: time.Duration(20+random.IntN(180)) * ms}
		}}
		s.Fault = func(r mem.Request) mem.Fault {
			if since := time.Since(start); since >= 4*time.Second && since < 6*time.Second {
				return mem.Throttle
			}
			return faults(r)
		}
		all := newStack(s, retry.Sleep)
		const workers, each = 8, 100
		body := func(worker, i int) []byte { return fmt.Appendf(nil, "object %d of worker %d", i, worker) }
		var done sync.WaitGroup
		for worker := range workers {
			done.Go(func() {
				for i := range each {
					key := fmt.Sprintf("k/%d/%03d", worker, i)
					if err := all.Put(t.Context(), key, body(worker, i), objectlog.UUID{byte(worker), byte(i)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done.Wait()
		s.wantIdle(t)
		for worker := range workers {
			for i := range each {
				key := fmt.Sprintf("k/%d/%03d", worker, i)
				if got, err := all.Get(t.Context(), key, objectlog.Extent{}); err != nil || string(got) != string(body(worker, i)) {
					t.Errorf("%s: %q, %v", key, got, err)
				}
			}
		}
		sent := 0
		for _, attempts := range s.sent {
			sent += len(attempts)
		}
		puts, hedged := all.puts(), int(all.hedged.Hedged())
		t.Logf("%d objects took %d puts, %d of them hedges; %d requests were throttled; %s", workers*each, puts, hedged, all.gate.Throttled(), time.Since(start))
		if puts != sent || hedged == 0 || hedged*20 > puts || all.gate.Throttled() == 0 {
			t.Errorf("%d puts were metered of %d, %d hedged, %d throttled, want all, some up to 5 %%, and some", puts, sent, hedged, all.gate.Throttled())
		}
	})
}
