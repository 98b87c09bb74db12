package queues

import (
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// change calls f with every part of a piece that lies in [from, to), in order, and puts what it answers in the part's place; keep false: the part is
// finished. Offsets of what it answers are those of the part.
func (q *Queue) change(from, to objectlog.Offset, f func(part Piece) (changed Piece, keep bool)) {
	first := q.after(from)
	last := first
	var few [4]Piece
	fresh := few[:0]
	for ; last < len(q.Pieces) && q.Pieces[last].From < to; last++ {
		p := q.Pieces[last]
		if p.From < from {
			fresh = append(fresh, cut(p, p.From, from))
		}
		part := cut(p, max(p.From, from), min(p.To, to))
		if changed, keep := f(part); keep {
			fresh = append(fresh, cut(changed, part.From, part.To))
		}
		if p.To > to {
			fresh = append(fresh, cut(p, to, p.To))
		}
	}
	q.replace(first, last, fresh)
}

func cut(p Piece, from, to objectlog.Offset) Piece {
	p.From, p.To = from, to
	return p
}

// replace puts pieces in the place of those in [first, last), and joins what fares alike.
func (q *Queue) replace(first, last int, fresh []Piece) {
	joined := fresh[:0]
	for _, p := range fresh {
		if n := len(joined); n > 0 && joined[n-1].joins(p) {
			joined[n-1].To = p.To
			continue
		}
		joined = append(joined, p)
	}
	// Then with those beside them. What lies between two that join is empty.
	if n := len(joined); n > 0 && last < len(q.Pieces) && joined[n-1].joins(q.Pieces[last]) {
		joined[n-1].To = q.Pieces[last].To
		last++
	}
	if len(joined) > 0 && first > 0 && q.Pieces[first-1].joins(joined[0]) {
		joined[0].From = q.Pieces[first-1].From
		first--
	}
	if less := last - first - len(joined); less > 0 && first < len(q.Pieces)-last {
		// The shorter side moves: what is finished is mostly in front.
		copy(q.Pieces[less:], q.Pieces[:first])
		copy(q.Pieces[first+less:], joined)
		clear(q.Pieces[:less])
		q.Pieces = q.Pieces[less:]
		return
	}
	q.Pieces = slices.Replace(q.Pieces, first, last, joined...)
}

func (p Piece) joins(next Piece) bool {
	return p.To == next.From && p.Phase != Moving && cut(p, 0, 0) == cut(next, 0, 0)
}

// add enters a piece that overlaps no other.
func (q *Queue) add(p Piece) {
	i := q.after(p.From)
	q.replace(i, i, []Piece{p})
}

// stamp names a new wait.
func (q *Queue) stamp() int64 {
	q.stamps++
	return q.stamps
}

// trim finishes what lies below the log's start and nobody has in hand. A record on its way keeps its place: a gap in the sequences of its route would let
// whoever still has it in hand, and writes it, open the way for the ones behind it, which have gone another by then.
func (q *Queue) trim(logStart objectlog.Offset) {
	if len(q.Pieces) > 0 && q.Pieces[0].From < logStart {
		q.change(0, logStart, func(p Piece) (Piece, bool) { return p, p.Phase == Locked || p.Phase == Moving })
	}
	q.Next = max(q.Next, logStart)
}
