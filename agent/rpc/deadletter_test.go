package rpc

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
	"github.com/splashdam/splashdam/queues"
)

func at(p objectlog.Partition, o objectlog.Offset) agent.PartitionOffset {
	return agent.PartitionOffset{Partition: p, Offset: o}
}

// letters are dead letters of so many offsets of each of two partitions.
func letters(each int) (list []agent.DeadLetter) {
	for p := range objectlog.Partition(2) {
		for o := range each {
			list = append(list, agent.DeadLetter{PartitionOffset: at(p, objectlog.Offset(o)), Record: objectlog.Record{Value: []byte("v"), Timestamp: objectlog.NoTimestamp},
				Source: at(0, objectlog.NoOffset), First: objectlog.NoTimestamp, Last: objectlog.NoTimestamp})
		}
	}
	return list
}

func TestDeadLettersAreListedForPeople(t *testing.T) {
	w := start(t)
	w.topic("a-dlq", 2)
	w.fake.queues.letters = []agent.DeadLetter{
		{PartitionOffset: at(0, 0), Record: objectlog.Record{Key: []byte("k"), Value: []byte(`{"n":1}`), Timestamp: 1_700_000_000_000, Headers: []objectlog.Header{{Key: "splashdam-dlq-topic", Value: []byte("a")}}},
			Source: at(1, 7), Topic: "a", Group: "g", Attempts: 5, First: 1_700_000_001_000, Last: 1_700_000_002_000, Reason: "rejected", Error: "bad\xff", Redriving: true},
		{PartitionOffset: at(1, 3), Record: objectlog.Record{Value: []byte("\xff"), Timestamp: objectlog.NoTimestamp}, Source: at(0, objectlog.NoOffset), First: objectlog.NoTimestamp, Last: objectlog.NoTimestamp},
	}
	const want = `{"deadLetters":[{"partition":0,"record":{"offset":"0","key":{"text":"k"},"value":{"json":{"n":1}},"headers":[{"key":"splashdam-dlq-topic","value":{"text":"a"}}],"timestamp":"2023-11-14T22:13:20Z"},` +
		`"sourceTopic":"a","sourcePartition":1,"sourceOffset":"7","group":"g","deliveries":5,"firstFailure":"2023-11-14T22:13:21Z","lastFailure":"2023-11-14T22:13:22Z","reason":"rejected","error":"bad` + "\uFFFD" + `","redriving":true},` +
		`{"partition":1,"record":{"offset":"3","value":{"data":"/w=="}}}]}`
	w.want("DeadLetterService/ListDeadLetters", `{"topic":"a-dlq"}`, want)
	if status, answer := w.get("/splashdam.v1.DeadLetterService/ListDeadLetters?connect=v1&encoding=json&message=" + url.QueryEscape(`{"topic":"a-dlq"}`)); status != http.StatusOK || answer != want {
		t.Errorf("by GET: got %d %s", status, answer)
	}
	w.want("DeadLetterService/ListDeadLetters", `{"topic":"a-dlq","only":[{"partition":1,"offset":"3"},{"partition":0,"offset":"9"},{"partition":1,"offset":"3"}]}`,
		`{"deadLetters":[{"partition":1,"record":{"offset":"3","value":{"data":"/w=="}}}]}`)
	if got := w.fake.queues.lists[len(w.fake.queues.lists)-1].only; fmt.Sprint(got) != fmt.Sprint([]agent.PartitionOffset{at(0, 9), at(1, 3)}) {
		t.Errorf("got %v, want a set", got)
	}
}

func TestDeadLettersPageToTheEnd(t *testing.T) {
	for _, step := range []int{0, 1, 3} {
		w := start(t)
		w.topic("a-dlq", 2)
		w.fake.queues.letters, w.fake.queues.step = letters(4), step
		var got []string
		token := ""
		for range 10 {
			var list struct {
				DeadLetters []struct {
					Partition int
					Record    struct{ Offset string }
				}
				NextPageToken string
			}
			_, answer := w.post("DeadLetterService/ListDeadLetters", fmt.Sprintf(`{"topic":"a-dlq","pageSize":3,"pageToken":%q}`, token))
			decode(t, answer, &list)
			for _, l := range list.DeadLetters {
				got = append(got, fmt.Sprintf("%d/%s", l.Partition, l.Record.Offset))
			}
			got = append(got, "|")
			if token = list.NextPageToken; token == "" {
				break
			}
		}
		if want := "0/0 0/1 0/2 | 0/3 1/0 1/1 | 1/2 1/3 |"; strings.Join(got, " ") != want {
			t.Errorf("steps of %d: got %v, want %s", step, got, want)
		}
		if first := w.fake.queues.lists[0]; first.after != at(0, objectlog.NoOffset) || first.limit != 4 {
			t.Errorf("got %+v, want it to begin before all", first)
		}
	}
}

