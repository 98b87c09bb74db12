package rpc

import (
	"net/http"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog/usage"
)

func TestGetUsageShowsRequestsAndTopics(t *testing.T) {
	var bucket, table usage.Counter
	bucket.Add("put", usage.Flush, 1, 4096)
	bucket.Add("put", usage.Flush, 1, 1)
	bucket.Add("get", usage.Read, 1, 7)
	table.Add("put_item", usage.Commit, 3, 2500)
	w := startWith(t, Config{Usage: func() []StoreUsage {
		return []StoreUsage{{"bucket", bucket.Lines()}, {"table", table.Lines()}}
	}})
	w.fake.usage = []agent.TopicUsage{{Topic: "a", ProducedBytes: 4000, FetchedBytes: 8000}, {ProducedBytes: 5}}
	const want = `{"bootId":"boot","countedFor":"90s","requests":[` +
		`{"store":"bucket","kind":"get","cause":"read","requests":"1","units":"1","bytes":"7"},` +
		`{"store":"bucket","kind":"put","cause":"flush","requests":"2","units":"2","bytes":"4097"},` +
		`{"store":"table","kind":"put_item","cause":"commit","requests":"1","units":"3","bytes":"2500"}],` +
		`"topics":[{"topic":"a","producedBytes":"4000","fetchedBytes":"8000"},{"producedBytes":"5"}]}`
	w.want("ClusterService/GetUsage", `{}`, want)
	status, body := w.get("/splashdam.v1.ClusterService/GetUsage?encoding=json&message=%7B%7D")
	if status != http.StatusOK || body != want {
		t.Errorf("by GET: %d %s, want %s", status, body, want)
	}
}

func TestGetUsageOfEmbeddedStoresShowsOnlyTheAgentsTopics(t *testing.T) {
	w, _ := overAgent(t)
	if status, body := w.post("TopicService/CreateTopic", `{"topic":{"name":"a"}}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	if status, body := w.post("LogService/Produce", `{"batches":[{"topic":"a","records":{"records":[{}]}}]}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	status, body := w.post("ClusterService/GetUsage", `{}`)
	if status != http.StatusOK || !strings.Contains(body, `"topics":[{"topic":"a","producedBytes":"`) || strings.Contains(body, "requests") || !strings.Contains(body, `"bootId":"`) {
		t.Errorf("got %d %s, want the topic and no requests", status, body)
	}
}
