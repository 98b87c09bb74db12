package rpc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

// acknowledge posts items for the group g on the topic a.
func (w *world) acknowledge(items string) (status int, answer string) {
	w.t.Helper()
	return w.post("QueueService/Acknowledge", `{"group":"g","topic":"a","items":[`+items+`]}`)
}

func TestWhatIsWrongWithOneTokenIsToldOfItAlone(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	w.topic("b", 1)
	w.produce("a", 0, "0", "1", "2")
	w.produce("b", 0, "0")
	w.post("QueueService/Pull", `{"group":"g","topic":"a"}`)
	w.post("QueueService/Pull", `{"group":"g","topic":"b"}`)
	first, second := tokenOf(0, 0, 1), tokenOf(0, 1, 1)
	foreign := base64.StdEncoding.EncodeToString(deliveryToken{queues.Place{Topic: objectlog.UUID{15: 2}}, 0, 2}.bytes())
	unknown := base64.StdEncoding.EncodeToString(deliveryToken{queues.Place{Topic: objectlog.UUID{15: 9}}, 0, 2}.bytes())
	whole, err := base64.StdEncoding.DecodeString(second)
	if err != nil {
		t.Fatal(err)
	}
	cut := base64.StdEncoding.EncodeToString(whole[:len(whole)-3])
	forged, nowhere := tokenOf(0, 2, 99), tokenOf(99, 0, 1)
	refused := func(token, message string) string {
		return `{"token":"` + token + `","error":{"code":"failed_precondition","reason":"INVALID_RECORD_STATE","message":"acknowledge` + message + `","kafkaCode":121}}`
	}
	const notLocked = "not locked under this token: the lock ended, or the record was acknowledged before"
	w.want("QueueService/Acknowledge", `{"group":"g","topic":"a","items":[`+
		`{"tokens":["`+first+`","","`+foreign+`"],"verdict":"ACCEPT"},{"tokens":["`+cut+`","`+forged+`","`+first+`","`+second+`","`+unknown+`","`+nowhere+`"],"verdict":"REJECT","error":"no"}]}`,
		`{"refused":[`+strings.Join([]string{
			strings.Replace(refused("", ": items[0].tokens[1]: not a token that this service gave"), `"token":"",`, ``, 1),
			refused(foreign, ": items[0].tokens[2]: not of topic a"),
			refused(cut, ": items[1].tokens[0]: not a token that this service gave"),
			refused(forged, " offset 2: "+notLocked),
			refused(first, ": items[1].tokens[2]: given twice: the first one counts"),
			refused(unknown, ": items[1].tokens[4]: not of topic a"),
			refused(nowhere, " offset 0: "+notLocked),
		}, ",")+`]}`)
	place := queues.Place{Topic: objectlog.UUID{15: 1}}
	want := []agent.Acknowledgement{{Place: place, Lock: 1, Verdict: queues.Accept}, {Place: place, Offset: 2, Lock: 99, Verdict: queues.Reject, Error: "no"},
		{Place: place, Offset: 1, Lock: 1, Verdict: queues.Reject, Error: "no"}, {Place: queues.Place{Topic: place.Topic, Partition: 99}, Lock: 1, Verdict: queues.Reject, Error: "no"}}
	if got := w.fake.queues.settled; len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if _, answer := w.acknowledge(`{"tokens":["` + first + `"],"verdict":"ACCEPT"}`); answer != `{"refused":[`+refused(first, " offset 0: "+notLocked)+`]}` {
		t.Errorf("got %s, want the repeat refused", answer)
	}
	n := len(w.fake.queues.settled)
	if status, answer := w.acknowledge(`{"tokens":["AAAA"],"verdict":"ACCEPT"}`); status != http.StatusOK || !strings.Contains(answer, "INVALID_RECORD_STATE") || len(w.fake.queues.settled) != n {
		t.Errorf("got %d %s, want it refused and nothing asked of the engine", status, answer)
	}
}

func TestEveryVerdictReachesTheEngine(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1", "2", "3", "4", "5", "6")
	w.post("QueueService/Pull", `{"group":"g","topic":"a"}`)
	long := strings.Repeat("é", 200)
	for i, c := range []struct {
		said string
		want agent.Acknowledgement
	}{
		{`"verdict":"ACCEPT"`, agent.Acknowledgement{Verdict: queues.Accept}},
		{`"verdict":"VERDICT_RELEASE","error":"` + long + `"`, agent.Acknowledgement{Verdict: queues.Release, Error: long[:256]}},
		{`"verdict":"RELEASE","delay":"43200s"`, agent.Acknowledgement{Verdict: queues.Release, Wait: 12 * time.Hour}},
		{`"verdict": "REJECT","error":"REJECT"`, agent.Acknowledgement{Verdict: queues.Reject, Error: "REJECT"}},
		{`"verdict":"EXTEND"`, agent.Acknowledgement{Verdict: queues.Extend, Wait: 30 * time.Second}},
		{`"verdict":4,"lockTime":"1.0005s"`, agent.Acknowledgement{Verdict: queues.Extend, Wait: time.Second}},
		{`"verdict":"RETURN"`, agent.Acknowledgement{Verdict: queues.Return}},
	} {
		if status, answer := w.acknowledge(`{"tokens":["` + tokenOf(0, objectlog.Offset(i), 1) + `"],` + c.said + `}`); status != http.StatusOK || answer != `{}` {
			t.Errorf("%s: got %d %s", c.said, status, answer)
		}
		c.want.Place, c.want.Offset, c.want.Lock = queues.Place{Topic: objectlog.UUID{15: 1}}, objectlog.Offset(i), 1
		if got := w.fake.queues.settled[i]; len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %+v, want %+v", c.said, got, c.want)
		}
	}
}

