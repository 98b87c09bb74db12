package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

func TestDifferenceOfTopicsIsExactInSum(t *testing.T) {
	list := func(all ...client.TopicBytes) []client.TopicBytes { return all }
	for _, c := range []struct {
		name                string
		before, after, want []client.TopicBytes
	}{
		{"all named", list(client.TopicBytes{Topic: "a", Produced: 5}), list(client.TopicBytes{Topic: "a", Produced: 7, Fetched: 1}, client.TopicBytes{Topic: "b", Produced: 3}),
			list(client.TopicBytes{Topic: "a", Produced: 2, Fetched: 1}, client.TopicBytes{Topic: "b", Produced: 3})},
		{"one rises above the bound", list(client.TopicBytes{Topic: "a", Produced: 5}, client.TopicBytes{Produced: 4}), list(client.TopicBytes{Topic: "b", Produced: 9}, client.TopicBytes{Produced: 6}),
			list(client.TopicBytes{Produced: 6})},
		{"one is deleted", list(client.TopicBytes{Topic: "a", Produced: 5}), list(client.TopicBytes{Produced: 6}), list(client.TopicBytes{Produced: 1})},
		{"nothing happened", list(client.TopicBytes{Produced: 5}), list(client.TopicBytes{Produced: 5}), nil},
	} {
		if got := topicsSince(c.before, c.after); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// fakeAgent answers GetCluster and GetUsage, the latter with more requests and more time each time.
type fakeAgent struct {
	splashdamv1connect.UnimplementedClusterServiceHandler
	boots  []string // in turn; the last one stays
	agents *[]*splashdamv1.GetClusterResponse_Agent

	mu    sync.Mutex
	asked int
}

func (f *fakeAgent) GetCluster(context.Context, *splashdamv1.GetClusterRequest) (*splashdamv1.GetClusterResponse, error) {
	return &splashdamv1.GetClusterResponse{Agents: *f.agents}, nil
}

func (f *fakeAgent) GetUsage(context.Context, *splashdamv1.GetUsageRequest) (*splashdamv1.GetUsageResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	boot := f.boots[min(f.asked, len(f.boots)-1)]
	f.asked++
	n := int64(f.asked)
	res := &splashdamv1.GetUsageResponse{BootId: boot,
		Requests: []*splashdamv1.GetUsageResponse_Requests{{Store: "bucket", Kind: "put", Cause: "flush", Requests: 600 * n, Units: 600 * n, Bytes: 6000 * n}},
		Topics:   []*splashdamv1.GetUsageResponse_Topic{{Topic: "goals", ProducedBytes: 3 << 30 * n}}}
	made(&res.CountedFor).Seconds = n * n * 3600 // 1 h, then 3 h more
	return res, nil
}

// made fills a field of a type that is at home elsewhere.
func made[T any](field **T) *T {
	*field = new(T)
	return *field
}

// startAgents serves one fake per list of boots, and answers their addresses. Each is in the cluster under its first boot.
func startAgents(t *testing.T, boots ...[]string) []string {
	t.Helper()
	var agents []*splashdamv1.GetClusterResponse_Agent
	var addresses []string
	for _, b := range boots {
		f := &fakeAgent{boots: b, agents: &agents}
		_, handler := splashdamv1connect.NewClusterServiceHandler(f)
		server := httptest.NewUnstartedServer(handler)
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		t.Cleanup(server.Close)
		address := server.Listener.Addr().String()
		agents = append(agents, &splashdamv1.GetClusterResponse_Agent{BootId: b[0], ClientAddress: address})
		addresses = append(addresses, address)
	}
	if len(agents) > 2 { // the last one is said to be where nobody listens, and to another nobody can get
		agents[len(agents)-1].ClientAddress = "127.0.0.1:1"
		agents[len(agents)-2].ClientAddress = ""
	}
	return addresses
}

func TestBenchShowsTheRequestsOfItsRunPerGiB(t *testing.T) {
	addresses := startAgents(t, []string{"a"}, []string{"b", "other"})
	var out bytes.Buffer
	env := &environment{out: &out, err: &out, output: "text", config: Config{Server: addresses[0], Timeout: time.Second}}
	err := env.withClient(func(c *client.Client) error {
		before := env.beforeBench(t.Context(), c)
		r := env.requestsSince(t.Context(), before, 1<<29)
		r.show(&out)
		return before.err
	})
	want := "  requests to the stores, per GiB:\n    bucket put for flush: 1,200\n    without those of agent b: another agent answered there the second time: it was restarted, or is behind a load balancer\n"
	if err != nil || out.String() != want {
		t.Errorf("got %q, %v; want %q", out.String(), err, want)
	}
}
