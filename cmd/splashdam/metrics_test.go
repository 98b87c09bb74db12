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
	"github.com/splashdam/splashdam/metadata/shardlog"
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

func TestReplicasAreShownAsMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(replicaMetrics{func() ([]shardlog.Status, []int64, int) {
		return []shardlog.Status{
			{Role: shardlog.RoleLeading, Renewed: true, Epoch: 3, Applied: 90, Slots: 64, Used: 16, SnapshotAge: 2 * time.Second},
			{Role: shardlog.RoleHalted, Epoch: 4, Applied: 7, SnapshotAge: -1},
		}, []int64{0, 5}, 3
	}})
	const want = `splashdam_agents_live 3
splashdam_shard_applied_seq{shard="0"} 90
splashdam_shard_applied_seq{shard="1"} 7
splashdam_shard_epoch{shard="0"} 3
splashdam_shard_epoch{shard="1"} 4
splashdam_shard_follow_lag_entries{shard="0"} 0
splashdam_shard_follow_lag_entries{shard="1"} 5
splashdam_shard_halted{shard="0"} 0
splashdam_shard_halted{shard="1"} 1
splashdam_shard_leading{shard="0"} 1
splashdam_shard_leading{shard="1"} 0
splashdam_shard_lease_renewed{shard="0"} 1
splashdam_shard_lease_renewed{shard="1"} 0
splashdam_shard_ring_fill_ratio{shard="0"} 0.25
splashdam_shard_snapshot_age_seconds{shard="0"} 2
splashdam_shard_table_away{shard="0"} 0
splashdam_shard_table_away{shard="1"} 0
`
	if got := scrape(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGroupsAreShownAsMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(groupMetrics{func() agent.GroupUsage {
		return agent.GroupUsage{Groups: 9, Members: 12, Largest: []agent.GroupSize{{Group: "email", Members: 7, Generation: 40}, {Group: "orders", Members: 3, Generation: 2}},
			Assignments: 44, Expired: 5, Committed: 1000, Refused: 6}
	}})
	const want = `splashdam_group_assignments_total 44
splashdam_group_generation{group="email"} 40
splashdam_group_generation{group="orders"} 2
splashdam_group_members{group=""} 2
splashdam_group_members{group="email"} 7
splashdam_group_members{group="orders"} 3
splashdam_group_members_expired_total 5
splashdam_group_positions_total{outcome="committed"} 1000
splashdam_group_positions_total{outcome="refused"} 6
splashdam_groups 9
`
	if got := scrape(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
