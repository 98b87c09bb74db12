package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// letter is a record on its way, as it is to be written.
type letter struct {
	piece  queues.Piece
	record objectlog.Record
}

// routeSent is what became of the records of one route, in order: so many arrived, and the next one did not for a reason.
type routeSent struct {
	letters []letter
	arrived int
	err     error
}

func (s *routeSent) hold(k queues.Key) hold {
	return hold{k, s.letters[0].piece.Move.Producer, objectlog.NoOffset}
}

// isGap: the partition does not know the sequence before, or belongs to somebody else's epoch. The record was not written, and none behind it was.
func isGap(err error) bool {
	return errors.Is(err, metadata.ReasonSequenceGap) || errors.Is(err, metadata.ReasonFencedProducer)
}

// sendRoutes writes the records of routes. The first one of each goes alone: to a partition that does not know the producer yet, or not any more, a batch may
// come first that others should have come before, if the segment that has those is given up.
func (a *Agent) sendRoutes(ctx context.Context, routes []*routeSent) {
	for _, first := range []bool{true, false} {
		var letters []letter
		var of []*routeSent
		for _, s := range routes {
			some := s.letters[:1]
			if !first {
				some = s.letters[1:]
			}
			if s.err != nil {
				continue
			}
			for _, l := range some {
				letters, of = append(letters, l), append(of, s)
			}
		}
		for i, err := range a.send(ctx, letters) {
			switch {
			case of[i].err != nil: // nothing counts behind one of which it is not known that it arrived
			case err == nil, errors.Is(err, metadata.ReasonOldSequence):
				of[i].arrived++
			default:
				of[i].err = err
			}
		}
	}
}

var errBehind = errors.New("it is behind one that could not be written")

// send writes letters, each alone in a batch, in order, and answers an error or nil for each.
func (a *Agent) send(ctx context.Context, letters []letter) []error {
	p := &Pending{topics: make([]string, len(letters)), results: make([]ProduceResult, len(letters)), open: make([]int, len(letters)), done: make(chan struct{})}
	failed := map[objectlog.ProducerID]bool{}
	var batches []*write.Batch
	for i, l := range letters {
		to, producer := l.piece.Move.To, l.piece.Move.Producer
		if failed[producer] {
			p.results[i].Err = errBehind
			continue
		}
		t, err := a.topicOf(ctx, to.Topic)
		var b *write.Batch
		if err == nil {
			p.topics[i] = t.Name
			b, err = a.letterBatch(t, to.Partition, l)
		}
		if err != nil {
			failed[producer] = true
			p.results[i].Err = err
			continue
		}
		b.Owner = &share{pending: p, batch: i}
		p.open[i] = 1
		p.left++
		batches = append(batches, b)
	}
	if p.left > 0 {
		if err := a.writer.submit(ctx, batches); err != nil {
			for _, b := range batches {
				p.answer(write.Answer{Batch: b, Err: err})
			}
		}
	} else {
		close(p.done)
	}
	errs := make([]error, len(letters))
	for i, result := range p.Wait(ctx) {
		errs[i] = result.Err
	}
	return errs
}

func (a *Agent) letterBatch(t metadata.Topic, p objectlog.Partition, l letter) (*write.Batch, error) {
	encoded, row, err := a.encodeAlone(t, p, l.record, l.piece.Move.Producer, l.piece.Move.Sequence)
	if err != nil {
		return nil, err
	}
	b := a.newShare(t, p, nil, rulesOf(t.Settings).stamp(row.MaxTimestamp))
	b.Encoded, b.Row, b.Bytes = encoded, row, int64(len(encoded)+recordMemory)
	return b, a.serving(b.Shard)
}

