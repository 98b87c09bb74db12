package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/agent/rpc"
	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog/metered"
)

// newRegistry holds what the process tells of itself; the decorators of the stores add theirs.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serveMetrics serves metrics and profiles on a loopback address until stop is called; an empty address: not at all.
func serveMetrics(address string, registry *prometheus.Registry) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &terminalError{op: "listen for metrics on", object: address, cause: err, hint: "choose another with --metrics-listen"}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "metrics:", err)
		}
	}, nil
}

// usageMetrics shows what GetUsage tells, in Prometheus' words.
type usageMetrics struct {
	stores func() []rpc.StoreUsage // nil: no store charges for requests
	topics func() (boot string, countedFor time.Duration, topics []agent.TopicUsage)

	mu     sync.Mutex
	latest []client.TopicBytes // that were shown
	rest   client.TopicBytes   // of topics while they are not named
}

// chargedBy answers what is counted at those of the stores that charge for requests.
func chargedBy(bucket bucketStore, table tableStore) func() []rpc.StoreUsage {
	return func() []rpc.StoreUsage {
		return []rpc.StoreUsage{{Store: "bucket", Lines: bucket.usage.Lines()}, {Store: "table", Lines: table.usage.Lines()}}
	}
}

var (
	usageRequests = prometheus.NewDesc("splashdam_store_requests_total",
		"Requests sent to the stores, each attempt by itself, whatever came of it.", []string{"store", "kind", "cause"}, nil)
	usageUnits = prometheus.NewDesc("splashdam_store_charged_units_total",
		"Units that the stores charge: requests of a bucket, read or write units of a table.", []string{"store", "kind", "cause"}, nil)
	usageBytes = prometheus.NewDesc("splashdam_store_request_bytes_total",
		"Bytes of bodies and values of these requests, sent or answered.", []string{"store", "kind", "cause"}, nil)
	topicBytes = prometheus.NewDesc("splashdam_topic_bytes_total",
		"Bytes of record batches as they are stored, produced and fetched: of the 100 topics with the most; those of the others have an empty topic.",
		[]string{"topic", "direction"}, nil)
)

// Describe sends nothing: which series there are depends on what is counted.
func (*usageMetrics) Describe(chan<- *prometheus.Desc) {}

func (m *usageMetrics) Collect(out chan<- prometheus.Metric) {
	count := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	if m.stores != nil {
		for _, s := range m.stores() {
			for _, l := range s.Lines {
				count(usageRequests, float64(l.Requests), s.Store, l.Kind, string(l.Cause))
				count(usageUnits, float64(l.Units), s.Store, l.Kind, string(l.Cause))
				count(usageBytes, float64(l.Bytes), s.Store, l.Kind, string(l.Cause))
			}
		}
	}
	for _, t := range m.named() {
		count(topicBytes, float64(t.Produced), t.Topic, "produced")
		count(topicBytes, float64(t.Fetched), t.Topic, "fetched")
	}
}

// named answers what to show of the topics. What is not named only grows, as a counter must, though a topic that gets a name takes all
// that it has with it: of the others only what came while they had none is added up.
func (m *usageMetrics) named() []client.TopicBytes {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, topics := m.topics()
	var now, shown []client.TopicBytes
	for _, t := range topics {
		now = append(now, client.TopicBytes{Topic: t.Topic, Produced: t.ProducedBytes, Fetched: t.FetchedBytes})
	}
	for _, t := range topicsSince(m.latest, now) {
		if t.Topic == "" {
			m.rest.Produced += t.Produced
			m.rest.Fetched += t.Fetched
		}
	}
	m.latest = now
	for _, t := range now {
		if t.Topic != "" {
			shown = append(shown, t)
		}
	}
	return append(shown, m.rest)
}

// storeMetrics shows what a store's meter counted, in Prometheus' words.
type storeMetrics struct {
	store    string // bucket or table
	snapshot func() []metered.Series
}

var (
	storeSeconds = prometheus.NewDesc("splashdam_store_request_duration_seconds",
		"Time of requests to the stores.", []string{"store", "op", "outcome"}, nil)
	storeBytes = prometheus.NewDesc("splashdam_store_bytes_total",
		"Bytes of bodies and values sent to the stores or answered by them.", []string{"store", "op", "outcome"}, nil)
)

// Describe sends nothing, which makes the collector an unchecked one: two stores share the descriptions.
func (storeMetrics) Describe(chan<- *prometheus.Desc) {}

func (m storeMetrics) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.snapshot() {
		buckets := map[float64]uint64{}
		for i, bound := range metered.Bounds() {
			buckets[bound.Seconds()] = s.Within[i]
		}
		out <- prometheus.MustNewConstHistogram(storeSeconds, s.Requests, s.Time.Seconds(), buckets, m.store, s.Op, s.Outcome)
		out <- prometheus.MustNewConstMetric(storeBytes, prometheus.CounterValue, float64(s.Bytes), m.store, s.Op, s.Outcome)
	}
}

