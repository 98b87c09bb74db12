package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/agent/rpc"
	storeusage "github.com/splashdam/splashdam/objectlog/usage"
)

// scrape answers the lines of the metrics, without their help.
func scrape(r *prometheus.Registry) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var lines strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func TestUsageIsShownAsMetrics(t *testing.T) {
	var bucket storeusage.Counter
	bucket.Add("put", storeusage.Flush, 1, 4096)
	topics := []agent.TopicUsage{{Topic: "goals", ProducedBytes: 5, FetchedBytes: 10}, {Topic: "cards", ProducedBytes: 4}, {ProducedBytes: 3}}
	r := prometheus.NewRegistry()
	r.MustRegister(&usageMetrics{
		stores: func() []rpc.StoreUsage { return []rpc.StoreUsage{{Store: "bucket", Lines: bucket.Lines()}} },
		topics: func() (string, time.Duration, []agent.TopicUsage) { return "boot", time.Hour, topics },
	})
	const requests = `splashdam_store_charged_units_total{cause="flush",kind="put",store="bucket"} 1
splashdam_store_request_bytes_total{cause="flush",kind="put",store="bucket"} 4096
splashdam_store_requests_total{cause="flush",kind="put",store="bucket"} 1
`
	check := func(what, want string) {
		t.Helper()
		if got := scrape(r); got != requests+want {
			t.Errorf("%s: got\n%s\nwant\n%s", what, got, requests+want)
		}
	}
	check("at first", `splashdam_topic_bytes_total{direction="fetched",topic=""} 0
splashdam_topic_bytes_total{direction="fetched",topic="cards"} 0
splashdam_topic_bytes_total{direction="fetched",topic="goals"} 10
splashdam_topic_bytes_total{direction="produced",topic=""} 3
splashdam_topic_bytes_total{direction="produced",topic="cards"} 4
splashdam_topic_bytes_total{direction="produced",topic="goals"} 5
`)
	// fouls rises from the 3 bytes without a name to 9, cards falls behind it with 1 more.
	topics = []agent.TopicUsage{{Topic: "goals", ProducedBytes: 5, FetchedBytes: 10}, {Topic: "fouls", ProducedBytes: 9}, {ProducedBytes: 5}}
	check("the rest does not fall", `splashdam_topic_bytes_total{direction="fetched",topic=""} 0
splashdam_topic_bytes_total{direction="fetched",topic="fouls"} 0
splashdam_topic_bytes_total{direction="fetched",topic="goals"} 10
splashdam_topic_bytes_total{direction="produced",topic=""} 10
splashdam_topic_bytes_total{direction="produced",topic="fouls"} 9
splashdam_topic_bytes_total{direction="produced",topic="goals"} 5
`)
}
