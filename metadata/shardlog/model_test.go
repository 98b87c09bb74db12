package shardlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// The model runs real Cores against a table in which a put is a message: once sent it may land at any later time, after its sender died,
// or never; its answer comes at any time after the table decided it, or is lost. Timers fire at any time. Every order of
// events within the bounds is explored, and spec/ShardLog.tla's invariants are checked in every state.

// bounds make a model finite.
type bounds struct {
	slots     int
	maxSeq    metadata.Seq
	maxEpoch  objectlog.Epoch
	every     int // SnapshotEveryEntries
	proposals int // over all replicas, and so on
	crashes   int
	reads     int
	lost      int // answers to puts that are lost
	stale     int // reads whose answer comes later than they were made
	renewals  int
	lapses    int // lease times that end unrenewed
	torn      int // snapshots stored damaged
	failed    int // snapshots whose put fails
	resigns   int
	// lateDeletes: snapshots are deleted some time after that was asked for, else at once.
	lateDeletes bool
}

// model is one state of the whole.
type model struct {
	left  bounds // what may still happen; slots, maxSeq, maxEpoch stay
	ring  objectlog.UUID
	slots []metadata.Item
	lease metadata.Item
	sent  []message
	snaps map[objectlog.SnapshotName][]byte
	nodes []*replica

	log       [][]byte // ghost: what landed, by seq
	acked     []metadata.Seq
	failed    map[string]bool // ghost: bodies reported as never written
	proposals int             // ghost: numbers bodies
	err       error           // a broken invariant
}

// message is a put that was sent and may land.
type message struct {
	item metadata.Item
	cond metadata.If
}

// replica is a Core and what it has under way.
type replica struct {
	core    *Core
	list    *list
	boot    objectlog.UUID
	effects []request
	need    []metadata.Seq // ghost: per current read asked, in order of ID, what its answer must reach
	stores  uint64
}

// request is an effect under way.
type request struct {
	effect Effect
	again  bool      // a put that was sent before
	read   *ItemRead // an answer that is on its way
}

func newModel(b bounds, nodes int) *model {
	m := &model{left: b, ring: objectlog.UUID{0xaa}, snaps: map[objectlog.SnapshotName][]byte{}, failed: map[string]bool{}}
	for i := range b.slots {
		m.slots = append(m.slots, metadata.Item{Rev: metadata.Rev(i - b.slots)})
	}
	l := lease{ring: m.ring, slots: b.slots}
	m.lease = metadata.Item{Rev: 1, Value: l.encode()}
	for i := range nodes {
		m.nodes = append(m.nodes, &replica{})
		m.boot(i, 0)
		m.catchUp(i)
	}
	return m
}

// boot starts a replica anew.
func (m *model) boot(i int, run byte) {
	r := &replica{boot: objectlog.UUID{byte(i + 1), run + 1}, list: &list{}}
	m.nodes[i] = r
	cfg := Config{Shard: testShard, Boot: r.boot, Lease: time.Second, ClaimAtOnce: true, SnapshotEveryEntries: m.left.every, SnapshotEveryBytes: 1 << 40}
	r.core = New(cfg, []Registration{{Name: "list", From: 1, To: 2, Machine: r.list}})
	r.bind()
	m.step(i, Tick{})
}

// catchUp lets a fresh replica read what there is, until it follows.
func (m *model) catchUp(i int) {
	r := m.nodes[i]
	for r.core.phase != phaseFollowing {
		e := r.effects[0].effect.(GetItem)
		r.effects = r.effects[1:]
		m.step(i, ItemRead{ID: e.ID, Item: m.get(e.Key), Found: true})
	}
}

// bind makes the replica's chance a function of where it is, so that states repeat.
func (r *replica) bind() {
	r.core.machines = []Registration{{Name: "list", From: 1, To: 2, Machine: r.list}}
	r.core.cfg.Random = func() uint64 {
		c := r.core
		x := uint64(r.boot[0])<<56 | uint64(r.boot[1])<<48 | uint64(c.epoch)<<40 | uint64(c.tip.seq+1)<<32 | uint64(c.leaseRev)<<16 | r.stores
		return x*0x9e3779b97f4a7c15 | 1
	}
}

