package dynamo

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// fake is a server that speaks just enough of DynamoDB, and lies when it is told to.
type fake struct {
	*httptest.Server

	// lie answers in the server's place, or nothing. n counts the requests of the action, from 1.
	lie func(action string, n int, r *http.Request, body []byte) *reply

	mu      sync.Mutex
	items   map[string]attributes
	sent    map[string]int // requests by action
	wire    []string       // requests and answers, for transcripts
	showOld bool           // refusals show the item
}

// attributes is an item as it travels: name, type, value.
type attributes = map[string]map[string]string

type reply struct {
	status int
	body   string
	header map[string]string // besides, or in place of, the usual
	cut    bool              // close the connection in place of an answer
	stop   int               // close it after so many bytes of the body; 0: don't
}

func startFake(t testing.TB) *fake {
	f := &fake{items: map[string]attributes{}, sent: map[string]int{}, showOld: true}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// open opens a table on the fake server, with credentials from the environment.
func (f *fake) open(t testing.TB, cfg Config) *Table {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_MAX_ATTEMPTS", "5") // what the environment says must not bring retries back
	if cfg.Table == "" {
		cfg.Table = "orders"
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = f.URL
	}
	return openAt(t, cfg)
}

func (f *fake) count(action string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[action]
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	f.mu.Lock()
	f.sent[action]++
	n := f.sent[action]
	f.mu.Unlock()
	var a *reply
	if f.lie != nil {
		a = f.lie(action, n, r, body)
	}
	if a == nil {
		a = f.serve(action, body)
	}
	f.mu.Lock()
	f.wire = append(f.wire, fmt.Sprintf("%s %s\n→ %d %s\n", action, sorted(body), a.status, a.body))
	f.mu.Unlock()
	a.write(w)
}

// sorted writes the fields of a JSON object in order: the SDK does not.
func sorted(body []byte) string {
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		return string(body)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func (a *reply) write(w http.ResponseWriter) {
	if a.cut {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-amz-json-1.0")
	h.Set("X-Amz-Crc32", strconv.Itoa(int(crc32.ChecksumIEEE([]byte(a.body)))))
	h.Set("X-Amzn-Requestid", "REQUEST")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	for name, value := range a.header {
		h.Set(name, value)
	}
	w.WriteHeader(a.status)
	if a.stop > 0 {
		io.WriteString(w, a.body[:a.stop])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, a.body)
}

func fault(status int, code, message string) *reply {
	return &reply{status: status, body: fmt.Sprintf(`{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":%q}`, code, message)}
}

func answer(v any) *reply {
	b, _ := json.Marshal(v)
	return &reply{status: http.StatusOK, body: string(b)}
}

// refusedBy is the refusal that shows the item, if there is one.
func refusedBy(item attributes) *reply {
	refusal := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "message": "The conditional request failed"}
	if item != nil {
		refusal["Item"] = item
	}
	a := answer(refusal)
	a.status = http.StatusBadRequest
	return a
}

// force puts the item under no condition.
func (f *fake) force(item attributes) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items[item["pk"]["S"]+"/"+item["sk"]["S"]] = item
}

// serve does what DynamoDB does.
func (f *fake) serve(action string, body []byte) *reply {
	var in struct {
		Item, Key                 attributes
		ExpressionAttributeValues attributes
		RequestItems              map[string]any
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return fault(400, "SerializationException", err.Error())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch action {
	case "DescribeTable":
		return &reply{status: 200, body: described("")}
	case "DescribeTimeToLive":
		return &reply{status: 200, body: `{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}}`}
	case "CreateTable":
		return &reply{status: 200, body: `{"TableDescription":{}}`}
	case "BatchWriteItem":
		return &reply{status: 200, body: `{"ConsumedCapacity":[` + wroteUnits + `],"UnprocessedItems":{}}`}
	case "Query":
		var found []attributes
		for _, item := range f.items {
			found = append(found, item)
		}
		return answer(map[string]any{"Items": found, "Count": len(found), "ConsumedCapacity": json.RawMessage(readUnits)})
	}
	key := in.Key
	if key == nil {
		key = in.Item
	}
	id := key["pk"]["S"] + "/" + key["sk"]["S"]
	current, ok := f.items[id]
	if action == "GetItem" {
		if !ok {
			return absent
		}
		return answer(map[string]any{"Item": current, "ConsumedCapacity": json.RawMessage(readUnits)})
	}
	if want := in.ExpressionAttributeValues[":0"]["N"]; want == "" && ok || want != "" && current["rev"]["N"] != want {
		if !f.showOld {
			current = nil
		}
		return refusedBy(current)
	}
	if action == "PutItem" {
		f.items[id] = in.Item
	} else {
		delete(f.items, id)
	}
	return applied
}

// What the fake server charges for every read and every write.
const (
	readUnits  = `{"CapacityUnits":3.0,"TableName":"orders"}`
	wroteUnits = `{"CapacityUnits":7.0,"TableName":"orders"}`
)

// The answers to a put or delete that was applied, and to a read that found nothing.
var (
	applied = &reply{status: 200, body: `{"ConsumedCapacity":` + wroteUnits + `}`}
	absent  = &reply{status: 200, body: `{"ConsumedCapacity":` + readUnits + `}`}
)

// described is the answer to DescribeTable of a good table, with more in it.
func described(more string) string {
	return `{"Table":{"TableName":"orders","TableStatus":"ACTIVE","TableId":"11111111-2222-3333-4444-555555555555",
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"}],
		"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]` + more + `}}`
}

var slotKey = metadata.Key{PK: "ring#r#1", SK: "000001"}

func slotItem(rev metadata.Rev, value string) metadata.Item {
	return metadata.Item{Key: slotKey, Rev: rev, Value: []byte(value)}
}

// hold puts the item into the fake server.
func (f *fake) hold(t testing.TB, item metadata.Item) {
	t.Helper()
	encoded, err := encode(item)
	if err != nil {
		t.Fatal(err)
	}
	f.force(travelling(t, encoded))
}

// lieTo lies to one action only.
func lieTo(action string, lie func(n int) *reply) func(string, int, *http.Request, []byte) *reply {
	return func(a string, n int, _ *http.Request, _ []byte) *reply {
		if a != action {
			return nil
		}
		return lie(n)
	}
}

// always lies the same, to every action.
func always(a *reply) func(string, int, *http.Request, []byte) *reply {
	return func(string, int, *http.Request, []byte) *reply { return a }
}

func hoursAway(h int) string {
	return time.Now().Add(time.Duration(h) * time.Hour).UTC().Format(http.TimeFormat)
}
