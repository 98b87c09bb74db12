package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
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
// committed together by one call, or at about the same time by many, is one entry of the group's shard log.
func (a *Agent) CommitOffsets(ctx context.Context, c OffsetCommit) ([]error, error) {
	const op = "commit offsets of"
	if err := groups.CheckGroup(c.Group); err != nil {
		return nil, groupError(op, c.Group, because(InvalidRequest, err))
	}
	errs := make([]error, len(c.Positions))
	command := groups.CommitOffsets{Group: c.Group, Member: c.Member, Instance: c.Instance, Generation: c.Generation, Force: c.Force}
	var index []int // by place in the command
	places := make(map[groups.TopicPartition]bool, len(c.Positions))
	for i, p := range c.Positions {
		at, err := a.committable(ctx, p)
		if err == nil && places[at] {
			err = because(InvalidRequest, errors.New("the partition is named twice"))
		}
		if err != nil {
			errs[i] = topicError("commit offset of", objectOf(p.Topic, p.Partition), err)
			continue
		}
		places[at] = true
		command.Offsets = append(command.Offsets, groups.Committed{TopicPartition: at, Offset: p.Offset, Epoch: -1, Metadata: p.Metadata})
		index = append(index, i)
	}
	if len(command.Offsets) == 0 {
		return errs, nil
	}
	sortTogether(command.Offsets, index)
	shard := groups.ShardOf(c.Group, len(a.shards))
	result, err := a.committers[shard].commit(ctx, command.Command())
	if err != nil {
		return nil, groupError(op, c.Group, err)
	}
	if result.Reason != groups.ReasonNone {
		return nil, groupError(op, c.Group, result.Reason)
	}
	for _, r := range result.Refused {
		if r.Index < len(index) {
			p := c.Positions[index[r.Index]]
			errs[index[r.Index]] = topicError("commit offset of", objectOf(p.Topic, p.Partition), r.Reason)
		}
	}
	return errs, nil
}

// sortTogether sorts offsets by partition, and their indexes with them.
func sortTogether(offsets []groups.Committed, index []int) {
	type pair struct {
		offset groups.Committed
		index  int
	}
	pairs := make([]pair, len(offsets))
	for i := range offsets {
		pairs[i] = pair{offsets[i], index[i]}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return a.offset.Compare(b.offset.TopicPartition) })
	for i, p := range pairs {
		offsets[i], index[i] = p.offset, p.index
	}
}

// committable answers where a position is, if it may be committed.
func (a *Agent) committable(ctx context.Context, p GroupPosition) (groups.TopicPartition, error) {
	if p.Partition < 0 || p.Offset < 0 {
		return groups.TopicPartition{}, because(InvalidRequest, errors.New("partition and offset must not be negative"))
	}
	if len(p.Metadata) > groups.MetadataBytesMax {
		return groups.TopicPartition{}, because(InvalidRequest, fmt.Errorf("%d bytes of metadata, at most %d", len(p.Metadata), groups.MetadataBytesMax))
	}
	t, err := a.find(ctx, p.Topic, p.Partition)
	if err != nil {
		return groups.TopicPartition{}, err
	}
	at := groups.TopicPartition{Topic: t.ID, Partition: p.Partition}
	shard := metadata.ShardOf(t.ID, p.Partition, len(a.shards))
	beyond := func() (is bool) {
		s := a.shards[shard]
		s.log.Read(func(metadata.Seq) {
			state, _ := s.state.Partition(t.ID, p.Partition)
			is = p.Offset > state.HighWatermark
		})
		return is
	}
	if beyond() {
		if err := a.current(ctx, shard); err != nil {
			return at, err
		}
		if beyond() {
			return at, because(OutOfRange, errors.New("the position lies beyond the end of the log"))
		}
	}
	return at, nil
}

// committer collects the commits of offsets for one shard: a lone one is proposed at once, and many wait for each other, so that they are
// not more entries than flushes.
type committer struct {
	log  shardlog.Log
	cfg  Config
	wake chan struct{} // holds a value when something waits

	mu      sync.Mutex
	waiting []*commitCall // oldest first
	tokens  float64
	filled  time.Time
}

