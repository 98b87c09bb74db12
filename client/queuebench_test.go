package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

// BenchmarkQueueRun is what one consumer of a queue handles and has accepted, with 64 handlers that do nothing; the agent is a fake in the same process.
func BenchmarkQueueRun(b *testing.B) {
	bench := newBench(b, 8)
	for p := range 8 {
		bench.fill("matches", p, b.N/8+1, 1000)
	}
	q := bench.queue(b, client.QueueConfig{Handlers: 64, MaxRecords: 1000, MaxWait: time.Second})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	b.ResetTimer()
	go func() { done <- q.Run(ctx, func(context.Context, *client.QueuedRecord) error { return nil }) }()
	if err := bench.until(within(b), func() bool { return bench.acceptedLocked("workers") >= b.N }); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(bench.count("Acknowledge"))/float64(b.N), "calls/record")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
