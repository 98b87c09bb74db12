package client

import (
	"context"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Cluster describes the cluster as the agent that answered sees it.
type Cluster struct {
	ID          string
	FormatLevel int32
	Version     string // of the agent that answered
	AnsweredBy  string // its boot
	Agents      []AgentInfo
	Shards      []ShardInfo
}

// AgentInfo is one agent.
type AgentInfo struct {
	Boot        string
	Ordinal     int64
	Address     string // for clients
	PeerAddress string // for other agents
	Host        string
	Zone        string
	Version     string

	HeardAgo time.Duration // how long ago the agent that answered heard of it; negative: never, and the next three are empty
	Draining bool
	Problem  string  // why it is not ready, in a sentence; empty: it is
	Applied  []int64 // the last entry that it has applied, by shard

	Unreached  string        // why it has not answered that agent for longer than the lease, in a sentence; empty: it has. It may be heard all the same
	ClockAhead time.Duration // how far its clock is ahead of that of most agents, negative when it is behind; 0: right within seconds, or not known
}

// ShardInfo is one shard, in the words of its leader where that was heard.
type ShardInfo struct {
	Shard       int32
	Leader      string // boot of the leader; empty when none is known
	Epoch       int64
	AppliedSeq  int64
	Fault       string        // empty when well
	RingSlots   int32         // entries that the log keeps in the table
	RingUsed    int32         // of them those behind the previous snapshot
	SnapshotSeq int64         // the last entry that the newest snapshot covers; -1: there is none
	SnapshotAge time.Duration // negative: unknown
}

// Cluster describes the cluster.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	res, err := read(ctx, c, "get cluster", c.cluster.GetCluster, &splashdamv1.GetClusterRequest{})
	if err != nil {
		return Cluster{}, err
	}
	out := Cluster{ID: res.GetClusterId(), FormatLevel: res.GetFormatLevel(), Version: res.GetVersion(), AnsweredBy: res.GetAnsweredBy()}
	for _, a := range res.GetAgents() {
		one := AgentInfo{
			Boot: a.GetBootId(), Ordinal: a.GetBootOrdinal(), Address: a.GetClientAddress(), PeerAddress: a.GetPeerAddress(), Host: a.GetHost(), Zone: a.GetZone(),
			Version: a.GetVersion(), HeardAgo: -1, Draining: a.GetDraining(), Problem: a.GetProblem(), Applied: a.GetAppliedSeqs(),
			Unreached: a.GetUnreached(), ClockAhead: a.GetClockAhead().AsDuration(),
		}
		if a.HeardAgo != nil {
			one.HeardAgo = a.GetHeardAgo().AsDuration()
		}
		out.Agents = append(out.Agents, one)
	}
	for _, s := range res.GetShards() {
		one := ShardInfo{
			Shard: s.GetShard(), Leader: s.GetLeader(), Epoch: s.GetEpoch(), AppliedSeq: s.GetAppliedSeq(), Fault: s.GetFault(),
			RingSlots: s.GetRingSlots(), RingUsed: s.GetRingUsed(), SnapshotSeq: s.GetSnapshotSeq(), SnapshotAge: -1,
		}
		if s.SnapshotAge != nil {
			one.SnapshotAge = s.GetSnapshotAge().AsDuration()
		}
		out.Shards = append(out.Shards, one)
	}
	return out, nil
}
