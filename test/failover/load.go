package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/test/history"
)

const (
	topicName       = "failover"
	topicPartitions = 256
	// block is how many partitions in a row share a shard.
	block     = 64
	producers = 8
	readers   = 2
	pollMax   = 1000
	// closeTimeout is above the time in which a producer gives up a record.
	closeTimeout = 150 * time.Second
	// readTimeout is for reading back everything through one agent.
	readTimeout = 10 * time.Minute
)

// load is clients that write and read all the time.
type load struct {
	h         *history.History
	addresses []string
	every     time.Duration
	shardOf   map[client.Partition]int
	used      []client.Partition // by producers, one of each shard in turn
	plain     []client.Partition // by plain calls, one of each shard
	stop      context.CancelFunc // ends the sending
	writes    sync.WaitGroup
	stopReads context.CancelFunc
	reads     sync.WaitGroup
	acked     *marks // of producers
	read      *marks
	calls     calls
}

// startLoad makes the topic and begins.
func startLoad(ctx context.Context, c *cluster, s settings) (*load, error) {
	l := &load{h: history.New(), addresses: c.addresses(), every: s.every, shardOf: map[client.Partition]int{}, acked: newMarks(), read: newMarks()}
	if err := l.makeTopic(ctx); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	for i := range s.partitions {
		l.used = append(l.used, client.Partition(i%shards*block+i/shards))
	}
	for i := range shards {
		l.plain = append(l.plain, client.Partition(i*block+block-1))
	}
	// Neither ends with ctx: what was sent is to be decided and read back.
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	reading, stopReads := context.WithCancel(context.WithoutCancel(ctx))
	l.stop, l.stopReads = stop, stopReads
	for n := range producers {
		l.writes.Go(func() { l.report(l.produce(sending, n)) })
	}
	if c.balancer != nil {
		for n := range l.plain {
			l.writes.Go(func() { l.callOn(sending, n) })
		}
	}
	for n := range readers {
		l.reads.Go(func() { l.report(l.tail(reading, n)) })
	}
	return l, nil
}

func (l *load) makeTopic(ctx context.Context) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	made, err := c.CreateTopic(ctx, client.Topic{Name: topicName, Partitions: topicPartitions})
	if err != nil {
		return err
	}
	id, err := objectlog.ParseUUID(made.ID)
	for p := range client.Partition(topicPartitions) {
		l.shardOf[p] = int(metadata.ShardOf(id, p, shards))
	}
	return err
}

func (l *load) client(addresses ...string) (*client.Client, error) {
	if len(addresses) == 0 {
		addresses = l.addresses
	}
	return client.New(client.Config{Addresses: addresses})
}

// report notes what keeps a client from its work.
func (l *load) report(err error) {
	if err != nil {
		l.h.Accuse("broken-client", "%v", err)
	}
}

// produce sends a record at each tick, round the producer's partitions; then it waits until all are decided.
func (l *load) produce(ctx context.Context, n int) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual})
	if err != nil {
		return err
	}
	var mine []client.Partition
	for i, at := range l.used {
		if i/shards%producers == n {
			mine = append(mine, at)
		}
	}
	for i := 0; len(mine) > 0 && tick(ctx, l.every/time.Duration(len(mine))); i++ {
		at, v, sent := mine[i%len(mine)], history.Value{Producer: n, Sequence: i}, time.Now()
		l.h.Send(at, v)
		l.read.expect(v, sent)
		// Not under ctx: a record that was sent is decided by the log, not by the end of the load.
		p.Produce(context.WithoutCancel(ctx), client.Record{Topic: topicName, Partition: at, Value: []byte(v.String())}, func(r client.Result) {
			if l.decided(v, r.Offset, r.Err); r.Err == nil {
				l.acked.add(at, sent, time.Now())
			}
		})
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := p.Close(closing); err != nil {
		return fmt.Errorf("close producer %d: %w", n, err)
	}
	return nil
}

// tick waits for the next multiple of gap, so that what took long does not slow the load down.
func tick(ctx context.Context, gap time.Duration) bool {
	return pause(ctx, gap-time.Duration(time.Now().UnixNano())%gap)
}

func (l *load) decided(v history.Value, o client.Offset, err error) {
	switch {
	case err == nil:
		l.h.Ack(v, o)
		return
	case errors.Is(err, client.ErrUnknownOutcome):
		l.h.Doubt(v)
	default:
		l.h.Fail(v)
	}
	l.calls.sdkFailed(err)
}

// tail reads a share of the partitions until ctx ends.
func (l *load) tail(ctx context.Context, n int) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	var mine []client.Assignment
	for i, at := range l.used {
		if i/shards%readers == n%readers {
			mine = append(mine, client.Assignment{Topic: topicName, Partition: at})
		}
	}
	if len(mine) == 0 {
		return nil
	}
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: mine})
	if err != nil {
		return err
	}
	defer consumer.Close()
	r := l.h.Reader(fmt.Sprintf("tail %d", n))
	for {
		records, err := consumer.Poll(ctx, pollMax)
		now := time.Now()
		for _, one := range records {
			if v, err := history.ParseValue(string(one.Value)); err == nil {
				l.read.found(one.Partition, v, now)
			}
		}
		r.Polled(records)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.Stuck(err)
			return nil
		}
	}
}

// end stops everything; what is under way is decided first.
func (l *load) end() {
	l.stop()
	l.writes.Wait()
	l.stopReads()
	l.reads.Wait()
}

// readBack reads everything through one agent.
func (l *load) readBack(ctx context.Context, a *agent) {
	r, due := l.h.Reader(fmt.Sprintf("all through agent %d", a.index)), l.h.Due()
	if err := l.readToEnd(ctx, r, a.address); err != nil {
		r.Stuck(err)
		return
	}
	r.End(due)
}

func (l *load) readToEnd(ctx context.Context, r *history.Reader, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	c, err := l.client(address)
	if err != nil {
		return err
	}
	defer c.Close()
	all := append(append([]client.Partition(nil), l.used...), l.plain...)
	ends, err := c.Offsets(ctx, topicName, client.Latest(), all...)
	if err != nil {
		return err
	}
	var assigned []client.Assignment
	for _, at := range all {
		assigned = append(assigned, client.Assignment{Topic: topicName, Partition: at})
	}
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: assigned})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for _, end := range ends {
		if end.Err != nil {
			return end.Err
		}
		for r.Next(end.Partition) < end.HighWatermark {
			records, err := consumer.Poll(ctx, pollMax)
			if err != nil {
				return err
			}
			r.Polled(records)
		}
	}
	return nil
}
