package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Queue hands out the records of a topic one by one, each to one of the queue's consumers at a time, until it is accepted. There can be more consumers
// than partitions. Its methods may be called together.
type Queue struct {
	c    *Client
	cfg  QueueConfig
	ctx  context.Context // ends on Close; not a request's
	stop context.CancelFunc

	grace time.Duration // of handlers when a Run is to end

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup // calls of Run; begun under mu only while not closed
}

// QueuedRecord is a record that is locked for this consumer until it is accepted, released or rejected, or its lock ends.
type QueuedRecord struct {
	Record
	Deliveries int32 // this one included

	token []byte
}

func (r *QueuedRecord) locked() locked {
	return locked{place{r.Topic, r.Partition}, r.Offset, r.token}
}

// NewQueue makes a consumer of a queue. Close it.
func (c *Client) NewQueue(cfg QueueConfig) (*Queue, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new queue: %w", err)
	}
	q := &Queue{c: c, cfg: cfg, grace: handlerGrace}
	q.ctx, q.stop = context.WithCancel(context.Background())
	return q, nil
}

// Pull locks the next records and answers them, at most MaxRecords, in each partition ascending. It waits for the first for MaxWait, and answers none
// when there was none. Errors that time can cure are retried until ctx ends. Records that do not reach the caller come again when their locks end.
func (q *Queue) Pull(ctx context.Context) ([]*QueuedRecord, error) {
	return q.pull(ctx, q.cfg.MaxRecords)
}

// Accept says that the records are processed: they never come again. It returns when the queue knows it.
//
// The error joins those of single records. One whose lock has ended, or that was acknowledged before, is ErrNotLocked: it comes again, or came, or is
// finished. When an attempt had no answer and its repetition finds the record not locked, or time ends before there is an answer, that is
// ErrUnknownOutcome. The same is true of Release, Reject and Return.
func (q *Queue) Accept(ctx context.Context, records ...*QueuedRecord) error {
	return q.acknowledge(ctx, ruling{verdict: splashdamv1.Verdict_VERDICT_ACCEPT}, records)
}

// Release says that the records are not processed: they come again behind the delay, at most 12 h, or become dead letters if this was the last of their
// deliveries. Of why, for the dead letter, at most 256 bytes are kept.
func (q *Queue) Release(ctx context.Context, delay time.Duration, why string, records ...*QueuedRecord) error {
	return q.acknowledge(ctx, ruling{verdict: splashdamv1.Verdict_VERDICT_RELEASE, delay: delay, why: brief(why)}, records)
}

// Reject says that the records can't be processed: they become dead letters. Of why at most 256 bytes are kept.
func (q *Queue) Reject(ctx context.Context, why string, records ...*QueuedRecord) error {
	return q.acknowledge(ctx, ruling{verdict: splashdamv1.Verdict_VERDICT_REJECT, why: brief(why)}, records)
}

// Return says that nobody has begun to process the records: they come again, and this delivery does not count.
func (q *Queue) Return(ctx context.Context, records ...*QueuedRecord) error {
	return q.acknowledge(ctx, ruling{verdict: splashdamv1.Verdict_VERDICT_RETURN}, records)
}

// Extend makes the locks end so long from now, 1 s to 12 h; 0: LockTime. Of one that is not locked any more the error is ErrNotLocked.
func (q *Queue) Extend(ctx context.Context, lock time.Duration, records ...*QueuedRecord) error {
	setDefault(&lock, q.cfg.LockTime)
	return q.acknowledge(ctx, ruling{verdict: splashdamv1.Verdict_VERDICT_EXTEND, lock: lock}, records)
}

// Close ends Pulls with ErrClosed, and Runs as the end of their contexts does; it returns when those have. It must not be called by a handler.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.stop()
	q.running.Wait()
}

func (q *Queue) acknowledge(ctx context.Context, as ruling, records []*QueuedRecord) error {
	ctx, cancel := context.WithTimeout(ctx, q.c.cfg.RequestTimeout)
	defer cancel()
	list := make([]*ack, 0, len(records))
	for _, r := range records {
		list = append(list, &ack{locked: r.locked(), ruling: as})
	}
	q.settle(ctx, list)
	errs := make([]error, 0, len(list))
	for _, a := range list {
		errs = append(errs, a.err)
	}
	return errors.Join(errs...)
}

