package throttle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/retry"
	"github.com/splashdam/splashdam/objectlog/throttle"
)

// probe is a gate whose pauses are written down instead of waited for, and drawn by the test.
type probe struct {
	*throttle.Gate
	draw   uint64
	pauses []time.Duration
}

func newProbe() *probe {
	p := new(probe)
	p.Gate = throttle.NewGate(func() uint64 { return p.draw }, func(ctx context.Context, d time.Duration) error {
		p.pauses = append(p.pauses, d)
		return ctx.Err()
	})
	return p
}

// pause is how long one request waits when the random number is draw, -1 if it does not.
func (p *probe) pause(t *testing.T, draw time.Duration) time.Duration {
	t.Helper()
	p.draw, p.pauses = uint64(draw), nil
	if err := p.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(p.pauses) == 0 {
		return -1
	}
	return p.pauses[0]
}

// wantBound checks that pauses are drawn from all of [0, bound): the number below the bound is a pause, and the bound itself is 0 again.
func (p *probe) wantBound(t *testing.T, when string, bound time.Duration) {
	t.Helper()
	if bound == 0 {
		if got := p.pause(t, 1); got != -1 {
			t.Errorf("%s: a request waits %s, want an open gate", when, got)
		}
		return
	}
	if longest, beyond := p.pause(t, bound-1), p.pause(t, bound); longest != bound-1 || beyond != 0 {
		t.Errorf("%s: pauses %s and %s, want %s and 0s: the bound is not %s", when, longest, beyond, bound-1, bound)
	}
}

func TestThrottledAnswersDoubleThePauseAndOthersHalveIt(t *testing.T) {
	p := newProbe()
	p.wantBound(t, "at the start", 0)
	throttled := fmt.Errorf("put k: %w", objectlog.ErrThrottled)
	const ms = time.Millisecond
	for i, bound := range []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second} {
		p.Answered(throttled)
		p.wantBound(t, fmt.Sprintf("after %d throttled answers", i+1), bound)
	}
	answers := []error{nil, fmt.Errorf("get k: %w", objectlog.ErrNotFound), objectlog.ErrExists, objectlog.ErrRange, nil, nil}
	for i, bound := range []time.Duration{500 * ms, 250 * ms, 125 * ms, 62*ms + ms/2, 0, 0} {
		p.Answered(answers[i])
		p.wantBound(t, fmt.Sprintf("after %d good answers", i+1), bound)
	}
	p.Answered(throttled)
	p.wantBound(t, "throttled again", 50*ms)
	if n := p.Throttled(); n != 8 {
		t.Errorf("%d throttled answers, want 8", n)
	}
}

func TestErrorsThatAreNoAnswerChangeNothing(t *testing.T) {
	p := newProbe()
	noAnswers := []error{io.ErrUnexpectedEOF, context.Canceled, context.DeadlineExceeded}
	for _, err := range noAnswers {
		p.Answered(err)
		p.wantBound(t, "open gate, "+err.Error(), 0)
	}
	p.Answered(objectlog.ErrThrottled)
	for _, err := range noAnswers {
		p.Answered(err)
		p.wantBound(t, "closed gate, "+err.Error(), 50*time.Millisecond)
	}
	if n := p.Throttled(); n != 1 {
		t.Errorf("%d throttled answers, want 1", n)
	}
}

func TestPassEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := throttle.NewGate(func() uint64 { return uint64(40 * time.Millisecond) }, retry.Sleep)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Pass(ended); !errors.Is(err, context.Canceled) || errors.Is(err, objectlog.ErrThrottled) {
			t.Errorf("open gate, ended context: %v, want context.Canceled alone", err)
		}
		g.Answered(objectlog.ErrThrottled)
		if err := g.Pass(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("closed gate, ended context: %v, want context.Canceled", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := g.Pass(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectlog.ErrThrottled) || time.Since(start) != 30*time.Millisecond {
			t.Errorf("%v after %s, want the deadline and why it was not met after 30ms", err, time.Since(start))
		}
	})
}

// TestWaitingRequestsAreReleasedOneByOne opens the gate while requests wait at it: each goes at its own time all the same, within the
// longest pause.
func TestWaitingRequestsAreReleasedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(1, 2))
		g := throttle.NewGate(func() uint64 {
			mu.Lock()
			defer mu.Unlock()
			return random.Uint64()
		}, retry.Sleep)
		for range 20 {
			g.Answered(objectlog.ErrThrottled)
		}
		const requests, tenths = 200, 10
		start := time.Now()
		var released [tenths]int
		instants := map[time.Duration]bool{}
		var all sync.WaitGroup
		for range requests {
			all.Go(func() {
				if err := g.Pass(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				at := time.Since(start)
				if at >= time.Second {
					t.Errorf("a request waited %s, want less than 1s", at)
					return
				}
				instants[at] = true
				released[at*tenths/time.Second]++
			})
		}
		synctest.Wait() // all are waiting
		for range 10 {
			g.Answered(nil)
		}
		if err := g.Pass(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %s, want the open gate passed at once", err, time.Since(start))
		}
		all.Wait()
		if len(instants) != requests {
			t.Errorf("%d requests were released at %d instants", requests, len(instants))
		}
		for i, n := range released {
			if n < requests/tenths/2 || n > requests/tenths*2 {
				t.Errorf("%d of %d requests were released in tenth %d of the second, want them spread evenly", n, requests, i)
			}
		}
	})
}
