package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// The minimal pipe is the least that any broker with our promise must do on this machine: make the records, encode and
// compress them, store an object of a segment's size, commit one small item to the table. No agent, no order, no
// index. What the broker reaches is shown as a part of this limit, measured in the same run.

// pipeOptions are the flags of the minimal pipe.
type pipeOptions struct {
	folder         string // where files and an embedded table go, if there is no bucket; removed afterwards
	partitions     int
	size           int // of one record
	incompressible bool
	segment        byteSize
	rate           float64 // segments per second; 0: as fast as it goes
	duration       time.Duration
}

// pipeResult is what the pipe reached.
type pipeResult struct {
	transferred
	StoredBytes int64       `json:"stored_bytes"`
	Segments    int64       `json:"segments"`
	SegmentMS   percentiles `json:"segment"` // one object stored
	TableMS     percentiles `json:"table"`   // commit of one item
	FlushMS     percentiles `json:"flush"`   // both, one after the other
	RawPut      *rawRate    `json:"raw_put,omitempty"`
	RawGet      *rawRate    `json:"raw_get,omitempty"`
}

func newBenchPipe(env *environment) *cobra.Command {
	o := pipeOptions{segment: 8 << 20}
	segment := o.segment.String()
	cmd := &cobra.Command{
		Use:   "pipe",
		Short: "Measure the limit: encode and store segments, commit to the table, nothing else",
		Long: `Bench pipe does the least that a broker must do, without one: it makes records, encodes and compresses them, stores segments and
commits one item to the table for each. Into files and an embedded table in --folder, each with its fsyncs and one after the
other; or, with --bucket and --table, into those, up to 16 segments at once, as an agent does. Flat out into a bucket it also
measures puts and gets of 4 MiB of random bytes alone, for a quarter of the time each. What it writes is removed again.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.segment, err = parseByteSize(segment); err != nil {
				return usageError("bench pipe: --segment %q: want %w", segment, err)
			}
			if err := o.check(); err != nil {
				return err
			}
			return env.benchPipe(cmd.Context(), o, cmd.Flags().Changed("folder"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.folder, "folder", ".", "a folder on the disk to be measured")
	f.IntVar(&o.partitions, "partitions", 1, "partitions that share a segment")
	f.IntVar(&o.size, "size", 1024, "bytes of one record")
	f.BoolVar(&o.incompressible, "incompressible", false, "records of random bytes")
	f.StringVar(&segment, "segment", segment, "stored size of one segment")
	f.Float64Var(&o.rate, "rate", 0, "segments per second; 0: as fast as it goes")
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
	case o.rate < 0 || o.duration <= 0:
		return usageError("bench pipe: --rate %g, --duration %s: want 0 or more, and more than nothing", o.rate, o.duration)
	}
	return nil
}

func (env *environment) benchPipe(ctx context.Context, o pipeOptions, folder bool) error {
	if c := env.config; folder || c.Bucket == "" && c.Table == "" {
		r, err := measureFolder(ctx, o)
		if err != nil {
			return err
		}
		return env.printPipe(r)
	}
	bucket, table, err := env.openStores(ctx)
	if err != nil {
		return err
	}
	defer table.close()
	s := newPipeStores(bucket, table)
	r, err := measurePipe(ctx, o, s)
	if err == nil && o.rate == 0 {
		r.RawPut, r.RawGet, err = s.measureRaw(ctx, o.duration/4)
	}
	if err = errors.Join(err, s.remove(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return env.printPipe(r)
}

func (env *environment) printPipe(r pipeResult) error {
	return env.print(r, func() {
		fmt.Fprintf(env.out, "minimal pipe: %s, %d segments, stored %s\n", r.transferred, r.Segments, humanBytes(float64(r.StoredBytes)))
		fmt.Fprintf(env.out, "  segment stored: %s\n  table commit:   %s\n  both:           %s\n", r.SegmentMS, r.TableMS, r.FlushMS)
		if r.RawPut != nil {
			fmt.Fprintf(env.out, "  puts of 4 MiB alone: %s/s; gets of 4 MiB alone: %s/s\n", humanBytes(r.RawPut.BytesPerSecond), humanBytes(r.RawGet.BytesPerSecond))
		}
	})
}

// measureFolder measures the pipe into files and an embedded table.
func measureFolder(ctx context.Context, o pipeOptions) (pipeResult, error) {
	folder, err := os.MkdirTemp(o.folder, "splashdam-pipe-")
	if err != nil {
		return pipeResult{}, &terminalError{op: "bench pipe in", object: o.folder, cause: unwrapPath(err)}
	}
	defer os.RemoveAll(folder)
	table, err := openFile(folder)
	if err != nil {
		return pipeResult{}, err
	}
	defer table.close()
	return measurePipe(ctx, o, &pipeStores{store: func(_ context.Context, n int64, body []byte) error { return writeSegment(folder, n, body) }, table: table, uploads: 1})
}

// measurePipe encodes on every core and stores as many segments at once as the stores are given.
func measurePipe(ctx context.Context, o pipeOptions, s *pipeStores) (pipeResult, error) {
	timed, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	segments := make(chan pipeSegment)
	var (
		encoders, uploads sync.WaitGroup
		once              sync.Once
		failed            error
	)
	fail := func(err error) {
		if err != nil {
			once.Do(func() { failed = err })
			cancel()
		}
	}
	m := pipeMeters{progress: newProgress("written"), segment: newLatencies(), table: newLatencies(), flush: newLatencies()}
	for i := range runtime.GOMAXPROCS(0) {
		encoders.Go(func() { fail(encodeSegments(timed, uint64(i), o, segments)) })
	}
	turns := newTurns(m.started, o.rate)
	for i := range s.uploads {
		uploads.Go(func() {
			for segment := range segments {
				turns.wait(timed)
				fail(m.flushOne(ctx, s, i, segment, o.size))
			}
		})
	}
	encoders.Wait()
	close(segments)
	uploads.Wait()
	return m.result(), failed
}

// pipeMeters measure what becomes of segments.
type pipeMeters struct {
	*progress
	segment, table, flush *latencies

	mu       sync.Mutex
	stored   int64 // bytes, under mu
	segments int64 // under mu
}

// flushOne stores a segment and commits it. It is not cut off at the end of the time: what was begun counts, with its time.
func (m *pipeMeters) flushOne(ctx context.Context, s *pipeStores, uploader int, segment pipeSegment, size int) error {
	m.mu.Lock()
	n := m.segments
	m.segments++
	m.stored += int64(len(segment.body))
	m.mu.Unlock()
	started := time.Now()
	if err := s.store(ctx, n, segment.body); err != nil {
		return err
	}
	stored := time.Now()
	if err := s.commit(ctx, uploader, len(segment.body)); err != nil {
		return err
	}
	m.segment.add(stored.Sub(started))
	m.table.add(time.Since(stored))
	m.flush.add(time.Since(started))
	m.add(segment.records, segment.records*int64(size))
	return nil
}

func (m *pipeMeters) result() pipeResult {
	return pipeResult{
		transferred: m.progress.result(), StoredBytes: m.stored, Segments: m.segments,
		SegmentMS: m.segment.percentiles(), TableMS: m.table.percentiles(), FlushMS: m.flush.percentiles(),
	}
}

// turns are when flushes begin.
type turns struct {
	pace
	mu   sync.Mutex
	next int64 // under mu
}

func newTurns(start time.Time, rate float64) *turns {
	return &turns{pace: pace{start: start, rate: rate}}
}

// wait waits for the next turn, at most until ctx ends.
func (t *turns) wait(ctx context.Context) {
	t.mu.Lock()
	n := t.next
	t.next++
	t.mu.Unlock()
	select {
	case <-time.After(time.Until(t.due(n))):
	case <-ctx.Done():
	}
}
