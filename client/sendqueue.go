package client

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// identity is a producer id with one of its epochs. The zero identity is none.
type identity struct {
	id    objectlog.ProducerID
	epoch int16
	set   bool
}

// batch is some records of one partition that are sent, retried and decided together.
//
// A batch is open, then sealed, then sequenced (it has its place in the identity's sequence), then in flight and not any
// number of times, then settled.
type batch struct {
	topic     string // set when settled
	partition Partition

	records  []objectlog.Record
	done     []func(Result) // one per record; nil where the caller wants no answer
	flushed  []func()       // called behind done
	bytes    int            // uncompressed estimate, what the buffer counts
	sealBy   time.Time      // when linger ends
	deadline time.Time      // when it is given up, unless in flight
	sealed   bool

	id        identity
	first     int32 // sequence of the first record, once sequenced
	sequenced bool
	encoded   []byte // nil: to be encoded with id and first

	inFlight bool
	maybe    bool // an attempt's outcome is unknown: the records may be in the log, or may still get there
	void     bool // its sequence lies behind one that is never sent again: no attempt can have been, or be, appended
	half     bool // made by split
	settled  bool
	outcome  outcome
}

// outcome is the decision on a batch.
type outcome struct {
	base       Offset
	duplicate  bool
	appendTime time.Time
	err        error
}

// verdict is what one attempt to send a batch came to.
type verdict uint8

const (
	appended verdict = iota
	refused          // definitely not appended, and never will be
	busy             // definitely not appended by this attempt; worth another
	gap              // refused for its sequence number
	tooLarge         // refused for its size
	unknown          // anything may have happened, or may still happen
)

// answer is the verdict on one attempt with what belongs to it.
type answer struct {
	verdict
	outcome    outcome // with appended
	err        *Error  // with all others
	retryAfter time.Duration
}

// sendQueue holds the batches of one partition, oldest first, and decides what is sent when. It is a pure core: no clock, no
// goroutine, no I/O; its owner holds a lock around it.
//
// The rules that keep every record exactly once and in order:
//   - A batch is sent only when every batch before it is settled or in flight, and again only when none behind it is.
//   - A batch with an unknown outcome is sent again with the same identity and sequence, or not at all.
//   - A definitely refused batch leaves a hole in the sequence. Those behind it can't be appended as they are numbered; when
//     none is in flight any more they get a new identity (KIP-360), which fences whatever of the old one is still under way.
//   - Batches are settled in any order but leave the queue, and are reported, in order.
type sendQueue struct {
	topic      string
	partition  Partition
	idempotent bool
	lingerMax  time.Duration
	timeout    time.Duration
	batchBytes int

	batches  []*batch
	inFlight int
	id       identity
	next     int32 // sequence of the next batch that gets one
	broken   bool  // the sequence has a hole: a new identity is needed
	retryAt  time.Time
	attempt  int    // attempts without success since the last success
	last     *Error // of them, the latest

	delay func(attempt int, retryAfter time.Duration) time.Duration
}

// add puts a record into the open batch, behind all others, and says whether a batch was sealed by it.
func (q *sendQueue) add(r objectlog.Record, size int, done func(Result), now time.Time, spares *spares) (sealed bool) {
	b := q.open()
	if b != nil && b.bytes+size > q.batchBytes {
		b.sealed, sealed = true, true
		b = nil
	}
	if b == nil {
		b = &batch{bytes: batchOverhead, sealBy: now.Add(q.lingerMax), deadline: now.Add(q.timeout)}
		b.records, b.done = spares.take()
		q.batches = append(q.batches, b)
	}
	b.records = append(b.records, r)
	b.done = append(b.done, done)
	b.bytes += size
	if b.bytes >= q.batchBytes {
		b.sealed, sealed = true, true
	}
	return sealed
}

// open is the batch that still takes records, or nil.
func (q *sendQueue) open() *batch {
	if n := len(q.batches); n > 0 && !q.batches[n-1].sealed {
		return q.batches[n-1]
	}
	return nil
}

// packs says whether a record of this size joins others in the open batch.
func (q *sendQueue) packs(size int) bool {
	b := q.open()
	return b != nil && b.bytes+size <= q.batchBytes
}

// spares are the lists of batches that were reported, for reuse: growing them anew cost a quarter of the time of packing.
type spares struct {
	records [][]objectlog.Record
	done    [][]func(Result)
}

