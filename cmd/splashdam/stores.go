package main

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/bolt"
	"github.com/splashdam/splashdam/metadata/dynamo"
	tablemetered "github.com/splashdam/splashdam/metadata/metered"
	tableretry "github.com/splashdam/splashdam/metadata/retry"
	tablethrottle "github.com/splashdam/splashdam/metadata/throttle"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
	"github.com/splashdam/splashdam/objectlog/hedge"
	"github.com/splashdam/splashdam/objectlog/metered"
	"github.com/splashdam/splashdam/objectlog/retry"
	"github.com/splashdam/splashdam/objectlog/s3"
	"github.com/splashdam/splashdam/objectlog/throttle"
	storeusage "github.com/splashdam/splashdam/objectlog/usage"
)

// bucketStore is a bucket as its address says, undecorated.
type bucketStore struct {
	objectlog.Bucket
	prefix string              // of every key
	usage  *storeusage.Counter // nil: its requests cost nothing
	remote *s3.Bucket          // nil: it is embedded, so it is fit and there by being opened
}

// tableStore is a table as its address says, undecorated.
type tableStore struct {
	metadata.Table
	usage  *storeusage.Counter // nil: its requests cost nothing
	remote *dynamo.Table       // nil: it is embedded
	close  func() error
}

// openBucket opens the bucket at an address.
func openBucket(address string) (bucketStore, error) {
	if folder, ok := strings.CutPrefix(address, "file://"); ok && folder != "" {
		b, err := openFolder(folder)
		if err != nil {
			err = explainData(folder, err)
		}
		return b, err
	}
	if !strings.HasPrefix(address, "s3://") {
		return bucketStore{}, usageError("bucket address: want s3://NAME/PREFIX?endpoint=URL&region=NAME, or file://FOLDER")
	}
	cfg, prefix, err := s3.ParseAddress(address)
	if err != nil {
		return bucketStore{}, usage{err}
	}
	cfg.Usage = new(storeusage.Counter)
	b, err := s3.Open(cfg)
	if err != nil {
		return bucketStore{}, usage{err} // nothing was sent: it can only be a setting
	}
	return bucketStore{Bucket: b, prefix: prefix, usage: cfg.Usage, remote: b}, nil
}

func openFolder(folder string) (bucketStore, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return bucketStore{}, err
	}
	b, err := file.Open(folder)
	return bucketStore{Bucket: b}, err
}

// openTable opens the table at an address.
func openTable(ctx context.Context, address string) (tableStore, error) {
	if folder, ok := strings.CutPrefix(address, "bolt://"); ok && folder != "" {
		t, err := openFile(folder)
		if err != nil {
			err = explainData(folder, err)
		}
		return t, err
	}
	if !strings.HasPrefix(address, "dynamodb://") {
		return tableStore{}, usageError("table address: want dynamodb://NAME?endpoint=URL&region=NAME, or bolt://FOLDER")
	}
	cfg, err := dynamo.ParseAddress(address)
	if err != nil {
		return tableStore{}, usage{err}
	}
	cfg.Usage = new(storeusage.Counter)
	t, err := dynamo.Open(ctx, cfg)
	if err != nil {
		return tableStore{}, usage{err} // nothing was sent: it can only be a setting
	}
	return tableStore{Table: t, usage: cfg.Usage, remote: t, close: func() error { return nil }}, nil
}

func openFile(folder string) (tableStore, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return tableStore{}, err
	}
	t, err := bolt.Open(folder)
	if err != nil {
		return tableStore{}, err
	}
	return tableStore{Table: t, close: t.Close}, nil
}

// stores are a bucket and a table, decorated.
type stores struct {
	bucket  objectlog.Bucket
	table   metadata.Table
	failure *readFailure // of either
}

// decorate stacks what every request to the stores passes. From the store outwards: meters, which count what the store was asked for; gates,
// which hold requests back while it throttles; the second attempt of a slow put; retries. One budget for the retries of both stores: in
// an outage those of one must not add to those of the other.
func decorate(bucket bucketStore, table tableStore, registry *prometheus.Registry) stores {
	policy := retry.Policy{Budget: retry.NewBudget(50), Attempts: 4, Base: 5 * time.Millisecond, PauseMax: time.Second, Sleep: retry.Sleep, Random: rand.Uint64}
	objects, items := metered.New(bucket, time.Now), tablemetered.New(table, time.Now)
	objectGate, itemGate := throttle.NewGate(rand.Uint64, retry.Sleep), throttle.NewGate(rand.Uint64, retry.Sleep)
	failure := &readFailure{stopped: make(chan struct{})}

	gated := objectlog.Bucket(throttle.New(objects, objectGate))
	hedged := hedge.New(gated, time.Now)
	if bucket.remote != nil { // a disk that is slow gets no faster by being asked twice
		gated = hedged
	}
	registry.MustRegister(storeMetrics{"bucket", objects.Snapshot}, storeMetrics{"table", items.Snapshot},
		countMetric("splashdam_store_throttled_total", "Answers that asked for fewer requests.", "bucket", objectGate.Throttled),
		countMetric("splashdam_store_throttled_total", "Answers that asked for fewer requests.", "table", itemGate.Throttled),
		countMetric("splashdam_store_hedged_total", "Puts that were sent a second time because the first took long.", "bucket", hedged.Hedged))
	return stores{
		bucket:  watchedBucket{retry.New(gated, policy), failure},
		table:   watchedTable{tableretry.New(tablethrottle.New(items, itemGate), policy), failure},
		failure: failure,
	}
}
