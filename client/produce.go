package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Acks says when the agent answers.
type Acks uint8

// The acknowledgements.
const (
	// AcksDurable: when the records are stored and their offsets committed.
	AcksDurable Acks = iota
	// AcksNone: when they are checked. Records may be lost, results have no offset, no unknown outcome is repeated.
	AcksNone
)

// NoOffset is the offset of a result that has none.
const NoOffset = objectlog.NoOffset

// ProducerConfig is the settings of a Producer. Zero values are the defaults named here.
type ProducerConfig struct {
	// Partitioner picks partitions; default HashKey.
	Partitioner Partitioner
	// Compression of batches: snappy (default), none, gzip, lz4 or zstd, Kafka's names. A batch that does not get smaller is sent as it is.
	Compression string
	// Acks; default AcksDurable.
	Acks Acks
	// NotIdempotent gives up exactly-once: an unknown outcome is reported and not repeated, and one batch per partition is in flight.
	NotIdempotent bool
	// BatchBytes is the uncompressed size at which a batch is sealed; default 1 MiB (Kafka's max.message.bytes), 1 KiB to 16 MiB.
	BatchBytes int
	// Linger is how long a batch waits for more records while another of its partition is in flight; default 5 ms, at most 1 min;
	// negative: not at all. With nothing in flight a record never waits: the batches grow when the agent is slow, not when it is idle.
	Linger time.Duration
	// BufferBytes bounds the records held, in flight included; Produce blocks when it is full. Default 64 MiB, 1 MiB to 16 GiB.
	BufferBytes int64
	// InFlightBytes bounds the records that were sent and not answered; default 32 MiB, 1 MiB to 16 GiB.
	InFlightBytes int64
	// InFlightBatches bounds them per partition; default and at most 5, which is how many batches the log remembers of a producer.
	InFlightBatches int
	// DeliveryTimeout is when a record is given up; default 2 min, 100 ms to 24 h. A batch that is in flight then is given up when its
	// answer comes or Config.RequestTimeout ends the wait for it.
	DeliveryTimeout time.Duration
	// MetadataAge is when the number of partitions of a topic is asked for again; default 30 s, 100 ms to 1 h.
	MetadataAge time.Duration
	// Unary sends each request as one call, one batch per partition at a time, instead of on a stream. A producer does so by itself
	// where streams do not work.
	Unary bool
}

func (c ProducerConfig) withDefaults() ProducerConfig {
	if c.Partitioner == nil {
		c.Partitioner = HashKey
	}
	setDefault(&c.Compression, "snappy")
	setDefault(&c.BatchBytes, 1<<20)
	setDefault(&c.Linger, 5*time.Millisecond)
	setDefault(&c.BufferBytes, 64<<20)
	setDefault(&c.InFlightBytes, 32<<20)
	setDefault(&c.InFlightBatches, 5)
	setDefault(&c.DeliveryTimeout, 2*time.Minute)
	setDefault(&c.MetadataAge, 30*time.Second)
	return c
}

var codecs = map[string]objectlog.Codec{
	"none": objectlog.CodecNone, "gzip": objectlog.CodecGzip, "snappy": objectlog.CodecSnappy,
	"lz4": objectlog.CodecLZ4, "zstd": objectlog.CodecZstd,
}

// Validate reports every problem of the configuration; zero values stand for their defaults.
func (c ProducerConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	if _, ok := codecs[c.Compression]; !ok {
		errs = append(errs, fmt.Errorf("Compression %q: want none, gzip, snappy, lz4 or zstd", c.Compression))
	}
	if c.Acks > AcksNone {
		errs = append(errs, fmt.Errorf("Acks %d: want AcksDurable or AcksNone", c.Acks))
	}
	errs = append(errs,
		within("BatchBytes", c.BatchBytes, 1<<10, 16<<20),
		within("Linger", c.Linger, c.Linger, time.Minute),
		within("BufferBytes", c.BufferBytes, 1<<20, 16<<30),
		within("InFlightBytes", c.InFlightBytes, 1<<20, 16<<30),
		within("InFlightBatches", c.InFlightBatches, 1, 5),
		within("DeliveryTimeout", c.DeliveryTimeout, 100*time.Millisecond, 24*time.Hour),
		within("MetadataAge", c.MetadataAge, 100*time.Millisecond, time.Hour),
	)
	return errors.Join(errs...)
}

// Result is what became of one record.
type Result struct {
	Topic     string
	Partition Partition
	Offset    Offset    // NoOffset with an error, with AcksNone, and for a duplicate that the log no longer remembers
	Duplicate bool      // an earlier attempt had been appended
	Time      time.Time // when it was appended
	// Err is nil when the record is in the log, once. It matches ErrUnknownOutcome when it may or may not be; anything else means
	// that it is not, and will not be.
	Err error
}

