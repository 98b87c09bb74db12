package rpc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
	"github.com/splashdam/splashdam/queues"
)

// queueClient speaks to the queue service over h2c.
func (w *world) queueClient(options ...connect.ClientOption) splashdamv1connect.QueueServiceClient {
	return splashdamv1connect.NewQueueServiceClient(w.client, w.url, options...)
}

// pull pulls with the defaults.
func (w *world) pull(r *v1.PullRequest) []*v1.PulledRecord {
	w.t.Helper()
	answer, err := w.queueClient().Pull(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.Records
}

// tokenOf is a token of the topic a of a test, as JSON has it.
func tokenOf(partition objectlog.Partition, offset objectlog.Offset, lock uint64) string {
	return base64.StdEncoding.EncodeToString(deliveryToken{queues.Place{Topic: objectlog.UUID{15: 1}, Partition: partition}, offset, lock}.bytes())
}

// said is what was pulled, in short: partition/offset and deliveries.
func said(records []*v1.PulledRecord) string {
	var list []string
	for _, r := range records {
		list = append(list, fmt.Sprintf("%d/%d x%d", r.GetPartition(), r.GetRecord().GetOffset(), r.GetDeliveries()))
	}
	return strings.Join(list, ", ")
}

func TestAQueueWorksFromAShell(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	w.post("LogService/Produce", `{"batches":[{"topic":"a","partition":0,"records":{"records":[{"key":{"text":"k"},"value":{"json":{"n":1}},"headers":[{"key":"h","value":{"text":"v"}}]},{"value":{"text":"two"}}]}},`+
		`{"topic":"a","partition":1,"records":{"records":[{"value":{"data":"/wA="}}]}}]}`)
	w.want("QueueService/Pull", `{"group":"g","topic":"a","start":{"point":"EARLIEST"},"maxRecords":3}`, `{"records":[`+
		`{"partition":0,"record":{"offset":"0","key":{"text":"k"},"value":{"json":{"n":1}},"headers":[{"key":"h","value":{"text":"v"}}],"timestamp":"2023-11-14T22:13:20Z"},"token":"AQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAB","deliveries":1},`+
		`{"partition":0,"record":{"offset":"1","value":{"text":"two"},"timestamp":"2023-11-14T22:13:20Z"},"token":"AQAAAAAAAAAAAAAAAAAAAAEAAQAAAAAAAAAB","deliveries":1},`+
		`{"partition":1,"record":{"offset":"0","value":{"data":"/wA="},"timestamp":"2023-11-14T22:13:20Z"},"token":"AQAAAAAAAAAAAAAAAAAAAAEBAAAAAAAAAAAB","deliveries":1}]}`)
	w.want("QueueService/Pull", `{"group":"g","topic":"a"}`, `{}`)
	w.want("QueueService/Acknowledge", `{"group":"g","topic":"a","items":[{"tokens":["AQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAB"],"verdict":"ACCEPT"},`+
		`{"tokens":["AQAAAAAAAAAAAAAAAAAAAAEAAQAAAAAAAAAB"],"verdict":"RELEASE","delay":"5s"}]}`, `{}`)
	w.want("QueueService/GetQueue", `{"group":"g","topic":"a"}`, `{"maxDeliveries":5,"deadLetterTopic":"a-dlq","partitions":[`+
		`{"partition":0,"nextOffset":"2","delayed":"1","lag":"1","highWatermark":"2","lastUsed":"2023-11-14T22:13:20Z"},`+
		`{"partition":1,"nextOffset":"1","locked":"1","lag":"1","highWatermark":"1","lastUsed":"2023-11-14T22:13:20Z"}]}`)
	if status, answer := w.get("/splashdam.v1.QueueService/GetQueue?connect=v1&encoding=json&message=" + url.QueryEscape(`{"group":"new","topic":"a"}`)); status != http.StatusOK ||
		answer != `{"partitions":[{"partition":0,"lag":"2","highWatermark":"2"},{"partition":1,"lag":"1","highWatermark":"1"}]}` {
		t.Errorf("by GET: got %d %s", status, answer)
	}
	for _, procedure := range []string{"Pull", "Acknowledge"} {
		if status, _ := w.get("/splashdam.v1.QueueService/" + procedure + "?connect=v1&encoding=json&message=%7B%7D"); status != http.StatusMethodNotAllowed {
			t.Errorf("got %d for %s by GET, want it refused", status, procedure)
		}
	}
}

func TestPullHandsOutJustWhatWasAcquired(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	w.produce("a", 0, "0", "1", "2", "3")
	w.produce("a", 0, "4", "5", "6", "7")
	w.produce("a", 1, "x")
	first := w.pull(&v1.PullRequest{Group: "g", Topic: "a", MaxRecords: 6})
	if got, want := said(first), "0/0 x1, 0/1 x1, 0/2 x1, 0/3 x1, 0/4 x1, 0/5 x1"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	release := &v1.AcknowledgeRequest_Item{Verdict: v1.Verdict_VERDICT_RELEASE}
	for _, i := range []int{1, 2, 4} {
		release.Tokens = append(release.Tokens, first[i].Token)
	}
	if answer, err := w.queueClient().Acknowledge(t.Context(), &v1.AcknowledgeRequest{Group: "g", Topic: "a", Items: []*v1.AcknowledgeRequest_Item{release}}); err != nil || len(answer.Refused) != 0 {
		t.Fatal(answer, err)
	}
	again := w.pull(&v1.PullRequest{Group: "g", Topic: "a"})
	if got, want := said(again), "0/1 x2, 0/2 x2, 0/4 x2, 0/6 x1, 0/7 x1, 1/0 x1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, r := range again {
		want := fmt.Sprint(r.GetRecord().GetOffset())
		if r.GetPartition() == 1 {
			want = "x"
		}
		if got := string(r.GetRecord().GetValue().GetData()); got != want {
			t.Errorf("offset %d: got %q", r.GetRecord().GetOffset(), got)
		}
	}
}

