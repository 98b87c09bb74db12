package client

import (
	"errors"
	"time"
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
