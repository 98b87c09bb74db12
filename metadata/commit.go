package metadata

import (
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// commit judges the batches of a commit, one after the other, unless the commit as a whole was judged before or is refused.
func (s *State) commit(at Position, c *commit) CommitResult {
	b := s.ownBoot(c.ordinal)
	switch {
	case b == nil: // retired
		return CommitResult{Unknown: true}
	case b.id.IsZero():
		b.id = c.segment.Boot
	case b.id != c.segment.Boot: // Prepare refuses it; another command of the same entry may have come between
		return CommitResult{Unknown: true}
	}
	if c.segment.Counter <= b.decided {
		old, ok := b.result(c.segment.Counter)
		old.Unknown = !ok
		return old
	}
	if c.segment.Counter < b.fenced {
		return CommitResult{Unknown: true}
	}
	j := judgement{state: s, at: at, segment: c.segment}
	n := 0
	for i := range c.runs {
		n += len(c.runs[i].rows)
	}
	j.results = make([]BatchResult, 0, n)
	for i := range c.runs {
		j.run(&c.runs[i])
	}
	if j.accepted > 0 {
		s.segments.own(j.number, s.gen).rows = j.accepted
	}
	b.decide(c.segment.Counter, j.results)
	return CommitResult{Batches: j.results}
}

// judgement is the judging of one commit.
type judgement struct {
	state    *State
	at       Position
	segment  objectlog.SegmentName
	number   uint32 // of the segment, once a batch is accepted
	accepted uint32
	results  []BatchResult

	topic     int // in state.topics: where the last run was, and the next one likely is
	partition int // in its partitions
}

func (j *judgement) run(r *run) {
	known := j.locate(r)
	start := uint32(r.start)
	for i := range r.rows {
		w := &r.rows[i]
		b := BatchResult{Base: objectlog.NoOffset, Reason: ReasonUnknownTopic}
		if known {
			b = j.batch(w, start)
		}
		j.results = append(j.results, b)
		start += uint32(w.Bytes)
	}
}

// locate finds the run's partition.
func (j *judgement) locate(r *run) bool {
	s := j.state
	number := r.number
	if number == 0 {
		var ok bool
		if number, ok = s.numbers[r.topic]; !ok {
			return false
		}
	}
	if j.topic >= len(s.topics) || s.topics[j.topic].number != number {
		i, ok := s.findTopic(number)
		if !ok {
			return false
		}
		j.topic, j.partition = i, -1
	}
	// Runs are sorted, so the next partition is nearly always the next one.
	t := s.topics[j.topic]
	if i := j.partition + 1; i < len(t.partitions) && t.partitions[i].number == r.partition {
		j.partition = i
		return true
	}
	i, ok := t.find(r.partition)
	if ok {
		j.partition = i
	}
	return ok
}

// batch judges one batch of the located partition: producer first, so that a re-sent batch is known as a duplicate
// whatever it expected, then the expected offset.
func (j *judgement) batch(w *objectlog.BatchRow, start uint32) BatchResult {
	s := j.state
	p := s.topics[j.topic].partitions[j.partition]
	if w.ProducerID != objectlog.NoProducer {
		known := p.producer(w.ProducerID)
		if b, ok := known.judge(w); !ok {
			return b
		}
		if known == nil && s.producers >= s.cfg.ProducersMax {
			return BatchResult{Base: objectlog.NoOffset, Reason: ReasonProducerLimit}
		}
	}
	if w.Expected != objectlog.NoOffset && w.Expected != p.next {
		return BatchResult{Base: p.next, Reason: ReasonOffsetMismatch}
	}
	if j.accepted == 0 {
		j.number = s.segments.add(j.segment, j.at.Epoch, s.gen)
	}
	j.accepted++

	// The offset of a batch is assigned here and nowhere else.
	p = s.ownPartition(j.topic, j.partition)
	base := p.next
	p.next += objectlog.Offset(w.Records)
	p.storedBytes += int64(w.Bytes)
	p.content.append(newRow(w, base, j.number, start), p.next)

	if w.ProducerID != objectlog.NoProducer {
		s.ownProducer(p.content, w.ProducerID).remember(w, base, j.at.Time)
	}
	return BatchResult{Base: base}
}

// prepareCommit rewrites a commit with its rows, and refuses what must not enter an entry.
func (s *State) prepareCommit(c Command) (Command, error) {
	k, _, err := decodeCommit(c, nil, nil)
	if err != nil {
		return Command{}, fmt.Errorf("prepare commit: %w", err)
	}
	if i, ok := s.findBoot(k.ordinal); ok && !s.boots[i].id.IsZero() && s.boots[i].id != k.segment.Boot {
		return Command{}, fmt.Errorf("prepare commit: boot ordinal %d is %s's, not %s's", k.ordinal, s.boots[i].id, k.segment.Boot)
	}
	if c.Kind == kindCommitRows {
		return c, nil
	}
	body := appendCommitHead(make([]byte, 0, 64+24*len(k.runs)), k.ordinal, k.segment)
	body = appendRuns(body, k.runs, func(id objectlog.UUID) uint32 { return s.numbers[id] })
	return Command{Kind: kindCommitRows, Body: body}, nil
}
