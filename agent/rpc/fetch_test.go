package rpc

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func (w *world) produce(topic string, partition int32, values ...string) {
	w.t.Helper()
	response, err := w.logClient().Produce(w.t.Context(), &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch(topic, partition, values...)}})
	if err != nil || response.Results[0].Error != nil {
		w.t.Fatal(response, err)
	}
}

func offsets(p *v1.FetchResponse_Partition) (out []int64) {
	for _, r := range p.GetRecords() {
		out = append(out, r.GetOffset())
	}
	return out
}

func TestFetchStopsAtMaxRecordsAndSkipsWhatLiesBeforeTheStart(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1", "2")
	w.produce("a", 0, "3", "4", "5")
	for _, c := range []struct {
		start int64
		most  int32
		want  string
		next  int64
	}{{0, 0, "[0 1 2 3 4 5]", 6}, {1, 1, "[1]", 2}, {1, 3, "[1 2 3]", 4}, {2, 4, "[2 3 4 5]", 6}, {5, 9, "[5]", 6}, {6, 1, "[]", 6}} {
		response, err := w.logClient().Fetch(t.Context(), &v1.FetchRequest{MaxRecords: c.most, Partitions: []*v1.FetchRequest_Partition{
			{Topic: "a", Partition: new(int32(0)), Start: &v1.Start{At: &v1.Start_Offset{Offset: c.start}}}}})
		if err != nil {
			t.Fatal(err)
		}
		p := response.Partitions[0]
		if got := fmt.Sprint(offsets(p)); got != c.want || p.GetNextOffset() != c.next {
			t.Errorf("from %d, %d records: got %s, next %d; want %s, next %d", c.start, c.most, got, p.GetNextOffset(), c.want, c.next)
		}
	}
}

func TestFetchBoundsTheRecordsThatAnAnswerHolds(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	left := budget{records: 100, bytes: 2*(1000+recordOverhead) + 1}
	w.produce("a", 0, strings.Repeat("x", 1000), strings.Repeat("x", 1000), strings.Repeat("x", 1000), strings.Repeat("x", 1000))
	e := newEdge(Config{}, w.fake)
	read := w.fake.Fetch(t.Context(), agent.FetchRequest{Partitions: []agent.FetchPartition{{Topic: "a"}}})
	if p := e.fetched(read[0], false, &left); len(p.Records) != 3 || p.GetNextOffset() != 3 {
		t.Errorf("got %d records, next %d; want the third to exhaust the budget", len(p.Records), p.GetNextOffset())
	}
}

