package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// AgentInfo is one agent's item in the table, as JSON there. The item's revision is the heartbeat.
type AgentInfo struct {
	Boot          string `json:"boot"`
	Ordinal       int64  `json:"ordinal"`
	ClientAddress string `json:"client_address"`
	PeerAddress   string `json:"peer_address,omitempty"`
	Host          string `json:"host,omitempty"`
	Zone          string `json:"zone,omitempty"`
	Version       string `json:"version"`
}

const (
	heartbeatEvery   = 10 * time.Second
	heartbeatRetry   = time.Second // behind one that was not decided
	heartbeatTimeout = 5 * time.Second
	clusterTimeout   = 2 * time.Second // of a list that somebody waits for
	// sweepEvery is how long an agent's item may stand still until the leader of shard 0 removes it. Nothing but lists of
	// agents depends on it.
	sweepEvery = time.Minute
	agentsMax  = 1000
)

// presence keeps this agent's item in the table.
type presence struct {
	table metadata.Table
	info  AgentInfo
	rev   metadata.Rev // of the newest put; only Open, then heartbeat, then leave use it

	away atomic.Pointer[error] // why the newest beat was not decided; nil: it was
}

// ready is nil unless the table has not taken the newest heartbeat.
func (p *presence) ready() error {
	if err := p.away.Load(); err != nil {
		return fmt.Errorf("heartbeat: the table does not answer: %w", *err)
	}
	return nil
}

func (p *presence) item() metadata.Item {
	value, _ := json.Marshal(p.info) // a struct of numbers and strings always encodes
	return metadata.Item{Key: metadata.AgentKey(p.info.Boot), Rev: p.rev, Value: value}
}

// enter puts the item. Only this boot writes it, so a repeat after an unknown outcome is safe.
func (p *presence) enter(ctx context.Context) error {
	p.rev = 1
	var last error
	for range counterTries {
		r := p.table.Put(ctx, p.item(), metadata.If{})
		if r.Outcome == metadata.Applied || r.Outcome == metadata.Refused {
			return nil
		}
		if last = r.Err; ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("put the agent's item: outcome unknown: %w", errors.Join(last, ctx.Err()))
}

// beat raises the item's revision. When it is gone, since a sweep took this agent for dead, it is put anew.
func (p *presence) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	before := p.rev
	p.rev++
	r := p.table.Put(ctx, p.item(), metadata.RevIs(before))
	switch {
	case r.Outcome == metadata.Refused && r.Current == nil:
		r = p.table.Put(ctx, p.item(), metadata.If{})
	case r.Outcome == metadata.Refused:
		p.rev = r.Current.Rev // an earlier beat of unknown outcome
	case r.Outcome == metadata.Unknown:
		p.rev = before
	}
	p.away.Store(nil)
	if r.Outcome == metadata.Unknown && ctx.Err() != context.Canceled {
		slog.Warn("heartbeat", "err", r.Err)
		p.away.Store(&r.Err)
	}
}

// leave removes the item.
func (p *presence) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	for range 2 {
		r := p.table.Delete(ctx, metadata.AgentKey(p.info.Boot), metadata.RevIs(p.rev))
		if r.Outcome != metadata.Refused || r.Current == nil {
			return // removed, or left to the sweep
		}
		p.rev = r.Current.Rev
	}
}

// heartbeat keeps the agent's item moving, looks who else is there and, at the leader of shard 0, removes items that do not move.
func (a *Agent) heartbeat(ctx context.Context) error {
	defer close(a.beaten)
	well := a.list(ctx)
	tick := time.NewTimer(heartbeatRetry)
	defer tick.Stop()
	var seen map[metadata.Key]metadata.Rev
	swept := time.Now()
	for {
		wait := heartbeatEvery
		if !well {
			wait = heartbeatRetry
		}
		tick.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.presence.beat(ctx)
		if well = a.list(ctx) && a.presence.ready() == nil; well && time.Since(swept) >= sweepEvery {
			swept = time.Now()
			seen = a.sweep(ctx, seen)
		}
	}
}

// list tells the leaders who else has an item.
func (a *Agent) list(ctx context.Context) bool {
	if a.leaders == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	items, err := a.agentItems(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			slog.Warn("look for other agents", "err", err)
		}
		return false
	}
	a.leaders.listed(ctx, items)
	return true
}

