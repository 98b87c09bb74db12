package matches

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func TestSameSeedGivesTheSameFeed(t *testing.T) {
	a, b, other := New(7, 3), New(7, 3), New(8, 3)
	differs := false
	for i := range 20_000 {
		x, y := a.Next(), b.Next()
		if x.Match != y.Match || x.At != y.At || !bytes.Equal(x.Line, y.Line) {
			t.Fatalf("event %d: %s and %s", i, x.Line, y.Line)
		}
		differs = differs || !bytes.Equal(x.Line, other.Next().Line)
	}
	if !differs {
		t.Error("two seeds gave the same feed")
	}
}

func TestEveryLineIsJSONOfRealisticSizeWithItsKeyAndTime(t *testing.T) {
	f, keys := New(1, 5), map[string]int{}
	kinds, last, goals := map[string]int{}, time.Duration(0), 0
	for i := range 50_000 {
		e := f.Next()
		var v struct {
			Match          string    `json:"match"`
			ID             int       `json:"id"`
			Arrival        time.Time `json:"arrival"`
			Minute, Second int
			Type, Player   string
			At             []float64
		}
		if err := json.Unmarshal(e.Line, &v); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, e.Line)
		}
		if len(e.Line) < 120 || len(e.Line) > 600 {
			t.Fatalf("line %d has %d bytes, want 120 to 600: %s", i, len(e.Line), e.Line)
		}
		if v.Match != e.Match || v.ID != i+1 || v.Player == "" || len(v.At) != 2 || v.Minute > 95 || v.Second > 59 {
			t.Fatalf("line %d of match %s: %s", i, e.Match, e.Line)
		}
		if e.At < last || !v.Arrival.Equal(epoch.Add(e.At).Truncate(time.Millisecond)) {
			t.Fatalf("line %d arrives at %s after %s: %s", i, e.At, last, e.Line)
		}
		last = e.At
		keys[e.Match]++
		kinds[v.Type]++
		if v.Type == "goal" {
			goals++
		}
	}
	if len(keys) != 5 || kinds["pass"] < 25_000 || goals == 0 || kinds["card"] == 0 || kinds["shot"] == 0 {
		t.Errorf("matches %v, kinds %v", keys, kinds)
	}
}

func TestFeedHasBursts(t *testing.T) {
	f, at, close := New(3, 1), time.Duration(0), 0
	for range 20_000 {
		e := f.Next()
		if e.At-at < 12*time.Millisecond {
			close++
		}
		at = e.At
	}
	if close < 600 || close > 6000 {
		t.Errorf("%d of 20,000 events follow within 12 ms, want bursts of 3 %% to 30 %%", close)
	}
}

func BenchmarkNext(b *testing.B) {
	f, bytes := New(1, 3), 0
	for b.Loop() {
		bytes += len(f.Next().Line)
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/line")
}
