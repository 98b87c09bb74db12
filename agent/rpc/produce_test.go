package rpc

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func encodedBatch(t *testing.T, codec objectlog.Codec, values ...string) []byte {
	t.Helper()
	records := make([]objectlog.Record, len(values))
	for i, v := range values {
		records[i] = objectlog.Record{Value: []byte(v), Timestamp: 1}
	}
	b, err := objectlog.EncodeBatch(nil, records, objectlog.BatchOptions{Codec: codec, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer, FirstSequence: -1})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed gives the batch a right checksum after a change.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestBadBatchesAreRefusedOneByOne(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.fake.limits = objectlog.Limits{DecodedBytes: 1 << 20}
	encoded := func(change func([]byte) []byte) string {
		b := change(encodedBatch(t, objectlog.CodecNone, "x", "y"))
		return fmt.Sprintf(`{"topic":"a","partition":0,"encoded":%q}`, base64.StdEncoding.EncodeToString(b))
	}
	const good = `{"topic":"a","partition":0,"records":{"records":[{"value":{"text":"good"}}]}}`
	one := func(fields string) string {
		return `{"topic":"a",` + fields + `"records":{"records":[{"value":{"text":"v"}}]}}`
	}
	for _, c := range []struct{ name, batch, code, reason, message string }{
		{"unknown topic", `{"topic":"nobody","records":{"records":[{}]}}`, "not_found", "UNKNOWN_TOPIC_OR_PARTITION", "produce nobody"},
		{"unknown partition", one(`"partition":7,`), "not_found", "UNKNOWN_TOPIC_OR_PARTITION", "produce a/7"},
		{"dots", `{"topic":"..","records":{"records":[{}]}}`, "invalid_argument", "INVALID_TOPIC_EXCEPTION", "1 to 249"},
		{"long name", fmt.Sprintf(`{"topic":%q,"records":{"records":[{}]}}`, strings.Repeat("n", 250)), "invalid_argument", "INVALID_TOPIC_EXCEPTION", "1 to 249"},
		{"odd name", `{"topic":"bad)(*","records":{"records":[{}]}}`, "invalid_argument", "INVALID_TOPIC_EXCEPTION", "1 to 249"},
		{"negative partition", one(`"partition":-1,`), "invalid_argument", "INVALID_REQUEST", "produce: batches[0].partition: -1 is negative"},
		{"negative expected", one(`"partition":0,"expectedNextOffset":"-1",`), "invalid_argument", "INVALID_REQUEST", "batches[0].expected_next_offset: -1 is negative"},
		{"expected anywhere", one(`"expectedNextOffset":"0",`), "invalid_argument", "INVALID_REQUEST", "batches[0].partition: required with expected_next_offset"},
		{"sequence without producer", one(`"partition":0,"firstSequence":0,`), "invalid_argument", "INVALID_REQUEST", "batches[0].first_sequence: means nothing without producer"},
		{"no content", `{"topic":"a"}`, "invalid_argument", "INVALID_REQUEST", "batches[0].content: want records or encoded"},
		{"no records", `{"topic":"a","records":{}}`, "invalid_argument", "INVALID_REQUEST", "batches[0].records: empty"},
		{"payload without kind", `{"topic":"a","records":{"records":[{"key":{}}]}}`, "invalid_argument", "INVALID_REQUEST", "batches[0].records.records[0].key: want one of data, text, json"},
		{"large integer", `{"topic":"a","records":{"records":[{},{"value":{"json":{"n":[9007199254740993]}}}]}}`, "invalid_argument", "INVALID_REQUEST", "records[1].value: json: the number 9.007199254740992e+15 is 2^53 or beyond and would lose digits: send the payload as text"},
		{"large record", fmt.Sprintf(`{"topic":"a","records":{"records":[{"value":{"text":%q}}]}}`, strings.Repeat("x", 1<<20+1)), "invalid_argument", "MESSAGE_TOO_LARGE", "too large"},
		{"old time", `{"topic":"a","records":{"records":[{"timestamp":"1960-01-01T00:00:00Z"}]}}`, "invalid_argument", "INVALID_REQUEST", "records[0].timestamp: 1960-01-01T00:00:00Z: before 1970"},
		{"offset mismatch", one(`"partition":0,"expectedNextOffset":"99",`), "aborted", "OFFSET_MISMATCH", "produce a/0"},
		{"encoded anywhere", fmt.Sprintf(`{"topic":"a","encoded":%q}`, "AAAA"), "invalid_argument", "INVALID_REQUEST", "batches[0].partition: required with encoded"},
		{"crc", encoded(func(b []byte) []byte { b[20]++; return b }), "invalid_argument", "CORRUPT_MESSAGE", "corrupt"},
		{"magic", encoded(func(b []byte) []byte { b[16] = 1; return b }), "invalid_argument", "UNSUPPORTED_FOR_MESSAGE_FORMAT", "version"},
		{"count", encoded(func(b []byte) []byte { b[60]++; return sealed(b) }), "invalid_argument", "", ""},
		{"truncated", encoded(func(b []byte) []byte { return b[:len(b)-1] }), "invalid_argument", "CORRUPT_MESSAGE", "corrupt"},
		{"trailing", encoded(func(b []byte) []byte { return append(b, 0) }), "invalid_argument", "", ""},
		{"bomb", encoded(func([]byte) []byte { return encodedBatch(t, objectlog.CodecZstd, strings.Repeat("0", 8<<20)) }), "invalid_argument", "MESSAGE_TOO_LARGE", "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.fake.topics["a"].logs[0].next
			status, body := w.post("LogService/Produce", `{"batches":[`+c.batch+`,`+good+`]}`)
			if status != http.StatusOK {
				t.Fatalf("got %d %s, want 200", status, body)
			}
			for _, want := range []string{`"code":"` + c.code + `"`, `"reason":"` + c.reason, c.message, fmt.Sprintf(`{"positions":[{"partition":0,"offset":"%d"}]}]}`, before)} {
				if !strings.Contains(body, want) {
					t.Errorf("got %s, want %s", body, want)
				}
			}
		})
	}
}

