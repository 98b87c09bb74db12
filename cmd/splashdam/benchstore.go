package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// pipeStores are where the minimal pipe puts things.
type pipeStores struct {
	store   func(ctx context.Context, n int64, body []byte) error
	table   metadata.Table
	uploads int // at once

	bucket objectlog.Bucket // nil: store writes files
	keys   objectlog.Keys
	boot   objectlog.UUID // names what this run writes

	mu      sync.Mutex
	stored  []string                      // keys of objects, under mu
	commits map[metadata.Key]metadata.Rev // items, under mu
}

// pipeUploads is how many segments an agent stores at once.
const pipeUploads = 16

// newPipeStores puts segments into the bucket under the id of a cluster that does not exist, and items into the table that nobody else names.
func newPipeStores(bucket bucketStore, table tableStore) *pipeStores {
	s := &pipeStores{bucket: bucket, table: table, uploads: pipeUploads, boot: objectlog.NewUUID(rand.Uint64)}
	if bucket.remote == nil {
		s.uploads = 1
	}
	s.keys = objectlog.Keys{Prefix: bucket.prefix, Cluster: objectlog.NewUUID(rand.Uint64)}
	s.store = s.put
	return s
}

func (s *pipeStores) put(ctx context.Context, n int64, body []byte) error {
	key := s.keys.Segment(objectlog.SegmentName{Boot: s.boot, Counter: uint64(n + 1)})
	s.mu.Lock()
	s.stored = append(s.stored, key)
	s.mu.Unlock()
	return s.bucket.Put(ctx, key, body, objectlog.NewUUID(rand.Uint64))
}

// pipeSlots are the items that one uploader writes over, as a ring does.
const pipeSlots = 8

// commit puts an item of a typical entry's size.
func (s *pipeStores) commit(ctx context.Context, uploader, size int) error {
	const entryBytes = 512
	s.mu.Lock()
	if s.commits == nil {
		s.commits = make(map[metadata.Key]metadata.Rev)
	}
	slot, oldest := metadata.Key{}, metadata.Rev(0)
	for i := range pipeSlots {
		key := metadata.SelfTestKey(fmt.Sprintf("bench-%s-%d-%d", s.boot, uploader, i))
		if rev := s.commits[key]; i == 0 || rev < oldest {
			slot, oldest = key, rev
		}
	}
	next := oldest + 1
	s.commits[slot] = next
	s.mu.Unlock()
	item := metadata.Item{Key: slot, Rev: next, Value: make([]byte, entryBytes)}
	binary.BigEndian.PutUint64(item.Value, uint64(size))
	cond := metadata.If{}
	if oldest > 0 {
		cond = metadata.RevIs(oldest)
	}
	if r := s.table.Put(context.WithoutCancel(ctx), item, cond); r.Outcome != metadata.Applied {
		return errors.Join(fmt.Errorf("commit a segment of the pipe: outcome %d", r.Outcome), r.Err)
	}
	return nil
}

// remove removes what this run has written.
func (s *pipeStores) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	for _, key := range s.stored {
		errs = append(errs, s.bucket.Delete(ctx, key))
	}
	for key, rev := range s.commits {
		if r := s.table.Delete(ctx, key, metadata.RevIs(rev)); r.Outcome == metadata.Unknown {
			errs = append(errs, r.Err)
		}
	}
	return errors.Join(errs...)
}

// writeSegment makes the file durable under its name.
func writeSegment(folder string, n int64, body []byte) error {
	f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%016x.seg", n)))
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	dir, openErr := os.Open(folder)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, dir.Sync(), dir.Close())
}

// rawRate is what the bucket alone can do.
type rawRate struct {
	Bytes          int64   `json:"bytes"`
	Seconds        float64 `json:"seconds"`
	BytesPerSecond float64 `json:"bytes_per_second"`
}

const (
	rawBytes = 4 << 20
	// rawAtOnce keeps both ends of a loopback busy; more of them only share it.
	rawAtOnce = 4
)

// measureRaw puts random bytes, and gets what it has put, whole objects of 4 MiB.
func (s *pipeStores) measureRaw(ctx context.Context, duration time.Duration) (put, get *rawRate, err error) {
	body := make([]byte, rawBytes)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(body) // never fails
	first := len(s.stored)
	put, err = measureMoves(ctx, duration, func(ctx context.Context, n int64) error { return s.store(ctx, int64(first)+n, body) })
	if err != nil {
		return nil, nil, err
	}
	there := s.stored[first:]
	get, err = measureMoves(ctx, duration, func(ctx context.Context, n int64) error {
		_, err := s.bucket.Get(ctx, there[int(n)%len(there)], objectlog.Extent{Start: 0, Next: rawBytes})
		return err
	})
	return put, get, err
}

// measureMoves repeats a move until the time is over.
func measureMoves(ctx context.Context, duration time.Duration, move func(ctx context.Context, n int64) error) (*rawRate, error) {
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		n      int64
		failed error
	)
	started := time.Now()
	for range rawAtOnce {
		all.Go(func() {
			for time.Since(started) < duration {
				mu.Lock()
				mine, stop := n, failed != nil
				n++
				mu.Unlock()
				if stop {
					return
				}
				if err := move(ctx, mine); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	r := &rawRate{Bytes: n * rawBytes, Seconds: time.Since(started).Seconds()}
	r.BytesPerSecond = float64(r.Bytes) / r.Seconds
	return r, failed
}
