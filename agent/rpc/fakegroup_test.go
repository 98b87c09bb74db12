package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// fakeGroups are the groups of a fakeEngine: the real machine, led here, whose clock does not run.
type fakeGroups struct {
	state       *groups.State
	coordinator *groups.Coordinator
	seq         metadata.Seq
	heartbeats  []groups.Heartbeat // as they came
	waits       []time.Duration    // of them
	commits     []agent.OffsetCommit
	resets      []agent.Reset
	positions   [][]string // topics that GroupOffsets was asked for
	still       bool       // no assignment is made
}

func newFakeGroups() *fakeGroups {
	return &fakeGroups{state: groups.NewState(), coordinator: groups.NewCoordinator()}
}

// apply appends commands as a leader does, and answers their results.
func (f *fakeEngine) apply(commands ...metadata.Command) (results []groups.Result, err error) {
	for _, c := range commands {
		short, err := f.groups.state.Prepare(c)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", agent.InvalidRequest, err)
		}
		f.groups.seq++
		result, err := f.groups.state.Apply(metadata.Position{Seq: f.groups.seq, Epoch: 1, Time: f.arrival}, short)
		if err != nil {
			return nil, err
		}
		results = append(results, result.(groups.Result))
	}
	f.wake()
	return results, nil
}

// tick makes the assignments that are due.
func (f *fakeEngine) tick() {
	for {
		due := f.groups.coordinator.Tick(1, 1, f.groups.state, fakeCatalog{f}, uint64(f.versions+1))
		if len(due) == 0 {
			return
		}
		if _, err := f.apply(due...); err != nil {
			panic(err)
		}
	}
}

// fakeCatalog is the catalog of a fakeEngine, whose mutex is held.
type fakeCatalog struct{ f *fakeEngine }

func (c fakeCatalog) Topic(name string) (objectlog.UUID, int32, bool) {
	t, ok := c.f.topics[name]
	if !ok {
		return objectlog.UUID{}, 0, false
	}
	return t.ID, t.Partitions, true
}

func (c fakeCatalog) Names(f func(string)) {
	for name := range c.f.topics {
		f(name)
	}
}

func groupFault(group string, cause error) error {
	return &agent.Error{Op: "use", Object: "group " + group, Cause: cause}
}

func (f *fakeEngine) Heartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups.heartbeats, f.groups.waits = append(f.groups.heartbeats, h), append(f.groups.waits, wait)
	if f.fault != nil {
		return groups.Assignment{}, groupFault(h.Group, f.fault)
	}
	commands, err := f.groups.coordinator.Heartbeat(h, f.groups.state)
	if err == nil {
		_, err = f.apply(commands...)
	}
	if err != nil {
		return groups.Assignment{}, groupFault(h.Group, err)
	}
	if !f.groups.still {
		f.tick()
	}
	over := time.After(wait)
	for last := wait == 0; ; {
		answer, news, err := groups.Answer(h, f.groups.state)
		switch {
		case err != nil:
			return answer, groupFault(h.Group, err)
		case news || last || f.ready != nil:
			return answer, nil
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-over:
			last = true
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
		if err != nil {
			return answer, groupFault(h.Group, fmt.Errorf("%w: %w", agent.Unavailable, err))
		}
	}
}

