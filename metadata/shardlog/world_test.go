package shardlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// The kinds of the list machine. A kindRows command comes as a reference to a footer and may be prepared into the rows themselves.
const (
	kindItem metadata.Kind = 1
	kindRows metadata.Kind = 2
)

// list is the smallest machine: the bodies of its commands, in order. The body "bad" is refused, "poison" does not apply.
type list struct {
	items []string
	short bool // Prepare rewrites references into rows
}

func (l *list) Prepare(c metadata.Command) (metadata.Command, error) {
	if string(c.Body) == "bad" {
		return c, errors.New("bad body")
	}
	if l.short && c.Footer != nil {
		return metadata.Command{Kind: c.Kind, Body: append([]byte("rows:"), c.Footer...)}, nil
	}
	return c, nil
}

// reference makes the body that refers to a footer stored in a segment of that number.
func reference(number uint64, footer []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte("ref:"), number)
	b = binary.BigEndian.AppendUint64(b, uint64(len(footer)))
	return binary.BigEndian.AppendUint32(b, crc32c(footer))
}

func (l *list) Reference(c metadata.Command) (ref metadata.FooterRef, ok bool, err error) {
	if c.Kind != kindRows || !bytes.HasPrefix(c.Body, []byte("ref:")) {
		return ref, false, nil
	}
	b := c.Body[4:]
	if len(b) != 20 {
		return ref, false, errors.New("bad reference")
	}
	ref.Segment.Counter = binary.BigEndian.Uint64(b)
	ref.Section.Extent.Next = int64(binary.BigEndian.Uint64(b[8:]))
	ref.Section.CRC32C = binary.BigEndian.Uint32(b[16:])
	return ref, true, nil
}

func (l *list) Apply(at metadata.Position, c metadata.Command) (any, error) {
	if string(c.Body) == "poison" {
		return nil, errors.New("poison")
	}
	body := c.Body
	if bytes.HasPrefix(body, []byte("ref:")) {
		if c.Footer == nil {
			return nil, errors.New("applied without its footer")
		}
		body = append([]byte("rows:"), c.Footer...)
	}
	l.items = append(l.items[:len(l.items):len(l.items)], string(body))
	return len(l.items) - 1, nil
}

type listView []string

func (l *list) View() metadata.View { return listView(l.items) }

func (v listView) Encode(dst []byte) []byte {
	for _, s := range v {
		dst = appendBytes(dst, s)
	}
	return dst
}

func (l *list) Restore(b []byte) error {
	l.items = nil
	for d := (&decoder{rest: b}); len(d.rest) > 0; {
		l.items = append(l.items, string(d.bytes()))
		if d.err != nil {
			return d.err
		}
	}
	return nil
}

// world is a table, a bucket and some replicas, in one goroutine and virtual time. Effects run in order, unless a fault says otherwise.
type world struct {
	t         testing.TB
	now       time.Duration
	back      time.Duration // how far the wall clock has stepped back
	table     map[metadata.Key]metadata.Item
	store     metadata.Table // if set, instead of table
	snapshots map[objectlog.SnapshotName][]byte
	footers   map[uint64][]byte
	nodes     []*node
	seed      uint64
	fault     func(n *node, e Effect) (answers []Event, taken bool) // before an effect is run
}

// node is one replica and what came out of it.
type node struct {
	w         *world
	name      string
	core      *Core
	list      *list
	boot      objectlog.UUID
	dead      bool
	effects   []Effect
	decided   map[uint64]Decided
	current   map[uint64]CurrentAnswered
	committed []Committed
	alarms    []error
}

var testShard = objectlog.Shard(3)

func newWorld(t testing.TB, slots int) *world {
	w := &world{t: t, now: 1, table: map[metadata.Key]metadata.Item{}, snapshots: map[objectlog.SnapshotName][]byte{}, footers: map[uint64][]byte{}}
	ring := objectlog.UUID{0xaa}
	for i := range slots {
		k := metadata.SlotKey(ring, slots, metadata.Seq(i))
		w.table[k] = metadata.Item{Key: k, Rev: metadata.Rev(i - slots), Value: []byte{}}
	}
	l := lease{ring: ring, slots: slots}
	k := metadata.LeaseKey(testShard)
	w.table[k] = metadata.Item{Key: k, Rev: 1, Value: l.encode()}
	return w
}

