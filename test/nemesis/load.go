package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	topicName = "nemesis"
	// unseenTimeout is how long after the end everything acknowledged may take to be read (I8).
	unseenTimeout = 60 * time.Second
	closeTimeout  = 150 * time.Second // above the time in which a producer gives up a record
	pollMax       = 1000
	burstMax      = 4
	// replaysMax bounds what a history remembers of readers that read all of it again.
	replaysMax = 10
)

// used are the partitions that are written to. They lie in blocks of 64, each in the next shard.
var used = []client.Partition{0, 1, 2, 64, 65, 66, 128, 129, 130}

// trimmed is the one whose beginning goes away.
const trimmed client.Partition = 130

// The producers, by what they do.
const (
	everywhere  = iota // round the partitions: a recovery shows at once
	streaming          // as the SDK does by default
	unary              // one call per request, to one agent as long as that answers
	impatient          // gives up soon, so that there are outcomes to judge
	loose              // not idempotent
	conditional        // appends at the end that it knows
	producers
)

// load is clients that write and read until finish.
type load struct {
	h      *history.History
	c      *cluster
	seed   uint64
	stop   context.CancelFunc // ends the sending
	wg     sync.WaitGroup     // of what sends
	read   context.CancelFunc // ends the tail
	reads  sync.WaitGroup
	tail   *history.Reader
	floors []atomic.Int64 // by place in used: an acknowledged record has the offset below
	rate   time.Duration  // between the records of one producer
}

// startLoad makes the topic and begins.
func startLoad(ctx context.Context, c *cluster, h *history.History, seed uint64, rate time.Duration) (*load, error) {
	l := &load{h: h, c: c, seed: seed, floors: make([]atomic.Int64, len(used)), rate: rate}
	admin, err := l.client()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if _, err := admin.CreateTopic(ctx, client.Topic{Name: topicName, Partitions: 64 * shards}); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	sending, stop := context.WithCancel(ctx)
	reading, read := context.WithCancel(context.WithoutCancel(ctx))
	l.stop, l.read = stop, read
	for n := range producers {
		l.wg.Go(func() { l.report(l.produce(sending, n)) })
	}
	if err := l.startWork(sending, admin); err != nil {
		stop()
		read()
		return nil, err
	}
	l.wg.Go(func() { l.report(l.replay(sending)) })
	l.wg.Go(func() { l.report(l.administer(sending)) })
	l.tail = h.Reader("tail")
	l.reads.Go(func() { l.report(l.follow(reading, l.tail, client.Earliest(), l.c.balanced()...)) })
	l.reads.Go(func() {
		l.report(l.follow(reading, h.Reader("tail of one agent"), client.Earliest(), l.c.agents[0].address))
	})
	return l, nil
}

// report notes what keeps a client from its work.
func (l *load) report(err error) {
	if err != nil {
		l.h.Accuse("broken-client", "%v", err)
	}
}

// client goes through the load balancer, or to those addresses.
func (l *load) client(addresses ...string) (*client.Client, error) {
	if len(addresses) == 0 {
		addresses = l.c.balanced()
	}
	return client.New(client.Config{Addresses: addresses})
}

func manner(n int) client.ProducerConfig {
	cfg := client.ProducerConfig{Partitioner: client.Manual}
	switch n {
	case unary:
		cfg.Unary = true
	case impatient:
		cfg.DeliveryTimeout = 1500 * time.Millisecond
	case loose:
		cfg.NotIdempotent, cfg.DeliveryTimeout = true, 1500*time.Millisecond
	}
	return cfg
}

