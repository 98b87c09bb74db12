// Package throttle slows down the requests to a Bucket while it answers that they are too many. Gate serves metadata/throttle too.
package throttle

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Gate holds requests back while their store is throttling. It is shared by all requests to one store.
type Gate struct{}

// NewGate is an open gate. Random and sleep are as in objectlog/retry.
func NewGate(random func() uint64, sleep func(context.Context, time.Duration) error) *Gate {
	panic("objectlog/throttle: to be written")
}

// Throttled is how many answers said that requests are too many.
func (g *Gate) Throttled() uint64 { panic("objectlog/throttle: to be written") }

// Pass waits until a request may be sent, or ctx ends: then it answers ctx's error, and nothing was sent.
func (g *Gate) Pass(ctx context.Context) error { panic("objectlog/throttle: to be written") }

// Answered notes the error, or nil, with which the store answered.
func (g *Gate) Answered(err error) { panic("objectlog/throttle: to be written") }

// Bucket is the decorator.
type Bucket struct{}

// New wraps the bucket.
func New(bucket objectlog.Bucket, gate *Gate) *Bucket { panic("objectlog/throttle: to be written") }
