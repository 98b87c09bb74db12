package write

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// upload starts the segment's upload if it is due. An upload whose outcome is unknown is repeated until it succeeds or
// the segment is given up; nothing else can tell whether the object is there.
func (c *Core) upload(now time.Duration, s *segment) {
	if s.uploading || s.stored || s.givenUp || now < s.retryAt {
		return
	}
	s.uploading = true
	c.uploads++
	c.do(Upload{Counter: s.counter, Batches: s.batches, Encoded: s.encoded})
}

func (c *Core) uploaded(now time.Duration, e Uploaded) {
	s := c.find(e.Counter)
	if s == nil || !s.uploading {
		return
	}
	s.uploading = false
	c.uploads--
	s.encoded = e.Encoded
	switch {
	case s.givenUp:
		c.forget(s)
	case errors.Is(e.Err, ErrNotWritten):
		c.giveUp(s, ErrNotWritten)
	case e.Err != nil:
		s.retryAt, s.tries, s.cause = now+backoff(s.tries), s.tries+1, e.Err
		c.do(Wake{At: s.retryAt})
	default:
		c.stored(now, s)
	}
}

// stored makes the segment ready to be committed in every shard it touches.
func (c *Core) stored(now time.Duration, s *segment) {
	s.stored = true
	size := int64(len(s.encoded.Body))
	s.encoded.Body = nil // the object has it now
	if s.bytes > 0 && size > 0 {
		// A quarter of the way to what this segment came to: one odd segment does not swing the next one's size.
		r := min(1, max(0.1, float64(size)/float64(s.bytes)))
		c.ratio += (r - c.ratio) / 4
	}
	for _, f := range s.encoded.failed {
		c.answer(f.batch, f.err, nil)
	}
	for i := range c.shards {
		q := &c.shards[i]
		if !slices.Contains(q.waiting, s) {
			continue
		}
		if _, ok := s.encoded.section(objectlog.Shard(i)); !ok {
			c.leave(s, q) // no batch for this shard could be encoded
		}
		c.propose(now, objectlog.Shard(i))
	}
}

// propose sends what is ready, from the lowest counter on: a segment that is not stored yet holds back those behind it,
// since seal order is commit order. One proposal is in flight per shard.
func (c *Core) propose(now time.Duration, shard objectlog.Shard) {
	q := &c.shards[shard]
	if q.inFlight || now < q.retryAt {
		return
	}
	q.retryAt = 0
	var commits []Commit
	for _, s := range q.waiting {
		if !s.stored || len(commits) == undecidedMax {
			break
		}
		section, _ := s.encoded.section(shard)
		commits = append(commits, Commit{Counter: s.counter, Name: s.encoded.Name, Section: section})
	}
	if len(commits) == 0 {
		return
	}
	q.inFlight = true
	q.proposed = slices.Clone(q.waiting[:len(commits)])
	c.do(Propose{Shard: shard, Commits: commits})
}

func (c *Core) decided(now time.Duration, e Decided) {
	q := &c.shards[e.Shard]
	proposed := q.proposed
	q.proposed, q.inFlight = nil, false
	if len(e.Results) != len(proposed) {
		// Nothing is known. The same commits are sent again: by boot and counter they are decided once.
		q.retryAt, q.tries = now+backoff(q.tries), q.tries+1
		c.do(Wake{At: q.retryAt})
		return
	}
	q.tries = 0
	for i, s := range proposed {
		if s.givenUp {
			continue // already answered as unknown
		}
		// DURABLE from here on: the accepted append is in the shard log and the segment in the bucket. This is the only
		// place from which a batch is acknowledged.
		c.acknowledge(s, e.Shard, e.Results[i])
		c.leave(s, q)
	}
	c.propose(now, e.Shard)
}

// acknowledge answers every batch that the segment has for the shard.
func (c *Core) acknowledge(s *segment, shard objectlog.Shard, result any) {
	r, ok := result.(metadata.CommitResult)
	rows := s.encoded.rowsOf(shard)
	if !ok || r.Unknown || len(r.Batches) != len(rows) {
		err, refused := result.(error)
		if !refused {
			err = ErrUnknown
		}
		for _, b := range s.batches {
			if b.Shard == shard {
				c.answer(b, err, nil)
			}
		}
		return
	}
	c.appended(rows, r.Batches)
	parts := make(map[*Batch][]Part, len(rows))
	for i, owners := range rows {
		for _, o := range owners {
			p := Part{First: o.first, Records: o.records, Base: r.Batches[i].Base, Reason: r.Batches[i].Reason,
				Duplicate: r.Batches[i].Duplicate, AppendTime: o.stamp}
			if p.Reason == metadata.ReasonNone {
				p.Base += objectlog.Offset(o.delta)
			}
			parts[o.batch] = append(parts[o.batch], p)
		}
	}
	for _, b := range s.batches {
		if b.Shard == shard {
			c.answer(b, nil, parts[b])
		}
	}
}

