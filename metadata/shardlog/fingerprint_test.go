package shardlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// follow passes what a commits on to the followers from now on, and its newest fingerprint.
func (w *world) follow(a *node, followers ...*node) {
	for _, e := range a.committed {
		for _, f := range followers {
			f.step(Followed{Leader: a.boot, Entries: []Committed{e}})
		}
		w.settle()
	}
	a.committed = nil
	if own := a.core.prints.own; len(own) > 0 {
		for _, f := range followers {
			f.step(Compared{Leader: own[len(own)-1]})
		}
	}
}

func TestReplicaWhoseStateDiffersFromTheLeadersHaltsAlone(t *testing.T) {
	for _, late := range []bool{false, true} { // the leader's fingerprint comes before the own one, or behind it
		w := newWorld(t, 1024)
		a := w.start()
		w.untilLeading(a)
		good, bad := w.start(), w.start()
		for _, n := range []*node{good, bad} {
			n.step(Ranked{Rank: -1})
			w.until("it follows", func() bool { return n.status().Role == RoleFollowing })
		}
		for i := range 100 {
			a.must(fmt.Sprint(i))
		}
		w.follow(a, good, bad)
		bad.list.items[7] = "wrong"
		for i := range 40 {
			a.must(fmt.Sprint("more ", i))
		}
		if late {
			w.follow(a, good, bad)
		} else {
			for _, n := range []*node{good, bad} {
				n.step(Compared{Leader: a.core.prints.own[0]})
				n.step(Compared{Leader: a.core.prints.own[0]})
			}
			w.follow(a, good, bad)
		}
		if want := (Fingerprint{Seq: 128, Hash: good.core.prints.own[0].Hash}); a.core.prints.own[0] != want || len(good.core.prints.leader) != 1 {
			t.Errorf("fingerprints %+v, %+v", a.core.prints, good.core.prints)
		}
		for i := range 10 {
			a.must(fmt.Sprint("on ", i))
		}
		w.follow(a, good, bad)
		if a.status().Role != RoleLeading || good.status().Role != RoleFollowing || good.status().Applied != a.status().Applied {
			t.Errorf("leader %+v, follower %+v", a.status(), good.status())
		}
		fault := bad.status().Fault
		if bad.status().Role != RoleHalted || !errors.Is(fault, ErrHalted) || len(bad.alarms) != 1 {
			t.Fatalf("the one that differs: %+v, alarms %v", bad.status(), bad.alarms)
		}
		for _, s := range []string{"shard 3", "state at seq 128", fmt.Sprintf("%016x", a.core.prints.own[0].Hash), "restart"} {
			if !strings.Contains(fault.Error(), s) {
				t.Errorf("%q does not say %q", fault, s)
			}
		}
	}
}

func TestReplicasTakeFingerprintsAtTheSameSeqsOneAtATime(t *testing.T) {
	w := newWorld(t, 1024)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	var slow []Event
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		h, ok := e.(HashState)
		if !ok || n != a {
			return nil, false
		}
		slow = append(slow, StateHashed{ID: h.ID, Hash: h.Hash()})
		return nil, true
	}
	for i := range 300 {
		a.must(fmt.Sprint(i))
	}
	w.follow(a, b)
	if len(slow) != 1 || len(a.core.prints.own) != 0 {
		t.Fatalf("%d under way", len(slow))
	}
	a.step(slow[0])
	a.step(slow[0])
	w.fault = nil
	for i := range 1000 {
		a.must(fmt.Sprint(i))
	}
	w.follow(a, b)
	own := a.core.prints.own
	if len(own) != fingerprintsMax || own[len(own)-1].Seq != 1280 || own[0].Seq != 384 {
		t.Errorf("the leader's %+v", own)
	}
	if own := b.core.prints.own; len(own) == 0 || own[len(own)-1].Seq != 1280 || b.status().Role != RoleFollowing {
		t.Errorf("the follower's %+v, %+v", own, b.status())
	}

	c := w.start(func(c *Config, _ *list) { c.Boot[1] = 9 }) // a replay takes none
	hashed := 0
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if _, ok := e.(HashState); ok && n == c {
			hashed++
		}
		return nil, false
	}
	w.until("c has caught up", func() bool { return c.status().Applied == a.status().Applied })
	w.pass(time.Second)
	if hashed != 0 {
		t.Errorf("%d fingerprints in a replay", hashed)
	}
}

func TestHashOfAStateIsNeverZeroAndTellsSectionsApart(t *testing.T) {
	if h := (HashState{}).Hash(); h == 0 {
		t.Error("0")
	}
	seen := map[uint64]bool{}
	for _, e := range []HashState{hashed("a", "bc"), hashed("ab", "c"), hashed("", "abc"), hashed("a", "b", "c", ""), hashed("a", "", "b", "c"), hashed("a", "bd")} {
		if seen[e.Hash()] {
			t.Errorf("%v %v has the hash of another", e.names, e.views)
		}
		seen[e.Hash()] = true
	}
}

// hashed is a state of sections with these names and, in turn, one item.
func hashed(parts ...string) (e HashState) {
	for i := 0; i < len(parts); i += 2 {
		e.names, e.views = append(e.names, parts[i]), append(e.views, listView{parts[i+1]})
	}
	return e
}