// random is splitmix64.
func (w *world) random() uint64 {
	w.seed += 0x9e3779b97f4a7c15
	z := w.seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (w *world) config(boot objectlog.UUID) Config {
	return Config{Shard: testShard, Boot: boot, Lease: 3 * time.Second, Random: w.random}
}

// start adds a replica; change may alter its configuration.
func (w *world) start(change ...func(*Config, *list)) *node {
	boot := objectlog.UUID{byte(len(w.nodes) + 1)}
	cfg, l := w.config(boot), &list{}
	for _, f := range change {
		f(&cfg, l)
	}
	n := &node{w: w, name: fmt.Sprintf("n%d", len(w.nodes)+1), boot: boot, list: l, decided: map[uint64]Decided{}, current: map[uint64]CurrentAnswered{}}
	n.core = New(cfg, []Registration{{Name: "list", From: 1, To: 64, Machine: l}})
	w.nodes = append(w.nodes, n)
	n.step(Tick{})
	return n
}

func (w *world) wall() objectlog.Timestamp {
	return objectlog.Timestamp(100_000 + (w.now-w.back)/time.Millisecond)
}

func (n *node) step(e Event) {
	if n.dead {
		return
	}
	for _, f := range n.core.Step(Now{Mono: n.w.now, Wall: n.w.wall()}, e) {
		switch f := f.(type) {
		case Decided:
			if _, twice := n.decided[f.ID]; twice {
				n.w.t.Fatalf("proposal %d decided twice", f.ID)
			}
			n.decided[f.ID] = f
		case CurrentAnswered:
			n.current[f.ID] = f
		case Committed:
			n.committed = append(n.committed, f)
		case Alarm:
			n.alarms = append(n.alarms, f.Err)
		default:
			n.effects = append(n.effects, f)
		}
	}
}

func (n *node) status() Status { return n.core.Status(n.w.now) }

// settle runs effects until there are none left.
func (w *world) settle() {
	for steps := 0; ; steps++ {
		if steps > 1_000_000 {
			w.t.Fatal("does not settle")
		}
		var next *node
		for _, n := range w.nodes {
			if !n.dead && len(n.effects) > 0 {
				next = n
				break
			}
		}
		if next == nil {
			return
		}
		e := next.effects[0]
		next.effects = next.effects[1:]
		next.run(e)
	}
}

func (n *node) run(e Effect) {
	if n.w.fault != nil {
		if answers, taken := n.w.fault(n, e); taken {
			for _, a := range answers {
				n.step(a)
			}
			return
		}
	}
	if a := n.w.perform(e); a != nil {
		n.step(a)
	}
}

// perform executes an effect without fault and answers its event.
func (w *world) perform(e Effect) Event {
	switch e := e.(type) {
	case PutItem:
		if w.store != nil {
			return PutDone{ID: e.ID, Result: w.store.Put(context.Background(), e.Item, e.Cond)}
		}
		return PutDone{ID: e.ID, Result: w.put(e.Item, e.Cond)}
	case GetItem:
		if w.store != nil {
			item, ok, err := w.store.Get(context.Background(), e.Key)
			return ItemRead{ID: e.ID, Item: item, Found: ok, Err: err}
		}
		item, ok := w.table[e.Key]
		return ItemRead{ID: e.ID, Item: item, Found: ok}
	case LoadSnapshot:
		if b, ok := w.snapshots[e.Name]; ok {
			return SnapshotLoaded{ID: e.ID, Body: b}
		}
		return SnapshotLoaded{ID: e.ID, Err: objectlog.ErrNotFound}
	case StoreSnapshot:
		w.snapshots[e.Name] = e.Encode()
		return SnapshotStored{ID: e.ID, Body: w.snapshots[e.Name]}
	case HashState:
		return StateHashed{ID: e.ID, Hash: e.Hash()}
	case DeleteSnapshots:
		for name := range w.snapshots {
			if e.Covers(name) {
				delete(w.snapshots, name)
			}
		}
		return nil
	case ReadFooters:
		var footers [][]byte
		for _, ref := range e.Refs {
			b, ok := w.footers[ref.Segment.Counter]
			if !ok {
				return FootersRead{ID: e.ID, Err: objectlog.ErrNotFound}
			}
			footers = append(footers, b)
		}
		return FootersRead{ID: e.ID, Footers: footers}
	}
	w.t.Fatalf("unknown effect %T", e)
	return nil
}

func (w *world) put(item metadata.Item, cond metadata.If) metadata.PutResult {
	cur, ok := w.table[item.Key]
	if ok != cond.Exists || ok && cur.Rev != cond.Rev {
		r := metadata.PutResult{Outcome: metadata.Refused}
		if ok {
			r.Current = &cur
		}
		return r
	}
	w.table[item.Key] = item
	return metadata.PutResult{Outcome: metadata.Applied}
}

// pass lets time go by in which everything happens that is due.
func (w *world) pass(d time.Duration) {
	end := w.now + d
	for {
		w.settle()
		at, ok := time.Duration(0), false
		var next *node
		for _, n := range w.nodes {
			if n.dead {
				continue
			}
			if t, armed := n.core.NextWake(); armed && (!ok || t < at) {
				at, ok, next = t, true, n
			}
		}
		if !ok || at > end {
			w.now = end
			return
		}
		w.now = max(w.now, at)
		next.step(Tick{})
	}
}

// until passes time until the condition holds, at most a minute.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for end := w.now + time.Minute; !cond(); {
		if w.now >= end {
			for _, n := range w.nodes {
				w.t.Logf("%s: phase %d, status %+v, effects %v", n.name, n.core.phase, n.status(), n.effects)
			}
			w.t.Fatalf("after a minute still not: %s", what)
		}
		w.pass(20 * time.Millisecond)
	}
}

