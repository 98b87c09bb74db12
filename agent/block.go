package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/splashdam/splashdam/objectlog"
)

// blockBytes is the size of the aligned parts in which segments are read and cached: large enough that a GET is worth
// its price, small enough that one partition of many does not fetch the others' records for nothing.
const blockBytes = 1 << 20

// blockTimeout bounds one GET of a block, the wait for its turn excluded: a store that takes longer is away.
const blockTimeout = 20 * time.Second

// The two pools of GETs in flight. A replay of old data fills its own and leaves tail readers theirs.
const (
	tailReads    = 32
	catchUpReads = 16
)

// block names one block of one segment.
type block struct {
	segment objectlog.SegmentName
	index   int64
}

func (b block) start() int64 { return b.index * blockBytes }

// blocks is a byte-bounded cache of blocks in front of the bucket, with one GET in flight per block. A cached block may be
// a prefix: the size of a segment is not known from its batches, and a GET beyond its end fails.
type blocks struct {
	bucket  objectlog.Bucket
	keys    objectlog.Keys
	cache   *otter.Cache[block, []byte]
	tail    chan struct{}
	catchUp chan struct{}
	ctx     context.Context // of the flights: they outlive the readers that started them
	stop    context.CancelFunc
	work    sync.WaitGroup // flights

	mu      sync.Mutex
	closed  bool
	flights map[block]*flight
}

// flight is one GET of one block. The fields are set when done is closed.
type flight struct {
	done chan struct{}
	data []byte
	err  error
}

func newBlocks(bucket objectlog.Bucket, keys objectlog.Keys, bytesMax int64) (*blocks, error) {
	cache, err := otter.New(&otter.Options[block, []byte]{
		MaximumWeight: uint64(bytesMax),
		Weigher:       func(_ block, data []byte) uint32 { return uint32(len(data)) },
	})
	if err != nil {
		return nil, fmt.Errorf("make the block cache: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &blocks{bucket: bucket, keys: keys, cache: cache, tail: make(chan struct{}, tailReads),
		catchUp: make(chan struct{}, catchUpReads), ctx: ctx, stop: stop, flights: make(map[block]*flight)}, nil
}

// close ends the flights and waits for them.
func (b *blocks) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.work.Wait()
	b.cache.StopAllGoroutines()
}

// keep caches a segment that this agent wrote. Blocks are copied, so that one of them does not hold the whole body.
func (b *blocks) keep(name objectlog.SegmentName, body []byte) {
	if len(body) <= blockBytes {
		b.cache.Set(block{name, 0}, body)
		return
	}
	for start := 0; start < len(body); start += blockBytes {
		part := body[start:min(start+blockBytes, len(body))]
		b.cache.Set(block{name, int64(start / blockBytes)}, append([]byte(nil), part...))
	}
}

// drop forgets a block whose bytes turned out wrong.
func (b *blocks) drop(k block) { b.cache.Invalidate(k) }

// read answers at least the first need bytes of the block.
func (b *blocks) read(ctx context.Context, k block, need int64, pool chan struct{}) ([]byte, error) {
	for {
		if data, ok := b.cache.GetIfPresent(k); ok && int64(len(data)) >= need {
			return data, nil
		}
		f := b.start(k, need, pool, true)
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, because(Unavailable, ctx.Err())
		}
		if f.err != nil || int64(len(f.data)) >= need {
			return f.data, f.err
		}
	}
}

// start joins the block's flight, or begins one; nil if that would mean to wait for a turn and wait is false.
func (b *blocks) start(k block, need int64, pool chan struct{}, wait bool) *flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f := b.flights[k]; f != nil {
		return f
	}
	f := &flight{done: make(chan struct{})}
	prefix, cached := b.cache.GetIfPresent(k)
	switch {
	case b.closed:
		f.err = Draining
		close(f.done)
		return f
	case cached && int64(len(prefix)) >= need:
		f.data = prefix
		close(f.done)
		return f
	case !wait && len(pool) == cap(pool):
		return nil
	}
	b.flights[k] = f
	b.work.Go(func() {
		b.fly(f, k, need, cached, pool)
		b.mu.Lock()
		delete(b.flights, k)
		b.mu.Unlock()
		close(f.done)
	})
	return f
}

// fly reads the block: the first time as much of it as is known to exist; again, when others want more of it, all
// there is.
func (b *blocks) fly(f *flight, k block, need int64, again bool, pool chan struct{}) {
	select {
	case pool <- struct{}{}:
		defer func() { <-pool }()
	case <-b.ctx.Done():
		f.err = Draining
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, blockTimeout)
	defer cancel()
	key := b.keys.Segment(k.segment)
	next := k.start() + need
	if again {
		info, err := b.bucket.Stat(ctx, key)
		if err != nil {
			f.err = readFault(err)
			return
		}
		next = max(next, min(k.start()+blockBytes, info.Bytes))
	}
	if f.data, f.err = b.bucket.Get(ctx, key, objectlog.Extent{Start: k.start(), Next: next}); f.err != nil {
		f.err = readFault(f.err)
		return
	}
	b.cache.Set(k, f.data)
}

// errSuspect marks an answer of the bucket that does not fit what the log says of the object.
var errSuspect = errors.New("object is not what the log refers to")

func readFault(err error) error {
	if errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrRange) {
		return fmt.Errorf("%w: %w", errSuspect, err)
	}
	return because(Unavailable, err)
}
