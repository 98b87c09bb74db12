package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
)

// stepsOfMany are the measurements of three agents in their order.
func (s *onStores) stepsOfMany() []func() error {
	return []func() error{
		s.company, func() error { return s.across("4") }, func() error { return s.across("20") },
		func() error { return s.tailing("a", "a", "a") }, func() error { return s.tailing("a", "b", "c") }, func() error { return s.tailing("a", "a", "b") },
	}
}

const (
	// streams of the same load, one for each of three agents.
	streams    = 3
	partitions = 256
	idleFor    = 5 * time.Second
)

// loads are in records of 1 KiB a second. At the smaller one what an agent does four times a second weighs most, whatever the load; at the larger
// one, what it does for each batch.
var loads = []float64{16 << 10, 64 << 10}

// company compares what three agents use for a load with what one uses, in turn, each time in a cluster of their own.
func (s *onStores) company() error {
	var one, three usedUp
	for round := range rounds {
		if err := s.round(fmt.Sprintf("one-%d", round), &one, ""); err != nil {
			return err
		}
		if err := s.round(fmt.Sprintf("three-%d", round), &three, "", "", ""); err != nil {
			return err
		}
	}
	for i, rate := range loads {
		a, b := perGiB(one.cpu[i].Seconds(), one.bytes[i]), perGiB(three.cpu[i].Seconds(), three.bytes[i])
		report(fmt.Sprintf("three agents against one, %.0f MiB/s, %d partitions", rate/1024, partitions),
			fmt.Sprintf("agent CPU %.2f against %.2f s/GiB: %.2f", b, a, b/a), "<= 1.25", b <= 1.25*a)
	}
	fmt.Printf("  without load: %.0f ms of CPU a second against %.0f\n", 1000*three.idle.Seconds()/(rounds*idleFor.Seconds()), 1000*one.idle.Seconds()/(rounds*idleFor.Seconds()))
	return nil
}

// usedUp is the CPU time of agents: without load, and for each of the loads.
type usedUp struct {
	idle  time.Duration
	cpu   [2]time.Duration
	bytes [2]int64
}

// round adds what agents in these zones use for the loads, and compares what they ask of the stores with what it must be.
func (s *onStores) round(name string, used *usedUp, zones ...string) (err error) {
	f, err := s.muster(name, "4", zones...)
	defer func() { err = errors.Join(err, f.dismiss()) }()
	if err != nil {
		return err
	}
	if err := f.topic("load", partitions); err != nil {
		return err
	}
	quiet, err := f.look()
	if err != nil {
		return err
	}
	<-time.After(idleFor)
	before, err := f.look()
	if err != nil {
		return err
	}
	used.idle += before.cpu - quiet.cpu
	for i, rate := range loads {
		sent, err := f.send(streams, rate, s.duration, "--topic", "load")
		if err != nil {
			return err
		}
		after, err := f.look()
		if err != nil {
			return err
		}
		used.cpu[i] += after.cpu - before.cpu
		used.bytes[i] += sent.Bytes
		f.compare(rate, before, after)
		before = after
	}
	return nil
}