func TestAPageOfDeadLettersIsBoundedInBytes(t *testing.T) {
	w := startWith(t, Config{RequestBytesMax: 1 << 20, MemoryBytesMax: 16 << 20})
	w.topic("a-dlq", 2)
	w.fake.queues.letters = letters(20)
	for i := range w.fake.queues.letters {
		w.fake.queues.letters[i].Record.Value = make([]byte, 300<<10)
	}
	client := splashdamv1connect.NewDeadLetterServiceClient(w.client, w.url)
	count, pages := 0, 0
	for token := ""; pages == 0 || token != ""; pages++ {
		answer, err := client.ListDeadLetters(t.Context(), &v1.ListDeadLettersRequest{Topic: "a-dlq", PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(answer.DeadLetters); n == 0 || n > 8 {
			t.Fatalf("got %d letters on one page", n)
		}
		count, token = count+len(answer.DeadLetters), answer.NextPageToken
	}
	if count != 40 {
		t.Errorf("got %d letters, want all 40", count)
	}
}

func TestDeadLettersAreCountedTopicByTopic(t *testing.T) {
	w := start(t)
	w.fake.queues.counts = []agent.DeadLetterCount{{Topic: "b-dlq", Records: 3, Redriving: 1}, {Topic: "a-dlq"}, {Topic: "nobody", Err: &agent.Error{Op: "count dead letters", Object: "nobody", Cause: metadata.ReasonUnknownTopic}}}
	const nobody = `{"topic":"nobody","error":{"code":"not_found","reason":"UNKNOWN_TOPIC_OR_PARTITION","message":"count dead letters nobody: unknown topic or partition","kafkaCode":3}}`
	w.want("DeadLetterService/CountDeadLetters", `{}`, `{"counts":[{"topic":"a-dlq"},{"topic":"b-dlq","deadLetters":"3","redriving":"1"},`+nobody+`]}`)
	if status, answer := w.get("/splashdam.v1.DeadLetterService/CountDeadLetters?connect=v1&encoding=json&message=" + url.QueryEscape(`{"topics":["nobody","b-dlq","b-dlq"]}`)); status != http.StatusOK ||
		answer != `{"counts":[{"topic":"b-dlq","deadLetters":"3","redriving":"1"},`+nobody+`]}` {
		t.Errorf("by GET: got %d %s", status, answer)
	}
	n := len(w.fake.queues.asked)
	if _, answer := w.post("DeadLetterService/CountDeadLetters", `{"topics":["a/b"]}`); !strings.HasPrefix(answer, `{"counts":[{"topic":"a/b","error":{"code":"invalid_argument","reason":"INVALID_TOPIC_EXCEPTION"`) || len(w.fake.queues.asked) != n {
		t.Errorf("got %s, and the engine asked for all", answer)
	}
	if status, answer := w.post("DeadLetterService/CountDeadLetters", `{"topics":[`+strings.Repeat(`"a",`, 1000)+`"a"]}`); status != http.StatusBadRequest || !strings.Contains(answer, `count dead letters: topics: 1001 at once, at most 1000`) {
		t.Errorf("got %d %s", status, answer)
	}
}

func TestARecordIsSentToTheDeadLetters(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "x")
	w.want("DeadLetterService/SendDeadLetter", `{"group":"g","topic":"a","partition":0,"offset":"0","committed":"-1","attempts":3,"firstFailure":"1970-01-01T00:00:01.5Z","error":"`+strings.Repeat("e", 300)+`","deadLetterTopic":"bad"}`, `{}`)
	w.want("DeadLetterService/SendDeadLetter", `{"group":"g","topic":"a","partition":0,"offset":"0","committed":"0","attempts":1}`, `{}`)
	want := []agent.GivenUp{
		{Group: "g", Topic: "a", Committed: objectlog.NoOffset, Attempts: 3, First: 1500, Error: strings.Repeat("e", 256), DeadLetters: "bad"},
		{Group: "g", Topic: "a", Attempts: 1, First: objectlog.NoTimestamp},
	}
	if got := w.fake.queues.sent; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if status, answer := w.post("DeadLetterService/SendDeadLetter", `{"group":"g","topic":"a","partition":9,"offset":"0","committed":"0","attempts":1}`); status != http.StatusNotFound || !strings.Contains(answer, "UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("got %d %s", status, answer)
	}
}

func TestDeadLettersAreRedrivenAndDiscarded(t *testing.T) {
	w := start(t)
	w.topic("a-dlq", 1)
	w.fake.queues.redriven = agent.Redriven{Arrived: 2, Redriving: 1, Remaining: 4, Refused: []agent.RefusedLetter{
		{PartitionOffset: at(0, 0), Err: &agent.Error{Op: "redrive", Object: "a-dlq/0 offset 0", Cause: queues.ReasonNotThere}}}}
	w.want("DeadLetterService/RedriveDeadLetters", `{"topic":"a-dlq"}`, `{"redriven":"2","redriving":"1","remaining":"4","refused":[{"position":{"partition":0,"offset":"0"},`+
		`"error":{"code":"not_found","reason":"DEAD_LETTER_NOT_FOUND","message":"redrive a-dlq/0 offset 0: the record is not there any more","kafkaCode":-1}}]}`)
	w.post("DeadLetterService/RedriveDeadLetters", `{"topic":"a-dlq","only":[{"partition":1,"offset":"2"}],"toTopic":"b","editedValue":{"json":{"n":1}},"failedBefore":"1970-01-01T00:00:02Z","maxRecords":1000}`)
	w.post("DeadLetterService/RedriveDeadLetters", `{"topic":"a-dlq","only":[{"partition":1,"offset":"2"}],"editedValue":{"text":""}}`)
	for i, want := range []agent.Redrive{
		{Topic: "a-dlq", FailedBefore: objectlog.NoTimestamp},
		{Topic: "a-dlq", Only: []agent.PartitionOffset{at(1, 2)}, To: "b", Edited: []byte(`{"n":1}`), HasEdited: true, FailedBefore: 2000, RecordsMax: 1000},
		{Topic: "a-dlq", Only: []agent.PartitionOffset{at(1, 2)}, Edited: []byte{}, HasEdited: true, FailedBefore: objectlog.NoTimestamp},
	} {
		if got := w.fake.queues.redrives[i]; fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("got %#v\nwant %#v", got, want)
		}
	}
	w.fake.queues.discarded = agent.Discarded{Records: 1, Remaining: 7, Refused: []agent.PartitionOffset{at(0, 0)}}
	w.want("DeadLetterService/DiscardDeadLetters", `{"topic":"a-dlq","only":[{"partition":0,"offset":"5"},{"partition":0,"offset":"0"}],"maxRecords":9}`,
		`{"discarded":"1","remaining":"7","refused":[{"partition":0,"offset":"0"}]}`)
	w.post("DeadLetterService/DiscardDeadLetters", `{"topic":"a-dlq","failedBefore":"1970-01-01T00:00:00Z"}`)
	for i, want := range []agent.Discard{
		{Topic: "a-dlq", Only: []agent.PartitionOffset{at(0, 0), at(0, 5)}, FailedBefore: objectlog.NoTimestamp, RecordsMax: 9},
		{Topic: "a-dlq"},
	} {
		if got := w.fake.queues.discards[i]; fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
			t.Errorf("got %#v\nwant %#v", got, want)
		}
	}
}

