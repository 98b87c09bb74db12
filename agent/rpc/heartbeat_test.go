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
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// groupClient speaks to the group service over h2c.
func (w *world) groupClient(options ...connect.ClientOption) splashdamv1connect.GroupServiceClient {
	return splashdamv1connect.NewGroupServiceClient(w.client, w.url, options...)
}

// id is the topic's, as JSON has it.
func (w *world) id(topic string) string {
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	return w.fake.topics[topic].ID.String()
}

func TestAMemberJoinsWorksAndLeaves(t *testing.T) {
	w := start(t)
	w.topic("b", 1)
	w.topic("a", 2)
	a, b := w.id("a"), w.id("b")
	assigned := `"assigned":[{"topic":"a","topicId":"` + a + `","partitions":[0,1]},{"topic":"b","topicId":"` + b + `","partitions":[0]}]`
	w.want("GroupService/Heartbeat", `{"group":"g","member":"m","client":"shell","topics":["b","a","b"]}`,
		`{"generation":"1",`+assigned+`,"sessionTimeout":"10s"}`)
	first := w.fake.groups.heartbeats[0]
	if first.Member.Host != "127.0.0.1" || !slices.Equal(first.Member.Subscribed.Topics, []string{"a", "b"}) {
		t.Errorf("got host %q and topics %q, want the caller's address without its port, and a set", first.Member.Host, first.Member.Subscribed.Topics)
	}
	w.want("GroupService/Heartbeat", `{"group":"g","member":"m","client":"shell","generation":"1","topics":["a","b"],"owned":[`+
		`{"topic":"b","topicId":"`+b+`","partitions":[0]},{"topic":"a","topicId":"`+a+`","partitions":[1,0,1]}]}`,
		`{"generation":"1",`+assigned+`,"sessionTimeout":"10s"}`)
	if got := fmt.Sprint(w.fake.groups.heartbeats[1].Owned); got != fmt.Sprintf("[{%s 0} {%s 0} {%s 1}]", b, a, a) { // b was made first
		t.Errorf("got %s, want what it owns in order and once", got)
	}
	w.want("GroupService/Heartbeat", `{"group":"g","member":"m","leave":true}`, `{}`)
	w.want("GroupService/GetGroup", `{"group":"g"}`, `{"group":{"group":"g","state":"GROUP_STATE_EMPTY","generation":"1","coordinator":"boot"}}`)
}

func TestAPatternMatchesTopicsAndTimesAreRead(t *testing.T) {
	w := start(t)
	w.topic("orders-eu", 1)
	w.topic("orders", 1)
	w.want("GroupService/Heartbeat", `{"group":"g","member":"m","pattern":"orders-.*","sessionTimeout":"3.0000004s","rebalanceTimeout":"60s","maxWait":"9s"}`,
		`{"generation":"1","assigned":[{"topic":"orders-eu","topicId":"`+w.id("orders-eu")+`","partitions":[0]}],"sessionTimeout":"3s"}`)
	m := w.fake.groups.heartbeats[0].Member
	if m.Session != 3*time.Second || m.Rebalance != time.Minute || w.fake.groups.waits[0] != time.Second {
		t.Errorf("got session %v, rebalance %v, wait %v; want 3 s to the millisecond, 1 m, and a third of the session", m.Session, m.Rebalance, w.fake.groups.waits[0])
	}
}

