package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
