package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newBench(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a broker, and the limit of the machine under it",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "bench")
	cmd.AddCommand(newBenchProduce(env), newBenchConsume(env), newBenchE2E(env), newBenchPipe(env))
	return cmd
}

// benchLoad is what a bench sends.
type benchLoad struct {
	topic       string
	partitions  int32
	size        int
	keys        int
	rate        float64 // records per second; 0: as fast as it goes
	duration    time.Duration
	compression string

	incompressible bool
	producers      int
}

func (l *benchLoad) flags(cmd *cobra.Command, rate float64) {
	f := cmd.Flags()
	f.StringVar(&l.topic, "topic", "splashdam-bench", "topic to use; created if absent")
	f.Int32Var(&l.partitions, "partitions", 16, "partitions of the topic, if it is created")
	f.IntVar(&l.size, "size", 1024, "bytes of one record")
	f.BoolVar(&l.incompressible, "incompressible", false, "records of random bytes")
	f.IntVar(&l.producers, "producers", 1, "producers that share the rate, 1 to 1000; an agent decides at most 5 batches of one in one partition at a time")
	f.IntVar(&l.keys, "keys", 0, "number of different keys; 0: records without key")
	f.Float64Var(&l.rate, "rate", rate, "records per second, sent on schedule whatever the broker does; 0: as fast as it goes")
	f.DurationVar(&l.duration, "duration", 10*time.Second, "how long")
	f.StringVar(&l.compression, "compression", "snappy", "none, gzip, snappy, lz4 or zstd")
}

func (l *benchLoad) check() error {
	switch {
	case l.size < benchSizeMin || l.size > benchSizeMax:
		return usageError("bench: --size %d: want %d to %d", l.size, benchSizeMin, benchSizeMax)
	case l.partitions < 1 || l.partitions > 100_000:
		return usageError("bench: --partitions %d: want 1 to 100000", l.partitions)
	case l.producers < 1 || l.producers > 1000:
		return usageError("bench: --producers %d: want 1 to 1000", l.producers)
	case l.keys < 0 || l.rate < 0 || l.duration <= 0:
		return usageError("bench: --keys and --rate want 0 or more, --duration more than 0")
	}
	return nil
}

// prepare makes the topic if it is absent.
func (l *benchLoad) prepare(ctx context.Context, c *client.Client) error {
	_, err := c.CreateTopic(ctx, client.Topic{Name: l.topic, Partitions: l.partitions})
	if errors.Is(err, client.ErrTopicExists) {
		return nil
	}
	return err
}

