package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
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

// groupAnswer is what the tests look at in an answer about a group.
type groupAnswer struct {
	Generation string
	Assigned   []struct {
		Topic, TopicID string
		Partitions     []int
	}
	State   string
	Members []struct{ Member string }
}

func TestTheAgentSharesATopicAmongMembersAndRemembersTheirPositions(t *testing.T) {
	w, _ := overAgent(t)
	w.post("TopicService/CreateTopic", `{"topic":{"name":"orders","partitions":2}}`)
	w.post("LogService/Produce", `{"batches":[{"topic":"orders","partition":0,"records":{"records":[{},{},{}]}},{"topic":"orders","partition":1,"records":{"records":[{}]}}]}`)
	carriedOut := map[string]groupAnswer{}
	beat := func(member string) (got groupAnswer) {
		t.Helper()
		owned, err := json.Marshal(carriedOut[member].Assigned)
		if err != nil {
			t.Fatal(err)
		}
		body := `{"group":"email","member":"` + member + `","pattern":"ord.*","maxWait":"0.2s","generation":"` + cmp.Or(carriedOut[member].Generation, "0") + `","owned":` + strings.ReplaceAll(strings.ReplaceAll(string(owned), "TopicID", "topicId"), "null", "[]") + `}`
		body = strings.NewReplacer(`"Topic"`, `"topic"`, `"Partitions"`, `"partitions"`).Replace(body)
		status, answer := w.post("GroupService/Heartbeat", body)
		if status != http.StatusOK {
			t.Fatalf("%s: got %d %s", body, status, answer)
		}
		decode(t, answer, &got)
		carriedOut[member] = got
		return got
	}
	until := func(what string, members []string, done func() bool) {
		t.Helper()
		for range 50 {
			for _, m := range members {
				beat(m)
			}
			if done() {
				return
			}
		}
		t.Fatalf("%s did not come about: %v", what, carriedOut)
	}
	has := func(member string) (n int) {
		for _, p := range carriedOut[member].Assigned {
			n += len(p.Partitions)
		}
		return n
	}
	until("both partitions at m1", []string{"m1"}, func() bool { return has("m1") == 2 })
	until("one partition each", []string{"m1", "m2"}, func() bool { return has("m1") == 1 && has("m2") == 1 })
	p := carriedOut["m1"].Assigned[0].Partitions[0]
	commit := func(member string, partition int) string {
		_, answer := w.post("GroupService/CommitOffsets", fmt.Sprintf(`{"group":"email","member":%q,"generation":%q,"offsets":[{"topic":"orders","partition":%d,"offset":"1","metadata":"m"}]}`,
			member, carriedOut[member].Generation, partition))
		return answer
	}
	if got := commit("m1", p); got != fmt.Sprintf(`{"results":[{"topic":"orders","partition":%d}]}`, p) {
		t.Errorf("got %s, want it committed", got)
	}
	if got := commit("m1", 1-p); !strings.Contains(got, `"reason":"ILLEGAL_GENERATION"`) {
		t.Errorf("got %s, want the other member's partition refused", got)
	}
	_, answer := w.get("/splashdam.v1.GroupService/FetchOffsets?connect=v1&encoding=json&message=" + url.QueryEscape(`{"group":"email"}`))
	if !strings.Contains(answer, `"offset":"1","metadata":"m","commitTime":"`) || strings.Count(answer, `"lag"`) != 2 || !strings.Contains(answer, `"member":"m2"`) {
		t.Errorf("got %s, want a position, two lags and who has what", answer)
	}
	var group struct{ Group groupAnswer }
	_, answer = w.post("GroupService/GetGroup", `{"group":"email"}`)
	if decode(t, answer, &group); group.Group.State != "GROUP_STATE_STABLE" || len(group.Group.Members) != 2 || !strings.Contains(answer, `"coordinator":"`) || !strings.Contains(answer, `"host":"127.0.0.1"`) {
		t.Errorf("got %s, want two members, stable", answer)
	}
	if _, answer := w.post("GroupService/ListGroups", `{}`); answer != `{"groups":[{"group":"email","state":"GROUP_STATE_STABLE","members":2,"generation":"`+carriedOut["m1"].Generation+`"}]}` {
		t.Errorf("got %s, want the group", answer)
	}
}

