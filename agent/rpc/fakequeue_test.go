package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// fakeQueues are the queues of a fakeEngine: the real machine, whose locks do not end by themselves. Its dead letters are those that a test puts
// there.
type fakeQueues struct {
	state    *queues.State
	seq      metadata.Seq
	lock     uint64
	pulls    []agent.PullRequest // as they came
	settled  [][]agent.Acknowledgement
	asked    []string // of queues and counts
	looked   int      // times that a topic was
	sent     []agent.GivenUp
	lists    []fakeList
	redrives []agent.Redrive
	discards []agent.Discard

	letters   []agent.DeadLetter // of every topic, in order
	step      int                // letters that are answered at once; 0: any
	counts    []agent.DeadLetterCount
	redriven  agent.Redriven
	discarded agent.Discarded
	refuse    map[objectlog.Offset]error // acknowledgements of these
}

type fakeList struct {
	only  []agent.PartitionOffset
	after agent.PartitionOffset
	limit int
}

func newFakeQueues() *fakeQueues { return &fakeQueues{state: queues.NewState()} }

// touched: a call of a queue or about dead letters came so far.
func (q *fakeQueues) touched() bool {
	return q.seq != 0 || len(q.pulls)+len(q.settled)+len(q.asked)+len(q.sent)+len(q.lists)+len(q.redrives)+len(q.discards) != 0
}

// applyQueue appends one command as a leader does.
func (f *fakeEngine) applyQueue(c metadata.Command) (queues.Result, error) {
	short, err := f.queues.state.Prepare(c)
	if err != nil {
		return queues.Result{}, &agent.Error{Op: "use queue", Cause: fmt.Errorf("%w: %w", agent.InvalidRequest, err)}
	}
	f.queues.seq++
	result, err := f.queues.state.Apply(metadata.Position{Seq: f.queues.seq, Epoch: 1, Time: f.arrival}, short)
	if err != nil {
		return queues.Result{}, err
	}
	return result.(queues.Result), nil
}

func (f *fakeEngine) Pull(ctx context.Context, r agent.PullRequest) ([]agent.Pulled, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.pulls = append(f.queues.pulls, r)
	over := time.After(r.Wait)
	for last := r.Wait == 0; ; {
		pulled, err := f.acquire(r)
		if err != nil || len(pulled) > 0 || last || f.ready != nil {
			return pulled, err
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-over:
			last = true
		case <-ctx.Done():
			last = true
		}
		f.mu.Lock()
	}
}

// acquire locks what there is at most, partition by partition.
func (f *fakeEngine) acquire(r agent.PullRequest) (out []agent.Pulled, err error) {
	if f.fault != nil {
		return nil, &agent.Error{Op: "pull from", Object: r.Topic, Cause: f.fault}
	}
	t, err := f.find("pull from", r.Topic)
	if err != nil {
		return nil, err
	}
	f.queues.lock++
	left := r.RecordsMax
	for i, log := range t.logs {
		if left == 0 {
			break
		}
		place := queues.Place{Topic: t.ID, Partition: objectlog.Partition(i)}
		result, err := f.applyQueue(queues.Acquire{Key: queues.Key{Topic: place.Topic, Partition: place.Partition, Group: r.Group}, Lock: f.queues.lock,
			Wait: cmp.Or(r.Lock, 30*time.Second), Limit: left, Window: queues.WindowDefault, Until: log.next, LogStart: log.start, Start: f.start(log, r.Start),
			Policy: queues.Policy{Deliveries: cmp.Or(r.Deliveries, 5), DeadLetters: cmp.Or(r.DeadLetters, r.Topic+"-dlq")}}.Command())
		switch {
		case err != nil:
			return nil, err
		case result.Reason != queues.ReasonNone:
			return nil, &agent.Error{Op: "pull from", Object: r.Topic, Cause: result.Reason}
		case len(result.Acquired) == 0:
			continue
		}
		for _, a := range result.Acquired {
			left -= int32(a.To - a.From)
		}
		read := f.readOnce(r.Topic, place.Partition, result.Acquired)
		out = append(out, agent.Pulled{Place: place, Lock: f.queues.lock, Acquired: result.Acquired, Batches: read})
	}
	return out, nil
}

