package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	topicName = "faults"
	producers = 5
	sendEvery = 15 * time.Millisecond // per producer, give or take
	// unseenTimeout is how long after the end everything acknowledged may take to be read (I8).
	unseenTimeout = 60 * time.Second
	closeTimeout  = 60 * time.Second
)

// used are the partitions that are written to. They lie in blocks of 64, each in the next shard, so both shards have some.
var used = []client.Partition{0, 1, 2, 3, 64, 65, 66, 67}

// load is producers that write and a consumer that reads, until finish.
type load struct {
	t       *testing.T
	h       *history.History
	clients []*client.Client
	stop    context.CancelFunc // ends the sending
	sending sync.WaitGroup

	tail       *history.Reader
	stopTail   context.CancelFunc
	tailing    sync.WaitGroup
	tailClient *client.Client
}

// startLoad makes the topic and begins. Clients know all addresses.
func startLoad(t *testing.T, http client.HTTPVersion, addresses ...string) *load {
	t.Helper()
	l := &load{t: t, h: history.New()}
	sending, stop := context.WithCancel(t.Context())
	l.stop = stop
	admin := newClient(t, http, addresses...)
	defer admin.Close()
	if _, err := admin.CreateTopic(t.Context(), client.Topic{Name: topicName, Partitions: 64 * shards}); err != nil {
		t.Fatal(err)
	}
	for n := range producers {
		c := newClient(t, http, addresses...)
		l.clients = append(l.clients, c)
		p, err := c.NewProducer(manner(n))
		if err != nil {
			t.Fatal(err)
		}
		l.sending.Go(func() { l.produce(sending, p, n) })
	}
	reading, stopTail := context.WithCancel(context.Background())
	l.stopTail, l.tailClient, l.tail = stopTail, newClient(t, http, addresses...), l.h.Reader("tail")
	l.tailing.Go(func() { l.follow(reading, l.tailClient, l.tail) })
	t.Cleanup(l.end)
	return l
}

// manner is how a producer produces. Most do as the SDK does by default; the last two report at once what others repeat, so that there are
// definite failures and unknown outcomes to judge.
func manner(n int) client.ProducerConfig {
	cfg := client.ProducerConfig{Partitioner: client.Manual}
	switch n {
	case producers - 2:
		cfg.DeliveryTimeout = 1500 * time.Millisecond
	case producers - 1:
		cfg.NotIdempotent, cfg.DeliveryTimeout = true, 1500*time.Millisecond
	}
	return cfg
}

func newClient(t *testing.T, http client.HTTPVersion, addresses ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addresses: addresses, HTTP: http})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// produce sends record after record until ctx ends, then waits until all are decided.
func (l *load) produce(ctx context.Context, p *client.Producer, n int) {
	chance := rand.New(rand.NewPCG(*seed, uint64(n)))
	for i := 0; ctx.Err() == nil; i++ {
		v := history.Value{Producer: n, Sequence: i}
		at := used[chance.IntN(len(used))]
		l.h.Send(at, v)
		// Not under ctx: a record that was sent is decided by the log, not by the end of the load.
		p.Produce(context.Background(), client.Record{Topic: topicName, Partition: at, Value: []byte(v.String())}, func(r client.Result) { l.decided(v, r) })
		wait := time.NewTimer(sendEvery/2 + time.Duration(chance.Int64N(int64(sendEvery))))
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
	closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := p.Close(closing); err != nil {
		l.t.Errorf("close producer %d: %v", n, err)
	}
}

func (l *load) decided(v history.Value, r client.Result) {
	switch {
	case r.Err == nil:
		l.h.Ack(v, r.Offset)
	case errors.Is(r.Err, client.ErrUnknownOutcome):
		l.h.Doubt(v)
	default:
		l.h.Fail(v)
	}
}

// follow reads until ctx ends.
func (l *load) follow(ctx context.Context, c *client.Client, r *history.Reader) {
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: assigned(), FetchWait: time.Second})
	if err != nil {
		l.t.Error(err)
		return
	}
	defer consumer.Close()
	for {
		records, err := consumer.Poll(ctx, 1000)
		r.Polled(records)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.Stuck(err)
			return
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

// finish ends the sending and waits until the tail has everything that was acknowledged.
func (l *load) finish() {
	l.t.Helper()
	l.stop()
	l.sending.Wait()
	eventually(unseenTimeout, func() bool { return l.tail.Behind() == 0 })
	l.end()
	l.tail.End(l.h.Due())
}

// end stops everything; it may be called again.
func (l *load) end() {
	l.stop()
	l.sending.Wait()
	l.stopTail()
	l.tailing.Wait()
	for _, c := range append(l.clients, l.tailClient) {
		c.Close()
	}
}

// readAll reads everything through one agent, from the beginning to where the log ends. What was acknowledged before must be there, on a
// follower too.
func (l *load) readAll(name, address string) {
	l.t.Helper()
	r, due := l.h.Reader(name), l.h.Due()
	if err := l.read(r, address); err != nil {
		r.Stuck(err)
		return
	}
	r.End(due)
}

// read reads until the log ends as it did at the beginning, or until an error.
func (l *load) read(r *history.Reader, address string) error {
	c := newClient(l.t, client.HTTPAuto, address)
	defer c.Close()
	ends, err := c.Offsets(l.t.Context(), topicName, client.Latest(), used...)
	if err != nil {
		return err
	}
	consumer, err := c.NewConsumer(client.ConsumerConfig{Partitions: assigned()})
	if err != nil {
		return err
	}
	defer consumer.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), unseenTimeout)
	defer cancel()
	for _, end := range ends {
		if end.Err != nil {
			return end.Err
		}
		for r.Next(end.Partition) < end.HighWatermark {
			records, err := consumer.Poll(ctx, 10_000)
			if err != nil {
				return err
			}
			r.Polled(records)
		}
	}
	return nil
}

// awaitRecovery waits until every partition takes records again, and answers how long that took.
func (l *load) awaitRecovery(since time.Time, within time.Duration) time.Duration {
	l.t.Helper()
	var took time.Duration
	var ok bool
	eventually(within+unseenTimeout, func() bool { took, ok = l.h.Recovered(since, len(used)); return ok })
	switch {
	case !ok:
		l.t.Errorf("not every partition took a record for %s", within+unseenTimeout)
		return -1
	case took > within:
		l.t.Errorf("every partition took records again after %s, want at most %s", took, within)
	}
	return took
}

// awaitAcks waits until so many records are acknowledged.
func (l *load) awaitAcks(n int) {
	l.t.Helper()
	if !eventually(startTimeout, func() bool { return l.h.Tally().Acked >= n }) {
		l.t.Fatalf("%d records acknowledged, want %d", l.h.Tally().Acked, n)
	}
}

// result judges the history and adds it to the table.
func (l *load) result(name string, recovery time.Duration, played int) {
	l.t.Helper()
	tally, found := l.h.Tally(), l.h.Check()
	results.add(row{name, *seed, tally, found, recovery, played})
	if len(found) > 0 {
		l.t.Errorf("anomalies:\n%s", found)
	}
	l.t.Logf("%d acknowledged, %d unknown, %d failed; again after %s; %d faults", tally.Acked, tally.Unknown, tally.Failed, recovery.Round(time.Millisecond), played)
}
