package peer

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

func fullGreeting(n byte) agent.Greeting {
	return agent.Greeting{
		Agent:    agent.AgentInfo{Boot: uuid(n).String(), Ordinal: 7, ClientAddress: "a:1", PeerAddress: "b:2", Host: "h", Zone: "z", Version: "v1"},
		Draining: true, Problem: "the table is away: 5 s", Wall: 1_764_000_000_000,
		Shards: []agent.ShardInfo{
			{Shard: 0, Leads: true, Leader: uuid(n).String(), Epoch: 9, Applied: 1 << 40, Slots: 4096, Used: 12, Snapshot: 77, SnapshotAge: 3 * time.Second},
			{Shard: 65535, Applied: -1, Fault: "slot 3: want 5, found 4", Snapshot: -1, SnapshotAge: -1},
		},
	}
}

func TestGreetingsCrossBothWays(t *testing.T) {
	var heard agent.Greeting
	address := start(t, &fake{own: identity(calledBoot), greet: func(_ context.Context, from agent.Greeting) (agent.Greeting, error) {
		heard = from
		return fullGreeting(calledBoot), nil
	}})
	got, err := connected(t, identity(callerBoot)).Ping(soon(t), address, fullGreeting(callerBoot))
	if err != nil || !reflect.DeepEqual(got, fullGreeting(calledBoot)) {
		t.Errorf("got %+v, %v, want %+v", got, err, fullGreeting(calledBoot))
	}
	if !reflect.DeepEqual(heard, fullGreeting(callerBoot)) {
		t.Errorf("heard %+v, want %+v", heard, fullGreeting(callerBoot))
	}
}

func TestWordsThatAreNoTextStillCross(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot), greet: func(context.Context, agent.Greeting) (agent.Greeting, error) {
		g := greetingOf(calledBoot)
		g.Problem = "found \xff"
		return g, nil
	}})
	got, err := connected(t, identity(callerBoot)).Ping(soon(t), address, greetingOf(callerBoot))
	if err != nil || got.Problem != "found \uFFFD" {
		t.Errorf("got %q, %v", got.Problem, err)
	}
}

func TestGreetingInTheNameOfAnotherIsRefused(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot), greet: func(context.Context, agent.Greeting) (agent.Greeting, error) {
		return greetingOf(calledBoot), nil
	}})
	_, err := connected(t, identity(callerBoot)).Ping(soon(t), address, greetingOf(3))
	if err == nil || !strings.Contains(err.Error(), uuid(3).String()) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyGreetsForLongerThanItsTime(t *testing.T) {
	asked := make(chan struct{})
	address := start(t, &fake{own: identity(calledBoot), greet: func(ctx context.Context, _ agent.Greeting) (agent.Greeting, error) {
		close(asked)
		<-ctx.Done()
		return agent.Greeting{}, ctx.Err()
	}})
	before := time.Now()
	_, err := connected(t, identity(callerBoot)).Ping(context.Background(), address, greetingOf(callerBoot))
	if took := time.Since(before); err == nil || took > 3*greetTimeout {
		t.Errorf("got %v after %v", err, took)
	}
	<-asked
}

// FuzzGreeting: no message panics, and what is taken is written again as the same.
func FuzzGreeting(f *testing.F) {
	m, err := toGreeting(fullGreeting(calledBoot))
	if err != nil {
		f.Fatal(err)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m peerv1.Greeting
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		var boot objectlog.UUID
		copy(boot[:], m.GetBoot())
		g, err := ofGreeting(&m, boot)
		if err != nil {
			return
		}
		again, err := toGreeting(g)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ofGreeting(again, boot); err != nil || !reflect.DeepEqual(got, g) {
			t.Fatalf("got %+v, %v, want %+v", got, err, g)
		}
	})
}