func TestAHeartbeatWaitsAtMostAThirdOfTheSessionAndThirtySeconds(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`"maxWait":"1s"`: time.Second,
		`"maxWait":"9s"`: 10 * time.Second / 3,
		`"maxWait":"3600s","sessionTimeout":"1800s"`:  30 * time.Second,
		`"maxWait":"0s","sessionTimeout":"1800s"`:     0,
		`"sessionTimeout":"1800s","maxWait":"4.500s"`: 4500 * time.Millisecond,
	} {
		w := start(t)
		w.topic("a", 1)
		if status, answer := w.post("GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a"],`+body+`}`); status != http.StatusOK {
			t.Errorf("%s: got %d %s", body, status, answer)
		}
		if got := w.fake.groups.waits[0]; got != want {
			t.Errorf("%s: got %v, want %v", body, got, want)
		}
	}
}

func TestAHeldHeartbeatAnswersNews(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	first, err := w.groupClient().Heartbeat(t.Context(), &v1.HeartbeatRequest{Group: "g", Member: "m1", Topics: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	held := w.hold(first)
	if _, err := w.groupClient().Heartbeat(t.Context(), &v1.HeartbeatRequest{Group: "g", Member: "m2", Topics: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if got := <-held; got.err != nil || got.answer.Generation != 2 || len(got.answer.Assigned) != 1 || len(got.answer.Assigned[0].Partitions) != 1 {
		t.Errorf("got %v, %v; want one partition less in generation 2", got.answer, got.err)
	}
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

type heldAnswer struct {
	answer *v1.HeartbeatResponse
	err    error
}

// hold says the heartbeat of m1, who has carried out the answer, and answers when the engine holds it.
func (w *world) hold(carriedOut *v1.HeartbeatResponse) <-chan heldAnswer {
	w.t.Helper()
	held := make(chan heldAnswer, 1)
	go func() {
		answer, err := w.groupClient().Heartbeat(w.t.Context(), &v1.HeartbeatRequest{Group: "g", Member: "m1", Topics: []string{"a"},
			Generation: carriedOut.Generation, Owned: carriedOut.Assigned, MaxWait: seconds(600), SessionTimeout: seconds(600)})
		held <- heldAnswer{answer, err}
	}()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for {
		w.fake.mu.Lock()
		came := len(w.fake.groups.waits) > 0 && w.fake.groups.waits[len(w.fake.groups.waits)-1] > 0
		w.fake.mu.Unlock()
		if came {
			return held
		}
		if pause(ctx, time.Millisecond) != nil {
			w.t.Fatal("the heartbeat did not come to the engine")
		}
	}
}

func TestNamesAreLookedUpOnlyWhereTheMemberDoesNotSayThem(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	request := &v1.HeartbeatRequest{Group: "g", Member: "m", Topics: []string{"a"}}
	for i, want := range []int{1, 1, 1, 2} {
		if i == 3 { // by id only
			request.Owned[0].Topic = ""
		}
		answer, err := w.groupClient().Heartbeat(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if w.fake.listed != want || answer.Assigned[0].Topic != "a" {
			t.Errorf("heartbeat %d: got %d looks at the catalog, and %v; want %d, and the name", i, w.fake.listed, answer, want)
		}
		request.Generation, request.Owned = answer.Generation, answer.Assigned
	}
}

func TestATopicThatIsGoneIsLeftOutAndDoesNotMakeHeartbeatsSpin(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.topic("b", 1)
	b := w.id("b")
	first := `{"generation":"1","assigned":[{"topic":"b","topicId":"` + b + `","partitions":[0]}],"sessionTimeout":"10s"}`
	if status, answer := w.post("GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a","b"]}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	w.fake.groups.still = true // the deletion has not reached the leader
	if err := w.fake.DeleteTopic(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"joins again": `{"group":"g","member":"m","topics":["a","b"]}`,
		"goes on":     `{"group":"g","member":"m","topics":["a","b"],"generation":"1","owned":[{"topic":"b","topicId":"` + b + `","partitions":[0]}],"maxWait":"3s"}`,
	} {
		begun := time.Now()
		w.want("GroupService/Heartbeat", body, first)
		if took := time.Since(begun); strings.Contains(body, "maxWait") && took < leftOutPause {
			t.Errorf("%s: answered after %v, want at least %v", name, took, leftOutPause)
		}
	}
	status, answer := w.post("GroupService/GetGroup", `{"group":"g"}`)
	if status != http.StatusOK || strings.Count(answer, `"topicId"`) != 2 {
		t.Errorf("got %d %s, want what it still has of both", status, answer)
	}
}

func TestHeartbeatsThatBreakTheContractAreRefused(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	id := w.id("a")
	for _, c := range []struct{ body, want string }{
		{`"member":"m","topics":["a"]`, `heartbeat: group: group id: want 1 to 255 bytes of text without control characters","kafkaCode":24`},
		{`"group":"` + strings.Repeat("g", 256) + `"`, `INVALID_GROUP_ID`},
		{`"group":"g\n","member":"m","topics":["a"]`, `INVALID_GROUP_ID`},
		{`"group":"g","topics":["a"]`, `heartbeat: member: want 1 to 64 bytes`},
		{`"group":"g","member":"` + strings.Repeat("m", 65) + `"`, `heartbeat: member: want 1 to 64 bytes`},
		{`"group":"g","member":"m\u001b[2J"`, `heartbeat: member: want 1 to 64 bytes of text without control characters`},
		{`"group":"g","member":"m","instance":"` + strings.Repeat("i", 256) + `"`, `heartbeat: instance: want 0 to 255`},
		{`"group":"g","member":"m","client":"c\u009b1m"`, `heartbeat: client: want 0 to 255`},
		{`"group":"g","member":"m"`, `heartbeat: topics: want at least one, or a pattern`},
		{`"group":"g","member":"m","topics":["a","/"]`, `"reason":"INVALID_TOPIC_EXCEPTION","message":"heartbeat: topics[1]: `},
		{`"group":"g","member":"m","topics":[` + strings.Repeat(`"a",`, 1000) + `"a"]`, `heartbeat: topics: 1001 topics, at most 1000`},
		{`"group":"g","member":"m","pattern":"a("`, `"reason":"INVALID_REGULAR_EXPRESSION","message":"heartbeat: pattern: `},
		{`"group":"g","member":"m","pattern":"(?=a)"`, `"kafkaCode":128`},
		{`"group":"g","member":"m","pattern":"` + strings.Repeat("a", 1025) + `"`, `INVALID_REGULAR_EXPRESSION`},
		{`"group":"g","member":"m","topics":["a"],"generation":"-1"`, `heartbeat: generation: -1 is not one`},
		{`"group":"g","member":"m","topics":["a"],"generation":"9223372036854775807"`, `heartbeat: generation: 9223372036854775807 is not one`},
		{`"group":"g","member":"m","topics":["a"],"sessionTimeout":"0.9s"`, `heartbeat: session_timeout: 900ms is not in 1s to 30m0s`},
		{`"group":"g","member":"m","topics":["a"],"sessionTimeout":"1801s"`, `heartbeat: session_timeout: `},
		{`"group":"g","member":"m","topics":["a"],"sessionTimeout":"-5s"`, `heartbeat: session_timeout: `},
		{`"group":"g","member":"m","topics":["a"],"rebalanceTimeout":"3601s"`, `heartbeat: rebalance_timeout: `},
		{`"group":"g","member":"m","topics":["a"],"rebalanceTimeout":"0s"`, `heartbeat: rebalance_timeout: `},
		{`"group":"g","member":"m","topics":["a"],"maxWait":"-1s"`, `heartbeat: max_wait: `},
		{`"group":"g","member":"m","topics":["a"],"owned":[{"topicId":"a"}]`, `heartbeat: owned[0].topic_id: `},
		{`"group":"g","member":"m","topics":["a"],"owned":[{"topicId":"` + id + `"},{"topicId":"` + id + `","partitions":[0,-1]}]`, `heartbeat: owned[1].partitions[1]: -1 is not in 0 to 99999`},
		{`"group":"g","member":"m","topics":["a"],"owned":[{"topicId":"` + id + `","partitions":[2147483647]}]`, `heartbeat: owned[0].partitions[0]: 2147483647`},
		{`"group":"g","member":"m","topics":["a"],"owned":[{"topicId":"` + id + `","partitions":[` + strings.Repeat("0,", 100_000) + `0]}]`, `heartbeat: owned: 100001 partitions, at most 100000`},
		{`"group":"g","member":"m","topics":["a"],"colour":"red"`, `unknown field`},
	} {
		status, answer := w.post("GroupService/Heartbeat", `{`+c.body+`}`)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			t.Errorf("%.200s: got %d %.500s, want %s", c.body, status, answer, c.want)
		}
	}
	if w.fake.groups.touched() {
		t.Errorf("got %v at the engine, want nothing", w.fake.groups.heartbeats)
	}
}

