package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// latencies records durations from 1 µs to 10 min with three digits.
//
// In an open loop a request's latency counts from the moment at which it was due, not from when it was sent: a broker that
// stalls delays the requests behind the stall, and these must be seen to wait (coordinated omission).
type latencies struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newLatencies() *latencies {
	return &latencies{h: hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)}
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	us := max(1, min(int64(d/time.Microsecond), int64(10*time.Minute/time.Microsecond)))
	_ = l.h.RecordValue(us) // held inside the range above, so it can't fail
}

// percentiles are in milliseconds.
type percentiles struct {
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	Count int64   `json:"count"`
}

func (l *latencies) percentiles() percentiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := func(q float64) float64 { return float64(l.h.ValueAtQuantile(q)) / 1000 }
	return percentiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(l.h.Max()) / 1000, Count: l.h.TotalCount()}
}

func (p percentiles) String() string {
	return fmt.Sprintf("p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms", p.P50, p.P90, p.P99, p.P999, p.Max)
}

// pace says when the n-th request of an open loop is due: evenly spaced from the start, whatever happened to those before it.
type pace struct {
	start time.Time
	rate  float64 // per second; 0: no schedule, everything is due at once
}

func (p pace) due(n int64) time.Time {
	if p.rate <= 0 {
		return time.Now()
	}
	return p.start.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
}
