package main

import (
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

// marks are when the records of each partition came through: acknowledged, or read.
type marks struct {
	mu   sync.Mutex // all below
	done map[client.Partition][]mark
	sent map[history.Value]time.Time // of what is expected
}

// mark is one record. Those of a partition are in the order in which they came through.
type mark struct{ sent, done time.Time }

func newMarks() *marks {
	return &marks{done: map[client.Partition][]mark{}, sent: map[history.Value]time.Time{}}
}

func (m *marks) add(p client.Partition, sent, done time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done[p] = append(m.done[p], mark{sent, done})
}

// expect notes when a value was sent that will be found.
func (m *marks) expect(v history.Value, sent time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[v] = sent
}

func (m *marks) found(p client.Partition, v history.Value, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sent, ok := m.sent[v]; ok {
		delete(m.sent, v)
		m.done[p] = append(m.done[p], mark{sent, now})
	}
}

// forget forgets what came through before a moment.
func (m *marks) forget(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, all := range m.done {
		m.done[p] = slices.DeleteFunc(all, func(one mark) bool { return one.done.Before(before) })
	}
}

// first answers for each partition how long after a moment the first record came through that was sent after it; ok is false while one of
// them has none.
func (m *marks) first(after time.Time, partitions []client.Partition) (took []time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range partitions {
		i := slices.IndexFunc(m.done[p], func(one mark) bool { return !one.sent.Before(after) })
		if i < 0 {
			return nil, false
		}
		took = append(took, m.done[p][i].done.Sub(after))
	}
	return took, true
}

// gap answers the longest time without a record in a partition that touches a span; it may have begun before and, when records came
// again, ended behind the span.
func (m *marks) gap(from, to time.Time, partitions []client.Partition) (longest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range partitions {
		last := from
		for _, one := range m.done[p] {
			if one.done.After(from) && last.Before(to) {
				longest = max(longest, one.done.Sub(last))
			}
			last = one.done
		}
		longest = max(longest, to.Sub(last))
	}
	return longest
}

// latencies are those of all records that came through in a span.
func (m *marks) latencies(from, to time.Time) (all []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, done := range m.done {
		for _, one := range done {
			if one.done.After(from) && one.done.Before(to) {
				all = append(all, one.done.Sub(one.sent))
			}
		}
	}
	return all
}
