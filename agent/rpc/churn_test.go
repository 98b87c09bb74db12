package rpc

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestCallsCutOffAtAnyMomentHoldNothing(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			w := tight(t, func(e *edge) { e.slow = 20 * time.Millisecond })
			w.produce("a", 0, strings.Repeat("x", 50_000))
			packed := w.logClient(append([]connect.ClientOption{connect.WithSendGzip()}, options...)...)
			plain := w.logClient(options...)
			batch := &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, strings.Repeat("x", 200_000))}}
			partitions := []*v1.FetchRequest_Partition{{Topic: "a"}}
			var calls sync.WaitGroup
			for i := range 8 {
				calls.Go(func() {
					client := plain
					if i%2 == 0 {
						client = packed
					}
					for range 10 {
						ctx, cancel := context.WithTimeout(t.Context(), rand.N(10*time.Millisecond))
						switch rand.N(4) {
						case 0:
							_, _ = client.Produce(ctx, batch)
						case 1:
							_, _ = client.Fetch(ctx, &v1.FetchRequest{Partitions: partitions, MaxWait: durationpb.New(time.Second), MaxBytes: rand.N[int32](1 << 20)})
						case 2:
							if stream, err := client.Tail(ctx, &v1.TailRequest{Partitions: partitions}); err == nil {
								for stream.Receive() {
								}
								_ = stream.Close()
							}
						case 3:
							if stream, err := client.ProduceStream(ctx); err == nil {
								for stream.Send(&v1.ProduceStreamRequest{Request: batch}) == nil {
								}
								_ = stream.CloseRequest()
								_ = stream.CloseResponse()
							}
						}
						cancel()
					}
				})
			}
			calls.Wait()
			w.wantFree(8 << 20)
			w.edge.memory.mu.Lock()
			defer w.edge.memory.mu.Unlock()
			if m := w.edge.memory; m.reads != 0 || m.waits != 0 || m.stuck {
				t.Errorf("got %d held by reads, %d waiting, stuck %v; want nothing", m.reads, m.waits, m.stuck)
			}
		})
	}
}