func TestAcknowledgementsThatBreakTheContractAreRefusedAsAWhole(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	token := tokenOf(0, 0, 1)
	one := `"tokens":["` + token + `"]`
	for _, c := range []struct{ body, want string }{
		{`"topic":"a","items":[{` + one + `,"verdict":"ACCEPT"}]`, `"reason":"INVALID_GROUP_ID","message":"acknowledge: group: `},
		{`"group":"g","items":[{` + one + `,"verdict":"ACCEPT"}]`, `"reason":"INVALID_TOPIC_EXCEPTION","message":"acknowledge: topic: `},
		{`"group":"g","topic":"a"`, `acknowledge: items: want at least one`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"ACCEPT"},{"verdict":"ACCEPT"}]`, `acknowledge: items[1].tokens: want at least one`},
		{`"group":"g","topic":"a","items":[{` + one + `}]`, `acknowledge: items[0].verdict: VERDICT_UNSPECIFIED: want ACCEPT, RELEASE, REJECT, EXTEND or RETURN`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":6}]`, `acknowledge: items[0].verdict: 6: want ACCEPT`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"DROP"}]`, `decode AcknowledgeRequest: `},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"RELEASE","delay":"-1s"}]`, `acknowledge: items[0].delay: -1s is not in 0s to 12h0m0s`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"RELEASE","delay":"43201s"}]`, `acknowledge: items[0].delay: `},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"REJECT","delay":"1s"}]`, `acknowledge: items[0].delay: only with RELEASE`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"EXTEND","lockTime":"0s"}]`, `acknowledge: items[0].lock_time: 0s is not in 1s to 12h0m0s`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"EXTEND","lockTime":"43201s"}]`, `acknowledge: items[0].lock_time: `},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"ACCEPT","lockTime":"1s"}]`, `acknowledge: items[0].lock_time: only with EXTEND`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"ACCEPT","error":"e"}]`, `acknowledge: items[0].error: only with RELEASE and REJECT`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"EXTEND","error":"e"}]`, `acknowledge: items[0].error: only with`},
		{`"group":"g","topic":"a","items":[{"tokens":[` + strings.Repeat(`"`+token+`",`, 9_999) + `"` + token + `"],"verdict":"ACCEPT"},{` + one + `,"verdict":"ACCEPT"}]`, `acknowledge: items: more than 10000 tokens at once`},
		{`"group":"g","topic":"a","items":[{` + one + `,"verdict":"ACCEPT","partition":0}]`, `unknown field`},
	} {
		status, answer := w.post("QueueService/Acknowledge", `{`+c.body+`}`)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			t.Errorf("%.200s: got %d %.500s, want %s", c.body, status, answer, c.want)
		}
	}
	if w.fake.queues.touched() {
		t.Error("the engine heard of it")
	}
	if status, answer := w.post("QueueService/Acknowledge", `{"group":"g","topic":"nobody","items":[{`+one+`,"verdict":"ACCEPT"}]}`); status != http.StatusNotFound || !strings.Contains(answer, "UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("got %d %s, want an unknown topic", status, answer)
	}
}

func TestAcknowledgementsOfKnownTopicsLookForNone(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1", "2")
	const item = `{"tokens":["%s"],"verdict":"ACCEPT"}`
	w.acknowledge(fmt.Sprintf(item, tokenOf(0, 0, 9))) // as of a Pull at another agent
	if w.fake.queues.looked != 1 {
		t.Errorf("got %d looks, want one", w.fake.queues.looked)
	}
	w.acknowledge(fmt.Sprintf(item, tokenOf(0, 0, 9)))
	w.topic("b", 1)
	w.produce("b", 0, "0")
	w.post("QueueService/Pull", `{"group":"g","topic":"b"}`)
	b := base64.StdEncoding.EncodeToString(deliveryToken{queues.Place{Topic: objectlog.UUID{15: 2}}, 0, 1}.bytes())
	w.want("QueueService/Acknowledge", `{"group":"g","topic":"b","items":[`+fmt.Sprintf(item, b)+`]}`, `{}`)
	if w.fake.queues.looked != 1 {
		t.Errorf("got %d looks, want none more", w.fake.queues.looked)
	}
	// The same name is another topic now. What was locked in the first one is the engine's to refuse.
	if err := w.fake.DeleteTopic(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	w.topic("a", 1)
	if status, answer := w.acknowledge(fmt.Sprintf(item, tokenOf(0, 1, 1))); status != http.StatusOK || !strings.Contains(answer, `"message":"acknowledge offset 1: not locked`) {
		t.Errorf("got %d %s, want it refused by the engine", status, answer)
	}
}

