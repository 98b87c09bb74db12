package queues

import (
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func (c *Acquire) apply(s *State, at metadata.Position) Result {
	q, reason := s.ownOrMake(c.Key, max(c.Start, c.LogStart), false, at)
	if reason != ReasonNone {
		return Result{Reason: reason}
	}
	q.Policy = c.Policy
	q.trim(c.LogStart)
	if locked := q.lockedUnder(c.Lock); len(locked) > 0 {
		return Result{Acquired: locked}
	}
	stamp := q.stamp()
	until, left := q.again(objectlog.Offset(c.Limit))
	q.change(0, until, func(p Piece) (Piece, bool) {
		if p.Phase == Ready {
			p.Phase, p.Lock, p.Wait, p.Stamp = Locked, c.Lock, c.Wait, stamp
			p.Deliveries++
		}
		return p, true
	})
	if fresh := min(left, c.Until-q.Next, objectlog.Offset(c.Window)-objectlog.Offset(q.InFlight())); fresh > 0 && len(q.Pieces) < piecesMax {
		q.add(Piece{From: q.Next, To: q.Next + fresh, Phase: Locked, Lock: c.Lock, Wait: c.Wait, Stamp: stamp, Deliveries: 1})
		q.Next += fresh
	}
	return Result{Acquired: q.lockedUnder(c.Lock)}
}

func (q *Queue) lockedUnder(lock uint64) []Acquired {
	var locked []Acquired
	for _, p := range q.Pieces {
		if p.Phase == Locked && p.Lock == lock {
			locked = append(locked, Acquired{p.From, p.To, p.Deliveries})
		}
	}
	return locked
}

// again answers how far the first records reach that are to be handed out again, and how many are missing to the limit.
func (q *Queue) again(limit objectlog.Offset) (until, left objectlog.Offset) {
	for i := 0; i < len(q.Pieces) && limit > 0; i++ {
		if p := q.Pieces[i]; p.Phase == Ready {
			until = min(p.To, p.From+limit)
			limit -= until - p.From
		}
	}
	return until, limit
}

func (c *Settle) apply(s *State, at metadata.Position) Result {
	var result Result
	q := s.own(c.Key, at)
	for _, item := range c.Items {
		settled := item.From // up to which nothing was refused without being noted
		if q != nil {
			var stamp int64
			if item.Wait > 0 {
				stamp = q.stamp() // one for all of them: they end together
			}
			q.change(item.From, item.To, func(p Piece) (Piece, bool) {
				if p.Phase != Locked || p.Lock != item.Lock {
					return p, true
				}
				result.refuse(settled, p.From, ReasonNotLocked)
				settled = p.To
				return q.settle(p, &item, stamp, at.Time)
			})
		}
		result.refuse(settled, item.To, ReasonNotLocked)
	}
	slices.SortStableFunc(result.Refused, func(a, b Refusal) int { return int(a.From - b.From) })
	return result
}

// refuse notes a range of which nothing was done.
func (r *Result) refuse(from, to objectlog.Offset, why Reason) {
	if from < to {
		r.Refused = append(r.Refused, Refusal{from, to, why})
	}
}

func (q *Queue) settle(p Piece, item *Settlement, stamp int64, now objectlog.Timestamp) (Piece, bool) {
	switch item.Verdict {
	case Accept:
		return p, false
	case Extend:
		p.Wait, p.Stamp = item.Wait, stamp
		return p, true
	case Return:
		p.Deliveries--
		return p.ready(), true
	case Reject:
		return p.failed(CauseRejected, item.Error, now).dead(), true
	}
	p = p.failed(CauseReleased, item.Error, now)
	if p.Deliveries >= q.Policy.Deliveries {
		return p.dead(), true
	}
	if item.Wait > 0 {
		p.Phase, p.Lock, p.Wait, p.Stamp = Delayed, 0, item.Wait, stamp
		return p, true
	}
	return p.ready(), true
}

func (c *Elapse) apply(s *State, at metadata.Position) Result {
	q := s.own(c.Key, at)
	if q == nil {
		return Result{}
	}
	var result Result
	q.change(0, q.Next, func(p Piece) (Piece, bool) {
		if _, over := slices.BinarySearch(c.Stamps, p.Stamp); !over || p.Phase != Locked && p.Phase != Delayed {
			return p, true
		}
		if p.Phase == Delayed {
			return p.ready(), true
		}
		result.Expired += int64(p.To - p.From)
		p = p.failed(CauseExpired, "", at.Time)
		if p.Deliveries >= q.Policy.Deliveries {
			return p.dead(), true
		}
		return p.ready(), true
	})
	return result
}

// ready is the piece to be handed out again.
func (p Piece) ready() Piece {
	p.Phase, p.Lock, p.Wait, p.Stamp, p.Move = Ready, 0, 0, 0, nil
	return p
}

// dead is the piece to become a dead letter.
func (p Piece) dead() Piece {
	p = p.ready()
	p.Phase = Failed
	return p
}

// failed notes a failure.
func (p Piece) failed(cause Cause, said string, now objectlog.Timestamp) Piece {
	if p.Failure.Cause == CauseNone {
		p.Failure.First = now
	}
	p.Failure.Last, p.Failure.Cause, p.Failure.Error = now, cause, said
	return p
}
