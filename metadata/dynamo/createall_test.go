package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func manyItems(n int) []metadata.Item {
	items := make([]metadata.Item, n)
	for i := range items {
		items[i] = metadata.Item{Key: metadata.Key{PK: "ring#r#0", SK: fmt.Sprintf("%06d", i)}, Rev: metadata.Rev(i), Value: []byte{}}
	}
	return items
}

type batchRequest = struct{ PutRequest struct{ Item attributes } }

func batchOf(body []byte) []batchRequest {
	var in struct{ RequestItems map[string][]batchRequest }
	_ = json.Unmarshal(body, &in)
	return in.RequestItems["orders"]
}

func unprocessed(table string, left []batchRequest) *reply {
	return answer(map[string]any{"UnprocessedItems": map[string]any{table: left}, "ConsumedCapacity": []json.RawMessage{json.RawMessage(wroteUnits)}})
}

func TestCreateAllSendsAgainWhatIsLeftOver(t *testing.T) {
	f := startFake(t)
	var mu sync.Mutex
	written := map[string]int{}
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		batch := batchOf(body)
		keep := len(batch)
		switch {
		case n == 2:
			return fault(400, "ProvisionedThroughputExceededException", "x")
		case n == 4:
			return fault(400, "ThrottlingException", "x")
		case n <= 6:
			keep = n % 3 // some batches are left over as a whole
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range batch[:keep] {
			written[r.PutRequest.Item["sk"]["S"]]++
		}
		return unprocessed("orders", batch[keep:])
	}
	if r := f.open(t, Config{}).CreateAll(t.Context(), manyItems(110)); r.Outcome != metadata.Applied || r.Err != nil {
		t.Errorf("%+v", r)
	}
	for sk, n := range written {
		if n != 1 {
			t.Errorf("item %s was written %d times", sk, n)
		}
	}
	if len(written) != 110 {
		t.Errorf("%d items written, want 110", len(written))
	}
}

func TestCreateAllIsUnknownAtAnyDoubt(t *testing.T) {
	other := attributes{"pk": {"S": "x"}, "sk": {"S": "y"}, "rev": {"N": "1"}, "value": {"B": ""}}
	for name, lie := range map[string]func(body []byte) *reply{
		"server error":  func([]byte) *reply { return fault(500, "InternalServerError", "x") },
		"cut":           func([]byte) *reply { return &reply{cut: true} },
		"another table": func(body []byte) *reply { return unprocessed("other", batchOf(body)[:1]) },
		"twice":         func(body []byte) *reply { b := batchOf(body); return unprocessed("orders", append(b, b[0])) },
		"never sent":    func([]byte) *reply { return unprocessed("orders", []batchRequest{{struct{ Item attributes }{other}}}) },
		"delete": func([]byte) *reply {
			return &reply{status: 200, body: `{"UnprocessedItems":{"orders":[{"DeleteRequest":{"Key":{}}}]}}`}
		},
		"damaged": func([]byte) *reply {
			return &reply{status: 200, body: `{"UnprocessedItems":{"orders":[{"PutRequest":{"Item":{}}}]}}`}
		},
		"left over always": func(body []byte) *reply { return unprocessed("orders", batchOf(body)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = func(_ string, n int, _ *http.Request, body []byte) *reply {
				if n == 3 || name == "left over always" {
					return lie(body)
				}
				return nil
			}
			ctx, cancel := contextFor(t, 2*time.Second)
			defer cancel()
			if name == "left over always" {
				ctx, cancel = contextFor(t, 300*time.Millisecond)
				defer cancel()
			}
			r := f.open(t, Config{}).CreateAll(ctx, manyItems(200))
			if r.Outcome != metadata.Unknown || r.Err == nil {
				t.Errorf("%+v, want Unknown", r)
			}
			if name == "left over always" && !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%v", r.Err)
			}
		})
	}
}

func TestCreateAllRefusesAKeyGivenTwice(t *testing.T) {
	f := startFake(t)
	items := manyItems(3)
	items[2].Key = items[0].Key
	if r := f.open(t, Config{}).CreateAll(t.Context(), items); r.Outcome != metadata.Unknown || f.count("BatchWriteItem") != 0 {
		t.Errorf("%+v", r)
	}
}
