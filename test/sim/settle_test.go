package sim

import (
	"slices"
	"testing"
	"time"
)

// TestLeaseThatRunsOutBehindTheLastFaultIsNoDuel: a renewal that was lost before the fault ended is sent again behind its end, maybe when the lease has
// run out already.
func TestLeaseThatRunsOutBehindTheLastFaultIsNoDuel(t *testing.T) {
	for cut := time.Duration(0); cut < time.Second; cut += 10 * time.Millisecond {
		w := newWorld(1, Options{Span: time.Minute})
		w.set.lease = 600 * time.Millisecond
		w.create()
		w.run(w.now+10*w.set.lease, nil)
		w.links.out[w.leader(0).place][theTable] = true
		w.run(w.now+cut, nil)
		before := slices.Clone(w.epochs)
		w.heal()
		w.healed = w.now
		if w.settle(before); w.err != nil {
			t.Errorf("cut off from the table for %v: %v", cut, w.err)
		}
	}
}

// TestShardsAreClaimedInTimeThoughTheFirstListIsLost: agents start while nobody reaches the table, a moment before that ends.
func TestShardsAreClaimedInTimeThoughTheFirstListIsLost(t *testing.T) {
	w := newWorld(1, Options{Span: time.Minute})
	w.set.lease = 400 * time.Millisecond // three are over by then
	w.create()
	for p := range places {
		w.kill(p)
		w.links.out[p][theTable] = true
	}
	w.run(w.now+10*w.set.lease, nil)
	for p := range agents {
		w.revive(p, false)
	}
	w.heal()
	w.healed = w.now
	if w.claimed(); w.err != nil {
		t.Error(w.err)
	}
}
