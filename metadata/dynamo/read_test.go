package dynamo

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/usage"
)

const wholeItem = `{"pk":{"S":"ring#r#1"},"sk":{"S":"000001"},"rev":{"N":"9007199254740993"},"value":{"B":"AQI="}}`

// An item that this program did not write is an error of every method that meets it, never an absent item or an empty value.
func TestItemsOfAnotherShapeAreErrors(t *testing.T) {
	for name, item := range map[string]string{
		"empty":               `{}`,
		"no revision":         `{"pk":{"S":"ring#r#1"},"sk":{"S":"000001"},"value":{"B":"AQI="}}`,
		"no value":            `{"pk":{"S":"ring#r#1"},"sk":{"S":"000001"},"rev":{"N":"1"}}`,
		"value is a string":   strings.Replace(wholeItem, `{"B":"AQI="}`, `{"S":"AQI="}`, 1),
		"value is null":       strings.Replace(wholeItem, `{"B":"AQI="}`, `{"NULL":true}`, 1),
		"value is not base64": strings.Replace(wholeItem, `AQI=`, `A*`, 1),
		"revision is a text":  strings.Replace(wholeItem, `{"N":"9007199254740993"}`, `{"S":"1"}`, 1),
		"fraction":            strings.Replace(wholeItem, `9007199254740993`, `1.5`, 1),
		"beyond 64 bits":      strings.Replace(wholeItem, `9007199254740993`, `9223372036854775808`, 1),
		"rounded":             strings.Replace(wholeItem, `9007199254740993`, `9.007199254740993E15`, 1),
		"unknown attribute":   strings.Replace(wholeItem, `"rev"`, `"ttl":{"N":"1"},"rev"`, 1),
		"key of another item": strings.Replace(wholeItem, `000001`, `000000`, 1),
		"partition of others": strings.Replace(wholeItem, `ring#r#1`, `ring#r#2`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = func(action string, _ int, _ *http.Request, _ []byte) *reply {
				switch action {
				case "GetItem":
					return &reply{status: 200, body: `{"Item":` + item + `}`}
				case "Query":
					return &reply{status: 200, body: `{"Count":1,"Items":[` + item + `]}`}
				}
				return &reply{status: 400, body: `{"__type":"ConditionalCheckFailedException","Item":` + item + `}`}
			}
			table := f.open(t, Config{})
			if got, ok, err := table.Get(t.Context(), slotKey); err == nil {
				t.Errorf("get: %+v, %v", got, ok)
			}
			if got, err := table.Query(t.Context(), slotKey.PK, "000000", 10); err == nil {
				t.Errorf("query: %+v", got)
			}
			if r := table.Put(t.Context(), slotItem(2, "x"), metadata.If{}); r.Outcome != metadata.Unknown || r.Err == nil {
				t.Errorf("put: %+v", r)
			}
		})
	}
}

