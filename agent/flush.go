package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// uploadsMax bounds the PUTs in flight. Memory bounds them too; this bounds the connections.
const uploadsMax = 16

const (
	// probeEvery: an outage that is over is noticed within a moment, and its probes are few.
	probeEvery   = 2 * time.Second
	probeTimeout = 5 * time.Second // a put of some bytes
)

// endOfTime is behind every deadline of a core.
const endOfTime = time.Duration(1 << 62)

// writer drives a write.Core: it executes the effects against bucket and shard logs.
type writer struct {
	bucket  objectlog.Bucket
	keys    objectlog.Keys
	shards  []shard
	blocks  *blocks // keeps what is written here
	boot    objectlog.UUID
	ordinal int64
	random  func() uint64
	timeout time.Duration // of one PUT and of one proposal: after it the batches are answered anyway
	start   time.Time     // of the core's monotonic clock, and of the counts
	counts  *topicCounts

	ctx  context.Context // of uploads and proposals: ends when the drain has
	stop context.CancelFunc
	work sync.WaitGroup // uploads and proposals in flight

	mu       sync.Mutex
	core     *write.Core
	closed   bool
	room     chan struct{} // closed when a full buffer has room again, or never will
	idle     chan struct{} // closed when a flush has left nothing; nil before the flush
	wakeAt   time.Duration // of the next tick; 0: none
	wakeMore chan struct{} // wakeAt came nearer
	outage   outage
}

func newWriter(cfg Config, shards []shard) *writer {
	w := &writer{shards: shards, random: cfg.Random, timeout: cfg.ProduceTimeout, start: time.Now(),
		counts: newTopicCounts(shards[catalogShard]), room: make(chan struct{}), wakeMore: make(chan struct{}, 1), outage: outage{underway: map[uint64]time.Time{}}}
	// While a segment is uploaded its records are held twice: by those who wait for them, and in its body.
	w.core = write.NewCore(write.Config{Shards: len(shards), BufferBytesMax: cfg.BufferBytesMax / 2, SegmentBytesMax: cfg.SegmentBytesMax,
		FlushRate: cfg.FlushRate, FlushBurst: cfg.FlushBurst, FlushFreely: cfg.FlushFreely, Timeout: cfg.ProduceTimeout, UploadsMax: uploadsMax})
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// submit hands batches to the core. While the buffer is full it waits, until ctx ends: then Busy.
func (w *writer) submit(ctx context.Context, batches []*write.Batch) error {
	for {
		room, closed := w.step(write.Submit{Batches: batches})
		switch {
		case closed:
			return Draining
		case room == nil:
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return because(Busy, ctx.Err())
		}
	}
}

// step gives the core an event and executes what it wants. room is set when a submission was refused, and is closed
// when it may be tried again.
func (w *writer) step(e write.Event) (room <-chan struct{}, closed bool) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, true
	}
	effects := w.core.Step(time.Since(w.start), e)
	for _, e := range effects {
		switch e := e.(type) {
		case write.Full:
			room = w.room
		case write.Room:
			close(w.room)
			w.room = make(chan struct{})
		case write.Wake:
			w.wake(e.At)
		case write.Upload:
			w.work.Go(func() { w.upload(e) })
		case write.Propose:
			w.work.Go(func() { w.propose(e) })
		}
	}
	if w.idle != nil && w.core.Empty() {
		w.closed = true
		close(w.idle)
	}
	w.mu.Unlock()
	w.answer(effects)
	return room, false
}

// wake makes a tick due at a time, if none is due earlier.
func (w *writer) wake(at time.Duration) {
	if w.wakeAt != 0 && w.wakeAt <= at {
		return
	}
	w.wakeAt = at
	select {
	case w.wakeMore <- struct{}{}:
	default:
	}
}

// run ticks the core until ctx ends, then lets go of uploads and proposals.
func (w *writer) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.abandon()
			return nil
		case <-w.wakeMore:
		case <-timer.C:
		}
		w.mu.Lock()
		at := w.wakeAt
		due := at != 0 && at <= time.Since(w.start)
		if due {
			w.wakeAt = 0
		}
		w.mu.Unlock()
		switch {
		case due:
			w.step(write.Tick{})
		case at != 0:
			timer.Reset(at - time.Since(w.start))
		}
	}
}

