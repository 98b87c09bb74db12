package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// benchE2E reads what it sends. Both latencies count from the time at which a record was due.
func (env *environment) benchE2E(ctx context.Context, c *client.Client, load benchLoad) error {
	if err := load.prepare(ctx, c); err != nil {
		return err
	}
	spans, err := findSpans(ctx, c, load.topic, client.Latest(), client.NoOffset, nil)
	if err != nil {
		return err
	}
	acked, ack, endToEnd := newProgress("acknowledged"), newLatencies(), newLatencies()
	p := pace{start: time.Now(), rate: load.rate}
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	received := make(chan error, 1)
	go func() { received <- receive(reading, c, load.topic, spans, p, endToEnd) }()

	stop := acked.show(ctx, env.err)
	err = load.send(ctx, c, p, acked, ack)
	result := benchEndToEnd{transferred: acked.result(), Rate: load.rate, Ack: ack.percentiles()}
	stop()
	if err == nil {
		err = awaitCount(ctx, endToEnd, result.Records, env.config.Timeout, received)
	}
	if err != nil {
		return err
	}
	result.EndToEnd = endToEnd.percentiles()
	return env.print(result, func() {
		fmt.Fprintf(env.out, "acknowledged %s\n  due to acknowledged: %s\n  due to received:     %s\n", result.transferred, result.Ack, result.EndToEnd)
	})
}

// receive reads until ctx ends; each record carries the number by which it was due.
func receive(ctx context.Context, c *client.Client, topic string, spans map[client.Partition]*span, p pace, endToEnd *latencies) error {
	return readSpans(ctx, c, topic, spans, true, 0, func(records []client.Record) (bool, error) {
		now := time.Now()
		for _, r := range records {
			n, err := benchSequence(r.Value)
			if err != nil {
				return false, err
			}
			endToEnd.add(now.Sub(p.due(n)))
		}
		return true, nil
	})
}

// awaitCount waits until all that was sent has been received.
func awaitCount(ctx context.Context, endToEnd *latencies, sent int64, patience time.Duration, received <-chan error) error {
	poll, late := time.NewTicker(time.Millisecond), time.After(patience)
	defer poll.Stop()
	for {
		count := endToEnd.percentiles().Count
		if count >= sent {
			return nil
		}
		select {
		case <-poll.C:
		case err := <-received:
			return firstError(err, fmt.Errorf("bench e2e: the reader stopped after %d of %d records", count, sent))
		case <-late:
			return fmt.Errorf("bench e2e: of %d records only %d arrived", sent, count)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// benchSequence is the number inside a record of benchRecords.
func benchSequence(value []byte) (int64, error) {
	_, rest, _ := strings.Cut(string(value[:min(len(value), benchSizeMin)]), `":"`)
	digits, _, ok := strings.Cut(rest, `"`)
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("bench: a record of somebody else is in the topic: %.60q", value)
	}
	return n, nil
}

// benchConsumed is the result of bench consume.
type benchConsumed struct {
	transferred
	Raw   *rawRead `json:"raw,omitempty"`
	Ratio float64  `json:"ratio_to_raw,omitempty"` // time of the raw read to time of the consumer
	benchRequests
}

// rawRead is the limit of a catch-up read: every byte of the segments read and its checksum computed, once.
type rawRead struct {
	StoredBytes int64   `json:"stored_bytes"`
	Seconds     float64 `json:"seconds"`
}

func newBenchConsume(env *environment) *cobra.Command {
	var topic, data string
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Read a whole topic as fast as it goes",
		Long: `Bench consume reads every record that the topic holds now. With --data-folder, a data folder of dev that holds nothing
but this topic, it first reads its segments as plain files and computes their CRC32C, and compares the two times. Where the
stores charge for requests it prints how many the agents sent meanwhile, per GiB of the records.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.withClient(func(c *client.Client) error { return env.benchConsume(cmd.Context(), c, topic, data) })
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "splashdam-bench", "topic to read")
	cmd.Flags().StringVar(&data, "data-folder", "", "measure a plain read of this folder's segments first")
	return cmd
}

func (env *environment) benchConsume(ctx context.Context, c *client.Client, topic, data string) error {
	var result benchConsumed
	if data != "" {
		raw, err := readRaw(filepath.Join(data, bucketFolder))
		if err != nil {
			return err
		}
		result.Raw = &raw
	}
	spans, err := findSpans(ctx, c, topic, client.Earliest(), client.NoOffset, nil)
	if err != nil {
		return err
	}
	before := env.beforeBench(ctx, c)
	p := newProgress("consumed")
	stop := p.show(ctx, env.err)
	err = readSpans(ctx, c, topic, spans, false, env.config.Timeout, func(records []client.Record) (bool, error) {
		var bytes int64
		for i := range records {
			bytes += int64(len(records[i].Key) + len(records[i].Value))
		}
		p.add(int64(len(records)), bytes)
		return true, nil
	})
	result.transferred = p.result()
	stop()
	if err != nil {
		return err
	}
	result.benchRequests = env.requestsSince(ctx, before, result.Bytes)
	if result.Raw != nil {
		result.Ratio = result.Raw.Seconds / result.Seconds
	}
	return env.print(result, func() {
		fmt.Fprintf(env.out, "consumed %s\n", result.transferred)
		if result.Raw != nil {
			fmt.Fprintf(env.out, "  plain read and CRC32C of the segments: %s in %.2f s; the consumer reaches %.0f %% of that speed\n",
				humanBytes(float64(result.Raw.StoredBytes)), result.Raw.Seconds, 100*result.Ratio)
		}
		result.benchRequests.show(env.out)
	})
}

// readRaw reads every segment below the folder.
func readRaw(folder string) (rawRead, error) {
	var r rawRead
	table := crc32.MakeTable(crc32.Castagnoli)
	started := time.Now()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".seg") {
			return err
		}
		b, err := os.ReadFile(path)
		crc32.Checksum(b, table)
		r.StoredBytes += int64(len(b))
		return err
	})
	r.Seconds = time.Since(started).Seconds()
	if err != nil {
		return r, &terminalError{op: "read", object: folder, cause: unwrapPath(err)}
	}
	return r, nil
}
