// Package hedge sends a slow PUT of a Bucket a second time, once it has taken longer than most.
package hedge

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Bucket is the decorator. Only Put differs from the wrapped bucket's.
type Bucket struct{ objectlog.Bucket }

// New wraps the bucket; now is the clock.
func New(bucket objectlog.Bucket, now func() time.Time) *Bucket {
	panic("objectlog/hedge: to be written")
}

// Hedged is how many PUTs were sent a second time so far.
func (b *Bucket) Hedged() uint64 { panic("objectlog/hedge: to be written") }

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	panic("objectlog/hedge: to be written")
}