func TestRevisionsAreExact(t *testing.T) {
	f := startFake(t)
	f.lie = always(&reply{status: 200, body: `{"Item":` + wholeItem + `}`})
	got, ok, err := f.open(t, Config{}).Get(t.Context(), slotKey)
	if err != nil || !ok || got.Rev != 1<<53+1 || string(got.Value) != "\x01\x02" {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
}

func item(sk string) string {
	return fmt.Sprintf(`{"pk":{"S":"p"},"sk":{"S":%q},"rev":{"N":"1"},"value":{"B":"AAAA"}}`, sk)
}

func TestQueryGoesOnUntilNoKeyIsNamed(t *testing.T) {
	f := startFake(t)
	pages := []string{
		`{"Items":[` + item("b") + `,` + item("c") + `],"Count":2,"LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"S":"c"}}}`,
		`{"Items":[],"Count":0,"LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"S":"d"}},"ConsumedCapacity":` + readUnits + `}`,
		`{"Items":[` + item("e") + `],"Count":1,"LastEvaluatedKey":{"pk":{"S":"p"},"sk":{"S":"e"}}}`,
		`{"Items":[],"Count":0,"ConsumedCapacity":` + readUnits + `}`,
	}
	var asked []string
	f.lie = lieTo("Query", func(n int) *reply { return &reply{status: 200, body: pages[n-1]} })
	var u usage.Counter
	got, err := f.open(t, Config{Usage: &u}).Query(t.Context(), "p", "a", 10)
	if err != nil || len(got) != 3 || got[2].Key.SK != "e" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, w := range f.wire {
		request, _, _ := strings.Cut(w, "\n")
		asked = append(asked, request)
		if !strings.Contains(request, `"ConsistentRead":true`) {
			t.Errorf("%s is not consistent", request)
		}
	}
	for i, want := range []string{`"Limit":10`, `"Limit":8`, `"Limit":8`, `"Limit":7`} {
		if !strings.Contains(asked[i], want) {
			t.Errorf("request %d: %s, want %s", i, asked[i], want)
		}
	}
	if want := []usage.Line{{Kind: "query", Cause: usage.Cluster, Requests: 4, Units: 1 + 3 + 1 + 3, Bytes: 9}}; fmt.Sprint(u.Lines()) != fmt.Sprint(want) {
		t.Errorf("usage %+v, want %+v", u.Lines(), want)
	}
}

func TestQueryRefusesAnswersOutOfOrder(t *testing.T) {
	f := startFake(t)
	f.lie = always(&reply{status: 200, body: `{"Items":[` + item("c") + `,` + item("b") + `],"Count":2}`})
	if got, err := f.open(t, Config{}).Query(t.Context(), "p", "a", 10); err == nil {
		t.Errorf("%+v", got)
	}
}

func TestUsageCountsEachRequestWithItsUnits(t *testing.T) {
	f := startFake(t)
	var u usage.Counter
	table := f.open(t, Config{Usage: &u})
	big := slotItem(1, strings.Repeat("x", 8<<10))
	lease := metadata.Item{Key: metadata.Key{PK: "shard#0", SK: "lease"}, Rev: 1, Value: []byte("lease")}
	agent := metadata.Item{Key: metadata.Key{PK: "agents", SK: "boot"}, Rev: 1, Value: []byte("agent")}
	for _, item := range []metadata.Item{big, lease, agent} {
		table.Put(t.Context(), item, metadata.If{})
	}
	table.Put(t.Context(), slotItem(2, "small"), metadata.If{}) // refused by the big one: its units are charged
	f.showOld = false
	table.Put(t.Context(), slotItem(2, "small"), metadata.If{}) // and a read of three units
	if _, ok, err := table.Get(t.Context(), lease.Key); !ok || err != nil {
		t.Error(ok, err)
	}
	if _, ok, err := table.Get(t.Context(), metadata.Key{PK: "ring#r#1", SK: "none"}); ok || err != nil {
		t.Error(ok, err)
	}
	table.Delete(t.Context(), agent.Key, metadata.RevIs(1))
	table.CreateAll(t.Context(), manyItems(26))
	if _, err := table.describe(t.Context()); err != nil {
		t.Error(err)
	}
	want := []usage.Line{
		{Kind: "batch_write_item", Cause: usage.Cluster, Requests: 2, Units: 2 * 7},
		{Kind: "delete_item", Cause: usage.Cluster, Requests: 1, Units: 7},
		{Kind: "describe_table", Cause: usage.Cluster, Requests: 1},
		{Kind: "get_item", Cause: usage.Lease, Requests: 1, Units: 3, Bytes: 5},
		{Kind: "get_item", Cause: usage.Read, Requests: 2, Units: 2 * 3, Bytes: 8 << 10},
		{Kind: "put_item", Cause: usage.Cluster, Requests: 1, Units: 7, Bytes: 5},
		{Kind: "put_item", Cause: usage.Commit, Requests: 3, Units: 7 + 2*9, Bytes: 8<<10 + 5 + 5},
		{Kind: "put_item", Cause: usage.Lease, Requests: 1, Units: 7, Bytes: 5},
	}
	got := u.Lines()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("lines\n%+v, want\n%+v", got, want)
		}
	}
}

func TestThrottledRequestsCostNoUnits(t *testing.T) {
	f := startFake(t)
	f.lie = always(fault(400, "ThrottlingException", "Rate exceeded"))
	var u usage.Counter
	table := f.open(t, Config{Usage: &u})
	for _, write := range writes {
		write(table, metadata.RevIs(1))
	}
	table.Get(t.Context(), slotKey)
	table.Query(t.Context(), slotKey.PK, "", 1)
	table.putBatch(t.Context(), manyItems(3))
	got := u.Lines()
	for _, line := range got {
		if line.Requests != 1 || line.Units != 0 {
			t.Errorf("%+v, want one request without units", line)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d lines, want 5: %+v", len(got), got)
	}
}

func TestNothingSentCountsNothing(t *testing.T) {
	f := startFake(t)
	var u usage.Counter
	table := f.open(t, Config{Usage: &u})
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	r := table.Put(t.Context(), slotItem(1, "x"), metadata.If{})
	if r.Outcome != metadata.Unknown || !strings.Contains(fmt.Sprint(r.Err), "no credentials") || !strings.Contains(fmt.Sprint(r.Err), "AWS_ACCESS_KEY_ID") {
		t.Errorf("%+v", r)
	}
	if lines := u.Lines(); len(lines) != 0 || f.count("PutItem") != 0 {
		t.Errorf("%+v", lines)
	}
}

// The sizes of the Developer Guide's rule: names and values, two digits to a byte and one more.
func TestItemSizeIsWhatDynamoDBCharges(t *testing.T) {
	for _, test := range []struct {
		item  metadata.Item
		bytes int
	}{
		{metadata.Item{Key: metadata.Key{PK: "p", SK: "s"}}, 12 + 2 + 1},
		{metadata.Item{Key: metadata.Key{PK: "p", SK: "s"}, Rev: 12345, Value: make([]byte, 100)}, 12 + 2 + 4 + 100},
		{metadata.Item{Key: metadata.Key{PK: "p", SK: "s"}, Rev: -4000}, 12 + 2 + 2},
	} {
		if got := itemBytes(test.item); got != test.bytes {
			t.Errorf("%+v: %d bytes, want %d", test.item.Rev, got, test.bytes)
		}
	}
	at := func(n int) metadata.Item {
		return metadata.Item{Key: metadata.Key{PK: "p", SK: "s"}, Rev: 1, Value: make([]byte, n-16)}
	}
	for bytes, units := range map[int]int{16: 1, 1024: 1, 1025: 2, 8192: 8, 8193: 9} {
		if got := writeUnits(at(bytes)); got != units {
			t.Errorf("%d bytes: %d write units, want %d", bytes, got, units)
		}
	}
}
