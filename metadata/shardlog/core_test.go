package shardlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func TestFirstReplicaLeadsAppendsAndIsReplayed(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start()
	w.untilLeading(a)
	if w.now > 500*time.Millisecond {
		t.Errorf("led after %v", w.now)
	}
	for i := range 50 {
		r := a.must(fmt.Sprint(i))
		if r.Seq != metadata.Seq(i+1) || r.Results[0] != i {
			t.Fatalf("item %d: %+v", i, r)
		}
	}
	a.kill()
	b := w.start()
	w.untilLeading(b)
	if got := b.list.items; len(got) != 50 || got[49] != "49" {
		t.Errorf("replayed %q", got)
	}
	if s := b.status(); s.Epoch != 2 || s.Applied != 51 || s.Leader != b.boot || !s.Renewed {
		t.Errorf("status %+v", s)
	}
}

func TestFollowerAppliesStreamAndRing(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	a.must("x")
	for _, e := range a.committed {
		b.step(Followed{Leader: a.boot, Entries: []Committed{e}})
	}
	b.wantItems("x")
	a.must("y")
	w.pass(10 * time.Second) // no stream: the ring
	b.wantItems("x", "y")
	if b.status().Role != RoleFollowing || a.status().Role != RoleLeading {
		t.Errorf("roles %v, %v", a.status(), b.status())
	}
	// An entry that does not fit the chain is not applied, and does not stop the follower.
	b.step(Followed{Entries: []Committed{{Seq: b.status().Applied + 1, Entry: a.committed[0].Entry}}})
	w.pass(time.Second)
	b.wantItems("x", "y")
	if b.status().Fault != nil {
		t.Error(b.status().Fault)
	}
}

func TestCurrentReadSeesWhatTheRingHolds(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	for i := range 5 {
		r := a.must(fmt.Sprint(i))
		if c := b.readCurrent(); c.Seq < r.Seq || c.Err != nil {
			t.Fatalf("current read %+v after seq %d", c, r.Seq)
		}
		if c := a.readCurrent(); c.Seq < r.Seq {
			t.Fatalf("current read %+v after seq %d", c, r.Seq)
		}
	}
}

func TestResignedLeaderIsFollowedAtOnce(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	id := a.propose("last")
	a.step(Resign{})
	if refused := a.propose("too late"); !errors.Is(a.decided[refused].Err, ErrNotLeader) {
		t.Errorf("a proposal to a resigning leader: %+v", a.decided[refused])
	}
	w.settle()
	if a.decided[id].Err != nil || a.status().Role != RoleFollowing {
		t.Fatalf("%+v, %+v", a.decided[id], a.status())
	}
	start := w.now
	b.step(HolderGone{Holder: a.boot})
	w.untilLeading(b)
	if d := w.now - start; d > 100*time.Millisecond {
		t.Errorf("hand-off took %v", d)
	}
	b.wantItems("last")
}

func TestDeadLeaderIsReplacedAfterTheLeaseTime(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.pass(20 * time.Second)
	if b.status().Role != RoleFollowing || a.status().Role != RoleLeading || a.status().Epoch != 1 {
		t.Fatalf("a live leader was replaced: %+v", b.status())
	}
	a.kill()
	died := w.now
	w.untilLeading(b)
	if d := w.now - died; d < 2*time.Second || d > 5*time.Second {
		t.Errorf("replaced after %v", d)
	}
}

func TestFailedReadsAreNotObservation(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.pass(time.Second)
	a.kill()
	down := true
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		g, ok := e.(GetItem)
		if !ok || !down {
			return nil, false
		}
		return []Event{ItemRead{ID: g.ID, Err: errors.New("down")}}, true
	}
	for _, outage := range []time.Duration{20 * time.Second, 1500 * time.Millisecond} {
		down = true
		w.pass(outage)
		down = false
		w.pass(2 * time.Second)
		if b.status().Role != RoleFollowing {
			t.Errorf("claimed %v after an outage of %v", 2*time.Second, outage)
		}
	}
	w.untilLeading(b)
}

func TestUnknownAppendIsDecidedByTheSlot(t *testing.T) {
	for _, lands := range []bool{true, false} {
		w := newWorld(t, 64)
		a := w.start()
		w.untilLeading(a)
		attempts := 0
		var first PutItem
		w.fault = func(n *node, e Effect) ([]Event, bool) {
			p, ok := e.(PutItem)
			if !ok || !strings.HasPrefix(p.Item.Key.PK, "ring#") {
				return nil, false
			}
			if attempts++; attempts == 1 {
				first = p
			}
			if attempts > 5 {
				return nil, false
			}
			if string(p.Item.Value) != string(first.Item.Value) || p.Item.Rev != first.Item.Rev {
				t.Errorf("attempt %d differs", attempts)
			}
			if lands && attempts == 1 {
				w.put(p.Item, p.Cond)
			}
			return unknownPut(p), true
		}
		id := a.propose("x")
		w.until("decision", func() bool { _, ok := a.decided[id]; return ok })
		if a.decided[id].Err != nil || attempts != 6 {
			t.Errorf("lands %v: %+v after %d attempts", lands, a.decided[id], attempts)
		}
		a.wantItems("x")
	}
}

