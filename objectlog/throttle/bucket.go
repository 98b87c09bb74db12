// Package throttle slows down the requests to a Bucket while it answers that they are too many. Gate serves metadata/throttle too.
package throttle

import (
	"context"
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// Bucket is the decorator. A request whose context ended before it might be sent answers the error of Gate.Pass; of a Put, like every other
// error, it leaves the outcome unknown: an earlier attempt may have landed.
type Bucket struct {
	bucket objectlog.Bucket
	gate   *Gate
}

// New wraps the bucket.
func New(bucket objectlog.Bucket, gate *Gate) *Bucket { return &Bucket{bucket, gate} }

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	return b.send(ctx, "put", key, func() error { return b.bucket.Put(ctx, key, body, nonce) })
}

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) (part []byte, err error) {
	err = b.send(ctx, "get", key, func() error {
		part, err = b.bucket.Get(ctx, key, extent)
		return err
	})
	return part, err
}

// List implements objectlog.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) (infos []objectlog.ObjectInfo, err error) {
	err = b.send(ctx, "list", prefix, func() error {
		infos, err = b.bucket.List(ctx, prefix, after, limit)
		return err
	})
	return infos, err
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.send(ctx, "delete", key, func() error { return b.bucket.Delete(ctx, key) })
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (info objectlog.ObjectInfo, err error) {
	err = b.send(ctx, "stat", key, func() error {
		info, err = b.bucket.Stat(ctx, key)
		return err
	})
	return info, err
}

func (b *Bucket) send(ctx context.Context, op, key string, request func() error) error {
	if err := b.gate.Pass(ctx); err != nil {
		return fmt.Errorf("%s %s: not sent: %w", op, key, err)
	}
	err := request()
	b.gate.Answered(err)
	return err
}