func TestBadRequestsAreRefusedAsAWhole(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	for _, c := range []struct{ name, procedure, body, message string }{
		{"unknown field", "LogService/Produce", `{"batchs":[]}`, `decode ProduceRequest: (line 1:2): unknown field "batchs"`},
		{"unknown nested field", "LogService/Produce", `{"batches":[{"topik":"a"}]}`, `decode ProduceRequest: (line 1:14): unknown field "topik"`},
		{"two kinds", "LogService/Produce", `{"batches":[{"records":{"records":[{"key":{"text":"a","data":"AA=="}}]}}]}`, `oneof splashdam.v1.Payload.kind is already set`},
		{"two contents", "LogService/Produce", `{"batches":[{"records":{},"encoded":""}]}`, `oneof splashdam.v1.ProduceRequest.Batch.content is already set`},
		{"no json", "LogService/Fetch", `{"partitions":[{"start":{"point":"LATEST"}}`, `decode FetchRequest: unexpected EOF`},
		{"empty body", "LogService/Fetch", ``, `the body is empty`},
		{"no batches", "LogService/Produce", `{}`, `produce: batches: want at least one`},
		{"acks", "LogService/Produce", `{"batches":[{}],"acks":9}`, `produce: acks: 9 is unknown`},
		{"producer", "LogService/Produce", `{"batches":[{}],"producer":{"id":"-1"}}`, `produce: producer.id: -1 is negative`},
		{"epoch", "LogService/Produce", `{"batches":[{}],"producer":{"epoch":40000}}`, `produce: producer.epoch: 40000 is not in 0 to 32767`},
		{"wait", "LogService/Fetch", `{"partitions":[{}],"maxWait":"30.001s"}`, `fetch: max_wait: 30.001s is not in 0 s to 30s`},
		{"negative wait", "LogService/Fetch", `{"partitions":[{}],"maxWait":"-1s"}`, `fetch: max_wait: -1s is not in`},
		{"bytes", "LogService/Fetch", `{"partitions":[{}],"maxBytes":67108865}`, `fetch: max_bytes: 67108865 is not in`},
		{"records", "LogService/Fetch", `{"partitions":[{}],"maxRecords":-1}`, `fetch: max_records: -1 is not in`},
		{"isolation", "LogService/Fetch", `{"partitions":[{}],"isolation":9}`, `fetch: isolation: 9 is unknown`},
		{"no topic", "TopicService/CreateTopic", `{}`, `create topic: topic: required`},
		{"partitions", "TopicService/CreateTopic", `{"topic":{"name":"b","partitions":-1}}`, `create topic: topic.partitions: -1 is not in`},
		{"etag", "TopicService/DeleteTopic", `{"name":"a","etag":"x"}`, `delete topic: etag: "x" is not one`},
		{"mask", "TopicService/UpdateTopic", `{"topic":{"name":"a"},"updateMask":"partitions"}`, `update topic: update_mask: "partitions" can't be changed`},
		{"page", "TopicService/ListTopics", `{"pageToken":"x"}`, `list topics: page_token: not one that this service gave`},
		{"trim", "TopicService/TrimPartition", `{"name":"a"}`, `trim partition: partition, log_start_offset: both are required`},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := w.post(c.procedure, c.body)
			message := strings.ReplaceAll(fmt.Sprintf("%q", c.message), `\u00a0`, " ")
			if status != http.StatusBadRequest || !strings.Contains(body, strings.Trim(message, `"`)) {
				t.Errorf("got %d %s, want 400 with %s", status, body, message)
			}
			if !strings.Contains(body, `"reason":"INVALID_REQUEST"`) || !strings.Contains(body, `"kafkaCode":42`) {
				t.Errorf("got %s, want an ErrorDetail", body)
			}
		})
	}
	if w.fake.submitted != 0 {
		t.Errorf("got %d requests at the engine, want none", w.fake.submitted)
	}
}

func TestBadMessagesInBinaryAreRefusedWithDetail(t *testing.T) {
	w := start(t)
	response, err := http.Post(w.url+"/splashdam.v1.LogService/Produce", "application/proto", strings.NewReader("\xff\xff"))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := w.read(response); status != http.StatusBadRequest || !strings.Contains(body, "decode ProduceRequest: cannot parse") || !strings.Contains(body, `"details"`) {
		t.Errorf("got %d %s, want the reason with detail", status, body)
	}
}

