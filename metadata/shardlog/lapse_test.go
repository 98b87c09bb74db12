package shardlog

import (
	"errors"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// wantRefused proposes once more, and wants what was never appended refused by name, whoever leads.
func (n *node) wantRefused(ids ...uint64) {
	n.w.t.Helper()
	for _, id := range append(ids, n.propose("more")) {
		if d, ok := n.decided[id]; !ok || !errors.Is(d.Err, ErrNotLeader) {
			n.w.t.Errorf("after %v: decided %v, %+v, want not the leader", n.w.now, ok, d)
		}
	}
}

func TestLeaderThatCannotRenewRefusesItsQueueAndTakesProposalsAgainOnceItCan(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		w := newWorld(t, 64)
		a := w.start(func(c *Config, _ *list) { c.ClaimAtOnce = atOnce })
		w.untilLeading(a)
		heal := w.leaveUnknown("no route to the table", func(metadata.Key) bool { return true })
		inFlight := a.propose("in flight")
		queued := []uint64{a.propose("queued"), a.propose("also")}
		w.pass(1900 * time.Millisecond)
		if len(a.decided) != 0 || !a.status().Renewed {
			t.Fatalf("within the lease time: %v, %+v", a.decided, a.status())
		}
		w.pass(1200 * time.Millisecond)
		a.wantRefused(queued...)
		if s := a.status(); s.Role != RoleLeading || s.Renewed || s.Away == nil {
			t.Errorf("%+v", s)
		}
		if d, ok := a.decided[inFlight]; ok {
			t.Fatalf("the append in flight was answered before the table decided it: %+v", d)
		}
		w.pass(time.Minute)
		a.wantRefused()
		heal()
		w.until("the decision", func() bool { _, ok := a.decided[inFlight]; return ok })
		if a.decided[inFlight].Err != nil {
			t.Errorf("in flight: %v", a.decided[inFlight].Err)
		}
		w.pass(time.Second)
		a.must("again")
		a.wantItems("in flight", "again")
	}
}

func TestLeaderThatIsCutOffFromTheLeaseItemAloneStopsLeadingWithoutBeingTold(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	heal := w.leaveUnknown("cut", func(k metadata.Key) bool { return k == leaseKey })
	a.must("x")
	w.pass(3 * time.Second)
	a.wantRefused()
	heal()
	b := w.start()
	w.until("it leads again", func() bool { return a.status().Renewed })
	a.must("y")
	if b.status().Role != RoleFollowing {
		t.Errorf("%+v", b.status())
	}
}

func TestLeaderThatWasReplacedDuringAnOutageTakesNothingAgain(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if p, ok := e.(PutItem); ok && n == a {
			return unknownPut(p), true
		}
		return nil, false
	}
	inFlight, queued := a.propose("in flight"), a.propose("queued")
	w.settle()
	b := w.start()
	w.untilLeading(b)
	if _, ok := a.decided[inFlight]; ok {
		t.Error("the append in flight was answered before the table decided it")
	}
	a.wantRefused(queued)
	w.fault = nil
	w.until("a steps down", func() bool { return a.status().Role == RoleFollowing })
	if err := a.decided[inFlight].Err; !errors.Is(err, ErrUnknown) {
		t.Errorf("in flight: %v", err)
	}
	a.wantRefused()
}

func TestLeaderThatStoodStillForTheLeaseTimeTakesNothingBeforeItRenewed(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	w.now += 10 * time.Second // no step meanwhile
	a.wantRefused()
	w.settle()
	a.must("x")
	a.wantItems("x")
}

func TestRenewalCountsFromWhenItWasSent(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	w.pass(10 * time.Second)
	var late []Event
	w.fault = func(_ *node, e Effect) ([]Event, bool) {
		late = append(late, w.perform(e))
		return nil, true
	}
	w.until("a renewal", func() bool { return len(late) == 1 })
	w.pass(2500 * time.Millisecond)
	a.step(late[0])
	if !a.status().Renewed {
		t.Errorf("%+v", a.status())
	}
	w.pass(600 * time.Millisecond)
	a.wantRefused()
}
