package hedge

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestP95IsThatOfTheLatestTimes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var w window
	var all []time.Duration
	for n := 1; n <= 1000; n++ {
		took := time.Duration(random.IntN(50)) // with equal ones
		w.add(took)
		all = append(all, took)
		latest := slices.Sorted(slices.Values(all[max(0, n-samplesMax):]))
		if !slices.Equal(w.ascending, latest) {
			t.Fatalf("after %d times: %v, want %v", n, w.ascending, latest)
		}
		p95, known := w.p95()
		if known != (n >= samplesMin) {
			t.Fatalf("after %d times: known is %v", n, known)
		}
		if !known {
			continue
		}
		longer, atLeast := 0, 0
		for _, d := range latest {
			if d > p95 {
				longer++
			}
			if d >= p95 {
				atLeast++
			}
		}
		if longer*20 > len(latest) || atLeast*20 <= len(latest) {
			t.Fatalf("after %d times: p95 %d is exceeded by %d and reached by %d of %d", n, p95, longer, atLeast, len(latest))
		}
	}
}

func TestWindowKeepsItsMemory(t *testing.T) {
	var w window
	for i := range 100 * samplesMax {
		w.add(time.Duration(i))
	}
	if n := cap(w.ascending); n > 2*samplesMax {
		t.Errorf("room for %d times, want at most %d", n, 2*samplesMax)
	}
}

func TestP95FollowsTheStore(t *testing.T) {
	var w window
	add := func(n int, took time.Duration) {
		for range n {
			w.add(took)
		}
	}
	want := func(when string, d time.Duration) {
		t.Helper()
		if got, _ := w.p95(); got != d {
			t.Errorf("%s: %s, want %s", when, got, d)
		}
	}
	add(500, time.Millisecond)
	add(6, time.Second)
	want("after 6 slow puts", time.Millisecond)
	add(1, time.Second)
	want("after 7 slow puts", time.Second)
	add(samplesMax, time.Second)
	add(121, time.Millisecond)
	want("after 121 fast puts", time.Second)
	add(1, time.Millisecond)
	want("after 122 fast puts", time.Millisecond)
}

func TestClassesArePowersOfFour(t *testing.T) {
	bounds := []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20}
	if got := classOf(0); got != 0 {
		t.Errorf("an empty body is of class %d, want 0", got)
	}
	for class, bound := range bounds {
		if below, from := classOf(bound-1), classOf(bound); below != class || from != class+1 {
			t.Errorf("%d bytes are of class %d and one byte less of class %d, want %d and %d", bound, from, below, class+1, class)
		}
	}
	if got := classOf(1 << 40); got != classes-1 {
		t.Errorf("1 TiB is of class %d, want the last", got)
	}
}