func (f *fakeEngine) CommitOffsets(_ context.Context, c agent.OffsetCommit) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups.commits = append(f.groups.commits, c)
	command := groups.CommitOffsets{Group: c.Group, Member: c.Member, Instance: c.Instance, Generation: c.Generation, Force: c.Force}
	errs := make([]error, len(c.Positions))
	var index []int
	for i, p := range c.Positions {
		log, err := f.log("commit offset of", agent.FetchPartition{Topic: p.Topic, Partition: p.Partition})
		switch {
		case err != nil:
			errs[i] = err
			continue
		case p.Offset > log.next:
			errs[i] = &agent.Error{Op: "commit offset of", Object: p.Topic, Cause: agent.OutOfRange}
			continue
		}
		at := groups.TopicPartition{Topic: f.topics[p.Topic].ID, Partition: p.Partition}
		command.Offsets = append(command.Offsets, groups.Committed{TopicPartition: at, Offset: p.Offset, Epoch: -1, Metadata: p.Metadata})
		index = append(index, i)
	}
	if len(index) == 0 {
		return errs, nil
	}
	results, err := f.apply(command.Command())
	switch {
	case err != nil:
		return nil, groupFault(c.Group, err)
	case results[0].Reason != groups.ReasonNone:
		return nil, groupFault(c.Group, results[0].Reason)
	}
	for _, r := range results[0].Refused {
		errs[index[r.Index]] = groupFault(c.Group, r.Reason)
	}
	return errs, nil
}

func (f *fakeEngine) GroupOffsets(_ context.Context, group string, topics []string) (out []agent.GroupOffset, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups.positions = append(f.groups.positions, topics)
	g, ok := f.groups.state.Group(group)
	if !ok {
		if g = new(groups.Group); len(topics) == 0 {
			return nil, groupFault(group, groups.ReasonUnknownGroup)
		}
	}
	for name, t := range f.topics {
		for p, log := range t.logs {
			at := groups.TopicPartition{Topic: t.ID, Partition: objectlog.Partition(p)}
			if !slices.Contains(topics, name) && (len(topics) > 0 || !slices.Contains(g.Places(), at)) {
				continue
			}
			o := agent.GroupOffset{Topic: name, Partition: at.Partition, Offset: objectlog.NoOffset, HighWatermark: log.next, LogStart: log.start, Member: g.OwnerOf(at)}
			if c, ok := g.Committed(at); ok {
				o.Committed, o.Offset, o.Metadata, o.Time = true, c.Offset, c.Metadata, c.Time
			}
			out = append(out, o)
		}
	}
	for _, name := range topics {
		if _, err := f.find("fetch offsets of", name); err != nil {
			out = append(out, agent.GroupOffset{Topic: name, Partition: agent.AnyPartition, Err: err})
		}
	}
	slices.SortFunc(out, func(a, b agent.GroupOffset) int { return int(a.Partition - b.Partition) })
	slices.SortStableFunc(out, func(a, b agent.GroupOffset) int { return strings.Compare(a.Topic, b.Topic) })
	return out, nil
}

func (f *fakeEngine) ResetOffsets(_ context.Context, r agent.Reset) ([]agent.Moved, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups.resets = append(f.groups.resets, r)
	t, err := f.find("reset offsets", r.Topic)
	if err != nil {
		return nil, err
	}
	return []agent.Moved{{Partition: 0, From: objectlog.NoOffset, To: 0}, {Partition: 1, From: 0, To: t.logs[0].next}}, nil
}

func (f *fakeEngine) Group(_ context.Context, group string) (agent.GroupInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.groups.state.Group(group)
	if !ok {
		return agent.GroupInfo{}, groupFault(group, groups.ReasonUnknownGroup)
	}
	return agent.GroupInfo{Group: g.Clone(), Coordinator: "boot"}, nil
}

func (f *fakeEngine) Groups(_ context.Context, after string, limit int) (out []groups.Group, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups.state.Groups(after, func(g *groups.Group) bool {
		out = append(out, g.Clone())
		return len(out) < limit
	})
	return out, f.fault
}

func (f *fakeEngine) DeleteGroup(_ context.Context, group string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	results, err := f.apply(groups.DeleteGroup{Group: group}.Command())
	if err == nil && results[0].Reason != groups.ReasonNone {
		err = results[0].Reason
	}
	if err != nil {
		return groupFault(group, err)
	}
	return nil
}

// touched: a call that may change something, or tell something of a group, came so far.
func (g *fakeGroups) touched() bool {
	return g.seq != 0 || len(g.heartbeats)+len(g.commits)+len(g.resets)+len(g.positions) != 0
}