func (m *model) clone() *model {
	n := *m
	n.slots, n.sent, n.log, n.acked = slices.Clone(m.slots), slices.Clone(m.sent), slices.Clone(m.log), slices.Clone(m.acked)
	n.snaps, n.failed = maps.Clone(m.snaps), maps.Clone(m.failed)
	n.nodes = make([]*replica, len(m.nodes))
	for i, r := range m.nodes {
		n.nodes[i] = r.clone()
	}
	return &n
}

func (r *replica) clone() *replica {
	n := *r
	n.effects, n.need = slices.Clone(r.effects), slices.Clone(r.need)
	l := *r.list
	n.list = &l
	n.core = r.core.clone()
	n.bind()
	return &n
}

// clone copies whatever a step may change. Slots of the ring are not changed without footers, which the model has none of; neither has it
// streams, nor logs that are long enough for a fingerprint.
func (c *Core) clone() *Core {
	n := *c
	n.effects, n.applied = nil, nil
	n.damaged = maps.Clone(c.damaged)
	n.ring.flights, n.ring.found, n.ring.footers = maps.Clone(c.ring.flights), maps.Clone(c.ring.found), maps.Clone(c.ring.footers)
	n.prints.own, n.prints.leader = slices.Clone(c.prints.own), slices.Clone(c.prints.leader)
	n.ring.asked, n.queue = slices.Clone(c.ring.asked), slices.Clone(c.queue)
	if c.snap != nil {
		s := *c.snap
		n.snap = &s
	}
	if c.put != nil {
		p := *c.put
		n.put = &p
		if p.moves != nil {
			n.put.moves = n.snap
		}
	}
	if c.append != nil {
		a := *c.append
		n.append = &a
	}
	return &n
}

func (m *model) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

// step steps one replica and takes note of its effects.
func (m *model) step(i int, e Event) {
	r := m.nodes[i]
	for _, f := range r.core.Step(Now{Mono: time.Hour, Wall: 1}, e) {
		switch f := f.(type) {
		case Decided:
			m.decided(f)
		case CurrentAnswered:
			if need := r.need[f.ID]; f.Seq < need || r.core.tip.seq < f.Seq || f.Err != nil {
				m.fail("ReadsCurrent: answered %d, %v, when %d was committed before", f.Seq, f.Err, need)
			}
		case Committed, Alarm:
		case DeleteSnapshots:
			if m.left.lateDeletes {
				r.effects = append(r.effects, request{effect: f})
			} else {
				m.deleteSnapshots(f)
			}
		case PutItem:
			again := slices.ContainsFunc(m.sent, func(x message) bool { return bytes.Equal(x.item.Value, f.Item.Value) && x.cond == f.Cond })
			if !again {
				m.sent = append(m.sent, message{f.Item, f.Cond})
			}
			r.effects = append(r.effects, request{effect: f, again: again})
		default:
			r.effects = append(r.effects, request{effect: f})
		}
	}
}

func (m *model) deleteSnapshots(e DeleteSnapshots) {
	for n := range m.snaps {
		if e.Covers(n) {
			delete(m.snaps, n)
		}
	}
}

func body(n uint64) string { return fmt.Sprintf("proposal %d.", n) }

func (m *model) decided(d Decided) {
	switch {
	case d.Err == nil:
		if d.Receipt.Seq >= metadata.Seq(len(m.log)) || !bytes.Contains(m.log[d.Receipt.Seq], []byte(body(d.ID))) {
			m.fail("Durable: %s acknowledged at %d, where it is not", body(d.ID), d.Receipt.Seq)
		}
		m.acked = append(m.acked, d.Receipt.Seq)
	case errors.Is(d.Err, ErrNotLeader):
		m.failed[body(d.ID)] = true
		for _, raw := range m.log {
			if bytes.Contains(raw, []byte(body(d.ID))) {
				m.fail("NoFalseFailure: %s is in the log", body(d.ID))
			}
		}
	}
}

// current is the item that the table has under the key of the message.
func (m *model) current(item metadata.Item) *metadata.Item {
	if item.Key == metadata.LeaseKey(testShard) {
		return &m.lease
	}
	return &m.slots[int(item.Rev)%len(m.slots)]
}

