package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// BenchmarkCatchUp reads segments of 4 MiB one after the other, and in turn the same files raw; raw/get is the share of the raw speed that is
// left, which should be above 0.5.
func BenchmarkCatchUp(b *testing.B) {
	ctx := context.Background()
	for _, part := range []struct {
		name   string
		extent objectlog.Extent
	}{{"whole", objectlog.Extent{}}, {"part", objectlog.Extent{Start: 64 << 10, Next: 1<<20 + 64<<10}}} {
		b.Run(part.name, func(b *testing.B) {
			root := b.TempDir()
			bucket := open(b, root)
			const objects, size = 16, 4 << 20
			for i := range objects {
				if err := bucket.Put(ctx, fmt.Sprintf("seg/%d", i), make([]byte, size), objectlog.UUID{1}); err != nil {
					b.Fatal(err)
				}
			}
			read := int64(size)
			if part.extent.Next > 0 {
				read = part.extent.Len()
			}
			b.SetBytes(read)
			var get, raw time.Duration
			for i := 0; b.Loop(); i++ {
				key := fmt.Sprintf("seg/%d", i%objects)
				start := time.Now()
				if _, err := bucket.Get(ctx, key, part.extent); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if err := readRaw(filepath.Join(root, key), part.extent.Start, read); err != nil {
					b.Fatal(err)
				}
				get += middle.Sub(start)
				raw += time.Since(middle)
			}
			b.ReportMetric(float64(raw)/float64(get), "raw/get")
			b.ReportMetric(float64(read)*float64(b.N)/get.Seconds()/1e6, "get-MB/s")
		})
	}
}

func readRaw(name string, at, n int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, n), at)
	return err
}

// BenchmarkPut puts objects of 64 KiB and, in turn, writes and syncs bare files of that size; put/bare is what the rest costs.
func BenchmarkPut(b *testing.B) {
	ctx := context.Background()
	root := b.TempDir()
	bucket := open(b, root)
	body := make([]byte, 64<<10)
	var put, bare time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if err := bucket.Put(ctx, fmt.Sprintf("seg/%d", i), body, objectlog.UUID{1}); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := writeBare(filepath.Join(root, fmt.Sprintf("bare-%d", i)), body); err != nil {
			b.Fatal(err)
		}
		put += middle.Sub(start)
		bare += time.Since(middle)
	}
	b.ReportMetric(float64(put)/float64(bare), "put/bare")
}

func writeBare(name string, body []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return f.Sync()
}
