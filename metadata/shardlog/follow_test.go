package shardlog

import (
	"errors"
	"testing"
	"time"
)

// leaseReads counts reads of the lease item by one replica.
func (w *world) leaseReads(of *node) *int {
	var n int
	w.fault = func(x *node, e Effect) ([]Event, bool) {
		if g, ok := e.(GetItem); ok && x == of && g.Key == leaseKey {
			n++
		}
		return nil, false
	}
	return &n
}

// passWithStream lets time pass in which the follower hears from the leader.
func (w *world) passWithStream(leader, follower *node, d time.Duration) {
	for end := w.now + d; w.now < end; {
		follower.step(Followed{Leader: leader.boot})
		w.pass(500 * time.Millisecond)
	}
}

func TestFollowerThatHearsTheLeaderReadsTheTableOnlyIfItIsASuccessor(t *testing.T) {
	for _, rank := range []int{-1, 0, 1} {
		w, a, b := pair(t, rank)
		w.passWithStream(a, b, 10*time.Second)
		var leases, slots int
		w.fault = func(n *node, e Effect) ([]Event, bool) {
			if g, ok := e.(GetItem); ok && n == b && g.Key == leaseKey {
				leases++
			} else if ok && n == b {
				slots++
			}
			return nil, false
		}
		w.passWithStream(a, b, 5*time.Minute)
		if slots != 0 || rank < 0 && leases != 0 || rank >= 0 && (leases < 590 || leases > 610) {
			t.Errorf("rank %d: %d reads of the lease item, %d of slots in five minutes", rank, leases, slots)
		}
		leases = 0
		w.pass(5 * time.Minute) // and without the stream
		if rank < 0 && (leases < 45 || leases > 55) {
			t.Errorf("rank %d: %d reads of the lease item in five minutes without a stream", rank, leases)
		}
	}
}

func TestFollowerLearnsOfANewLeaderByItsFirstEntry(t *testing.T) {
	w, a, b := pair(t, -1)
	c := w.start()
	w.until("c follows", func() bool { return c.status().Role == RoleFollowing })
	c.step(HolderGone{Holder: a.boot})
	w.settle()
	reads := w.leaseReads(b)
	fails := 3
	count := w.fault
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		count(n, e)
		if g, ok := e.(GetItem); ok && n == b && g.Key == leaseKey && fails > 0 {
			fails--
			return []Event{ItemRead{ID: g.ID, Err: errors.New("throttled")}}, true
		}
		return nil, false
	}
	for i := range 10 {
		c.must(string(rune('0' + i)))
	}
	for _, e := range c.committed {
		b.step(Followed{Entries: []Committed{e}}) // by whom it is not said
		w.settle()
	}
	if *reads != 1 {
		t.Errorf("%d reads at once, that fail", *reads)
	}
	w.pass(300 * time.Millisecond)
	if s := b.status(); s.Leader != c.boot || s.Epoch != 2 || *reads != 4 {
		t.Errorf("%d reads; %+v", *reads, s)
	}
	w.passWithStream(c, b, time.Minute)
	if *reads != 4 {
		t.Errorf("%d reads with the stream of a leader that is known", *reads)
	}
}

func TestFollowerThatHearsAnotherLeaderReadsTheLeaseItemOnce(t *testing.T) {
	w, a, b := pair(t, -1)
	c := w.start()
	w.until("c follows", func() bool { return c.status().Role == RoleFollowing })
	c.step(HolderGone{Holder: a.boot})
	w.settle()
	reads := w.leaseReads(b)
	b.step(Followed{Leader: c.boot})
	w.settle()
	if s := b.status(); s.Leader != c.boot || *reads != 1 {
		t.Errorf("%d reads; %+v", *reads, s)
	}
	for range 20 { // and of one that does not know yet that it is none
		w.passWithStream(a, b, 10*time.Second)
	}
	if *reads != 2 {
		t.Errorf("%d reads", *reads)
	}
}

func TestReadUnderWayDoesNotStandForOneBehindTheNewLeadersEntry(t *testing.T) {
	w, a, b := pair(t, 0)
	var early []Event
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if g, ok := e.(GetItem); ok && n == b && g.Key == leaseKey && early == nil {
			early = append(early, w.perform(e))
			return nil, true
		}
		return nil, false
	}
	w.passWithStream(a, b, 2*time.Second)
	c := w.start()
	w.until("c follows", func() bool { b.step(Followed{Leader: a.boot}); return c.status().Role == RoleFollowing })
	c.step(HolderGone{Holder: a.boot})
	w.settle()
	b.step(Followed{Leader: c.boot, Entries: c.committed})
	b.step(early[0])
	w.settle()
	if s := b.status(); s.Leader != c.boot {
		t.Errorf("%+v", s)
	}
}

func TestReadFromBeforeAStreamsGapDoesNotEndTheReading(t *testing.T) {
	w, a, b := pair(t, -1)
	w.passWithStream(a, b, 2*time.Second)
	var early []Event
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if g, ok := e.(GetItem); ok && n == b && g.Key != leaseKey && early == nil {
			early = append(early, w.perform(e)) // read now, answered later
			return nil, true
		}
		return nil, false
	}
	b.step(CurrentAsked{ID: 1})
	w.settle()
	for i := range 3 {
		a.must(string(rune('0' + i)))
	}
	b.step(Followed{Leader: a.boot, Entries: a.committed[len(a.committed)-1:]}) // all that the leader keeps
	if len(early) != 1 {
		t.Fatalf("%d reads under way", len(early))
	}
	b.step(early[0])
	w.settle()
	if got, want := b.status().Applied, a.status().Applied; got != want {
		t.Errorf("applied %d, the leader %d", got, want)
	}
}
