package rpc

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestMessagesOfTooManyElementsAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	empty := bytes.Repeat([]byte{0x0a, 0x00}, elementsMax+1) // field 1, no bytes: a batch, a record, a partition
	records, err := proto.Marshal(&v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{{Topic: "a",
		Content: &v1.ProduceRequest_Batch_Encoded{Encoded: empty}}}})
	if err != nil {
		t.Fatal(err)
	}
	nested := bytes.Replace(records, []byte{0x01, 'a', 0x22}, []byte{0x01, 'a', 0x1a}, 1) // field 4, encoded, becomes 3, records
	commas := strings.Repeat("1,", elementsMax)
	for _, c := range []struct{ procedure, kind, body string }{
		{"LogService/Produce", "application/proto", string(empty)},
		{"LogService/Produce", "application/proto", string(nested)},
		{"LogService/Fetch", "application/proto", string(empty)},
		{"LogService/Produce", "application/json", `{"batches":[` + strings.Repeat("{},", elementsMax) + `{}]}`},
		{"LogService/Produce", "application/json", `{"batches":[{"topic":"a","records":{"records":[{"value":{"json":[` + commas + `1]}}]}}]}`},
	} {
		response, err := http.Post(w.url+"/splashdam.v1."+c.procedure, c.kind, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := w.read(response); status != http.StatusBadRequest || !strings.Contains(answer, "send fewer at once") {
			t.Errorf("%s as %s: got %d %.200s, want a refusal", c.procedure, c.kind, status, answer)
		}
	}
}

func TestElementsAreCountedOnlyWhereTheyAreElements(t *testing.T) {
	quoted := `{"batches":[{"topic":"` + strings.Repeat(`{[,\",`, elementsMax/3) + `"}]}`
	if _, err := elementsJSON([]byte(quoted)); err != nil {
		t.Errorf("text in a string: %v", err)
	}
	message := &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{{Topic: "a",
		Content: &v1.ProduceRequest_Batch_Encoded{Encoded: bytes.Repeat([]byte{0x0a, 0x00}, elementsMax+1)}}}}
	b, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elements(b, message.ProtoReflect().Descriptor()); err != nil {
		t.Errorf("bytes: %v", err)
	}
}

func TestOneCallNamesABoundedNumberOfBatchesAndPartitions(t *testing.T) {
	w := start(t)
	for procedure, list := range map[string]string{"LogService/Produce": "batches", "LogService/Fetch": "partitions", "LogService/ListOffsets": "partitions"} {
		body := `{"` + list + `":[` + strings.Repeat("{},", batchesMax) + `{}]}`
		if status, answer := w.post(procedure, body); status != http.StatusBadRequest || !strings.Contains(answer, "at most 100000") {
			t.Errorf("%s: got %d %.200s, want a refusal", procedure, status, answer)
		}
	}
}

func TestElementsAreCountedBehindEscapedQuotes(t *testing.T) {
	for text, want := range map[string]int{
		`{"a":"x","b":[1,2]}`:      4,
		`{"a":"\\","b":1}`:         2,
		`{"a":"\\\",\"{[,","b":1}`: 2,
		`{"a":"\"\"","b":1}`:       2,
		`{"a":"\`:                  1,
		`"{{{`:                     0,
	} {
		if got, err := elementsJSON([]byte(text)); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
}
