package shardlog

import (
	"bytes"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// attempt is a conditional put that is sent again, identical, until the table has decided it.
type attempt struct {
	item     metadata.Item
	cond     metadata.If
	id       uint64 // of the put under way; 0: waits for its turn
	attempts int
	first    time.Duration // when it was first sent
	cause    error         // why the newest answer decided nothing; nil: there was none, or it does not say
	warned   bool          // the alarm about it was given
}

// verdict is what an answer says about an attempt, all its earlier sendings included.
type verdict uint8

const (
	undecided verdict = iota
	landed            // applied, now or by an earlier sending
	beaten            // another item has its place, and it will never land
	wentBack          // the table shows an older item than was known
	vanished          // there is no item
)

// judge: a refusal by the very item that was sent means that an earlier sending landed. A refusal by the item that the put
// wanted to replace contradicts itself and decides nothing.
func (a *attempt) judge(r metadata.PutResult) verdict {
	switch {
	case r.Outcome == metadata.Applied:
		return landed
	case r.Outcome != metadata.Refused:
		return undecided
	case r.Current == nil:
		return vanished
	case r.Current.Rev == a.item.Rev && bytes.Equal(r.Current.Value, a.item.Value):
		return landed
	case r.Current.Rev < a.cond.Rev:
		return wentBack
	case r.Current.Rev == a.cond.Rev:
		return undecided
	}
	return beaten
}

// send sends the attempt if it is its turn, and raises the alarm about it once it is overdue. Whoever drives a Core answers every put within
// some deadline, so that needs no timer.
func (c *Core) send(a *attempt, t timer) {
	if err := c.overdue(a, c.now.Mono); err != nil && !a.warned {
		a.warned = true
		c.emit(Alarm{Err: err})
	}
	if a.id != 0 || c.waits(t) {
		return
	}
	if a.attempts == 0 {
		a.first = c.now.Mono
	}
	a.attempts++
	a.id = c.nextID()
	c.emit(PutItem{ID: a.id, Item: a.item, Cond: a.cond})
}

func (c *Core) onPutDone(e PutDone) {
	switch {
	case c.append != nil && c.append.id == e.ID && e.ID != 0:
		c.append.id, c.append.cause = 0, e.Result.Err
		if v := c.append.judge(e.Result); v == undecided {
			c.backoff(timerAppend, c.append.attempts) // by the slot only, for as long as it takes
		} else {
			c.decideAppend(v, e.Result.Current)
		}
	case c.put != nil && c.put.id == e.ID && e.ID != 0:
		c.put.id, c.put.cause = 0, e.Result.Err
		if v := c.put.judge(e.Result); v == undecided {
			c.backoff(timerPut, c.put.attempts)
		} else {
			c.decideLease(v, e.Result.Current)
		}
	}
}

// leasePut is the one put to the lease item that a claimant or leader has under way.
type leasePut struct {
	attempt
	next  lease
	claim bool
	moves *checkpoint // the snapshot it points to, if that is new
}

// putLease begins a put of the lease item with what change makes of it. Each carries a new nonce.
func (c *Core) putLease(change func(*lease)) *leasePut {
	next := c.lease
	next.nonce = c.cfg.Random()
	change(&next)
	c.put = &leasePut{next: next}
	c.put.item = metadata.Item{Key: metadata.LeaseKey(c.cfg.Shard), Rev: c.leaseRev + 1, Value: next.encode()}
	c.put.cond = metadata.RevIs(c.leaseRev)
	c.armed[timerPut] = 0
	return c.put
}

func (c *Core) claim() {
	c.armed[timerLease], c.armed[timerPoll] = 0, 0
	c.putLease(func(l *lease) { l.epoch, l.holder = l.epoch+1, c.cfg.Boot }).claim = true
	c.phase = phaseClaiming
}

func (c *Core) claiming() {
	c.send(&c.put.attempt, timerPut)
	c.readRing()
}

// renew keeps the lease of a claim that is confirmed: it puts a new nonce in time, a new snapshot pointer at once, and lets go when
// resigning. Never two at a time.
func (c *Core) renew() {
	if !c.mine {
		return
	}
	if c.put == nil {
		switch {
		case c.resigning && c.append == nil && len(c.queue) == 0:
			c.putLease(func(l *lease) { l.holder = objectlog.UUID{} })
		case c.snap != nil && c.snap.stored:
			c.movePointer()
		case !c.waits(timerRenew):
			c.putLease(func(*lease) {})
		}
	}
	if c.put != nil {
		c.send(&c.put.attempt, timerPut)
	}
}

func (c *Core) decideLease(v verdict, current *metadata.Item) {
	put := c.put
	c.put = nil
	switch v {
	case vanished:
		c.haltLease("an item", "none")
		return
	case beaten, wentBack:
		c.loseLease(put, *current)
		return
	}
	old := c.lease
	c.lease, c.leaseRev, c.confirmed = put.next, put.item.Rev, put.first
	c.arm(timerRenew, max(put.first+c.cfg.Lease/3-c.now.Mono, 1))
	c.armed[timerTenure] = c.confirmed + c.cfg.Lease
	switch {
	case put.claim:
		c.mine, c.epoch, c.gone, c.outdated = true, put.next.epoch, objectlog.UUID{}, false
		c.replay()
	case put.next.holder.IsZero():
		c.rank = -1
		c.depose()
	case put.moves != nil:
		c.pointerMoved(put.moves, old.prev)
	}
}

// loseLease judges a refusal by holder and epoch: only a later epoch may have taken my place.
func (c *Core) loseLease(put *leasePut, current metadata.Item) {
	if put.claim {
		c.phase, c.resigning = phaseFollowing, false
		c.watch = watch{}
		c.arm(timerLease, c.cfg.Lease/3)
		if c.adopt(current, put.cond.Rev) && !c.gone.IsZero() {
			c.observe() // the holder put it before it was gone: there is nothing to wait for
		}
		return
	}
	if c.adopt(current, put.cond.Rev) && c.mine {
		c.haltLease("nobody else's item of my epoch", "one with another nonce: two processes use one boot id")
	}
}