func TestHeartbeatsOfStrangersAndFencedMembersAreTold(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	for _, c := range []struct{ body, want string }{
		{`{"group":"g","member":"m","topics":["a"],"generation":"7"}`, `"code":"failed_precondition","reason":"UNKNOWN_MEMBER_ID","message":"use group g: unknown member","kafkaCode":25`},
		{`{"group":"g","member":"m1","instance":"i","topics":["a"]}`, `"generation":"1"`},
		{`{"group":"g","member":"m2","instance":"i","topics":["a"]}`, `"generation":"2"`},
		{`{"group":"g","member":"m1","instance":"i","topics":["a"],"generation":"1"}`, `"reason":"FENCED_INSTANCE_ID","message":"use group g: another life of this instance took over","kafkaCode":82`},
	} {
		if _, answer := w.post("GroupService/Heartbeat", c.body); !strings.Contains(answer, c.want) {
			t.Errorf("%s: got %s, want %s", c.body, answer, c.want)
		}
	}
}

func TestAMemberMustBeAllowedItsTopicsAndWhoUsesAPatternTheList(t *testing.T) {
	var asked []string
	deny := ""
	w := startWith(t, Config{Authorize: func(_ context.Context, action Action, resource Resource) error {
		ask := fmt.Sprintf("%s %s", action, resource)
		if asked = append(asked, ask); ask == deny {
			return errors.New("no")
		}
		return nil
	}})
	w.topic("a", 1)
	w.topic("b", 1)
	body := `{"group":"g","member":"m","topics":["a","b"],"pattern":"c.*"}`
	for _, c := range []struct{ deny, want string }{
		{"read topic b", "TOPIC_AUTHORIZATION_FAILED"},
		{"describe the cluster", "CLUSTER_AUTHORIZATION_FAILED"},
		{"read group g", "GROUP_AUTHORIZATION_FAILED"},
		{"", `"generation":"1"`},
	} {
		asked, deny = nil, c.deny
		if _, answer := w.post("GroupService/Heartbeat", body); !strings.Contains(answer, c.want) {
			t.Errorf("denied %q: got %s, want %s", deny, answer, c.want)
		}
	}
	if got := strings.Join(asked, ", "); got != "read group g, read topic a, read topic b, describe the cluster" {
		t.Errorf("asked for %s", got)
	}
	if n := len(w.fake.groups.heartbeats); n != 1 {
		t.Errorf("got %d heartbeats at the engine, want the allowed one", n)
	}
}

