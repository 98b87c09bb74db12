package rpc

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// overAgent is an edge over a running agent with stores in memory.
func overAgent(t *testing.T) (*world, *agent.Agent) {
	t.Helper()
	a, err := agent.Open(t.Context(), agent.Config{Version: "test", ClientAddress: "127.0.0.1:1", Shards: 2, Slots: 64, ExclusiveTable: true, FlushFreely: true, BlockCacheBytes: 8 << 20},
		&objmem.Bucket{}, &metamem.Table{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	w := start(t, func(e *edge) { e.engine = FromAgent(a) })
	within, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	for a.Ready() != nil {
		if pause(within, time.Millisecond) != nil {
			t.Fatalf("the agent did not become ready: %v", a.Ready())
		}
	}
	return w, a
}

func TestTheAgentServesTheShellExamples(t *testing.T) {
	w, _ := overAgent(t)
	if status, body := w.post("TopicService/CreateTopic", `{"topic":{"name":"matches","partitions":3}}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	status, body := w.post("LogService/Produce", `{"batches":[{"topic":"matches","records":{"records":[{"key":{"text":"bra-arg"},"value":{"json":{"goal":"Messi","minute":23}}}]}}]}`)
	if status != http.StatusOK || !strings.Contains(body, `"offset":"0"`) {
		t.Errorf("got %d %s, want offset 0", status, body)
	}
	status, body = w.post("LogService/Fetch", `{"partitions":[{"topic":"matches","start":{"point":"EARLIEST"}}],"maxWait":"1s"}`)
	if status != http.StatusOK || !strings.Contains(body, `{"offset":"0","key":{"text":"bra-arg"},"value":{"json":{"goal":"Messi","minute":23}}`) || strings.Count(body, `"nextOffset"`) != 3 {
		t.Errorf("got %d %s, want the record and three partitions", status, body)
	}
}

func TestTheAgentAnswersBadInputWithTheTablesCodes(t *testing.T) {
	w, _ := overAgent(t)
	if status, body := w.post("TopicService/CreateTopic", `{"topic":{"name":"a","partitions":2}}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	for _, c := range []struct{ procedure, body, want string }{
		{"TopicService/CreateTopic", `{"topic":{"name":"a"}}`, `"reason":"TOPIC_ALREADY_EXISTS"`},
		{"TopicService/CreateTopic", `{"topic":{"name":".."}}`, `"reason":"INVALID_TOPIC_EXCEPTION"`},
		{"TopicService/CreateTopic", `{"topic":{"name":"` + strings.Repeat("n", 250) + `"}}`, `"reason":"INVALID_TOPIC_EXCEPTION"`},
		{"TopicService/CreateTopic", `{"topic":{"name":"b","settings":{"colour":"red"}}}`, `"reason":"INVALID_CONFIG"`},
		{"TopicService/GetTopic", `{"name":"nobody"}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"TopicService/UpdateTopic", `{"topic":{"name":"a","etag":"99"}}`, `"reason":"TOPIC_CHANGED"`},
		{"TopicService/AddPartitions", `{"name":"a","partitions":1}`, `"reason":"INVALID_REQUEST"`},
		{"TopicService/TrimPartition", `{"name":"a","partition":0,"logStartOffset":"9"}`, `"reason":"INVALID_REQUEST"`},
		{"LogService/Produce", `{"batches":[{"topic":"nobody","records":{"records":[{}]}}]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"LogService/Produce", `{"batches":[{"topic":"a","partition":9,"records":{"records":[{}]}}]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"LogService/Produce", `{"batches":[{"topic":"bad)(*","records":{"records":[{}]}}]}`, `"reason":"INVALID_TOPIC_EXCEPTION"`},
		{"LogService/Produce", `{"batches":[{"topic":"a","partition":0,"expectedNextOffset":"9","records":{"records":[{}]}}]}`, `"metadata":{"actual":"0"}`},
		{"LogService/Produce", `{"batches":[{"topic":"a","partition":0,"encoded":"AAAA"}]}`, `"reason":"CORRUPT_MESSAGE"`},
		{"LogService/Produce", `{"batches":[{"topic":"a","records":{"records":[{"value":{"text":"` + strings.Repeat("x", 2<<20) + `"}}]}}]}`, `"reason":"MESSAGE_TOO_LARGE"`},
		{"LogService/Produce", `{"producer":{"id":"7"},"batches":[{"topic":"a","partition":0,"firstSequence":0,"records":{"records":[{}]}}]}`, `"offset":"0"`},
		{"LogService/Produce", `{"producer":{"id":"7"},"batches":[{"topic":"a","partition":0,"firstSequence":0,"records":{"records":[{}]}}]}`, `"duplicate":true`},
		{"LogService/Produce", `{"producer":{"id":"7"},"batches":[{"topic":"a","partition":0,"firstSequence":5,"records":{"records":[{}]}}]}`, `"reason":"OUT_OF_ORDER_SEQUENCE_NUMBER"`},
		{"LogService/Produce", `{"acks":"ACKS_NONE","batches":[{"topic":"nobody","records":{"records":[{}]}}]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"LogService/Fetch", `{"partitions":[{"topic":"a","partition":0,"start":{"offset":"9"}}]}`, `"reason":"OFFSET_OUT_OF_RANGE"`},
		{"LogService/ListOffsets", `{"partitions":[{"topic":"nobody"}]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
	} {
		if _, body := w.post(c.procedure, c.body); !strings.Contains(body, c.want) {
			t.Errorf("%s %.100s: got %.500s, want %s", c.procedure, c.body, body, c.want)
		}
	}
}

func TestTailFollowsTheAgentUntilItDrains(t *testing.T) {
	w, a := overAgent(t)
	if status, body := w.post("TopicService/CreateTopic", `{"topic":{"name":"a","partitions":2}}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	stream := w.tailing(&v1.TailRequest{Partitions: from("a", latest)})
	if !stream.Receive() { // stands; the first heartbeat that follows tells that the places are found
		t.Fatal(stream.Err())
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	w.produce("a", 1, "x", "y")
	if got := next(t, stream); got.Partitions[0].GetPartition() != 1 || len(got.Partitions[0].Records) != 2 {
		t.Errorf("got %v, want both records", got)
	}
	a.Drain()
	wantResume(t, stream, "a/0@0 a/1@2")
	if status, body := w.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s, want not ready", status, body)
	}
}

func TestTheAgentDescribesItsCluster(t *testing.T) {
	w, _ := overAgent(t)
	status, body := w.post("ClusterService/GetCluster", `{}`)
	var c struct {
		ClusterID string `json:"clusterId"`
		Agents    []struct{ Version string }
		Shards    []struct{ Leader string }
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil || status != http.StatusOK || c.ClusterID == "" || len(c.Agents) != 1 || len(c.Shards) != 2 || c.Shards[0].Leader == "" {
		t.Errorf("got %d %s, %v; want one agent that leads two shards", status, body, err)
	}
}
