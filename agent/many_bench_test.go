package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// What stores in the same region take for a write; nothing else costs anything in these clusters.
const (
	farPut     = 5 * time.Millisecond  // of an item
	farSegment = 60 * time.Millisecond // of an object
)

// farTable and farBucket are some time away.
type farTable struct{ metadata.Table }

func (f farTable) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	<-time.After(farPut)
	return f.Table.Put(ctx, item, cond)
}

type farBucket struct{ objectlog.Bucket }

func (f farBucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	<-time.After(farSegment)
	return f.Bucket.Put(ctx, key, body, nonce)
}

// many runs so many agents on stores that are far away until stop is called.
func many(tb testing.TB, n int) (agents []*Agent, stop func()) {
	tb.Helper()
	w, s := newWire(), newStores()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, n)
	for i := range n {
		cfg := Config{Version: "test", ClientAddress: fmt.Sprint(i), PeerAddress: fmt.Sprint(i), Shards: 4, Slots: 1024, Dial: w.dial, BlockCacheBytes: 8 << 20}
		a, err := Open(ctx, cfg, farBucket{s.bucket}, farTable{s.table})
		if err != nil {
			tb.Fatal(err)
		}
		w.mu.Lock()
		w.agents[cfg.PeerAddress] = a
		w.mu.Unlock()
		go func() { ended <- a.Run(ctx) }()
		agents = append(agents, a)
	}
	for i, a := range agents {
		eventually(tb, 20*time.Second, fmt.Sprintf("agent %d is ready", i), func() bool { return a.Ready() == nil })
	}
	if _, err := agents[0].CreateTopic(ctx, "orders", 256, nil, false); err != nil {
		tb.Fatal(err)
	}
	return agents, func() {
		cancel()
		for range agents {
			if err := <-ended; err != nil {
				tb.Error(err)
			}
		}
	}
}

// The load of one agent: one record at a time, on a schedule, to one partition after the other.
const (
	sendEvery = 20 * time.Millisecond
	sendFor   = 10 * time.Second
	// settleFor is how long shards take to come to where they belong; warmFor, how long the burst of flushes lasts.
	settleFor = 15 * time.Second
	warmFor   = 2 * time.Second
)

// acknowledged sends the load to every agent and answers how long the records waited, shortest first; those of the burst do not count.
func acknowledged(tb testing.TB, agents []*Agent) []time.Duration {
	<-time.After(settleFor)
	var (
		mu   sync.Mutex
		took []time.Duration
		all  sync.WaitGroup
	)
	for i, a := range agents {
		all.Go(func() {
			tick := time.NewTicker(sendEvery)
			defer tick.Stop()
			for n := range int((warmFor + sendFor) / sendEvery) {
				<-tick.C
				due, b := time.Now(), values("orders", objectlog.Partition((37*n+i)%256), "v")
				all.Go(func() {
					r := a.Submit(tb.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{b}}).Wait(tb.Context())[0]
					if r.Err != nil {
						tb.Error(r.Err)
					}
					if time.Duration(n)*sendEvery < warmFor {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(due))
				})
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took
}

func percentile(sorted []time.Duration, q int) time.Duration { return sorted[(len(sorted)-1)*q/100] }

// Time is the bubble's: it passes only while everybody waits, so no agent takes the machine's time from another.
func TestAgentsDoNotHinderEachOther(t *testing.T) {
	var alone time.Duration
	for _, n := range []int{1, 2, 4, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				agents, stop := many(t, n)
				defer stop()
				p99 := percentile(acknowledged(t, agents), 99)
				if n == 1 {
					alone = p99
				}
				t.Logf("%d agents: acknowledged p99 %s, of one agent alone %s", n, p99, alone)
				if p99 > alone*12/10 {
					t.Errorf("%d agents: acknowledged p99 %s, more than 20 %% above the %s of one alone", n, p99, alone)
				}
			})
		})
	}
}

// BenchmarkManyAgents is the same in the machine's time, where agents do compete for it.
func BenchmarkManyAgents(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("agents=%d", n), func(b *testing.B) {
			agents, stop := many(b, n)
			defer stop()
			for b.Loop() {
				took := acknowledged(b, agents)
				b.ReportMetric(float64(percentile(took, 50).Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(percentile(took, 99).Microseconds())/1000, "p99-ms")
			}
			b.ReportMetric(0, "ns/op") // a run takes as long as it is told to
		})
	}
}