func (w *world) untilLeading(n *node) {
	w.t.Helper()
	w.until(n.name+" leads", func() bool { return n.status().Role == RoleLeading })
}

// propose appends items and answers the proposal's ID.
func (n *node) propose(bodies ...string) uint64 {
	id := n.w.random()
	var commands []metadata.Command
	for _, b := range bodies {
		commands = append(commands, metadata.Command{Kind: kindItem, Body: []byte(b)})
	}
	n.step(Proposed{ID: id, Commands: commands})
	return id
}

// must proposes and passes time until the items are committed.
func (n *node) must(bodies ...string) Receipt {
	n.w.t.Helper()
	id := n.propose(bodies...)
	n.w.until("a decision", func() bool { _, ok := n.decided[id]; return ok })
	d := n.decided[id]
	if d.Err != nil {
		n.w.t.Fatalf("propose %q: %v", bodies, d.Err)
	}
	return d.Receipt
}

func (n *node) wantItems(want ...string) {
	n.w.t.Helper()
	if !slices.Equal(n.list.items, want) {
		n.w.t.Errorf("%s has %q, want %q", n.name, n.list.items, want)
	}
}

// readCurrent makes a current read.
func (n *node) readCurrent() CurrentAnswered {
	n.w.t.Helper()
	id := n.w.random()
	n.step(CurrentAsked{ID: id})
	n.w.until("an answer", func() bool { _, ok := n.current[id]; return ok })
	return n.current[id]
}

func (w *world) lease() lease {
	w.t.Helper()
	l, err := decodeLease(w.table[metadata.LeaseKey(testShard)].Value, testShard)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// kill ends a replica; its effects under way never run.
func (n *node) kill() { n.dead, n.effects = true, nil }

func unknownPut(e PutItem) []Event {
	return []Event{PutDone{ID: e.ID, Result: metadata.PutResult{Err: context.DeadlineExceeded}}}
}
