package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

// heartbeatPatience is how long a heartbeat looks for its leader, beyond what it waits for news.
const heartbeatPatience = 10 * time.Second

// Heartbeat takes a member's sign of life to whoever keeps its session, and answers what the member may work on. It waits up to wait for news,
// through changes of the leader too, but not while this agent drains. Its errors are a groups.Reason, InvalidRequest, or Unavailable: then
// it may be sent again.
func (a *Agent) Heartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	const op = "heartbeat in"
	ctx, cancel := context.WithTimeout(ctx, wait+heartbeatPatience)
	defer cancel()
	until := time.Now().Add(wait)
	for {
		var t tenure
		var to AgentInfo
		if a.leaders != nil {
			t, to = a.leaders.leader(groups.ShardOf(h.Group, len(a.shards)))
		}
		answer, err := a.heartbeatAt(ctx, t, to, h, until)
		reason, settled := errors.AsType[groups.Reason](err)
		switch {
		case err == nil:
			return answer, nil
		case settled:
			return groups.Assignment{}, groupError(op, h.Group, reason)
		case errors.Is(err, InvalidRequest):
			return groups.Assignment{}, groupError(op, h.Group, err)
		}
		if !t.next(ctx) {
			return groups.Assignment{}, groupError(op, h.Group, because(Unavailable, err))
		}
	}
}

// heartbeatAt asks the leader of a tenure. When the tenure ends meanwhile, whoever is asked may never answer. That nothing came of it is no answer
// to the member, but it may be asked anew of anybody.
func (a *Agent) heartbeatAt(ctx context.Context, t tenure, to AgentInfo, h groups.Heartbeat, until time.Time) (groups.Assignment, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wait := max(0, time.Until(until))
	if a.draining.Err() != nil {
		wait = 0
	}
	if wait > 0 { // what is waited for no longer is asked for once more, without
		defer context.AfterFunc(a.draining, stop)()
	}
	if a.leaders == nil {
		return a.HeartbeatHere(ctx, h, wait)
	}
	if t.boot.IsZero() {
		return groups.Assignment{}, fmt.Errorf("no leader is known: %w", shardlog.ErrNotLeader)
	}
	defer context.AfterFunc(t.over, stop)()
	if t.boot == a.leaders.own.Boot {
		return a.HeartbeatHere(ctx, h, wait)
	}
	return a.leaders.peers.Heartbeat(ctx, to, h, wait)
}

// HeartbeatHere takes the heartbeat of a member whose group's shard this very agent leads; shardlog.ErrNotLeader otherwise. It waits up to
// wait for news. A groups.Reason is the group's answer; InvalidRequest will not do at any other agent either; after any other error
// the same heartbeat may be sent again.
func (a *Agent) HeartbeatHere(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	c := a.coordinators[groups.ShardOf(h.Group, len(a.shards))]
	if !slices.IsSortedFunc(h.Owned, groups.TopicPartition.Compare) { // it would be taken to have let go of what is not found
		return groups.Assignment{}, because(InvalidRequest, errors.New("owned partitions are out of order"))
	}
	waited := time.NewTimer(wait)
	defer waited.Stop()
	epoch := c.leading()
	if epoch == 0 {
		return groups.Assignment{}, shardlog.ErrNotLeader
	}
	commands, err := c.take(h)
	if len(commands) > 0 {
		err = c.carryOut(ctx, commands)
	}
	for wait := wait > 0; ; {
		var answer groups.Assignment
		var moved <-chan struct{}
		if err == nil {
			answer, moved, err = c.answer(h, wait)
		}
		switch {
		case c.leading() != epoch || err == nil && answer.Generation < h.Generation && !h.Leaving:
			return groups.Assignment{}, fmt.Errorf("this agent's view of the group may be an old one: %w", shardlog.ErrNotLeader)
		case err != nil || moved == nil:
			return answer, err
		}
		select {
		case <-moved:
		case <-waited.C:
			wait = false
		case <-c.ended:
			return groups.Assignment{}, shardlog.ErrNotLeader
		case <-ctx.Done():
			return groups.Assignment{}, ctx.Err()
		}
	}
}

// carryOut appends what a heartbeat asks for. A Release that came too late is no fault of the member's.
func (c *coordinator) carryOut(ctx context.Context, commands []metadata.Command) error {
	receipt, err := own(c.shard.log).Propose(ctx, commands)
	if err != nil {
		return err
	}
	for _, result := range receipt.Results {
		r, err := resultOf[groups.Result](result)
		if err != nil {
			return err
		}
		if r.Reason == groups.ReasonFull || r.Reason == groups.ReasonFencedInstance {
			return r.Reason
		}
	}
	return nil
}

func groupError(op, group string, cause error) error {
	return topicError(op, "group "+group, cause)
}
