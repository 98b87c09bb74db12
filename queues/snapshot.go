package queues

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// A snapshot is a version byte and the queues by key, each
//
//	key, ordered (1), next, policy, used, stamps
//	routes, least used first: place, producer, next
//	pieces by offset: from - end of the one before, records, phase (1), deliveries, then
//	  of Locked: lock, stamp, wait; of Delayed: stamp, wait
//	  of Moving: place, producer, sequence, failed (1), edited
//	  cause (1), and unless it is none: first, last, error
//
// in the writing of package wire.
const snapshotVersion = 1

// view is the State at one moment. Nothing in it is changed.
type view []*queue

// View implements metadata.Machine. It costs a pointer per queue.
func (s *State) View() metadata.View {
	s.gen++
	return view(slices.Clone(s.queues))
}

// Encode implements metadata.View.
func (v view) Encode(dst []byte) []byte {
	dst = wire.AppendInt(append(dst, snapshotVersion), len(v))
	for _, q := range v {
		dst = wire.AppendInt(append(appendKey(dst, q.Key), bit(q.Ordered)), q.Next)
		dst = binary.AppendVarint(appendPolicy(dst, q.Policy), int64(q.Used))
		dst = wire.AppendInt(wire.AppendInt(dst, q.stamps), len(q.Routes))
		for _, r := range q.Routes {
			dst = wire.AppendInt(wire.AppendInt(appendPlace(dst, r.To), r.Producer), r.Next)
		}
		dst = wire.AppendInt(dst, len(q.Pieces))
		last := objectlog.Offset(0)
		for i := range q.Pieces {
			dst = appendPiece(dst, last, &q.Pieces[i])
			last = q.Pieces[i].To
		}
	}
	return dst
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendPiece(b []byte, last objectlog.Offset, p *Piece) []byte {
	b = wire.AppendInt(wire.AppendInt(b, p.From-last), p.To-p.From)
	b = wire.AppendInt(append(b, byte(p.Phase)), p.Deliveries)
	switch p.Phase {
	case Locked:
		b = binary.BigEndian.AppendUint64(b, p.Lock)
		b = wire.AppendInt(wire.AppendInt(b, p.Stamp), p.Wait.Milliseconds())
	case Delayed:
		b = wire.AppendInt(wire.AppendInt(b, p.Stamp), p.Wait.Milliseconds())
	case Moving:
		b = wire.AppendInt(wire.AppendInt(appendPlace(b, p.Move.To), p.Move.Producer), p.Move.Sequence)
		b = append(b, bit(p.Move.Failed), bit(p.Move.HasEdited))
		if p.Move.HasEdited {
			b = wire.AppendString(b, string(p.Move.Edited))
		}
	}
	b = append(b, byte(p.Failure.Cause))
	if p.Failure.Cause != CauseNone {
		b = binary.AppendVarint(binary.AppendVarint(b, int64(p.Failure.First)), int64(p.Failure.Last))
		b = wire.AppendString(b, p.Failure.Error)
	}
	return b
}

// Restore implements metadata.Machine. What it does not accept leaves the state as it was.
func (s *State) Restore(b []byte) error {
	r := reader{wire.Reader{B: b}}
	if version := r.Byte("version"); r.Err == nil && version != snapshotVersion {
		return fmt.Errorf("restore queues: version %d, this program knows %d", version, snapshotVersion)
	}
	fresh := NewState()
	for i := range r.Count("queues", 26) {
		q := r.snapshotQueue()
		if i > 0 && r.Err == nil && fresh.queues[i-1].Key.Compare(q.Key) >= 0 {
			r.Fail("queue %s/%d %q: out of order", q.Topic, q.Partition, q.Group)
		}
		if r.Err != nil {
			break
		}
		fresh.queues = append(fresh.queues, &queue{q, fresh.gen})
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("restore queues: %w", err)
	}
	fresh.moves = s.moves
	for _, q := range fresh.queues {
		fresh.moves++
		q.moved = fresh.moves
	}
	*s = *fresh
	return nil
}

func (r *reader) snapshotQueue() Queue {
	q := Queue{Key: r.key(), Ordered: r.bit("ordered"), Next: r.offset("next"), Policy: r.policy()}
	q.Used, q.stamps = objectlog.Timestamp(r.Varint("used")), int64(r.Bounded("stamps", offsetMax))
	for range r.count("routes", 19, routesMax) {
		q.Routes = append(q.Routes, Route{To: r.place(), Producer: objectlog.ProducerID(r.Bounded("producer", offsetMax)), Next: int32(r.Bounded("next", math.MaxInt32))})
	}
	last := objectlog.Offset(0)
	for range r.count("pieces", 5, piecesMax) {
		p := r.piece(last)
		if r.Err != nil {
			break
		}
		q.Pieces = append(q.Pieces, p)
		last = p.To
	}
	if err := q.sound(); r.Err == nil && err != nil {
		r.Fail("queue %s/%d %q: %v", q.Topic, q.Partition, q.Group, err)
	}
	return q
}

// count reads the length of a list that is bounded by more than the input.
func (r *reader) count(what string, bytesMin, most int) int {
	n := r.Count(what, bytesMin)
	if n > most {
		r.Fail("%s: %d is above %d", what, n, most)
		return 0
	}
	return n
}

// sound says what no commands would have led to.
func (q *Queue) sound() error {
	if q.Ordered && q.Group == "" {
		return errors.New("an ordered queue of no group")
	}
	for i, r := range q.Routes {
		if q.route(r.To) < i {
			return fmt.Errorf("two routes to %s/%d", r.To.Topic, r.To.Partition)
		}
	}
	for i, p := range q.Pieces {
		if p.From >= p.To || p.To > q.Next || i > 0 && (p.From < q.Pieces[i-1].To || q.Pieces[i-1].joins(p)) || !q.may(p) {
			return fmt.Errorf("piece [%d, %d) in phase %d behind %d deliveries, of [0, %d)", p.From, p.To, p.Phase, p.Deliveries, q.Next)
		}
	}
	return nil
}

// may says whether a piece can be in this queue.
func (q *Queue) may(p Piece) bool {
	delivered := p.Deliveries > 0 || q.Group == ""
	switch p.Phase {
	case Ready:
		return !q.Ordered
	case Locked:
		return !q.Ordered && p.Deliveries > 0 && p.Lock != 0 && p.Stamp > 0 && p.Stamp <= q.stamps
	case Delayed:
		return !q.Ordered && delivered && p.Stamp > 0 && p.Stamp <= q.stamps
	case Failed:
		return delivered
	case Moving:
		i := q.route(p.Move.To)
		return p.To == p.From+1 && i >= 0 && q.Routes[i].Producer == p.Move.Producer && q.Routes[i].Next != p.Move.Sequence && p.Move.Failed == (q.Group != "")
	}
	return q.Ordered && cut(p, 0, 0) == Piece{Phase: Buried}
}

func (r *reader) piece(last objectlog.Offset) Piece {
	p := Piece{From: last + objectlog.Offset(r.Bounded("from", offsetMax-uint64(last)))}
	p.To = p.From + objectlog.Offset(r.Bounded("records", offsetMax-uint64(p.From)))
	p.Phase, p.Deliveries = Phase(r.Byte("phase")), int32(r.Bounded("deliveries", math.MaxInt32))
	switch p.Phase {
	case Ready, Failed, Buried:
	case Locked:
		p.Lock = r.lock()
		p.Stamp, p.Wait = int64(r.Bounded("stamp", offsetMax)), r.wait()
	case Delayed:
		p.Stamp, p.Wait = int64(r.Bounded("stamp", offsetMax)), r.wait()
	case Moving:
		p.Move = &Move{To: r.place(), Producer: objectlog.ProducerID(r.Bounded("producer", offsetMax)), Sequence: int32(r.Bounded("sequence", math.MaxInt32)), Failed: r.bit("failed")}
		p.Move.Edited, p.Move.HasEdited = r.edited()
	default:
		r.Fail("phase %d", p.Phase)
	}
	if p.Failure.Cause = Cause(r.Byte("cause")); p.Failure.Cause != CauseNone {
		if p.Failure.Cause > CauseGivenUp {
			r.Fail("cause %d", p.Failure.Cause)
		}
		p.Failure.First, p.Failure.Last = objectlog.Timestamp(r.Varint("first")), objectlog.Timestamp(r.Varint("last"))
		p.Failure.Error = r.String("error", ErrorBytesMax)
	}
	return p
}

func (r *reader) bit(what string) bool {
	b := r.Byte(what)
	if b > 1 {
		r.Fail("%s: %d", what, b)
	}
	return b == 1
}
