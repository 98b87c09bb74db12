package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// OffsetCommit moves positions of a group.
type OffsetCommit struct {
	Group, Member, Instance string // Member empty: not as a member, and the group must have none, unless Force
	Generation              int64
	Force                   bool
	Positions               []GroupPosition
}

// GroupPosition is a group's position in one partition: the offset of the next record to process.
type GroupPosition struct {
	Topic     string
	Partition objectlog.Partition
	Offset    objectlog.Offset
	Metadata  string
}

// CommitOffsets moves a group's positions, and answers an error or nil for each. Positions beyond the log are refused. What is
// committed together by one call, or at about the same time by many, is one entry of the group's shard log. OutcomeUnknown: some or all may be
// committed, or come to be.
func (a *Agent) CommitOffsets(ctx context.Context, c OffsetCommit) ([]error, error) {
	errs, err := a.commitOffsets(ctx, c, false)
	if err != nil {
		return nil, groupError("commit offsets of", c.Group, err)
	}
	return errs, nil
}

// commitOffsets is CommitOffsets; whole: nothing is committed where something is wrong with one position.
func (a *Agent) commitOffsets(ctx context.Context, c OffsetCommit, whole bool) ([]error, error) {
	if err := groups.CheckGroup(c.Group); err != nil {
		return nil, because(InvalidRequest, err)
	}
	placed, errs := a.place(ctx, c.Positions)
	if len(placed) == 0 || whole && len(placed) < len(errs) {
		a.positions.refused.Add(int64(len(errs)))
		return errs, nil
	}
	command := groups.CommitOffsets{Group: c.Group, Member: c.Member, Instance: c.Instance, Generation: c.Generation, Force: c.Force}
	for _, p := range placed {
		command.Offsets = append(command.Offsets, p.Committed)
	}
	result, err := a.commitGroup(ctx, groups.ShardOf(c.Group, len(a.shards)), command.Command())
	if err == nil && result.Reason != groups.ReasonNone {
		a.positions.refused.Add(int64(len(errs)))
		err = result.Reason
	}
	if err != nil {
		return nil, err
	}
	for _, r := range result.Refused {
		if r.Index < len(placed) {
			i := placed[r.Index].index
			errs[i] = commitError(c.Positions[i], r.Reason)
		}
	}
	for _, err := range errs {
		if err == nil {
			a.positions.committed.Add(1)
		} else {
			a.positions.refused.Add(1)
		}
	}
	return errs, nil
}

func (a *Agent) commitGroup(ctx context.Context, shard objectlog.Shard, command metadata.Command) (groups.Result, error) {
	result, err := a.committers[shard].commit(ctx, command)
	if err != nil {
		return groups.Result{}, err
	}
	return resultOf[groups.Result](result)
}

func commitError(p GroupPosition, cause error) error {
	return topicError("commit offset of", objectOf(p.Topic, p.Partition), cause)
}

// placed is a position that may be committed.
type placed struct {
	groups.Committed
	index int // among those of the call
}

// place answers, in order of their partitions, the positions that may be committed, and what is wrong with the others.
func (a *Agent) place(ctx context.Context, positions []GroupPosition) ([]placed, []error) {
	probed := make(map[objectlog.Shard]error)
	current := func(shard objectlog.Shard) error {
		err, ok := probed[shard]
		if !ok {
			err = a.current(ctx, shard)
			probed[shard] = err
		}
		return err
	}
	all, errs := make([]placed, 0, len(positions)), make([]error, len(positions))
	for i, p := range positions {
		at, err := a.placeOne(p, current)
		if err != nil {
			errs[i] = commitError(p, err)
			continue
		}
		all = append(all, placed{groups.Committed{TopicPartition: at, Offset: p.Offset, Epoch: -1, Metadata: p.Metadata}, i})
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.Compare(b.TopicPartition) })
	once := all[:0]
	for _, p := range all {
		if n := len(once); n > 0 && once[n-1].TopicPartition == p.TopicPartition {
			errs[p.index] = commitError(positions[p.index], because(InvalidRequest, errors.New("the partition is named twice")))
			continue
		}
		once = append(once, p)
	}
	return once, errs
}

// placeOne answers where a position is. That there is something wrong with it is only said behind current reads.
func (a *Agent) placeOne(p GroupPosition, current func(objectlog.Shard) error) (groups.TopicPartition, error) {
	if p.Partition < 0 || p.Offset < 0 {
		return groups.TopicPartition{}, because(InvalidRequest, errors.New("partition and offset must not be negative"))
	}
	if len(p.Metadata) > groups.MetadataBytesMax {
		return groups.TopicPartition{}, because(InvalidRequest, fmt.Errorf("%d bytes of metadata, at most %d", len(p.Metadata), groups.MetadataBytesMax))
	}
	at, err := a.placeHere(p)
	if err == nil {
		return at, nil
	}
	err = current(catalogShard)
	if t, ok := a.visible(p.Topic, p.Partition); ok && err == nil {
		err = current(metadata.ShardOf(t.ID, p.Partition, len(a.shards)))
	}
	if err != nil {
		return at, err
	}
	return a.placeHere(p)
}

// placeHere answers where a position is in the applied state, which may lag.
func (a *Agent) placeHere(p GroupPosition) (groups.TopicPartition, error) {
	t, ok := a.visible(p.Topic, p.Partition)
	if !ok {
		return groups.TopicPartition{}, metadata.ReasonUnknownTopic
	}
	var state metadata.PartitionState
	s := a.shards[metadata.ShardOf(t.ID, p.Partition, len(a.shards))]
	s.log.Read(func(metadata.Seq) { state, ok = s.state.Partition(t.ID, p.Partition) })
	switch {
	case !ok:
		return groups.TopicPartition{}, metadata.ReasonUnknownTopic
	case p.Offset > state.HighWatermark:
		return groups.TopicPartition{}, &Error{Op: "commit offset of", Object: objectOf(p.Topic, p.Partition), Cause: OutOfRange, Hint: "a position is at most the end of the log",
			Details: map[string]string{"high_watermark": strconv.FormatInt(int64(state.HighWatermark), 10)}}
	}
	return groups.TopicPartition{Topic: t.ID, Partition: p.Partition}, nil
}

// positionCounts count the positions of CommitOffsets since the agent was opened. What is unknown of is not counted.
type positionCounts struct{ committed, refused atomic.Int64 }
