package agent

import (
	"context"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// locked is what an Acquire got.
type locked struct {
	offer
	lock     uint64
	acquired []queues.Acquired
	reads    []*target // ascending
}

func (l *locked) records() (n objectlog.Offset) {
	for _, r := range l.acquired {
		n += r.To - r.From
	}
	return n
}

// ranges are the acquired ones, those that are one joined.
func (l *locked) ranges() []queues.Range {
	var joined []queues.Range
	for _, r := range l.acquired {
		joined = join(joined, queues.Range{From: r.From, To: r.To})
	}
	return joined
}

func join(ranges []queues.Range, r queues.Range) []queues.Range {
	if n := len(ranges); n > 0 && ranges[n-1].To == r.From {
		ranges[n-1].To = r.To
		return ranges
	}
	return append(ranges, r)
}

// keep shortens what was acquired to so many records, and answers what is left over.
func (l *locked) keep(records objectlog.Offset) (over []queues.Range) {
	kept := l.acquired[:0]
	for _, r := range l.acquired {
		end := min(r.To, r.From+records)
		if records -= end - r.From; r.From < end {
			kept = append(kept, queues.Acquired{From: r.From, To: end, Deliveries: r.Deliveries})
		}
		if end < r.To {
			over = join(over, queues.Range{From: end, To: r.To})
		}
	}
	l.acquired = kept
	return over
}

// readLocked reads what was locked, and gives back what it does not read: for want of room, because of the bucket, or because it is not in the log any more.
func (a *Agent) readLocked(ctx context.Context, p *pull, got []locked) ([]Pulled, error) {
	bytes, some := p.BytesMax, true
	var targets []*target
	var failed error
	for i := range got {
		l := &got[i]
		if err := a.reach(ctx, l); err != nil {
			failed = err
			continue
		}
		s := a.shards[l.shard]
		s.log.Read(func(metadata.Seq) { bytes, some = l.planReads(s.state, p, bytes, some) })
		targets = append(targets, l.reads...)
	}
	a.loadAll(ctx, targets)
	var pulled []Pulled
	for i := range got {
		l := &got[i]
		read, back := l.divide()
		a.giveBack(l.offer, l.lock, back)
		d := Pulled{Place: queues.Place{Topic: l.Topic, Partition: l.Partition}, Lock: l.lock, Acquired: read}
		for _, t := range l.reads {
			if d.Batches = append(d.Batches, t.Batches...); t.Err != nil {
				failed = t.Err
			}
		}
		if l.acquired = read; len(read) > 0 {
			pulled = append(pulled, d)
		}
	}
	if len(pulled) > 0 {
		return pulled, nil
	}
	return nil, failed
}

// reach brings the state as it is here to where it has what was locked: that may have come from an agent that was ahead.
func (a *Agent) reach(ctx context.Context, l *locked) error {
	s, has := a.shards[l.shard], false
	s.log.Read(func(metadata.Seq) {
		state, _ := s.state.Partition(l.Topic, l.Partition)
		has = state.HighWatermark >= l.acquired[len(l.acquired)-1].To
	})
	if has {
		return nil
	}
	return a.current(ctx, l.shard)
}

// planReads plans the reads of what was locked and is in the log, as far as there is room, and answers what is left of that. The state of the
// partition becomes the one that it was planned with.
func (l *locked) planReads(s *metadata.State, p *pull, bytes int64, some bool) (int64, bool) {
	state, ok := s.Partition(l.Topic, l.Partition)
	if !ok {
		return bytes, some
	}
	l.state = state
	next := state.LogStart
	for _, r := range l.ranges() {
		from := max(r.From, next)
		if from >= r.To {
			continue
		}
		t := &target{topic: p.topic, shard: l.shard, FetchedPartition: FetchedPartition{Topic: p.Topic, Partition: l.Partition, From: from,
			Next: from, HighWatermark: state.HighWatermark, LogStart: state.LogStart}}
		if t.plan = planUntil(s, l.Key, from, r.To, bytes, some); len(t.plan.batches) == 0 {
			break
		}
		bytes, some, next = bytes-t.plan.bytes, false, t.plan.next(from)
		l.reads = append(l.reads, t)
	}
	if n := len(l.reads); n > 0 && next < state.HighWatermark { // whoever is behind goes on
		l.reads[n-1].plan.ahead = s.Batches(nil, l.Topic, l.Partition, next, readAheadBytes)
	}
	return bytes, some
}

// planUntil is planRead up to an offset.
func planUntil(s *metadata.State, k queues.Key, from, until objectlog.Offset, bytesMax int64, some bool) plan {
	pl := plan{known: true}
	pl.state, _ = s.Partition(k.Topic, k.Partition)
	for next := from; next < until; next = pl.next(from) {
		n := len(pl.batches)
		pl.batches = s.Batches(pl.batches, k.Topic, k.Partition, next, 0)
		if len(pl.batches) == n {
			break
		}
		size := int64(pl.batches[n].Row.Bytes)
		if pl.bytes+size > bytesMax && !(some && n == 0) {
			pl.batches = pl.batches[:n]
			break
		}
		pl.bytes += size
	}
	return pl
}

// divide answers what of the acquired records was read, and the rest.
func (l *locked) divide() (read []queues.Acquired, rest []queues.Range) {
	for _, r := range l.acquired {
		at := r.From
		for _, t := range l.reads {
			if len(t.Batches) == 0 {
				continue
			}
			from, to := max(at, l.state.LogStart, t.plan.batches[0].Base), min(r.To, t.Next)
			if from >= to {
				continue
			}
			if at < from {
				rest = join(rest, queues.Range{From: at, To: from})
			}
			read = append(read, queues.Acquired{From: from, To: to, Deliveries: r.Deliveries})
			at = to
		}
		if at < r.To {
			rest = join(rest, queues.Range{From: at, To: r.To})
		}
	}
	return read, rest
}

// giveBack has records that reach no consumer handed out again, without counting; those that are not in the log any more are finished. It does not wait
// for it: in vain, the lock ends.
func (a *Agent) giveBack(o offer, lock uint64, ranges []queues.Range) {
	if len(ranges) == 0 {
		return
	}
	items := make([]queues.Settlement, len(ranges))
	for i, r := range ranges {
		items[i] = queues.Settlement{From: r.From, To: r.To, Lock: lock, Verdict: queues.Return}
	}
	_, _ = a.committers[o.shard].begin(queues.Settle{Key: o.Key, Items: items}.Command())
	if ranges[0].From < o.state.LogStart {
		_, _ = a.committers[o.shard].begin(queues.Trim{Key: o.Key, LogStart: o.state.LogStart}.Command())
	}
}
