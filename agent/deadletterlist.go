package agent

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// lettersOnce is how many dead letters are read together.
	lettersOnce = 1000
	// lettersBytes bounds what one list holds in memory: behind it comes the next one.
	lettersBytes = 8 << 20
)

// letters is what one partition of a dead-letter topic holds.
type letters struct {
	key    queues.Key
	shard  objectlog.Shard
	until  objectlog.Offset          // the end of the log
	rest   []queues.Range            // the dead letters, by offset
	moving map[objectlog.Offset]bool // those of them that are on their way
	err    error
}

// lettersOf looks, behind current reads, at the partitions of a topic, by number; with only: at those that it names.
func (a *Agent) lettersOf(ctx context.Context, t metadata.Topic, only []PartitionOffset) []letters {
	probed := make(map[objectlog.Shard]error)
	var all []letters
	for p := range objectlog.Partition(t.Partitions) {
		if len(only) > 0 && !slices.ContainsFunc(only, func(o PartitionOffset) bool { return o.Partition == p }) {
			continue
		}
		l := letters{key: queues.Key{Topic: t.ID, Partition: p}, shard: metadata.ShardOf(t.ID, p, len(a.shards))}
		err, ok := probed[l.shard]
		if !ok {
			err = a.current(ctx, l.shard)
			probed[l.shard] = err
		}
		if l.err = err; err == nil {
			l.look(a.shards[l.shard])
		}
		if l.err != nil {
			l.err = topicError("read dead letters of", objectOf(t.Name, p), l.err)
		}
		all = append(all, l)
	}
	return all
}

// look reads the applied state.
func (l *letters) look(s shard) {
	l.rest, l.moving, l.err = nil, map[objectlog.Offset]bool{}, nil
	s.log.Read(func(metadata.Seq) {
		state, ok := s.state.Partition(l.key.Topic, l.key.Partition)
		if !ok {
			l.err = metadata.ReasonUnknownTopic
			return
		}
		q, ok := s.queues.Queue(l.key)
		if !ok {
			q = &queues.Queue{}
		}
		l.until, l.rest = state.HighWatermark, q.Rest(state.LogStart, state.HighWatermark)
		for _, p := range q.Pieces {
			if p.Phase == queues.Moving && p.From >= state.LogStart {
				l.moving[p.From] = true
			}
		}
	})
}

func (l *letters) count() int64 {
	n := int64(0)
	for _, r := range l.rest {
		n += int64(r.To - r.From)
	}
	return n
}

func (l *letters) has(o objectlog.Offset) bool {
	return slices.ContainsFunc(l.rest, func(r queues.Range) bool { return r.From <= o && o < r.To })
}

// chunks yields the offsets of the dead letters from one on, some at a time; with only: of those.
func (l *letters) chunks(from objectlog.Offset, only []PartitionOffset, size int) iter.Seq[[]objectlog.Offset] {
	return func(yield func([]objectlog.Offset) bool) {
		var some []objectlog.Offset
		add := func(o objectlog.Offset) bool {
			if o < from {
				return true
			}
			if some = append(some, o); len(some) < size {
				return true
			}
			full := some
			some = nil
			return yield(full)
		}
		if len(only) > 0 {
			for _, o := range only {
				if o.Partition == l.key.Partition && l.has(o.Offset) && !add(o.Offset) {
					return
				}
			}
		} else {
			for _, r := range l.rest {
				for o := max(r.From, from); o < r.To; o++ {
					if !add(o) {
						return
					}
				}
			}
		}
		if len(some) > 0 {
			yield(some)
		}
	}
}

// inOrder answers places by partition and offset, each once.
func inOrder(places []PartitionOffset) []PartitionOffset {
	places = slices.SortedFunc(slices.Values(places), PartitionOffset.compare)
	return slices.Compact(places)
}

func (o PartitionOffset) compare(p PartitionOffset) int {
	return cmp.Or(cmp.Compare(o.Partition, p.Partition), cmp.Compare(o.Offset, p.Offset))
}

// CountDeadLetters counts currently; no topics: all that have the setting dead.letters.
func (a *Agent) CountDeadLetters(ctx context.Context, topics []string) ([]DeadLetterCount, error) {
	const op = "count dead letters of"
	if err := a.current(ctx, catalogShard); err != nil {
		return nil, topicError(op, "topics", err)
	}
	list := a.topics.of(a.shards[catalogShard])
	if len(topics) == 0 {
		for name, t := range list.byName {
			if t.Settings.DeadLetters() {
				topics = append(topics, name)
			}
		}
		slices.Sort(topics)
	}
	counts := make([]DeadLetterCount, len(topics))
	for i, name := range topics {
		c := &counts[i]
		c.Topic = name
		t, ok := list.byName[name]
		if !ok {
			c.Err = topicError(op, name, metadata.ReasonUnknownTopic)
			continue
		}
		for _, l := range a.lettersOf(ctx, t, nil) {
			if c.Err == nil {
				c.Err = l.err
			}
			c.Records += l.count()
			c.Redriving += int64(len(l.moving))
		}
	}
	return counts, nil
}

// DeadLetters lists dead letters behind a place, at most limit, by partition and offset; with only: of those. It answers fewer than there are, but one at
// least, when they are large: the end is where it answers none.
func (a *Agent) DeadLetters(ctx context.Context, topic string, only []PartitionOffset, after PartitionOffset, limit int) ([]DeadLetter, error) {
	const op = "list dead letters of"
	t, err := a.findCurrent(ctx, topic, 0)
	if err != nil {
		return nil, topicError(op, topic, err)
	}
	only = inOrder(only)
	var found []DeadLetter
	size := 0
	full := func() bool { return len(found) >= limit || size >= lettersBytes }
	for _, l := range a.lettersOf(ctx, t, only) {
		if l.key.Partition < after.Partition || full() {
			continue
		}
		if l.err != nil {
			return nil, l.err
		}
		from := objectlog.Offset(0)
		if l.key.Partition == after.Partition {
			from = after.Offset + 1
		}
		var failed error
		for offsets := range l.chunks(from, only, min(limit, lettersOnce)) {
			err := a.readRecords(ctx, t, l.key.Partition, offsets, func(o objectlog.Offset, r objectlog.Record, err error) bool {
				switch {
				case err == nil:
					d := deadLetterOf(PartitionOffset{l.key.Partition, o}, r)
					d.Redriving = l.moving[o]
					found = append(found, d)
					size += recordSize(r)
				case !errors.Is(err, OutOfRange): // else retention has taken it since
					failed = err
				}
				return failed == nil && !full()
			})
			if failed = errors.Join(failed, err); failed != nil || full() {
				break
			}
		}
		if failed != nil {
			return nil, topicError(op, topic, failed)
		}
	}
	return found, nil
}

func deadLetterOf(at PartitionOffset, r objectlog.Record) DeadLetter {
	l := queues.ReadLetter(r)
	return DeadLetter{PartitionOffset: at, Record: r, Source: PartitionOffset{l.Partition, l.Offset}, Topic: l.Topic, Group: l.Group, Attempts: l.Deliveries,
		First: l.First, Last: l.Last, Reason: l.Reason, Error: l.Error}
}

func recordSize(r objectlog.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
