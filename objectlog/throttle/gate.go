package throttle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	// boundMin is where the pauses begin: half of it on average, which one throttled answer in a busy second does not make anybody notice.
	boundMin = 50 * time.Millisecond
	// boundMax is well below the time that callers give a request, so one that waits is still sent; and below that of a lease, within which
	// a leader wants to append something.
	boundMax = time.Second
)

// Gate holds requests back while their store is throttling. It is shared by all requests to one store.
//
// Each request waits a time of its own, drawn when it comes from all of [0, bound), and then goes, whatever the gate has become meanwhile.
// So there is no queue, nothing that waits is let go together, and no request waits longer than boundMax. Whoever sends one request after the
// other is slowed down by it; a throttled answer doubles the bound, any other answer halves it.
type Gate struct {
	random func() uint64
	sleep  func(context.Context, time.Duration) error

	throttled atomic.Uint64

	mu    sync.Mutex
	bound time.Duration // of a pause: 0 while the gate is open, else in [boundMin, boundMax]
}

// NewGate is an open gate. Random and sleep are as in objectlog/retry.
func NewGate(random func() uint64, sleep func(context.Context, time.Duration) error) *Gate {
	return &Gate{random: random, sleep: sleep}
}

// Throttled is how many answers said that requests are too many.
func (g *Gate) Throttled() uint64 { return g.throttled.Load() }

// Pass waits until a request may be sent, or ctx ends: then it answers ctx's error, and ErrThrottled too if it was waiting, and nothing was
// sent.
func (g *Gate) Pass(ctx context.Context) error {
	g.mu.Lock()
	bound := g.bound
	g.mu.Unlock()
	if bound > 0 {
		if err := g.sleep(ctx, time.Duration(g.random()%uint64(bound))); err != nil {
			return fmt.Errorf("%w: %w", objectlog.ErrThrottled, err)
		}
	}
	return ctx.Err()
}

// Answered notes the error, or nil, with which the store answered. An error that is no answer of the store, such as a cut connection, says
// nothing about its load and changes nothing.
func (g *Gate) Answered(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case errors.Is(err, objectlog.ErrThrottled):
		g.throttled.Add(1)
		g.bound = min(max(2*g.bound, boundMin), boundMax)
	case err == nil, errors.Is(err, objectlog.ErrNotFound), errors.Is(err, objectlog.ErrExists), errors.Is(err, objectlog.ErrRange):
		if g.bound /= 2; g.bound < boundMin {
			g.bound = 0
		}
	}
}