// sparesMax bounds them: a list of records of a full batch is about as large as the batch.
const sparesMax = 8

func (s *spares) take() ([]objectlog.Record, []func(Result)) {
	n := len(s.records) - 1
	if n < 0 {
		return nil, nil
	}
	records, done := s.records[n], s.done[n]
	s.records, s.done = s.records[:n], s.done[:n]
	return records, done
}

// give takes the lists of a batch that nobody uses any more. Halves of a split batch share theirs and are not taken.
func (s *spares) give(b *batch) {
	if b.half || len(s.records) >= sparesMax {
		return
	}
	clear(b.records)
	clear(b.done)
	s.records, s.done = append(s.records, b.records[:0]), append(s.done, b.done[:0])
	b.records, b.done = nil, nil
}

// move is what a queue wants next: a batch sent, a new identity, or to be asked again at a time or after an answer.
type move struct {
	send     *batch
	identify bool
	wake     time.Time // zero: after an answer
}

// take answers the next move. Batches are sent from the first window batches only, the oldest of which is not settled: the log
// remembers five batches of a producer, and must know the oldest when it comes again. The batch to be sent counts as in flight from here on.
func (q *sendQueue) take(now time.Time, window int) move {
	q.expire(now)
	i := slices.IndexFunc(q.batches, func(b *batch) bool { return !b.settled && !b.inFlight })
	if i < 0 {
		return move{}
	}
	b := q.batches[i]
	if now.Before(q.retryAt) {
		return move{wake: earliest(q.retryAt, b.deadline)}
	}
	if i >= window || slices.ContainsFunc(q.batches[i+1:], func(b *batch) bool { return b.inFlight }) {
		return move{wake: b.deadline}
	}
	if !b.sealed && q.inFlight > 0 && now.Before(b.sealBy) {
		return move{wake: b.sealBy}
	}
	if q.idempotent && !b.sequence(q) {
		if q.inFlight > 0 {
			return move{wake: b.deadline} // those before it must be settled under the old identity
		}
		return move{identify: true}
	}
	b.sealed, b.inFlight = true, true
	q.inFlight++
	return move{send: b}
}

// sequence gives the batch its place in the sequence, if it has none and the identity is whole.
func (b *batch) sequence(q *sendQueue) bool {
	if b.sequenced {
		return !b.void
	}
	if q.broken || !q.id.set {
		return false
	}
	b.id, b.first, b.sequenced = q.id, q.next, true
	q.next = advance(q.next, len(b.records))
	return true
}

// advance is the sequence n records behind s: it wraps from 2^31-1 to 0, as Kafka's.
func advance(s int32, n int) int32 { return int32((int64(s) + int64(n)) & math.MaxInt32) }

// identify starts a new sequence under a new identity. The caller has just got the move that asks for it: nothing is in
// flight, and what has a sequence lies behind a hole, so that none of it can have been appended.
func (q *sendQueue) identify(id identity) {
	q.id, q.next, q.broken = id, 0, false
	for _, b := range q.batches {
		if b.settled || !b.sequenced {
			continue
		}
		b.sequenced, b.void, b.encoded = false, false, nil
	}
}

// expire gives up what is not in flight and past its deadline.
func (q *sendQueue) expire(now time.Time) {
	for _, b := range q.batches {
		if !b.settled && !b.inFlight && !now.Before(b.deadline) {
			b.sealed = true
			cause := q.last
			if !b.maybe {
				cause = notSent(q.op(), q.last)
			}
			q.fail(b, cause)
		}
	}
}

// answer takes the verdict on a batch that take handed out.
func (q *sendQueue) answer(b *batch, a answer, now time.Time) {
	b.inFlight = false
	q.inFlight--
	if b.settled { // the producer was closed meanwhile
		return
	}
	if a.err != nil {
		q.last = a.err
	}
	switch a.verdict {
	case appended:
		q.attempt, q.last, q.retryAt = 0, nil, time.Time{}
		q.settle(b, a.outcome)
	case unknown:
		if !q.idempotent {
			q.settle(b, outcome{err: unknownOutcome(q.op(), a.err)})
			return
		}
		b.maybe = !b.void
		q.backOff(b, a, now)
	case busy:
		q.backOff(b, a, now)
	case gap:
		q.answerGap(b, a, now)
	case tooLarge:
		if len(b.records) > 1 && !b.maybe {
			q.split(b)
			return
		}
		q.fail(b, a.err)
	case refused:
		q.fail(b, a.err)
	}
}