// countMetric is a counter that another one keeps.
func countMetric(name, help, store string, count func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"store": store}},
		func() float64 { return float64(count()) })
}

// replicaMetrics shows this agent's replicas of the shards, in Prometheus' words. Shards are few, and their number never changes.
type replicaMetrics struct {
	replicas func() (replicas []shardlog.Status, behind []int64, live int)
}

var (
	liveAgents  = prometheus.NewDesc("splashdam_agents_live", "Agents that are alive as far as this one knows, itself included.", nil, nil)
	shardLeads  = shardMetric("leading", "1 while this agent leads the shard.")
	shardLease  = shardMetric("lease_renewed", "1 while this agent leads the shard and its lease was renewed in time.")
	shardHalted = shardMetric("halted", "1 when this agent's replica stopped at missing or corrupt state: look at its log.")
	shardAway   = shardMetric("table_away", "1 while the table leaves a put of this leader undecided.")
	shardEpoch  = shardMetric("epoch", "The newest epoch of the shard that this agent knows.")
	shardSeq    = shardMetric("applied_seq", "The last entry of the shard's log that this agent has applied; -1 before the first.")
	shardBehind = shardMetric("follow_lag_entries", "Entries that the leader had applied when it was heard last, and this agent has not yet.")
	shardRing   = shardMetric("ring_fill_ratio", "Part of the ring that holds entries behind the previous snapshot; writes slow down at 0.75.")
	shardAge    = shardMetric("snapshot_age_seconds", "How long ago this agent confirmed the newest snapshot; absent where another one did.")
)

func shardMetric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("splashdam_shard_"+name, help, []string{"shard"}, nil)
}

func (replicaMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{liveAgents, shardLeads, shardLease, shardHalted, shardAway, shardEpoch, shardSeq, shardBehind, shardRing, shardAge} {
		out <- d
	}
}

func (m replicaMetrics) Collect(out chan<- prometheus.Metric) {
	replicas, behind, live := m.replicas()
	out <- prometheus.MustNewConstMetric(liveAgents, prometheus.GaugeValue, float64(live))
	for i, r := range replicas {
		show := func(d *prometheus.Desc, value float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, strconv.Itoa(i))
		}
		show(shardLeads, oneIf(r.Role == shardlog.RoleLeading))
		show(shardLease, oneIf(r.Renewed))
		show(shardHalted, oneIf(r.Role == shardlog.RoleHalted))
		show(shardAway, oneIf(r.Away != nil))
		show(shardEpoch, float64(r.Epoch))
		show(shardSeq, float64(r.Applied))
		show(shardBehind, float64(behind[i]))
		if r.Slots > 0 {
			show(shardRing, float64(r.Used)/float64(r.Slots))
		}
		if r.SnapshotAge >= 0 {
			show(shardAge, r.SnapshotAge.Seconds())
		}
	}
}

// groupMetrics shows what an agent tells of groups without asking anybody. Lag is not among it: it is asked for, splashdam lag.
type groupMetrics struct {
	usage func() agent.GroupUsage
}

var (
	groupCount       = prometheus.NewDesc("splashdam_groups", "Consumer groups whose shards this agent leads.", nil, nil)
	groupMembers     = prometheus.NewDesc("splashdam_group_members", "Members of groups whose shards this agent leads: of the 100 with the most; those of the others have an empty group.", []string{"group"}, nil)
	groupGeneration  = prometheus.NewDesc("splashdam_group_generation", "Generation of these groups: it rises with every new assignment.", []string{"group"}, nil)
	groupAssignments = prometheus.NewDesc("splashdam_group_assignments_total", "Assignments that this agent made as leader.", nil, nil)
	groupExpired     = prometheus.NewDesc("splashdam_group_members_expired_total", "Members that this agent removed as leader, since their sessions were over.", nil, nil)
	groupPositions   = prometheus.NewDesc("splashdam_group_positions_total", "Positions that this agent was asked to commit, and were or were refused.", []string{"outcome"}, nil)
)

func (groupMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{groupCount, groupMembers, groupGeneration, groupAssignments, groupExpired, groupPositions} {
		out <- d
	}
}

func (m groupMetrics) Collect(out chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, kind prometheus.ValueType, value int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, float64(value), labels...)
	}
	u := m.usage()
	show(groupCount, prometheus.GaugeValue, int64(u.Groups))
	rest := u.Members
	for _, g := range u.Largest {
		show(groupMembers, prometheus.GaugeValue, int64(g.Members), g.Group)
		show(groupGeneration, prometheus.GaugeValue, g.Generation, g.Group)
		rest -= g.Members
	}
	show(groupMembers, prometheus.GaugeValue, int64(rest), "")
	show(groupAssignments, prometheus.CounterValue, u.Assignments)
	show(groupExpired, prometheus.CounterValue, u.Expired)
	show(groupPositions, prometheus.CounterValue, u.Committed, "committed")
	show(groupPositions, prometheus.CounterValue, u.Refused, "refused")
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
