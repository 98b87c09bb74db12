// Package s3 is a Bucket on an S3-compatible object store.
package s3

import (
	"context"
	"net/http"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// Config says where the bucket is and how it is reached.
type Config struct {
	Bucket   string
	Endpoint string // http://host:port or https://host:port; empty: Amazon S3 of the region
	Region   string // default us-east-1 with an endpoint; without one it is wanted
	// PathStyle puts the bucket's name into the path of requests, else into the host's name. Default of ParseAddress: path with an
	// endpoint, host without.
	PathStyle bool

	Transport http.RoundTripper // nil: one of the package's own
	Usage     *usage.Counter    // counts every request that is sent; nil: nobody counts
}

// ParseAddress reads s3://bucket/prefix?endpoint=URL&region=NAME&style=path|host. The prefix of keys, which may be empty, is the caller's.
func ParseAddress(address string) (cfg Config, prefix string, err error) {
	panic("objectlog/s3: to be written")
}

// Bucket is a Bucket on an S3-compatible object store.
type Bucket struct{}

// Open prepares the client. It sends nothing: Check does.
func Open(cfg Config) (*Bucket, error) { panic("objectlog/s3: to be written") }

// Create makes the bucket; one that exists and is ours is no error. For first steps and tests: in production people make buckets.
func (b *Bucket) Create(ctx context.Context) error { panic("objectlog/s3: to be written") }

// Check finds out, before anything depends on it, whether the bucket is fit for a cluster under the prefix. The error names every problem
// and what to do about it.
func (b *Bucket) Check(ctx context.Context, prefix string) error {
	panic("objectlog/s3: to be written")
}

var _ objectlog.Bucket = (*Bucket)(nil)

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	panic("objectlog/s3: to be written")
}

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	panic("objectlog/s3: to be written")
}

// List implements objectlog.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) ([]objectlog.ObjectInfo, error) {
	panic("objectlog/s3: to be written")
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error { panic("objectlog/s3: to be written") }

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (objectlog.ObjectInfo, error) {
	panic("objectlog/s3: to be written")
}
