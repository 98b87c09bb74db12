package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/client/member"
)

// RetryPolicy is what Run of a Consumer does with a record on which its handler fails. Zero values are the defaults named here.
type RetryPolicy struct {
	// Attempts is how often a record is tried, the first time included, before it becomes a dead letter; default 5, 1 to 1,000.
	Attempts int
	// Backoff is the wait before the second attempt, and doubles with each; default 100 ms, 1 ms to 1 h.
	Backoff time.Duration
	// BackoffMax bounds it; default 10 s, or Backoff if that is more; at most 1 h.
	BackoffMax time.Duration
	// DeadLetterTopic is where dead letters go; default the record's topic with "-dlq" behind it. It is made when it is needed.
	DeadLetterTopic string
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	setDefault(&p.Attempts, 5)
	setDefault(&p.Backoff, 100*time.Millisecond)
	setDefault(&p.BackoffMax, max(10*time.Second, p.Backoff))
	return p
}

func (p RetryPolicy) validate() []error {
	p = p.withDefaults()
	return []error{
		within("Retry.Attempts", p.Attempts, 1, 1000),
		within("Retry.Backoff", p.Backoff, time.Millisecond, time.Hour),
		within("Retry.BackoffMax", p.BackoffMax, p.Backoff, time.Hour),
	}
}

// wait is the time behind so many attempts.
func (p RetryPolicy) wait(attempts int) time.Duration {
	return min(p.Backoff<<min(attempts-1, 20), p.BackoffMax)
}

// Rejected marks the error of a handler as one that no further attempt can cure: the record becomes a dead letter at once. Rejected(nil) is nil.
func Rejected(err error) error {
	if err == nil {
		return nil
	}
	return &rejected{err}
}

type rejected struct{ cause error }

func (r *rejected) Error() string { return r.cause.Error() }
func (r *rejected) Unwrap() error { return r.cause }

func isRejected(err error) bool {
	_, is := errors.AsType[*rejected](err)
	return is
}

// handle hands one record to fn, as often as the policy wants. Without done and an error the partition was lost, or moved by Seek.
func (c *Consumer) handle(ctx context.Context, fn func(context.Context, Record) error, r Record) (done bool, err error) {
	p := c.cfg.Retry
	var first time.Time
	for attempts := 1; ; attempts++ {
		err := fn(ctx, r)
		// What fails because ctx ends was not tried.
		if err == nil || p == nil || ctx.Err() != nil {
			return err == nil, err
		}
		setDefault(&first, time.Now())
		c.tell(member.Polling{}) // neither waits nor dead letters are work on the record
		last := attempts >= p.Attempts || isRejected(err)
		goOn := false
		if last {
			goOn, err = c.giveUp(ctx, r, attempts, first, err)
		} else {
			goOn, err = c.rest(ctx, p.wait(attempts))
		}
		c.tell(member.Polled{})
		if last || !goOn {
			return goOn, err
		}
	}
}

// rest waits between two attempts. Other partitions come and go meanwhile; it says whether the record's is still this consumer's, and where it was.
func (c *Consumer) rest(ctx context.Context, d time.Duration) (bool, error) {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case c.ctx.Err() != nil: // Poll says so
			return false, nil
		}
		if err := c.carryOut(context.WithoutCancel(ctx)); err != nil {
			return false, err
		}
		if !c.has() {
			return false, nil
		}
		select {
		case <-over.C:
			return true, nil
		case <-c.news: // of what else there is Poll looks at everything
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
	}
}

// has says whether the partition of the record in hand is still this consumer's, and where it was.
func (c *Consumer) has() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.current
	return h.cur != nil && h.cur.seeks == h.seeks && !h.cur.stopping && !h.cur.gone
}

// giveUp makes the record in hand a dead letter, and says whether it is one now. A refusal is an error: the record is not passed over.
func (c *Consumer) giveUp(ctx context.Context, r Record, attempts int, first time.Time, cause error) (bool, error) {
	g := GivenUp{
		Group: c.cfg.Group, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Committed: c.committed(), Attempts: attempts, FirstFailure: first,
		Error: cause.Error(), DeadLetterTopic: c.cfg.Retry.DeadLetterTopic,
	}
	maybe := false
	wait := time.Duration(0)
	for attempt := 0; ; attempt++ {
		if mine, err := c.rest(ctx, wait); !mine {
			return false, err
		}
		e, known := c.sendDeadLetter(ctx, g)
		if e == nil {
			return true, nil
		}
		maybe = maybe || !known
		// A topic that was deleted is taken away by the group.
		if !again(e) && !errors.Is(e, ErrUnknownTopic) {
			if maybe {
				e = unknownOutcome(g.op(), e)
			}
			return false, fmt.Errorf("%w; it became a dead letter for: %w", e, cause)
		}
		wait = c.c.cfg.delayAfter(attempt, e)
	}
}

// sendDeadLetter makes one attempt; known: nothing was done by it.
func (c *Consumer) sendDeadLetter(ctx context.Context, g GivenUp) (e *Error, known bool) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, err := c.c.deadLetters.SendDeadLetter(ctx, g.message())
	if err == nil {
		return nil, false
	}
	e = c.c.heed(errorOf(g.op(), err))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = e
	return e, e.definite || neverSent(err)
}

// committed is what the group has committed of the partition of the record in hand, as far as known.
func (c *Consumer) committed() Offset {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.cur.committed
}
