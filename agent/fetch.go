package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// StartKind says how a Start is meant.
type StartKind uint8

// The ways to name a place in a log.
const (
	StartEarliest StartKind = iota
	StartLatest
	StartOffset
	StartTime
	StartTail // so many records before the end
)

// Start is where reading begins.
type Start struct {
	Kind   StartKind
	Offset objectlog.Offset    // StartOffset
	Time   objectlog.Timestamp // StartTime
	Tail   int64               // StartTail
}

// FetchPartition asks for one partition; AnyPartition: all of the topic's.
type FetchPartition struct {
	Topic     string
	Partition objectlog.Partition
	Start     Start
}

// FetchRequest is a bounded read of many partitions.
type FetchRequest struct {
	Partitions []FetchPartition
	BytesMax   int64         // of stored batches, all partitions together; the first batch comes even if it is larger; 0: 8 MiB
	BytesMin   int64         // wait for so many; 0 is 1
	Wait       time.Duration // at most so long
}

// FetchedPartition is what was read of one partition. Batches are whole, patched with base offset and leader epoch, verified; the first one may
// begin before the offset asked for. Do not change them or append to them: one may lie right before the next.
type FetchedPartition struct {
	Topic         string
	Partition     objectlog.Partition
	Err           error
	From          objectlog.Offset // where the start was found to be: records below it are not asked for
	Batches       [][]byte
	Next          objectlog.Offset // behind the last batch; From when there is none
	HighWatermark objectlog.Offset
	LogStart      objectlog.Offset
}

const (
	fetchBytes = 8 << 20
	// readAheadBytes is how far a catch-up reader's next fetch is prepared.
	readAheadBytes = 8 << 20
)

// target is one partition of a fetch while it is served.
type target struct {
	topic metadata.Topic
	shard objectlog.Shard
	start Start
	plan  plan
	FetchedPartition
}

// Fetch reads. It answers early when something is wrong with a partition, and on Drain.
func (a *Agent) Fetch(ctx context.Context, r FetchRequest) []FetchedPartition {
	if r.BytesMax <= 0 {
		r.BytesMax = fetchBytes
	}
	targets := a.targets(ctx, r.Partitions)
	a.locate(ctx, "fetch", targets)
	wait, cancel := context.WithTimeout(ctx, r.Wait)
	defer cancel()
	for !a.planAll(ctx, targets, r) {
		changed := a.changes(targets)
		// Planned once more behind taking the channels: what was applied in between does not close them.
		if a.planAll(ctx, targets, r) || !a.waitForAny(wait, changed) {
			break
		}
	}
	if a.leaders != nil && r.Wait < a.cfg.Lease {
		a.lookAgain(ctx, targets, r)
	}
	return a.loadAll(ctx, targets)
}

// lookAgain makes a current read before an empty answer: who waits for less time than a follower may lag must not miss what another agent
// acknowledged before.
func (a *Agent) lookAgain(ctx context.Context, targets []*target, r FetchRequest) {
	empty := func(t *target) bool { return t.Err == nil && len(t.plan.batches) == 0 }
	if !slices.ContainsFunc(targets, empty) || slices.ContainsFunc(targets, func(t *target) bool { return !empty(t) }) {
		return // an answer with something in it keeps nobody from asking again
	}
	a.probe(ctx, targets, empty)
	for _, t := range targets {
		if t.Err != nil {
			t.Err = t.fault("fetch", t.Err)
		}
	}
	a.planAll(ctx, targets, r)
}

// targetsMax bounds what one call reads: a few bytes that name the largest topic as a whole, sent some thousand times in one request,
// would be as many times 100,000 partitions.
const targetsMax = 2 * partitionsMax

var errTargets = errors.New("more than 200,000 partitions at once: name fewer topics")

