package rpc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// bare is the least a Connect handler does: decode the message with the library's own codec and drop it.
type bare struct {
	splashdamv1connect.UnimplementedLogServiceHandler
}

func (bare) Produce(context.Context, *v1.ProduceRequest) (*v1.ProduceResponse, error) {
	return &v1.ProduceResponse{}, nil
}

// BenchmarkProduceJSON is the CPU of a call with 100 JSON records through the edge, the engine and stores in memory, and how often a
// bare Connect handler could have decoded and dropped the call for it (vs-bare). HTTP itself is in neither.
func BenchmarkProduceJSON(b *testing.B) {
	for _, kind := range []string{"text", "json", "data"} {
		b.Run(kind, func(b *testing.B) {
			body := benchCall(kind)
			b.SetBytes(int64(len(body)))
			edge := benchEdge(b)
			_, dropping := splashdamv1connect.NewLogServiceHandler(bare{})
			floor := benchCPU(b, dropping, body, b.N)
			b.ResetTimer()
			cost := benchCPU(b, edge, body, b.N)
			b.StopTimer()
			b.ReportMetric(float64(cost.Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(floor.Microseconds())/float64(b.N), "bare-cpu-µs/op")
			b.ReportMetric(cost.Seconds()/floor.Seconds(), "vs-bare")
		})
	}
}

// benchCall is a call with 100 records of about 1 KiB.
func benchCall(kind string) []byte {
	var records []string
	for i := range 100 {
		var fields []string
		for k := range 20 {
			fields = append(fields, fmt.Sprintf(`"field%d":"value %d of record %d"`, k, k*7919%1000, i*104729%100_000), fmt.Sprintf(`"number%d":%d`, k, i*k))
		}
		value := "{" + strings.Join(fields, ",") + "}"
		switch kind {
		case "text":
			value = fmt.Sprintf("%q", value)
		case "data":
			value = `"` + connect.EncodeBinaryHeader([]byte(value)) + `"`
		}
		records = append(records, fmt.Sprintf(`{"key":{"text":"key-%d"},"value":{%q:%s}}`, i, kind, value))
	}
	return fmt.Appendf(nil, `{"batches":[{"topic":"matches","partition":0,"records":{"records":[%s]}}]}`, strings.Join(records, ","))
}

// benchEdge serves a running agent with stores in memory and the topic matches.
func benchEdge(b *testing.B) http.Handler {
	a, err := agent.Open(b.Context(), agent.Config{Version: "test", ClientAddress: "127.0.0.1:1", Shards: 1, Slots: 4096, ExclusiveTable: true, FlushFreely: true},
		&objmem.Bucket{}, &metamem.Table{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	for a.Ready() != nil {
		if pause(b.Context(), time.Millisecond) != nil {
			b.Fatal(a.Ready())
		}
	}
	if _, err := a.CreateTopic(b.Context(), "matches", 1, nil, false); err != nil {
		b.Fatal(err)
	}
	return New(Config{Version: "test", Logger: slog.New(slog.DiscardHandler)}, FromAgent(a))
}

// benchCPU makes n calls, 16 at a time, and answers the process's CPU for them.
func benchCPU(b *testing.B, handler http.Handler, body []byte, n int) time.Duration {
	calls := make(chan struct{}, n)
	for range n {
		calls <- struct{}{}
	}
	close(calls)
	began := cpuTime(b)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range calls {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, splashdamv1connect.LogServiceProduceProcedure, bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if answer, _ := io.ReadAll(w.Body); w.Code != http.StatusOK || bytes.Contains(answer, []byte(`"error"`)) {
					b.Errorf("got %d %.300s", w.Code, answer)
					return
				}
			}
		})
	}
	callers.Wait()
	return cpuTime(b) - began
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
