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
	// loadRate is in records of 1 KiB a second: what a machine of two cores carries with stores and senders.
	loadRate = 16 << 10
)

// company compares what three agents use for a load with what one uses, in turn, each time in a cluster of their own.
func (s *onStores) company() error {
	var used, idle [2]float64 // seconds of CPU: per GiB, and per second without load
	var bytes [2]int64
	var cpu, rest [2]time.Duration
	for round := range rounds {
		for i, zones := range [][]string{{""}, {"", "", ""}} {
			r, err := s.round(fmt.Sprintf("company-%d-%d", len(zones), round), zones)
			if err != nil {
				return err
			}
			cpu[i], rest[i], bytes[i] = cpu[i]+r.cpu, rest[i]+r.idle, bytes[i]+r.bytes
		}
	}
	for i := range used {
		used[i], idle[i] = perGiB(cpu[i].Seconds(), bytes[i]), rest[i].Seconds()/(rounds*idleFor.Seconds())
	}
	report(fmt.Sprintf("three agents against one, %d MiB/s, %d partitions", loadRate>>10, partitions),
		fmt.Sprintf("agent CPU %.2f against %.2f s/GiB: %.2f; without load %.0f against %.0f ms/s", used[1], used[0], used[1]/used[0], 1000*idle[1], 1000*idle[0]),
		"<= 1.25", used[1] <= 1.25*used[0])
	return nil
}

// usedUp is what a load took of agents.
type usedUp struct {
	cpu, idle time.Duration
	bytes     int64
}

const idleFor = 5 * time.Second

// round sends the load to the agents and compares what they ask of the stores with what it must be.
func (s *onStores) round(name string, zones []string) (r usedUp, err error) {
	f, err := s.muster(name, "4", zones...)
	defer func() { err = errors.Join(err, f.dismiss()) }()
	if err != nil {
		return r, err
	}
	if err := f.topic("load", partitions); err != nil {
		return r, err
	}
	quiet, err := f.look()
	if err != nil {
		return r, err
	}
	time.Sleep(idleFor)
	before, err := f.look()
	if err != nil {
		return r, err
	}
	sent, err := f.send(streams, loadRate, s.duration, "--topic", "load")
	if err != nil {
		return r, err
	}
	after, err := f.look()
	if err != nil {
		return r, err
	}
	r = usedUp{after.cpu - before.cpu, before.cpu - quiet.cpu, sent.Bytes}
	return r, f.compare(before, after)
}

// compare holds what was asked of the stores against what follows from the protocol: an object per flush, at most four flushes a second and agent
// behind a burst of four; an item per entry, and an entry per shard and flush where no two agents' proposals meet; a renewal a second and shard,
// and one behind each snapshot; a heartbeat every ten seconds and agent.
func (f *fleet) compare(before, after account) error {
	all, err := f.segments()
	if err != nil {
		return err
	}
	count := func(store, kind, cause string) int64 {
		return requests(after.asked, store, kind, cause) - requests(before.asked, store, kind, cause)
	}
	n, seconds := int64(len(f.agents)), (after.counted - before.counted).Seconds()
	const shards = 4
	flushes, commits, entries := count("bucket", "put", "flush"), count("table", "put_item", "commit"), after.entries-before.entries
	atMost := n * int64(4*seconds+4)
	report(fmt.Sprintf("  objects of %d agents in %.0f s", n, seconds), fmt.Sprintf("%d PUT for %d segments; %.2f flushes/s and agent", flushes, len(all), float64(flushes)/seconds/float64(n)),
		fmt.Sprintf("one each, <= %d", atMost), flushes == int64(len(all)) && flushes <= atMost)
	report("  entries", fmt.Sprintf("%d table puts for %d entries; %.2f per flush, %d shards", commits, entries, float64(entries)/float64(flushes), shards),
		fmt.Sprintf("one each, <= %d", shards*flushes), commits == entries && commits <= shards*flushes)
	leases, snapshots := count("table", "put_item", "lease"), count("bucket", "put", "snapshot")
	leasesMax := int64(shards*(seconds+1)) + snapshots
	report("  renewals and snapshots", fmt.Sprintf("%d puts to lease items, %d snapshots", leases, snapshots), fmt.Sprintf("<= %d puts", leasesMax), leases <= leasesMax)
	beats, beatsMax := count("table", "put_item", "cluster"), n*int64(seconds/10+1)
	report("  heartbeats", fmt.Sprintf("%d puts of agents' items", beats), fmt.Sprintf("<= %d", beatsMax), beats <= beatsMax)
	watched, read := count("table", "", "lease")-leases, count("table", "", "read")
	fmt.Printf("  besides: %d reads of lease items, %d of slots, %d other requests to the table; %d GET of segments\n",
		watched, read, count("table", "", "cluster")-beats, count("bucket", "get", "read"))
	return nil
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
		time.Sleep(time.Until(due))
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