func TestDeposedLeaderAnswersUnknownAndNotLeader(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	cut := true
	var late []PutItem
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if p, ok := e.(PutItem); ok && cut && n == a {
			late = append(late, p)
			return unknownPut(p), true
		}
		return nil, false
	}
	inFlight, queued := a.propose("in flight"), a.propose("queued")
	w.settle()
	b := w.start()
	w.untilLeading(b)
	b.must("b's")
	cut = false
	w.until("a steps down", func() bool { return a.status().Role == RoleFollowing })
	if err := a.decided[inFlight].Err; !errors.Is(err, ErrUnknown) {
		t.Errorf("in flight: %v", err)
	}
	if err := a.decided[queued].Err; !errors.Is(err, ErrNotLeader) {
		t.Errorf("queued: %v", err)
	}
	for _, p := range late { // and its puts land now, or rather not
		if r := w.put(p.Item, p.Cond); r.Outcome != metadata.Refused {
			t.Errorf("a late put of %v was applied", p.Item.Key)
		}
	}
	w.pass(5 * time.Second)
	a.wantItems("b's")
	b.wantItems("b's")
}

func TestAppendThatLandsLateIsAppliedByTheSuccessor(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	var held PutItem
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		p, ok := e.(PutItem)
		switch {
		case ok && n == a && strings.HasPrefix(p.Item.Key.PK, "ring#"):
			held = p
			return nil, true
		case ok && n != a && strings.HasPrefix(p.Item.Key.PK, "ring#") && held.ID != 0:
			w.put(held.Item, held.Cond) // just before the successor's barrier
			held = PutItem{}
		}
		return nil, false
	}
	a.propose("late")
	w.settle()
	a.kill()
	b := w.start()
	w.untilLeading(b)
	b.wantItems("late")
}

func TestRefusedCommandsDoNotEnterTheEntry(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	r := a.must("x", "bad", "y")
	if err, ok := r.Results[1].(error); !ok || err == nil || r.Results[0] != 0 || r.Results[2] != 1 {
		t.Errorf("results %v", r.Results)
	}
	before := a.status().Applied
	if r := a.must("bad"); r.Seq != before || a.status().Applied != before {
		t.Errorf("an entry was appended for nothing: %+v", r)
	}
	a.wantItems("x", "y")
}

func TestLargeEntriesReferToFooters(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(_ *Config, l *list) { l.short = true })
	w.untilLeading(a)
	var commands []metadata.Command
	var want []string
	for i, size := range []int{100, 6000, 3000} {
		footer := []byte(strings.Repeat(fmt.Sprint(i), size))
		w.footers[uint64(i)] = footer
		commands = append(commands, metadata.Command{Kind: kindRows, Body: reference(uint64(i), footer), Footer: footer})
		want = append(want, "rows:"+string(footer))
	}
	a.step(Proposed{ID: 1, Commands: commands})
	w.settle()
	last := a.committed[len(a.committed)-1]
	if len(last.Entry) > 8<<10 || last.Footers[0] != nil || last.Footers[1] == nil || last.Footers[2] != nil {
		t.Errorf("entry of %d bytes, footers %v", len(last.Entry), len(last.Footers[1]))
	}
	a.wantItems(want...)
	a.kill()
	b := w.start()
	w.untilLeading(b)
	b.wantItems(want...)

	w.footers[1][0]++ // damaged from now on
	c := w.start()
	w.until("c halts", func() bool { return c.status().Role == RoleHalted })
	if len(c.list.items) != 0 {
		t.Errorf("applied behind a damaged footer: %d items", len(c.list.items))
	}
	if err := c.status().Fault; !errors.Is(err, ErrHalted) || !strings.Contains(err.Error(), "needs a footer") || !strings.Contains(err.Error(), "CRC32C") || len(c.alarms) != 1 {
		t.Errorf("%v, alarms %v", err, c.alarms)
	}
}

func TestCommandWhoseFooterIsNotTheOneItRefersToIsRefused(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	before := a.status().Applied
	good, bad := []byte("a footer"), []byte("another.")
	a.step(Proposed{ID: 1, Commands: []metadata.Command{{Kind: kindRows, Body: reference(1, good), Footer: bad}}})
	w.settle()
	if err, _ := a.decided[1].Receipt.Results[0].(error); !errors.Is(err, objectlog.ErrCorrupt) || a.status().Applied != before {
		t.Errorf("%+v", a.decided[1])
	}
}

