package queues

import (
	"errors"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// State is the Machine of the queues of one shard.
//
// Views share its queues. A queue is copied before its first change after a view, and then is the state's own until the next.
type State struct {
	gen    uint32   // rises with every view
	queues []*queue // by key
	// moves counts the changes of queues. It is this replica's own count and not part of its state.
	moves uint64
}

// queue is a Queue with the number of the view it was copied behind.
type queue struct {
	Queue
	gen uint32
}

// NewState is the state before the first entry.
func NewState() *State { return &State{gen: 1} }

var errUnknownKind = errors.New("not a kind of this version")

func decodeOperation(c metadata.Command) (operation, error) {
	op, ok := operationOf(c.Kind)
	if !ok {
		return nil, errUnknownKind
	}
	r := reader{wire.Reader{B: c.Body}}
	op.decode(&r)
	return op, r.End()
}

// Prepare implements metadata.Machine.
func (s *State) Prepare(c metadata.Command) (short metadata.Command, err error) {
	op, err := decodeOperation(c)
	if err == nil {
		err = op.check()
	}
	if err != nil {
		return metadata.Command{}, fmt.Errorf("prepare command of kind %d: %w", c.Kind, err)
	}
	return metadata.Command{Kind: c.Kind, Body: c.Body}, nil
}

// Reference implements metadata.Machine: queues refer to no footers.
func (s *State) Reference(c metadata.Command) (ref metadata.FooterRef, ok bool, err error) {
	if _, known := operationOf(c.Kind); !known {
		err = fmt.Errorf("reference of command of kind %d: %w", c.Kind, errUnknownKind)
	}
	return metadata.FooterRef{}, false, err
}

// Apply implements metadata.Machine. Its results are of type Result.
func (s *State) Apply(at metadata.Position, c metadata.Command) (result any, err error) {
	op, err := decodeOperation(c)
	if err != nil {
		return nil, fmt.Errorf("apply command of kind %d at %d: %w", c.Kind, at.Seq, err)
	}
	return op.apply(s, at), nil
}

// Changes is a number that is another one after every change of a queue, as long as this State lives.
func (s *State) Changes() uint64 { return s.moves }

// Queue finds a queue. It may be read until the next Apply.
func (s *State) Queue(k Key) (*Queue, bool) {
	i, ok := s.find(k)
	if !ok {
		return nil, false
	}
	return &s.queues[i].Queue, true
}

// Queues calls f with the queues from a key on, in order, until it answers false. They may be read until the next Apply.
func (s *State) Queues(from Key, f func(*Queue) bool) {
	for i, _ := s.find(from); i < len(s.queues) && f(&s.queues[i].Queue); i++ {
	}
}

func (s *State) find(k Key) (int, bool) {
	return slices.BinarySearchFunc(s.queues, k, func(q *queue, k Key) int { return q.Key.Compare(k) })
}

// own answers a queue for changing; nil: it is not there.
func (s *State) own(k Key, at metadata.Position) *Queue {
	i, ok := s.find(k)
	if !ok {
		return nil
	}
	return s.ownAt(i, at)
}

func (s *State) ownAt(i int, at metadata.Position) *Queue {
	q := s.queues[i]
	if q.gen != s.gen {
		q = &queue{q.Queue, s.gen}
		q.Pieces, q.Routes = slices.Clone(q.Pieces), slices.Clone(q.Routes)
		s.queues[i] = q
	}
	s.moves++
	q.moved, q.Used = s.moves, max(q.Used, at.Time)
	return &q.Queue
}

// ownOrMake answers a queue for changing, a fresh one if it is not there, which begins at start; nil: there is no room for it.
func (s *State) ownOrMake(k Key, start objectlog.Offset, ordered bool, at metadata.Position) (*Queue, Reason) {
	i, ok := s.find(k)
	switch {
	case !ok && len(s.queues) >= queuesMax:
		return nil, ReasonFull
	case !ok:
		s.queues = slices.Insert(s.queues, i, &queue{Queue{Key: k, Ordered: ordered, Next: start}, s.gen})
	case s.queues[i].Ordered != ordered:
		return nil, ReasonOtherMode
	}
	return s.ownAt(i, at), ReasonNone
}

// idle: nothing is in anybody's hands, waits or is on its way.
func (q *Queue) idle() bool {
	return !slices.ContainsFunc(q.Pieces, func(p Piece) bool { return p.Phase != Ready && p.Phase != Buried })
}

func (c *DropTopic) apply(s *State, _ metadata.Position) Result {
	s.moves++
	s.queues = slices.DeleteFunc(s.queues, func(q *queue) bool { return q.Topic == c.Topic })
	return Result{}
}

func (c *Expire) apply(s *State, _ metadata.Position) Result {
	s.moves++
	s.queues = slices.DeleteFunc(s.queues, func(q *queue) bool {
		return q.Group != "" && q.Used < c.Before && q.idle()
	})
	return Result{}
}