// land lets a message take effect.
func (m *model) land(x message) {
	cur := m.current(x.item)
	*cur = metadata.Item{Key: x.item.Key, Rev: x.item.Rev, Value: x.item.Value}
	if cur == &m.lease {
		return
	}
	e, err := decodeEntry(x.item.Value)
	n := metadata.Seq(len(m.log))
	switch {
	case err != nil || e.seq != n:
		m.fail("Chain: seq %d landed behind %d: %v", e.seq, n-1, err)
		return
	case n > 0 && e.prevHash != hashOf(m.log[n-1]):
		m.fail("Chain: the entry at %d does not follow its predecessor", n)
	case n > 0:
		if before, _ := decodeEntry(m.log[n-1]); before.epoch > e.epoch {
			m.fail("EpochMonotone: epoch %d at %d, behind %d", e.epoch, n, before.epoch)
		}
	}
	for _, c := range e.commands {
		if m.failed[string(c.Body)] {
			m.fail("NoFalseFailure: %s landed after it was reported as never written", c.Body)
		}
	}
	m.log = append(m.log, x.item.Value)
}

// items is what a state at seq must be.
func (m *model) items(at metadata.Seq) (items []string) {
	for _, raw := range m.log[:at+1] {
		e, _ := decodeEntry(raw)
		for _, c := range e.commands {
			items = append(items, string(c.Body))
		}
	}
	return items
}

// check looks at the invariants.
func (m *model) check() {
	top := objectlog.Epoch(-1)
	for i, r := range m.nodes {
		c := r.core
		switch {
		case c.phase == phaseHalted:
			m.fail("halted: replica %d: %v", i, c.fault)
		case !c.known:
		case c.tip.seq >= metadata.Seq(len(m.log)) || c.tip.seq >= 0 && c.tip.hash != hashOf(m.log[c.tip.seq]) || !slices.Equal(r.list.items, m.items(c.tip.seq)):
			m.fail("StateCommitted: replica %d at %d has %q", i, c.tip.seq, r.list.items)
		}
		if c.phase == phaseLeading {
			top = max(top, c.epoch)
		}
	}
	for i, r := range m.nodes {
		if r.core.phase != phaseLeading || r.core.epoch != top {
			continue
		}
		for _, a := range m.acked {
			if e, _ := decodeEntry(m.log[a]); e.epoch < top && r.core.tip.seq < a {
				m.fail("LeaderComplete: replica %d leads epoch %d without the acknowledged entry %d", i, top, a)
			}
		}
	}
	m.checkSnapshots()
}

// checkSnapshots: both snapshots load, are committed state, and every acknowledged entry is in them or in the ring behind.
func (m *model) checkSnapshots() {
	l, err := decodeLease(m.lease.Value, testShard)
	if err != nil {
		m.fail("lease: %v", err)
		return
	}
	for _, p := range []pointer{l.cur, l.prev} {
		at := p.seq()
		if p.exists() {
			s, err := p.check(m.snaps[p.name], m.ring)
			var have list
			if err == nil {
				err = have.Restore(s.sections[0].body)
			}
			if err != nil || at >= metadata.Seq(len(m.log)) || !slices.Equal(have.items, m.items(at)) {
				m.fail("SnapshotCommitted: the snapshot of seq %d has %q: %v", at, have.items, err)
				return
			}
		}
		for n := at + 1; n < metadata.Seq(len(m.log)); n++ {
			if s := m.slots[int(n)%len(m.slots)]; metadata.Seq(s.Rev) != n {
				m.fail("Durable: entry %d is neither in the snapshot of %d nor in the ring", n, at)
				return
			}
		}
	}
}

// key identifies the state: what can influence the future, with IDs by rank instead of value.
func (m *model) key() [16]byte {
	b := make([]byte, 0, 1024)
	num := func(vs ...int64) {
		for _, v := range vs {
			b = binary.AppendVarint(b, v)
		}
	}
	val := func(v []byte) { b = appendBytes(b, v) }
	for _, s := range m.slots {
		num(int64(s.Rev))
	}
	num(int64(m.lease.Rev))
	val(m.lease.Value)
	for _, raw := range m.log {
		val(raw)
	}
	var pending [][]byte
	for _, x := range m.sent {
		if m.current(x.item).Rev == x.cond.Rev {
			pending = append(pending, x.item.Value)
		}
	}
	slices.SortFunc(pending, bytes.Compare)
	for _, p := range pending {
		val(p)
	}
	num(int64(len(m.acked)), int64(len(m.failed)), int64(m.proposals))
	var stored [][]byte
	for n, body := range m.snaps {
		stored = append(stored, binary.BigEndian.AppendUint32(nameKey(nil, n), crc32c(body)))
	}
	slices.SortFunc(stored, bytes.Compare)
	for _, s := range stored {
		val(s)
	}
	l := m.left
	num(int64(l.proposals), int64(l.crashes), int64(l.reads), int64(l.lost), int64(l.stale), int64(l.renewals), int64(l.lapses), int64(l.torn), int64(l.failed), int64(l.resigns), int64(len(m.failed)))
	for _, r := range m.nodes {
		b = r.key(b)
	}
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

func nameKey(b []byte, n objectlog.SnapshotName) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(n.Epoch)<<32|uint64(n.Random))
	return binary.BigEndian.AppendUint64(b, uint64(n.Seq))
}

