package hedge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/hedge"
	"github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
)

const ms = time.Millisecond

// attempt is how the store treats one attempt of a put.
type attempt struct {
	takes    time.Duration
	err      error         // answered then, and nothing is stored; nil stores the object
	stubborn time.Duration // how long the body is still read after the attempt was cancelled
}

var hangs = attempt{takes: 24 * time.Hour}

// store is a bucket that takes its time. script answers what happens to the nth attempt, from 1, to put the key; nil is 100 ms.
type store struct {
	mem.Bucket
	script func(key string, n int) attempt

	mu      sync.Mutex
	sent    map[string][]time.Time // when each attempt came, by key
	running int
}

func (s *store) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	s.mu.Lock()
	if s.sent == nil {
		s.sent = map[string][]time.Time{}
	}
	s.sent[key] = append(s.sent[key], time.Now())
	a := attempt{takes: 100 * ms}
	if s.script != nil {
		a = s.script(key, len(s.sent[key]))
	}
	s.running++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}()
	timer := time.NewTimer(a.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		timer.Reset(a.stubborn)
		<-timer.C
		s.Bucket.Put(context.WithoutCancel(ctx), key, body, nonce) // as a store that got the body before the connection was closed
		return fmt.Errorf("put %s: %w", key, ctx.Err())
	}
	if a.err != nil {
		return fmt.Errorf("put %s: %w", key, a.err)
	}
	return s.Bucket.Put(ctx, key, body, nonce)
}

// attempts are the times after start at which the key's attempts came.
func (s *store) attempts(key string, start time.Time) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var after []time.Duration
	for _, at := range s.sent[key] {
		after = append(after, at.Sub(start))
	}
	return after
}

// wantIdle checks that no attempt is running.
func (s *store) wantIdle(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != 0 {
		t.Errorf("put returned while %d attempts read its body", s.running)
	}
}

// warm makes n puts of bodies of 10 bytes, all at once, which take 100 ms each, and goes on with the script.
func warm(t *testing.T, n int, script func(key string, n int) attempt) (*store, *hedge.Bucket) {
	t.Helper()
	s := new(store)
	b := hedge.New(s, time.Now)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := b.Put(t.Context(), fmt.Sprintf("warm/%d", i), make([]byte, 10), objectlog.UUID{1}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.script = script
	return s, b
}

// put is one put of 10 bytes and how long it took.
func put(ctx context.Context, b objectlog.Bucket) (took time.Duration, err error) {
	start := time.Now()
	err = b.Put(ctx, "k", []byte("0123456789"), objectlog.UUID{2})
	return time.Since(start), err
}

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return hedge.New(new(mem.Bucket), time.Now) })
}

func TestSlowPutIsSentAgainAfterTheP95(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := warm(t, 20, func(_ string, n int) attempt {
			return []attempt{hangs, {takes: 30 * ms}}[n-1]
		})
		start := time.Now()
		took, err := put(t.Context(), b)
		if err != nil || took != 130*ms || b.Hedged() != 1 {
			t.Errorf("%v after %s, %d hedged, want nil after the p95, 100ms, and another 30ms", err, took, b.Hedged())
		}
		if at := s.attempts("k", start); len(at) != 2 || at[1] != 100*ms {
			t.Errorf("attempts at %v, want the second at 100ms", at)
		}
		s.wantIdle(t)
		if got, err := b.Get(t.Context(), "k", objectlog.Extent{}); err != nil || !bytes.Equal(got, []byte("0123456789")) {
			t.Errorf("stored: %q, %v", got, err)
		}
	})
}

func TestPutIsSentOnce(t *testing.T) {
	fails := attempt{takes: 70 * ms, err: mem.ErrInjected}
	for _, test := range []struct {
		name  string
		warm  int
		first attempt
		bytes int
		ctx   time.Duration
		err   error
		took  time.Duration
	}{
		{"when there are too few samples", 19, attempt{takes: time.Hour}, 10, 0, nil, time.Hour},
		{"when those of its size are too few", 100, attempt{takes: time.Hour}, 5000, 0, nil, time.Hour},
		{"when it is fast", 100, attempt{takes: 99 * ms}, 10, 0, nil, 99 * ms},
		{"when it fails before", 100, fails, 10, 0, mem.ErrInjected, 70 * ms},
		{"when its context ends before", 100, hangs, 10, 90 * ms, context.DeadlineExceeded, 90 * ms},
		{"when its context ends at that time", 100, attempt{takes: time.Hour, stubborn: time.Second}, 10, 100*ms - 1, context.DeadlineExceeded, 1100*ms - 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := warm(t, test.warm, func(string, int) attempt { return test.first })
				ctx := t.Context()
				if test.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.ctx)
					defer cancel()
				}
				start := time.Now()
				err := b.Put(ctx, "k", make([]byte, test.bytes), objectlog.UUID{2})
				if took := time.Since(start); !errors.Is(err, test.err) || took != test.took {
					t.Errorf("%v after %s, want %v after %s", err, took, test.err, test.took)
				}
				if at := s.attempts("k", start); len(at) != 1 || b.Hedged() != 0 {
					t.Errorf("attempts at %v, %d hedged, want one attempt", at, b.Hedged())
				}
			})
		})
	}
}

