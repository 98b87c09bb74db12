package shardlog

import (
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// checkpoint is a snapshot on its way: stored and read back, then pointed to by the lease item. At most one.
type checkpoint struct {
	id     uint64
	at     pointer
	since  int64 // Core.since when it was taken
	stored bool
}

// unstoredEvery is how often the alarm is raised while snapshots cannot be stored: they are tried again every second.
const unstoredEvery = time.Minute

// checkpointWhenDue takes a snapshot in time: by entries, by bytes, or by the age of the first change since the last one.
func (c *Core) checkpointWhenDue() {
	changed := c.tip.seq - c.lease.cur.seq()
	if changed <= 0 {
		c.change, c.armed[timerChange] = 0, 0
		return
	}
	if c.change == 0 {
		c.change = c.now.Mono
	}
	every := metadata.Seq(c.cfg.SnapshotEveryEntries)
	if every <= 0 {
		every = max(1, c.slots()/8)
	}
	switch {
	case changed >= every, c.since >= c.cfg.SnapshotEveryBytes, c.now.Mono-c.change >= c.cfg.SnapshotEvery:
		c.checkpoint(false)
	case !c.waits(timerChange):
		c.arm(timerChange, c.change+c.cfg.SnapshotEvery-c.now.Mono)
	}
}

// checkpoint takes a snapshot of the applied state, which is committed state. When full, the same seq is worth a second snapshot: it moves the
// previous one up, and with it the limit.
func (c *Core) checkpoint(full bool) {
	cur, prev := c.lease.cur.seq(), c.lease.prev.seq()
	if c.snap != nil || c.waits(timerSnapshot) || c.resigning && !full || c.tip.seq < cur || c.tip.seq == cur && !(full && cur > prev) {
		return
	}
	name := objectlog.SnapshotName{Shard: c.cfg.Shard, Epoch: c.epoch, Seq: int64(c.tip.seq), Random: uint32(c.cfg.Random())}
	c.snap = &checkpoint{id: c.nextID(), at: pointer{name: name, hash: c.tip.hash}, since: c.since}
	e := StoreSnapshot{ID: c.snap.id, Name: name, Nonce: objectlog.NewUUID(c.cfg.Random), ring: c.lease.ring, tip: c.tip}
	e.names, e.views = c.views()
	c.emit(e)
}

func (c *Core) onSnapshotStored(e SnapshotStored) {
	if c.snap == nil || c.snap.id != e.ID || c.snap.stored {
		return
	}
	err := e.Err
	if err == nil {
		p := &c.snap.at
		p.bytes, p.crc = int64(len(e.Body)), crc32c(e.Body)
		_, err = p.check(e.Body, c.lease.ring) // as read back: the pointer never names what does not load
	}
	if err != nil { // the name may yet appear, so the next try takes another
		if c.unstored == 0 || c.now.Mono-c.unstored >= unstoredEvery {
			c.unstored = c.now.Mono
			c.emit(Alarm{Err: fmt.Errorf("shard %d: store snapshot of seq %d: %w", c.cfg.Shard, c.snap.at.name.Seq, err)})
		}
		c.snap = nil
		c.arm(timerSnapshot, c.cfg.Lease/3)
		return
	}
	c.snap.stored, c.unstored = true, 0
}

// movePointer puts the new snapshot into the lease item. The newest becomes the previous one, unless it is known not to load.
func (c *Core) movePointer() {
	c.putLease(func(l *lease) {
		if c.damaged[l.cur.name] == nil || !l.cur.exists() {
			l.prev = l.cur
		}
		l.cur = c.snap.at
	}).moves = c.snap
}

// pointerMoved: the put of the lease item is confirmed, and only now the limit moves.
func (c *Core) pointerMoved(s *checkpoint, replaced pointer) {
	c.snap, c.moved = nil, c.now.Mono
	c.since -= s.since
	c.change, c.armed[timerChange] = 0, 0
	if replaced.exists() {
		c.emit(DeleteSnapshots{Names: []objectlog.SnapshotName{replaced.name}, Keep: c.named()})
	}
}

// named are the snapshots that the lease item names.
func (c *Core) named() []objectlog.SnapshotName {
	var names []objectlog.SnapshotName
	for _, p := range []pointer{c.lease.cur, c.lease.prev} {
		if p.exists() {
			names = append(names, p.name)
		}
	}
	return names
}