func flag64(bs ...bool) (v int64) {
	for _, x := range bs {
		v <<= 1
		if x {
			v |= 1
		}
	}
	return v
}

func (r *replica) key(b []byte) []byte {
	c := r.core
	ranks := r.ranks()
	num := func(vs ...int64) {
		for _, v := range vs {
			b = binary.AppendVarint(b, v)
		}
	}
	id := func(v uint64) { num(int64(ranks[v])) }
	num(int64(c.phase), int64(c.tip.seq), int64(c.epoch), int64(c.leaseRev), int64(c.rank), int64(r.stores))
	num(flag64(c.known, c.started, c.mine, c.resigning, c.late, c.unstored != 0, c.change != 0, c.watch.since != 0, c.watch.rev == c.leaseRev, c.find.why != "", c.gone.IsZero(), c.outdated))
	for t := range c.armed {
		num(flag64(c.armed[t] != 0))
	}
	b = append(b, r.boot[:2]...)
	b = appendBytes(b, c.lease.encode())
	num(int64(len(c.damaged)))
	b = nameKey(b, c.load.from.name)
	id(c.find.id)
	id(c.load.id)
	num(int64(c.find.floor), int64(c.ring.window), flag64(c.ring.reading, c.ring.ended))
	id(c.ring.told)
	for _, f := range slices.Sorted(maps.Keys(c.ring.flights)) {
		id(f)
		num(int64(c.ring.flights[f].seq))
	}
	for _, n := range slices.Sorted(maps.Keys(c.ring.found)) {
		id(c.ring.found[n].id)
		num(int64(n), int64(c.ring.found[n].rev))
	}
	for _, a := range c.ring.asked {
		num(int64(a.id))
		num(int64(r.need[a.id]))
		id(a.after)
	}
	if c.put != nil {
		id(c.put.id)
		b = appendBytes(append(b, byte(flag64(c.put.warned))), c.put.item.Value) // not its cause, which only words depend on
	}
	if c.append != nil {
		id(c.append.id)
		b = appendBytes(append(b, byte(flag64(c.append.warned))), c.append.raw)
	}
	for _, q := range c.queue {
		num(int64(q.ID))
	}
	if c.snap != nil {
		id(c.snap.id)
		b = nameKey(b, c.snap.at.name)
		num(flag64(c.snap.stored))
	}
	for _, f := range r.effects {
		switch e := f.effect.(type) {
		case PutItem:
			id(e.ID)
		case GetItem:
			id(e.ID)
			if f.read != nil {
				num(int64(f.read.Item.Rev))
			}
		case DeleteSnapshots:
			num(int64(e.Below))
			for _, n := range append(e.Names, e.Keep...) {
				b = nameKey(b, n)
			}
		}
		num(flag64(f.again, f.read != nil))
	}
	return append(b, 0xff)
}

// ranks numbers the IDs that are still of use, in order.
func (r *replica) ranks() map[uint64]int {
	c := r.core
	ids := []uint64{0, c.find.id, c.load.id, c.ring.told}
	ids = slices.AppendSeq(ids, maps.Keys(c.ring.flights))
	for _, s := range c.ring.found {
		ids = append(ids, s.id)
	}
	for _, a := range c.ring.asked {
		ids = append(ids, a.after)
	}
	if c.put != nil {
		ids = append(ids, c.put.id)
	}
	if c.append != nil {
		ids = append(ids, c.append.id)
	}
	if c.snap != nil {
		ids = append(ids, c.snap.id)
	}
	for _, f := range r.effects {
		switch e := f.effect.(type) {
		case PutItem:
			ids = append(ids, e.ID)
		case GetItem:
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	out := make(map[uint64]int, len(ids))
	for i, v := range slices.Compact(ids) {
		out[v] = i
	}
	return out
}
