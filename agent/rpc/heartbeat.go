package rpc

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

const opHeartbeat = "heartbeat"

// The bounds of what a member says.
const (
	subscriptionMax = 1_000   // topics by name
	ownedMax        = 100_000 // partitions: as many go from one agent to another

	sessionMin       = time.Second
	sessionDefault   = 10 * time.Second
	sessionMax       = 30 * time.Minute
	rebalanceMax     = time.Hour
	heartbeatWaitMax = 30 * time.Second
	// waitsPerSession: the next heartbeat, and one more if that is lost, come before the session is over.
	waitsPerSession = 3

	// partitionBytes is about what a partition takes, of a request or an answer.
	partitionBytes = 64
	leftOutPause   = 100 * time.Millisecond
)

// Heartbeat implements GroupService.
func (e *edge) Heartbeat(ctx context.Context, r *v1.HeartbeatRequest) (*v1.HeartbeatResponse, error) {
	h, err := heartbeatOf(r)
	if err != nil {
		return nil, err
	}
	wait, err := heartbeatWait(r.GetMaxWait(), h.Member.Session)
	if err != nil {
		return nil, err
	}
	if err := e.mayBeMember(ctx, r); err != nil {
		return nil, err
	}
	var names topicNames
	if h.Owned, names, err = e.owned(ctx, r.GetOwned()); err != nil {
		return nil, err
	}
	h.Member.Host = hostOf(ctx)
	begun := time.Now()
	answer, err := e.engine.Heartbeat(ctx, h, wait)
	if err != nil {
		return nil, err
	}
	if err := e.claimOf(ctx).take(ctx, int64(len(answer.Partitions))*partitionBytes); err != nil {
		return nil, err
	}
	if names, err = e.named(ctx, answer.Partitions, names); err != nil {
		return nil, err
	}
	out := &v1.HeartbeatResponse{Generation: answer.Generation}
	if answer.Session > 0 {
		out.SessionTimeout = durationpb.New(answer.Session)
	}
	whole := true
	if out.Assigned, whole = names.partitions(answer.Partitions, false); !whole {
		// What is left out stays news to the member until it is assigned no more: its heartbeats would not be held meanwhile.
		_ = pause(ctx, min(leftOutPause, max(0, wait-time.Since(begun))))
	}
	return out, nil
}

// heartbeatOf converts all but what the member owns.
func heartbeatOf(r *v1.HeartbeatRequest) (h groups.Heartbeat, err error) {
	if err := checkGroup(opHeartbeat, r.GetGroup()); err != nil {
		return h, err
	}
	for _, text := range []struct {
		field, value string
		least, most  int
	}{
		{"member", r.GetMember(), 1, memberBytesMax},
		{"instance", r.GetInstance(), 0, instanceBytesMax},
		{"client", r.GetClient(), 0, clientBytesMax},
	} {
		if err := checkText(opHeartbeat, text.field, text.value, text.least, text.most); err != nil {
			return h, err
		}
	}
	if err := checkGeneration(opHeartbeat, r.GetGeneration()); err != nil {
		return h, err
	}
	h = groups.Heartbeat{Group: r.GetGroup(), Generation: r.GetGeneration(), Leaving: r.GetLeave(),
		Member: groups.Member{ID: r.GetMember(), Instance: r.GetInstance(), Client: r.GetClient()}}
	if h.Member.Session, err = between(opHeartbeat, "session_timeout", r.GetSessionTimeout(), sessionMin, sessionMax); err != nil {
		return h, err
	}
	if h.Member.Rebalance, err = between(opHeartbeat, "rebalance_timeout", r.GetRebalanceTimeout(), sessionMin, rebalanceMax); err != nil {
		return h, err
	}
	if !h.Leaving {
		h.Member.Subscribed, err = subscriptionOf(r)
	}
	return h, err
}