func TestFetchEncodedAnswersWholeBatchesByteForByte(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1")
	w.produce("a", 0, "2")
	response, err := w.logClient().Fetch(t.Context(), &v1.FetchRequest{Encoded: true, Partitions: []*v1.FetchRequest_Partition{
		{Topic: "a", Partition: new(int32(0)), Start: &v1.Start{At: &v1.Start_Offset{Offset: 1}}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Join(w.fake.topics["a"].logs[0].batches, nil)
	if p := response.Partitions[0]; !bytes.Equal(p.Encoded, want) || p.Records != nil || p.GetNextOffset() != 3 {
		t.Errorf("got %d bytes, next %d; want %d, 3", len(p.Encoded), p.GetNextOffset(), len(want))
	}
}

func TestFetchTellsWhatIsWrongWithEachPartition(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	began := time.Now()
	status, body := w.post("LogService/Fetch", `{"maxWait":"30s","partitions":[{"topic":"a","partition":-1},{"topic":"nobody"},{"topic":"a","partition":9},`+
		`{"topic":"a","partition":0,"start":{"offset":"5"}},{"topic":"a","partition":0,"start":{"offset":"-5"}},{"topic":"a","partition":0,"start":{"point":"START_POINT_UNSPECIFIED"}},{"topic":"a","partition":1}]}`)
	if status != http.StatusOK || time.Since(began) > 5*time.Second {
		t.Fatalf("got %d after %v, want an answer at once", status, time.Since(began))
	}
	for _, want := range []string{
		`{"topic":"a","partition":-1,"error":{"code":"invalid_argument","reason":"INVALID_REQUEST","message":"fetch: partitions[0].partition: -1 is negative`,
		`{"topic":"nobody","error":{"code":"not_found","reason":"UNKNOWN_TOPIC_OR_PARTITION"`,
		`{"topic":"a","partition":9,"error":{"code":"not_found"`,
		`{"code":"out_of_range","reason":"OFFSET_OUT_OF_RANGE","message":"fetch a/0: offset out of range","kafkaCode":1,"metadata":{"high_watermark":"0","log_start":"0"}}`,
		`partitions[4].start.offset: -5 is negative`,
		`partitions[5].start.point: START_POINT_UNSPECIFIED: want EARLIEST or LATEST`,
		`{"topic":"a","partition":1,"nextOffset":"0","highWatermark":"0","lastStableOffset":"0","logStartOffset":"0"}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s\nwant %s", body, want)
		}
	}
}

func TestFetchWaitsForRecords(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	got := make(chan string, 1)
	go func() {
		_, body := w.post("LogService/Fetch", `{"partitions":[{"topic":"a","start":{"point":"START_POINT_LATEST"}}],"maxWait":"20s"}`)
		got <- body
	}()
	for waiting := 0; waiting == 0; {
		if pause(t.Context(), time.Millisecond) != nil {
			t.Fatal("the fetch did not arrive")
		}
		w.fake.mu.Lock()
		waiting = len(w.fake.fetches)
		w.fake.mu.Unlock()
	}
	w.produce("a", 0, "x")
	if body := <-got; !strings.Contains(body, `"value":{"text":"x"}`) || !strings.Contains(body, `"nextOffset":"1"`) {
		t.Errorf("got %s, want the record", body)
	}
}

func TestPayloadsAreReadAsTheFirstKindThatFits(t *testing.T) {
	for _, c := range []struct{ stored, want string }{
		{`{"a":1}`, `{"json":{"a":1}}`},
		{` [1, "x"]`, `{"json":[1,"x"]}`},
		{`7`, `{"text":"7"}`},
		{`"s"`, `{"text":"\"s\""}`},
		{``, `{"text":""}`},
		{`{"a":`, `{"text":"{\"a\":"}`},
		{`{"a":1,"a":2}`, `{"text":"{\"a\":1,\"a\":2}"}`},
		{`[9007199254740993]`, `{"text":"[9007199254740993]"}`},
		{`[0.1234567890123456789]`, `{"text":"[0.1234567890123456789]"}`},
		{"\xff\x00", `{"data":"/wA="}`},
	} {
		p := dataPayload([]byte(c.stored))
		presentPayload(p)
		b := bytes.ReplaceAll(jsonOf(p), []byte(", "), []byte(","))
		if got := strings.ReplaceAll(string(b), ": ", ":"); got != c.want {
			t.Errorf("%q: got %s, want %s", c.stored, got, c.want)
		}
	}
}

func TestListOffsetsFindsEndsAndRefusesOffsets(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1")
	w.want("LogService/ListOffsets", `{"partitions":[{"topic":"a","partition":0},{"topic":"a","start":{"point":"LATEST"}},{"topic":"a","start":{"tailRecords":"1"}}]}`,
		`{"partitions":[{"topic":"a","partition":0,"offset":"0","logStartOffset":"0","highWatermark":"2"},`+
			`{"topic":"a","partition":0,"offset":"2","logStartOffset":"0","highWatermark":"2"},`+
			`{"topic":"a","partition":0,"offset":"1","logStartOffset":"0","highWatermark":"2"}]}`)
	if _, body := w.post("LogService/ListOffsets", `{"partitions":[{"topic":"a","start":{"offset":"1"}}]}`); !strings.Contains(body, "start.offset: not accepted") {
		t.Errorf("got %s, want the offset refused", body)
	}
}

func TestShortNamesOfStartPointsAreRewrittenNowhereElse(t *testing.T) {
	for in, want := range map[string]string{
		`{"partitions":[{"start":{"point":"EARLIEST"}},{"start":{ "point" : "LATEST" }}]}`:   `{"partitions":[{"start":{"point":"START_POINT_EARLIEST"}},{"start":{ "point" : "START_POINT_LATEST" }}]}`,
		`{"partitions":[{"topic":"LATEST","start":{"point":"START_POINT_LATEST"}}]}`:         `{"partitions":[{"topic":"LATEST","start":{"point":"START_POINT_LATEST"}}]}`,
		`{"point":"LATEST","start":{"point":"LATEST"},"partitions":{"start":"EARLIEST"}}`:    `{"point":"LATEST","start":{"point":"LATEST"},"partitions":{"start":"EARLIEST"}}`,
		`{"partitions":[[{"start":{"point":"LATEST"}}],{"x":{"start":{"point":"LATEST"}}}]}`: `{"partitions":[[{"start":{"point":"LATEST"}}],{"x":{"start":{"point":"LATEST"}}}]}`,
		`{"LATEST":"EARLIEST"`:                   `{"LATEST":"EARLIEST"`,
		strings.Repeat("[", 20_000) + `"LATEST"`: strings.Repeat("[", 20_000) + `"LATEST"`,
	} {
		if got := string(lengthenPoints([]byte(in), "partitions", "[]", "start", "point")); got != want {
			t.Errorf("%.100s: got %.200s, want %.200s", in, got, want)
		}
	}
}

func FuzzRequestsAreDecodedOrRefused(f *testing.F) {
	f.Add([]byte(`{"partitions":[{"topic":"a","start":{"point":"LATEST"}}],"maxWait":"1s"}`), true)
	f.Add([]byte(`{"batches":[{"topic":"a","records":{"records":[{"value":{"json":{"a":[1,null]}}}]}}],"acks":"ACKS_NONE"}`), true)
	f.Add([]byte("\x0a\x05\x0a\x01a\x10\x00"), false)
	fake := newFake()
	if _, err := fake.CreateTopic(f.Context(), "a", 1, nil, false); err != nil {
		f.Fatal(err)
	}
	e := newEdge(Config{Limits: objectlog.Limits{DecodedBytes: 1 << 20}}, fake)
	f.Fuzz(func(t *testing.T, b []byte, asJSON bool) {
		var codec interface{ Unmarshal([]byte, any) error } = binaryCodec{}
		if asJSON {
			codec = jsonCodec{}
		}
		produce, fetch := new(v1.ProduceRequest), new(v1.FetchRequest)
		if err := codec.Unmarshal(b, produce); err != nil {
			t.Fatal(err)
		}
		if err := codec.Unmarshal(b, fetch); err != nil {
			t.Fatal(err)
		}
		if refusedBy(produce) == nil {
			if s, err := e.submit(t.Context(), produce); err == nil && len(s.wait(t.Context()).Results) != len(produce.Batches) {
				t.Error("want one result per batch")
			}
		}
		if refusedBy(fetch) == nil {
			if request, records, err := fetchBounds(fetch); err == nil && (request.BytesMax < 1 || records < 1 || request.Wait < 0 || request.Wait > fetchWaitMax) {
				t.Errorf("got %v, %d records, out of bounds", request, records)
			}
			for i, p := range fetch.Partitions {
				if at, err := e.readable(t.Context(), ActionRead, "fetch", i, p); err == nil && at.Partition < agent.AnyPartition {
					t.Errorf("got partition %d", at.Partition)
				}
			}
		}
	})
}

func TestBatchesThatLieTogetherAreSentWithoutACopy(t *testing.T) {
	buffer := []byte("aaabbbbcc")
	together := [][]byte{buffer[0:3], buffer[3:7], buffer[7:]}
	if got := joined(together); string(got) != "aaabbbbcc" || &got[0] != &buffer[0] {
		t.Errorf("got %q, or a copy", got)
	}
	for _, apart := range [][][]byte{
		nil,
		{buffer[0:3], buffer[7:]},
		{buffer[3:7], buffer[0:3]},
		{buffer[0:3:3], buffer[3:7]},
		{buffer[0:3], nil, buffer[3:7]},
		{buffer[0:3], []byte("dddd")},
		{buffer[0:3], buffer[3:7], []byte("a much longer one than there is room")},
	} {
		want := ""
		for _, b := range apart {
			want += string(b)
		}
		if got := joined(apart); string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if string(buffer) != "aaabbbbcc" {
		t.Errorf("the batches became %q", buffer)
	}
}
