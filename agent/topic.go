package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// catalogShard holds the catalog of topics.
const catalogShard objectlog.Shard = 0

// proposeRetry is how often a proposal is tried while a shard has no leader.
const proposeRetry = 50 * time.Millisecond

// partitionsMax bounds one topic.
const partitionsMax = 100_000

// Topic finds an existing topic. The answer is current.
func (a *Agent) Topic(ctx context.Context, name string) (metadata.Topic, error) {
	var t metadata.Topic
	var err error
	if a.leaders == nil {
		t, err = a.find(ctx, name, AnyPartition)
	} else { // another agent may have changed it a moment ago
		t, err = a.findCurrent(ctx, name, 0)
	}
	if err != nil {
		return t, topicError("describe topic", name, err)
	}
	return t, nil
}

// find answers a topic that clients may see and that has the partition. "Unknown" is only said after a current read.
func (a *Agent) find(ctx context.Context, name string, p objectlog.Partition) (metadata.Topic, error) {
	if t, ok := a.visible(name, p); ok {
		return t, nil
	}
	if err := a.current(ctx, catalogShard); err != nil {
		return metadata.Topic{}, err
	}
	if t, ok := a.visible(name, p); ok {
		return t, nil
	}
	return metadata.Topic{}, metadata.ReasonUnknownTopic
}

// visible is find in the own catalog, which may lag.
func (a *Agent) visible(name string, p objectlog.Partition) (t metadata.Topic, ok bool) {
	s := a.shards[catalogShard]
	s.log.Read(func(metadata.Seq) { t, ok = s.state.Topic(name) })
	return t, ok && t.State == metadata.TopicActive && int32(p) < t.Partitions && p >= AnyPartition
}

// Topics lists up to limit topics with names greater than after. The answer is current.
func (a *Agent) Topics(ctx context.Context, after string, limit int) ([]metadata.Topic, error) {
	if err := a.current(ctx, catalogShard); err != nil {
		return nil, &Error{Op: "list topics", Cause: err}
	}
	var topics []metadata.Topic
	for len(topics) < limit {
		var page []metadata.Topic
		s := a.shards[catalogShard]
		s.log.Read(func(metadata.Seq) { page = s.state.Topics(after, limit-len(topics)) })
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].Name
		for _, t := range page {
			if t.State == metadata.TopicActive {
				topics = append(topics, t)
			}
		}
	}
	return topics, nil
}

// CreateTopic creates a topic and answers when it is active.
func (a *Agent) CreateTopic(ctx context.Context, name string, partitions int32, s metadata.Settings, validateOnly bool) (metadata.Topic, error) {
	const op = "create topic"
	if err := checkTopic(name, partitions, s); err != nil {
		return metadata.Topic{}, topicError(op, name, err)
	}
	if validateOnly {
		if _, err := a.find(ctx, name, AnyPartition); !errors.Is(err, metadata.ReasonUnknownTopic) {
			if err == nil {
				err = metadata.ReasonTopicExists
			}
			return metadata.Topic{}, topicError(op, name, err)
		}
		return metadata.Topic{Name: name, Partitions: partitions, Target: partitions, Settings: s, State: metadata.TopicActive}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
	defer cancel()
	c := metadata.CreateTopic{ID: a.joiner.newUUID(), Name: name, Partitions: partitions, Settings: s}
	for {
		r, err := a.changeTopic(ctx, c.Command())
		if errors.Is(err, metadata.ReasonTopicExists) && r.Topic.State == metadata.TopicDeleting {
			// The name is free once the deleted topic is out of every shard.
			if err = a.waitCatalog(ctx, func(s *metadata.State) bool { t, ok := s.Topic(name); return !ok || t.ID != r.Topic.ID }); err == nil {
				continue
			}
		}
		if err != nil {
			return metadata.Topic{}, topicError(op, name, err)
		}
		t, err := a.waitSettled(ctx, name, c.ID, partitions)
		if err != nil {
			return metadata.Topic{}, topicError(op, name, err)
		}
		return t, nil
	}
}

func checkTopic(name string, partitions int32, s metadata.Settings) error {
	if err := metadata.CheckTopicName(name); err != nil {
		return because(InvalidTopic, err)
	}
	if partitions < 1 || partitions > partitionsMax {
		return because(InvalidRequest, errPartitions)
	}
	if err := metadata.CheckSettings(s); err != nil {
		return because(InvalidSetting, err)
	}
	return nil
}

var errPartitions = errors.New("the number of partitions is 1 to 100,000")

// waitSettled answers the topic once it has so many partitions.
func (a *Agent) waitSettled(ctx context.Context, name string, id objectlog.UUID, partitions int32) (metadata.Topic, error) {
	var found metadata.Topic
	var ok bool
	err := a.waitCatalog(ctx, func(s *metadata.State) bool {
		found, ok = s.Topic(name)
		ok = ok && found.ID == id && found.State != metadata.TopicDeleting
		return !ok || found.State == metadata.TopicActive && found.Partitions >= partitions
	})
	if err == nil && !ok {
		err = metadata.ReasonUnknownTopic // deleted meanwhile
	}
	return found, err
}

// waitCatalog waits until the catalog satisfies done.
func (a *Agent) waitCatalog(ctx context.Context, done func(*metadata.State) bool) error {
	s := a.shards[catalogShard]
	for {
		changed := s.log.Changed()
		ok := false
		s.log.Read(func(metadata.Seq) { ok = done(s.state) })
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return because(OutcomeUnknown, ctx.Err())
		}
	}
}