// TestFastStoreIsHardlyHedged has puts of 1 ms, so that its p95 would call for a second request at once.
func TestFastStoreIsHardlyHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{script: func(string, int) attempt { return attempt{takes: ms} }}
		b := hedge.New(s, time.Now)
		for i := range 100 {
			b.Put(t.Context(), fmt.Sprintf("fast/%d", i), nil, objectlog.UUID{1})
		}
		s.script = func(key string, n int) attempt { return []attempt{{takes: 49 * ms}, hangs, {takes: ms}}[n-1] }
		start := time.Now()
		put(t.Context(), b)
		put(t.Context(), b)
		if at := s.attempts("k", start); len(at) != 3 || at[1] != 49*ms || at[2] != 99*ms {
			t.Errorf("attempts at %v, want one of a put that took 49ms, and the second of one that hangs after 50ms", at)
		}
	})
}

// TestLoserIsWaitedFor lets the losing attempt read the body for a while after it was cancelled.
func TestLoserIsWaitedFor(t *testing.T) {
	loses := attempt{takes: time.Hour, stubborn: 3 * time.Second}
	for name, attempts := range map[string][]attempt{
		"the first":  {loses, {takes: 30 * ms}},
		"the second": {{takes: 130 * ms}, loses},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := warm(t, 20, func(_ string, n int) attempt { return attempts[n-1] })
				body := []byte("0123456789")
				start := time.Now()
				err := b.Put(t.Context(), "k", body, objectlog.UUID{2})
				s.wantIdle(t)
				clear(body) // it is the caller's again
				if took := time.Since(start); err != nil || took != 3130*ms || b.Hedged() != 1 {
					t.Errorf("%v after %s, %d hedged, want nil after 3.13s", err, took, b.Hedged())
				}
				synctest.Wait()
				if got, _ := b.Get(t.Context(), "k", objectlog.Extent{}); string(got) != "0123456789" {
					t.Errorf("stored: %q", got)
				}
			})
		})
	}
}

func TestOutcomeIsThatOfBothAttempts(t *testing.T) {
	other := errors.New("another cause")
	fails := func(takes time.Duration, err error) attempt { return attempt{takes: takes, err: err} }
	for _, test := range []struct {
		name   string
		first  attempt
		second attempt
		took   time.Duration
		want   []error // all of them
		not    error
	}{
		{"the first fails, the second succeeds", fails(120*ms, other), attempt{takes: 70 * ms}, 170 * ms, nil, nil},
		{"the second fails, the first succeeds", attempt{takes: 170 * ms}, fails(20*ms, other), 170 * ms, nil, nil},
		{"the first fails, then the second", fails(120*ms, other), fails(70*ms, mem.ErrInjected), 170 * ms, []error{other, mem.ErrInjected}, nil},
		{"the second fails, then the first", fails(170*ms, other), fails(20*ms, mem.ErrInjected), 170 * ms, []error{other, mem.ErrInjected}, nil},
		{"the first finds another's object", fails(120*ms, objectlog.ErrExists), hangs, 120 * ms, []error{objectlog.ErrExists}, context.Canceled},
		{"the second finds another's object", hangs, fails(20*ms, objectlog.ErrExists), 120 * ms, []error{objectlog.ErrExists}, context.Canceled},
		{"unknown, then another's object", fails(120*ms, other), fails(70*ms, objectlog.ErrExists), 170 * ms, []error{objectlog.ErrExists}, other},
		{"another's object after unknown", fails(170*ms, objectlog.ErrExists), fails(20*ms, other), 170 * ms, []error{objectlog.ErrExists}, other},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := warm(t, 20, func(_ string, n int) attempt { return []attempt{test.first, test.second}[n-1] })
				took, err := put(t.Context(), b)
				s.wantIdle(t)
				if took != test.took || (err == nil) != (test.want == nil) || (test.not != nil && errors.Is(err, test.not)) {
					t.Errorf("%v after %s, want %v after %s", err, took, test.want, test.took)
				}
				for _, want := range test.want {
					if !errors.Is(err, want) {
						t.Errorf("%v, want %v in it", err, want)
					}
				}
			})
		})
	}
}

func TestEndedContextEndsBothAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := warm(t, 20, func(string, int) attempt { return hangs })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		took, err := put(ctx, b)
		s.wantIdle(t)
		if !errors.Is(err, context.DeadlineExceeded) || took != time.Second || b.Hedged() != 1 {
			t.Errorf("%v after %s, %d hedged, want the deadline after 1s", err, took, b.Hedged())
		}
	})
}