func TestProducersAreJudgedByTheEngine(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	client := w.logClient()
	first, err := client.InitProducer(t.Context(), &v1.InitProducerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	produce := func(p *v1.Producer, sequence int32) *v1.ProduceResponse_Result {
		batch := textBatch("a", 0, "x")
		batch.FirstSequence = &sequence
		response, err := client.Produce(t.Context(), &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{batch}, Producer: p})
		if err != nil {
			t.Fatal(err)
		}
		return response.Results[0]
	}
	if got := produce(first.Producer, 0); got.Error != nil {
		t.Errorf("got %v, want the first sequence appended", got)
	}
	if got := produce(first.Producer, 5).Error; got.GetReason() != "OUT_OF_ORDER_SEQUENCE_NUMBER" || got.GetKafkaCode() != 45 || got.GetCode() != "failed_precondition" {
		t.Errorf("got %v, want a gap", got)
	}
	second, err := client.InitProducer(t.Context(), &v1.InitProducerRequest{Producer: first.Producer})
	if err != nil || second.Producer.Epoch != first.Producer.Epoch+1 {
		t.Fatalf("got %v, %v, want the next epoch", second, err)
	}
	if got := produce(first.Producer, 1).Error; got.GetReason() != "PRODUCER_FENCED" || got.GetKafkaCode() != 90 {
		t.Errorf("got %v, want the old epoch fenced", got)
	}
	w.want("LogService/Produce", `{"producer":{"id":"1","epoch":1},"batches":[{"topic":"a","partition":0,"records":{"records":[{}]}}]}`,
		`{"results":[{"error":{"code":"invalid_argument","reason":"INVALID_REQUEST","message":"produce: batches[0].first_sequence: required with producer","kafkaCode":42}}]}`)
}

func TestMismatchOfTheExpectedOffsetTellsTheActualOne(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.want("LogService/Produce", `{"batches":[{"topic":"a","partition":0,"expectedNextOffset":"5","records":{"records":[{}]}}]}`,
		`{"results":[{"error":{"code":"aborted","reason":"OFFSET_MISMATCH","message":"produce a/0: the next offset is not the expected one","kafkaCode":-1,"metadata":{"actual":"0"}}}]}`)
}

func TestPositionsBesideAnErrorSayWhatIsInTheLog(t *testing.T) {
	e := newEdge(Config{}, newFake())
	s := submission{edge: e}
	got := s.result(agent.ProduceResult{
		Err:        &agent.Error{Op: "produce", Object: "a", Cause: agent.OutcomeUnknown},
		Positions:  []agent.Position{{Partition: 1, Offset: 0}, {Partition: 2, Offset: objectlog.NoOffset}, {Partition: agent.AnyPartition, Offset: objectlog.NoOffset}},
		AppendTime: objectlog.NoTimestamp,
	})
	b := strings.ReplaceAll(string(jsonOf(got)), " ", "")
	if got.Error.GetReason() != "REQUEST_TIMED_OUT" || !strings.HasSuffix(b, `"positions":[{"partition":1,"offset":"0"},{"partition":2},{}]}`) {
		t.Errorf("got %s, want the one offset that is known", b)
	}
}

func TestAcksNoneTellsValidationAndNoOffsets(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.fake.hold = make(chan struct{}) // nothing is ever decided
	status, body := w.post("LogService/Produce", `{"acks":"ACKS_NONE","batches":[{"topic":"a","records":{"records":[{}]}},{"topic":"..","records":{"records":[{}]}},{"topic":"a","partition":-1}]}`)
	if status != http.StatusOK || !strings.HasPrefix(body, `{"results":[{},{"error":{"code":"invalid_argument","reason":"INVALID_TOPIC_EXCEPTION"`) {
		t.Errorf("got %d %s, want the first accepted without offsets, the second refused", status, body)
	}
}

func TestJSONPayloadsAreStoredCompactAndSorted(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	body := `{"batches":[{"topic":"a","partition":0,"records":{"records":[{"key":{"data":""},"value":{"json":{ "b" : [1, 2.5, null, "<&>"], "a" : {"d":true,"c":-7} }},"headers":[{"key":"h","value":{"text":""}},{"key":"n"}]},{}]}}]}`
	if status, answer := w.post("LogService/Produce", body); status != http.StatusOK {
		t.Fatal(answer)
	}
	var got []string
	err := objectlog.DecodeBatch(w.fake.topics["a"].logs[0].batches[0], objectlog.Limits{}, func(_ objectlog.Offset, r objectlog.Record) bool {
		got = append(got, fmt.Sprintf("%t %q %t %q %q", r.Key == nil, r.Key, r.Value == nil, r.Value, r.Headers))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`false "" false "{\"a\":{\"c\":-7,\"d\":true},\"b\":[1,2.5,null,\"<&>\"]}" [{"h" ""} {"n" ""}]`,
		`true "" true "" []`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
