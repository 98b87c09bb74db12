package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
)

// limited tells how long each call may take.
type limited struct {
	*fakeEngine
	seen chan time.Duration
}

func (l limited) see(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	if !ok {
		l.seen <- 0
		return
	}
	l.seen <- time.Until(deadline)
}

func (l limited) Submit(ctx context.Context, r agent.ProduceRequest) Pending {
	l.see(ctx)
	return l.fakeEngine.Submit(ctx, r)
}

func (l limited) Fetch(ctx context.Context, r agent.FetchRequest) []agent.FetchedPartition {
	l.see(ctx)
	return l.fakeEngine.Fetch(ctx, r)
}

func (l limited) Cluster(ctx context.Context) (agent.ClusterInfo, error) {
	l.see(ctx)
	return agent.ClusterInfo{}, fmt.Errorf("look: %w", agent.Unavailable)
}

func (l limited) Heartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	l.see(ctx)
	return l.fakeEngine.Heartbeat(ctx, h, wait)
}

func (l limited) Pull(ctx context.Context, r agent.PullRequest) ([]agent.Pulled, error) {
	l.see(ctx)
	return l.fakeEngine.Pull(ctx, r)
}

func (l limited) Acknowledge(ctx context.Context, group string, all []agent.Acknowledgement) ([]error, error) {
	l.see(ctx)
	return l.fakeEngine.Acknowledge(ctx, group, all)
}

func (l limited) RedriveDeadLetters(ctx context.Context, r agent.Redrive) (agent.Redriven, error) {
	l.see(ctx)
	return l.fakeEngine.RedriveDeadLetters(ctx, r)
}

func (l limited) CreateTopic(ctx context.Context, name string, _ int32, _ metadata.Settings, _ bool) (metadata.Topic, error) {
	l.see(ctx)
	return metadata.Topic{}, &agent.Error{Op: "create topic", Object: name, Cause: agent.OutcomeUnknown}
}

func TestEveryUnaryCallHasADeadline(t *testing.T) {
	seen := make(chan time.Duration, 10)
	w := start(t, func(e *edge) { e.engine = limited{e.engine.(*fakeEngine), seen} })
	w.topic("a", 1)
	for _, c := range []struct {
		procedure, body string
		most            time.Duration
		want            string // what the engine says when it is over
	}{
		{"LogService/Produce", `{"batches":[{"topic":"a","records":{"records":[{}]}}]}`, produceTime, "offset"},
		{"LogService/Fetch", `{"partitions":[{"topic":"a"}],"maxWait":"2s"}`, 2*time.Second + fetchMargin, "partitions"},
		{"LogService/Fetch", `{"partitions":[{"topic":"a"}]}`, fetchMargin, "partitions"},
		{"GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a"],"sessionTimeout":"60s","maxWait":"12s"}`, 12*time.Second + heartbeatMargin, "assigned"},
		{"GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a"],"sessionTimeout":"60s","maxWait":"1200s"}`, 30*time.Second + heartbeatMargin, "assigned"},
		{"QueueService/Pull", `{"group":"g","topic":"a","maxWait":"12s"}`, 12*time.Second + pullMargin, "records"},
		{"QueueService/Pull", `{"group":"g","topic":"a"}`, pullMargin, "{}"},
		{"QueueService/Acknowledge", `{"group":"g","topic":"a","items":[{"tokens":["` + tokenOf(0, 0, 1) + `"],"verdict":"ACCEPT"}]}`, callTime, "{}"},
		{"DeadLetterService/RedriveDeadLetters", `{"topic":"a"}`, redriveTime, "{}"},
		{"ClusterService/GetCluster", `{}`, callTime, `"code":"unavailable"`},
		{"TopicService/CreateTopic", `{"topic":{"name":"b"}}`, callTime, `"code":"deadline_exceeded"`},
	} {
		if _, answer := w.post(c.procedure, c.body); !strings.Contains(answer, c.want) {
			t.Errorf("%s: got %s, want %s", c.procedure, answer, c.want)
		}
		got := <-seen
		for len(seen) > 0 { // a read that waits asks twice
			<-seen
		}
		if got <= c.most-5*time.Second || got > c.most {
			t.Errorf("%s %s: got %v, want about %v", c.procedure, c.body, got, c.most)
		}
	}
}
