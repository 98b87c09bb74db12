package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/client"
)

const (
	deskTopic      = "desk"
	deskPartitions = 8
	deskConsumers  = 64
	deskBatch      = 200
	lockProbe      = 2 * time.Second
	probes         = 200
)

// desk measures a queue: how many records are pulled and accepted, and how soon a record comes again whose lock has ended.
func (b *bench) desk(goal float64) error {
	c, err := client.New(client.Config{Addresses: []string{b.address}})
	if err != nil {
		return err
	}
	defer c.Close()
	var sent moved
	if err := b.verb(&sent, "produce", "--topic", deskTopic, "--partitions", strconv.Itoa(deskPartitions), "--size", "100"); err != nil {
		return err
	}
	before, err := b.cpu()
	if err != nil {
		return err
	}
	begun := time.Now()
	accepted, err := b.acceptAll(c)
	if err != nil {
		return err
	}
	took := time.Since(begun).Seconds()
	after, err := b.cpu()
	if err != nil {
		return err
	}
	rate := float64(accepted) / took
	report(fmt.Sprintf("queue, %d partitions, %d consumers", deskPartitions, deskConsumers), fmt.Sprintf("%.0f accepted/s of %d records, broker CPU %.2f s/s", rate, sent.Records, (after-before).Seconds()/took),
		fmt.Sprintf(">= %.0f/s", goal), rate >= goal)
	return b.redelivery(c)
}

// acceptAll has all consumers pull and accept for the duration.
func (b *bench) acceptAll(c *client.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), b.duration)
	defer cancel()
	var n atomic.Int64
	err := each(deskConsumers, deskConsumers, func(int) error {
		q, err := c.NewQueue(client.QueueConfig{Group: "desk", Topic: deskTopic, MaxRecords: deskBatch})
		if err != nil {
			return err
		}
		defer q.Close()
		for ctx.Err() == nil {
			records, err := q.Pull(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err == nil {
				err = q.Accept(context.Background(), records...)
			}
			if err != nil {
				return err
			}
			n.Add(int64(len(records)))
		}
		return nil
	})
	return n.Load(), err
}

// redelivery locks records one by one, lets the locks end, and prints how much later than that the records came again.
func (b *bench) redelivery(c *client.Client) error {
	const topic = "probe"
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.CreateTopic(ctx, client.Topic{Name: topic, Partitions: deskPartitions}); err != nil {
		return err
	}
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		return err
	}
	var failed error
	for i := range probes {
		p.Produce(ctx, client.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte("probe")}, func(r client.Result) { failed = errors.Join(failed, r.Err) })
	}
	if err := errors.Join(p.Close(ctx), failed); err != nil {
		return err
	}
	var (
		mu     sync.Mutex
		locked = map[string]time.Time{} // when the record was had, at the latest
		late   []time.Duration
	)
	err = each(4, 4, func(int) error {
		q, err := c.NewQueue(client.QueueConfig{Group: "probe", Topic: topic, LockTime: lockProbe, MaxRecords: 1, MaxWait: time.Second})
		if err != nil {
			return err
		}
		defer q.Close()
		for {
			mu.Lock()
			done := len(late) >= probes
			mu.Unlock()
			if done {
				return nil
			}
			records, err := q.Pull(ctx)
			if err != nil {
				return err
			}
			for _, r := range records {
				key := fmt.Sprint(r.Partition, "/", r.Offset)
				mu.Lock()
				since, again := locked[key]
				locked[key] = time.Now()
				if again {
					late = append(late, time.Since(since)-lockProbe)
				}
				mu.Unlock()
				if again {
					if err := q.Accept(ctx, r); err != nil {
						return err
					}
				}
			}
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(late)
	p50, p99 := late[len(late)/2], late[len(late)*99/100]
	report("  a record whose lock has ended", fmt.Sprintf("comes again %d ms (p50), %d ms (p99) later", p50.Milliseconds(), p99.Milliseconds()), "p99 < 500 ms", p99 < 500*time.Millisecond)
	return nil
}
