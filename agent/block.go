package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// blockBytes is the size of the aligned parts in which segments are read and cached: large enough that a GET is worth
// its price, small enough that one partition of many does not fetch the others' records for nothing.
const blockBytes = 1 << 20

// blocksAtOnce is how many blocks in a row one GET reads where all of them are wanted: a store takes a third of the CPU time for 4 MiB
// that it takes for four times 1 MiB.
const blocksAtOnce = 4

// blockTimeout bounds one GET of blocks, the wait for its turn excluded: a store that takes longer is away.
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

// blocks is a byte-bounded cache of blocks in front of the bucket, with one flight per block. A cached block may be
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
	recent  recent
}

// recent are the blocks that were read last. The cache would drop most of them before anybody has asked for them: it prefers what was asked
// for before, which is right for everything but what is read ahead.
type recent struct {
	data     map[block][]byte
	order    []block // oldest first
	bytes    int64
	bytesMax int64
}

func (r *recent) add(k block, data []byte) {
	r.drop(k)
	r.data[k] = data
	r.order = append(r.order, k)
	for r.bytes += int64(len(data)); r.bytes > r.bytesMax; {
		r.drop(r.order[0])
	}
}

func (r *recent) drop(k block) {
	if data, ok := r.data[k]; ok {
		r.bytes -= int64(len(data))
		delete(r.data, k)
		r.order = slices.DeleteFunc(r.order, func(other block) bool { return other == k })
	}
}

// flight is a GET that has one block, or its part of a GET of several. The fields are set when done is closed.
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
	const recentPart = 8
	return &blocks{recent: recent{data: make(map[block][]byte), bytesMax: bytesMax / recentPart}, bucket: bucket, keys: keys, cache: cache, tail: make(chan struct{}, tailReads),
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
func (b *blocks) drop(k block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent.drop(k)
	b.cache.Invalidate(k)
}

// landed keeps what was read.
func (b *blocks) landed(k block, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent.add(k, data)
	b.cache.Set(k, data)
}

// cached answers what is there of the block. It is called with the lock held.
func (b *blocks) cached(k block) ([]byte, bool) {
	data, ok := b.cache.GetIfPresent(k)
	if other := b.recent.data[k]; len(other) > len(data) {
		return other, true
	}
	return data, ok
}

// read answers at least the first need bytes of the block.
func (b *blocks) read(ctx context.Context, k block, need int64, pool chan struct{}) ([]byte, error) {
	for {
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

// startAll begins to read the blocks of the batches that are not there, in as few GETs as can be, and in them what will be wanted next;
// without wait only as far as none waits for a turn. Batches of one segment follow one another by their place.
func (b *blocks) startAll(batches, ahead []metadata.LocatedBatch, pool chan struct{}, wait bool) {
	order, _ := needs(batches)
	_, bytes := needs(slices.Concat(batches, ahead))
	if !wait {
		order = whole(order, bytes)
	}
	for len(order) > 0 {
		n := b.startRun(order, bytes, pool, wait)
		if n == 0 && b.start(order[0], bytes[order[0]], pool, wait) == nil {
			return
		}
		order = order[max(1, n):]
	}
}

// startRun begins one GET of as many blocks as order begins with that lie in a row and of which nothing is there. Less than two of them
// it leaves to start, and answers 0.
func (b *blocks) startRun(order []block, bytes map[block]int64, pool chan struct{}, wait bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < min(len(order), blocksAtOnce) && b.absent(order[n]) && (n == 0 || order[n] == block{order[0].segment, order[0].index + int64(n)} && bytes[order[n-1]] == blockBytes) {
		n++
	}
	if n < 2 || b.closed || !wait && len(pool) == cap(pool) {
		return 0
	}
	run := make([]*flight, n)
	for i := range run {
		run[i] = &flight{done: make(chan struct{})}
		b.flights[order[i]] = run[i]
	}
	first, need := order[0], int64(n-1)*blockBytes+bytes[order[n-1]]
	b.work.Go(func() {
		b.flyRun(run, first, need, pool)
		b.mu.Lock()
		for i := range run {
			delete(b.flights, block{first.segment, first.index + int64(i)})
		}
		b.mu.Unlock()
		for _, f := range run {
			close(f.done)
		}
	})
	return n
}

// whole cuts off the end of a list that goes on: what does not fill a GET is read with what follows it.
func whole(order []block, bytes map[block]int64) []block {
	n := len(order)
	for n > 0 && order[n-1].segment == order[len(order)-1].segment && ((order[n-1].index+1)%blocksAtOnce != 0 || bytes[order[n-1]] < blockBytes) {
		n--
	}
	return order[:n]
}

// absent is called with the lock held.
func (b *blocks) absent(k block) bool {
	_, cached := b.cached(k)
	return !cached && b.flights[k] == nil
}

// flyRun reads need bytes from the first block on. Each block is copied, so that one of them does not hold the others in memory.
func (b *blocks) flyRun(run []*flight, first block, need int64, pool chan struct{}) {
	data, err := b.get(first, need, false, pool)
	for i, f := range run {
		if f.err = err; err == nil {
			start := int64(i) * blockBytes
			f.data = append([]byte(nil), data[start:min(start+blockBytes, need)]...)
			b.landed(block{first.segment, first.index + int64(i)}, f.data)
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
	prefix, cached := b.cached(k)
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
	if f.data, f.err = b.get(k, need, again, pool); f.err == nil {
		b.landed(k, f.data)
	}
}

// get reads need bytes from the beginning of the block, when it is its turn; again, all of the block.
func (b *blocks) get(k block, need int64, again bool, pool chan struct{}) ([]byte, error) {
	select {
	case pool <- struct{}{}:
		defer func() { <-pool }()
	case <-b.ctx.Done():
		return nil, Draining
	}
	ctx, cancel := context.WithTimeout(b.ctx, blockTimeout)
	defer cancel()
	key := b.keys.Segment(k.segment)
	next := k.start() + need
	if again {
		info, err := b.bucket.Stat(ctx, key)
		if err != nil {
			return nil, readFault(err)
		}
		next = max(next, min(k.start()+blockBytes, info.Bytes))
	}
	data, err := b.bucket.Get(ctx, key, objectlog.Extent{Start: k.start(), Next: next})
	if err != nil {
		return nil, readFault(err)
	}
	return data, nil
}

// errSuspect marks an answer of the bucket that does not fit what the log says of the object.
var errSuspect = errors.New("object is not what the log refers to")

func readFault(err error) error {
	if errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrRange) {
		return fmt.Errorf("%w: %w", errSuspect, err)
	}
	return because(Unavailable, err)
}