// AlterTopic replaces the settings by what change makes of them, if version (0: any) is the current one.
func (a *Agent) AlterTopic(ctx context.Context, name string, version int64, change func(metadata.Settings) (metadata.Settings, error), validateOnly bool) (metadata.Topic, error) {
	const op = "alter topic"
	for {
		t, err := a.findCurrent(ctx, name, version)
		if err != nil {
			return metadata.Topic{}, topicError(op, name, err)
		}
		settings := maps.Clone(t.Settings)
		if settings == nil {
			settings = metadata.Settings{}
		}
		if settings, err = change(settings); err == nil {
			err = metadata.CheckSettings(settings)
		}
		if err != nil {
			return metadata.Topic{}, topicError(op, name, because(InvalidSetting, err))
		}
		if validateOnly {
			t.Settings = settings
			return t, nil
		}
		// The change was made from this version, so it must not meet another one.
		r, err := topicResult(a.proposeOnce(ctx, catalogShard, metadata.AlterTopic{ID: t.ID, Version: t.Version, Settings: settings}.Command()))
		if errors.Is(err, metadata.ReasonTopicChanged) && version == 0 && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return metadata.Topic{}, topicError(op, name, err)
		}
		return r.Topic, nil
	}
}

// findCurrent is find by a current read; version 0: any.
func (a *Agent) findCurrent(ctx context.Context, name string, version int64) (metadata.Topic, error) {
	if err := a.current(ctx, catalogShard); err != nil {
		return metadata.Topic{}, err
	}
	t, err := a.find(ctx, name, AnyPartition)
	if err == nil && version != 0 && version != t.Version {
		err = metadata.ReasonTopicChanged
	}
	return t, err
}

// DeleteTopic makes the topic unreachable and answers then; version 0: any.
func (a *Agent) DeleteTopic(ctx context.Context, name string, version int64) error {
	t, err := a.findCurrent(ctx, name, version)
	if err == nil {
		_, err = a.changeTopic(ctx, metadata.DeleteTopic{ID: t.ID, Version: version}.Command())
		if errors.Is(err, metadata.ReasonUnknownTopic) {
			return nil // it was found just now, so this is an earlier attempt of ours, or of others with the same aim
		}
	}
	if err != nil {
		return topicError("delete topic", name, err)
	}
	return nil
}

