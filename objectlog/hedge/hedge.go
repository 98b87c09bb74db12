// Package hedge sends a slow PUT of a Bucket a second time, once it has taken longer than most.
//
// That is safe because the same key, body and nonce may be put any number of times. The attempt that loses is cancelled and may land later
// still, as any put of unknown outcome; keys are not used again, so it lands as the same object or is the same object already.
package hedge

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	// putsPerHedge bounds the extra requests: each put earns this part of a hedge, from the first put on, so that at any time at most one
	// put in twenty was sent twice.
	putsPerHedge = 20
	// burstMax is how many earned hedges are kept. In an outage every put is slow: then the load grows by these two at once, enough for the
	// few uploads of one agent that a stalled connection holds up together, and by a twentieth from there on, however long all was well before.
	burstMax = 2
	// delayMin is the least time after which a put is sent again. A record waits as long for its flush, so who wins less than this wins
	// nothing that shows, and a second body costs processor time and a request. It keeps healthy stores that are close by, where the p95
	// is a matter of scheduling, at hardly any hedge.
	delayMin = 50 * time.Millisecond
)

// Bucket is the decorator. Only Put differs from the wrapped bucket's.
type Bucket struct {
	objectlog.Bucket
	now func() time.Time

	hedged atomic.Uint64

	mu      sync.Mutex
	classes [classes]window
	earned  int // in puts, in [0, burstMax*putsPerHedge]
}

// New wraps the bucket; now is the clock.
func New(bucket objectlog.Bucket, now func() time.Time) *Bucket {
	return &Bucket{Bucket: bucket, now: now}
}

// Hedged is how many PUTs were sent a second time so far.
func (b *Bucket) Hedged() uint64 { return b.hedged.Load() }

// Put implements objectlog.Bucket. When it has taken longer than 95 % of the recent puts of its size it is sent again; the first answer
// counts. The other attempt is cancelled and waited for, because it reads body.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	class, start := classOf(len(body)), b.now()
	put := func(ctx context.Context) error { return b.Bucket.Put(ctx, key, body, nonce) }
	var err error
	if delay, known := b.begin(class); known {
		err = b.race(ctx, delay, put)
	} else {
		err = put(ctx)
	}
	if err == nil {
		b.note(class, b.now().Sub(start))
	}
	return err
}

// begin counts the put and says when it is to be sent again, unless that is not known yet.
func (b *Bucket) begin(class int) (delay time.Duration, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.earned = min(b.earned+1, burstMax*putsPerHedge)
	delay, known = b.classes[class].p95()
	return max(delay, delayMin), known
}

// race runs the put, and a second time from delay on if it has not answered by then. When it returns, neither attempt is running.
func (b *Bucket) race(ctx context.Context, delay time.Duration, put func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	attempt := func() error {
		err := put(ctx)
		if err == nil || errors.Is(err, objectlog.ErrExists) {
			end() // this is the answer: the other attempt has nothing to add
		}
		return err
	}
	var second error
	sent, done := false, make(chan struct{})
	timer := time.AfterFunc(delay, func() {
		defer close(done)
		if sent = ctx.Err() == nil && b.take(); sent {
			second = attempt()
		}
	})
	first := attempt()
	if timer.Stop() {
		return first
	}
	<-done
	if !sent {
		return first
	}
	return outcome(first, second)
}

// outcome is what two attempts of one put say together. A success is one, whatever became of the other. ErrExists says for certain that the
// key is another's, also when the other attempt learned nothing. Two that learned nothing leave the outcome unknown.
func outcome(first, second error) error {
	switch {
	case first == nil, second == nil:
		return nil
	case errors.Is(first, objectlog.ErrExists):
		return first
	case errors.Is(second, objectlog.ErrExists):
		return second
	}
	return fmt.Errorf("%w; sent again meanwhile: %w", first, second)
}

// take spends an earned hedge, if there is one.
func (b *Bucket) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.earned < putsPerHedge {
		return false
	}
	b.earned -= putsPerHedge
	b.hedged.Add(1)
	return true
}

// note keeps the time from the start of the put to its success, whichever attempt had it. For one that was hedged this is less than the
// first attempt would have taken, but not less than the delay, so it stays among the slowest 5 % and the p95 is what it would be without
// hedges. The second attempt's own time would pull the p95 down, and with it the delay, hedge by hedge. A put that failed tells nothing
// about how long one takes.
func (b *Bucket) note(class int, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.classes[class].add(took)
}

// Classes of sizes are powers of 4 from 1 KiB on: within one, the size changes the time of a put less than chance does.
const (
	smallestBits = 10
	classes      = 10 // the last is from 64 MiB on
)

func classOf(bodyBytes int) int {
	return min(max(bits.Len(uint(bodyBytes))-smallestBits+1, 0)/2, classes-1)
}
