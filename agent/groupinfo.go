package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// GroupInfo is a group as it was at one moment.
type GroupInfo struct {
	groups.Group
	Coordinator string // boot of the agent that keeps its sessions; empty: none is known
}

// Group describes a group. The answer is current.
func (a *Agent) Group(ctx context.Context, id string) (GroupInfo, error) {
	g, err := a.group(ctx, id)
	if err != nil {
		return GroupInfo{}, groupError("describe", id, err)
	}
	info := GroupInfo{Group: g}
	if leader := a.shards[groups.ShardOf(id, len(a.shards))].log.Status().Leader; !leader.IsZero() {
		info.Coordinator = leader.String()
	}
	return info, nil
}

// group answers a copy of a group by a current read.
func (a *Agent) group(ctx context.Context, id string) (groups.Group, error) {
	if err := groups.CheckGroup(id); err != nil {
		return groups.Group{}, because(InvalidRequest, err)
	}
	shard := groups.ShardOf(id, len(a.shards))
	if err := a.current(ctx, shard); err != nil {
		return groups.Group{}, err
	}
	var g groups.Group
	var ok bool
	s := a.shards[shard]
	s.log.Read(func(metadata.Seq) {
		var found *groups.Group
		if found, ok = s.groups.Group(id); ok {
			g = found.Clone()
		}
	})
	if !ok {
		return groups.Group{}, groups.ReasonUnknownGroup
	}
	return g, nil
}

// Groups lists up to limit groups with ids greater than after, in the order of their ids and without their offsets. The answer is current.
func (a *Agent) Groups(ctx context.Context, after string, limit int) ([]groups.Group, error) {
	var found []groups.Group
	for i, s := range a.shards {
		if err := a.current(ctx, objectlog.Shard(i)); err != nil {
			return nil, &Error{Op: "list groups", Cause: err}
		}
		s.log.Read(func(metadata.Seq) {
			n := 0
			s.groups.Groups(after, func(g *groups.Group) bool {
				if n++; n <= limit {
					listed := *g
					listed.Offsets = nil
					found = append(found, listed.Clone())
				}
				return n < limit
			})
		})
	}
	slices.SortFunc(found, func(a, b groups.Group) int { return strings.Compare(a.ID, b.ID) })
	return found[:min(len(found), limit)], nil
}

// DeleteGroup forgets a group without members.
func (a *Agent) DeleteGroup(ctx context.Context, id string) error {
	const op = "delete"
	if err := groups.CheckGroup(id); err != nil {
		return groupError(op, id, because(InvalidRequest, err))
	}
	if _, err := a.group(ctx, id); err != nil {
		return groupError(op, id, err)
	}
	results, err := a.propose(ctx, groups.ShardOf(id, len(a.shards)), groups.DeleteGroup{Group: id}.Command())
	if err != nil {
		return groupError(op, id, err)
	}
	result, err := resultOf[groups.Result](results[0])
	switch {
	case err != nil:
		return groupError(op, id, err)
	case result.Reason == groups.ReasonUnknownGroup: // it was there just now: an earlier attempt of ours, or of others with the same aim
		return nil
	case result.Reason != groups.ReasonNone:
		return groupError(op, id, result.Reason)
	}
	return nil
}

// GroupOffset is a group's position in one partition, and where the log is.
type GroupOffset struct {
	Topic         string
	Partition     objectlog.Partition
	Err           error
	Committed     bool // a position is committed: Offset, Metadata and Time are its
	Offset        objectlog.Offset
	Metadata      string
	Time          objectlog.Timestamp
	HighWatermark objectlog.Offset
	LogStart      objectlog.Offset
	Member        string // that has the partition; empty: none
}

// Lag is how many records of the log are not processed. False: the position lies beyond the log.
func (o GroupOffset) Lag() (lag int64, ok bool) {
	from := o.LogStart
	if o.Committed {
		from = max(from, o.Offset)
	}
	return int64(o.HighWatermark - from), from <= o.HighWatermark
}

// GroupOffsets answers a group's positions, by topic and partition: of all partitions of the topics, or, without topics, of all in which it has
// one or that it has. The answer is current. Positions in topics that are deleted are left out.
func (a *Agent) GroupOffsets(ctx context.Context, id string, topics []string) ([]GroupOffset, error) {
	const op = "fetch offsets of"
	g, err := a.group(ctx, id)
	if err != nil && !(errors.Is(err, groups.ReasonUnknownGroup) && len(topics) > 0) { // any group may ask where it begins
		return nil, groupError(op, id, err)
	}
	if err := a.current(ctx, catalogShard); err != nil {
		return nil, groupError(op, id, err)
	}
	list := a.topics.of(a.shards[catalogShard])
	var found []GroupOffset
	add := func(t metadata.Topic, p objectlog.Partition) {
		at := groups.TopicPartition{Topic: t.ID, Partition: p}
		o := GroupOffset{Topic: t.Name, Partition: p, Offset: objectlog.NoOffset, Member: g.OwnerOf(at)}
		if c, ok := g.Committed(at); ok {
			o.Committed, o.Offset, o.Metadata, o.Time = true, c.Offset, c.Metadata, c.Time
		}
		found = append(found, o)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(topics))) {
		t, ok := list.byName[name]
		if !ok {
			found = append(found, GroupOffset{Topic: name, Partition: AnyPartition, Err: topicError("fetch offsets of", name, metadata.ReasonUnknownTopic)})
			continue
		}
		for p := range t.Partitions {
			add(t, objectlog.Partition(p))
		}
	}
	if len(topics) == 0 {
		byID := make(map[objectlog.UUID]metadata.Topic, len(list.byName))
		for _, t := range list.byName {
			byID[t.ID] = t
		}
		for _, at := range g.Places() {
			if t, ok := byID[at.Topic]; ok && int32(at.Partition) < t.Partitions {
				add(t, at.Partition)
			}
		}
		slices.SortFunc(found, func(a, b GroupOffset) int {
			if c := strings.Compare(a.Topic, b.Topic); c != 0 {
				return c
			}
			return int(a.Partition - b.Partition)
		})
	}
	a.ends(ctx, list, found)
	return found, nil
}

