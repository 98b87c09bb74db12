package metered_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/objectlog/metered"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
)

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return metered.New(new(mem.Bucket), time.Now) })
}

// clock moves by step between two readings.
func clock(step *time.Duration) func() time.Time {
	var mu sync.Mutex
	now := time.Unix(0, 0)
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(*step)
		return now
	}
}

func TestEveryOutcomeHasItsSeries(t *testing.T) {
	ctx := context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	fault := mem.None
	store := &mem.Bucket{Fault: func(mem.Request) mem.Fault { return fault }}
	step := time.Millisecond
	b := metered.New(store, clock(&step))
	b.Put(ctx, "k", make([]byte, 100), objectlog.UUID{1})
	b.Put(ctx, "k", make([]byte, 100), objectlog.UUID{1})
	b.Put(ctx, "k", make([]byte, 7), objectlog.UUID{1})
	b.Get(ctx, "k", objectlog.Extent{Start: 10, Next: 30})
	b.Get(ctx, "k", objectlog.Extent{Start: 10, Next: 300})
	b.Get(ctx, "absent", objectlog.Extent{})
	b.Stat(ctx, "k")
	b.Stat(ctx, "absent")
	b.List(ctx, "", "", 10)
	b.Put(ended, "k2", nil, objectlog.UUID{1})
	b.Get(ended, "k", objectlog.Extent{})
	fault = mem.FailBefore
	b.Stat(ctx, "k")
	b.Put(ctx, "k3", make([]byte, 9), objectlog.UUID{1})
	fault = mem.None
	b.Delete(ctx, "k")
	var got []string
	for _, s := range b.Snapshot() {
		if s.Requests > 0 {
			got = append(got, fmt.Sprintf("%s %s: %d, %d bytes, %s", s.Op, s.Outcome, s.Requests, s.Bytes, s.Time))
		}
	}
	want := []string{
		"delete ok: 1, 0 bytes, 1ms",
		"get cancelled: 1, 0 bytes, 1ms",
		"get not_found: 1, 0 bytes, 1ms",
		"get ok: 1, 20 bytes, 1ms",
		"get range: 1, 0 bytes, 1ms",
		"list ok: 1, 0 bytes, 1ms",
		"put cancelled: 1, 0 bytes, 1ms",
		"put error: 1, 9 bytes, 1ms",
		"put exists: 1, 7 bytes, 1ms",
		"put ok: 2, 200 bytes, 2ms",
		"stat error: 1, 0 bytes, 1ms",
		"stat not_found: 1, 0 bytes, 1ms",
		"stat ok: 1, 0 bytes, 1ms",
	}
	if !slices.Equal(got, want) {
		t.Errorf("series:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSeriesAreThereBeforeTheFirstRequest(t *testing.T) {
	all := metered.New(new(mem.Bucket), time.Now).Snapshot()
	if len(all) != 19 {
		t.Errorf("%d series, want 19", len(all))
	}
	for _, s := range all {
		if s.Requests != 0 || len(s.Within) != len(metered.Bounds()) {
			t.Errorf("series before the first request: %+v", s)
		}
	}
}

func TestHistogramCountsUpToAndWithItsBounds(t *testing.T) {
	bounds := metered.Bounds()
	step := time.Duration(0)
	m := metered.NewMeter(clock(&step), []metered.Labels{{Op: "get", Outcome: "ok"}})
	for _, took := range []time.Duration{0, bounds[0], bounds[0] + 1, bounds[1], bounds[len(bounds)-1], bounds[len(bounds)-1] + 1, time.Hour} {
		step = took
		end := m.Start()
		end(metered.Labels{Op: "get", Outcome: "ok"}, 0)
	}
	s := m.Snapshot()[0]
	want := make([]uint64, len(bounds))
	for i := range want {
		want[i] = 4
	}
	want[0], want[len(want)-1] = 2, 5
	if s.Requests != 7 || !slices.Equal(s.Within, want) {
		t.Errorf("%d requests, within %v, want 7, %v", s.Requests, s.Within, want)
	}
}
