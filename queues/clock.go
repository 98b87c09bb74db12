package queues

import (
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Clock ends the locks and delays of the queues of one shard while it is led here. It is a pure core: what it wants done are commands, which may be
// lost or proposed twice. What is still due is due again at the next tick. A new leader gives all waits their whole time again, since it does not know
// when they began.
type Clock struct {
	clock   metadata.LeaderClock
	watched map[Key]*watched
}

// watched is what is known of one queue.
type watched struct {
	moved uint64                  // the queue's, when waits was found
	waits map[int64]time.Duration // until when, by stamp
	next  time.Duration           // the earliest of them
}

// NewClock is one that has not led yet.
func NewClock() *Clock { return &Clock{watched: map[Key]*watched{}} }

// Tick counts the time and answers what is due. It is called as metadata.LeaderClock says.
func (c *Clock) Tick(now time.Duration, epoch objectlog.Epoch, s *State) []metadata.Command {
	lived, anew := c.clock.Tick(now, epoch)
	if anew {
		clear(c.watched)
	}
	if epoch == 0 {
		return nil
	}
	var due []metadata.Command
	met := 0
	s.Queues(Key{}, func(q *Queue) bool {
		w := c.watched[q.Key]
		if w == nil {
			w = &watched{waits: map[int64]time.Duration{}}
			c.watched[q.Key] = w
		}
		met++
		if w.moved != q.moved {
			w.look(q, lived)
		}
		if len(w.waits) > 0 && w.next < lived {
			due = append(due, Elapse{Key: q.Key, Stamps: w.over(lived)}.Command())
		}
		return true
	})
	if len(c.watched) > met {
		for k := range c.watched {
			if _, ok := s.Queue(k); !ok {
				delete(c.watched, k)
			}
		}
	}
	return due
}

// look finds the waits of a queue. Those that it knows go on.
func (w *watched) look(q *Queue, lived time.Duration) {
	known := w.waits
	w.moved, w.waits, w.next = q.moved, map[int64]time.Duration{}, 0
	for _, p := range q.Pieces {
		if p.Phase != Locked && p.Phase != Delayed {
			continue
		}
		until, ok := known[p.Stamp]
		if !ok {
			until = lived + p.Wait
		}
		if w.waits[p.Stamp] = until; w.next == 0 || until < w.next {
			w.next = until
		}
	}
}

// over are the waits that have ended.
func (w *watched) over(lived time.Duration) []int64 {
	var stamps []int64
	for stamp, until := range w.waits {
		if until < lived {
			stamps = append(stamps, stamp)
		}
	}
	slices.Sort(stamps)
	return stamps
}
