package peer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// partitions are so many of each of two topics, in order.
func partitions(n int) (all []groups.TopicPartition) {
	for topic := range byte(2) {
		for p := range n {
			all = append(all, groups.TopicPartition{Topic: uuid(topic), Partition: objectlog.Partition(p)})
		}
	}
	return all
}

func TestHeartbeatsAndTheirAnswersCross(t *testing.T) {
	sent := groups.Heartbeat{Group: "email", Generation: 1 << 40, Leaving: true, Owned: partitions(5000),
		Member: groups.Member{ID: "m", Instance: "i", Client: "c", Host: "h", Subscribed: groups.Subscription{Topics: []string{"a", "b"}, Pattern: "x.*"},
			Session: 1500 * time.Millisecond, Rebalance: time.Minute}}
	answer := groups.Assignment{Generation: 1<<40 + 1, Partitions: partitions(5000), Session: 2 * time.Second}
	var heard groups.Heartbeat
	var waited time.Duration
	address := start(t, &fake{own: identity(calledBoot), beat: func(_ context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
		heard, waited = h, wait
		return answer, nil
	}})
	got, err := connected(t, identity(callerBoot)).Heartbeat(soon(t), called(address), sent, 3*time.Second)
	if err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("got %d partitions of generation %d, %v", len(got.Partitions), got.Generation, err)
	}
	if !reflect.DeepEqual(heard, sent) || waited != 3*time.Second {
		t.Errorf("heard %+v with %d partitions, waiting %s", heard.Member, len(heard.Owned), waited)
	}
}

func TestReasonsOfHeartbeatsCross(t *testing.T) {
	for _, c := range []struct{ sent, want error }{
		{groups.ReasonUnknownMember, groups.ReasonUnknownMember},
		{groups.ReasonFencedInstance, groups.ReasonFencedInstance},
		{groups.ReasonFull, groups.ReasonFull},
		{agent.InvalidRequest, agent.InvalidRequest},
		{errors.Join(agent.InvalidRequest, objectlog.ErrTooLarge), agent.InvalidRequest}, // what was met underneath changes nothing
		{shardlog.ErrNotLeader, shardlog.ErrNotLeader},
		{context.Canceled, nil},
	} {
		address := start(t, &fake{own: identity(calledBoot), beat: func(context.Context, groups.Heartbeat, time.Duration) (groups.Assignment, error) {
			return groups.Assignment{}, fmt.Errorf("heartbeat: %w", c.sent)
		}})
		_, err := connected(t, identity(callerBoot)).Heartbeat(soon(t), called(address), groups.Heartbeat{Group: "g"}, 0)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("sent %v, got %v", c.sent, err)
		}
		if _, reason := errors.AsType[groups.Reason](err); reason != (c.want != nil && reflect.TypeOf(c.want) == reflect.TypeFor[groups.Reason]()) {
			t.Errorf("sent %v, got %v: a reason of the group: %t", c.sent, err, reason)
		}
	}
}

func TestListsOfPartitionsThatAreNoneAreRefused(t *testing.T) {
	id := uuid(7)
	one := &peerv1.Partition{Topic: id[:], Partition: 3}
	for what, list := range map[string][]*peerv1.Partition{
		"nothing":            {nil},
		"a short topic":      {{Topic: id[:15]}},
		"a long topic":       {{Topic: append(id[:], 0)}},
		"negative":           {{Topic: id[:], Partition: -1}},
		"beyond all numbers": {{Topic: id[:], Partition: 1<<31 - 1}},
		"twice":              {one, one},
		"out of order":       {one, {Topic: id[:], Partition: 2}},
		"topics unordered":   {one, {Topic: make([]byte, 16), Partition: 4}},
	} {
		if got, err := ofPartitions(list); err == nil {
			t.Errorf("%s: taken for %v", what, got)
		}
		s := &server{engine: &fake{own: identity(calledBoot), beat: func(context.Context, groups.Heartbeat, time.Duration) (groups.Assignment, error) {
			t.Errorf("%s: reached the agent", what)
			return groups.Assignment{}, nil
		}}}
		boot := uuid(calledBoot)
		if _, err := s.Heartbeat(t.Context(), &peerv1.HeartbeatRequest{To: boot[:], Group: "g", Owned: list}); err == nil {
			t.Errorf("%s: answered", what)
		}
	}
	if got, err := ofPartitions(nil); err != nil || len(got) != 0 {
		t.Errorf("no partitions: %v, %v", got, err)
	}
}

func TestAnswerWithPartitionsOutOfOrderIsNotBelieved(t *testing.T) {
	p := partitions(2)
	address := start(t, &fake{own: identity(calledBoot), beat: func(context.Context, groups.Heartbeat, time.Duration) (groups.Assignment, error) {
		return groups.Assignment{Generation: 1, Partitions: []groups.TopicPartition{p[1], p[0]}, Session: time.Second}, nil
	}})
	got, err := connected(t, identity(callerBoot)).Heartbeat(soon(t), called(address), groups.Heartbeat{Group: "g"}, 0)
	if err == nil || len(got.Partitions) > 0 {
		t.Errorf("believed %+v", got)
	}
}

func TestTimesOfOtherAgentsAreKeptWithinBounds(t *testing.T) {
	for ms, want := range map[int64]time.Duration{-1: 0, -1 << 63: 0, 0: 0, 1500: 1500 * time.Millisecond, 1<<63 - 1: time.Hour} {
		if got := millis(ms); got != want {
			t.Errorf("%d ms: got %s, want %s", ms, got, want)
		}
	}
}

func TestResultsOfGroupsCrossBesideThoseOfPartitions(t *testing.T) {
	results := []any{groups.Result{Generation: 7, Refused: []groups.Refusal{{Index: 1, Reason: groups.ReasonStaleGeneration}, {Index: 1 << 20, Reason: groups.ReasonStaleGeneration}}},
		metadata.TrimResult{LogStart: 4}, groups.Result{Reason: groups.ReasonNotEmpty}, nil}
	address := start(t, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
		return shardlog.Receipt{Seq: 3, Results: results}, nil
	}})
	got, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, make([]metadata.Command, len(results)))
	if err != nil || !reflect.DeepEqual(got.Results, results) {
		t.Errorf("got %+v, %v", got, err)
	}
}
