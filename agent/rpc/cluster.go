package rpc

import (
	"cmp"
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// GetCluster implements ClusterService.
func (e *edge) GetCluster(ctx context.Context, _ *v1.GetClusterRequest) (*v1.GetClusterResponse, error) {
	if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil {
		return nil, err
	}
	c, err := e.engine.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	out := &v1.GetClusterResponse{
		ClusterId:   c.ID.String(),
		FormatLevel: int32(c.FormatLevel),
		Limits: &v1.GetClusterResponse_Limits{
			RequestBytesMax:       int64(e.cfg.RequestBytesMax),
			BatchBytesMax:         int64(e.cfg.Limits.BatchBytes),
			FetchBytesMax:         fetchBytesMax,
			FetchWaitMaxMs:        fetchWaitMax.Milliseconds(),
			PartitionsPerTopicMax: partitionsMax,
		},
		Version:              e.cfg.Version,
		AutoCreatePartitions: c.AutoPartitions,
	}
	if !c.Self.IsZero() {
		out.AnsweredBy = c.Self.String()
	}
	for _, a := range c.Agents {
		out.Agents = append(out.Agents, agentMessage(a))
	}
	for _, s := range c.Shards {
		out.Shards = append(out.Shards, shardMessage(s, c.Agents))
	}
	return out, nil
}

func agentMessage(a agent.AgentStatus) *v1.GetClusterResponse_Agent {
	out := &v1.GetClusterResponse_Agent{
		BootId: a.Boot, BootOrdinal: a.Ordinal, ClientAddress: a.ClientAddress, PeerAddress: a.PeerAddress, Host: a.Host, Zone: a.Zone, Version: a.Version,
	}
	out.Unreached = oneLine(a.Unreached)
	if a.ClockAhead != 0 {
		out.ClockAhead = durationpb.New(a.ClockAhead)
	}
	if a.Heard < 0 {
		return out
	}
	out.HeardAgo, out.Draining, out.Problem = durationpb.New(a.Heard), a.Draining, oneLine(a.Problem)
	for _, s := range a.Shards {
		out.AppliedSeqs = append(out.AppliedSeqs, int64(s.Applied))
	}
	return out
}

// leaderHeardMax is how long ago a leader may have been heard whose word on its shard stands against what is met here.
const leaderHeardMax = 5 * time.Second

// shardMessage is the shard as its leader said it, where that was heard, else as the agent that answers sees it: only the leader knows of
// snapshots and of the ring at once. What was applied is the newest of both, since the leader was heard some time ago. A replica that stopped
// here is not the shard while its leader goes on: it is in this agent's problem.
func shardMessage(own agent.ShardInfo, agents []agent.AgentStatus) *v1.GetClusterResponse_Shard {
	best, fault := own, own.Fault
	for _, a := range agents {
		if a.Heard < 0 || int(own.Shard) >= len(a.Shards) {
			continue
		}
		if said := a.Shards[own.Shard]; said.Leads && (said.Epoch > best.Epoch || said.Epoch == best.Epoch && !best.Leads) {
			if best = said; a.Heard <= leaderHeardMax {
				fault = said.Fault
			}
		}
	}
	out := &v1.GetClusterResponse_Shard{
		Shard: new(int32(own.Shard)), Leader: best.Leader, Epoch: int64(best.Epoch), AppliedSeq: new(int64(max(own.Applied, best.Applied))),
		Fault: cmp.Or(fault, best.Fault), RingSlots: int32(best.Slots), RingUsed: int32(best.Used), SnapshotSeq: new(int64(best.Snapshot)),
	}
	if best.SnapshotAge >= 0 {
		out.SnapshotAge = durationpb.New(best.SnapshotAge)
	}
	return out
}