// appended tells how many bytes came into the log, by topic. What only repeats earlier batches did not.
func (c *Core) appended(rows [][]owner, results []metadata.BatchResult) {
	var sum Appended // of one topic: its rows are neighbours
	for i, owners := range rows {
		if results[i].Reason != metadata.ReasonNone || results[i].Duplicate {
			continue
		}
		if t := owners[0].batch.Topic; t != sum.Topic {
			if sum.Bytes > 0 {
				c.do(sum)
			}
			sum = Appended{Topic: t}
		}
		sum.Bytes += int64(owners[0].stored)
	}
	if sum.Bytes > 0 {
		c.do(sum)
	}
}

func (c *Core) answer(b *Batch, err error, parts []Part) {
	if b.answered {
		return
	}
	b.answered = true
	c.do(Answer{Batch: b, Err: err, Parts: parts})
}

// leave takes the segment out of one shard's queue, and forgets it after the last.
func (c *Core) leave(s *segment, q *queue) {
	q.waiting = slices.DeleteFunc(q.waiting, func(w *segment) bool { return w == s })
	if s.undecided--; s.undecided == 0 {
		c.forget(s)
	}
}

// forget releases the segment's memory.
func (c *Core) forget(s *segment) {
	c.segments = slices.DeleteFunc(c.segments, func(w *segment) bool { return w == s })
	c.release(s.bytes)
}

// giveUp answers what is undecided of the segment and lets those behind it go on. Committing the next counter is what
// makes it final: the state refuses the given-up one from then on.
func (c *Core) giveUp(s *segment, err error) {
	s.givenUp = true
	for _, b := range s.batches {
		c.answer(b, err, nil)
	}
	for i := range c.shards {
		q := &c.shards[i]
		q.waiting = slices.DeleteFunc(q.waiting, func(w *segment) bool { return w == s })
	}
	if !s.uploading { // else its memory is in use until the upload ends
		c.forget(s)
	}
}

// expire answers what has waited too long.
func (c *Core) expire(now time.Duration) {
	n, bytes := 0, int64(0)
	for n < len(c.open) && c.open[n].deadline <= now {
		c.answer(c.open[n], ErrNotWritten, nil) // never sealed, so never uploaded
		bytes += c.open[n].Bytes
		n++
	}
	c.open = c.open[n:]
	c.openBytes -= bytes
	c.release(bytes)
	for _, s := range slices.Clone(c.segments) {
		if s.deadline <= now && !s.givenUp {
			c.giveUp(s, s.unknown())
		}
	}
}

// unknown is why nothing is known of the segment's batches.
func (s *segment) unknown() error {
	if s.stored || s.cause == nil {
		return ErrUnknown
	}
	return undecided{fmt.Errorf("the store did not confirm the segment: %w", s.cause)}
}

// wakeForAll asks for the next tick that anything waits for.
func (c *Core) wakeForAll() {
	at := time.Duration(1<<63 - 1)
	if len(c.open) > 0 {
		at = c.open[0].deadline
	}
	for _, s := range c.segments {
		if !s.givenUp {
			at = min(at, s.deadline)
		}
		if !s.uploading && !s.stored {
			at = min(at, s.retryAt)
		}
	}
	for i := range c.shards {
		if q := &c.shards[i]; len(q.waiting) > 0 && !q.inFlight && q.retryAt > 0 {
			at = min(at, q.retryAt)
		}
	}
	if at < 1<<63-1 {
		c.do(Wake{At: at})
	}
}

// find answers the segment with the counter; it is given up or undecided.
func (c *Core) find(counter uint64) *segment {
	i, ok := slices.BinarySearchFunc(c.segments, counter, func(s *segment, n uint64) int {
		return int(int64(s.counter) - int64(n))
	})
	if !ok {
		return nil
	}
	return c.segments[i]
}

func backoff(tries int) time.Duration { return min(retryMax, retryFirst<<min(tries, 10)) }
