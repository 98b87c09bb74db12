package objectlog

import (
	"fmt"
	"testing"
)

// The benchmarks count the bytes of records, not those stored, so that codecs compare with one another and with the two
// floors measured in the same run: copying the bytes and their CRC32C.

const benchRecords = 900 // of 1 KiB: a batch just under 1 MiB

func benchBatches(b *testing.B) (records []Record, recordBytes int64) {
	records = jsonRecords(benchRecords)
	return records, int64(len(mustEncode(b, records, plain(CodecNone))))
}

func BenchmarkFloor(b *testing.B) {
	src := mustEncode(b, jsonRecords(benchRecords), plain(CodecNone))
	dst := make([]byte, len(src))
	b.Run("memcpy", func(b *testing.B) {
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			copy(dst, src)
		}
	})
	b.Run("crc32c", func(b *testing.B) {
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			crc32c(src)
		}
	})
}

func perCodec(b *testing.B, bytes int64, run func(b *testing.B, codec Codec)) {
	for _, codec := range allCodecs {
		b.Run([]string{"none", "gzip", "snappy", "lz4", "zstd"}[codec], func(b *testing.B) {
			b.SetBytes(bytes)
			b.ReportAllocs()
			run(b, codec)
		})
	}
}

func BenchmarkCheckBatch(b *testing.B) {
	records, bytes := benchBatches(b)
	perCodec(b, bytes, func(b *testing.B, codec Codec) {
		batch := mustEncode(b, records, plain(codec))
		for b.Loop() {
			if _, err := CheckBatch(batch, Limits{BatchBytes: 2 << 20}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(bytes)/float64(len(batch)), "ratio")
	})
}

func BenchmarkEncodeBatch(b *testing.B) {
	records, bytes := benchBatches(b)
	perCodec(b, bytes, func(b *testing.B, codec Codec) {
		var dst []byte
		for b.Loop() {
			var err error
			if dst, err = EncodeBatch(dst[:0], records, plain(codec)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodeBatch(b *testing.B) {
	records, bytes := benchBatches(b)
	perCodec(b, bytes, func(b *testing.B, codec Codec) {
		batch := mustEncode(b, records, plain(codec))
		for b.Loop() {
			if err := DecodeBatch(batch, Limits{}, func(Offset, Record) bool { return true }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncodeSegment(b *testing.B) {
	for _, partitions := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("8MiB/%d", partitions), func(b *testing.B) {
			batches := [][]byte{make([]byte, 8<<20/partitions)}
			rows := []BatchRow{{Bytes: int32(len(batches[0])), Records: 1, ProducerID: NoProducer, Expected: NoOffset}}
			unsorted := make([]SegmentRun, partitions)
			for i := range unsorted {
				unsorted[i] = SegmentRun{Shard: Shard(i % 4), Topic: UUID{byte(i % 7)}, Partition: Partition(partitions - i), Batches: batches, Rows: rows}
			}
			runs := make([]SegmentRun, partitions)
			b.SetBytes(8 << 20)
			b.ReportAllocs()
			for b.Loop() {
				copy(runs, unsorted)
				EncodeSegment(runs)
			}
		})
	}
}

func BenchmarkDecodeSection(b *testing.B) {
	runs := make([]SegmentRun, 10_000)
	batch := make([]byte, 100)
	row := BatchRow{Bytes: 100, Records: 1, ProducerID: NoProducer, Expected: NoOffset}
	for i := range runs {
		runs[i] = SegmentRun{Topic: UUID{byte(i % 7)}, Partition: Partition(i), Batches: [][]byte{batch}, Rows: []BatchRow{row}}
	}
	_, sections := EncodeSegment(runs)
	b.SetBytes(int64(len(sections[0].Bytes)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeSection(sections[0].Bytes, sections[0].Ref); err != nil {
			b.Fatal(err)
		}
	}
}