// produce sends records until ctx ends, then waits until all are decided.
func (l *load) produce(ctx context.Context, n int) error {
	addresses := l.c.balanced()
	if n%2 == 1 { // half of them choose among the agents by themselves
		addresses = l.c.links()
	}
	c, err := l.client(addresses...)
	if err != nil {
		return err
	}
	defer c.Close()
	if n == loose {
		l.h.Loosen(n)
	}
	chance := rand.New(rand.NewPCG(l.seed, uint64(n)))
	if n == conditional {
		return l.appendAtEnds(ctx, c, chance)
	}
	p, err := c.NewProducer(manner(n))
	if err != nil {
		return err
	}
	gap := l.rate
	if n == everywhere {
		gap /= 4
	}
	for i := 0; pause(ctx, gap/2+time.Duration(chance.Int64N(int64(gap)))); {
		place := chance.IntN(len(used))
		values := make([]history.Value, 1+chance.IntN(burstMax))
		if n == everywhere {
			place, values = i%len(used), values[:1]
		}
		for k := range values {
			values[k] = history.Value{Producer: n, Sequence: i}
			i++
		}
		l.h.Send(used[place], values...)
		for _, v := range values {
			// Not under ctx: a record that was sent is decided by the log, not by the end of the load.
			p.Produce(context.WithoutCancel(ctx), client.Record{Topic: topicName, Partition: used[place], Value: []byte(v.String())},
				func(r client.Result) { l.decided(place, v, r.Offset, r.Err) })
		}
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := p.Close(closing); err != nil {
		return fmt.Errorf("close producer %d: %w", n, err)
	}
	return nil
}

func (l *load) decided(place int, v history.Value, o client.Offset, err error) {
	switch {
	case err == nil:
		l.h.Ack(v, o)
		for floor := l.floors[place].Load(); int64(o) >= floor && !l.floors[place].CompareAndSwap(floor, int64(o)+1); {
			floor = l.floors[place].Load()
		}
	case errors.Is(err, client.ErrUnknownOutcome):
		l.h.Doubt(v)
	default:
		l.h.Fail(v)
	}
}

// appendAtEnds appends each record where it believes the end to be.
func (l *load) appendAtEnds(ctx context.Context, c *client.Client, chance *rand.Rand) error {
	for i := 0; pause(ctx, l.rate/2+time.Duration(chance.Int64N(int64(l.rate)))); i++ {
		place := chance.IntN(len(used))
		ends, err := c.Offsets(ctx, topicName, client.Latest(), used[place])
		if err != nil || ends[0].Err != nil {
			continue
		}
		v := history.Value{Producer: conditional, Sequence: i}
		l.h.Send(used[place], v)
		o, err := c.AppendAt(context.WithoutCancel(ctx), topicName, used[place], ends[0].Offset, client.Record{Value: []byte(v.String())})
		l.decided(place, v, o, err)
		if err == nil && o != ends[0].Offset {
			l.h.Accuse("wrong-condition", "%s was to be at %d and is at %d", v, ends[0].Offset, o)
		}
	}
	return nil
}

// follow reads until ctx ends.
func (l *load) follow(ctx context.Context, r *history.Reader, start client.Start, addresses ...string) error {
	c, err := l.client(addresses...)
	if err != nil {
		return err
	}
	defer c.Close()
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: assigned(), Start: start, FetchWait: time.Second, OutOfRange: client.OutOfRangeEarliest})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for {
		records, err := consumer.Poll(ctx, pollMax)
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

func assigned() []client.Assignment {
	all := make([]client.Assignment, len(used))
	for i, p := range used {
		all[i] = client.Assignment{Topic: topicName, Partition: p}
	}
	return all
}

// replayEvery is the pause between two readings of everything.
const replayEvery = 5 * time.Second

// replay reads everything through one agent after the other, each time to where the log ends.
func (l *load) replay(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(l.seed, producers))
	for n := 0; n < replaysMax && pause(ctx, replayEvery); n++ {
		a := l.c.agents[chance.IntN(len(l.c.agents))]
		r, due := l.h.Reader(fmt.Sprintf("replay %d through agent %d", n, a.index)), l.h.Due()
		// What ends it early is a fault that lasts, not an anomaly: records that are not there show in what was read.
		if err := l.readToEnd(ctx, r, a.address); err == nil {
			r.End(due)
		} else if ctx.Err() == nil && isLoss(err) {
			r.Stuck(err)
		}
	}
	return nil
}

// isLoss says whether an error is about the data, not about an agent that cannot serve just now.
func isLoss(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (e.Code == "data_loss" || e.Code == "out_of_range" || e.Code == "not_found")
}

// readToEnd reads until the log ends as it did at the beginning, or until an error.
func (l *load) readToEnd(ctx context.Context, r *history.Reader, addresses ...string) error {
	ctx, cancel := context.WithTimeout(ctx, unseenTimeout)
	defer cancel()
	c, err := l.client(addresses...)
	if err != nil {
		return err
	}
	defer c.Close()
	ends, err := c.Offsets(ctx, topicName, client.Latest(), used...)
	if err != nil {
		return err
	}
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: assigned(), OutOfRange: client.OutOfRangeEarliest})
	if err != nil {
		return err
	}
	defer consumer.Close()
	for _, end := range ends {
		if end.Err != nil {
			return end.Err
		}
		for r.Next(end.Partition) < end.HighWatermark { // the newest of a partition are never trimmed
			records, err := consumer.Poll(ctx, pollMax)
			if err != nil {
				return err
			}
			r.Polled(records)
		}
	}
	return nil
}

// end stops everything; what is under way is decided first.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
	l.read()
	l.reads.Wait()
}
