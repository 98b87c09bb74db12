package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// progress counts what a verb has done, and shows it once a second while the verb runs.
type progress struct {
	verb    string // such as "produced"
	records atomic.Int64
	bytes   atomic.Int64
	started time.Time
}

func newProgress(verb string) *progress {
	return &progress{verb: verb, started: time.Now()}
}

func (p *progress) add(records, bytes int64) {
	p.records.Add(records)
	p.bytes.Add(bytes)
}

// show draws one line on the terminal behind w until stop is called; on anything else it stays silent.
func (p *progress) show(ctx context.Context, w io.Writer) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var records, bytes int64
		for {
			select {
			case <-ctx.Done():
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				r, b := p.records.Load(), p.bytes.Load()
				fmt.Fprintf(w, "\r\x1b[K%s %s records, %s/s, %s/s", p.verb, humanCount(r), humanCount(r-records), humanBytes(float64(b-bytes)))
				records, bytes = r, b
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// transferred is the end of the story, as printed and as JSON.
type transferred struct {
	Records          int64   `json:"records"`
	Bytes            int64   `json:"bytes"` // of keys and values
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	BytesPerSecond   float64 `json:"bytes_per_second"`
}

func (p *progress) result() transferred {
	t := transferred{Records: p.records.Load(), Bytes: p.bytes.Load(), Seconds: time.Since(p.started).Seconds()}
	if t.Seconds > 0 {
		t.RecordsPerSecond = float64(t.Records) / t.Seconds
		t.BytesPerSecond = float64(t.Bytes) / t.Seconds
	}
	return t
}

func (t transferred) String() string {
	return fmt.Sprintf("%s records, %s in %.2f s (%s records/s, %s/s)",
		humanCount(t.Records), humanBytes(float64(t.Bytes)), t.Seconds, humanCount(int64(t.RecordsPerSecond)), humanBytes(t.BytesPerSecond))
}
