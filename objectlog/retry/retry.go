// Package retry repeats the failed requests of a Bucket, within a budget that all users of one Budget share. Every request of a Bucket may be
// repeated: a put because the same key, body and nonce decide what became of the first attempt, the others because they change nothing or
// are idempotent.
//
// Policy serves metadata/retry too, so that one process has one budget for all its stores.
package retry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Budget bounds the retries of a process. Each retry takes one token, each success gives a tenth back. So a store that fails now and then
// is retried at once, while in an outage the load grows by the initial tokens once and then by a tenth of what still succeeds, not by a
// multiple.
type Budget struct {
	mu     sync.Mutex
	tenths int // in [0, max]
	max    int
}

const tenthsPerToken = 10

// NewBudget is a full budget of so many tokens.
func NewBudget(tokens int) *Budget {
	return &Budget{tenths: tokens * tenthsPerToken, max: tokens * tenthsPerToken}
}

func (b *Budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tenths < tenthsPerToken {
		return false
	}
	b.tenths -= tenthsPerToken
	return true
}

func (b *Budget) give() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tenths = min(b.tenths+1, b.max)
}

// Policy says how a request is repeated. All fields are wanted.
type Policy struct {
	Budget   *Budget
	Attempts int           // at most, the first included; 1 means no retry
	Base     time.Duration // the first pause is a random part of it; each further one is a random part of twice as much
	PauseMax time.Duration // bounds what the pauses grow to
	// Sleep waits for d or until ctx ends, which it answers with ctx's error. Sleep of this package is the usual one.
	Sleep func(ctx context.Context, d time.Duration) error
	// Random gives 64 random bits.
	Random func() uint64
}

// Validate reports every field that is out of its range.
func (p Policy) Validate() error {
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("retry policy: "+what))
		}
	}
	check(p.Budget != nil, "no budget")
	check(p.Attempts >= 1 && p.Attempts <= 100, fmt.Sprintf("%d attempts are not in 1 to 100", p.Attempts))
	check(p.Base > 0, fmt.Sprintf("base %s is not above 0", p.Base))
	check(p.PauseMax >= p.Base, fmt.Sprintf("the longest pause, %s, is below the base, %s", p.PauseMax, p.Base))
	check(p.Sleep != nil, "no sleep")
	check(p.Random != nil, "no random")
	return errors.Join(errs...)
}

// Do calls f until it answers nil or an error that final judges to be the answer, and at most until the attempts, the budget or ctx end.
// It answers f's last error; one that ctx's end cut short says so too.
func (p Policy) Do(ctx context.Context, final func(error) bool, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || final(err) {
			p.Budget.give() // the store is alive: it answered
			return err
		}
		if ctx.Err() != nil || attempt >= p.Attempts || !p.Budget.take() {
			return err
		}
		if ended := p.Sleep(ctx, p.pause(attempt)); ended != nil {
			return fmt.Errorf("%w; then %w before attempt %d", err, ended, attempt+1)
		}
	}
}

// pause is random over the whole of [0, bound), so that clients which failed together do not come back together.
func (p Policy) pause(attempt int) time.Duration {
	bound := p.Base
	for range attempt - 1 {
		if bound >= p.PauseMax/2 {
			bound = p.PauseMax
			break
		}
		bound *= 2
	}
	return time.Duration(p.Random() % uint64(bound))
}

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Bucket is the decorator.
type Bucket struct {
	bucket objectlog.Bucket
	policy Policy
}

// New wraps the bucket. The policy is valid.
func New(bucket objectlog.Bucket, policy Policy) *Bucket { return &Bucket{bucket, policy} }

// final: the store has answered, and would answer the same again.
func final(err error) bool {
	return errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrExists) || errors.Is(err, objectlog.ErrRange)
}

// Put implements objectlog.Bucket. ErrExists after a lost reply is another's object: an own one is recognised below, by its nonce. An error
// leaves the outcome unknown, as without the decorator.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	return b.policy.Do(ctx, final, func() error { return b.bucket.Put(ctx, key, body, nonce) })
}

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) (part []byte, err error) {
	err = b.policy.Do(ctx, final, func() error {
		part, err = b.bucket.Get(ctx, key, extent)
		return err
	})
	return part, err
}

// List implements objectlog.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) (infos []objectlog.ObjectInfo, err error) {
	err = b.policy.Do(ctx, final, func() error {
		infos, err = b.bucket.List(ctx, prefix, after, limit)
		return err
	})
	return infos, err
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.policy.Do(ctx, final, func() error { return b.bucket.Delete(ctx, key) })
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (info objectlog.ObjectInfo, err error) {
	err = b.policy.Do(ctx, final, func() error {
		info, err = b.bucket.Stat(ctx, key)
		return err
	})
	return info, err
}
