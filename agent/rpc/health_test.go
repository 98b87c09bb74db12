package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata/shardlog"
	healthv1 "github.com/splashdam/splashdam/proto/grpc/health/v1"
	"github.com/splashdam/splashdam/proto/grpc/health/v1/healthv1connect"
)

func TestHealthAndReadinessFollowTheEngine(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := healthv1connect.NewHealthClient(w.client, w.url, connect.WithGRPC())
	watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{Service: "splashdam.v1.LogService"})
	if err != nil {
		t.Fatal(err)
	}
	if !watch.Receive() || watch.Msg().Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v, want serving", watch.Msg(), watch.Err())
	}
	w.fake.mu.Lock()
	w.fake.ready = &agent.Error{Op: "serve", Cause: agent.Unavailable}
	w.fake.mu.Unlock()
	if !watch.Receive() || watch.Msg().Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v, want not serving", watch.Msg(), watch.Err())
	}
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/livez": http.StatusOK} {
		if status, body := w.get(path); status != want {
			t.Errorf("%s: got %d %s, want %d", path, status, body, want)
		}
	}
	if got, err := client.Check(ctx, &healthv1.HealthCheckRequest{}); err != nil || got.Status != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v, want not serving", got, err)
	}
	if _, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: "x"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("got %v, want not found", err)
	}
	w.fake.drain()
	if watch.Receive() || watch.Err() != nil {
		t.Errorf("got %v, %v, want the watch ended", watch.Msg(), watch.Err())
	}
	if err := watch.Close(); err != nil {
		t.Error(err)
	}
}

func TestConnectionsOfAnAgentThatIsNotReadyEndWithTheirCall(t *testing.T) {
	w := start(t)
	answered := func() bool { // whether the connection ends
		t.Helper()
		r, err := http.Post(w.url+"/splashdam.v1.TopicService/ListTopics", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Errorf("got status %d", r.StatusCode)
		}
		if said := r.Header.Get("Splashdam-Ready"); (said == "false") != r.Close || said != "" && !r.Close {
			t.Errorf("the answer says %q of being ready, its connection ends: %v", said, r.Close)
		}
		return r.Close
	}
	if answered() {
		t.Error("the connection of an agent that is ready ends")
	}
	w.fake.mu.Lock()
	w.fake.ready = &agent.Error{Op: "serve", Cause: agent.Unavailable}
	w.fake.mu.Unlock()
	over, poll := time.After(10*time.Second), time.NewTicker(10*time.Millisecond)
	defer poll.Stop()
	for !answered() {
		select {
		case <-poll.C:
		case <-over:
			t.Fatal("the connection of an agent that is not ready stays")
		}
	}
}

func TestReadinessSaysWhyNotInOneLineAndNothingAsksForARestart(t *testing.T) {
	for _, c := range []struct {
		ready error
		want  string
	}{
		{errors.Join(fmt.Errorf("shard 0: %w", shardlog.ErrHalted), errors.New("heartbeat: the table does not answer")), "shard 0: shard halted; heartbeat: the table does not answer"},
		{agent.Draining, "draining"},
	} {
		w := start(t)
		w.fake.mu.Lock()
		if w.fake.ready = fmt.Errorf("%w: %w", agent.Unavailable, c.ready); errors.Is(c.ready, agent.Draining) {
			w.fake.ready = c.ready
		}
		w.fake.mu.Unlock()
		status, body := w.get("/readyz")
		if status != http.StatusServiceUnavailable || strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, c.want+"\n") {
			t.Errorf("got %d %q, want one line that ends in %q", status, body, c.want)
		}
		if status, body := w.get("/livez"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("livez: got %d %q, want ok: a restart would change nothing", status, body)
		}
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	w := start(t)
	stream := grpcreflect.NewClient(w.client, w.url, connect.WithGRPC()).NewStream(t.Context())
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(services(), healthv1connect.HealthName) {
		if !slices.Contains(toStrings(names), want) {
			t.Errorf("got %v, want %s", names, want)
		}
		if _, err := stream.FileContainingSymbol(names[0]); err != nil {
			t.Error(err)
		}
	}
	if _, err := stream.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func toStrings[S ~string](names []S) (out []string) {
	for _, n := range names {
		out = append(out, string(n))
	}
	return out
}