// subscriptionOf sorts the topics: a subscription is a set.
func subscriptionOf(r *v1.HeartbeatRequest) (groups.Subscription, error) {
	s := groups.Subscription{Topics: r.GetTopics(), Pattern: r.GetPattern()}
	if n := len(s.Topics); n > subscriptionMax {
		return s, invalid(opHeartbeat, "topics", "%d topics, at most %d", n, subscriptionMax)
	}
	if len(s.Topics) == 0 && s.Pattern == "" {
		return s, invalid(opHeartbeat, "topics", "want at least one, or a pattern")
	}
	for i, name := range s.Topics {
		if err := metadata.CheckTopicName(name); err != nil {
			return s, refused(agent.InvalidTopic, opHeartbeat, fmt.Sprintf("topics[%d]", i), "%v", err)
		}
	}
	if s.Pattern != "" {
		if err := groups.CheckSubscription(groups.Subscription{Pattern: s.Pattern}); err != nil {
			return s, refused(errPattern, opHeartbeat, "pattern", "%v", err)
		}
	}
	s.Topics = slices.Compact(slices.Sorted(slices.Values(s.Topics)))
	return s, nil
}

// between reads a duration to the millisecond, which is what groups and queues keep of it; 0: none is given.
func between(op, field string, d *durationpb.Duration, least, most time.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	given := d.AsDuration()
	if d.CheckValid() != nil || given < least || given > most {
		return 0, invalid(op, field, "%v is not in %v to %v", given, least, most)
	}
	return given.Truncate(time.Millisecond), nil
}

// heartbeatWait is how long the member may be kept waiting for news, however long it would wait. A session of 0 is the default.
func heartbeatWait(asked *durationpb.Duration, session time.Duration) (time.Duration, error) {
	wait := asked.AsDuration()
	if asked != nil && asked.CheckValid() != nil || wait < 0 {
		return 0, invalid(opHeartbeat, "max_wait", "%v is not a time to wait", wait)
	}
	if session == 0 {
		session = sessionDefault
	}
	return min(wait, session/waitsPerSession, heartbeatWaitMax), nil
}

// mayBeMember asks for permission. A pattern tells which topics there are, as their list does.
func (e *edge) mayBeMember(ctx context.Context, r *v1.HeartbeatRequest) error {
	if err := e.authorize(ctx, ActionRead, Resource{Group: r.GetGroup()}); err != nil || r.GetLeave() {
		return err
	}
	for _, name := range r.GetTopics() {
		if err := e.authorize(ctx, ActionRead, Resource{Topic: name}); err != nil {
			return err
		}
	}
	if r.GetPattern() != "" {
		return e.authorize(ctx, ActionDescribe, Resource{})
	}
	return nil
}

// owned converts what the member works on, in the order that the engine wants, and answers the names that it says the topics have.
func (e *edge) owned(ctx context.Context, said []*v1.TopicPartitions) ([]groups.TopicPartition, topicNames, error) {
	names := make(topicNames, len(said))
	count := 0
	for _, t := range said {
		count += len(t.GetPartitions())
	}
	if count > ownedMax {
		return nil, nil, invalid(opHeartbeat, "owned", "%d partitions, at most %d", count, ownedMax)
	}
	if err := e.claimOf(ctx).take(ctx, int64(count)*partitionBytes); err != nil {
		return nil, nil, err
	}
	owned := make([]groups.TopicPartition, 0, count)
	for i, t := range said {
		id, err := objectlog.ParseUUID(t.GetTopicId())
		if err != nil {
			return nil, nil, invalid(opHeartbeat, fmt.Sprintf("owned[%d].topic_id", i), "%v", err)
		}
		if metadata.CheckTopicName(t.GetTopic()) == nil {
			names[id] = t.GetTopic()
		}
		for j, p := range t.GetPartitions() {
			if p < 0 || p >= partitionsMax {
				return nil, nil, invalid(opHeartbeat, fmt.Sprintf("owned[%d].partitions[%d]", i, j), "%d is not in 0 to %d", p, partitionsMax-1)
			}
			owned = append(owned, groups.TopicPartition{Topic: id, Partition: objectlog.Partition(p)})
		}
	}
	slices.SortFunc(owned, groups.TopicPartition.Compare)
	return slices.Compact(owned), names, nil
}

// hostOf is where the call comes from, without the port, which says nothing of a member.
func hostOf(ctx context.Context) string {
	call, ok := connect.CallInfoForHandlerContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(call.Peer().Addr)
	if err != nil {
		return ""
	}
	return host
}
