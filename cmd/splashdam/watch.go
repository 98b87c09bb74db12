package main

import (
	"context"
	"errors"
	"sync"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/bolt"
	"github.com/splashdam/splashdam/objectlog"
)

// readFailure is the latest failed read of the stores. The engine repeats such reads, as it must where stores are remote;
// on this machine one that goes on failing is damage, and a start that waits for it must say so.
type readFailure struct {
	mu      sync.Mutex
	err     error         // stays once stopped is closed
	stopped chan struct{} // closed when the table answers only errors from now on
}

func (f *readFailure) note(err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, objectlog.ErrNotFound) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(f.err, bolt.ErrStopped) {
		return
	}
	if f.err = err; errors.Is(err, bolt.ErrStopped) {
		close(f.stopped)
	}
}

func (f *readFailure) latest() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// watchedBucket notes failed reads.
type watchedBucket struct {
	objectlog.Bucket
	failure *readFailure
}

func (b watchedBucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	body, err := b.Bucket.Get(ctx, key, extent)
	b.failure.note(err)
	return body, err
}

// watchedTable notes failed reads.
type watchedTable struct {
	metadata.Table
	failure *readFailure
}

func (t watchedTable) Get(ctx context.Context, key metadata.Key) (metadata.Item, bool, error) {
	item, ok, err := t.Table.Get(ctx, key)
	t.failure.note(err)
	return item, ok, err
}

func (t watchedTable) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	items, err := t.Table.Query(ctx, pk, after, limit)
	t.failure.note(err)
	return items, err
}

func (t watchedTable) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	r := t.Table.Put(ctx, item, cond)
	t.failure.note(r.Err)
	return r
}