// sweep removes the items of agents whose revision is what it was at the last sweep, and answers the revisions now.
func (a *Agent) sweep(ctx context.Context, seen map[metadata.Key]metadata.Rev) map[metadata.Key]metadata.Rev {
	if a.shards[catalogShard].log.Status().Role != shardlog.RoleLeading {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	items, err := a.agentItems(ctx)
	if err != nil {
		slog.Warn("sweep agents", "err", err)
		return nil
	}
	now := make(map[metadata.Key]metadata.Rev)
	for _, item := range items {
		if rev, ok := seen[item.Key]; ok && rev == item.Rev {
			a.table.Delete(ctx, item.Key, metadata.RevIs(rev))
			continue
		}
		now[item.Key] = item.Rev
	}
	return now
}

// agentItems answers the items of all agents.
func (a *Agent) agentItems(ctx context.Context) ([]metadata.Item, error) {
	counter := metadata.AgentKey("next")
	all, err := a.table.Query(ctx, counter.PK, "", agentsMax)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	items := all[:0]
	for _, item := range all {
		if item.Key != counter {
			items = append(items, item)
		}
	}
	return items, nil
}

// ClusterInfo describes the cluster.
type ClusterInfo struct {
	ID          objectlog.UUID
	FormatLevel int
	Self        objectlog.UUID // boot of the agent that answers
	Agents      []AgentStatus
	Shards      []ShardInfo
	// AutoPartitions are those of a topic that is created because records are sent to it; 0: it is not created.
	AutoPartitions int32
}

// AgentStatus is an agent of the table's list with what it said last.
type AgentStatus struct {
	AgentInfo
	Heard    time.Duration // ago; negative: never. The agent that answers hears itself at 0
	Draining bool
	Problem  string      // why it is not ready, in a sentence; empty: it is
	Shards   []ShardInfo // as it sees them; empty when it was never heard

	Unreached  string        // why it has not answered this agent for longer than the lease, in a sentence; empty: it has
	ClockAhead time.Duration // of that of most agents, negative when it is behind; 0: right within seconds, or not known
}

// ShardInfo is one shard as an agent sees it.
type ShardInfo struct {
	Shard       objectlog.Shard
	Leads       bool   // the agent itself does
	Leader      string // boot; empty: none is known
	Epoch       objectlog.Epoch
	Applied     metadata.Seq
	Fault       string // what stopped the shard at that agent; empty: well
	Slots, Used int    // of the ring: all, and those with entries behind the previous snapshot
	Snapshot    metadata.Seq
	SnapshotAge time.Duration // negative: unknown to that agent
}

// Cluster describes the cluster. While the table does not answer, which is when people want to know, it is as this agent knows it from the others.
func (a *Agent) Cluster(ctx context.Context) (ClusterInfo, error) {
	info := ClusterInfo{ID: a.keys.Cluster, FormatLevel: formatLevel, Self: a.identity.Boot, Shards: a.shardInfos()}
	if a.cfg.AutoCreate {
		info.AutoPartitions = a.cfg.AutoPartitions
	}
	agents, err := a.listAgents(ctx)
	if err != nil {
		return info, &Error{Op: "describe cluster", Cause: because(Unavailable, err)}
	}
	var clocks map[objectlog.UUID]time.Duration
	if a.leaders != nil {
		clocks = a.leaders.clocks()
	}
	for _, one := range agents {
		info.Agents = append(info.Agents, a.statusOf(one, clocks))
	}
	return info, nil
}

func (a *Agent) listAgents(ctx context.Context) ([]AgentInfo, error) {
	asking, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	items, err := a.agentItems(asking)
	switch {
	case err != nil && a.leaders != nil:
		return a.leaders.known(), nil
	case err != nil:
		return nil, err
	}
	var agents []AgentInfo
	for _, item := range items {
		var one AgentInfo
		if err := json.Unmarshal(item.Value, &one); err != nil {
			return nil, fmt.Errorf("agent's item %s: %w", item.Key.SK, err)
		}
		agents = append(agents, one)
	}
	return agents, nil
}

// statusOf puts beside an agent's item what it said last, and what was met with it.
func (a *Agent) statusOf(one AgentInfo, clocks map[objectlog.UUID]time.Duration) AgentStatus {
	s := AgentStatus{AgentInfo: one, Heard: -1}
	said := Greeting{}
	boot, err := objectlog.ParseUUID(one.Boot)
	switch {
	case err != nil:
	case boot == a.identity.Boot:
		s.Heard, said = 0, a.greeting()
	case a.leaders != nil:
		said, s.Heard = a.leaders.last(boot)
		s.Unreached = a.leaders.unreached(boot)
	}
	s.ClockAhead = clocks[boot]
	s.Draining, s.Problem, s.Shards = said.Draining, said.Problem, said.Shards
	return s
}
