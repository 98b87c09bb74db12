package queues

import (
	"math"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func (c *Fail) apply(s *State, at metadata.Position) Result {
	q, reason := s.ownOrMake(c.Key, 0, true, at)
	if reason != ReasonNone {
		return Result{Reason: reason}
	}
	q.Policy = c.Policy
	q.change(0, c.Committed, func(p Piece) (Piece, bool) { return p, p.Phase != Buried })
	// Below the position nothing tells any more whether it was sent before, and the group does not come back to it.
	if _, known := q.At(c.Offset); known || c.Offset < c.Committed {
		return Result{}
	}
	if len(q.Pieces) >= piecesMax {
		return Result{Reason: ReasonFull}
	}
	q.add(Piece{From: c.Offset, To: c.Offset + 1, Phase: Failed, Deliveries: c.Deliveries,
		Failure: Failure{First: c.First, Last: at.Time, Cause: CauseGivenUp, Error: c.Error}})
	q.Next = max(q.Next, c.Offset+1)
	return Result{}
}

func (c *MoveOut) apply(s *State, at metadata.Position) Result {
	q := s.touch(c.Key, at)
	if q == nil {
		return Result{Reason: ReasonFull}
	}
	for _, d := range c.Items {
		if d.Producer == objectlog.NoProducer && q.route(d.To) < 0 {
			return Result{Reason: ReasonNoProducer}
		}
	}
	var result Result
	for _, d := range c.Items {
		if !q.extend(d.Offset, c.Until) {
			result.refuse(d.Offset, d.Offset+1, ReasonNotThere)
			continue
		}
		if p, ok := q.At(d.Offset); !ok || !q.movable(p) {
			result.refuse(d.Offset, d.Offset+1, ReasonNotThere)
			continue
		}
		move, ok := q.depart(d)
		if !ok {
			result.refuse(d.Offset, d.Offset+1, ReasonFull)
			continue
		}
		q.change(d.Offset, d.Offset+1, func(p Piece) (Piece, bool) {
			move.Failed = p.Phase == Failed
			p.Phase, p.Move = Moving, &move
			return p, true
		})
	}
	return result
}

// touch answers the queue for changing. A dead-letter topic's own begins with the first that is done of it.
func (s *State) touch(k Key, at metadata.Position) *Queue {
	if k.Group != "" {
		return s.own(k, at)
	}
	q, _ := s.ownOrMake(k, 0, false, at)
	return q
}

// movable: it may leave. Only a dead-letter topic's own queue gives what did not fail.
func (q *Queue) movable(p Piece) bool { return p.Phase == Failed || p.Phase == Ready && q.Group == "" }

// extend makes what a dead-letter topic's own queue holds up to an offset a piece of it. False: that is beyond the log.
func (q *Queue) extend(offset, until objectlog.Offset) bool {
	if offset < q.Next {
		return true
	}
	if q.Group != "" || offset >= until {
		return false
	}
	q.add(Piece{From: q.Next, To: offset + 1, Phase: Ready})
	q.Next = offset + 1
	return true
}

// depart gives a record its place on its route, which is made if it is not there.
func (q *Queue) depart(d Departure) (Move, bool) {
	if len(q.Pieces)+2 > piecesMax {
		return Move{}, false
	}
	i := q.route(d.To)
	if i < 0 {
		// A route that another record of this command has just displaced can't be made without a producer.
		if d.Producer == objectlog.NoProducer || len(q.Routes) >= routesMax && !q.dropRoute() {
			return Move{}, false
		}
		i = len(q.Routes)
		q.Routes = append(q.Routes, Route{To: d.To, Producer: d.Producer})
	}
	r := q.Routes[i]
	m := Move{To: d.To, Producer: r.Producer, Sequence: r.Next, Edited: d.Edited, HasEdited: d.HasEdited}
	r.Next = (r.Next + 1) & math.MaxInt32
	q.Routes = append(slices.Delete(q.Routes, i, i+1), r)
	return m, true
}

func (q *Queue) route(to Place) int {
	return slices.IndexFunc(q.Routes, func(r Route) bool { return r.To == to })
}

// dropRoute forgets the route that nothing is on its way along and that was not used for the longest time. Whoever makes it anew needs another
// producer, since what is known of this one is not known any more.
func (q *Queue) dropRoute() bool {
	for i, r := range q.Routes {
		if !slices.ContainsFunc(q.Pieces, func(p Piece) bool { return p.Phase == Moving && p.Move.Producer == r.Producer }) {
			q.Routes = slices.Delete(q.Routes, i, i+1)
			return true
		}
	}
	return false
}

func (c *Moved) apply(s *State, at metadata.Position) Result {
	q := s.own(c.Key, at)
	if q == nil {
		return Result{}
	}
	for _, a := range c.Items {
		q.change(a.Offset, a.Offset+1, func(p Piece) (Piece, bool) {
			if p.Phase != Moving || p.Move.Producer != a.Producer || p.Move.Sequence != a.Sequence {
				return p, true
			}
			return Piece{Phase: Buried}, q.Ordered
		})
	}
	return Result{}
}

func (c *Reroute) apply(s *State, at metadata.Position) Result {
	q := s.own(c.Key, at)
	if q == nil {
		return Result{}
	}
	q.Routes = slices.DeleteFunc(q.Routes, func(r Route) bool { return r.Producer == c.Producer })
	q.change(0, q.Next, func(p Piece) (Piece, bool) {
		switch {
		case p.Phase != Moving || p.Move.Producer != c.Producer:
			return p, true
		case p.Move.Failed:
			return p.dead(), true
		}
		return p.ready(), true
	})
	return Result{}
}

func (c *Discard) apply(s *State, at metadata.Position) Result {
	q := s.touch(c.Key, at)
	if q == nil {
		return Result{Reason: ReasonFull}
	}
	var result Result
	for _, r := range c.Ranges {
		if len(q.Pieces)+2 > piecesMax {
			result.refuse(r.From, r.To, ReasonFull)
			continue
		}
		q.extend(min(r.To, c.Until)-1, c.Until)
		done := r.From
		q.change(r.From, r.To, func(p Piece) (Piece, bool) {
			if p.Phase != Ready || q.Group != "" {
				return p, true
			}
			result.refuse(done, p.From, ReasonNotThere)
			done = p.To
			return p, false
		})
		result.refuse(done, r.To, ReasonNotThere)
	}
	return result
}

func (c *Trim) apply(s *State, at metadata.Position) Result {
	if q := s.own(c.Key, at); q != nil {
		q.trim(c.LogStart)
	}
	return Result{}
}