// AddPartitions raises the number of partitions, to more than there are, and answers when all are there.
func (a *Agent) AddPartitions(ctx context.Context, name string, partitions int32, validateOnly bool) (metadata.Topic, error) {
	const op = "add partitions to topic"
	t, err := a.findCurrent(ctx, name, 0)
	if err == nil && (partitions > partitionsMax || partitions <= t.Partitions) {
		err = &Error{Op: op, Object: name, Cause: because(InvalidRequest, errors.New("partitions can only be added, up to 100,000")),
			Hint: fmt.Sprintf("the topic has %d partitions: name a total above that", t.Partitions)}
	}
	if err != nil {
		return metadata.Topic{}, topicError(op, name, err)
	}
	if validateOnly {
		t.Partitions = partitions
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
	defer cancel()
	if _, err = a.changeTopic(ctx, metadata.GrowTopic{ID: t.ID, Partitions: partitions}.Command()); err == nil {
		t, err = a.waitSettled(ctx, name, t.ID, partitions)
	}
	if err != nil {
		return metadata.Topic{}, topicError(op, name, err)
	}
	return t, nil
}

// TrimPartition moves the log start up and answers the new one.
func (a *Agent) TrimPartition(ctx context.Context, name string, p objectlog.Partition, logStart objectlog.Offset) (objectlog.Offset, error) {
	const op = "trim"
	fail := func(err error) (objectlog.Offset, error) {
		return objectlog.NoOffset, topicError(op, objectOf(name, p), err)
	}
	if p < 0 || logStart < 0 {
		return fail(because(InvalidRequest, errors.New("partition and offset must not be negative")))
	}
	t, err := a.find(ctx, name, p)
	if err != nil {
		return fail(err)
	}
	results, err := a.propose(ctx, metadata.ShardOf(t.ID, p, len(a.shards)), metadata.Trim{Topic: t.ID, Partition: p, LogStart: logStart}.Command())
	if err != nil {
		return fail(err)
	}
	r, ok := results[0].(metadata.TrimResult)
	if !ok {
		return fail(because(OutcomeUnknown, errStrangeResult))
	}
	if r.Reason != metadata.ReasonNone {
		return fail(r.Reason)
	}
	return r.LogStart, nil
}

// PartitionInfo is a partition as DescribeTopic shows it.
type PartitionInfo struct {
	Partition objectlog.Partition
	Shard     objectlog.Shard
	State     metadata.PartitionState
	Err       error
}

// DescribePartitions lists the topic's partitions with current offsets.
func (a *Agent) DescribePartitions(ctx context.Context, t metadata.Topic) []PartitionInfo {
	infos := make([]PartitionInfo, t.Partitions)
	probed := make(map[objectlog.Shard]error)
	for i := range infos {
		p := objectlog.Partition(i)
		shard := metadata.ShardOf(t.ID, p, len(a.shards))
		err, ok := probed[shard]
		if !ok {
			err = a.current(ctx, shard)
			probed[shard] = err
		}
		infos[i] = PartitionInfo{Partition: p, Shard: shard, Err: err}
		if err == nil {
			s := a.shards[shard]
			s.log.Read(func(metadata.Seq) { infos[i].State, ok = s.state.Partition(t.ID, p) })
			if !ok {
				infos[i].Err = metadata.ReasonUnknownTopic
			}
		}
		if infos[i].Err != nil {
			infos[i].Err = topicError("describe", objectOf(t.Name, p), infos[i].Err)
		}
	}
	return infos
}

// changeTopic proposes a command of the catalog and answers its result; the result's reason is the error.
func (a *Agent) changeTopic(ctx context.Context, c metadata.Command) (metadata.TopicResult, error) {
	return topicResult(a.propose(ctx, catalogShard, c))
}

// errStrangeResult: another agent answered what the command does not answer.
var errStrangeResult = errors.New("the leader's answer is of another command")

func topicResult(results []any, err error) (metadata.TopicResult, error) {
	if err != nil {
		return metadata.TopicResult{}, err
	}
	r, ok := results[0].(metadata.TopicResult)
	if !ok {
		return metadata.TopicResult{}, because(OutcomeUnknown, errStrangeResult)
	}
	if r.Reason != metadata.ReasonNone {
		return r, r.Reason
	}
	return r, nil
}

// propose appends commands, together, and answers their results. While the shard has no leader it waits, as long as ctx lasts. Of unknown
// outcome, it proposes the commands again: all but AlterTopic do nothing the second time.
func (a *Agent) propose(ctx context.Context, shard objectlog.Shard, commands ...metadata.Command) ([]any, error) {
	return a.proposeUntil(ctx, shard, commands, true)
}

// proposeOnce is propose for a command that must not be repeated.
func (a *Agent) proposeOnce(ctx context.Context, shard objectlog.Shard, c metadata.Command) ([]any, error) {
	return a.proposeUntil(ctx, shard, []metadata.Command{c}, false)
}

func (a *Agent) proposeUntil(ctx context.Context, shard objectlog.Shard, commands []metadata.Command, repeat bool) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
	defer cancel()
	cause := Unavailable // until a proposal may have been appended
	for {
		receipt, err := proposeToLeader(ctx, a.shards[shard].log, commands)
		if err == nil { // what comes next reads its own write
			err = a.waitApplied(ctx, shard, receipt.Seq)
		}
		switch {
		case err == nil:
			for _, result := range receipt.Results {
				if refused, ok := result.(error); ok {
					return nil, because(InvalidRequest, refused)
				}
			}
			return receipt.Results, nil
		case !errors.Is(err, shardlog.ErrNotLeader):
			cause = OutcomeUnknown // also when the shard halted with the append in flight
		}
		if !repeat || !errors.Is(err, shardlog.ErrUnknown) || errors.Is(err, shardlog.ErrHalted) {
			return nil, because(cause, err)
		}
		select {
		case <-time.After(proposeRetry):
		case <-ctx.Done():
			return nil, because(cause, err)
		}
	}
}

// proposeToLeader waits for a leader as long as ctx lasts. ErrNotLeader: none came, and nothing was appended.
func proposeToLeader(ctx context.Context, log shardlog.Log, commands []metadata.Command) (shardlog.Receipt, error) {
	for {
		receipt, err := log.Propose(ctx, commands)
		if !errors.Is(err, shardlog.ErrNotLeader) || errors.Is(err, shardlog.ErrHalted) {
			return receipt, err
		}
		select {
		case <-time.After(proposeRetry):
		case <-ctx.Done():
			return receipt, err
		}
	}
}

// waitApplied waits until the applied state here has come to the entry: the leader may be another agent.
func (a *Agent) waitApplied(ctx context.Context, shard objectlog.Shard, seq metadata.Seq) error {
	for log := a.shards[shard].log; ; {
		changed := log.Changed()
		status := log.Status()
		if status.Applied >= seq {
			return nil
		}
		if status.Fault != nil {
			return status.Fault
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: wait for seq %d of shard %d: %w", shardlog.ErrUnknown, seq, shard, context.Cause(ctx))
		}
	}
}

// current brings the shard's applied state up to every entry committed before the call.
func (a *Agent) current(ctx context.Context, shard objectlog.Shard) error {
	if _, err := a.shards[shard].log.Current(ctx); err != nil {
		return because(Unavailable, err)
	}
	return nil
}

// topicError puts a cause into words.
func topicError(op, object string, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	return &Error{Op: op, Object: object, Cause: err}
}