// Producer sends records. Its methods may be called together. Records of one partition are appended in the order of
// Produce, each exactly once while the producer lives (unless NotIdempotent or AcksNone).
type Producer struct {
	c     *Client
	cfg   ProducerConfig
	codec objectlog.Codec
	ctx   context.Context // ends when the producer gives up; not a request's
	stop  context.CancelFunc
	wake  signal         // something changed for run
	wg    sync.WaitGroup // run, receivers, unary calls, look-ups

	mu          sync.Mutex // all below
	topics      map[string]*topic
	active      []*sendQueue // those with batches
	buffered    int64        // bytes of batches that are not finished
	space       chan struct{}
	inFlight    int64 // bytes
	calls       int   // unary calls running
	identity    identity
	closed      bool
	finished    []*batch // being reported, in order
	reporting   bool
	spares      spares
	stream      *stream
	deadStreams int       // streams in a row that ended without one answer
	unaryUntil  time.Time // streams do not work
	correlation int64
}

// NewProducer starts a producer. Close it.
func (c *Client) NewProducer(cfg ProducerConfig) (*Producer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new producer: %w", err)
	}
	if cfg.Acks == AcksNone {
		cfg.NotIdempotent = true
	}
	if cfg.NotIdempotent {
		cfg.InFlightBatches = 1
	}
	p := &Producer{
		c: c, cfg: cfg, codec: codecs[cfg.Compression], wake: newSignal(),
		topics: make(map[string]*topic), space: make(chan struct{}),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.wg.Go(p.run)
	return p, nil
}

// Produce hands over a record and returns; done, if not nil, is called exactly once with what became of it. It blocks
// while the buffer is full and while the topic is seen for the first time, until ctx ends; once the record is taken, ctx has no
// further effect. Key, value and headers must not change before done is called.
//
// done is called by one goroutine at a time, in the order of the partition's records. It must not block, and must not call
// the producer: the next results wait behind it.
func (p *Producer) Produce(ctx context.Context, r Record, done func(Result)) {
	if err := p.enqueue(ctx, &r, done); err != nil && done != nil {
		done(Result{Topic: r.Topic, Partition: AnyPartition, Offset: NoOffset, Err: err})
	}
}

// ProduceSync produces the records and waits for all. Results are in the order of the records; the error is the first of
// theirs. When ctx ends, records still undecided are ErrUnknownOutcome, and may be written afterwards.
func (p *Producer) ProduceSync(ctx context.Context, records ...Record) ([]Result, error) {
	var mu sync.Mutex
	results := make([]Result, len(records))
	decided := make([]bool, len(records))
	left := len(records)
	all := make(chan struct{})
	for i := range records {
		p.Produce(ctx, records[i], func(r Result) {
			mu.Lock()
			defer mu.Unlock()
			results[i], decided[i] = r, true
			if left--; left == 0 {
				close(all)
			}
		})
	}
	if len(records) == 0 {
		return nil, nil
	}
	select {
	case <-all:
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	out := make([]Result, len(records))
	var first error
	for i, r := range results {
		if !decided[i] {
			op := "produce " + records[i].Topic
			last := &Error{Op: op, Message: context.Cause(ctx).Error()}
			r = Result{Topic: records[i].Topic, Partition: AnyPartition, Offset: NoOffset, Err: unknownOutcome(op, last)}
		}
		if out[i] = r; first == nil {
			first = r.Err
		}
	}
	return out, first
}

// Flush sends everything taken so far without waiting for linger, and returns when all of it is decided and reported.
func (p *Producer) Flush(ctx context.Context) error {
	all := make(chan struct{})
	left := 1
	decided := func() { // called with the lock held
		if left--; left == 0 {
			close(all)
		}
	}
	p.mu.Lock()
	for _, q := range p.active {
		if n := len(q.batches); n > 0 {
			last := q.batches[n-1]
			last.sealed = true
			last.flushed = append(last.flushed, decided)
			left++
		}
	}
	for _, b := range p.finished {
		b.flushed = append(b.flushed, decided)
		left++
	}
	decided()
	p.mu.Unlock()
	p.wake.wake()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush producer: %w", ctx.Err())
	}
}

// Close takes no more records, flushes until ctx ends, and gives up what is left then: as ErrUnknownOutcome what may have
// been written, as ErrClosed what was not. When it returns, every record has been reported.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.freed()
	p.mu.Unlock()
	err := p.Flush(ctx)
	p.stop()
	p.wg.Wait()
	return err
}
