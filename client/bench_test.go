package client

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// benchRecords are records of about 100 bytes that compress about as well as JSON does.
func benchRecords(n int) []Record {
	rnd := rand.New(rand.NewPCG(1, 1))
	out := make([]Record, n)
	for i := range out {
		v := fmt.Appendf(nil, `{"match":"bra-arg","minute":%d,"player":%d,"event":"pass","x":%.3f,"y":%.3f,"speed":%.2f}`,
			rnd.IntN(90), rnd.IntN(22), rnd.Float64(), rnd.Float64(), rnd.Float64()*30)
		out[i] = Record{Topic: "matches", Key: binary.BigEndian.AppendUint64(nil, rnd.Uint64()), Value: v}
	}
	return out
}

// BenchmarkPack is the producer's whole work on a record short of the network: partition, queue, seal, sequence, encode,
// settle, report. Compare with BenchmarkCopy, which only copies the same bytes.
func BenchmarkPack(b *testing.B) {
	for _, compression := range []string{"none", "snappy", "lz4", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			p := &Producer{
				c: &Client{}, codec: codecs[compression], wake: newSignal(), space: make(chan struct{}),
				topics: map[string]*topic{"matches": {name: "matches", partitions: 8, queues: make([]*sendQueue, 8), asked: time.Now().Add(time.Hour)}},
				cfg:    ProducerConfig{Compression: compression}.withDefaults(),
			}
			records := benchRecords(10_000)
			reported, base := 0, Offset(0)
			done := func(Result) { reported++ }
			id := identity{id: 1, set: true}
			b.SetBytes(int64(recordBytes(&records[0])))
			b.ReportAllocs()
			drain := func() {
				for {
					f, identify, _ := p.next(time.Now())
					if identify != nil {
						identify.identify(id)
						continue
					}
					if f == nil {
						return
					}
					for _, s := range f.sent {
						if err := p.encode(s.b); err != nil {
							b.Fatal(err)
						}
						p.settle(f, s, answer{verdict: appended, outcome: outcome{base: base}})
					}
					p.report()
				}
			}
			ctx := context.Background()
			for i := 0; b.Loop(); i++ {
				if err := p.enqueue(ctx, &records[i%len(records)], done); err != nil {
					b.Fatal(err)
				}
				if p.buffered > 16<<20 {
					drain()
				}
			}
			drain()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkCopy copies keys and values of the same records into batches, nothing else.
func BenchmarkCopy(b *testing.B) {
	records := benchRecords(10_000)
	buf := make([]byte, 0, 2<<20)
	b.SetBytes(int64(recordBytes(&records[0])))
	for i := 0; b.Loop(); i++ {
		r := &records[i%len(records)]
		if len(buf) > 1<<20 {
			buf = buf[:0]
		}
		buf = append(append(buf, r.Key...), r.Value...)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkDecode is a consumer's work on a fetched batch of 10,000 records.
func BenchmarkDecode(b *testing.B) {
	for _, compression := range []string{"none", "snappy", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			records := benchRecords(10_000)
			list := make([]objectlog.Record, len(records))
			bytes := 0
			for i := range records {
				list[i] = storedRecord(&records[i], time.Now())
				bytes += recordBytes(&records[i])
			}
			encoded, err := objectlog.EncodeBatch(nil, list, objectlog.BatchOptions{
				Codec: codecs[compression], LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer,
			})
			if err != nil {
				b.Fatal(err)
			}
			cur := &cursor{place: place{"matches", 0}}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				if got, _, _, err := decodeFirst(&chunk{cur: cur, encoded: encoded}); err != nil || len(got) != len(list) {
					b.Fatalf("%d records, %v", len(got), err)
				}
			}
			b.ReportMetric(float64(b.N*len(list))/b.Elapsed().Seconds(), "records/s")
		})
	}
}