// pull is Pull of at most so many records.
func (q *Queue) pull(ctx context.Context, recordsMax int) ([]*QueuedRecord, error) {
	op := fmt.Sprintf("pull of queue %s on %s", q.cfg.Group, q.cfg.Topic)
	req := &splashdamv1.PullRequest{
		Group: q.cfg.Group, Topic: q.cfg.Topic, MaxRecords: int32(recordsMax), MaxBytes: int32(q.cfg.MaxBytes), MaxWait: durationpb.New(q.cfg.MaxWait),
		LockTime: durationpb.New(q.cfg.LockTime), MaxDeliveries: int32(q.cfg.MaxDeliveries), DeadLetterTopic: q.cfg.DeadLetterTopic, Start: q.cfg.Start.message(),
	}
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.ctx, cancel)()
	var last error
	for attempt := 0; ; attempt++ {
		if calling.Err() != nil {
			return nil, closedOr(ctx, op, last)
		}
		res, err := q.pullOnce(calling, req)
		if err == nil {
			return q.pulled(res)
		}
		e := q.c.heed(errorOf(op, err))
		if calling.Err() == nil && !again(e) {
			return nil, e
		}
		if last = e; calling.Err() == nil {
			_ = pause(calling, q.c.cfg.delayAfter(attempt, e)) // the loop looks at the end of ctx
		}
	}
}

func (q *Queue) pullOnce(ctx context.Context, req *splashdamv1.PullRequest) (*splashdamv1.PullResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.MaxWait+q.c.cfg.RequestTimeout)
	defer cancel()
	return q.c.queues.Pull(ctx, req)
}

// again says that a call that is repeated without harm is worth it.
func again(e *Error) bool { return e.Retriable || e.Code == "deadline_exceeded" }

func (q *Queue) pulled(res *splashdamv1.PullResponse) ([]*QueuedRecord, error) {
	records := make([]*QueuedRecord, 0, len(res.GetRecords()))
	for _, m := range res.GetRecords() {
		r, err := recordOf(q.cfg.Topic, Partition(m.GetPartition()), m.GetRecord())
		if err != nil {
			return nil, err
		}
		records = append(records, &QueuedRecord{Record: r, Deliveries: m.GetDeliveries(), token: m.GetToken()})
	}
	return records, nil
}

// recordOf is a record as agents answer them one by one.
func recordOf(topic string, p Partition, m *splashdamv1.FetchedRecord) (Record, error) {
	r := Record{Topic: topic, Partition: p, Offset: Offset(m.GetOffset()), Timestamp: timeOf(m.GetTimestamp())}
	var errs [2]error
	r.Key, errs[0] = bytesOf(m.GetKey())
	r.Value, errs[1] = bytesOf(m.GetValue())
	failed := errors.Join(errs[:]...)
	for _, h := range m.GetHeaders() {
		value, err := bytesOf(h.GetValue())
		r.Headers, failed = append(r.Headers, Header{Key: h.GetKey(), Value: value}), errors.Join(failed, err)
	}
	if failed != nil {
		return Record{}, fmt.Errorf("read %s/%d at %d: %w", topic, p, r.Offset, failed)
	}
	return r, nil
}

// bytesOf is what a payload holds; nil: null. JSON, whose bytes may have been others, is only answered to those who ask in JSON.
func bytesOf(p *splashdamv1.Payload) ([]byte, error) {
	switch kind := p.GetKind().(type) {
	case nil:
		return nil, nil
	case *splashdamv1.Payload_Data:
		if kind.Data == nil {
			return []byte{}, nil
		}
		return kind.Data, nil
	case *splashdamv1.Payload_Text:
		return []byte(kind.Text), nil
	}
	return nil, errors.New("payload is neither bytes nor text")
}

// QueueStatus is how far a queue is.
type QueueStatus struct {
	MaxDeliveries   int // as the newest Pull said
	DeadLetterTopic string
	Partitions      []QueuePartition
}

// QueuePartition is how far a queue is in one partition.
type QueuePartition struct {
	Partition     Partition
	Next          Offset // below it nothing is handed out for the first time; NoOffset: the queue has had nothing of the partition yet
	Locked        int64  // records that are handed out
	Delayed       int64  // to be handed out again behind a delay
	Released      int64  // to be handed out again
	Failed        int64  // on their way to the dead-letter topic
	Lag           int64  // records that are not finished
	HighWatermark Offset
	LastUsed      time.Time
}

// QueueStatus answers how far a queue is. The answer is current.
func (c *Client) QueueStatus(ctx context.Context, group, topic string) (QueueStatus, error) {
	op := fmt.Sprintf("get queue %s on %s", group, topic)
	res, err := read(ctx, c, op, c.queues.GetQueue, &splashdamv1.GetQueueRequest{Group: group, Topic: topic})
	if err != nil {
		return QueueStatus{}, err
	}
	s := QueueStatus{MaxDeliveries: int(res.GetMaxDeliveries()), DeadLetterTopic: res.GetDeadLetterTopic()}
	for _, m := range res.GetPartitions() {
		p := QueuePartition{
			Partition: Partition(m.GetPartition()), Next: NoOffset, Locked: m.GetLocked(), Delayed: m.GetDelayed(), Released: m.GetReleased(),
			Failed: m.GetFailed(), Lag: m.GetLag(), HighWatermark: Offset(m.GetHighWatermark()), LastUsed: timeOf(m.GetLastUsed()),
		}
		if m.NextOffset != nil {
			p.Next = Offset(m.GetNextOffset())
		}
		s.Partitions = append(s.Partitions, p)
	}
	return s, nil
}
