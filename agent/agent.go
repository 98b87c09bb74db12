// Package agent is the engine: it batches records into segments, stores them, proposes them to shard logs and
// acknowledges them; it plans and serves reads; it leads shards. Cores are pure, drivers thin. No wire types, no SDK.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// Agent is one running engine. Its methods may be called together, after Run began, until Run returns.
type Agent struct {
	cfg      Config
	table    metadata.Table
	keys     objectlog.Keys
	joiner   *joiner
	shards   []shard // by number
	writer   *writer
	blocks   *blocks
	presence presence
	identity Identity
	leaders  *leaders // of the other agents too; nil: there are none

	producers producerIDs

	coordinators []*coordinator // by shard
	committers   []*committer   // by shard
	topics       topicLists
	positions    positionCounts
	pulls        pulls
	movers       []*mover // by shard

	robinMu sync.Mutex
	robin   map[objectlog.UUID]uint32 // per topic: where the next records without key go

	served   atomic.Bool     // it was ready once
	draining context.Context // ends with Drain
	drain    context.CancelFunc
	beaten   chan struct{} // closed behind the last heartbeat
}

// shard is one shard log and the state that it drives. The state is read within log.Read.
type shard struct {
	log     shardlog.Log // proposals go to the leader
	replica *shardlog.Shard
	state   *metadata.State
	groups  *groups.State
	queues  *queues.State
}

// Open joins the cluster in bucket and table, creating it if the table is empty (with Config.JoinOnly: ErrNoCluster): it takes a
// boot ordinal and writes the agent's item. Refused: a bucket and a table that do not belong together, a restored table, another format level, a
// ring size or shard count other than the cluster's.
func Open(ctx context.Context, cfg Config, bucket objectlog.Bucket, table metadata.Table) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open agent: %w", err)
	}
	cfg = cfg.withDefaults()
	a := &Agent{cfg: cfg, table: table, joiner: &joiner{cfg: cfg, bucket: bucket, table: table},
		robin: make(map[objectlog.UUID]uint32), beaten: make(chan struct{}), pulls: pulls{asked: make(map[queues.Key]int64)}}
	a.draining, a.drain = context.WithCancel(context.Background())
	c, _, err := a.joiner.find(ctx)
	if err != nil {
		return nil, fmt.Errorf("open agent: %w", err)
	}
	a.keys = a.joiner.keys(c)
	ordinal, err := a.joiner.take(ctx, metadata.AgentKey("next"), 1)
	if err != nil {
		return nil, fmt.Errorf("open agent: take a boot ordinal: %w", err)
	}
	boot := a.joiner.newUUID()
	a.presence = presence{table: table, info: AgentInfo{Boot: boot.String(), Ordinal: ordinal,
		ClientAddress: cfg.ClientAddress, PeerAddress: cfg.PeerAddress, Host: cfg.Host, Zone: cfg.Zone, Version: cfg.Version}}
	if a.blocks, err = newBlocks(bucket, a.keys, cfg.BlockCacheBytes); err != nil {
		return nil, fmt.Errorf("open agent: %w", err)
	}
	for i := range c.Shards {
		a.shards = append(a.shards, a.openShard(objectlog.Shard(i), c, boot, bucket))
	}
	a.identity = Identity{Cluster: a.keys.Cluster, FormatLevel: formatLevel, Secret: c.secret(), Boot: boot}
	if cfg.Dial != nil {
		a.leaders = newLeaders(cfg, a.presence.info, boot, a.shards, cfg.Dial(a.identity))
		a.leaders.greeting = a.greeting
		a.blocks.share(a.presence.info, a.leaders.live, a.leaders.peers)
		for i := range a.shards {
			a.shards[i].log = routed{a.shards[i].replica, objectlog.Shard(i), a.leaders}
		}
	}
	for i, s := range a.shards {
		c := newCoordinator(s)
		a.coordinators = append(a.coordinators, c)
		a.movers = append(a.movers, newMover(objectlog.Shard(i), s, c.leading))
		a.committers = append(a.committers, newCommitter(cfg, s.log))
	}
	a.writer = newWriter(cfg, a.shards)
	a.writer.bucket, a.writer.keys, a.writer.blocks, a.writer.boot, a.writer.ordinal = bucket, a.keys, a.blocks, boot, ordinal
	if err := a.presence.enter(ctx); err != nil {
		a.blocks.close()
		return nil, fmt.Errorf("open agent: %w", err)
	}
	return a, nil
}

// tailsBytes bounds what an agent keeps of all shards' newest entries, for those that follow it.
const tailsBytes = 256 << 20

func (a *Agent) openShard(n objectlog.Shard, c cluster, boot objectlog.UUID, bucket objectlog.Bucket) shard {
	state := metadata.NewState(metadata.Config{Shard: n, Shards: c.Shards})
	members, handed := groups.NewState(), queues.NewState()
	driver := shardlog.Open(shardlog.Config{Shard: n, Cluster: a.keys.Cluster, Boot: boot, Lease: a.cfg.Lease, ClaimAtOnce: a.cfg.ExclusiveTable, Random: a.cfg.Random,
		TailBytes: min(4<<20, tailsBytes/max(1, c.Shards))},
		a.keys, a.table, bucket, []shardlog.Registration{
			{Name: "state", From: metadata.StateFrom, To: metadata.StateTo, Machine: state},
			{Name: "groups", From: groups.From, To: groups.To, Machine: members},
			{Name: "queues", From: queues.From, To: queues.To, Machine: handed},
		})
	return shard{log: driver, replica: driver, state: state, groups: members, queues: handed}
}

