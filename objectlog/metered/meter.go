package metered

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// From a local disk's fsync to a request that hangs.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Bounds are the upper bounds of Series.Within, inclusive and ascending.
func Bounds() []time.Duration { return slices.Clone(bounds[:]) }

// Labels name a series. Both are of a small fixed set, in lower case with underscores.
type Labels struct {
	Op      string // the method
	Outcome string // what it answered
}

// Series is what was counted under one pair of labels since the start.
type Series struct {
	Labels
	Requests uint64
	Bytes    uint64 // of bodies and values that were sent or answered
	Time     time.Duration
	Within   []uint64 // requests that took at most Bounds()[i], so ascending; the rest took longer
}

// Meter counts requests under labels that are fixed when it is made.
type Meter struct {
	now    func() time.Time
	mu     sync.Mutex
	series map[Labels]*counters
}

type counters struct {
	requests, bytes uint64
	time            time.Duration
	took            [len(bounds) + 1]uint64 // by the first bound that holds the request; not added up
}

// NewMeter counts under these labels only; now is the clock.
func NewMeter(now func() time.Time, labels []Labels) *Meter {
	m := &Meter{now: now, series: map[Labels]*counters{}}
	for _, l := range labels {
		m.series[l] = new(counters)
	}
	return m
}

// Start begins a request. The answered function ends it and is called once; the labels are among those of NewMeter.
func (m *Meter) Start() (end func(l Labels, bytes int)) {
	start := m.now()
	return func(l Labels, bytes int) {
		took := m.now().Sub(start)
		bucket, _ := slices.BinarySearch(bounds[:], took)
		m.mu.Lock()
		defer m.mu.Unlock()
		c := m.series[l]
		c.requests++
		c.bytes += uint64(bytes)
		c.time += took
		c.took[bucket]++
	}
}

// Snapshot answers all series, also those that counted nothing yet, sorted by their labels.
func (m *Meter) Snapshot() []Series {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Series, 0, len(m.series))
	for l, c := range m.series {
		within := make([]uint64, len(bounds))
		sum := uint64(0)
		for i := range within {
			sum += c.took[i]
			within[i] = sum
		}
		all = append(all, Series{Labels: l, Requests: c.requests, Bytes: c.bytes, Time: c.time, Within: within})
	}
	slices.SortFunc(all, func(a, b Series) int { return cmp.Or(cmp.Compare(a.Op, b.Op), cmp.Compare(a.Outcome, b.Outcome)) })
	return all
}