// readOnce answers the batches that hold a record of the ranges.
func (f *fakeEngine) readOnce(topic string, p objectlog.Partition, ranges []queues.Acquired) (batches [][]byte) {
	for _, b := range f.topics[topic].logs[p].batches {
		header, err := objectlog.ParseBatchHeader(b)
		if err != nil {
			panic(err)
		}
		next := header.BaseOffset + objectlog.Offset(header.LastOffsetDelta) + 1
		if slices.ContainsFunc(ranges, func(a queues.Acquired) bool { return a.From < next && a.To > header.BaseOffset }) {
			batches = append(batches, b)
		}
	}
	return batches
}

func (f *fakeEngine) Acknowledge(_ context.Context, group string, all []agent.Acknowledgement) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.settled = append(f.queues.settled, all)
	if f.fault != nil {
		return nil, &agent.Error{Op: "acknowledge for", Object: "group " + group, Cause: f.fault}
	}
	errs := make([]error, len(all))
	for i, a := range all {
		if errs[i] = f.queues.refuse[a.Offset]; errs[i] != nil {
			continue
		}
		result, err := f.applyQueue(queues.Settle{Key: queues.Key{Topic: a.Topic, Partition: a.Partition, Group: group},
			Items: []queues.Settlement{{From: a.Offset, To: a.Offset + 1, Lock: a.Lock, Verdict: a.Verdict, Wait: a.Wait, Error: a.Error}}}.Command())
		if err != nil {
			return nil, err
		}
		if len(result.Refused) > 0 {
			errs[i] = &agent.Error{Op: "acknowledge", Object: fmt.Sprintf("offset %d", a.Offset), Cause: result.Refused[0].Reason}
		}
	}
	f.wake()
	return errs, nil
}

func (f *fakeEngine) Queue(_ context.Context, group, topic string) (info agent.QueueInfo, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.asked = append(f.queues.asked, group+" on "+topic)
	t, err := f.find("get queue", topic)
	if err != nil {
		return info, err
	}
	for i, log := range t.logs {
		p := agent.QueuePartition{HighWatermark: log.next, Lag: int64(log.next - log.start), Used: objectlog.NoTimestamp}
		if q, ok := f.queues.state.Queue(queues.Key{Topic: t.ID, Partition: objectlog.Partition(i), Group: group}); ok {
			info.Policy = q.Policy
			p.Known, p.Next, p.Used, p.Lag = true, q.Next, q.Used, q.Unfinished(log.start, log.next)
			p.Locked, p.Delayed, p.Released, p.Dying = q.Count(queues.Locked), q.Count(queues.Delayed), q.Count(queues.Ready), q.Count(queues.Failed)
		}
		info.Partitions = append(info.Partitions, p)
	}
	return info, nil
}

func (f *fakeEngine) SendDeadLetter(_ context.Context, g agent.GivenUp) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.sent = append(f.queues.sent, g)
	_, err := f.log("send dead letter", agent.FetchPartition{Topic: g.Topic, Partition: g.Partition})
	return err
}

func (f *fakeEngine) CountDeadLetters(_ context.Context, topics []string) (out []agent.DeadLetterCount, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.asked = append(f.queues.asked, fmt.Sprint("counts of ", topics))
	for _, c := range f.queues.counts {
		if len(topics) == 0 || slices.Contains(topics, c.Topic) {
			out = append(out, c)
		}
	}
	return out, f.fault
}

func comparePlaces(a, b agent.PartitionOffset) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}

func (f *fakeEngine) DeadLetters(_ context.Context, topic string, only []agent.PartitionOffset, after agent.PartitionOffset, limit int) (out []agent.DeadLetter, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.lists = append(f.queues.lists, fakeList{only, after, limit})
	if _, err := f.find("list dead letters of", topic); err != nil {
		return nil, err
	}
	if f.queues.step > 0 {
		limit = min(limit, f.queues.step)
	}
	for _, l := range f.queues.letters {
		if len(out) < limit && comparePlaces(l.PartitionOffset, after) > 0 && (len(only) == 0 || slices.Contains(only, l.PartitionOffset)) {
			out = append(out, l)
		}
	}
	return out, nil
}

func (f *fakeEngine) RedriveDeadLetters(_ context.Context, r agent.Redrive) (agent.Redriven, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.redrives = append(f.queues.redrives, r)
	return f.queues.redriven, f.fault
}

func (f *fakeEngine) DiscardDeadLetters(_ context.Context, d agent.Discard) (agent.Discarded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.discards = append(f.queues.discards, d)
	return f.queues.discarded, f.fault
}
