package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// served is an agent of this process on stores that it shares with others, as env.serve runs it.
type served struct {
	address string // for clients
	peer    string
	stop    context.CancelFunc
	ready   chan struct{}
	done    chan error
	errs    *bytes.Buffer
}

// await waits until the agent is ready.
func (s served) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.ready:
	case err := <-s.done:
		t.Fatalf("ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
}

// end waits until the agent has ended.
func (s served) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
		return nil
	}
}

// serveAgent starts an agent; advertise is its advertised peer address, empty: its own.
func serveAgent(t *testing.T, bucket objectlog.Bucket, table metadata.Table, advertise string) served {
	t.Helper()
	s := served{ready: make(chan struct{}), done: make(chan error, 1), errs: new(bytes.Buffer)}
	env := &environment{out: io.Discard, err: s.errs, output: "text", config: Config{
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", AdvertisePeer: advertise, StopTimeout: 20 * time.Second, StopDelay: 500 * time.Millisecond, MemoryBytesMax: 256 << 20}}
	listener, err := listen(env.config.Listen, "--listen")
	if err != nil {
		t.Fatal(err)
	}
	others, err := env.config.listenToPeers()
	if err != nil {
		t.Fatal(err)
	}
	cfg := env.config.engine()
	cfg.AutoCreate, cfg.AutoPartitions, cfg.Shards, cfg.Slots, cfg.Host = true, 1, 2, 64, "host"
	cfg.ClientAddress, cfg.PeerAddress, cfg.Dial = listener.Addr().String(), advertised(advertise, others.listener.Addr()), others.dial
	engine, err := agent.Open(t.Context(), cfg, bucket, table)
	if err != nil {
		t.Fatal(err)
	}
	s.address, s.peer = listener.Addr().String(), cfg.PeerAddress
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	t.Cleanup(s.stop)
	go func() {
		s.done <- env.serve(ctx, broker{
			listener: listener, engine: engine, server: env.newServer(engine, bucketStore{}, tableStore{}, prometheus.NewRegistry()),
			failure: &readFailure{stopped: make(chan struct{})}, started: time.Now(), peers: others, stopDelay: env.config.stopDelay(),
			name: "agent", explain: func(err error) error { return err }, greet: func(time.Duration) { close(s.ready) },
		})
	}()
	return s
}

func TestAgentThatStopsServesUntilLoadBalancersNoticeAndHandsOn(t *testing.T) {
	bucket, table := new(mem.Bucket), new(metamem.Table)
	one := serveAgent(t, bucket, table, "")
	one.await(t)
	two := serveAgent(t, bucket, table, "")
	two.await(t)
	c, err := client.New(client.Config{Addresses: []string{one.address, two.address}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.CreateTopic(ctx, client.Topic{Name: "goals", Partitions: 130}); err != nil {
		t.Fatal(err)
	}
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	produce := func() {
		if _, err := p.ProduceSync(ctx, client.Record{Topic: "goals", Value: []byte("x")}); err != nil {
			t.Errorf("produce: %v", err)
		}
	}
	produce()
	one.stop()
	stopsGently(t, one, produce)
	if err := one.end(t); err != nil {
		t.Errorf("stop: %v", err)
	}
	for range 5 {
		produce()
	}
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	cluster, err := c.Cluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s := statusOf(cluster); len(s.Agents) != 1 || len(s.Problems) != 0 {
		t.Errorf("behind the stop: %+v", s)
	}
	two.stop()
	if err := two.end(t); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, a := range []string{one.address, one.peer, two.address, two.peer} {
		if conn, err := net.Dial("tcp", a); err == nil {
			conn.Close()
			t.Errorf("%s is still open", a)
		}
	}
}

// stopsGently watches an agent that was told to stop until it takes no more requests: before, /readyz says no, and requests are answered all the same.
func stopsGently(t *testing.T, s served, produce func()) {
	t.Helper()
	for seen := false; ; {
		res, err := http.Get("http://" + s.address + "/readyz")
		if err != nil {
			if !seen {
				t.Errorf("/readyz never said no: %v", err)
			}
			return
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable && !seen {
			if seen = true; !strings.Contains(string(body), "draining") {
				t.Errorf("got %q", body)
			}
			if err := createAt(t.Context(), s.address, "made-while-draining"); err != nil {
				t.Errorf("a request behind the signal: %v", err)
			}
			// The other agent's proposals still come.
			if conn, err := net.Dial("tcp", s.peer); err != nil {
				t.Errorf("another agent behind the signal: %v", err)
			} else {
				conn.Close()
			}
		}
		produce()
	}
}

func createAt(ctx context.Context, address, topic string) error {
	c, err := client.New(client.Config{Addresses: []string{address}})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.CreateTopic(ctx, client.Topic{Name: topic, Partitions: 1})
	return err
}

func TestSecondAgentWithThePeerAddressOfAnotherIsRefused(t *testing.T) {
	bucket, table := new(mem.Bucket), new(metamem.Table)
	one := serveAgent(t, bucket, table, "")
	one.await(t)
	two := serveAgent(t, bucket, table, one.peer)
	err := two.end(t)
	if err == nil || errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it refused", err)
	}
	line, code := describe(err)
	for _, want := range []string{"start agent", one.peer, "answers there", "--advertise-peer of its own"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q does not say %q", line, want)
		}
	}
	if code != exitFailed || strings.Count(line, "\n") != 0 {
		t.Errorf("exit %d, %q", code, line)
	}
	one.stop()
	if err := one.end(t); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// makeTopics makes topics in a cluster of embedded stores, by an agent that ends.
func makeTopics(t *testing.T, bucket, table string, names ...string) {
	t.Helper()
	objects, err := openBucket(bucket)
	if err != nil {
		t.Fatal(err)
	}
	items, err := openTable(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	defer items.close()
	a, err := agent.Open(t.Context(), agent.Config{ExclusiveTable: true}, objects, items)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for _, name := range names {
		for a.Ready() != nil {
			<-time.After(time.Millisecond)
		}
		if _, err := a.CreateTopic(ctx, name, 1, metadata.Settings{}, false); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