// encodeAlone encodes a record as a batch of its own, as its topic wants it. In the batch that it came in it may have been smaller than with the codec for
// records of the agent's own, so the best one is tried too.
func (a *Agent) encodeAlone(t metadata.Topic, p objectlog.Partition, record objectlog.Record, producer objectlog.ProducerID, sequence int32) ([]byte, objectlog.BatchRow, error) {
	r := rulesOf(t.Settings)
	o := objectlog.BatchOptions{LogAppendTime: r.stamp(a.cfg.Wall()), ProducerID: producer, ProducerEpoch: 0, FirstSequence: sequence}
	records := []objectlog.Record{record}
	encoded, row, err := write.EncodeRecords(records, r.codec, r.batchBytesMax, o)
	if errors.Is(err, objectlog.ErrTooLarge) && !r.recode {
		encoded, row, err = write.EncodeRecords(records, objectlog.CodecZstd, r.batchBytesMax, o)
	}
	if err != nil {
		return nil, row, &Error{Op: "produce", Object: objectOf(t.Name, p), Cause: fmt.Errorf("a record of %d bytes: %w", write.RecordBytes(record)+write.BatchOverhead, err),
			Hint: fmt.Sprintf("raise max.message.bytes of %s, which is %d", t.Name, r.batchBytesMax)}
	}
	return encoded, row, nil
}

// readRecords reads records of one partition, whose offsets ascend, until take answers false. OutOfRange: the log does not hold that one any more; other
// errors are of single records too, unless ctx has ended.
func (a *Agent) readRecords(ctx context.Context, topic metadata.Topic, p objectlog.Partition, offsets []objectlog.Offset, take func(objectlog.Offset, objectlog.Record, error) bool) error {
	t := &target{topic: topic, shard: metadata.ShardOf(topic.ID, p, len(a.shards)), FetchedPartition: FetchedPartition{Topic: topic.Name, Partition: p}}
	for len(offsets) > 0 {
		t.From, t.Err, t.Batches = offsets[0], nil, nil
		a.planRecords(t, offsets)
		switch {
		case !t.plan.known:
			return topicError("read", objectOf(topic.Name, p), metadata.ReasonUnknownTopic)
		case t.From < t.plan.state.LogStart || t.From >= t.plan.state.HighWatermark:
			t.Err = t.fault("read", OutOfRange)
		default:
			a.loadOne(ctx, t)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, more := 0, true
		for _, batch := range t.Batches {
			err := objectlog.DecodeBatch(batch, a.cfg.Limits, func(o objectlog.Offset, r objectlog.Record) bool {
				if more && n < len(offsets) && o == offsets[n] {
					n++
					more = take(o, owned(r), nil)
				}
				return more && n < len(offsets)
			})
			if err != nil && t.Err == nil && n == 0 {
				t.Err = t.fault("read", because(DataLost, err))
			}
		}
		if n == 0 { // whatever it is, the ones behind it may be well
			if t.Err == nil {
				t.Err = t.fault("read", OutOfRange) // trimmed since it was planned
			}
			n, more = 1, take(offsets[0], objectlog.Record{}, t.Err)
		}
		if !more {
			return nil
		}
		offsets = offsets[n:]
	}
	return nil
}

// recordsAtOnce bounds what is planned together to be read.
const recordsAtOnce = 1 << 20

// planRecords plans to read the batches of the first offsets.
func (a *Agent) planRecords(t *target, offsets []objectlog.Offset) {
	s := a.shards[t.shard]
	s.log.Read(func(metadata.Seq) {
		t.plan = plan{}
		if t.plan.state, t.plan.known = s.state.Partition(t.topic.ID, t.Partition); !t.plan.known {
			return
		}
		for _, b := range s.state.Batches(nil, t.topic.ID, t.Partition, t.From, recordsAtOnce) {
			next := b.Base + objectlog.Offset(b.Row.Records)
			n := 0
			for n < len(offsets) && offsets[n] < next {
				n++
			}
			if n > 0 {
				t.plan.batches = append(t.plan.batches, b)
				t.plan.bytes += int64(b.Row.Bytes)
			}
			if offsets = offsets[n:]; len(offsets) == 0 {
				return
			}
		}
	})
	t.HighWatermark, t.LogStart = t.plan.state.HighWatermark, t.plan.state.LogStart
}

// owned copies a record out of the batch that it was decoded from, which may be much larger.
func owned(r objectlog.Record) objectlog.Record {
	r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	headers := make([]objectlog.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = objectlog.Header{Key: h.Key, Value: bytes.Clone(h.Value)}
	}
	r.Headers = headers
	return r
}
