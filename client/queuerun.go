package client

import (
	"context"
	"errors"
	"fmt"
)

// Run hands records to fn until ctx ends, or Close. A nil of fn accepts the record; an error releases it, with its text, to come again behind ReleaseDelay; one of
// Rejected rejects it.
func (q *Queue) Run(ctx context.Context, fn func(context.Context, *QueuedRecord) error) error {
	for {
		records, err := q.Pull(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("run queue: %w", err)
		}
		for _, r := range records {
			switch failed := fn(ctx, r); {
			case failed == nil:
				err = q.Accept(ctx, r)
			case isRejected(failed):
				err = q.Reject(ctx, failed.Error(), r)
			default:
				err = q.Release(ctx, q.cfg.ReleaseDelay, failed.Error(), r)
			}
			if err != nil && !errors.Is(err, ErrNotLocked) && !errors.Is(err, ErrUnknownOutcome) {
				return fmt.Errorf("run queue: %w", err)
			}
		}
	}
}
