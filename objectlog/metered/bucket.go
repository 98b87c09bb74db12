// Package metered counts the requests of a Bucket: how many, how large, how long, by method and outcome. The counts are plain values;
// whoever runs the process exports them. Meter serves metadata/metered too.
package metered

import (
	"context"
	"errors"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Bucket is the decorator.
type Bucket struct {
	bucket objectlog.Bucket
	meter  *Meter
}

// New wraps the bucket; now is the clock.
func New(bucket objectlog.Bucket, now func() time.Time) *Bucket {
	answers := map[string][]string{
		"put": {"ok", "exists"}, "get": {"ok", "not_found", "range"}, "list": {"ok"}, "delete": {"ok"}, "stat": {"ok", "not_found"},
	}
	var labels []Labels
	for op, outcomes := range answers {
		for _, outcome := range append(outcomes, "cancelled", "error") {
			labels = append(labels, Labels{op, outcome})
		}
	}
	return &Bucket{bucket, NewMeter(now, labels)}
}

// Snapshot answers the counts so far. Outcomes: ok, exists, not_found, range; cancelled when the caller's context ended first; else error.
func (b *Bucket) Snapshot() []Series { return b.meter.Snapshot() }

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	end := b.meter.Start()
	err := b.bucket.Put(ctx, key, body, nonce)
	end(Labels{"put", outcome(err, objectlog.ErrExists)}, len(body))
	return err
}

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	end := b.meter.Start()
	part, err := b.bucket.Get(ctx, key, extent)
	end(Labels{"get", outcome(err, objectlog.ErrNotFound, objectlog.ErrRange)}, len(part))
	return part, err
}

// List implements objectlog.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) ([]objectlog.ObjectInfo, error) {
	end := b.meter.Start()
	infos, err := b.bucket.List(ctx, prefix, after, limit)
	end(Labels{"list", outcome(err)}, 0)
	return infos, err
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	end := b.meter.Start()
	err := b.bucket.Delete(ctx, key)
	end(Labels{"delete", outcome(err)}, 0)
	return err
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (objectlog.ObjectInfo, error) {
	end := b.meter.Start()
	info, err := b.bucket.Stat(ctx, key)
	end(Labels{"stat", outcome(err, objectlog.ErrNotFound)}, 0)
	return info, err
}

// outcome is the label of err; answers are the errors by which this method answers. Any other one of the contract's is a store out of
// order, so it counts as an error.
func outcome(err error, answers ...error) string {
	if err == nil {
		return "ok"
	}
	for _, answer := range answers {
		if errors.Is(err, answer) {
			return label(answer)
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return "cancelled"
	}
	return "error"
}

func label(answer error) string {
	switch answer {
	case objectlog.ErrExists:
		return "exists"
	case objectlog.ErrNotFound:
		return "not_found"
	}
	return "range"
}
