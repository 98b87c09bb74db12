package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Producer identifies an idempotent producer; ID NoProducer: not idempotent.
type Producer struct {
	ID    objectlog.ProducerID
	Epoch int16
}

// AnyPartition leaves the choice of the partition to the agent.
const AnyPartition objectlog.Partition = -1

// ProduceBatch is one batch of one topic. Either Records or Encoded is set.
type ProduceBatch struct {
	Topic         string
	Partition     objectlog.Partition // AnyPartition: by key, records without key by sticky round robin
	Records       []objectlog.Record  // a record with NoTimestamp gets the time of arrival; kept until the batch is decided
	Encoded       []byte              // one record batch v2; kept until the batch is decided
	Expected      objectlog.Offset    // append only at this offset; NoOffset: anywhere
	FirstSequence int32               // -1: none
}

// ProduceRequest is any number of batches, decided each on its own.
type ProduceRequest struct {
	Batches  []ProduceBatch
	Producer Producer
}

// Position is where a record is.
type Position struct {
	Partition objectlog.Partition
	Offset    objectlog.Offset
}

// ProduceResult is the decision on one batch.
type ProduceResult struct {
	Err        error      // nil: appended. Matches a Fault, a metadata.Reason or an error of objectlog; *Error has details
	Positions  []Position // per record, NoOffset where it was not appended; for an encoded batch one, its base offset
	Duplicate  bool
	AppendTime objectlog.Timestamp // NoTimestamp: the records keep their own
}

// busyRetry is advised to clients that met a full buffer: about what one flush takes.
const busyRetry = 250 * time.Millisecond

// Pending is a request that has its place in the order but is not decided yet.
type Pending struct {
	topics []string // per batch
	// current finds a topic by a current read; nil where the own catalog can't lag.
	current func(ctx context.Context, name string, version int64) (metadata.Topic, error)

	mu      sync.Mutex
	results []ProduceResult
	open    []int // per batch: shares not decided
	left    int   // shares not decided
	done    chan struct{}
}

// share is one partition's part of a batch; it owns a write.Batch.
type share struct {
	pending *Pending
	batch   int
	index   []int32 // per record of the share: which record of the batch it is; nil: the same
}

// Submit validates the request and gives it its place behind everything submitted before. It waits only where the buffer is full, or a
// topic is not known yet, at most until ctx ends. It never fails as a whole: what is wrong is in the results.
func (a *Agent) Submit(ctx context.Context, r ProduceRequest) *Pending {
	p := &Pending{
		topics:  make([]string, len(r.Batches)),
		results: make([]ProduceResult, len(r.Batches)),
		open:    make([]int, len(r.Batches)),
		done:    make(chan struct{}),
	}
	if a.leaders != nil {
		p.current = a.findCurrent
	}
	arrived := a.cfg.Wall()
	var batches []*write.Batch
	for i := range r.Batches {
		b := &r.Batches[i]
		p.topics[i] = b.Topic
		p.results[i].AppendTime = objectlog.NoTimestamp
		shares, err := a.admit(ctx, r.Producer, b, arrived)
		if err != nil {
			p.results[i].Err = produceError(objectOf(b.Topic, b.Partition), err)
			continue
		}
		for _, s := range shares {
			s.Owner.(*share).pending, s.Owner.(*share).batch = p, i
		}
		if b.Encoded == nil {
			p.results[i].Positions = unplaced(len(b.Records), b.Partition)
		}
		p.open[i] = len(shares)
		p.left += len(shares)
		batches = append(batches, shares...)
	}
	if p.left == 0 {
		close(p.done)
		return p
	}
	if err := a.writer.submit(ctx, batches); err != nil {
		for _, b := range batches {
			p.answer(write.Answer{Batch: b, Err: err})
		}
	}
	return p
}

func unplaced(n int, partition objectlog.Partition) []Position {
	positions := make([]Position, n)
	for i := range positions {
		positions[i] = Position{Partition: partition, Offset: objectlog.NoOffset}
	}
	return positions
}

