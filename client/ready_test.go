package client_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// unreadiness puts the mark of an agent that is not ready on what f answers, while the switch is on.
func unreadiness(f *fake) (on *atomic.Bool) {
	on = new(atomic.Bool)
	next := f.server.Config.Handler
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if on.Load() {
			w.Header().Set("Splashdam-Ready", "false")
		}
		next.ServeHTTP(w, r)
	})
	return on
}

// refuseAll makes f refuse the calls of that name as an agent does that is cut off from its stores.
func refuseAll(f *fake, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = func(call string) error {
		if call != name {
			return nil
		}
		return failure(connect.CodeUnavailable, detail("unavailable", "NOT_ENOUGH_REPLICAS", 19, true))
	}
}

func TestClientLeavesAnAgentOfItsZoneThatIsNotReady(t *testing.T) {
	z := newZoned(t, "a", nil)
	if at := z.ask(t); at != "near" {
		t.Fatalf("asked %s, want near", at)
	}
	refuseAll(z.near, "GetTopic")
	if _, _, err := z.client.Topic(within(t), "matches"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if at := z.ask(t); at != "far" {
			t.Fatalf("asked %s, want far", at)
		}
	}
	if got := z.near.count("GetTopic"); got != 2 {
		t.Errorf("%d calls at the agent that is not ready, want the one that it refused", got-1)
	}
}

func TestClientLeavesAnAgentThatSaysInAGoodAnswerThatItIsNotReady(t *testing.T) {
	var off *atomic.Bool
	z := newZoned(t, "a", func(z *zoned) { off = unreadiness(z.near) })
	if at := z.ask(t); at != "near" {
		t.Fatalf("asked %s, want near", at)
	}
	off.Store(true)
	if at := z.ask(t); at != "near" {
		t.Fatalf("asked %s, want near: nothing was said yet", at)
	}
	for range 3 {
		if at := z.ask(t); at != "far" {
			t.Fatalf("asked %s, want far", at)
		}
	}
}

func TestClientDoesNotGoToAnAgentOfItsZoneThatSaysThatItIsNotReady(t *testing.T) {
	z := newZoned(t, "a", func(z *zoned) { unreadiness(z.near).Store(true) })
	if at := z.ask(t); at != "far" {
		t.Errorf("asked %s, want far", at)
	}
}

func TestConsumerReadsWhatAnAgentOfItsZoneMissesThatIsNotReady(t *testing.T) {
	var off *atomic.Bool
	z := newZoned(t, "a", func(z *zoned) { off = unreadiness(z.near) })
	if at := z.ask(t); at != "near" {
		t.Fatalf("asked %s, want near", at)
	}
	b := &bench{z.far, z.client}
	c := b.consumer(t, client.ConsumerConfig{FetchWait: 50 * time.Millisecond})
	z.far.fill("matches", 0, 5, 5) // near does not hear of it, and answers nothing
	off.Store(true)
	read(t, c, map[client.Partition]client.Offset{}, 5, 5)
}

func TestProducerTakesItsStreamToAnotherAgentWhenOneIsNotReady(t *testing.T) {
	z := newZoned(t, "a", func(z *zoned) {
		z.near.faults = func(string, int32, int) fault { return unavailable }
	})
	p, err := z.client.NewProducer(client.ProducerConfig{Partitioner: client.Manual})
	if err != nil {
		t.Fatal(err)
	}
	exactlyOnce(t, z.far, produceAll(t, p, 1, 20), 20)
	if got := z.near.count("ProduceStream"); got != 1 {
		t.Errorf("%d streams to the agent that is not ready, want 1", got)
	}
}

func TestClientOfAgentsThatAreAllNotReadyChangesConnectionsNowAndThenOnly(t *testing.T) {
	z := newZoned(t, "a", nil)
	for _, f := range []*fake{z.near, z.far} {
		refuseAll(f, "GetTopic")
	}
	z.agents = []*splashdamv1.GetClusterResponse_Agent{}
	if _, _, err := z.client.Topic(within(t), "matches"); err == nil {
		t.Fatal("answered")
	}
	// Two seconds of attempts, and no more looks around than the first one.
	if got := z.far.count("GetCluster"); got != 1 {
		t.Errorf("looked around %d times, want once", got)
	}
	if far := z.far.count("GetTopic"); far < 10 {
		t.Errorf("%d attempts", far)
	}
}
