// Package s3 is a Bucket on an S3-compatible object store: Amazon S3, MinIO, and whatever else honours If-None-Match on a PUT.
//
// minio-go builds, signs and decodes the requests. What came of a request is judged by exchange, below the SDK: the SDK takes more
// statuses for success than the contract of Put allows, and any XML for an empty list, waits and repeats on its own, and loses the causes of
// network errors. So it is shown nothing but successes and one answer on which it gives up at once, and the methods here ask the exchange.
//
// One Put is one HTTP request up to 64 MiB. The payload is not part of the signature, over plain HTTP too: hashing it with SHA-256 would cost
// more than everything else that the client does. A CRC32C that the store verifies stands in for it. Nonce, and CRC32C once more, are kept as
// user metadata, because every store keeps those, and answers them in a HEAD, while the checksum of an object in parts is a matter of taste.
//
// Not promised: anything with a store that a self-test of Check finds wanting, and keys of which one is the other's folder ("a" and
// "a/b"), which MinIO refuses.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

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

	Transport http.RoundTripper // nil: the package's own
	Usage     *usage.Counter    // counts every request that is sent; nil: nobody counts
}

// Bucket is a Bucket on an S3-compatible object store.
type Bucket struct {
	name   string
	region string
	host   string // of the endpoint, for people
	sdk    minio.Core
	chain  *chain

	singleMax, partBytes int // usually the constants of their names; less in tests
}

var _ objectlog.Bucket = (*Bucket)(nil)

// Open prepares the client. It sends nothing: Check does.
func Open(cfg Config) (*Bucket, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	endpoint, secure := "s3.amazonaws.com", true // the SDK finds the region's own host
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil {
			return nil, err
		}
		endpoint, secure = u.Host, u.Scheme == "https"
	}
	transport := cfg.Transport
	if transport == nil {
		transport = newPaced(answerMax)
	}
	style := minio.BucketLookupDNS
	if cfg.PathStyle {
		style = minio.BucketLookupPath
	}
	chain := newChain(time.Now)
	sdk, err := minio.NewCore(endpoint, &minio.Options{
		Creds: credentials.New(chain), Secure: secure, Region: cfg.Region, BucketLookup: style,
		Transport:  &wire{next: transport, usage: cfg.Usage},
		MaxRetries: 1, // attempts
	})
	if err != nil {
		return nil, err
	}
	sdk.SetS3EnableDualstack(false) // the plain host of the region: what VPC endpoints and allow-lists expect
	return &Bucket{name: cfg.Bucket, region: cfg.Region, host: endpoint, sdk: *sdk, chain: chain, singleMax: singleMax, partBytes: partBytes}, nil
}

// Create makes the bucket; one that exists and is ours is no error. For first steps and tests: in production people make buckets.
func (b *Bucket) Create(ctx context.Context) error {
	err := b.do(ctx, &exchange{kind: createBucket}, func(ctx context.Context) error {
		return b.sdk.MakeBucket(ctx, b.name, minio.MakeBucketOptions{Region: b.region})
	})
	if r := (*refusal)(nil); errors.As(err, &r) && r.code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	return err
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	err := b.do(ctx, &exchange{kind: remove, key: key}, func(ctx context.Context) error {
		return b.sdk.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{})
	})
	if errors.Is(err, objectlog.ErrNotFound) {
		return nil
	}
	return err
}

// do runs one call of the SDK and answers what really came of it. The error, if any, names the operation and the object.
func (b *Bucket) do(ctx context.Context, x *exchange, call func(ctx context.Context) error) error {
	err := b.chain.ready(ctx)
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience(x.bytes), func() { cancel(errHung) })
	defer timer.Stop()
	x.extend = func(bytes int64) { timer.Reset(patience(bytes)) }
	if err == nil {
		err = call(context.WithValue(bounded, exchangeKey{}, x))
	}
	if x.err != nil {
		err = x.err
	}
	if err == nil && x.header == nil {
		err = cmp.Or(ctx.Err(), errUnanswered)
	}
	if err == nil {
		return nil
	}
	if context.Cause(bounded) == errHung && !errors.Is(err, errHung) {
		err = fmt.Errorf("%w: %v", errHung, err) // not with %w: the caller's context has not ended
	}
	return b.explain(ctx, x, err)
}

var (
	errHung = errors.New("the store did not answer in time")
	// errUnanswered: the SDK takes for a success what no answer of the store says.
	errUnanswered = errors.New("nothing was sent")
)

// patience bounds one request, connecting and body included. A store that has hung, or a network that swallows packets, is noticed by
// nobody else: TCP waits for a quarter of an hour. The time by size allows for a link of half a megabit a second.
func patience(bytes int64) time.Duration {
	const perKiB = 16 * time.Second >> 10
	return answerMax + time.Duration(bytes>>10)*perKiB
}

// answerMax is how long a store may take for what has no size, and how long a connection may take in no more of a body. MinIO on a disk
// that is busy with other things was seen to take several seconds. A put that is given up too early is sent again and found, so too short
// costs requests; too long costs an outage that goes on when the store is back, since all connections wait for answers that never come.
const answerMax = 8 * time.Second

// location names an object, or the bucket, for people.
func (b *Bucket) location(key string) string { return strings.TrimSuffix("s3://"+b.name+"/"+key, "/") }
