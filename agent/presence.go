package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	heartbeatTimeout = 5 * time.Second
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
	case r.Outcome == metadata.Applied:
		return
	case r.Outcome == metadata.Refused && r.Current == nil:
		r = p.table.Put(ctx, p.item(), metadata.If{})
	case r.Outcome == metadata.Refused:
		p.rev = r.Current.Rev // an earlier beat of unknown outcome
	default:
		p.rev = before
	}
	if r.Outcome == metadata.Unknown {
		slog.Warn("heartbeat", "err", r.Err)
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

// heartbeat keeps the agent's item moving and, at the leader of shard 0, removes those that do not.
func (a *Agent) heartbeat(ctx context.Context) error {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	var seen map[metadata.Key]metadata.Rev
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.presence.beat(ctx)
		if time.Since(swept) >= sweepEvery {
			swept = time.Now()
			seen = a.sweep(ctx, seen)
		}
	}
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

// Cluster describes the cluster.
func (a *Agent) Cluster(ctx context.Context) (ClusterInfo, error) {
	const op = "describe cluster"
	info := ClusterInfo{ID: a.keys.Cluster, FormatLevel: formatLevel}
	items, err := a.agentItems(ctx)
	if err != nil {
		return info, &Error{Op: op, Cause: because(Unavailable, err)}
	}
	if a.cfg.AutoCreate {
		info.AutoPartitions = a.cfg.AutoPartitions
	}
	for _, item := range items {
		var one AgentInfo
		if err := json.Unmarshal(item.Value, &one); err != nil {
			return info, &Error{Op: op, Object: item.Key.SK, Cause: because(Unavailable, err)}
		}
		info.Agents = append(info.Agents, AgentStatus{AgentInfo: one})
	}
	for i, s := range a.shards {
		status := s.log.Status()
		one := ShardInfo{Shard: objectlog.Shard(i), Epoch: status.Epoch, Applied: status.Applied}
		if !status.Leader.IsZero() {
			one.Leader = status.Leader.String()
		}
		if status.Fault != nil {
			one.Fault = status.Fault.Error()
		}
		info.Shards = append(info.Shards, one)
	}
	return info, nil
}
