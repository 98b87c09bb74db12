package main

import (
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

// begun is when the tests' records begin; moments are milliseconds behind it.
var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return begun.Add(time.Duration(ms) * time.Millisecond) }

func marked(p client.Partition, records ...[2]int) *marks {
	m := newMarks()
	for _, r := range records {
		m.add(p, at(r[0]), at(r[1]))
	}
	return m
}

func TestFirstCountsOnlyWhatWasSentAfterwards(t *testing.T) {
	m := marked(3, [2]int{10, 20}, [2]int{90, 700}, [2]int{110, 710})
	if took, ok := m.first(at(100), []client.Partition{3}); !ok || took[0] != 610*time.Millisecond {
		t.Errorf("got %v, %t; want 610ms: the record that came through at 700 was sent before", took, ok)
	}
	if took, ok := m.first(at(100), []client.Partition{3, 4}); ok {
		t.Errorf("got %v, though nothing came through in partition 4", took)
	}
}

func TestGapReachesOutOfTheSpan(t *testing.T) {
	m := marked(0, [2]int{0, 50}, [2]int{40, 90}, [2]int{60, 800}, [2]int{80, 810})
	for _, c := range []struct{ from, to, want int }{
		{100, 200, 710}, // from 90 to 800
		{0, 60, 50},
		{805, 1000, 190}, // nothing came any more
	} {
		if got := m.gap(at(c.from), at(c.to), []client.Partition{0}); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d to %d: got %v, want %dms", c.from, c.to, got, c.want)
		}
	}
	if got := m.gap(at(100), at(200), []client.Partition{1}); got != 100*time.Millisecond {
		t.Errorf("in a partition without records: got %v, want the whole span", got)
	}
}

func TestQuantileOfAHundredIsTheNextToLast(t *testing.T) {
	var all []Span
	for i := range 100 {
		all = append(all, Span(i+1))
	}
	slices.Sort(all)
	if got := [...]Span{quantile(all, 50), quantile(all, 99), quantile(all[:1], 99)}; got != [...]Span{50, 99, 1} {
		t.Errorf("got %v, want 50, 99 and 1", got)
	}
}
