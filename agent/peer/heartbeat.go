package peer

import (
	"context"
	"math"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// Heartbeat implements agent.Peers.
func (c *Client) Heartbeat(ctx context.Context, to agent.AgentInfo, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+heartbeatTimeout)
	defer cancel()
	ctx, call, err := c.beginTo(ctx, "heartbeat in group "+h.Group, to)
	if err != nil {
		return groups.Assignment{}, err
	}
	m := h.Member
	answer, err := c.large.Heartbeat(ctx, &peerv1.HeartbeatRequest{To: call.meant[:], Group: h.Group, Member: m.ID, Instance: m.Instance, Client: m.Client, Host: m.Host,
		Topics: m.Subscribed.Topics, Pattern: m.Subscribed.Pattern, SessionMs: m.Session.Milliseconds(), RebalanceMs: m.Rebalance.Milliseconds(),
		Generation: h.Generation, Owned: toPartitions(h.Owned), Leaving: h.Leaving, WaitMs: wait.Milliseconds()})
	if err := call.end(err); err != nil {
		return groups.Assignment{}, err
	}
	assigned, err := ofPartitions(answer.GetAssigned())
	if err == nil && answer.GetSessionMs() <= 0 && !h.Leaving { // an empty message would take everything from the member
		err = malformed("no session")
	}
	if err != nil {
		return groups.Assignment{}, call.fail(err)
	}
	return groups.Assignment{Generation: answer.GetGeneration(), Partitions: assigned, Session: millis(answer.GetSessionMs())}, nil
}

// Heartbeat implements the service.
func (s *server) Heartbeat(ctx context.Context, r *peerv1.HeartbeatRequest) (*peerv1.HeartbeatResponse, error) {
	if err := s.meant(r.GetTo()); err != nil {
		return nil, toWire(err)
	}
	owned, err := ofPartitions(r.GetOwned())
	if err != nil {
		return nil, toWire(err)
	}
	m := groups.Member{ID: r.GetMember(), Instance: r.GetInstance(), Client: r.GetClient(), Host: r.GetHost(),
		Subscribed: groups.Subscription{Topics: r.GetTopics(), Pattern: r.GetPattern()}, Session: millis(r.GetSessionMs()), Rebalance: millis(r.GetRebalanceMs())}
	h := groups.Heartbeat{Group: r.GetGroup(), Member: m, Generation: r.GetGeneration(), Owned: owned, Leaving: r.GetLeaving()}
	a, err := s.engine.HeartbeatHere(ctx, h, millis(r.GetWaitMs()))
	if err != nil {
		return nil, toWire(err)
	}
	return &peerv1.HeartbeatResponse{Generation: a.Generation, Assigned: toPartitions(a.Partitions), SessionMs: a.Session.Milliseconds()}, nil
}

// millis is a time that another agent told, within what times can be.
func millis(ms int64) time.Duration {
	return time.Duration(min(max(ms, 0), time.Hour.Milliseconds())) * time.Millisecond
}

func toPartitions(all []groups.TopicPartition) []*peerv1.Partition {
	out := make([]*peerv1.Partition, len(all))
	for i, p := range all {
		out[i] = &peerv1.Partition{Topic: p.Topic[:], Partition: int32(p.Partition)}
	}
	return out
}

// ofPartitions reads partitions, which must be in order: they are searched.
func ofPartitions(all []*peerv1.Partition) ([]groups.TopicPartition, error) {
	out := make([]groups.TopicPartition, len(all))
	for i, p := range all {
		if len(p.GetTopic()) != len(out[i].Topic) || p.GetPartition() < 0 || p.GetPartition() == math.MaxInt32 {
			return nil, malformed("partition %d of the list", i)
		}
		copy(out[i].Topic[:], p.GetTopic())
		out[i].Partition = objectlog.Partition(p.GetPartition())
		if i > 0 && out[i].Compare(out[i-1]) <= 0 {
			return nil, malformed("partition %d of the list: out of order", i)
		}
	}
	return out, nil
}