func TestTheAgentResetsAndDeletesAGroupOnceItsMembersHaveLeft(t *testing.T) {
	w, _ := overAgent(t)
	w.post("TopicService/CreateTopic", `{"topic":{"name":"orders","partitions":2}}`)
	w.post("LogService/Produce", `{"batches":[{"topic":"orders","partition":0,"records":{"records":[{},{},{}]}},{"topic":"orders","partition":1,"records":{"records":[{}]}}]}`)
	for _, m := range []string{"m1", "m2"} {
		w.post("GroupService/Heartbeat", `{"group":"email","member":"`+m+`","topics":["orders"]}`)
	}
	for _, c := range []struct{ procedure, body, want string }{
		{"ResetOffsets", `{"group":"email","topic":"orders","start":{"point":"EARLIEST"}}`, `"reason":"NON_EMPTY_GROUP"`},
		{"DeleteGroup", `{"group":"email"}`, `"reason":"NON_EMPTY_GROUP"`},
		{"Heartbeat", `{"group":"email","member":"m1","leave":true}`, `{}`},
		{"Heartbeat", `{"group":"email","member":"m2","leave":true}`, `{}`},
		{"ResetOffsets", `{"group":"email","topic":"orders","start":{"point":"LATEST"},"partitions":[0],"validateOnly":true}`, `"to":"3"`},
		{"ResetOffsets", `{"group":"email","topic":"orders","start":{"offset":"99"}}`, `"to":"3"},{"partition":1,`},
		{"ResetOffsets", `{"group":"email","topic":"orders","shift":"-1","partitions":[0]}`, `{"offsets":[{"partition":0,"from":"3","to":"2"}]}`},
		{"FetchOffsets", `{"group":"email","topics":["orders"]}`, `"partition":0,"offset":"2"`},
		{"DeleteGroup", `{"group":"email"}`, `{}`},
		{"GetGroup", `{"group":"email"}`, `"reason":"GROUP_ID_NOT_FOUND"`},
	} {
		if _, answer := w.post("GroupService/"+c.procedure, c.body); !strings.Contains(answer, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.procedure, c.body, answer, c.want)
		}
	}
}

