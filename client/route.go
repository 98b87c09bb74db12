package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// topic is what a producer knows of one topic.
type topic struct {
	name       string
	queues     []*sendQueue // by partition, made when first used
	partitions int32
	sticky     Partition // where records go that may go anywhere
	asked      time.Time // when the partitions were last asked for
	asking     bool
}

// enqueue puts the record into its partition's queue.
func (p *Producer) enqueue(ctx context.Context, r *Record, done func(Result)) error {
	size := recordBytes(r)
	if int64(size) > p.cfg.BufferBytes {
		return &Error{Op: "produce " + r.Topic, Code: "invalid_argument", Reason: "MESSAGE_TOO_LARGE", KafkaCode: 10, definite: true,
			Message: fmt.Sprintf("record of %d bytes does not fit into the buffer of %d", size, p.cfg.BufferBytes)}
	}
	now := time.Now()
	stored := storedRecord(r, now)
	if stored.Timestamp < 0 {
		return &Error{Op: "produce " + r.Topic, Code: "invalid_argument", Reason: "INVALID_TIMESTAMP", KafkaCode: 32, definite: true,
			Message: "timestamp before 1970"}
	}
	p.mu.Lock()
	t, err := p.reserve(ctx, r.Topic, size)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	q, err := p.route(t, r, size, now)
	if err != nil {
		p.mu.Unlock()
		return err
	}
	idle := len(q.batches) == 0
	before := len(q.batches)
	sealed := q.add(stored, size, done, now, &p.spares)
	opened := len(q.batches) > before
	p.buffered += int64(size)
	if opened {
		p.buffered += batchOverhead
	}
	if idle {
		p.active = append(p.active, q)
	}
	p.mu.Unlock()
	if sealed || opened {
		p.wake.wake()
	}
	return nil
}

// reserve waits until the topic is known and the buffer has room. It is called and returns with the lock held.
func (p *Producer) reserve(ctx context.Context, name string, size int) (*topic, error) {
	for {
		if p.closed {
			return nil, fmt.Errorf("produce %s: %w", name, ErrClosed)
		}
		t := p.topics[name]
		switch {
		case t == nil:
			p.mu.Unlock()
			found, err := p.lookUp(ctx, name)
			p.mu.Lock()
			if err != nil {
				return nil, err
			}
			if p.topics[name] == nil {
				p.topics[name] = found
			}
		case p.buffered > 0 && p.buffered+int64(size)+batchOverhead > p.cfg.BufferBytes:
			space := p.space
			p.mu.Unlock()
			select {
			case <-space:
				p.mu.Lock()
			case <-ctx.Done():
				p.mu.Lock()
				return nil, fmt.Errorf("produce %s: wait for room in the buffer: %w", name, ctx.Err())
			}
		default:
			return t, nil
		}
	}
}

// freed tells those who wait for room, or for the end, to look again.
func (p *Producer) freed() {
	close(p.space)
	p.space = make(chan struct{})
}

// route answers the queue of the record, which takes so many bytes.
func (p *Producer) route(t *topic, r *Record, size int, now time.Time) (*sendQueue, error) {
	if !t.asking && now.Sub(t.asked) > p.cfg.MetadataAge {
		t.asking = true
		p.wg.Go(func() { p.refresh(t) })
	}
	at := p.cfg.Partitioner(r, t.partitions)
	if at == AnyPartition {
		if q := t.queues[t.sticky]; q == nil || !q.packs(size) {
			t.sticky = (t.sticky + 1) % Partition(t.partitions)
		}
		at = t.sticky
	}
	if at < 0 || int32(at) >= t.partitions {
		return nil, &Error{Op: fmt.Sprintf("produce %s/%d", t.name, at), Code: "not_found", Reason: "UNKNOWN_TOPIC_OR_PARTITION",
			KafkaCode: 3, definite: true, Message: fmt.Sprintf("the topic has %d partitions", t.partitions)}
	}
	if t.queues[at] == nil {
		t.queues[at] = &sendQueue{
			topic: t.name, partition: at, idempotent: !p.cfg.NotIdempotent, lingerMax: max(0, p.cfg.Linger),
			timeout: p.cfg.DeliveryTimeout, batchBytes: p.cfg.BatchBytes, delay: p.c.cfg.delay,
		}
	}
	return t.queues[at], nil
}

// lookUp asks for a topic's partitions. An unknown topic is created where the agents would create it, because the partitions must
// be known before the first record is sent.
func (p *Producer) lookUp(ctx context.Context, name string) (*topic, error) {
	op := "produce " + name
	res, err := read(ctx, p.c, op, p.c.topics.GetTopic, &splashdamv1.GetTopicRequest{Name: name})
	if errors.Is(err, ErrUnknownTopic) && p.create(ctx, op, name) {
		res, err = read(ctx, p.c, op, p.c.topics.GetTopic, &splashdamv1.GetTopicRequest{Name: name})
	}
	if err != nil {
		return nil, err
	}
	n := res.GetTopic().GetPartitions()
	if n < 1 {
		return nil, fmt.Errorf("produce %s: the agent answered %d partitions", name, n)
	}
	return &topic{
		name: name, partitions: n, queues: make([]*sendQueue, n), sticky: Partition(rand.Int32N(n)), asked: time.Now(),
	}, nil
}

// create creates the topic, if that is what the agents do with one that records are sent to. It answers whether it may be there now.
func (p *Producer) create(ctx context.Context, op, name string) bool {
	c, err := read(ctx, p.c, op, p.c.cluster.GetCluster, &splashdamv1.GetClusterRequest{})
	if err != nil || c.GetAutoCreatePartitions() == 0 {
		return false
	}
	_, err = p.c.CreateTopic(ctx, Topic{Name: name, Partitions: c.GetAutoCreatePartitions()})
	return err == nil || errors.Is(err, ErrTopicExists)
}

// refresh asks again. When that fails, the old number stands: whether the topic is gone is decided by the agent, record by
// record. Queues are never moved or dropped, even when a topic comes back smaller: they hold the sequence.
func (p *Producer) refresh(t *topic) {
	found, err := p.lookUp(p.ctx, t.name)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.asking, t.asked = false, time.Now()
	if err != nil {
		return
	}
	t.partitions = found.partitions
	t.sticky %= Partition(t.partitions)
	for len(t.queues) < int(t.partitions) {
		t.queues = append(t.queues, nil)
	}
}