// abandon ends uploads and proposals and answers what is left: as far as it was sealed its outcome is unknown.
func (w *writer) abandon() {
	w.mu.Lock()
	w.closed = true
	close(w.room) // for good: who waits there learns that the writer is closed
	w.mu.Unlock()
	w.stop()
	w.work.Wait()
	w.mu.Lock()
	effects := w.core.Step(endOfTime, write.Tick{})
	w.mu.Unlock()
	w.answer(effects)
}

// answer executes the effects that others wait for, or look at: outside of the lock.
func (w *writer) answer(effects []write.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case write.Answer:
			e.Batch.Owner.(*share).pending.answer(e)
		case write.Appended:
			w.counts.add(e.Topic, topicBytes{produced: e.Bytes})
		}
	}
}

// drain seals what is open and waits until everything is answered, or ctx ends.
func (w *writer) drain(ctx context.Context) {
	idle := make(chan struct{})
	w.mu.Lock()
	w.idle = idle
	w.mu.Unlock()
	w.step(write.Flush{})
	select {
	case <-idle:
	case <-ctx.Done():
		slog.Warn("drain: some batches are still undecided")
	}
}

// upload encodes and puts one segment. What is sent again has the same key, body and nonce: an earlier attempt may land
// at any time.
func (w *writer) upload(u write.Upload) {
	e := u.Encoded
	if e == nil {
		e = write.Encode(u.Batches)
		e.Name = objectlog.SegmentName{Boot: w.boot, Counter: u.Counter, Random: uint32(w.random())}
		e.Nonce = objectlog.NewUUID(w.random)
	}
	var err error
	if e.Body != nil {
		err = w.put(e)
	}
	w.step(write.Uploaded{Counter: u.Counter, Encoded: e, Err: err})
}

func (w *writer) put(e *write.Encoded) error {
	ctx, cancel := context.WithTimeout(w.ctx, w.timeout)
	defer cancel()
	key, began := w.keys.Segment(e.Name), w.begin(e.Name)
	err := w.bucket.Put(ctx, key, e.Body, e.Nonce)
	w.end(e.Name)
	switch {
	case err == nil:
		w.blocks.keep(e.Name, e.Body)
	case errors.Is(err, objectlog.ErrExists):
		slog.Error("segment key holds another content", "key", key, "err", err)
		return fmt.Errorf("%w: %w", write.ErrNotWritten, err)
	}
	w.note(began, key, err)
	if err != nil {
		return shortened(err) // clients see it
	}
	return nil
}

// begin takes note of an upload that is under way.
func (w *writer) begin(n objectlog.SegmentName) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.outage.underway[n.Counter] = now
	return now
}

func (w *writer) end(n objectlog.SegmentName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.outage.underway, n.Counter)
}

// note takes note of an upload that succeeded, or whose outcome is unknown.
func (w *writer) note(began time.Time, key string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch now := time.Now(); {
	case err == nil:
		w.outage.succeeded(now)
	case w.ctx.Err() == nil: // else it was the agent that ended the upload
		w.outage.failed(began, now, key, err)
	}
}

// ready is nil unless segments cannot be stored.
func (w *writer) ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outage.problem(time.Now())
}

// probe finds out that an outage is over when nothing is left to be stored: an agent that is not ready is sent nothing, and would not
// notice. It puts an object of its own, the same until it is there, and removes it.
func (w *writer) probe(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for n := uint64(1); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		w.mu.Lock()
		wanted := w.outage.active() && !w.core.Storing()
		w.mu.Unlock()
		if wanted && w.putProbe(ctx, w.keys.Probe(w.boot, n)) {
			n++
		}
	}
}

// putProbe says whether the object was stored. One that can't be removed again harms nobody.
func (w *writer) putProbe(ctx context.Context, key string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	err := w.bucket.Put(ctx, key, []byte("probe\n"), w.boot)
	w.note(began, key, err)
	if err != nil {
		return false
	}
	if err := w.bucket.Delete(ctx, key); err != nil {
		slog.Warn("delete probe", "key", key, "err", err)
	}
	return true
}

// propose sends one proposal to the shard's leader.
func (w *writer) propose(p write.Propose) {
	ctx, cancel := context.WithTimeout(w.ctx, w.timeout)
	defer cancel()
	receipt, err := w.shards[p.Shard].log.Propose(ctx, p.Commands(w.ordinal))
	if err != nil {
		if !errors.Is(err, shardlog.ErrNotLeader) {
			slog.Warn("propose segments", "shard", p.Shard, "segments", len(p.Commits), "err", err)
		}
		w.step(write.Decided{Shard: p.Shard})
		return
	}
	w.step(write.Decided{Shard: p.Shard, Results: receipt.Results})
}