func TestTheAgentRefusesBadInputToGroupsByTheTable(t *testing.T) {
	w, _ := overAgent(t)
	w.post("TopicService/CreateTopic", `{"topic":{"name":"a","partitions":2}}`)
	w.post("GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a"],"sessionTimeout":"60s"}`)
	const offset = `{"topic":"a","partition":0,"offset":"0"}`
	for _, c := range []struct{ procedure, body, want string }{
		{"Heartbeat", `{"group":"g","member":"stranger","generation":"1","topics":["a"]}`, `"reason":"UNKNOWN_MEMBER_ID"`},
		{"Heartbeat", `{"group":"nobody","member":"m","generation":"1","topics":["a"]}`, `"reason":"UNKNOWN_MEMBER_ID"`},
		{"Heartbeat", `{"group":"s","member":"m1","instance":"i","topics":["a"]}`, `"sessionTimeout":"10s"`},
		{"Heartbeat", `{"group":"s","member":"m2","instance":"i","topics":["a"]}`, `"sessionTimeout":"10s"`},
		{"Heartbeat", `{"group":"s","member":"m1","instance":"i","generation":"1","topics":["a"]}`, `"reason":"FENCED_INSTANCE_ID"`},
		{"Heartbeat", `{"group":"g","member":"m","pattern":"*"}`, `"reason":"INVALID_REGULAR_EXPRESSION"`},
		{"Heartbeat", `{"group":"g","member":"m","topics":["no/topic"]}`, `"reason":"INVALID_TOPIC_EXCEPTION"`},
		{"Heartbeat", `{"group":"g","member":"m","topics":["a"],"sessionTimeout":"0.5s"}`, `"reason":"INVALID_REQUEST"`},
		{"Heartbeat", `{"group":"","member":"m","topics":["a"]}`, `"reason":"INVALID_GROUP_ID"`},
		{"CommitOffsets", `{"group":"g","member":"stranger","generation":"1","offsets":[` + offset + `]}`, `"reason":"UNKNOWN_MEMBER_ID"`},
		{"CommitOffsets", `{"group":"g","member":"m","generation":"99","offsets":[` + offset + `]}`, `"reason":"ILLEGAL_GENERATION"`},
		{"CommitOffsets", `{"group":"s","member":"m1","instance":"i","generation":"1","offsets":[` + offset + `]}`, `"reason":"FENCED_INSTANCE_ID"`},
		{"CommitOffsets", `{"group":"g","offsets":[` + offset + `]}`, `"reason":"NON_EMPTY_GROUP"`},
		{"CommitOffsets", `{"group":"h","offsets":[{"topic":"a","partition":0,"offset":"1"}]}`, `"reason":"OFFSET_OUT_OF_RANGE"`},
		{"CommitOffsets", `{"group":"h","offsets":[{"topic":"a","partition":0,"offset":"0","metadata":"` + strings.Repeat("x", 100<<10) + `"}]}`, `"reason":"OFFSET_METADATA_TOO_LARGE"`},
		{"CommitOffsets", `{"group":"h","offsets":[` + strings.Repeat(offset+",", 10_000) + offset + `]}`, `"reason":"INVALID_REQUEST"`},
		{"CommitOffsets", `{"group":"h","offsets":[` + offset + `,` + offset + `]}`, `"results":[{"topic":"a","partition":0},{"topic":"a","partition":0,"error":{"code":"invalid_argument","reason":"INVALID_REQUEST"`},
		{"CommitOffsets", `{"group":"h","offsets":[{"topic":"nobody","partition":0,"offset":"0"}]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"FetchOffsets", `{"group":"nobody"}`, `"reason":"GROUP_ID_NOT_FOUND"`},
		{"FetchOffsets", `{"group":"h","topics":["nobody"]}`, `{"offsets":[{"topic":"nobody","error":{"code":"not_found","reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"ResetOffsets", `{"group":"h","topic":"nobody","shift":"1"}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"ResetOffsets", `{"group":"h","topic":"a","shift":"1","partitions":[9]}`, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`},
		{"ResetOffsets", `{"group":"new","topic":"a","shift":"1"}`, `"reason":"INVALID_REQUEST"`},
		{"DeleteGroup", `{"group":"nobody"}`, `"reason":"GROUP_ID_NOT_FOUND"`},
	} {
		if _, answer := w.post("GroupService/"+c.procedure, c.body); !strings.Contains(answer, c.want) {
			t.Errorf("%s %.150s: got %.500s, want %s", c.procedure, c.body, answer, c.want)
		}
	}
}

func TestAHeldHeartbeatEndsUnchangedWhenTheAgentDrains(t *testing.T) {
	w, a := overAgent(t)
	w.post("TopicService/CreateTopic", `{"topic":{"name":"a","partitions":2}}`)
	request := &v1.HeartbeatRequest{Group: "g", Member: "m", Topics: []string{"a"}, SessionTimeout: seconds(600), MaxWait: seconds(30)}
	beat := func() *v1.HeartbeatResponse {
		t.Helper()
		answer, err := w.groupClient().Heartbeat(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var carriedOut *v1.HeartbeatResponse
	for len(request.Owned) == 0 {
		carriedOut = beat()
		request.Generation, request.Owned = carriedOut.Generation, carriedOut.Assigned
	}
	begun := time.Now()
	time.AfterFunc(200*time.Millisecond, a.Drain)
	if got := beat(); fmt.Sprint(got) != fmt.Sprint(carriedOut) {
		t.Errorf("got %v, want the answer before, %v", got, carriedOut)
	}
	if took := time.Since(begun); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("it was held for %v, want until the agent drained", took)
	}
}
