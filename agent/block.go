package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// blockBytes is the size of the aligned parts in which segments are read and cached: large enough that a GET is worth
// its price, small enough that one partition of many does not fetch the others' records for nothing.
const blockBytes = 1 << 20

// blocksAtOnce is how many blocks in a row one GET reads where all of them are wanted: a store takes a third of the CPU time for 4 MiB
// that it takes for four times 1 MiB. They are aligned, so that in a zone they have one owner.
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
	lent    bool // as another agent answered it, not the bucket
}

func (k block) start() int64 { return k.index * blockBytes }

func (k block) plus(n int) block { return block{k.segment, k.index + int64(n), k.lent} }

func (k block) as(lent bool) block { return block{k.segment, k.index, lent} }

// blocks is a byte-bounded cache of blocks in front of the bucket, with one flight per block. A cached block may be
// a prefix: the size of a segment is not known from its batches, and a GET beyond its end fails.
type blocks struct {
	bucket  objectlog.Bucket
	keys    objectlog.Keys
	cache   *otter.Cache[block, []byte]
	tail    chan struct{}
	catchUp chan struct{}
	lending chan struct{}
	sharing *sharing        // nil: with nobody. Set before the first read
	ctx     context.Context // of the flights: they outlive the readers that started them
	stop    context.CancelFunc
	work    sync.WaitGroup // flights
	stats   singleflight.Group

	mu      sync.Mutex
	closed  bool
	flights map[block]*flight // those of lent blocks may wait for those of the same blocks from the bucket, never the other way around
	recent  recent
	facts   facts
	lent    int64 // bytes that answers to other agents may take at the moment
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

// flight is a read that has one block, or its part of a read of several. The fields are set when done is closed.
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
		catchUp: make(chan struct{}, catchUpReads), lending: make(chan struct{}, lendReads), ctx: ctx, stop: stop, flights: make(map[block]*flight),
		facts: facts{of: make(map[objectlog.SegmentName]fact)}}, nil
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
	b.learnEnd(name, int64(len(body)))
	if len(body) <= blockBytes {
		b.cache.Set(block{segment: name}, body)
		return
	}
	for start := 0; start < len(body); start += blockBytes {
		part := body[start:min(start+blockBytes, len(body))]
		b.cache.Set(block{segment: name, index: int64(start / blockBytes)}, append([]byte(nil), part...))
	}
}

// doubt takes note that the bytes of a block turned out wrong: from now on the bucket alone is asked for its segment, and anew.
func (b *blocks) doubt(k block, wrong []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.facts.note(k.segment, fact{doubted: true})
	// What was read of the bucket since stays: many readers met the same wrong bytes.
	if data, _ := b.held(k); bytes.HasPrefix(wrong, data) {
		b.recent.drop(k)
		b.cache.Invalidate(k)
	}
}

// landed keeps what was read.
func (b *blocks) landed(k block, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(data) > 0 {
		b.recent.add(k, data)
		b.cache.Set(k, data)
	}
}

// held answers what is there of the block in the very form that k names. It is called with the lock held.
func (b *blocks) held(k block) ([]byte, bool) {
	data, ok := b.cache.GetIfPresent(k)
	if other := b.recent.data[k]; len(other) > len(data) {
		return other, true
	}
	return data, ok
}

// cached answers the most of what is there of the block, lent or not. It is called with the lock held.
func (b *blocks) cached(k block) ([]byte, bool) {
	data, ok := b.held(k)
	if b.sharing == nil || b.facts.of[k.segment].doubted {
		return data, ok
	}
	if lent, _ := b.held(k.as(true)); len(lent) > len(data) {
		return lent, true
	}
	return data, ok
}

// read answers at least the first need bytes of the block; for peers, fewer where the segment ends.
func (b *blocks) read(ctx context.Context, k block, need int64, pool chan struct{}, w way) ([]byte, error) {
	for {
		f := b.start(k, need, pool, w, true)
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, because(Unavailable, ctx.Err())
		}
		switch {
		case f.err != nil || int64(len(f.data)) >= need:
			return f.data, f.err
		case !b.ends(k, f.data):
		case w == forPeers:
			return f.data, nil
		default:
			b.doubt(k, f.data)
			return nil, readFault(fmt.Errorf("%w: %d bytes, the log has %d", objectlog.ErrRange, k.start()+int64(len(f.data)), k.start()+need))
		}
	}
}

// startAll begins to read the blocks of the batches that are not there, in as few reads as can be, and in them what will be wanted next;
// without wait only as far as none waits for a turn. Batches of one segment follow one another by their place.
func (b *blocks) startAll(batches, ahead []metadata.LocatedBatch, pool chan struct{}, wait bool) {
	order, _ := needs(batches)
	_, bytes := needs(slices.Concat(batches, ahead))
	if !wait {
		order = whole(order, bytes)
	}
	b.startOrder(order, bytes, pool, byOwner, wait)
}

func (b *blocks) startOrder(order []block, bytes map[block]int64, pool chan struct{}, w way, wait bool) {
	for len(order) > 0 {
		n := b.startRun(order, bytes, pool, w, wait)
		if n == 0 && b.start(order[0], bytes[order[0]], pool, w, wait) == nil {
			return
		}
		order = order[max(1, n):]
	}
}

