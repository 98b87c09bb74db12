package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

const (
	// handlerGrace is what handlers have to finish when Run is to end, and flushGrace what acknowledgements have beyond that.
	handlerGrace = 10 * time.Second
	flushGrace   = 5 * time.Second
	// ackLinger is how long an acknowledgement waits for others, and acksEnough how many go at once. While one call is under way the next ones gather.
	ackLinger  = 5 * time.Millisecond
	acksEnough = 5000
	// A lock is extended when half of it is over. With looks and tries as often as this there is time for two tries before it ends.
	looksPerLock = 10
	triesPerLock = 6
)

// queueRun is one call of Run. Records go from the puller to handlers, and what these say of them to the one that acknowledges; until the queue knows it
// another one keeps the locks.
type queueRun struct {
	q       *Queue
	fn      func(context.Context, *QueuedRecord) error
	pulling context.Context // ends when Run is to end
	end     context.CancelFunc
	work    chan *held // not begun; with room for all that is pulled; closed when nothing more will be
	room    signal     // some was taken
	rulings chan *ack  // closed when all handlers have returned; handlers wait when it is full

	mu      sync.Mutex // all below
	holding map[string]*held
	err     error // the first that time can't cure
}

// held is a record whose lock is kept.
type held struct {
	locked
	record *QueuedRecord           // nil when it was handled: what waits for its acknowledgement may be many
	since  time.Time               // the lock is at most as old, as far as known
	lost   bool                    // the queue says that the lock is over
	cancel context.CancelCauseFunc // of its handler; nil while it waits
}

// Run hands records to fn, Handlers at a time, until ctx ends or Close; then it answers nil. It answers an error when pulling or acknowledging fails with one that
// time can't cure.
//
// When fn answers nil the record is accepted. An error releases it, with its text, to come again behind ReleaseDelay; one of Rejected rejects it. Locks
// are extended at about half of LockTime as long as the records are here; when the queue refuses that, because somebody else has the record by now, the context of
// fn ends with the cause ErrNotLocked, and what fn answers does not count. Acknowledgements are sent a few milliseconds later, many together; a record whose
// acknowledgement does not arrive in time comes again.
//
// When Run is to end, nothing more is begun and handlers have 10 s until their contexts end, too. Run returns behind them, when what they said is acknowledged, for
// which there are 5 s more, and what was not begun is returned.
func (q *Queue) Run(ctx context.Context, fn func(context.Context, *QueuedRecord) error) error {
	if !q.enter() {
		return nil
	}
	defer q.running.Done()
	r := &queueRun{
		q: q, fn: fn, room: newSignal(), work: make(chan *held, q.cfg.MaxRecords), rulings: make(chan *ack, acksEnough), holding: make(map[string]*held),
	}
	r.pulling, r.end = context.WithCancel(ctx)
	defer r.end()
	defer context.AfterFunc(q.ctx, r.end)()
	calm := context.WithoutCancel(ctx)
	handling, endHandling := context.WithCancel(calm)
	defer endHandling()
	acking, endAcking := context.WithCancel(calm)
	defer endAcking()
	keeping, endKeeping := context.WithCancel(calm)
	defer endKeeping()

	var handlers, others sync.WaitGroup
	for range q.cfg.Handlers {
		handlers.Go(func() { r.handle(handling) })
	}
	others.Go(func() {
		r.acknowledge(acking)
		endKeeping()
	})
	others.Go(func() { r.keepLocks(keeping) })
	r.pull()
	defer time.AfterFunc(q.grace, endHandling).Stop()
	defer time.AfterFunc(q.grace+flushGrace, endAcking).Stop()
	handlers.Wait()
	close(r.rulings)
	others.Wait()
	if r.err != nil {
		return fmt.Errorf("run queue %s on %s: %w", q.cfg.Group, q.cfg.Topic, r.err)
	}
	return nil
}

// enter says whether a Run may begin.
func (q *Queue) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.running.Add(1)
	}
	return !q.closed
}

// fail ends the Run with an error.
func (r *queueRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.end()
}

// pull keeps some records waiting for the handlers.
func (r *queueRun) pull() {
	defer close(r.work)
	ctx, most := r.pulling, r.q.cfg.MaxRecords
	for ctx.Err() == nil {
		waiting := len(r.work)
		if waiting > most/2 {
			select {
			case <-r.room:
			case <-ctx.Done():
			}
			continue
		}
		began := time.Now()
		records, err := r.q.pull(ctx, most-waiting)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrClosed): // the end of the queue may not have ended ctx yet
			r.end()
		case err != nil:
			r.fail(err)
		case len(records) == 0 && time.Since(began) < r.q.cfg.MaxWait/2: // an agent that does not wait, as one that is about to stop
			_ = pause(ctx, r.q.c.cfg.delay(0, 0)) // the loop looks at the end of ctx
		}
		for i, rec := range records {
			if i == most-waiting { // more than asked for: their locks end
				break
			}
			r.work <- r.hold(rec)
		}
	}
}