// targets finds the topics and expands AnyPartition.
func (a *Agent) targets(ctx context.Context, partitions []FetchPartition) []*target {
	targets := make([]*target, 0, len(partitions))
	for _, p := range partitions {
		t, err := a.find(ctx, p.Topic, p.Partition)
		first, next := p.Partition, p.Partition+1
		if p.Partition == AnyPartition && err == nil {
			if len(targets)+int(t.Partitions) > targetsMax {
				err = because(InvalidRequest, errTargets)
			} else {
				first, next = 0, objectlog.Partition(t.Partitions)
			}
		}
		for ; first < next; first++ {
			g := &target{topic: t, start: p.Start, FetchedPartition: FetchedPartition{Topic: p.Topic, Partition: first, Err: err}}
			if err == nil {
				g.shard = metadata.ShardOf(t.ID, first, len(a.shards))
			}
			g.From, g.Next, g.HighWatermark, g.LogStart = objectlog.NoOffset, objectlog.NoOffset, objectlog.NoOffset, objectlog.NoOffset
			targets = append(targets, g)
		}
	}
	return targets
}

// changes answers a channel per shard touched that is closed by the next entry.
func (a *Agent) changes(targets []*target) []<-chan struct{} {
	seen := make(map[objectlog.Shard]bool)
	var channels []<-chan struct{}
	for _, t := range targets {
		if !seen[t.shard] {
			seen[t.shard] = true
			channels = append(channels, a.shards[t.shard].log.Changed())
		}
	}
	return channels
}

// waitForAny answers true when a channel is closed, false when ctx ends or the agent drains.
func (a *Agent) waitForAny(ctx context.Context, channels []<-chan struct{}) bool {
	cases := make([]reflect.SelectCase, 0, len(channels)+2)
	for _, c := range append([]<-chan struct{}{ctx.Done(), a.draining.Done()}, channels...) {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)})
	}
	chosen, _, _ := reflect.Select(cases)
	return chosen > 1
}

// planAll plans every target and answers whether it is time to answer: there is enough to read, or something is
// wrong with a partition.
func (a *Agent) planAll(ctx context.Context, targets []*target, r FetchRequest) bool {
	budget, ready := r.BytesMax, len(targets) == 0
	for _, t := range targets {
		some := budget == r.BytesMax
		if t.Err == nil {
			a.planOne(t, budget, some)
			if !t.plan.known || t.From < t.plan.state.LogStart || t.From > t.plan.state.HighWatermark {
				a.doubt(ctx, t, budget, some)
			}
		}
		if t.Err != nil {
			ready = true
			continue
		}
		budget -= t.plan.bytes
		ready = ready || len(t.plan.ahead) > 0 // the answer has no room for more
	}
	return ready || budget <= 0 || r.BytesMax-budget >= max(1, r.BytesMin)
}

func (a *Agent) planOne(t *target, budget int64, some bool) {
	s := a.shards[t.shard]
	s.log.Read(func(metadata.Seq) {
		t.plan = planRead(s.state, t.topic.ID, t.Partition, t.From, budget, some)
	})
	t.HighWatermark, t.LogStart = t.plan.state.HighWatermark, t.plan.state.LogStart
}

// doubt looks again, at current state, at a partition that is not there or does not have the offset: an agent that lags
// must not send a client away.
func (a *Agent) doubt(ctx context.Context, t *target, budget int64, some bool) {
	if t.Err = a.current(ctx, t.shard); t.Err == nil {
		if a.planOne(t, budget, some); !t.plan.known && a.madeAnew(ctx, t) {
			a.planOne(t, budget, some)
		}
		switch {
		case !t.plan.known:
			t.Err = metadata.ReasonUnknownTopic
		case t.From < t.plan.state.LogStart || t.From > t.plan.state.HighWatermark:
			t.Err = OutOfRange
		}
	}
	if t.Err != nil {
		t.Err = t.fault("fetch", t.Err)
	}
}

// madeAnew says whether the topic's name belongs to another topic than the target's by now, and turns the target to that one: the own catalog
// may lag behind its deletion and its new creation.
func (a *Agent) madeAnew(ctx context.Context, t *target) bool {
	now, err := a.findCurrent(ctx, t.Topic, 0)
	if err != nil || now.ID == t.topic.ID || int32(t.Partition) >= now.Partitions {
		return false
	}
	t.topic, t.shard = now, metadata.ShardOf(now.ID, t.Partition, len(a.shards))
	return a.current(ctx, t.shard) == nil
}