// answerGap handles a refusal for the sequence number. Behind an undecided batch it is the expected consequence. At the
// head it means that the log does not have what went before: the producer's state has expired, or an earlier batch
// was given up.
func (q *sendQueue) answerGap(b *batch, a answer, now time.Time) {
	switch {
	case !q.idempotent:
		q.fail(b, a.err)
	case b.void || b != q.head():
	case b.maybe:
		q.fail(b, a.err)
	default:
		q.hole(b)
		b.void = true
		q.backOff(b, a, now)
	}
}

// head is the oldest batch that is not settled.
func (q *sendQueue) head() *batch {
	for _, b := range q.batches {
		if !b.settled {
			return b
		}
	}
	return nil
}

// fail settles a batch that will not be sent again: with cause where none of its attempts can have been appended, else
// as unknown.
func (q *sendQueue) fail(b *batch, cause *Error) {
	if b.sequenced && !b.void {
		q.hole(b)
	}
	var err error = cause
	if b.maybe {
		err = unknownOutcome(q.op(), cause)
	}
	q.settle(b, outcome{err: err})
}

// hole notes that b's sequence is never sent again. If it can't be in the log either, nothing behind it can.
func (q *sendQueue) hole(b *batch) {
	q.broken = true
	if b.maybe {
		return
	}
	for _, later := range q.batches[slices.Index(q.batches, b)+1:] {
		if later.sequenced && !later.settled {
			later.void, later.maybe = true, false
		}
	}
}

// split makes two batches of one that is too large for its topic. They take the same sequence numbers, so that nothing
// behind them moves.
func (q *sendQueue) split(b *batch) {
	q.batchBytes = max(b.bytes/2, batchOverhead+1)
	n := len(b.records) / 2
	left, right := *b, *b
	left.records, right.records = b.records[:n:n], b.records[n:]
	left.done, right.done = b.done[:n:n], b.done[n:]
	left.flushed = nil
	left.half, right.half = true, true
	left.encoded, right.encoded = nil, nil
	left.bytes = b.bytes / 2
	right.bytes = b.bytes - left.bytes
	right.first = advance(b.first, n)
	i := slices.Index(q.batches, b)
	q.batches = slices.Replace(q.batches, i, i+1, &left, &right)
}

func (q *sendQueue) settle(b *batch, o outcome) {
	b.settled, b.outcome, b.encoded = true, o, nil
}

// pop removes the settled batches at the head.
func (q *sendQueue) pop() []*batch {
	n := 0
	for n < len(q.batches) && q.batches[n].settled {
		n++
	}
	if n == 0 {
		return nil
	}
	finished := slices.Clone(q.batches[:n])
	q.batches = slices.Delete(q.batches, 0, n)
	return finished
}

// abandon settles everything, because the producer closes; nothing is sent any more.
func (q *sendQueue) abandon() {
	for _, b := range q.batches {
		switch {
		case b.settled:
		case b.maybe || b.inFlight && !b.void:
			q.settle(b, outcome{err: unknownOutcome(q.op(), q.last)})
		default:
			q.settle(b, outcome{err: fmt.Errorf("%s: %w", q.op(), ErrClosed)})
		}
	}
}

// backOff delays the next attempt. When a stream breaks, all its batches fail at once: that is one failure, the head's.
func (q *sendQueue) backOff(b *batch, a answer, now time.Time) {
	if b != q.head() && a.retryAfter == 0 {
		return
	}
	wait := q.delay(q.attempt, a.retryAfter)
	if q.attempt == 0 && a.err != nil && a.err.Reason == reasonDraining {
		wait = 0 // at another agent
	}
	q.retryAt = now.Add(wait)
	q.attempt++
}

func (q *sendQueue) op() string { return fmt.Sprintf("produce %s/%d", q.topic, q.partition) }

// earliest is the earlier of two times; a zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// batchOverhead is the header of a record batch, in bytes; recordOverhead and headerOverhead are the most that a record and a
// header take beside their own bytes, short of gigantic ones.
const (
	batchOverhead  = 61
	recordOverhead = 24
	headerOverhead = 10
)

// recordBytes is the uncompressed size of a record in a batch, rounded up.
func recordBytes(r *Record) int {
	n := recordOverhead + len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += headerOverhead + len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}