// refusedCall is a call about dead letters, with its body's fields, and what must be told of it.
type refusedCall struct{ procedure, body, want string }

// refuses wants every call refused before the engine hears of it.
func (w *world) refuses(cases []refusedCall) {
	w.t.Helper()
	for _, c := range cases {
		status, answer := w.post("DeadLetterService/"+c.procedure, `{`+c.body+`}`)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			w.t.Errorf("%s %.200s: got %d %.500s, want %s", c.procedure, c.body, status, answer, c.want)
		}
	}
	if w.fake.queues.touched() {
		w.t.Error("the engine heard of it")
	}
}

func TestCallsAboutDeadLettersThatBreakTheContractAreRefused(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	positions := func(n int) string {
		return `"only":[` + strings.Repeat(`{"partition":0,"offset":"0"},`, n-1) + `{"partition":0,"offset":"0"}]`
	}
	cases := []refusedCall{
		{"ListDeadLetters", ``, `"reason":"INVALID_TOPIC_EXCEPTION","message":"list dead letters: topic: `},
		{"ListDeadLetters", `"topic":"a","pageSize":1001`, `list dead letters: page_size: 1001 is not in 0 to 1000`},
		{"ListDeadLetters", `"topic":"a","pageSize":-1`, `list dead letters: page_size: -1`},
		{"RedriveDeadLetters", ``, `redrive dead letters: topic: `},
		{"RedriveDeadLetters", `"topic":"a","toTopic":"a"`, `redrive dead letters: to_topic: a is the topic that they are in`},
		{"RedriveDeadLetters", `"topic":"a","toTopic":"a/b"`, `"reason":"INVALID_TOPIC_EXCEPTION","message":"redrive dead letters: to_topic: `},
		{"RedriveDeadLetters", `"topic":"a","editedValue":{"text":"x"}`, `redrive dead letters: edited_value: only must name one dead letter, and names 0`},
		{"RedriveDeadLetters", `"topic":"a","only":[{"partition":0,"offset":"0"},{"partition":0,"offset":"1"}],"editedValue":{"text":"x"}`, `only must name one dead letter, and names 2`},
		{"RedriveDeadLetters", `"topic":"a",` + positions(1) + `,"editedValue":{}`, `redrive dead letters: edited_value: want one of data, text, json`},
		{"RedriveDeadLetters", `"topic":"a",` + positions(1) + `,"editedValue":{"text":"` + strings.Repeat("x", 64<<10+1) + `"}`, `"reason":"MESSAGE_TOO_LARGE","message":"redrive dead letters: edited_value: 65537 bytes, at most 65536`},
		{"RedriveDeadLetters", `"topic":"a","failedBefore":"1969-12-31T00:00:00Z"`, `redrive dead letters: failed_before: `},
		{"RedriveDeadLetters", `"topic":"a","maxRecords":1001`, `redrive dead letters: max_records: 1001 is not in 0 to 1000`},
		{"RedriveDeadLetters", `"topic":"a","maxRecords":-1`, `redrive dead letters: max_records: -1`},
		{"DiscardDeadLetters", ``, `discard dead letters: topic: `},
		{"DiscardDeadLetters", `"topic":"a"`, `discard dead letters: failed_before: required where only names none`},
		{"DiscardDeadLetters", `"topic":"a","failedBefore":"1969-12-31T00:00:00Z"`, `discard dead letters: failed_before: `},
		{"DiscardDeadLetters", `"topic":"a",` + positions(1) + `,"maxRecords":1001`, `discard dead letters: max_records: 1001 is not in 0 to 1000`},
	}
	for _, token := range []string{"nobody", pageToken("0"), pageToken("0/"), pageToken("0/-1"), pageToken("-1/0"), pageToken("+1/0"), pageToken("0/0/0"), pageToken("2147483648/0"), pageToken("0/9223372036854775808")} {
		cases = append(cases, refusedCall{"ListDeadLetters", `"topic":"a","pageToken":"` + token + `"`, `list dead letters: page_token: not one that this service gave`})
	}
	for procedure, op := range map[string]string{"ListDeadLetters": "list", "RedriveDeadLetters": "redrive", "DiscardDeadLetters": "discard"} {
		for only, want := range map[string]string{
			positions(1001):                `only: 1001 at once, at most 1000`,
			`"only":[{"partition":0}]`:     `only[0].offset: required`,
			`"only":[{"offset":"0"}]`:      `only[0].partition: required`,
			`"only":[{}]`:                  `only[0].partition: required`,
			positions(1) + `,"colour":"r"`: ``,
			`"only":[{"partition":0,"offset":"0"},{"partition":-1,"offset":"0"}]`: `only[1].partition: -1 is not in 0 to 99999`,
			`"only":[{"partition":100000,"offset":"0"}]`:                          `only[0].partition: 100000`,
			`"only":[{"partition":0,"offset":"-1"}]`:                              `only[0].offset: -1 is negative`,
		} {
			if want = op + " dead letters: " + want; strings.Contains(only, "colour") {
				want = `unknown field`
			}
			cases = append(cases, refusedCall{procedure, `"topic":"a",` + only, want})
		}
	}
	w.refuses(cases)
	if status, answer := w.post("DeadLetterService/ListDeadLetters", `{"topic":"nobody"}`); status != http.StatusNotFound || !strings.Contains(answer, "UNKNOWN_TOPIC_OR_PARTITION") {
		t.Errorf("got %d %s", status, answer)
	}
	for _, procedure := range []string{"SendDeadLetter", "RedriveDeadLetters", "DiscardDeadLetters"} {
		if status, _ := w.get("/splashdam.v1.DeadLetterService/" + procedure + "?connect=v1&encoding=json&message=%7B%7D"); status != http.StatusMethodNotAllowed {
			t.Errorf("got %d for %s by GET, want it refused", status, procedure)
		}
	}
}