// fault puts a cause into words.
func (t *target) fault(op string, cause error) error {
	if e := (*Error)(nil); errors.As(cause, &e) {
		return e
	}
	e := &Error{Op: op, Object: objectOf(t.Topic, t.Partition), Cause: cause}
	if errors.Is(cause, OutOfRange) {
		e.Details = map[string]string{
			"log_start":      strconv.FormatInt(int64(t.LogStart), 10),
			"high_watermark": strconv.FormatInt(int64(t.HighWatermark), 10),
		}
	}
	return e
}

// loadAll reads what is planned and answers the fetch.
func (a *Agent) loadAll(ctx context.Context, targets []*target) []FetchedPartition {
	if len(targets) > 1 { // all reads are under way before the first is waited for
		a.prepare(targets)
	}
	out := make([]FetchedPartition, len(targets))
	for i, t := range targets {
		if t.Err == nil && len(t.plan.batches) > 0 {
			a.loadOne(ctx, t)
		}
		if t.Err == nil {
			t.Next = t.plan.next(t.From)
		}
		out[i] = t.FetchedPartition
	}
	a.readAhead(targets)
	a.writer.counts.served(targets)
	return out
}

// pool is that of tail reads for a plan that reaches the end of the log.
func (a *Agent) pool(t *target) chan struct{} {
	if t.plan.next(t.From) == t.plan.state.HighWatermark {
		return a.blocks.tail
	}
	return a.blocks.catchUp
}

// prepare begins the reads of all partitions together, because they share blocks: the first to be read must not read only its own part.
func (a *Agent) prepare(targets []*target) {
	var tail, catchUp, ahead []metadata.LocatedBatch
	for _, t := range targets {
		switch {
		case t.Err != nil:
		case a.pool(t) == a.blocks.tail:
			tail = append(tail, t.plan.batches...)
		default:
			catchUp = append(catchUp, t.plan.batches...)
			ahead = append(ahead, t.plan.ahead...)
		}
	}
	a.blocks.startAll(bySegment(tail), nil, a.blocks.tail, true)
	a.blocks.startAll(bySegment(catchUp), ahead, a.blocks.catchUp, true)
}

// readAhead begins to read what a reader will want next, as far as that waits for nobody.
func (a *Agent) readAhead(targets []*target) {
	var ahead []metadata.LocatedBatch
	bytes := int64(0)
	for _, t := range targets {
		for _, l := range t.plan.ahead {
			if t.Err == nil && bytes < readAheadBytes {
				ahead = append(ahead, l)
				bytes += int64(l.Row.Bytes)
			}
		}
	}
	a.blocks.startAll(bySegment(ahead), nil, a.blocks.catchUp, false)
}

// loadOne reads one partition's plan. What the bucket has not, or has otherwise than the log says, is looked at again
// with a plan made by a current read; if that still names it, data is lost: an alarm and an error, never a skip.
func (a *Agent) loadOne(ctx context.Context, t *target) {
	var suspect *suspicion
	for {
		batches, err := a.blocks.load(ctx, t.plan.batches, t.plan.ahead, a.pool(t))
		if err == nil {
			t.Batches = batches
			return
		}
		again := suspect
		switch {
		case !errors.As(err, &suspect):
			t.Err = t.fault("fetch", err)
			return
		case again != nil && again.segment == suspect.segment:
			slog.Error("data lost", "topic", t.Topic, "partition", t.Partition, "object", a.keys.Segment(suspect.segment), "err", err)
			if n := t.plan.before(suspect.segment); n > 0 { // whole: the next fetch begins at the damage, and says so
				t.plan.batches, t.plan.ahead = t.plan.batches[:n], nil
				suspect = nil
				continue
			}
			t.Err = t.fault("fetch", because(DataLost, err))
			return
		}
		if err := a.current(ctx, t.shard); err != nil {
			t.Err = t.fault("fetch", err)
			return
		}
		a.planOne(t, t.plan.bytes, true)
		if len(t.plan.batches) == 0 {
			return // trimmed or deleted meanwhile: the next fetch says so
		}
		if !t.plan.names(suspect.segment) {
			suspect = nil
		}
	}
}

func isSuspect(err error) bool { return errors.Is(err, errSuspect) }
