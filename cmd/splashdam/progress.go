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
	total   int64 // of records; 0: nobody knows
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
				fmt.Fprintf(w, "\r\x1b[K%s", p.line(r, r-records, b, b-bytes))
				records, bytes = r, b
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// line says how far it is, and what the last second did. A verb that counts no bytes shows none.
func (p *progress) line(records, recordsNow, bytes, bytesNow int64) string {
	of := ""
	if p.total > 0 {
		of = " of " + humanCount(p.total)
	}
	text := fmt.Sprintf("%s %s%s records, %s/s", p.verb, humanCount(records), of, humanCount(recordsNow))
	if bytes > 0 {
		text += fmt.Sprintf(", %s/s", humanBytes(float64(bytesNow)))
	}
	return text
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
