package peer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// Ping implements agent.Peers.
func (c *Client) Ping(ctx context.Context, address string, own agent.Greeting) (agent.Greeting, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	ctx, call := c.begin(ctx, "ping", address)
	mine, err := toGreeting(own)
	if err != nil {
		return agent.Greeting{}, call.fail(err)
	}
	answer, err := c.small.Ping(ctx, &peerv1.PingRequest{Greeting: mine})
	if err := call.end(err); err != nil {
		return agent.Greeting{}, err
	}
	theirs, err := ofGreeting(answer.GetGreeting(), call.by.boot)
	if err != nil {
		return agent.Greeting{}, call.fail(err)
	}
	return theirs, nil
}

// Ping implements the service.
func (s *server) Ping(ctx context.Context, r *peerv1.PingRequest) (*peerv1.PingResponse, error) {
	theirs, err := ofGreeting(r.GetGreeting(), callerOf(ctx).boot)
	if err != nil {
		return nil, toWire(err)
	}
	own, err := s.engine.Greet(ctx, theirs)
	if err != nil {
		return nil, toWire(err)
	}
	mine, err := toGreeting(own)
	return &peerv1.PingResponse{Greeting: mine}, toWire(err)
}

func toGreeting(g agent.Greeting) (*peerv1.Greeting, error) {
	boot, err := objectlog.ParseUUID(g.Agent.Boot)
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	out := &peerv1.Greeting{Boot: boot[:], BootOrdinal: g.Agent.Ordinal, ClientAddress: words(g.Agent.ClientAddress),
		PeerAddress: words(g.Agent.PeerAddress), Host: words(g.Agent.Host), Zone: words(g.Agent.Zone), Version: words(g.Agent.Version),
		Draining: g.Draining, Problem: words(g.Problem), WallMs: int64(g.Wall)}
	for _, s := range g.Shards {
		one := &peerv1.Greeting_Shard{Shard: int32(s.Shard), Leads: s.Leads, Epoch: int64(s.Epoch), AppliedSeq: int64(s.Applied),
			Fault: words(s.Fault), RingSlots: int64(s.Slots), RingUsed: int64(s.Used), SnapshotSeq: int64(s.Snapshot), SnapshotAgeMs: -1}
		if s.Leader != "" {
			leader, err := objectlog.ParseUUID(s.Leader)
			if err != nil {
				return nil, fmt.Errorf("greeting: leader of shard %d: %w", s.Shard, err)
			}
			one.Leader = leader[:]
		}
		if s.SnapshotAge >= 0 {
			one.SnapshotAgeMs = s.SnapshotAge.Milliseconds()
		}
		out.Shards = append(out.Shards, one)
	}
	return out, nil
}

// ofGreeting reads the greeting of the agent that the headers name.
func ofGreeting(g *peerv1.Greeting, from objectlog.UUID) (agent.Greeting, error) {
	boot, err := uuidOf("boot", g.GetBoot())
	if err == nil && boot != from {
		err = malformed("boot %s, from boot %s", boot, from)
	}
	if err != nil {
		return agent.Greeting{}, fmt.Errorf("greeting: %w", err)
	}
	out := agent.Greeting{Agent: agent.AgentInfo{Boot: boot.String(), Ordinal: g.GetBootOrdinal(), ClientAddress: g.GetClientAddress(),
		PeerAddress: g.GetPeerAddress(), Host: g.GetHost(), Zone: g.GetZone(), Version: g.GetVersion()},
		Draining: g.GetDraining(), Problem: g.GetProblem(), Wall: objectlog.Timestamp(g.GetWallMs())}
	for _, s := range g.GetShards() {
		one, err := ofGreetingShard(s)
		if err != nil {
			return agent.Greeting{}, fmt.Errorf("greeting: shard %d: %w", s.GetShard(), err)
		}
		out.Shards = append(out.Shards, one)
	}
	return out, nil
}

func ofGreetingShard(s *peerv1.Greeting_Shard) (agent.ShardInfo, error) {
	const agesMax = math.MaxInt64 / int64(time.Millisecond)
	shard, err := shardOf(s.GetShard())
	if err != nil {
		return agent.ShardInfo{}, err
	}
	epoch, err := epochOf(s.GetEpoch())
	if err != nil {
		return agent.ShardInfo{}, err
	}
	one := agent.ShardInfo{Shard: shard, Leads: s.GetLeads(), Epoch: epoch, Applied: metadata.Seq(s.GetAppliedSeq()), Fault: s.GetFault(),
		Slots: int(s.GetRingSlots()), Used: int(s.GetRingUsed()), Snapshot: metadata.Seq(s.GetSnapshotSeq()), SnapshotAge: -1}
	if len(s.GetLeader()) > 0 {
		leader, err := uuidOf("leader", s.GetLeader())
		if err != nil {
			return agent.ShardInfo{}, err
		}
		one.Leader = leader.String()
	}
	if age := s.GetSnapshotAgeMs(); age >= 0 {
		one.SnapshotAge = time.Duration(min(age, agesMax)) * time.Millisecond
	}
	return one, nil
}

// malformed is a message that no agent writes.
func malformed(format string, args ...any) error {
	return fmt.Errorf("malformed message: "+format, args...)
}

func uuidOf(what string, b []byte) (objectlog.UUID, error) {
	if len(b) != len(objectlog.UUID{}) {
		return objectlog.UUID{}, malformed("%s of %d bytes", what, len(b))
	}
	return objectlog.UUID(b), nil
}

func shardOf(n int32) (objectlog.Shard, error) {
	if n < 0 || n > math.MaxUint16 {
		return 0, malformed("shard %d", n)
	}
	return objectlog.Shard(n), nil
}

func epochOf(n int64) (objectlog.Epoch, error) {
	if n < 0 || n > math.MaxInt32 {
		return 0, malformed("epoch %d", n)
	}
	return objectlog.Epoch(n), nil
}
