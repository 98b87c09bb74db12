package shardlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// leaseRead is a read of the lease item under way.
type leaseRead struct {
	id       uint64 // 0: none
	sent     time.Duration
	floor    metadata.Rev // the newest revision known when it was sent
	attempts int
	why      string // what made the replica look for a snapshot; empty at the start
}

// load is a read of a snapshot under way.
type load struct {
	id       uint64 // 0: none
	from     pointer
	attempts int
}

// watch is how long the lease item was seen unmoved. Only time between two successful looks counts, and only if they are not further
// apart than the lease time: a replica that could not look, or was paused, has observed nothing.
type watch struct {
	rev         metadata.Rev
	since, last time.Duration // 0: nothing seen
	wait        time.Duration // until a claim
}

// seek looks for a snapshot ahead of the applied state, which the ring does not continue any more.
func (c *Core) seek(why string) {
	c.phase = phaseFinding
	c.find = leaseRead{why: why}
	c.armed[timerLease] = 0
	if !c.mine {
		c.put, c.resigning = nil, false // a claim that lands later is noticed as mine
	}
}

// replay applies what the ring holds behind the applied state.
func (c *Core) replay() {
	c.phase = phaseReplaying
	for n := range c.ring.found {
		if n <= c.tip.seq {
			delete(c.ring.found, n)
		}
	}
	c.ring.reading, c.ring.ended, c.ring.window = true, false, 1
	c.armed[timerRead] = 0
}

func (c *Core) finding() {
	c.renew()
	c.readLease()
}

func (c *Core) readLease() {
	if c.find.id != 0 || c.waits(timerLease) {
		return
	}
	c.find.id, c.find.sent, c.find.floor = c.nextID(), c.now.Mono, c.leaseRev
	c.emit(GetItem{ID: c.find.id, Key: metadata.LeaseKey(c.cfg.Shard)})
}

func (c *Core) onItemRead(e ItemRead) {
	if f, ok := c.ring.flights[e.ID]; ok {
		c.onSlotRead(f, e)
		return
	}
	if c.find.id == 0 || e.ID != c.find.id {
		return
	}
	c.find.id = 0
	if e.Err != nil {
		c.watch = watch{} // own failures do not count as observing
		c.find.attempts++
		c.backoff(timerLease, c.find.attempts)
		return
	}
	c.find.attempts = 0
	if !e.Found {
		c.haltLease("an item", "none")
		return
	}
	if c.adopt(e.Item, c.find.floor) {
		switch c.phase {
		case phaseFinding:
			c.chooseSnapshot()
		case phaseFollowing:
			c.observe()
		}
	}
}

// adopt takes note of a lease item that somebody else may have put. It answers false if that stopped something.
func (c *Core) adopt(item metadata.Item, floor metadata.Rev) bool {
	if item.Rev < floor {
		c.haltLease(fmt.Sprintf("revision %d or later", floor), fmt.Sprintf("revision %d: the table went back", item.Rev))
		return false
	}
	l, err := decodeLease(item.Value, c.cfg.Shard)
	if err != nil {
		c.haltLease("a lease", err.Error())
		return false
	}
	switch {
	case item.Rev < c.leaseRev: // read before a newer put of mine was confirmed
		return true
	case c.leaseRev > 0 && (l.ring != c.lease.ring || l.slots != c.lease.slots || l.epoch < c.lease.epoch || l.cur.seq() < c.lease.cur.seq()):
		c.haltLease(fmt.Sprintf("ring %s, epoch %d, snapshot %d or later", c.lease.ring, c.lease.epoch, c.lease.cur.seq()),
			fmt.Sprintf("ring %s, epoch %d, snapshot %d", l.ring, l.epoch, l.cur.seq()))
		return false
	case c.mine && l.epoch == c.epoch: // a put of mine, whose own answer will tell
		return true
	}
	if l.epoch >= c.tip.epoch {
		c.outdated = false
	}
	if l.epoch != c.lease.epoch {
		c.gone = objectlog.UUID{} // whoever it was, another tenure began
	}
	c.lease, c.leaseRev = l, item.Rev
	if c.mine {
		c.depose()
	}
	return true
}

