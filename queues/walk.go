package queues

import (
	"cmp"
	"math"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// What a leader has to do is read off a queue here, so that it is the same whoever drives it.

// Departing answers the first records, at most limit, that failed and have no place in the dead-letter topic yet, but for those that skip
// answers true for.
func (q *Queue) Departing(limit int, skip func(objectlog.Offset) bool) []objectlog.Offset {
	var found []objectlog.Offset
	if q.Group == "" { // nothing of a dead-letter topic's own fails: it leaves when it is told to
		return nil
	}
	for _, p := range q.Pieces {
		if p.Phase != Failed {
			continue
		}
		for o := p.From; o < p.To; o++ {
			if len(found) == limit {
				return found
			}
			if !skip(o) {
				found = append(found, o)
			}
		}
	}
	return found
}

// Underway answers the records that are on their way, those of each route in the order in which they are to be written: each only when the one
// before it has arrived.
func (q *Queue) Underway() [][]Piece {
	var routes [][]Piece
	for _, r := range q.Routes {
		var on []Piece
		for _, p := range q.Pieces {
			if p.Phase == Moving && p.Move.Producer == r.Producer {
				on = append(on, p)
			}
		}
		if len(on) == 0 {
			continue
		}
		// Sequences begin anew behind the largest one: it is the distance to the next one that says which came first.
		left := func(p Piece) int32 { return int32(uint32(r.Next-p.Move.Sequence) & math.MaxInt32) }
		slices.SortFunc(on, func(a, b Piece) int { return cmp.Compare(left(b), left(a)) })
		routes = append(routes, on)
	}
	return routes
}

// Rest answers the ranges of [from, until) that are not finished, by offset; of a dead-letter topic's own queue those are the dead letters. The zero Queue
// stands for one that is not there: everything.
func (q *Queue) Rest(from, until objectlog.Offset) []Range {
	var ranges []Range
	add := func(r Range) {
		r.From, r.To = max(r.From, from), min(r.To, until)
		switch n := len(ranges); {
		case r.From >= r.To:
		case n > 0 && ranges[n-1].To == r.From:
			ranges[n-1].To = r.To
		default:
			ranges = append(ranges, r)
		}
	}
	for _, p := range q.Pieces {
		if p.Phase != Buried {
			add(Range{p.From, p.To})
		}
	}
	add(Range{q.Next, until})
	return ranges
}