func TestPullWaitsForTheFirstRecordWithLittleMemory(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	got := make(chan string, 1)
	go func() {
		_, body := w.post("QueueService/Pull", `{"group":"g","topic":"a","maxWait":"20s","lockTime":"2s"}`)
		got <- body
	}()
	for waiting := 0; waiting < 2; {
		if pause(t.Context(), time.Millisecond) != nil {
			t.Fatal("the pull did not arrive")
		}
		w.fake.mu.Lock()
		waiting = len(w.fake.queues.pulls)
		w.fake.mu.Unlock()
	}
	w.produce("a", 0, "x")
	if body := <-got; !strings.Contains(body, `"value":{"text":"x"}`) {
		t.Errorf("got %s, want the record", body)
	}
	first, second := w.fake.queues.pulls[0], w.fake.queues.pulls[1]
	if first.Wait != 0 || first.BytesMax != fetchBytesDefault || second.Wait != 20*time.Second || second.BytesMax != pollBytes || second.Lock != 2*time.Second || second.RecordsMax != pullRecordsDefault {
		t.Errorf("got %+v, then %+v; want a look, and then a wait that weighs little", first, second)
	}
}

func TestPullAsksTheEngineForWhatWasAskedFor(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.want("QueueService/Pull", `{"group":"g","topic":"a","maxRecords":2000,"maxBytes":4096,"maxWait":"0s","lockTime":"43200s","maxDeliveries":1000,"deadLetterTopic":"bad","start":{"tailRecords":"3"}}`, `{}`)
	want := agent.PullRequest{Group: "g", Topic: "a", RecordsMax: 2000, BytesMax: 4096, Lock: 12 * time.Hour, Deliveries: 1000, DeadLetters: "bad", Start: agent.Start{Kind: agent.StartTail, Tail: 3}}
	if got := w.fake.queues.pulls; len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPullsThatBreakTheContractAreRefused(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	long := strings.Repeat("n", 246)
	for _, c := range []struct{ body, want string }{
		{`"topic":"a"`, `"reason":"INVALID_GROUP_ID","message":"pull: group: `},
		{`"group":"` + strings.Repeat("g", 256) + `","topic":"a"`, `pull: group: `},
		{`"group":"g\n","topic":"a"`, `pull: group: `},
		{`"group":"g"`, `"reason":"INVALID_TOPIC_EXCEPTION","message":"pull: topic: `},
		{`"group":"g","topic":"a/b"`, `pull: topic: `},
		{`"group":"g","topic":"a","maxRecords":-1`, `pull: max_records: -1 is not in 0 to 2000`},
		{`"group":"g","topic":"a","maxRecords":2001`, `pull: max_records: 2001 is not in 0 to 2000`},
		{`"group":"g","topic":"a","maxBytes":-1`, `pull: max_bytes: -1 is not in 0 to 67108864`},
		{`"group":"g","topic":"a","maxBytes":67108865`, `pull: max_bytes: 67108865 is not in`},
		{`"group":"g","topic":"a","maxWait":"-1s"`, `pull: max_wait: -1s is not in 0s to 30s`},
		{`"group":"g","topic":"a","maxWait":"31s"`, `pull: max_wait: 31s is not in 0s to 30s`},
		{`"group":"g","topic":"a","lockTime":"0s"`, `pull: lock_time: 0s is not in 1s to 12h0m0s`},
		{`"group":"g","topic":"a","lockTime":"43200.001s"`, `pull: lock_time: 12h0m0.001s is not in 1s to 12h0m0s`},
		{`"group":"g","topic":"a","maxDeliveries":-1`, `pull: max_deliveries: -1 is not in 0 to 1000`},
		{`"group":"g","topic":"a","maxDeliveries":1001`, `pull: max_deliveries: 1001 is not in 0 to 1000`},
		{`"group":"g","topic":"a","deadLetterTopic":"a"`, `pull: dead_letter_topic: a is the topic itself`},
		{`"group":"g","topic":"a","deadLetterTopic":"no/name"`, `"reason":"INVALID_TOPIC_EXCEPTION","message":"pull: dead_letter_topic: `},
		{`"group":"g","topic":"` + long + `"`, `pull: dead_letter_topic: required, since the topic's name with -dlq behind it is none`},
		{`"group":"g","topic":"a","start":{"offset":"-1"}`, `pull: start.offset: -1 is negative`},
		{`"group":"g","topic":"a","start":{"point":"START_POINT_UNSPECIFIED"}`, `pull: start.point: START_POINT_UNSPECIFIED: want EARLIEST or LATEST`},
		{`"group":"g","topic":"a","start":{"point":"NEVER"}`, `decode PullRequest: `},
		{`"group":"g","topic":"a","member":"m"`, `unknown field`},
	} {
		status, answer := w.post("QueueService/Pull", `{`+c.body+`}`)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			t.Errorf("%.200s: got %d %.500s, want %s", c.body, status, answer, c.want)
		}
	}
	for body, want := range map[string]string{`{"topic":"a"}`: `get queue: group: `, `{"group":"g"}`: `get queue: topic: `} {
		if status, answer := w.post("QueueService/GetQueue", body); status != http.StatusBadRequest || !strings.Contains(answer, want) {
			t.Errorf("%s: got %d %s, want %s", body, status, answer, want)
		}
	}
	if w.fake.queues.touched() {
		t.Error("the engine heard of it")
	}
	for procedure, want := range map[string]string{"QueueService/Pull": "UNKNOWN_TOPIC_OR_PARTITION", "QueueService/GetQueue": "UNKNOWN_TOPIC_OR_PARTITION"} {
		if status, answer := w.post(procedure, `{"group":"g","topic":"nobody"}`); status != http.StatusNotFound || !strings.Contains(answer, want) {
			t.Errorf("%s: got %d %s, want %s", procedure, status, answer, want)
		}
	}
	for fault, want := range map[error]string{
		queues.ReasonOtherMode: `"code":"failed_precondition","message":"pull from a: the group reads this topic in another mode"`,
		queues.ReasonFull:      `"retryAfter":"1s"`,
	} {
		w.fake.fault = fault
		if _, answer := w.post("QueueService/Pull", `{"group":"g","topic":"a"}`); !strings.Contains(answer, want) {
			t.Errorf("got %s, want %s", answer, want)
		}
	}
}

