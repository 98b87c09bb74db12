package agent

import (
	"context"
	"math"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// FoundOffset is the answer to ListOffsets for one partition.
type FoundOffset struct {
	Topic         string
	Partition     objectlog.Partition
	Err           error
	Offset        objectlog.Offset    // for StartTime with no such record: the high watermark
	Timestamp     objectlog.Timestamp // of the record found by StartTime; else NoTimestamp
	HighWatermark objectlog.Offset
	LogStart      objectlog.Offset
}

// ListOffsets finds offsets; its answers are current.
func (a *Agent) ListOffsets(ctx context.Context, partitions []FetchPartition) []FoundOffset {
	targets := a.targets(ctx, partitions)
	a.probe(ctx, targets, func(*target) bool { return true })
	found := make([]FoundOffset, len(targets))
	for i, t := range targets {
		at := objectlog.NoTimestamp
		if t.Err == nil {
			at = a.resolve(ctx, t)
		}
		if t.Err == nil && (t.From < t.LogStart || t.From > t.HighWatermark) {
			t.Err = OutOfRange
		}
		if t.Err != nil {
			t.Err = t.fault("list offsets of", t.Err)
		}
		found[i] = FoundOffset{Topic: t.Topic, Partition: t.Partition, Err: t.Err, Offset: t.From, Timestamp: at,
			HighWatermark: t.HighWatermark, LogStart: t.LogStart}
	}
	return found
}

// locate turns the starts of a fetch into offsets. Only a start that depends on the end of the log, or on what is not
// there, costs a current read.
func (a *Agent) locate(ctx context.Context, op string, targets []*target) {
	a.probe(ctx, targets, func(t *target) bool {
		switch t.start.Kind {
		case StartOffset, StartEarliest:
			a.planOne(t, 0, false)
			return !t.plan.known
		}
		return true
	})
	for _, t := range targets {
		if t.Err == nil {
			a.resolve(ctx, t)
		}
		if t.Err != nil {
			t.Err = t.fault(op, t.Err)
		}
	}
}

// probe makes a current read of every shard that has a target which wants one.
func (a *Agent) probe(ctx context.Context, targets []*target, wants func(*target) bool) {
	probed := make(map[objectlog.Shard]error)
	for _, t := range targets {
		if t.Err != nil || !wants(t) {
			continue
		}
		err, ok := probed[t.shard]
		if !ok {
			err = a.current(ctx, t.shard)
			probed[t.shard] = err
		}
		t.Err = err
	}
}

// resolve sets the target's From, and for StartTime answers the time of the record found.
func (a *Agent) resolve(ctx context.Context, t *target) objectlog.Timestamp {
	var at metadata.LocatedBatch
	var found bool
	s := a.shards[t.shard]
	s.log.Read(func(metadata.Seq) {
		t.plan = plan{}
		if t.plan.state, t.plan.known = s.state.Partition(t.topic.ID, t.Partition); t.plan.known && t.start.Kind == StartTime {
			at, found = s.state.BatchAtTime(t.topic.ID, t.Partition, t.start.Time)
		}
	})
	if !t.plan.known {
		if a.madeAnew(ctx, t) {
			return a.resolve(ctx, t)
		}
		t.Err = metadata.ReasonUnknownTopic
		return objectlog.NoTimestamp
	}
	t.LogStart, t.HighWatermark = t.plan.state.LogStart, t.plan.state.HighWatermark
	stamp := objectlog.NoTimestamp
	switch t.start.Kind {
	case StartEarliest:
		t.From = t.LogStart
	case StartLatest:
		t.From = t.HighWatermark
	case StartOffset:
		t.From = t.start.Offset
	case StartTail:
		t.From = max(t.LogStart, t.HighWatermark-objectlog.Offset(max(0, t.start.Tail)))
	case StartTime:
		t.From = t.HighWatermark
		if found {
			stamp = a.scan(ctx, t, at)
		}
	default:
		t.Err = InvalidRequest
	}
	t.Next = t.From
	return stamp
}

// scan opens the first batch with a time at or after the one asked for, and finds the record. It goes on behind that batch
// where the records in question are trimmed.
func (a *Agent) scan(ctx context.Context, t *target, at metadata.LocatedBatch) objectlog.Timestamp {
	stamp := objectlog.NoTimestamp
	t.From = max(at.Base, t.LogStart)
	t.plan.batches = []metadata.LocatedBatch{at}
	for t.Err == nil && len(t.plan.batches) > 0 {
		a.loadOne(ctx, t)
		for _, b := range t.Batches {
			err := objectlog.DecodeBatch(b, readLimits(), func(o objectlog.Offset, r objectlog.Record) bool {
				if o < t.LogStart || r.Timestamp < t.start.Time {
					return true
				}
				t.From, stamp = o, r.Timestamp
				return false
			})
			if err != nil {
				t.Err = t.fault("read", because(DataLost, err))
			}
			if err != nil || stamp != objectlog.NoTimestamp {
				t.Batches = nil
				return stamp
			}
		}
		t.Batches = nil
		t.From = t.plan.next(t.From)
		a.planOne(t, fetchBytes, true)
	}
	t.From = t.HighWatermark
	return stamp
}

// readLimits are for batches of the log: they were within the limits of their time when they came.
func readLimits() objectlog.Limits {
	return objectlog.Limits{BatchBytes: math.MaxInt32, DecodedBytes: math.MaxInt32, Records: math.MaxInt32, RecordBytes: math.MaxInt32}
}