func (c *Core) haltLease(want, found string) { c.halt(leaseDamage(c.cfg.Shard, want, found)) }

// leaseDamage says what is wrong with the lease item.
func leaseDamage(s objectlog.Shard, want, found string) error {
	return damage("lease item "+metadata.LeaseKey(s).PK, want, found, remedyTable)
}

// chooseSnapshot picks the newest snapshot that loads: the pointer moved only after the object was read back, so one that does not
// load is damage. The previous one is as good, because the ring keeps every entry behind it.
func (c *Core) chooseSnapshot() {
	p := c.lease.cur
	if err := c.damaged[p.name]; err != nil && p.exists() {
		c.emit(Alarm{Err: fmt.Errorf("shard %d: snapshot of seq %d, epoch %d: %w; trying the previous one", c.cfg.Shard, p.name.Seq, p.name.Epoch, err)})
		p = c.lease.prev
		if second := c.damaged[p.name]; second != nil && p.exists() {
			c.halt(damage(fmt.Sprintf("snapshots of seq %d and %d", c.lease.cur.seq(), p.seq()), "one that loads", fmt.Sprintf("%v; %v", err, second),
				"restore one of the objects from a backup of the bucket"))
			return
		}
	}
	switch {
	case c.known && p.seq() <= c.tip.seq:
		c.halt(damage("log behind seq "+fmt.Sprint(c.tip.seq), "its entries in the ring, or a snapshot of them", fmt.Sprintf("%s, and a snapshot of seq %d", c.find.why, p.seq()),
			"compare table and bucket with a backup"))
	case p.exists():
		c.load, c.phase = load{from: p}, phaseLoading
	default:
		if c.restore(pointer{}, snapshot{tip: tip{seq: -1}}) {
			c.replay()
		}
	}
}

func (c *Core) loading() {
	c.renew()
	if c.load.id == 0 && !c.waits(timerLoad) {
		c.load.id = c.nextID()
		c.emit(LoadSnapshot{ID: c.load.id, Name: c.load.from.name})
	}
}

func (c *Core) onSnapshotLoaded(e SnapshotLoaded) {
	if c.phase != phaseLoading || e.ID != c.load.id {
		return
	}
	c.load.id = 0
	err := e.Err
	if err != nil && !errors.Is(err, objectlog.ErrNotFound) && !errors.Is(err, objectlog.ErrRange) {
		c.load.attempts++
		c.backoff(timerLoad, c.load.attempts)
		return
	}
	var s snapshot
	if err == nil {
		s, err = c.load.from.check(e.Body, c.lease.ring)
	}
	if err != nil { // maybe deleted since, because the pointer moved: look again
		c.damaged[c.load.from.name] = err
		c.seek(c.find.why)
		return
	}
	if c.restore(c.load.from, s) {
		c.replay()
	}
}

// restore replaces the applied state by a snapshot's, or by the initial one. False: halted.
func (c *Core) restore(from pointer, s snapshot) bool {
	if from.exists() && len(s.sections) > len(c.machines) {
		c.halt(damage(fmt.Sprintf("snapshot of seq %d", from.seq()), fmt.Sprintf("at most %d sections", len(c.machines)), fmt.Sprint(len(s.sections)), "run a version that knows them"))
		return false
	}
	for i, r := range c.machines {
		x := section{name: r.Name, body: c.initial[i]}
		if from.exists() && i < len(s.sections) { // a machine that is newer than the snapshot has seen no command
			x = s.sections[i]
		}
		err := r.Machine.Restore(x.body)
		if x.name != r.Name || err != nil {
			c.halt(damage(fmt.Sprintf("snapshot of seq %d", from.seq()), "a section of "+r.Name, fmt.Sprintf("one of %s: %v", x.name, err), "run a version that knows it"))
			return false
		}
	}
	c.tip, c.known, c.since = s.tip, true, 0
	return true
}