// bomb produces one batch of records, that is small until it is unpacked, and others that no one acquires.
func (w *world) bomb(topic string, values ...string) {
	w.t.Helper()
	var records []objectlog.Record
	for _, v := range values {
		records = append(records, objectlog.Record{Value: []byte(v), Timestamp: 1})
	}
	b, err := objectlog.EncodeBatch(nil, records, objectlog.BatchOptions{Codec: objectlog.CodecZstd, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		w.t.Fatal(err)
	}
	log := w.fake.topics[topic].logs[0]
	objectlog.PatchBatch(b, log.next, 1)
	log.batches = append(log.batches, b)
	log.next += objectlog.Offset(len(values))
}

func TestPullGivesBackWhatUnpacksToMoreThanAnAnswerHolds(t *testing.T) {
	w := startWith(t, Config{MemoryBytesMax: 1 << 30})
	w.topic("a", 1)
	large := strings.Repeat("x", 20<<20)
	for range 7 {
		w.bomb("a", large, "small")
	}
	got := w.pull(&v1.PullRequest{Group: "g", Topic: "a"})
	if want := "0/0 x1, 0/1 x1, 0/2 x1, 0/3 x1, 0/4 x1, 0/5 x1, 0/6 x1"; said(got) != want {
		t.Errorf("got %s, want %s: what comes first of 64 MiB", said(got), want)
	}
	back := w.fake.queues.settled
	if len(back) != 1 || len(back[0]) != 7 || back[0][0].Offset != 7 || back[0][0].Verdict != queues.Return {
		t.Fatalf("got %v, want seven records given back", back)
	}
	// Those that went back come again as if they had never been handed out. The others in their batches weigh, too.
	var accept [][]byte
	for _, r := range got {
		accept = append(accept, r.Token)
	}
	if _, err := w.queueClient().Acknowledge(t.Context(), &v1.AcknowledgeRequest{Group: "g", Topic: "a", Items: []*v1.AcknowledgeRequest_Item{{Tokens: accept, Verdict: v1.Verdict_VERDICT_ACCEPT}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := said(w.pull(&v1.PullRequest{Group: "g", Topic: "a"})), "0/7 x1, 0/8 x1, 0/9 x1, 0/10 x1, 0/11 x1, 0/12 x1"; got != want {
		t.Errorf("got %s, want %s: the record before weighs as much", got, want)
	}
}

func TestTheFirstRecordIsHandedOutWhateverLiesBeforeIt(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.bomb("a", strings.Repeat("x", 1000), "small", "next")
	h := handing{edge: w.edge, topic: "a", left: &budget{records: 10, bytes: 1}}
	h.partition(agent.Pulled{Lock: 1, Acquired: []queues.Acquired{{From: 1, To: 3, Deliveries: 4}}, Batches: w.fake.topics["a"].logs[0].batches})
	if said(h.out) != "0/1 x4" || len(h.back) != 1 || h.back[0].Offset != 2 {
		t.Errorf("got %s and %v back, want the first record and the second back", said(h.out), h.back)
	}
}

func TestPullTakesMemoryBeforeAnythingIsLocked(t *testing.T) {
	w := tight(t)
	w.produce("a", 0, "x")
	other := w.edge.memory.claim()
	defer other.release()
	other.reading()
	if err := other.take(t.Context(), 100<<20); err != nil { // all that large reads may have
		t.Fatal(err)
	}
	if status, answer := w.post("QueueService/Pull", `{"group":"g","topic":"a"}`); status != http.StatusTooManyRequests || !strings.Contains(answer, `"retryAfter":"1s"`) {
		t.Errorf("got %d %s, want busy", status, answer)
	}
	if w.fake.queues.touched() {
		t.Error("the engine heard of it")
	}
}

func TestPullGivesBackWhatItHasNoMemoryFor(t *testing.T) {
	w := startWith(t, Config{RequestBytesMax: 1 << 20, MemoryBytesMax: 8 << 20}, func(e *edge) { e.engine = &greedy{fakeEngine: e.engine.(*fakeEngine), edge: e} })
	w.topic("a", 1)
	w.produce("a", 0, strings.Repeat("x", 1<<19), "y")
	if status, answer := w.post("QueueService/Pull", `{"group":"g","topic":"a","maxBytes":1000}`); status != http.StatusTooManyRequests {
		t.Errorf("got %d %.200s, want busy", status, answer)
	}
	if back := w.fake.queues.settled; len(back) != 1 || len(back[0]) != 2 || back[0][1].Verdict != queues.Return || back[0][1].Offset != 1 {
		t.Errorf("got %v, want both records given back", back)
	}
}

// greedy leaves no memory while it pulls.
type greedy struct {
	*fakeEngine
	edge *edge
}

func (g *greedy) Pull(ctx context.Context, r agent.PullRequest) ([]agent.Pulled, error) {
	other := g.edge.memory.claim()
	other.reading()
	for other.tryTake(leastRead) {
	}
	context.AfterFunc(ctx, other.release)
	return g.fakeEngine.Pull(ctx, r)
}

func TestWhatCannotBeDecodedKeepsItsLockAndTheRestIsHandedOut(t *testing.T) {
	w := startWith(t, Config{Limits: objectlog.Limits{DecodedBytes: 1 << 20}})
	w.topic("a", 1)
	w.produce("a", 0, "0", "1")
	w.bomb("a", strings.Repeat("x", 2<<20), "3")
	w.produce("a", 0, "4")
	if got, want := said(w.pull(&v1.PullRequest{Group: "g", Topic: "a"})), "0/0 x1, 0/1 x1, 0/4 x1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if log := w.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "pull a/0: decode at offset 2") {
		t.Errorf("got %q, want it logged", log)
	}
	if w.fake.queues.settled != nil {
		t.Errorf("got %v given back: it would come again for ever", w.fake.queues.settled)
	}
	w.topic("b", 1)
	w.bomb("b", strings.Repeat("x", 2<<20))
	if status, answer := w.post("QueueService/Pull", `{"group":"g","topic":"b"}`); status != http.StatusInternalServerError || !strings.Contains(answer, `"reason":"KAFKA_STORAGE_ERROR","message":"pull b/0: decode at offset 0`) {
		t.Errorf("got %d %s, want data loss", status, answer)
	}
}

func TestABudgetThatWasSpentStaysSpent(t *testing.T) {
	m := newMemory(64 << 20)
	other, c := m.claim(), m.claim()
	other.reading()
	c.reading()
	if err := other.take(t.Context(), 100<<20); err != nil { // all that large reads may have
		t.Fatal(err)
	}
	left := newBudget(10, 0, c)
	left.pay(objectlog.Record{Value: make([]byte, 1000)})
	if !left.spent() {
		t.Fatal("got room where there is no memory")
	}
	other.release()
	if !left.spent() {
		t.Error("memory that came free brings what lies behind what was left out")
	}
}

func TestOnlyWhoMayWriteToItNamesADeadLetterTopic(t *testing.T) {
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
	const sent = `"partition":0,"offset":"0","committed":"0","attempts":1`
	for _, c := range []struct{ procedure, body, deny, want string }{
		{"QueueService/Pull", `{"group":"g","topic":"a"}`, "", "read group g, read topic a"},
		{"QueueService/Pull", `{"group":"g","topic":"a","deadLetterTopic":"a-dlq"}`, "", "read group g, read topic a"},
		{"QueueService/Pull", `{"group":"g","topic":"a","deadLetterTopic":"b"}`, "write topic b", "read group g, read topic a, write topic b"},
		{"QueueService/Pull", `{"group":"g","topic":"a"}`, "read topic a", "read group g, read topic a"},
		{"QueueService/Acknowledge", `{"group":"g","topic":"a","items":[{"tokens":["AA=="],"verdict":"ACCEPT"}]}`, "read topic a", "read group g, read topic a"},
		{"QueueService/GetQueue", `{"group":"g","topic":"a"}`, "describe topic a", "describe group g, describe topic a"},
		{"DeadLetterService/SendDeadLetter", `{"group":"g","topic":"a",` + sent + `}`, "", "read group g, read topic a"},
		{"DeadLetterService/SendDeadLetter", `{"group":"g","topic":"a",` + sent + `,"deadLetterTopic":"b"}`, "write topic b", "read group g, read topic a, write topic b"},
		{"DeadLetterService/RedriveDeadLetters", `{"topic":"a","toTopic":"b"}`, "write topic b", "read topic a, write topic b"},
		{"DeadLetterService/RedriveDeadLetters", `{"topic":"a"}`, "write the cluster", "read topic a, write the cluster"},
		{"DeadLetterService/CountDeadLetters", `{"topics":["b","a"]}`, "describe topic a", "describe topic a, describe topic b"},
		{"DeadLetterService/ListDeadLetters", `{"topic":"a"}`, "", "read topic a"},
		{"DeadLetterService/DiscardDeadLetters", `{"topic":"a","failedBefore":"2026-01-01T00:00:00Z"}`, "", "delete topic a"},
	} {
		asked, deny = nil, c.deny
		_, answer := w.post(c.procedure, c.body)
		if denied := strings.Contains(answer, "AUTHORIZATION_FAILED"); denied != (deny != "") {
			t.Errorf("%s %s: got %s, denied %q", c.procedure, c.body, answer, deny)
		}
		if got := strings.Join(asked, ", "); got != c.want {
			t.Errorf("%s %s: asked for %s, want %s", c.procedure, c.body, got, c.want)
		}
	}
}