// send produces on schedule until the duration is over, then waits for what is under way. Latency counts from the time
// at which a record was due.
func (l *benchLoad) send(ctx context.Context, c *client.Client, p pace, acked *progress, ack *latencies) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		producers sync.WaitGroup
		once      sync.Once
		first     error
	)
	for i := range l.producers {
		producer, err := c.NewProducer(client.ProducerConfig{Compression: l.compression})
		if err != nil {
			return usage{err}
		}
		producers.Go(func() {
			if err := l.sendFrom(ctx, producer, i, p, acked, ack); err != nil {
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	producers.Wait()
	return first
}

// sendFrom sends the records of one producer: every so many of all, beginning with first.
func (l *benchLoad) sendFrom(ctx context.Context, producer *client.Producer, first int, p pace, acked *progress, ack *latencies) error {
	var (
		once   sync.Once
		failed atomic.Bool
		cause  error
	)
	records := newBenchRecords(uint64(first+1), l.size, l.keys, l.incompressible)
	records.next, records.step = uint64(first), uint64(l.producers)
	end := p.start.Add(l.duration)
	for n := int64(first); ctx.Err() == nil && !failed.Load(); n += int64(l.producers) {
		due := p.due(n)
		if due.After(end) {
			break
		}
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		key, value := records.take()
		size := int64(len(key) + len(value))
		producer.Produce(ctx, client.Record{Topic: l.topic, Key: key, Value: value}, func(r client.Result) {
			if r.Err != nil {
				once.Do(func() { cause = r.Err })
				failed.Store(true)
				return
			}
			ack.add(time.Since(due))
			acked.add(1, size)
		})
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return firstError(producer.Close(closing), cause)
}

// benchProduced is the result of bench produce.
type benchProduced struct {
	transferred
	Rate  float64     `json:"rate"` // asked for, 0: flat out
	Ack   percentiles `json:"ack"`
	Pipe  *pipeResult `json:"pipe,omitempty"`
	Ratio float64     `json:"ratio_to_pipe,omitempty"`
	benchRequests
}

func newBenchProduce(env *environment) *cobra.Command {
	var (
		load benchLoad
		pipe string
	)
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Send records flat out or at a rate, and measure throughput and acknowledgements",
		Long: `Bench produce sends records and measures how many are acknowledged, and how long each waits. With --rate it is an open
loop: a record that is late because the broker stalled counts from the time at which it was due. With --pipe-folder it
first measures the minimal pipe (see bench pipe) on that folder's disk, and prints the broker's throughput as a part of it.
Where the stores charge for requests it prints how many the agents sent meanwhile, per GiB of the records.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load.check(); err != nil {
				return err
			}
			return env.withClient(func(c *client.Client) error { return env.benchProduce(cmd.Context(), c, load, pipe) })
		},
	}
	load.flags(cmd, 0)
	cmd.Flags().StringVar(&pipe, "pipe-folder", "", "measure the minimal pipe first, in this folder")
	return cmd
}

func (env *environment) benchProduce(ctx context.Context, c *client.Client, load benchLoad, pipeFolder string) error {
	result := benchProduced{Rate: load.rate}
	if pipeFolder != "" {
		o := pipeOptions{folder: pipeFolder, partitions: int(load.partitions), size: load.size, incompressible: load.incompressible, segment: 8 << 20, duration: load.duration}
		r, err := measureFolder(ctx, o)
		if err != nil {
			return err
		}
		result.Pipe = &r
	}
	if err := load.prepare(ctx, c); err != nil {
		return err
	}
	before := env.beforeBench(ctx, c)
	acked, ack := newProgress("acknowledged"), newLatencies()
	stop := acked.show(ctx, env.err)
	err := load.send(ctx, c, pace{start: acked.started, rate: load.rate}, acked, ack)
	result.transferred, result.Ack = acked.result(), ack.percentiles()
	stop()
	if err != nil {
		return err
	}
	result.benchRequests = env.requestsSince(ctx, before, result.Bytes)
	if result.Pipe != nil {
		result.Ratio = result.BytesPerSecond / result.Pipe.BytesPerSecond
	}
	return env.print(result, func() {
		fmt.Fprintf(env.out, "acknowledged %s\n  %s\n", result.transferred, result.Ack)
		if result.Pipe != nil {
			fmt.Fprintf(env.out, "  minimal pipe: %s; the broker reaches %.0f %% of it\n", result.Pipe.transferred, 100*result.Ratio)
		}
		result.benchRequests.show(env.out)
	})
}

// benchEndToEnd is the result of bench e2e.
type benchEndToEnd struct {
	transferred
	Rate     float64     `json:"rate"`
	Ack      percentiles `json:"ack"`
	EndToEnd percentiles `json:"end_to_end"`
}

func newBenchE2E(env *environment) *cobra.Command {
	var load benchLoad
	cmd := &cobra.Command{
		Use:   "e2e",
		Short: "Send at a rate and read at the same time; measure from due to acknowledged and to received",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := load.check(); err != nil {
				return err
			}
			if load.rate == 0 {
				return usageError("bench e2e: --rate 0: want a rate; flat out, the wait in our own buffer would be measured")
			}
			return env.withClient(func(c *client.Client) error { return env.benchE2E(cmd.Context(), c, load) })
		},
	}
	load.flags(cmd, 1024)
	return cmd
}
