package objectlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// fuzzLimits keep a hostile input from spending the fuzzer's time on memory.
var fuzzLimits = Limits{BatchBytes: 1 << 20, DecodedBytes: 1 << 20, Records: 10_000, RecordBytes: 1 << 20}

func FuzzCheckBatch(f *testing.F) {
	for _, k := range knownBatches {
		f.Add(k.bytes(f), false)
		f.Add(k.bytes(f), true)
	}
	for _, codec := range allCodecs {
		f.Add(readGolden(f, "batch."+codec.name()), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		b = bytes.Clone(b)
		if sealed && len(b) >= batchHeaderBytes {
			b[batchMagicAt] = batchMagic
			reseal(b) // else the fuzzer never gets beyond the checksum
		}
		h, err := CheckBatch(b, fuzzLimits)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrVersion) {
				t.Fatalf("error of no kind: %v", err)
			}
			_ = DecodeBatch(b, fuzzLimits, func(Offset, Record) bool { return true })
			return
		}
		var records []Record
		if err := DecodeBatch(b, fuzzLimits, func(_ Offset, r Record) bool { records = append(records, r); return true }); err != nil {
			t.Fatalf("checked, but does not decode: %v", err)
		}
		if len(records) != int(h.Records) {
			t.Fatalf("%d records, the header says %d", len(records), h.Records)
		}
		o := BatchOptions{Codec: h.Codec, LogAppendTime: NoTimestamp, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, FirstSequence: h.FirstSequence}
		again := mustEncode(t, records, o)
		limits := fuzzLimits
		limits.BatchBytes = 2 << 20
		limits.DecodedBytes = 2 << 20
		if _, err := CheckBatch(again, limits); err != nil {
			t.Fatalf("encoded again, it does not pass: %v", err)
		}
	})
}

func FuzzSegmentFooter(f *testing.F) {
	body := goldenSegment(f)
	footer, err := parseSegmentTrailer(body[len(body)-segmentTrailerBytes:], int64(len(body)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body[footer.Extent.Start:footer.Extent.Next])
	_, sections := EncodeSegment([]SegmentRun{segmentRun(f, 1, 1, 0, knownBatches[0].bytes(f))})
	f.Add(sections[0].Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		const start = 1 << 20
		ref := SectionRef{Extent: Extent{Start: start, Next: start + int64(len(b))}, CRC32C: crc32c(b)}
		checkRuns(t, b, ref)
		list, err := decodeFooter(b, ref)
		if err != nil {
			return
		}
		for _, s := range list {
			s.Ref.CRC32C = crc32c(s.Bytes)
			checkRuns(t, s.Bytes, s.Ref)
		}
	})
}

// checkRuns decodes a section that may be garbage; what is accepted keeps its promises.
func checkRuns(t *testing.T, b []byte, ref SectionRef) {
	runs, err := DecodeSection(b, ref)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("error of no kind: %v", err)
		}
		return
	}
	end := int64(segmentHeaderBytes)
	for i, run := range runs {
		if run.Start < end || len(run.Rows) == 0 {
			t.Fatalf("run %d starts at %d with %d rows, the one before ended at %d", i, run.Start, len(run.Rows), end)
		}
		if i > 0 {
			before := SegmentRun{Topic: runs[i-1].Topic, Partition: runs[i-1].Partition}
			if before.comparePartition(&SegmentRun{Topic: run.Topic, Partition: run.Partition}) >= 0 {
				t.Fatalf("run %d is out of order", i)
			}
		}
		end = run.Start
		for _, row := range run.Rows {
			end += int64(row.Bytes)
		}
	}
	if end > ref.Extent.Start {
		t.Fatalf("runs end at %d, the section starts at %d", end, ref.Extent.Start)
	}
}

func FuzzDump(f *testing.F) {
	f.Add(goldenSegment(f))
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := DescribeSegment(b, true)
		if err := d.WriteText(io.Discard); err != nil {
			t.Error(err)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
	})
}
