package agent

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata/bolt"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
)

// disk runs an agent on a folder, as dev does.
func disk(b *testing.B, folder string, cfg Config) (*Agent, func()) {
	b.Helper()
	bucket, err := file.Open(filepath.Join(folder, "objects"))
	if err != nil {
		b.Fatal(err)
	}
	table, err := bolt.Open(filepath.Join(folder, "table"))
	if err != nil {
		b.Fatal(err)
	}
	a, err := Open(b.Context(), cfg, bucket, table)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	for a.Ready() != nil {
		a.waitForAny(b.Context(), []<-chan struct{}{a.shards[0].log.Changed()})
	}
	return a, func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := table.Close(); err != nil {
			b.Error(err)
		}
	}
}

// half is a batch of 1 KiB records that compress to about a half.
func half(topic string, p objectlog.Partition, records int) ProduceBatch {
	noise := rand.NewChaCha8([32]byte{byte(p)})
	b := values(topic, p)
	for range records {
		v := make([]byte, 1024)
		_, _ = noise.Read(v[:512])
		b.Records = append(b.Records, objectlog.Record{Value: v, Timestamp: 1})
	}
	return b
}

func BenchmarkProduceOnDisk(b *testing.B) {
	cfg := testConfig()
	cfg.Shards, cfg.Slots = 1, 4096
	a, stop := disk(b, b.TempDir(), cfg)
	defer stop()
	if _, err := a.CreateTopic(b.Context(), "orders", 16, nil, false); err != nil {
		b.Fatal(err)
	}
	var requests []ProduceRequest
	for p := range 16 {
		requests = append(requests, ProduceRequest{Producer: nobody, Batches: []ProduceBatch{half("orders", objectlog.Partition(p), 64)}})
	}
	b.SetBytes(64 << 10)
	inFlight := make(chan *Pending, 256)
	go func() {
		defer close(inFlight)
		for i := range b.N {
			inFlight <- a.Submit(b.Context(), requests[i%16])
		}
	}()
	for p := range inFlight {
		if r := p.Wait(b.Context())[0]; r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

// BenchmarkCatchUp reads 256 MiB that no cache has, through Fetch and as the raw read and CRC of the same files.
func BenchmarkCatchUp(b *testing.B) {
	folder := b.TempDir()
	cfg := testConfig()
	cfg.Shards, cfg.Slots, cfg.BlockCacheBytes = 1, 4096, 64<<20
	a, stop := disk(b, folder, cfg)
	if _, err := a.CreateTopic(b.Context(), "orders", 1, nil, false); err != nil {
		b.Fatal(err)
	}
	batch := encodedNoise(b)
	for range 256 {
		if r := a.Submit(b.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{{Topic: "orders", Encoded: batch,
			Expected: objectlog.NoOffset, FirstSequence: -1}}}).Wait(b.Context())[0]; r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	stop()
	b.Run("fetch", func(b *testing.B) {
		a, stop := disk(b, folder, cfg)
		defer stop()
		b.SetBytes(int64(256 * len(batch)))
		for b.Loop() {
			for from, end := objectlog.Offset(0), objectlog.Offset(1); from < end; {
				f := a.Fetch(b.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Start: Start{Kind: StartOffset, Offset: from}}}})[0]
				if f.Err != nil {
					b.Fatal(f.Err)
				}
				from, end = f.Next, f.HighWatermark
			}
		}
	})
	b.Run("raw", func(b *testing.B) {
		b.SetBytes(int64(256 * len(batch)))
		castagnoli := crc32.MakeTable(crc32.Castagnoli)
		for b.Loop() {
			err := filepath.WalkDir(filepath.Join(folder, "objects"), func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() || !strings.Contains(path, "seg") {
					return err
				}
				content, err := os.ReadFile(path)
				crc32.Checksum(content, castagnoli)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// encodedNoise is one batch of about 1 MiB.
func encodedNoise(b *testing.B) []byte {
	b.Helper()
	noise := rand.NewChaCha8([32]byte{})
	var records []objectlog.Record
	for range 1000 {
		v := make([]byte, 1024)
		_, _ = noise.Read(v)
		records = append(records, objectlog.Record{Value: v, Timestamp: 1})
	}
	batch, err := objectlog.EncodeBatch(nil, records, objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// BenchmarkLoneRecord is the latency of one record at a time.
func BenchmarkLoneRecord(b *testing.B) {
	cfg := testConfig()
	cfg.Shards, cfg.Slots = 1, 4096
	a, stop := disk(b, b.TempDir(), cfg)
	defer stop()
	if _, err := a.CreateTopic(b.Context(), "orders", 1, nil, false); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	for i := range b.N {
		r := a.Submit(b.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, fmt.Sprint(i))}})
		if got := r.Wait(b.Context())[0]; got.Err != nil {
			b.Fatal(got.Err)
		}
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/float64(b.N), "µs/record")
}

// BenchmarkCounts is what counting costs when all processors do nothing else: a produce or a fetch does it once per topic.
func BenchmarkCounts(b *testing.B) {
	counts := newTopicCounts(shard{})
	b.RunParallel(func(p *testing.PB) {
		for i := byte(0); p.Next(); i++ {
			counts.add(objectlog.UUID{0: i % 16}, topicBytes{produced: 1})
		}
	})
}