// Wait answers when every batch is decided; a batch still undecided when ctx ends is answered as OutcomeUnknown.
func (p *Pending) Wait(ctx context.Context) []ProduceResult {
	select {
	case <-p.done:
		p.doubt(ctx)
		return p.results
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	results := append([]ProduceResult(nil), p.results...)
	for i := range results {
		if p.open[i] > 0 {
			results[i] = ProduceResult{AppendTime: objectlog.NoTimestamp,
				Err: produceError(p.topics[i], because(OutcomeUnknown, ctx.Err()))}
		}
	}
	return results
}

var errMadeAnew = errors.New("the topic was deleted and made anew: send the batch again")

// doubt looks at what is said to be unknown: the own catalog may have lagged behind a topic's deletion and its new creation, and then the batch
// went to partitions that are gone. It is not in the log, and is welcome in the new ones.
func (p *Pending) doubt(ctx context.Context) {
	for i, r := range p.results {
		if p.current == nil || !errors.Is(r.Err, metadata.ReasonUnknownTopic) {
			continue
		}
		if _, err := p.current(ctx, p.topics[i], 0); err == nil {
			p.results[i].Err = produceError(p.topics[i], because(Unavailable, errMadeAnew))
		}
	}
}

// answer takes the decision on one share.
func (p *Pending) answer(d write.Answer) {
	s := d.Batch.Owner.(*share)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &p.results[s.batch]
	appended, err := place(r, s, d)
	if err != nil && r.Err == nil {
		r.Err = produceError(objectOf(p.topics[s.batch], d.Batch.Partition), err)
	}
	p.open[s.batch]--
	if p.open[s.batch] == 0 && r.Err != nil && (appended || anyPlaced(r.Positions)) && !errors.Is(r.Err, OutcomeUnknown) {
		// Some records of the batch are in the log and some are not: "failed" would be wrong for the former.
		r.Err = &Error{Op: "produce", Object: p.topics[s.batch], Cause: because(OutcomeUnknown, r.Err),
			Hint: "some records of the batch were appended: the positions say which"}
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

// place writes the share's offsets into the result.
func place(r *ProduceResult, s *share, d write.Answer) (appended bool, err error) {
	if d.Err != nil {
		return false, d.Err
	}
	for _, part := range d.Parts {
		if part.Reason != metadata.ReasonNone {
			err = &refusal{reason: part.Reason, actual: part.Base}
			continue
		}
		appended = true
		r.Duplicate = r.Duplicate || part.Duplicate
		r.AppendTime = max(r.AppendTime, part.AppendTime)
		if d.Batch.Encoded != nil && r.Positions == nil {
			r.Positions = []Position{{d.Batch.Partition, part.Base}}
			continue
		}
		for k := range part.Records {
			i := part.First + k
			if s.index != nil {
				i = int(s.index[i])
			}
			r.Positions[i] = Position{d.Batch.Partition, part.Base + objectlog.Offset(k)}
		}
	}
	return appended, err
}

func anyPlaced(positions []Position) bool {
	for _, p := range positions {
		if p.Offset != objectlog.NoOffset {
			return true
		}
	}
	return false
}

// refusal is a reason of the state with the partition's actual next offset.
type refusal struct {
	reason metadata.Reason
	actual objectlog.Offset
}

func (r *refusal) Error() string { return r.reason.Error() }
func (r *refusal) Unwrap() error { return r.reason }

// produceError puts a cause into the words of this package.
func produceError(object string, err error) error {
	e := &Error{Op: "produce", Object: object, Cause: err}
	var known *Error
	var r *refusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &r):
		e.Cause = r.reason
		if r.reason == metadata.ReasonOffsetMismatch {
			e.Details = map[string]string{"actual": strconv.FormatInt(int64(r.actual), 10)}
		}
	case errors.Is(err, write.ErrUnknown):
		e.Cause = OutcomeUnknown
		if err != write.ErrUnknown { // it says why
			e.Cause = because(OutcomeUnknown, err)
		}
		e.Hint = "retry with the same sequence or expected offset"
	case errors.Is(err, write.ErrNotWritten):
		e.Cause = because(Unavailable, err)
	case errors.Is(err, Busy):
		e.RetryAfter = busyRetry
	}
	return e
}

// objectOf names a topic or one of its partitions.
func objectOf(topic string, p objectlog.Partition) string {
	if p < 0 {
		return topic
	}
	return fmt.Sprintf("%s/%d", topic, p)
}