func TestEveryProtocolCarriesAGroup(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.topic("a", 1)
			w.produce("a", 0, "x", "y")
			client := w.groupClient(options...)
			joined, err := client.Heartbeat(t.Context(), &v1.HeartbeatRequest{Group: "g", Member: "m", Topics: []string{"a"}})
			if err != nil {
				t.Fatal(err)
			}
			committed, err := client.CommitOffsets(t.Context(), &v1.CommitOffsetsRequest{Group: "g", Member: "m", Generation: joined.Generation,
				Offsets: []*v1.CommitOffsetsRequest_Offset{{Topic: "a", Partition: new(int32(0)), Offset: new(int64(1))}}})
			if err != nil || committed.Results[0].Error != nil {
				t.Fatalf("got %v, %v; want it committed", committed, err)
			}
			fetched, err := client.FetchOffsets(t.Context(), &v1.FetchOffsetsRequest{Group: "g"})
			if err != nil || len(fetched.Offsets) != 1 || fetched.Offsets[0].GetOffset() != 1 || fetched.Offsets[0].GetLag() != 1 {
				t.Errorf("got %v, %v; want position 1 and lag 1", fetched, err)
			}
			_, err = client.GetGroup(t.Context(), &v1.GetGroupRequest{Group: "nobody"})
			if d := detailOf(t, err); d.Reason != "GROUP_ID_NOT_FOUND" || d.KafkaCode != 69 || d.Code != "not_found" {
				t.Errorf("got %v, want the group unknown", d)
			}
		})
	}
}

func TestALargeHeartbeatHoldsMemoryWhileItIsHeldAndNoLonger(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	first, err := w.groupClient().Heartbeat(t.Context(), &v1.HeartbeatRequest{Group: "g", Member: "m1", Topics: []string{"a"}, SessionTimeout: seconds(600)})
	if err != nil {
		t.Fatal(err)
	}
	w.wantFree(w.edge.memory.max)
	first.Assigned = append(first.Assigned, &v1.TopicPartitions{Topic: "z", TopicId: strings.Repeat("f", 8) + "-ffff-ffff-ffff-" + strings.Repeat("f", 12), Partitions: make([]int32, 50_000)})
	held := w.hold(first)
	w.edge.memory.mu.Lock()
	free := w.edge.memory.free
	w.edge.memory.mu.Unlock()
	if used := w.edge.memory.max - free; used < 50_000*partitionBytes {
		t.Errorf("got %d bytes held, want at least those of 50,000 partitions", used)
	}
	w.fake.drain()
	if got := <-held; got.err != nil {
		t.Error(got.err)
	}
	w.wantFree(w.edge.memory.max)
}
