package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
)

func TestListTopicsPagesToTheEnd(t *testing.T) {
	w := start(t)
	for i := range 5 {
		w.topic(fmt.Sprintf("t%d", i), 1)
	}
	var got []string
	token := ""
	for page := 0; page < 10; page++ {
		_, body := w.post("TopicService/ListTopics", fmt.Sprintf(`{"pageSize":2,"pageToken":%q}`, token))
		var list struct {
			Topics        []struct{ Name string }
			NextPageToken string
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, topic := range list.Topics {
			got = append(got, topic.Name)
		}
		got = append(got, "|")
		if token = list.NextPageToken; token == "" {
			break
		}
	}
	if want := "t0 t1 | t2 t3 | t4 |"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestUpdateTopicFollowsMaskEtagAndValidateOnly(t *testing.T) {
	w := start(t)
	w.want("TopicService/CreateTopic", `{"topic":{"name":"v"},"validateOnly":true}`, `{"topic":{"name":"v","partitions":1,"state":"TOPIC_STATE_ACTIVE"}}`)
	if len(w.fake.topics) != 0 {
		t.Error("validate_only created the topic")
	}
	w.post("TopicService/CreateTopic", `{"topic":{"name":"a","settings":{"retention.ms":"1","retention.bytes":"2"}}}`)
	for _, c := range []struct{ body, want string }{
		{`{"topic":{"name":"a","settings":{"retention.ms":"5"}}}`, "map[retention.bytes:2 retention.ms:5]"},
		{`{"topic":{"name":"a","settings":{"retention.ms":"9"}},"validateOnly":true}`, "map[retention.bytes:2 retention.ms:5]"},
		{`{"topic":{"name":"a","settings":{"retention.ms":"6","retention.bytes":"9"}},"updateMask":"settings.retention.ms"}`, "map[retention.bytes:2 retention.ms:6]"},
		{`{"topic":{"name":"a"},"updateMask":"settings.retention.bytes"}`, "map[retention.ms:6]"},
		{`{"topic":{"name":"a","etag":"4","settings":{"compression.type":"zstd"}},"updateMask":"settings"}`, "map[compression.type:zstd]"},
	} {
		if status, body := w.post("TopicService/UpdateTopic", c.body); status != http.StatusOK {
			t.Errorf("%s: got %d %s", c.body, status, body)
		}
		if got := fmt.Sprint(w.fake.topics["a"].Settings); got != c.want {
			t.Errorf("%s: got %s, want %s", c.body, got, c.want)
		}
	}
	for _, procedure := range []string{"UpdateTopic", "DeleteTopic"} {
		body := `{"name":"a","etag":"1"}`
		if procedure == "UpdateTopic" {
			body = `{"topic":` + body + `}`
		}
		if status, answer := w.post("TopicService/"+procedure, body); status != http.StatusConflict || !strings.Contains(answer, "TOPIC_CHANGED") {
			t.Errorf("%s: got %d %s, want the old etag refused", procedure, status, answer)
		}
	}
}

func TestTopicsGrowShrinkAndGo(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1")
	w.want("TopicService/AddPartitions", `{"name":"a","partitions":2}`,
		`{"topic":{"name":"a","partitions":2,"id":"00000000-0000-0000-0000-000000000001","state":"TOPIC_STATE_ACTIVE","etag":"1","createTime":"2023-11-14T22:13:20Z"}}`)
	w.want("TopicService/TrimPartition", `{"name":"a","partition":0,"logStartOffset":"1"}`, `{"logStartOffset":"1"}`)
	if _, body := w.post("TopicService/GetTopic", `{"name":"a"}`); !strings.HasSuffix(body, `"partitions":[{"partition":0,"logStartOffset":"1","highWatermark":"2"},{"partition":1,"logStartOffset":"0","highWatermark":"0"}]}`) {
		t.Errorf("got %s, want both partitions", body)
	}
	w.want("TopicService/DeleteTopic", `{"name":"a"}`, `{}`)
	if status, body := w.post("TopicService/GetTopic", `{"name":"a"}`); status != http.StatusNotFound || !strings.Contains(body, "UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("got %d %s, want it gone", status, body)
	}
}

func TestReplicaThatStoppedAtOneAgentIsNotTheShardWhileItsLeaderGoesOn(t *testing.T) {
	own := agent.ShardInfo{Leader: "two", Epoch: 3, SnapshotAge: -1, Fault: "slot 3 is missing"}
	for name, c := range map[string]struct {
		heard time.Duration
		said  agent.ShardInfo
		want  string
	}{
		"a leader that goes on":       {time.Second, agent.ShardInfo{Leads: true, Leader: "two", Epoch: 3}, ""},
		"one of a later epoch":        {time.Second, agent.ShardInfo{Leads: true, Leader: "two", Epoch: 4}, ""},
		"one that was heard long ago": {time.Minute, agent.ShardInfo{Leads: true, Leader: "two", Epoch: 3}, "slot 3 is missing"},
		"one of an epoch before":      {time.Second, agent.ShardInfo{Leads: true, Leader: "two", Epoch: 2}, "slot 3 is missing"},
		"no leader":                   {time.Second, agent.ShardInfo{Epoch: 3}, "slot 3 is missing"},
		"one that stopped, too":       {time.Second, agent.ShardInfo{Leads: true, Leader: "two", Epoch: 3, Fault: "slot 4 is missing"}, "slot 4 is missing"},
	} {
		m := shardMessage(own, []agent.AgentStatus{{Heard: 0, Shards: []agent.ShardInfo{own}}, {Heard: c.heard, Shards: []agent.ShardInfo{c.said}}})
		if m.Fault != c.want {
			t.Errorf("%s: fault %q, want %q", name, m.Fault, c.want)
		}
	}
}

func TestGetClusterShowsAgentsShardsAndLimits(t *testing.T) {
	w := startWith(t, Config{Version: "v1"})
	lead := objectlog.UUID{15: 2}.String()
	w.fake.info = agent.ClusterInfo{ID: objectlog.UUID{15: 1}, FormatLevel: 1, Self: objectlog.UUID{15: 3},
		// What this agent sees is older than what the leader of the first shard said; that of the second was not heard.
		Shards: []agent.ShardInfo{
			{Leader: "old", Epoch: 1, Applied: 41, Slots: 64, Snapshot: -1, SnapshotAge: -1},
			{Shard: 1, Leader: "gone", Epoch: 7, Applied: 9, Slots: 64, Used: 3, Snapshot: 8, SnapshotAge: -1, Fault: "slot 3 is missing"},
		},
		Agents: []agent.AgentStatus{
			{AgentInfo: agent.AgentInfo{Boot: lead, Ordinal: 1, ClientAddress: "h:1", PeerAddress: "h:2", Host: "h", Zone: "a", Version: "v1"}, Heard: 1500 * time.Millisecond, Draining: true,
				Problem: "it rests\nand sleeps", Shards: []agent.ShardInfo{
					{Leads: true, Leader: lead, Epoch: 2, Applied: 40, Slots: 64, Used: 5, Snapshot: 38, SnapshotAge: time.Minute},
					{Shard: 1, Leads: true, Leader: lead, Epoch: 6, Applied: 8, Slots: 64, Used: 9, SnapshotAge: time.Hour}}},
			{AgentInfo: agent.AgentInfo{Boot: "gone", Ordinal: 2}, Heard: -1},
		}}
	w.want("ClusterService/GetCluster", `{}`, `{"clusterId":"00000000-0000-0000-0000-000000000001","formatLevel":1,`+
		`"agents":[{"bootId":"`+lead+`","bootOrdinal":"1","clientAddress":"h:1","zone":"a","version":"v1","peerAddress":"h:2","host":"h","heardAgo":"1.500s","draining":true,"problem":"it rests; and sleeps","appliedSeqs":["40","8"]},`+
		`{"bootId":"gone","bootOrdinal":"2"}],`+
		`"shards":[{"shard":0,"leader":"`+lead+`","epoch":"2","appliedSeq":"41","ringSlots":64,"ringUsed":5,"snapshotSeq":"38","snapshotAge":"60s"},`+
		`{"shard":1,"leader":"gone","epoch":"7","appliedSeq":"9","fault":"slot 3 is missing","ringSlots":64,"ringUsed":3,"snapshotSeq":"8"}],`+
		`"limits":{"requestBytesMax":"33554432","batchBytesMax":"1048588","fetchBytesMax":"67108864","fetchWaitMaxMs":"30000","partitionsPerTopicMax":"100000"},"version":"v1",`+
		`"answeredBy":"00000000-0000-0000-0000-000000000003"}`)
}