// ends fills in where the logs are, by current reads.
func (a *Agent) ends(ctx context.Context, list *topicList, offsets []GroupOffset) {
	probed := make(map[objectlog.Shard]error)
	for i := range offsets {
		o := &offsets[i]
		if o.Err != nil {
			continue
		}
		t := list.byName[o.Topic]
		shard := metadata.ShardOf(t.ID, o.Partition, len(a.shards))
		err, ok := probed[shard]
		if !ok {
			err = a.current(ctx, shard)
			probed[shard] = err
		}
		var state metadata.PartitionState
		if err == nil {
			s := a.shards[shard]
			s.log.Read(func(metadata.Seq) { state, ok = s.state.Partition(t.ID, o.Partition) })
			if !ok {
				err = metadata.ReasonUnknownTopic
			}
		}
		if err != nil {
			o.Err = topicError("fetch offset of", objectOf(o.Topic, o.Partition), err)
			continue
		}
		o.HighWatermark, o.LogStart = state.HighWatermark, state.LogStart
	}
}

// Reset is where ResetOffsets moves positions.
type Reset struct {
	Group, Topic string
	Partitions   []objectlog.Partition // empty: all
	To           Start
	Shifts       bool  // by Shift from the committed position, instead of To
	Shift        int64 // records, on or back
	ValidateOnly bool
	Force        bool // although the group has members
}

// Moved is one position that was moved, or would be.
type Moved struct {
	Partition objectlog.Partition
	From      objectlog.Offset // NoOffset: none was committed
	To        objectlog.Offset // within the log
}

// ResetOffsets moves a group's positions in a topic, all or none.
func (a *Agent) ResetOffsets(ctx context.Context, r Reset) ([]Moved, error) {
	const op = "reset offsets of"
	moves, err := a.moves(ctx, r)
	if err != nil {
		return nil, groupError(op, r.Group, err)
	}
	if g, err := a.group(ctx, r.Group); err == nil && len(g.Members) > 0 && !r.Force {
		e := &Error{Op: op, Object: "group " + r.Group, Cause: groups.ReasonNotEmpty,
			Hint: fmt.Sprintf("stop its %d members first; with force, those that run go on where they are, and commit that", len(g.Members))}
		return nil, e
	}
	if r.ValidateOnly || len(moves) == 0 {
		return moves, nil
	}
	c := OffsetCommit{Group: r.Group, Force: r.Force}
	for _, m := range moves {
		c.Positions = append(c.Positions, GroupPosition{Topic: r.Topic, Partition: m.Partition, Offset: m.To})
	}
	errs, err := a.commitOffsets(ctx, c, true)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, groupError(op, r.Group, err)
	}
	return moves, nil
}

func (a *Agent) moves(ctx context.Context, r Reset) ([]Moved, error) {
	offsets, err := a.GroupOffsets(ctx, r.Group, []string{r.Topic})
	if err != nil {
		return nil, err
	}
	if len(offsets) == 1 && offsets[0].Err != nil {
		return nil, offsets[0].Err
	}
	for _, p := range r.Partitions {
		if p < 0 || int(p) >= len(offsets) {
			return nil, topicError("find", objectOf(r.Topic, p), metadata.ReasonUnknownTopic)
		}
	}
	var ask []FetchPartition
	for _, o := range offsets {
		if len(r.Partitions) == 0 || slices.Contains(r.Partitions, o.Partition) {
			if o.Err != nil {
				return nil, o.Err
			}
			ask = append(ask, FetchPartition{Topic: r.Topic, Partition: o.Partition, Start: r.To})
		}
	}
	var found []FoundOffset
	if !r.Shifts && r.To.Kind != StartOffset {
		found = a.ListOffsets(ctx, ask)
	}
	moves := make([]Moved, 0, len(ask))
	for i, p := range ask {
		o := offsets[p.Partition]
		m := Moved{Partition: o.Partition, From: o.Offset, To: r.To.Offset}
		switch {
		case r.Shifts && !o.Committed:
			return nil, because(InvalidRequest, fmt.Errorf("%s: nothing is committed that could be shifted", objectOf(r.Topic, p.Partition)))
		case r.Shifts:
			m.To = o.Offset + objectlog.Offset(min(max(r.Shift, -int64(o.Offset)), int64(o.HighWatermark))) // within an int64
		case found != nil && found[i].Err != nil:
			return nil, found[i].Err
		case found != nil:
			m.To = found[i].Offset
		}
		m.To = min(max(m.To, o.LogStart), o.HighWatermark)
		moves = append(moves, m)
	}
	return moves, nil
}