func TestRecordsAreSentToDeadLettersOnlyWithAllThatIsKnownOfThem(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	var cases []refusedCall
	const sent = `"group":"g","topic":"a","partition":0,"offset":"0","committed":"0","attempts":1`
	for change, want := range map[[2]string]string{
		{`"group":"g",`, ``}:                    `"reason":"INVALID_GROUP_ID","message":"send dead letter: group: `,
		{`"topic":"a",`, ``}:                    `send dead letter: topic: `,
		{`"partition":0,`, ``}:                  `send dead letter: partition: required`,
		{`"partition":0,`, `"partition":-1,`}:   `send dead letter: partition: -1 is not in 0 to 99999`,
		{`"offset":"0",`, ``}:                   `send dead letter: offset: required`,
		{`"offset":"0",`, `"offset":"-1",`}:     `send dead letter: offset: -1 is negative`,
		{`"committed":"0",`, ``}:                `send dead letter: committed: required: -1 if the group has no position`,
		{`"committed":"0"`, `"committed":"-2"`}: `send dead letter: committed: -2 is neither an offset nor -1`,
		{`"attempts":1`, `"attempts":0`}:        `send dead letter: attempts: 0: want at least 1`,
		{`"attempts":1`, `"attempts":1,"firstFailure":"0001-01-01T00:00:00Z"`}: `send dead letter: first_failure: 0001-01-01T00:00:00Z: before 1970`,
		{`"attempts":1`, `"attempts":1,"deadLetterTopic":"a"`}:                 `send dead letter: dead_letter_topic: a is the topic itself`,
		{`"attempts":1`, `"attempts":1,"deadLetterTopic":"?"`}:                 `send dead letter: dead_letter_topic: `,
	} {
		cases = append(cases, refusedCall{"SendDeadLetter", strings.Replace(sent, change[0], change[1], 1), want})
	}
	w.refuses(cases)
}