// commitCall is one commit under way. What was given up by its caller is proposed all the same.
type commitCall struct {
	command metadata.Command
	done    chan struct{} // closed when result and err are set
	result  groups.Result
	err     error
}

const (
	commitsMax      = 4096 // waiting for one shard
	commitsOnce     = 1024 // in one proposal
	commitBytesOnce = 128 << 10
)

func newCommitter(cfg Config, log shardlog.Log) *committer {
	return &committer{log: log, cfg: cfg, wake: make(chan struct{}, 1), tokens: float64(cfg.FlushBurst), filled: time.Now()}
}

// commit answers when the command is applied at the leader.
func (c *committer) commit(ctx context.Context, command metadata.Command) (groups.Result, error) {
	call := &commitCall{command: command, done: make(chan struct{})}
	c.mu.Lock()
	if len(c.waiting) >= commitsMax {
		c.mu.Unlock()
		return groups.Result{}, Busy
	}
	c.waiting = append(c.waiting, call)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProduceTimeout)
	defer cancel()
	select {
	case <-call.done:
		return call.result, call.err
	case <-ctx.Done():
		return groups.Result{}, because(OutcomeUnknown, ctx.Err())
	}
}

// run proposes what is committed, one proposal at a time, until ctx ends.
func (c *committer) run(ctx context.Context) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
		for calls := c.take(); len(calls) > 0; calls = c.take() {
			if wait := c.pace(); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				}
				calls = c.takeMore(calls)
			}
			c.propose(ctx, calls)
		}
	}
}

func (c *committer) take() []*commitCall { return c.takeMore(nil) }

// takeMore adds to calls what waits, as far as one proposal has room.
func (c *committer) takeMore(calls []*commitCall) []*commitCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := 0
	for _, call := range calls {
		size += len(call.command.Body)
	}
	for len(c.waiting) > 0 && len(calls) < commitsOnce && (len(calls) == 0 || size+len(c.waiting[0].command.Body) <= commitBytesOnce) {
		size += len(c.waiting[0].command.Body)
		calls = append(calls, c.waiting[0])
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
	}
	return calls
}

// pace takes a token and answers how long to wait for it.
func (c *committer) pace() time.Duration {
	if c.cfg.FlushFreely {
		return 0
	}
	now := time.Now()
	c.tokens = min(float64(c.cfg.FlushBurst), c.tokens+now.Sub(c.filled).Seconds()*c.cfg.FlushRate)
	c.filled = now
	c.tokens--
	return max(0, time.Duration(-c.tokens/c.cfg.FlushRate*float64(time.Second)))
}

func (c *committer) propose(ctx context.Context, calls []*commitCall) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProduceTimeout)
	defer cancel()
	commands := make([]metadata.Command, len(calls))
	for i, call := range calls {
		commands[i] = call.command
	}
	receipt, err := proposeToLeader(ctx, c.log, commands)
	for i, call := range calls {
		switch {
		case err != nil:
			call.err = err
		default:
			call.result, call.err = groupResult(receipt.Results[i])
		}
		close(call.done)
	}
}

// proposeToLeader waits for a leader as long as ctx lasts.
func proposeToLeader(ctx context.Context, log shardlog.Log, commands []metadata.Command) (shardlog.Receipt, error) {
	for {
		receipt, err := log.Propose(ctx, commands)
		switch {
		case err == nil:
			return receipt, nil
		case !errors.Is(err, shardlog.ErrNotLeader):
			return receipt, because(OutcomeUnknown, err)
		case errors.Is(err, shardlog.ErrHalted):
			return receipt, because(Unavailable, err)
		}
		select {
		case <-time.After(proposeRetry):
		case <-ctx.Done():
			return receipt, because(Unavailable, err)
		}
	}
}

func groupResult(result any) (groups.Result, error) {
	switch r := result.(type) {
	case groups.Result:
		return r, nil
	case error:
		return groups.Result{}, because(InvalidRequest, r)
	}
	return groups.Result{}, because(OutcomeUnknown, errStrangeResult)
}
