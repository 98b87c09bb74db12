package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// BenchmarkQueue is 64 consumers of one agent, who pull records of 8 partitions and accept each. One operation is one accepted record.
func BenchmarkQueue(b *testing.B) {
	for _, stores := range []string{"mem", "disk"} {
		for _, records := range []int32{100, 10, 1} {
			b.Run(fmt.Sprintf("stores=%s/pull=%d", stores, records), func(b *testing.B) {
				cfg := testConfig()
				cfg.Shards, cfg.Slots = 1, 4096 // as dev has
				var a *Agent
				var stop func()
				if stores == "disk" {
					a, stop = disk(b, b.TempDir(), cfg)
				} else {
					a, stop = inMemory(b, cfg)
				}
				defer stop()
				if _, err := a.CreateTopic(b.Context(), "orders", 8, nil, false); err != nil {
					b.Fatal(err)
				}
				produced := produceForQueue(b, a, b.N)
				before := a.shards[0].log.Status().Applied
				b.ResetTimer()
				began := time.Now()
				var accepted atomic.Int64
				var consumers sync.WaitGroup
				for range 64 {
					consumers.Go(func() {
						for accepted.Load() < produced {
							n, err := pullAndAccept(b.Context(), a, records)
							if err != nil {
								b.Error(err)
								return
							}
							accepted.Add(n)
						}
					})
				}
				consumers.Wait()
				b.ReportMetric(float64(accepted.Load())/time.Since(began).Seconds(), "rec/s")
				entries := a.shards[0].log.Status().Applied - before
				b.ReportMetric(float64(entries)/time.Since(began).Seconds(), "entries/s")
			})
		}
	}
}

// inMemory runs an agent on stores in memory.
func inMemory(b *testing.B, cfg Config) (*Agent, func()) {
	b.Helper()
	s := newStores()
	a, err := Open(b.Context(), cfg, s.bucket, s.table)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	eventually(b, 10*time.Second, "the agent is ready", func() bool { return a.Ready() == nil })
	return a, func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

// produceForQueue produces at least n records of 100 bytes, in batches of 100.
func produceForQueue(b *testing.B, a *Agent, n int) (produced int64) {
	b.Helper()
	value := make([]byte, 100)
	var pending []*Pending
	for p := objectlog.Partition(0); produced < int64(n) || p%8 != 0; p++ {
		batch := values("orders", p%8)
		for range min(100, max(1, n/8)) {
			batch.Records = append(batch.Records, objectlog.Record{Value: value, Timestamp: 1})
		}
		produced += int64(len(batch.Records))
		pending = append(pending, a.Submit(b.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{batch}}))
	}
	for _, w := range pending {
		if r := w.Wait(b.Context())[0]; r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	return produced
}

func pullAndAccept(ctx context.Context, a *Agent, records int32) (accepted int64, err error) {
	pulled, err := a.Pull(ctx, PullRequest{Group: "email", Topic: "orders", RecordsMax: records, Wait: 20 * time.Millisecond})
	if err != nil {
		return 0, err
	}
	var acks []Acknowledgement
	for _, p := range pulled {
		for _, r := range p.Acquired {
			for o := r.From; o < r.To; o++ {
				acks = append(acks, Acknowledgement{Place: p.Place, Offset: o, Lock: p.Lock, Verdict: queues.Accept})
			}
		}
	}
	errs, err := a.Acknowledge(ctx, "email", acks)
	for _, e := range errs {
		if err == nil && e != nil {
			err = e
		}
	}
	return int64(len(acks)), err
}