// Run drives the agent until ctx ends, then lets go gracefully: what is held is flushed and acknowledged, leadership handed on.
func (a *Agent) Run(ctx context.Context) error {
	// Shards and writer outlive ctx by the drain; what merely looks after things ends with it.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, broken := errgroup.WithContext(inner)
	for i, s := range a.shards {
		group.Go(func() error {
			if err := s.replica.Run(broken); err != nil {
				return fmt.Errorf("shard %d: %w", i, err)
			}
			return nil
		})
	}
	group.Go(func() error { return a.writer.run(broken) })
	for _, c := range a.coordinators {
		group.Go(func() error { return a.coordinate(broken, c) })
	}
	for _, c := range a.committers {
		group.Go(func() error { return c.run(broken) })
	}
	if a.leaders != nil {
		group.Go(func() error { return a.leaders.run(broken) })
	}
	outer, end := context.WithCancel(broken)
	defer end()
	defer context.AfterFunc(ctx, end)()
	for _, f := range []func(context.Context) error{a.settle, a.retire, a.retain, a.heartbeat, a.writer.probe} {
		group.Go(func() error { return f(outer) })
	}
	for _, m := range a.movers {
		group.Go(func() error { return a.move(outer, m) })
	}
	group.Go(func() error {
		<-outer.Done()
		a.letGo(broken)
		stop()
		return nil
	})
	err := group.Wait()
	a.blocks.close()
	return err
}

// letGo is the end of a run, in the order in which nothing is lost: first what clients wait for, then what other agents
// wait for. What a store that hangs keeps from being stored must not take the time of the others.
func (a *Agent) letGo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.DrainTimeout)
	defer cancel()
	a.Drain()
	draining, cancelDraining := context.WithTimeout(ctx, a.cfg.DrainTimeout*3/4)
	var held sync.WaitGroup
	held.Go(func() { a.writer.drain(draining) })
	for _, c := range a.committers {
		held.Go(func() { c.drain(draining) })
	}
	held.Wait()
	cancelDraining()
	a.resign(ctx)
	<-a.beaten
	a.presence.leave(context.WithoutCancel(ctx))
}

// resign lets go of what this agent leads, to other agents where there are any. In vain, a successor waits for the lease.
func (a *Agent) resign(ctx context.Context) {
	if a.leaders != nil {
		a.leaders.drain(ctx)
		return
	}
	var resigning sync.WaitGroup
	for _, s := range a.shards {
		resigning.Go(func() { _ = s.replica.Resign(ctx) })
	}
	resigning.Wait()
}

// Ready is nil when the agent can serve: every shard has a leader that it can ask, the table answers, segments can be stored, and the agent is
// not draining.
func (a *Agent) Ready() error {
	if a.draining.Err() != nil {
		return Draining
	}
	var problems, faults []error
	for i, s := range a.shards {
		status := s.log.Status()
		if status.Fault != nil {
			faults = append(faults, status.Fault)
		}
		if err := a.shardReady(objectlog.Shard(i), status); err != nil {
			problems = append(problems, err)
		}
	}
	if len(faults) == len(a.shards) { // nothing is left to serve
		problems = faults
	}
	if err := a.writer.ready(); err != nil {
		problems = append(problems, err)
	}
	if err := a.presence.ready(); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return because(Unavailable, errors.Join(problems...))
	}
	a.served.Store(true)
	return nil
}

// shardReady is nil when the shard can be read here and its leader be asked. While leadership changes hands that goes on: requests wait, and
// agents that all turned clients away would only make it worse. So would they where a shard is damaged and stopped at all of them: the
// others go on.
func (a *Agent) shardReady(n objectlog.Shard, status shardlog.Status) error {
	switch {
	case status.Role == shardlog.RoleHalted && a.leaders != nil && len(a.shards) > 1 && !a.leaders.anyWell(n):
		return nil
	case status.Role == shardlog.RoleHalted:
		return status.Fault
	case status.Away != nil:
		return status.Away
	case status.Role == shardlog.RoleStarting:
		return fmt.Errorf("shard %d is not read yet", n)
	case status.Role == shardlog.RoleLeading:
		return nil
	case a.leaders == nil && (status.Leader.IsZero() || status.Role == shardlog.RoleClaiming):
		return fmt.Errorf("shard %d has no leader yet", n)
	case a.leaders == nil:
		return fmt.Errorf("shard %d is led by agent %s; this one reaches no other and stands by", n, status.Leader)
	}
	since, boot, ok := a.leaders.unreachable(n)
	switch {
	case ok || a.served.Load() && since < 2*a.cfg.Lease:
		return nil
	case boot.IsZero():
		return fmt.Errorf("shard %d has no leader", n)
	}
	return fmt.Errorf("shard %d: its leader, agent %s, can't be reached since %s: look at the network between the two", n, boot, since.Round(time.Second))
}

// Drain makes Ready fail and ends long polls; produce and fetch go on until Run's ctx ends.
func (a *Agent) Drain() { a.drain() }