func TestAnUnknownOutcomeOfAcknowledgementsIsTold(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1")
	w.post("QueueService/Pull", `{"group":"g","topic":"a"}`)
	w.fake.queues.refuse = map[objectlog.Offset]error{1: &agent.Error{Op: "acknowledge", Object: "a/0", Cause: agent.OutcomeUnknown}}
	items := `{"tokens":["` + tokenOf(0, 0, 1) + `","` + tokenOf(0, 1, 1) + `"],"verdict":"ACCEPT"}`
	if status, answer := w.acknowledge(items); status != http.StatusOK || strings.Count(answer, `"token"`) != 1 || !strings.Contains(answer, `"code":"deadline_exceeded","reason":"REQUEST_TIMED_OUT"`) {
		t.Errorf("got %d %s, want one of them unknown", status, answer)
	}
	w.fake.fault = agent.OutcomeUnknown
	if status, answer := w.acknowledge(items); status != http.StatusGatewayTimeout || !strings.Contains(answer, `"retriable":true`) {
		t.Errorf("got %d %s, want all of it unknown", status, answer)
	}
	w.fake.fault = errors.New("secret")
	if status, answer := w.acknowledge(items); status != http.StatusInternalServerError || strings.Contains(answer, "secret") {
		t.Errorf("got %d %s, want an internal error", status, answer)
	}
}

func TestAcknowledgementsTakeMemoryForTheirAnswerBeforeAnythingIsDone(t *testing.T) {
	w := tight(t)
	other := w.edge.memory.claim()
	defer other.release()
	if err := other.take(t.Context(), 100<<20); err != nil { // all that large calls may have
		t.Fatal(err)
	}
	token := tokenOf(0, 0, 1) // often enough that the request is a small one, and not with its answer
	if status, answer := w.acknowledge(`{"tokens":[` + strings.Repeat(`"`+token+`",`, 220) + `"` + token + `"],"verdict":"ACCEPT"}`); status != http.StatusTooManyRequests || !strings.Contains(answer, `"retryAfter":"1s"`) {
		t.Errorf("got %d %.200s, want busy", status, answer)
	}
	if w.fake.queues.touched() {
		t.Error("the engine heard of it")
	}
}

func TestShortNamesOfVerdictsAreRewrittenNowhereElse(t *testing.T) {
	for in, want := range map[string]string{
		`{"items":[{"verdict":"ACCEPT","error":"ACCEPT"},{"verdict": "EXTEND"}]}`: `{"items":[{"verdict":"VERDICT_ACCEPT","error":"ACCEPT"},{"verdict": "VERDICT_EXTEND"}]}`,
		`{"group":"REJECT","topic":"RELEASE","items":[{"tokens":["ACCEPT"]}]}`:    `{"group":"REJECT","topic":"RELEASE","items":[{"tokens":["ACCEPT"]}]}`,
		`{"verdict":"ACCEPT","items":{"verdict":"ACCEPT"}}`:                       `{"verdict":"ACCEPT","items":{"verdict":"ACCEPT"}}`,
		`{"items":[{"verdict":"VERDICT_ACCEPT"},{"verdict":"accept"}]}`:           `{"items":[{"verdict":"VERDICT_ACCEPT"},{"verdict":"accept"}]}`,
		`{"items":[{"verdict":"EARLIEST"}]}`:                                      `{"items":[{"verdict":"EARLIEST"}]}`,
	} {
		if got := string(lengthenVerdicts([]byte(in), "items", "[]", "verdict")); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestEveryProtocolWorksOnAQueue(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.topic("a", 1)
			w.produce("a", 0, "x", "y")
			client := w.queueClient(options...)
			pulled, err := client.Pull(t.Context(), &v1.PullRequest{Group: "g", Topic: "a"})
			if err != nil || len(pulled.Records) != 2 {
				t.Fatal(pulled, err)
			}
			r := pulled.Records
			answer, err := client.Acknowledge(t.Context(), &v1.AcknowledgeRequest{Group: "g", Topic: "a", Items: []*v1.AcknowledgeRequest_Item{
				{Tokens: [][]byte{r[0].Token, r[1].Token[1:]}, Verdict: v1.Verdict_VERDICT_ACCEPT}}})
			if err != nil || len(answer.Refused) != 1 || answer.Refused[0].Error.GetKafkaCode() != 121 || string(answer.Refused[0].Token) != string(r[1].Token[1:]) {
				t.Errorf("got %v, %v; want the cut token refused", answer, err)
			}
			queue, err := client.GetQueue(t.Context(), &v1.GetQueueRequest{Group: "g", Topic: "a"})
			if err != nil || queue.Partitions[0].Lag != 1 || queue.Partitions[0].Locked != 1 {
				t.Errorf("got %v, %v; want one record left", queue, err)
			}
		})
	}
}
