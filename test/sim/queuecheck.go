package sim

import (
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// queueChecks knows what consumers of queues and movers did, and watches what the logs make of it.
type queueChecks struct {
	w        *world
	seq      []metadata.Seq  // by shard: the newest entry that was looked at
	by       []*queueMachine // who applied it first
	of       map[queues.Key]*queueWatch
	pulls    map[uint64]*pull      // by lock
	letters  map[departure]*letter // by the place they were given on a route
	arrived  map[departure]bool    // the target's log has it
	position objectlog.Offset      // of the ordered group
	quit     []objectlog.Offset    // what it was told to be dead letters from now on
}

// departure is a record's place on a route: what its batch is known by.
type departure struct {
	producer objectlog.ProducerID
	sequence int32
}

// letter is a record that goes to another partition.
type letter struct {
	key    queues.Key
	offset objectlog.Offset
	to     queues.Place
	value  string
	landed bool // its source is finished
}

func newQueueChecks(w *world) *queueChecks {
	return &queueChecks{w: w, of: map[queues.Key]*queueWatch{}, pulls: map[uint64]*pull{}, letters: map[departure]*letter{}, arrived: map[departure]bool{}}
}

// turns holds what became of a record by one command against what consumers, movers and clocks did.
func (k *queueChecks) turns(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	switch {
	case is.untouched:
		k.wrong("two-places", q, o, was, is)
	case is.finished:
		k.finishes(q, r, o, was, is)
	case is.Phase == queues.Locked:
		k.locks(q, r, o, was, is)
	case is.Phase == queues.Moving:
		k.departs(q, r, o, was, is)
	case is.Phase == queues.Buried:
		if !q.Ordered || !k.lands(was) {
			k.wrong("early-finish", q, o, was, is)
		}
	case was.holds(queues.Moving): // taken back
		if l := k.letters[was.way()]; l == nil || l.to.Topic != nowhere {
			k.wrong("taken-back", q, o, was, is)
		}
		k.w.stats.TakenBack++
	case is.Phase == queues.Failed:
		k.dies(q, r, o, was, is)
	default:
		k.returns(q, r, o, was, is)
	}
}

func (k *queueChecks) wrong(name string, q *queues.Queue, o objectlog.Offset, was, is standing) {
	k.w.fail(name, "%v of group %q, offset %d: %v, then %v", k.w.logOfKey(q.Key), q.Group, o, was, is)
}

func (s standing) String() string {
	switch {
	case s.untouched:
		return "never handed out"
	case s.finished:
		return "finished"
	}
	return fmt.Sprintf("phase %d, delivery %d, lock %x, wait %d, %v, moves %v", s.Phase, s.Deliveries, s.Lock, s.Stamp, s.Failure.Cause, s.Move)
}

// finishes: a record is finished when the consumer that has its lock accepted it, when its copy is in the target's log, or when it was discarded.
func (k *queueChecks) finishes(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	switch {
	case was.untouched && q.Ordered, was.holds(queues.Buried) && o < k.position:
	case was.holds(queues.Locked) && k.said(was, o, queues.Accept):
		r.accepted = true
		k.w.stats.Accepted++
	case was.holds(queues.Moving):
		if !k.lands(was) {
			k.wrong("early-finish", q, o, was, is)
		}
	case q.Group == "" && (was.untouched || was.holds(queues.Ready)) && r.discarded:
	default:
		k.wrong("lost-record", q, o, was, is)
	}
}

// lands: the source is finished behind the write.
func (k *queueChecks) lands(was standing) bool {
	if !was.holds(queues.Moving) || !k.arrived[was.way()] {
		return false
	}
	k.letters[was.way()].landed = true
	return true
}

// locks: a record is locked under one lock at a time, and each delivery counts.
func (k *queueChecks) locks(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	pl := k.pulls[is.Lock]
	switch {
	case pl == nil || pl.key != q.Key:
		k.wrong("strange-lock", q, o, was, is)
	case was.finished:
		k.wrong("accepted-again", q, o, was, is)
	case was.holds(queues.Locked) && was.Lock == is.Lock: // for longer
		if was.Deliveries != is.Deliveries || !k.said(was, o, queues.Extend) {
			k.wrong("lost-count", q, o, was, is)
		}
	case was.holds(queues.Locked):
		k.wrong("two-locks", q, o, was, is)
	case !was.untouched && !was.holds(queues.Ready):
		k.wrong("two-locks", q, o, was, is)
	default:
		r.deliveries++
		k.w.stats.Delivered++
		if pl.given[o] = true; is.Deliveries != r.deliveries || r.deliveries > k.w.queueing.policy.Deliveries {
			k.wrong("lost-count", q, o, was, is)
		}
	}
}

// dies: a record fails for good when it was rejected, or handed out as often as it may be.
func (k *queueChecks) dies(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	r.deaths++
	switch {
	case q.Ordered:
		if !r.givenUp || !was.untouched && !was.finished || r.deaths > 1 && o >= k.position {
			k.wrong("two-letters", q, o, was, is)
		}
		return
	case !was.holds(queues.Locked), is.Deliveries != r.deliveries, r.deaths > 1:
		k.wrong("lost-count", q, o, was, is)
	case is.Failure.Cause == queues.CauseRejected:
		if !k.said(was, o, queues.Reject) {
			k.wrong("strange-end", q, o, was, is)
		}
	case r.deliveries < k.w.queueing.policy.Deliveries:
		k.wrong("early-death", q, o, was, is)
	default:
		k.ends(q, o, was, is)
	}
}

// returns: a record is to be handed out again.
func (k *queueChecks) returns(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	switch {
	case q.Group == "" && was.untouched && is.Phase == queues.Ready:
	case was.holds(queues.Delayed) && is.Phase == queues.Ready:
		if is.Deliveries != r.deliveries {
			k.wrong("lost-count", q, o, was, is)
		}
	case was.finished:
		k.wrong("accepted-again", q, o, was, is)
	case !was.holds(queues.Locked):
		k.wrong("lost-count", q, o, was, is)
	case is.Deliveries == r.deliveries-1 && is.Phase == queues.Ready && k.said(was, o, queues.Return):
		r.deliveries--
	case is.Deliveries != r.deliveries, r.deliveries >= k.w.queueing.policy.Deliveries:
		k.wrong("lost-count", q, o, was, is)
	default:
		k.ends(q, o, was, is)
	}
}

// ends: a lock ends by its consumer's word, or by the clock's, which may be fast by a fifth.
func (k *queueChecks) ends(q *queues.Queue, o objectlog.Offset, was, is standing) {
	switch is.Failure.Cause {
	case queues.CauseExpired:
		k.w.stats.Elapsed++
		pl := k.pulls[was.Lock]
		if since := max(pl.began, pl.extended[o]); k.w.now-since < was.Wait*5/6 {
			k.wrong("early-end", q, o, was, is)
		}
	case queues.CauseReleased:
		if !k.said(was, o, queues.Release) {
			k.wrong("strange-end", q, o, was, is)
		}
	default:
		k.wrong("strange-end", q, o, was, is)
	}
}

func (k *queueChecks) said(was standing, o objectlog.Offset, v queues.Verdict) bool {
	pl := k.pulls[was.Lock]
	return pl != nil && pl.said[o]&(1<<v) != 0
}

// departs: a place on a route is one record's, and a record has one at a time.
func (k *queueChecks) departs(q *queues.Queue, r *queueRecord, o objectlog.Offset, was, is standing) {
	redriven := q.Group == ""
	if !was.holds(queues.Failed) && !(redriven && (was.untouched || was.holds(queues.Ready))) {
		k.wrong("two-ways", q, o, was, is)
		return
	}
	l := &letter{key: q.Key, offset: o, to: is.Move.To}
	at := k.w.logOfKey(q.Key)
	l.value = fmt.Sprintf("%s/%d.%d.%d.%d", q.Group, at.topic, at.partition, o, r.deaths)
	if other := k.letters[is.way()]; other != nil {
		k.w.fail("two-ways", "%s and %s were given sequence %d of producer %d", other.value, l.value, is.Move.Sequence, is.Move.Producer)
	}
	k.letters[is.way()] = l
}

// pulled: what is answered was locked for this call, and had not been acknowledged before.
func (k *queueChecks) pulled(pl *pull, acquired []queues.Acquired) {
	w := k.watch(pl.key)
	for _, a := range acquired {
		for o := a.From; o < a.To; o++ {
			r := w.record(o)
			switch {
			case !pl.given[o]:
				k.w.fail("two-locks", "%v offset %d was handed out under lock %x, the log has not locked it", k.w.logOfKey(pl.key), o, pl.lock)
			case r.acked && r.ackedAt < pl.began:
				k.w.fail("accepted-again", "%v offset %d was handed out by a call of %v, its acknowledgement had returned at %v", k.w.logOfKey(pl.key), o, pl.began, r.ackedAt)
			}
		}
	}
	k.w.stats.Pulled++
}

// settled: what is answered as accepted is so in the log, and what is answered as extended holds since the call.
func (k *queueChecks) settled(c queues.Settle, called time.Duration, result queues.Result) {
	w := k.watch(c.Key)
	for _, item := range c.Items {
		for o := item.From; o < item.To; o++ {
			r := w.record(o)
			if refuses(result, o) {
				continue
			}
			if item.Verdict == queues.Extend {
				k.pulls[item.Lock].extended[o] = called
			}
			if item.Verdict != queues.Accept {
				continue
			}
			if !r.accepted {
				k.w.fail("lost-acknowledgement", "%v offset %d is called accepted under lock %x, the log does not have it", k.w.logOfKey(c.Key), o, item.Lock)
			}
			if !r.acked {
				r.acked, r.ackedAt = true, k.w.now
			}
		}
	}
}

func refuses(result queues.Result, o objectlog.Offset) bool {
	for _, x := range result.Refused {
		if x.From <= o && o < x.To {
			return true
		}
	}
	return false
}

// quits: what a group gives up on is to become a dead letter when that is acknowledged.
func (k *queueChecks) quits(key queues.Key, o objectlog.Offset) {
	if k.watch(key).record(o).deaths == 0 {
		k.w.fail("lost-letter", "%v offset %d is called a dead letter, the log does not have it", k.w.logOfKey(key), o)
	}
	k.quit = append(k.quit, o)
}

// whole: every record of the queues was accepted, or is where dead letters go, once.
func (k *queueChecks) whole() {
	copies, quit := map[place]int{}, map[objectlog.Offset]bool{}
	for _, l := range k.letters {
		at := place{k.w.logOfKey(l.key), l.offset}
		to, ok := k.w.check.where[l.value]
		switch {
		case !l.landed:
		case !ok || to.log != k.w.logOfPlace(l.to):
			k.w.fail("lost-letter", "%v offset %d was moved as %s, which is not there", at.log, at.offset, l.value)
		case l.key.Group == queueGroup:
			copies[at]++
		case l.key.Group == orderedGroup:
			quit[l.offset] = true
		}
	}
	for _, o := range k.quit {
		if !quit[o] {
			k.w.fail("lost-letter", "the ordered group gave up on offset %d, which is no dead letter", o)
		}
	}
	for _, key := range k.w.queueing.keys {
		at := k.w.logOfKey(key)
		for o := range k.w.check.next[at] {
			r := k.watch(key).record(o)
			if letters := copies[place{at, o}]; !r.accepted && letters != 1 || r.accepted && letters != 0 {
				k.w.fail("unprocessed", "%v offset %d: accepted %t, with %d dead letters", at, o, r.accepted, letters)
			}
		}
	}
}