// startRun begins one read of as many blocks as order begins with that lie in a row, within what one GET reads, and of which nothing is there.
// Less than two of them it leaves to start, and answers 0.
func (b *blocks) startRun(order []block, bytes map[block]int64, pool chan struct{}, w way, wait bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(order) < 2 || order[1] != order[0].plus(1) || !b.absent(order[0], w) {
		return 0
	}
	r := b.route(order[0], pool, w)
	n := 1
	for n < len(order) && order[n] == order[0].plus(n) && order[n].index%blocksAtOnce != 0 && b.absent(order[n], w) &&
		(r.ask || r.whole || bytes[order[n-1]] == blockBytes) {
		n++
	}
	if n < 2 || !wait && b.busy(r, pool) {
		return 0
	}
	b.launch(order[0], n, int64(n-1)*blockBytes+bytes[order[n-1]], nil, r, pool)
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
func (b *blocks) absent(k block, w way) bool {
	_, cached := b.cached(k)
	return !cached && b.underWay(k, w) == nil
}

// underWay answers the flight that a reader may join; nil: there is none. It is called with the lock held.
func (b *blocks) underWay(k block, w way) *flight {
	if f := b.flights[k]; f != nil {
		return f
	}
	// Whoever was sent here by another agent, or turned away from one, must not wait for another agent.
	if w == byOwner && !b.facts.of[k.segment].doubted {
		return b.flights[k.as(true)]
	}
	return nil
}

// start joins the block's flight, or begins one; nil if that would mean to wait for a turn and wait is false.
func (b *blocks) start(k block, need int64, pool chan struct{}, w way, wait bool) *flight {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := &flight{done: make(chan struct{})}
	there, _ := b.cached(k)
	switch {
	case b.closed:
		f.err = Draining
		close(f.done)
		return f
	case int64(len(there)) >= need || w == forPeers && b.facts.ends(k, there):
		f.data = there
		close(f.done)
		return f
	}
	if other := b.underWay(k, w); other != nil {
		return other
	}
	r := b.route(k, pool, w)
	if !wait && b.busy(r, pool) {
		return nil
	}
	if !r.ask {
		there, _ = b.held(k) // what was lent is no part of what the bucket has
	}
	return b.launch(k, 1, need, there, r, pool)
}

// launch begins the flights of n blocks in a row, of which need bytes are wanted and the first may be there in part. It is called with the
// lock held, and answers the first flight.
func (b *blocks) launch(first block, n int, need int64, there []byte, r route, pool chan struct{}) *flight {
	first = first.as(r.ask)
	run := make([]*flight, n)
	for i := range run {
		run[i] = &flight{done: make(chan struct{})}
		b.flights[first.plus(i)] = run[i]
	}
	b.work.Go(func() {
		if r.ask {
			b.borrow(run, first, need, there, r.owner, pool)
		} else {
			data, err := b.get(first, need, there, r.whole, pool)
			b.land(run, first, data, err)
		}
		b.mu.Lock()
		for i := range run {
			delete(b.flights, first.plus(i))
		}
		b.mu.Unlock()
		for _, f := range run {
			close(f.done)
		}
	})
	return run[0]
}

// land gives each flight its block. Each of several is copied, so that one of them does not hold the others in memory.
func (b *blocks) land(run []*flight, first block, data []byte, err error) {
	for i, f := range run {
		if f.err = err; err != nil {
			continue
		}
		if f.data = data; len(run) > 1 {
			start := min(i*blockBytes, len(data))
			f.data = append([]byte(nil), data[start:min(start+blockBytes, len(data))]...)
		}
		b.landed(first.plus(i), f.data)
	}
}

// get reads need bytes from the beginning of the first block, when it is its turn. It reads the last block whole when others will
// want more of it, or already do: something of it is there.
func (b *blocks) get(first block, need int64, there []byte, whole bool, pool chan struct{}) ([]byte, error) {
	select {
	case pool <- struct{}{}:
		defer func() { <-pool }()
	case <-b.ctx.Done():
		return nil, Draining
	}
	ctx, cancel := context.WithTimeout(b.ctx, blockTimeout)
	defer cancel()
	next := first.start() + need
	if len(there) > 0 || whole && (next%blockBytes != 0 || b.endKnown(first.segment)) {
		return b.getWhole(ctx, first, next, there)
	}
	data, err := b.bucket.Get(ctx, b.keys.Segment(first.segment), objectlog.Extent{Start: first.start(), Next: next})
	switch {
	case whole && errors.Is(err, objectlog.ErrRange): // another agent asks, who does not know where the segment ends
		return b.getWhole(ctx, first, next, nil)
	case err != nil:
		return nil, readFault(err)
	}
	return data, nil
}

// getWhole reads on to the end of the block that holds the last byte, or of the segment.
func (b *blocks) getWhole(ctx context.Context, first block, next int64, there []byte) ([]byte, error) {
	end, err := b.endOf(ctx, first.segment)
	if err != nil {
		return nil, readFault(err)
	}
	extent := objectlog.Extent{Start: first.start(), Next: min((next+blockBytes-1)/blockBytes*blockBytes, end)}
	if extent.Len() <= int64(len(there)) {
		return there, nil
	}
	data, err := b.bucket.Get(ctx, b.keys.Segment(first.segment), extent)
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