func (c *Core) replaying() {
	if c.mine && c.tip.epoch > c.epoch { // the followed state or the snapshot is a later leader's
		c.depose()
	}
	c.renew()
	if c.readRing(); c.phase != phaseReplaying || !c.ring.ended {
		return
	}
	c.started = true
	c.phase = phaseFollowing
	if c.mine {
		c.phase = phaseBarrier
	}
}

func (c *Core) following() {
	if !c.waits(timerPoll) {
		c.streams, c.ring.reading = false, true
		c.arm(timerPoll, c.cfg.Lease/3)
	}
	c.readRing()
	if c.phase == phaseFollowing && (c.outdated || c.rank >= 0 || !c.streams) { // nobody watches the lease for a leader that is heard
		c.readLease()
	}
	if c.phase == phaseFollowing && c.claimable() {
		c.claim()
	}
}

// lookAgain reads the lease item now and judges by what that shows.
func (c *Core) lookAgain() {
	c.watch = watch{}
	if c.phase == phaseFollowing {
		c.find.id, c.armed[timerLease] = 0, 0
	}
}

// leaseOutdated wants the lease item read at once, once. A read that is under way may have been too early.
func (c *Core) leaseOutdated() {
	if c.outdated || c.mine {
		return
	}
	c.outdated = true
	c.find.id, c.armed[timerLease] = 0, 0
}

// observe counts how long the lease item has not moved.
func (c *Core) observe() {
	w := &c.watch
	if w.since == 0 || w.rev != c.leaseRev || c.now.Mono-w.last > c.cfg.Lease {
		*w = watch{rev: c.leaseRev, since: c.now.Mono}
		w.wait = c.cfg.Lease + c.chance(c.cfg.Lease/10) + time.Duration(max(c.rank, 0))*c.cfg.Lease/2
	}
	w.last = c.now.Mono
	next := c.cfg.Lease / 6 // half of a renewal: the first look that sees the last one comes soon behind it
	if left := w.since + w.wait - c.now.Mono; left > 0 {
		next = min(next, left)
	}
	if c.rank < 0 {
		next = 2 * c.cfg.Lease
	}
	c.arm(timerLease, next)
}

// claimable: the lease item was seen unmoved for its time, or its holder is known to have let go. A wrong answer costs a change of leader,
// nothing else.
func (c *Core) claimable() bool {
	w, holder := &c.watch, c.lease.holder
	switch {
	case c.rank < 0 || w.since == 0:
		return false
	case c.cfg.ClaimAtOnce, holder == c.cfg.Boot:
		return true
	case holder.IsZero() && (c.rank == 0 || !c.gone.IsZero()), !holder.IsZero() && holder == c.gone:
		return true
	}
	return w.last-w.since >= w.wait
}

// onFollowed applies what the leader's stream brings. A stream is checked like the ring, but it cannot halt: where it does not fit,
// the ring is read.
func (c *Core) onFollowed(e Followed) {
	if c.mine || c.phase != phaseFollowing && c.phase != phaseReplaying {
		return
	}
	c.streams = true
	c.arm(timerPoll, c.cfg.Lease)
	if e.Leader != c.stream {
		if c.stream = e.Leader; e.Leader != c.lease.holder && !e.Leader.IsZero() {
			c.leaseOutdated()
		}
	}
	for _, x := range e.Entries {
		switch next := c.tip.seq + 1; {
		case x.Seq < next:
		case x.Seq > next:
			c.ring.reading, c.ring.told = true, c.lastID
			return
		default:
			s := &slot{rev: x.Seq, raw: x.Entry}
			c.decodeSlot(s, x.Footers)
			c.ring.found[x.Seq] = s
			if !c.takeSlot() {
				return
			}
		}
	}
}
