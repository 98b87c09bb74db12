package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// ring makes a ring's items: 4,096 slots with 4 KiB each, as after a lap.
func ring(b *testing.B, table *Table) []metadata.Item {
	items := make([]metadata.Item, 4096)
	for i := range items {
		items[i] = metadata.Item{
			Key: metadata.Key{PK: fmt.Sprintf("ring#%d", i%16), SK: fmt.Sprintf("%06d", i)}, Rev: 0, Value: make([]byte, 4<<10),
		}
	}
	if r := table.CreateAll(context.Background(), items); r.Outcome != metadata.Applied {
		b.Fatal(r.Err)
	}
	return items
}

// BenchmarkPut puts into the ring, slot by slot, and in turn writes and syncs as many bytes at one place of a bare file. put/sync is the
// price of a put in bare syncs; bbolt's two syncs make about 2 the floor.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			folder := b.TempDir()
			table := open(b, folder)
			items := ring(b, table)
			bare, err := os.Create(filepath.Join(folder, "bare"))
			if err != nil {
				b.Fatal(err)
			}
			defer bare.Close()
			var put, sync time.Duration
			for i := 0; b.Loop(); i++ {
				item := &items[i%len(items)]
				cond := metadata.RevIs(item.Rev)
				item.Rev++
				item.Value = item.Value[:size]
				start := time.Now()
				if r := table.Put(context.Background(), *item, cond); r.Outcome != metadata.Applied {
					b.Fatal(r)
				}
				middle := time.Now()
				if _, err := bare.WriteAt(item.Value, 0); err != nil {
					b.Fatal(err)
				}
				if err := bare.Sync(); err != nil {
					b.Fatal(err)
				}
				put += middle.Sub(start)
				sync += time.Since(middle)
			}
			b.ReportMetric(float64(put)/float64(sync), "put/sync")
			b.ReportMetric(float64(put.Microseconds())/float64(b.N), "µs/put")
			info, err := os.Stat(filepath.Join(folder, fileName))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/1e6, "file-MB")
		})
	}
}

// BenchmarkPutFromEightShards has eight writers, as eight shards' leaders are.
func BenchmarkPutFromEightShards(b *testing.B) {
	table := open(b, b.TempDir())
	items := ring(b, table)
	const writers = 8
	var wg sync.WaitGroup
	start := time.Now()
	for w := range writers {
		wg.Go(func() {
			for i := range b.N/writers + 1 {
				item := items[(w+i*writers)%len(items)]
				lap := metadata.Rev((w + i*writers) / len(items))
				item.Rev = lap + 1
				if r := table.Put(context.Background(), item, metadata.RevIs(lap)); r.Outcome != metadata.Applied {
					b.Errorf("put: %+v", r)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "puts/s")
}

func BenchmarkGet(b *testing.B) {
	table := open(b, b.TempDir())
	items := ring(b, table)
	for i := 0; b.Loop(); i++ {
		if _, ok, err := table.Get(context.Background(), items[i%len(items)].Key); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
