package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/bolt"
	"github.com/splashdam/splashdam/objectlog"
)

// The minimal pipe is the least that any broker with our promise must do on this machine: make the records, encode and
// compress them, write and fsync a file of a segment's size, commit one small item to the embedded table. No network, no
// order, no index. What the broker reaches is shown as a part of this limit, measured in the same run.

// pipeOptions are the flags of the minimal pipe.
type pipeOptions struct {
	folder     string // where the files go; removed afterwards
	partitions int
	size       int // of one record
	segment    byteSize
	duration   time.Duration
}

// pipeResult is what the pipe reached.
type pipeResult struct {
	transferred
	StoredBytes int64       `json:"stored_bytes"`
	Segments    int64       `json:"segments"`
	SegmentMS   percentiles `json:"segment"` // write and fsync of the file and its folder
	TableMS     percentiles `json:"table"`   // commit of one item
	FlushMS     percentiles `json:"flush"`   // both, one after the other
}

func newBenchPipe(env *environment) *cobra.Command {
	o := pipeOptions{segment: 8 << 20}
	segment := o.segment.String()
	cmd := &cobra.Command{
		Use:   "pipe",
		Short: "Measure the limit: encode, write and fsync segments, commit to the table, nothing else",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.segment, err = parseByteSize(segment); err != nil {
				return usageError("bench pipe: --segment %q: want %w", segment, err)
			}
			if err := o.check(); err != nil {
				return err
			}
			r, err := measurePipe(cmd.Context(), o)
			if err != nil {
				return err
			}
			return env.print(r, func() {
				fmt.Fprintf(env.out, "minimal pipe: %s, %d segments, stored %s\n", r.transferred, r.Segments, humanBytes(float64(r.StoredBytes)))
				fmt.Fprintf(env.out, "  segment write + fsync: %s\n  table commit:          %s\n  both:                  %s\n", r.SegmentMS, r.TableMS, r.FlushMS)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.folder, "folder", ".", "a folder on the disk to be measured")
	f.IntVar(&o.partitions, "partitions", 1, "partitions that share a segment")
	f.IntVar(&o.size, "size", 1024, "bytes of one record")
	f.StringVar(&segment, "segment", segment, "stored size of one segment")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "how long")
	return cmd
}

func (o pipeOptions) check() error {
	switch {
	case o.partitions < 1 || o.partitions > 100_000:
		return usageError("bench pipe: --partitions %d: want 1 to 100000", o.partitions)
	case o.size < benchSizeMin || o.size > benchSizeMax:
		return usageError("bench pipe: --size %d: want %d to %d", o.size, benchSizeMin, benchSizeMax)
	case o.segment < 1<<10 || o.segment > 256<<20:
		return usageError("bench pipe: --segment %s: want 1KiB to 256MiB", o.segment)
	case o.duration <= 0:
		return usageError("bench pipe: --duration %s: want more than nothing", o.duration)
	}
	return nil
}

// measurePipe encodes on every core and writes from one goroutine.
func measurePipe(ctx context.Context, o pipeOptions) (pipeResult, error) {
	folder, err := os.MkdirTemp(o.folder, "splashdam-pipe-")
	if err != nil {
		return pipeResult{}, &terminalError{op: "bench pipe in", object: o.folder, cause: unwrapPath(err)}
	}
	defer os.RemoveAll(folder)
	table, err := bolt.Open(folder)
	if err != nil {
		return pipeResult{}, err
	}
	defer table.Close()
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	segments, encoded := make(chan pipeSegment), make(chan error)
	encoders := runtime.GOMAXPROCS(0)
	for i := range encoders {
		go func() { encoded <- encodeSegments(ctx, uint64(i), o, segments) }()
	}
	p, segmentTime, tableTime, flushTime := newProgress("written"), newLatencies(), newLatencies(), newLatencies()
	var r pipeResult
	for encoders > 0 && err == nil {
		select {
		case s := <-segments:
			started := time.Now()
			if err = writeSegment(folder, r.Segments, s.body); err != nil {
				break
			}
			stored := time.Now()
			if err = commitSegment(ctx, table, r.Segments, len(s.body)); err != nil {
				break
			}
			segmentTime.add(stored.Sub(started))
			tableTime.add(time.Since(stored))
			flushTime.add(time.Since(started))
			r.Segments++
			r.StoredBytes += int64(len(s.body))
			p.add(s.records, s.records*int64(o.size))
		case err = <-encoded:
			encoders--
		}
	}
	r.transferred = p.result()
	cancel()
	for ; encoders > 0; encoders-- {
		<-encoded
	}
	r.SegmentMS, r.TableMS, r.FlushMS = segmentTime.percentiles(), tableTime.percentiles(), flushTime.percentiles()
	return r, err
}

// pipeSegment is an encoded segment on its way to the disk.
type pipeSegment struct {
	body    []byte
	records int64
}

// pipeBatchBytes is the size at which a producer seals a batch.
const pipeBatchBytes = 1 << 20

func encodeSegments(ctx context.Context, seed uint64, o pipeOptions, out chan<- pipeSegment) error {
	records := newBenchRecords(seed, o.size, 0)
	perBatch := 1 // grows until a segment holds a batch of every partition
	for {
		runs := make([]objectlog.SegmentRun, o.partitions)
		var s pipeSegment
		stored := 0
		for i := 0; stored < int(o.segment); i++ {
			batch, row, err := encodePipeBatch(records, perBatch)
			if err != nil {
				return fmt.Errorf("encode batch: %w", err)
			}
			run := &runs[i%o.partitions]
			run.Partition = objectlog.Partition(i % o.partitions)
			run.Batches, run.Rows = append(run.Batches, batch), append(run.Rows, row)
			stored += len(batch)
			s.records += int64(perBatch)
			if i == 0 {
				share := int(o.segment) / o.partitions * o.size * perBatch / len(batch)
				perBatch = max(1, min(share, pipeBatchBytes)/o.size)
			}
		}
		for i := range runs {
			if len(runs[i].Batches) == 0 {
				runs = runs[:i]
				break
			}
		}
		s.body, _ = objectlog.EncodeSegment(runs)
		select {
		case out <- s:
		case <-ctx.Done():
			return nil
		}
	}
}

func encodePipeBatch(records *benchRecords, n int) ([]byte, objectlog.BatchRow, error) {
	list := make([]objectlog.Record, n)
	now := objectlog.Timestamp(time.Now().UnixMilli())
	for i := range list {
		list[i].Key, list[i].Value = records.take()
		list[i].Timestamp = now
	}
	b, err := objectlog.EncodeBatch(nil, list, objectlog.BatchOptions{
		Codec: objectlog.CodecSnappy, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1,
	})
	row := objectlog.BatchRow{
		Bytes: int32(len(b)), Records: int32(n), MaxTimestamp: now, ProducerID: objectlog.NoProducer,
		ProducerEpoch: -1, FirstSequence: -1, CRC: binary.BigEndian.Uint32(b[17:]), Expected: objectlog.NoOffset,
	}
	return b, row, err
}

// writeSegment makes the file durable under its name.
func writeSegment(folder string, n int64, body []byte) error {
	f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%016x.seg", n)))
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	dir, openErr := os.Open(folder)
	if openErr != nil {
		return errors.Join(err, openErr)
	}
	return errors.Join(err, dir.Sync(), dir.Close())
}

// commitSegment puts an item of a typical entry's size, over the same few keys, as a ring does.
func commitSegment(ctx context.Context, table metadata.Table, n int64, size int) error {
	const slots, entryBytes = 64, 512
	item := metadata.Item{Key: metadata.Key{PK: "pipe", SK: fmt.Sprintf("%06d", n%slots)}, Rev: metadata.Rev(n + 1), Value: make([]byte, entryBytes)}
	binary.BigEndian.PutUint64(item.Value, uint64(size))
	cond := metadata.If{}
	if n >= slots {
		cond = metadata.RevIs(metadata.Rev(n + 1 - slots))
	}
	if r := table.Put(context.WithoutCancel(ctx), item, cond); r.Outcome != metadata.Applied {
		return errors.Join(fmt.Errorf("commit segment %d: refused", n), r.Err)
	}
	return nil
}