func TestRecordsAreNotCompressedWhateverTheCall(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.topic("a-dlq", 1)
	value := strings.Repeat("x", 1000)
	w.produce("a", 0, value)
	w.fake.queues.letters = letters(20)
	for procedure, want := range map[string]string{"QueueService/Pull": "", "DeadLetterService/ListDeadLetters": "", "QueueService/GetQueue": "gzip"} {
		body := `{"group":"g","topic":"a"}`
		if strings.HasPrefix(procedure, "Dead") {
			body = `{"topic":"a-dlq"}`
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/splashdam.v1."+procedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := w.read(response); status != http.StatusOK || response.Header.Get("Content-Encoding") != want {
			t.Errorf("%s: got %d with encoding %q, want %q", procedure, status, response.Header.Get("Content-Encoding"), want)
		}
	}
}

func TestHealthKnowsTheServicesOfQueues(t *testing.T) {
	w := start(t)
	for _, service := range []string{splashdamv1connect.QueueServiceName, splashdamv1connect.DeadLetterServiceName} {
		response, err := http.Post(w.url+"/grpc.health.v1.Health/Check", "application/json", strings.NewReader(`{"service":"`+service+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := w.read(response); status != http.StatusOK || answer != `{"status":"SERVING"}` {
			t.Errorf("%s: got %d %s", service, status, answer)
		}
	}
}
