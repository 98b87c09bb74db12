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
	if q.mostPieces() >= piecesMax {
		return Result{Reason: ReasonFull}
	}
	q.add(Piece{From: c.Offset, To: c.Offset + 1, Phase: Failed, Deliveries: c.Deliveries,
		Failure: Failure{First: c.First, Last: at.Time, Cause: CauseGivenUp, Error: c.Error}})
	q.Next = max(q.Next, c.Offset+1)
	return Result{}
}

// mostPieces is how many pieces an ordered queue can come to without another Fail: whatever fares alike may part.
func (q *Queue) mostPieces() int64 {
	n := q.InFlight()
	for _, p := range q.Pieces {
		if p.Phase == Buried {
			n++
		}
	}
	return n
}

func (c *MoveOut) apply(s *State, at metadata.Position) Result {
	old, known := s.Queue(c.Key)
	for _, d := range c.Items {
		if d.Producer == objectlog.NoProducer && (!known || old.route(d.To) < 0) {
			return Result{Reason: ReasonNoProducer}
		}
	}
	q, reason := s.touch(c.Key, at)
	if reason != ReasonNone {
		return Result{Reason: reason}
	}
	var result Result
	for _, d := range c.Items {
		if !q.movable(d.Offset, c.Until) {
			result.refuse(d.Offset, d.Offset+1, ReasonNotThere)
			continue
		}
		move, ok := q.depart(d)
		if !ok {
			result.refuse(d.Offset, d.Offset+1, ReasonFull)
			continue
		}
		q.extend(d.Offset + 1)
		q.change(d.Offset, d.Offset+1, func(p Piece) (Piece, bool) {
			move.Failed = p.Phase == Failed
			p.Phase, p.Move = Moving, &move
			return p, true
		})
	}
	return result
}

// touch answers the queue for changing. A dead-letter topic's own begins with the first that is done of it.
func (s *State) touch(k Key, at metadata.Position) (*Queue, Reason) {
	if k.Group == "" {
		return s.ownOrMake(k, 0, false, at)
	}
	if q := s.own(k, at); q != nil {
		return q, ReasonNone
	}
	return nil, ReasonNotThere
}

// movable: the record may leave. Only a dead-letter topic's own queue gives what did not fail, and what it never touched.
func (q *Queue) movable(o, until objectlog.Offset) bool {
	if o >= q.Next {
		return q.Group == "" && o < until
	}
	p, ok := q.At(o)
	return ok && (p.Phase == Failed || p.Phase == Ready && q.Group == "")
}

// extend makes what a dead-letter topic's own queue holds up to an offset a piece of it.
func (q *Queue) extend(to objectlog.Offset) {
	if q.Group == "" && q.Next < to {
		q.add(Piece{From: q.Next, To: to, Phase: Ready})
		q.Next = to
	}
}

// room says whether there may be so many more pieces. Those that stay get half of the room: the rest is for records that leave one behind the other,
// which come and go.
func (q *Queue) room(more int, stay bool) bool {
	limit := piecesMax
	if stay {
		limit /= 2
	}
	return more == 0 || len(q.Pieces)+more <= limit
}

// parts counts the pieces that taking [from, to) out leaves in the place of one.
func (q *Queue) parts(from, to objectlog.Offset) int {
	n := 0
	if p, ok := q.At(from); ok && p.From < from || !ok && from > q.Next {
		n++
	}
	if p, ok := q.At(to - 1); ok && p.To > to {
		n++
	}
	return n
}

// depart gives a record its place on its route, which is made if it is not there.
func (q *Queue) depart(d Departure) (Move, bool) {
	// A group's records were counted when they came.
	if q.Group == "" {
		more := q.parts(d.Offset, d.Offset+1)
		stay := more == 2 || d.Offset > q.Next
		if d.Offset >= q.Next {
			more++
		}
		if !q.room(more, stay) {
			return Move{}, false
		}
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
	q, reason := s.touch(c.Key, at)
	if reason != ReasonNone {
		return Result{Reason: reason}
	}
	var result Result
	for _, r := range c.Ranges {
		to := min(r.To, c.Until)
		if r.From >= to {
			result.refuse(r.From, r.To, ReasonNotThere)
			continue
		}
		if more := q.parts(r.From, to); (more == 2 || r.From > q.Next) && !q.room(1, true) {
			result.refuse(r.From, r.To, ReasonFull)
			continue
		}
		q.extend(to)
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

func (c *Trim) apply(s *State, _ metadata.Position) Result {
	if q := s.own(c.Key, metadata.Position{}); q != nil { // retention is no use of a queue
		q.trim(c.LogStart)
	}
	return Result{}
}