func (r *queueRun) hold(rec *QueuedRecord) *held {
	h := &held{locked: rec.locked(), record: rec, since: time.Now()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holding[string(h.token)] = h
	return h
}

// handle works on records until there are no more. Those that are not begun when the Run is to end are given back.
func (r *queueRun) handle(ctx context.Context) {
	for h := range r.work {
		r.room.wake()
		as := ruling{verdict: splashdamv1.Verdict_VERDICT_RETURN}
		if r.pulling.Err() == nil {
			as = r.process(ctx, h)
		}
		if r.handled(h) {
			r.rulings <- &ack{locked: h.locked, ruling: as}
		}
	}
}

// process hands one record to the handler, unless its lock has ended while it waited.
func (r *queueRun) process(ctx context.Context, h *held) ruling {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	h.cancel = cancel
	lost := h.lost
	r.mu.Unlock()
	if lost {
		return ruling{}
	}
	switch err := r.fn(ctx, h.record); {
	case err == nil:
		return ruling{verdict: splashdamv1.Verdict_VERDICT_ACCEPT}
	case isRejected(err):
		return ruling{verdict: splashdamv1.Verdict_VERDICT_REJECT, why: brief(err.Error())}
	default:
		return ruling{verdict: splashdamv1.Verdict_VERDICT_RELEASE, delay: r.q.cfg.ReleaseDelay, why: brief(err.Error())}
	}
}

// handled lets go of the record itself, and says whether what the handler answered counts.
func (r *queueRun) handled(h *held) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.record = nil
	return !h.lost
}

// acknowledge sends what the handlers say until there is no more.
func (r *queueRun) acknowledge(ctx context.Context) {
	for first := range r.rulings {
		batch := r.gather(first)
		r.q.settle(ctx, batch)
		r.settled(ctx, batch)
	}
}

// gather waits a moment for more rulings.
func (r *queueRun) gather(first *ack) []*ack {
	batch := []*ack{first}
	linger := time.NewTimer(ackLinger)
	defer linger.Stop()
	for len(batch) < acksEnough {
		select {
		case a, ok := <-r.rulings:
			if !ok {
				return batch
			}
			batch = append(batch, a)
		case <-linger.C:
			return batch
		}
	}
	return batch
}

// settled forgets what is acknowledged. What is not locked any more, or not known to be done, comes again or was done: neither is a failure.
func (r *queueRun) settled(ctx context.Context, batch []*ack) {
	var failed error
	r.mu.Lock()
	for _, a := range batch {
		delete(r.holding, string(a.token))
		if a.err != nil && !errors.Is(a.err, ErrNotLocked) && !errors.Is(a.err, ErrUnknownOutcome) {
			failed = a.err
		}
	}
	r.mu.Unlock()
	if failed != nil && ctx.Err() == nil {
		r.fail(failed)
	}
}

// keepLocks extends the locks that are half over.
func (r *queueRun) keepLocks(ctx context.Context) {
	lock := r.q.cfg.LockTime
	for pause(ctx, lock/looksPerLock) == nil {
		if list := r.due(lock / 2); len(list) > 0 {
			r.extend(ctx, lock, list)
		}
	}
}

func (r *queueRun) due(age time.Duration) []*ack {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*ack
	for _, h := range r.holding {
		if time.Since(h.since) >= age {
			list = append(list, &ack{locked: h.locked, ruling: ruling{verdict: splashdamv1.Verdict_VERDICT_EXTEND, lock: r.q.cfg.LockTime}})
		}
	}
	return list
}

// extend extends locks. Those of which nothing was heard stay due.
func (r *queueRun) extend(ctx context.Context, lock time.Duration, list []*ack) {
	ctx, cancel := context.WithTimeout(ctx, lock/triesPerLock)
	defer cancel()
	began := time.Now()
	r.q.settle(ctx, list)
	silent := ctx.Err() != nil
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range list {
		h := r.holding[string(a.token)]
		switch {
		case h == nil: // acknowledged meanwhile
		case a.err == nil:
			h.since, silent = began, false
		case errors.Is(a.err, ErrNotLocked):
			h.lost, silent = true, false
			delete(r.holding, string(a.token))
			if h.cancel != nil {
				h.cancel(a.err)
			}
		}
	}
	if silent { // nothing was heard of any: whoever was asked may be cut off
		r.q.c.transport.moveOn()
	}
}
