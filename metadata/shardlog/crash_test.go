package shardlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	tablemem "github.com/splashdam/splashdam/metadata/mem"
)

// fate is what becomes of the write that the process did not see the end of.
type fate string

const (
	neverLands fate = "not landed"
	hasLanded  fate = "landed"
	landsLate  fate = "landed after the successor led"
)

// write recognizes one kind of remote write.
type write struct {
	name string
	is   func(w *world, e Effect) bool
}

func slotPut(e Effect) (entry, bool) {
	p, ok := e.(PutItem)
	if !ok || p.Item.Key == metadata.LeaseKey(testShard) {
		return entry{}, false
	}
	x, err := decodeEntry(p.Item.Value)
	return x, err == nil
}

// leaseChange answers the lease before and after a put of the lease item.
func leaseChange(w *world, e Effect) (before, after lease, ok bool) {
	p, ok := e.(PutItem)
	if !ok || p.Item.Key != metadata.LeaseKey(testShard) {
		return before, after, false
	}
	after, err := decodeLease(p.Item.Value, testShard)
	return w.lease(), after, err == nil
}

var writes = []write{
	{"append", func(_ *world, e Effect) bool { x, ok := slotPut(e); return ok && len(x.commands) > 0 }},
	{"barrier", func(_ *world, e Effect) bool { x, ok := slotPut(e); return ok && len(x.commands) == 0 }},
	{"claim", func(w *world, e Effect) bool { b, a, ok := leaseChange(w, e); return ok && a.epoch > b.epoch }},
	{"renewal", func(w *world, e Effect) bool {
		b, a, ok := leaseChange(w, e)
		return ok && a.epoch == b.epoch && a.cur == b.cur && a.holder == b.holder
	}},
	{"pointer move", func(w *world, e Effect) bool { b, a, ok := leaseChange(w, e); return ok && a.cur != b.cur }},
	{"release", func(w *world, e Effect) bool { _, a, ok := leaseChange(w, e); return ok && a.holder.IsZero() }},
	{"snapshot put", func(_ *world, e Effect) bool { _, ok := e.(StoreSnapshot); return ok }},
	{"snapshot delete", func(_ *world, e Effect) bool { d, ok := e.(DeleteSnapshots); return ok && len(d.Names) > 0 }},
	{"snapshot sweep", func(_ *world, e Effect) bool { d, ok := e.(DeleteSnapshots); return ok && d.Below > 0 }},
}

// The crash table: the process dies at the first, second and third write of each kind; the write has landed, has not, or does when a
// successor leads. The next leader has every acknowledged item, in order, at most the one in flight beside them, and goes on.
func TestCrashTable(t *testing.T) {
	for _, x := range writes {
		for nth := 1; nth <= 3; nth++ {
			for _, f := range []fate{neverLands, hasLanded, landsLate} {
				if nth > 1 && (x.name == "barrier" || x.name == "claim" || x.name == "release" || x.name == "snapshot sweep") {
					continue // one per tenure
				}
				t.Run(fmt.Sprintf("%s %d %s", x.name, nth, f), func(t *testing.T) { crashAt(t, x, nth, f) })
			}
		}
	}
}

func crashAt(t *testing.T, x write, nth int, f fate) {
	w := newWorld(t, 16)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
	var held Effect
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if n != a || held != nil || !x.is(w, e) {
			return nil, false
		}
		if nth--; nth > 0 {
			return nil, false
		}
		held = e
		if f == hasLanded {
			w.perform(e)
		}
		a.kill()
		return nil, true
	}
	var acked, all []string
	for i := 0; i < 40 && !a.dead; i++ {
		w.pass(w.config(a.boot).Lease / 4)
		s := fmt.Sprint(i)
		if a.status().Role != RoleLeading {
			continue
		}
		all = append(all, s)
		id := a.propose(s)
		w.settle()
		if d, ok := a.decided[id]; ok && d.Err == nil {
			acked = append(acked, s)
		}
	}
	if !a.dead {
		a.step(Resign{})
		w.settle()
	}
	if held == nil {
		t.Fatal("the write never happened")
	}
	b := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
	w.untilLeading(b)
	if got := b.list.items; !slices.Equal(got, acked) && !(slices.Equal(got, all) && len(all) == len(acked)+1) {
		t.Fatalf("acknowledged %q, of %q; after the crash %q", acked, all, got)
	}
	before := slices.Clone(b.list.items)
	if f == landsLate {
		w.perform(held)
	}
	for i := range 20 { // more than a lap
		s := fmt.Sprint("after ", i)
		b.must(s)
		before = append(before, s)
	}
	b.wantItems(before...)
	b.kill()
	c := w.start()
	w.untilLeading(c)
	c.wantItems(before...)
}

// The rows of the crash table that creation adds: whatever becomes of its writes, the next call makes a log that works.
func TestCrashTableOfCreation(t *testing.T) {
	for _, x := range []struct {
		op    tablemem.Op
		fault tablemem.Fault
	}{
		{tablemem.OpCreateAll, tablemem.FailBefore},
		{tablemem.OpCreateAll, tablemem.FailAfter},
		{tablemem.OpCreateAll, tablemem.Partly},
		{tablemem.OpCreateAll, tablemem.Hold},
		{tablemem.OpPut, tablemem.FailBefore},
		{tablemem.OpPut, tablemem.FailAfter},
		{tablemem.OpPut, tablemem.Hold},
		{tablemem.OpPut, tablemem.Twice},
	} {
		for _, dies := range []bool{false, true} { // the process, with the write
			t.Run(fmt.Sprint(x.op, " ", x.fault, " dies ", dies), func(t *testing.T) { createWith(t, x.op, x.fault, dies) })
		}
	}
}

func createWith(t *testing.T, op tablemem.Op, fault tablemem.Fault, dies bool) {
	table := &tablemem.Table{}
	ctx, die := context.WithCancel(t.Context())
	defer die()
	broken := false
	table.Fault = func(q tablemem.Request) tablemem.Fault {
		if q.Op != op || broken {
			return tablemem.None
		}
		if broken = true; dies {
			die()
		}
		return fault
	}
	if err := Create(ctx, table, testShard, 16, rand.Uint64); err != nil && !dies {
		t.Fatal(err)
	}
	if err := Create(t.Context(), table, testShard, 16, rand.Uint64); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 16)
	w.store = table
	a := w.start()
	w.untilLeading(a)
	a.must("x")
	for _, q := range table.Held() { // what was held lands now: it must not hurt
		if _, err := table.Release(q.N); err != nil {
			t.Fatal(err)
		}
	}
	a.must("y")
	a.kill()
	b := w.start()
	w.untilLeading(b)
	b.wantItems("x", "y")
}