// compare holds what was asked of the stores against what follows from the protocol: an object per flush, at most four flushes a second and agent
// behind a burst of four and one per full segment, and one PUT in twenty hedged; an item per entry, and an entry per shard and flush where no two agents' proposals meet; a
// renewal a second and shard, and one behind each snapshot; a heartbeat every ten seconds and agent, and a range of ids for producers.
func (f *fleet) compare(rate float64, before, after account) {
	count := func(store, kind, cause string) int64 {
		return requests(after.asked, store, kind, cause) - requests(before.asked, store, kind, cause)
	}
	const shards = 4
	n, seconds := int64(len(f.agents)), (after.counted - before.counted).Seconds()
	what := func(of string) string {
		return fmt.Sprintf("  %s, %d agents, %.0f MiB/s, %.0f s", of, n, rate/1024, seconds)
	}
	flushes, segments, full := count("bucket", "put", "flush"), after.segments-before.segments, after.full-before.full
	flushesMax := n*int64(4*seconds+4) + full
	report(what("objects"), fmt.Sprintf("%d PUT for %d segments, %d of them full; %.2f a second and agent", flushes, segments, full, float64(segments)/seconds/float64(n)),
		fmt.Sprintf("one each, <= %d", flushesMax), segments <= flushesMax && flushes >= segments && flushes <= segments+segments/20+1)
	commits, entries := count("table", "put_item", "commit"), after.entries-before.entries
	report(what("entries"), fmt.Sprintf("%d table puts for %d entries; %.2f per flush", commits, entries, float64(entries)/float64(segments)),
		fmt.Sprintf("one each, <= %d", shards*segments), commits == entries && commits <= shards*segments)
	leases, snapshots := count("table", "put_item", "lease"), count("bucket", "put", "snapshot")
	leasesMax := int64(shards*(seconds+1)) + snapshots
	report(what("renewals"), fmt.Sprintf("%d puts to lease items, %d snapshots", leases, snapshots), fmt.Sprintf("<= %d", leasesMax), leases <= leasesMax)
	beats, beatsMax := count("table", "put_item", "cluster"), n*int64(seconds/10+1)+streams
	report(what("heartbeats and ids"), fmt.Sprintf("%d puts", beats), fmt.Sprintf("<= %d", beatsMax), beats <= beatsMax)
	fmt.Printf("    besides, to the table: %d reads of lease items, %d of slots, %d others; %d GET of segments\n",
		count("table", "", "lease")-leases, count("table", "", "read"), count("table", "", "cluster")-beats, count("bucket", "get", "read"))
}

// across produces through one agent and reads through another.
func (s *onStores) across(flushRate string) (err error) {
	f, err := s.muster("across-"+flushRate, flushRate, "", "", "")
	defer func() { err = errors.Join(err, f.dismiss()) }()
	if err != nil {
		return err
	}
	if err := f.topic("across", partitions); err != nil {
		return err
	}
	var acked, received waits
	sent, err := f.sendAndReceive("across", 1024, s.duration, &acked, &received)
	if err != nil {
		return err
	}
	ack, end := acked.percentile(99), received.percentile(99)
	report(fmt.Sprintf("through one agent, read at another, %s flushes/s", flushRate),
		fmt.Sprintf("%d records: acknowledged p50 %.1f, p99 %.1f ms; received p50 %.1f, p99 %.1f ms: %.1f behind", sent, acked.percentile(50), ack, received.percentile(50), end, end-ack),
		"<= 20 ms behind", end-ack <= 20)
	return nil
}

// waits are times in milliseconds from when a record was due.
type waits struct {
	mu  sync.Mutex
	all []float64
}

func (w *waits) add(due time.Time) {
	took := time.Since(due)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, float64(took)/1e6)
}

func (w *waits) percentile(q int) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.all)
	return w.all[(len(w.all)-1)*q/100]
}

// sendAndReceive sends records of 1 KiB on schedule to the first agent, and reads all of them at the second. Each carries the time at which it was due.
func (f *fleet) sendAndReceive(topic string, rate int, duration time.Duration, acked, received *waits) (sent int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), duration+time.Minute)
	defer cancel()
	producer, err := f.clients[0].NewProducer(client.ProducerConfig{})
	if err != nil {
		return 0, err
	}
	consumer, err := f.clients[1].NewConsumer(client.ConsumerConfig{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	defer consumer.Close()
	sent = int(duration.Seconds() * float64(rate))
	reading := make(chan error, 1)
	go func() { reading <- receive(ctx, consumer, sent, received) }()
	var (
		once   sync.Once
		failed error
		start  = time.Now().Add(time.Second)
	)
	for n := range sent {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		<-time.After(time.Until(due))
		value := binary.BigEndian.AppendUint64(make([]byte, 0, 1024), uint64(due.UnixNano()))
		producer.Produce(ctx, client.Record{Topic: topic, Value: value[:1024]}, func(r client.Result) {
			acked.add(due)
			if r.Err != nil {
				once.Do(func() { failed = r.Err; cancel() })
			}
		})
	}
	err = errors.Join(producer.Close(ctx), <-reading)
	return sent, errors.Join(err, failed)
}

func receive(ctx context.Context, c *client.Consumer, records int, received *waits) error {
	for records > 0 {
		some, err := c.Poll(ctx, 1000)
		if err != nil {
			return fmt.Errorf("%d records did not arrive: %w", records, err)
		}
		for _, r := range some {
			received.add(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value))))
		}
		records -= len(some)
	}
	return nil
}