func TestProposalsShareAnEntryUpToItsBound(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	var ids []uint64
	a.propose("first")
	for range 40 {
		ids = append(ids, a.propose(strings.Repeat("x", 10<<10)))
	}
	huge := a.propose(strings.Repeat("y", 300<<10))
	w.settle()
	seqs := map[metadata.Seq]int{}
	for _, id := range ids {
		seqs[a.decided[id].Receipt.Seq]++
	}
	if len(seqs) != 2 {
		t.Errorf("entries %v", seqs)
	}
	if err, _ := a.decided[huge].Receipt.Results[0].(error); !errors.Is(err, objectlog.ErrTooLarge) {
		t.Errorf("a proposal beyond the bound: %+v", a.decided[huge])
	}
	for _, e := range a.committed {
		if len(e.Entry) > entryBytesMax {
			t.Errorf("entry of %d bytes", len(e.Entry))
		}
	}
}

func TestTimeInEntriesIsMonotone(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	w.pass(10 * time.Second)
	a.must("x")
	before := a.core.tip.time
	w.back = 5 * time.Second // the wall clock steps back
	a.must("y")
	if got := a.core.tip.time; got != before {
		t.Errorf("time went from %d to %d", before, got)
	}
	a.kill()
	b := w.start()
	w.untilLeading(b)
	if got := b.core.tip.time; got < before {
		t.Errorf("a successor's time fell from %d to %d", before, got)
	}
}

func TestIdleLeaderOnlyRenews(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.ClaimAtOnce = true })
	w.untilLeading(a)
	a.must("x")
	w.pass(3 * time.Minute) // the snapshot of the change is behind
	var puts, others int
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if p, ok := e.(PutItem); ok && p.Item.Key == metadata.LeaseKey(testShard) {
			puts++
		} else {
			others++
		}
		return nil, false
	}
	w.pass(time.Minute)
	if puts < 55 || puts > 65 || others != 0 {
		t.Errorf("%d puts of the lease item and %d other requests in a minute", puts, others)
	}
}

func TestHandOffThatNobodyTookDoesNotWeakenTheNextTenure(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	b.step(Ranked{Rank: -1})
	w.pass(time.Second)
	b.step(HolderGone{Holder: a.boot})
	a.step(Resign{})
	w.settle()
	a.step(Ranked{Rank: 0}) // it thinks better of it
	w.untilLeading(a)
	w.pass(10 * time.Second) // b looks at the lease item
	b.step(Ranked{Rank: 0})
	w.pass(20 * time.Second)
	if a.status().Role != RoleLeading || b.status().Role != RoleFollowing {
		t.Errorf("a %+v, b %+v", a.status(), b.status())
	}
}

func TestLeaderRenewsDuringALongReplay(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	for i := range 20 {
		a.must(fmt.Sprint(i))
	}
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	b.step(Ranked{Rank: -1})
	a.must("more") // which b has not seen
	a.kill()
	slow := true
	w.fault = func(n *node, e Effect) ([]Event, bool) { // b claims, and cannot read the ring for a minute
		g, ok := e.(GetItem)
		if !ok || !slow || n != b || g.Key == metadata.LeaseKey(testShard) {
			return nil, false
		}
		return []Event{ItemRead{ID: g.ID, Err: errors.New("slow")}}, true
	}
	b.step(Ranked{Rank: 0})
	b.step(HolderGone{Holder: a.boot})
	w.pass(5 * time.Second)
	c := w.start()
	w.pass(time.Minute)
	if b.status().Role != RoleClaiming || c.status().Role != RoleFollowing || b.status().Epoch != 2 {
		t.Errorf("b %+v, c %+v", b.status(), c.status())
	}
	slow = false
	w.untilLeading(b)
}

func TestClaimConfirmedAfterALaterEpochWasAppliedIsGivenUp(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	a.kill()
	var held Event
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		p, ok := e.(PutItem)
		if !ok || n != b {
			return nil, false
		}
		if held != nil {
			t.Errorf("put of %v by one who was replaced", p.Item.Key)
		}
		held = w.perform(p) // the claim lands, and its answer is late
		return nil, true
	}
	b.step(HolderGone{Holder: a.boot})
	w.settle()
	c := w.start()
	w.until("c follows", func() bool { return c.status().Role == RoleFollowing })
	c.step(HolderGone{Holder: b.boot})
	w.untilLeading(c)
	if got := b.readCurrent(); got.Seq != c.status().Applied {
		t.Fatalf("b is at %d", got.Seq)
	}
	b.step(held)
	w.pass(2 * time.Second)
	if b.status().Role != RoleFollowing || c.status().Role != RoleLeading {
		t.Errorf("b %+v, c %+v", b.status(), c.status())
	}
}
