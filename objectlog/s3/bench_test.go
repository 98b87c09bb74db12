//go:build unix

package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/objectlog"
)

const benchBytes = 4 << 20

// BenchmarkPut puts objects of 4 MiB by turns with Put and with net/http alone, payloads unsigned in both, and reports throughput, the
// client's CPU time, and the ratio of throughputs: one Put, in half of the time.
func BenchmarkPut(b *testing.B) {
	for _, parallel := range []int{1, 4} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			bucket := realBucket(b, localstack.MinIO, nil)
			raw := rawClient{endpoint: localstacktest.Shared(b, localstack.MinIO).Endpoint, bucket: bucket.name, transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			b.Cleanup(raw.transport.CloseIdleConnections)
			body := make([]byte, benchBytes)
			random := rand.NewChaCha8([32]byte{})
			random.Read(body)
			var ours, theirs effort
			b.SetBytes(benchBytes)
			for b.Loop() {
				ours.measure(parallel, func() error { return bucket.Put(b.Context(), newNonce().String(), body, newNonce()) })
				theirs.measure(parallel, func() error { return raw.put(b.Context(), newNonce().String(), body) })
			}
			if err := errors.Join(ours.err, theirs.err); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(ours.rate(), "put-MiB/s")
			b.ReportMetric(theirs.rate(), "raw-MiB/s")
			b.ReportMetric(ours.rate()/theirs.rate(), "put/raw")
			b.ReportMetric(ours.cost(), "put-CPUs/GiB")
			b.ReportMetric(theirs.cost(), "raw-CPUs/GiB")
		})
	}
}

// BenchmarkGet reads objects of 4 MiB whole.
func BenchmarkGet(b *testing.B) {
	bucket := realBucket(b, localstack.MinIO, nil)
	if err := bucket.Put(b.Context(), "key", make([]byte, benchBytes), newNonce()); err != nil {
		b.Fatal(err)
	}
	var e effort
	for b.Loop() {
		e.measure(4, func() error {
			_, err := bucket.Get(b.Context(), "key", objectlog.Extent{Start: 0, Next: benchBytes})
			return err
		})
	}
	if e.err != nil {
		b.Fatal(e.err)
	}
	b.ReportMetric(e.rate(), "MiB/s")
	b.ReportMetric(e.cost(), "CPUs/GiB")
}

// effort is what moving bytes took.
type effort struct {
	mu        sync.Mutex
	moved     int64
	wall, cpu time.Duration
	err       error
}

func (e *effort) measure(parallel int, move func() error) {
	start, cpu := time.Now(), cpuTime()
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			err := move()
			e.mu.Lock()
			defer e.mu.Unlock()
			if err != nil {
				e.err = err
			}
			e.moved += benchBytes
		})
	}
	all.Wait()
	e.wall += time.Since(start)
	e.cpu += cpuTime() - cpu
}

func (e *effort) rate() float64 { return float64(e.moved) / (1 << 20) / e.wall.Seconds() }
func (e *effort) cost() float64 { return e.cpu.Seconds() / (float64(e.moved) / (1 << 30)) }

// cpuTime is what this process has used; stores are other processes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rawClient is net/http and a signature.
type rawClient struct {
	endpoint, bucket string
	transport        *http.Transport
}

func (c rawClient) put(ctx context.Context, key string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.endpoint+"/"+c.bucket+"/"+key, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	req = signer.SignV4(*req, os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"), "us-east-1")
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("raw put: %s", resp.Status)
	}
	return nil
}
