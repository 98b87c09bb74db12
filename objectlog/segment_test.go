package objectlog

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// rowOf is what an agent says about a batch it has checked.
func rowOf(t testing.TB, b []byte) BatchRow {
	t.Helper()
	h, err := ParseBatchHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return BatchRow{
		Bytes: int32(h.Bytes), Records: h.LastOffsetDelta + 1, MaxTimestamp: h.MaxTimestamp,
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, FirstSequence: h.FirstSequence,
		CRC: h.CRC, Expected: NoOffset,
	}
}

func segmentRun(t testing.TB, shard Shard, topic byte, partition Partition, batches ...[]byte) SegmentRun {
	t.Helper()
	r := SegmentRun{Shard: shard, Topic: UUID{15: topic}, Partition: partition, Batches: batches}
	for _, b := range batches {
		r.Rows = append(r.Rows, rowOf(t, b))
	}
	return r
}

// readSegment reads a whole segment as a reader with ranged gets would: trailer, footer, sections.
func readSegment(body []byte) (map[Shard][]Run, error) {
	if len(body) < segmentTrailerBytes {
		return nil, ErrCorrupt
	}
	footer, err := parseSegmentTrailer(body[len(body)-segmentTrailerBytes:], int64(len(body)))
	if err != nil {
		return nil, err
	}
	sections, err := decodeFooter(body[footer.Extent.Start:footer.Extent.Next], footer)
	if err != nil {
		return nil, err
	}
	runs := map[Shard][]Run{}
	for _, s := range sections {
		if runs[s.Shard], err = DecodeSection(body[s.Ref.Extent.Start:s.Ref.Extent.Next], s.Ref); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

func drawRow(t *rapid.T, bytes int) BatchRow {
	row := BatchRow{
		Bytes: int32(bytes), Records: rapid.Int32Min(1).Draw(t, "records"), MaxTimestamp: Timestamp(rapid.Int64Min(-1).Draw(t, "max timestamp")),
		ProducerID: NoProducer, ProducerEpoch: -1, FirstSequence: -1, CRC: rapid.Uint32().Draw(t, "crc"), Expected: NoOffset,
	}
	if rapid.Bool().Draw(t, "producer") {
		row.ProducerID = ProducerID(rapid.Int64Min(0).Draw(t, "id"))
		row.ProducerEpoch = rapid.Int16Min(0).Draw(t, "epoch")
		row.FirstSequence = rapid.Int32Min(0).Draw(t, "sequence")
	}
	if rapid.Bool().Draw(t, "expected") {
		row.Expected = Offset(rapid.Int64Min(0).Draw(t, "expected offset"))
	}
	return row
}

func TestSegmentComesBackAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type place struct {
			shard     Shard
			topic     UUID
			partition Partition
		}
		rows, stored := map[place][]BatchRow{}, map[place][]byte{}
		var runs []SegmentRun
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			p := place{Shard(rapid.Uint16Range(0, 3).Draw(t, "shard")), UUID{rapid.ByteRange(0, 3).Draw(t, "topic")},
				rapid.SampledFrom([]Partition{0, 1, 2, 500, math.MaxInt32}).Draw(t, "partition")}
			r := SegmentRun{Shard: p.shard, Topic: p.topic, Partition: p.partition}
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				b := rapid.SliceOfN(rapid.Byte(), batchHeaderBytes, batchHeaderBytes+9).Draw(t, "batch")
				r.Batches = append(r.Batches, b)
				r.Rows = append(r.Rows, drawRow(t, len(b)))
				stored[p] = append(stored[p], b...)
			}
			rows[p] = append(rows[p], r.Rows...)
			runs = append(runs, r)
		}
		body, sections := EncodeSegment(runs)
		if len(body) != cap(body) {
			t.Fatalf("%d bytes in memory for %d", len(body), cap(body))
		}
		got, err := readSegment(body)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(sections) || !slices.IsSortedFunc(sections, func(a, b Section) int { return int(a.Shard) - int(b.Shard) }) {
			t.Fatalf("sections %v, read %v", sections, got)
		}
		for _, s := range sections {
			if !bytes.Equal(s.Bytes, body[s.Ref.Extent.Start:s.Ref.Extent.Next]) {
				t.Fatalf("section of shard %d is not where its reference says", s.Shard)
			}
			for _, run := range got[s.Shard] {
				p := place{s.Shard, run.Topic, run.Partition}
				if !reflect.DeepEqual(run.Rows, rows[p]) {
					t.Fatalf("%+v: got  %v\nwant %v", p, run.Rows, rows[p])
				}
				if !bytes.Equal(body[run.Start:run.Start+int64(len(stored[p]))], stored[p]) {
					t.Fatalf("%+v: batches are not at %d", p, run.Start)
				}
				delete(rows, p)
			}
		}
		if len(rows) > 0 {
			t.Fatalf("runs of %v are missing", rows)
		}
	})
}

func TestSegmentSortsRunsByShardTopicAndPartition(t *testing.T) {
	b := mustEncode(t, []Record{{Value: []byte("a")}}, plain(CodecNone))
	body, _ := EncodeSegment([]SegmentRun{
		segmentRun(t, 1, 1, 0, b), segmentRun(t, 0, 2, 1, b), segmentRun(t, 0, 2, 0, b, b), segmentRun(t, 0, 1, 7, b),
	})
	got, err := readSegment(body)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(b))
	var starts []int64
	for _, run := range append(got[0], got[1]...) {
		starts = append(starts, run.Start)
	}
	if want := []int64{8, 8 + n, 8 + 3*n, 8 + 4*n}; !slices.Equal(starts, want) {
		t.Errorf("runs start at %v, want %v", starts, want)
	}
	if got[0][0].Topic != (UUID{15: 1}) || got[0][1].Partition != 0 || got[0][2].Partition != 1 {
		t.Errorf("order is %v", got[0])
	}
}

// smallSegment has two shards, a producer row and a row with an expected offset.
func smallSegment(t testing.TB) []byte {
	one := mustEncode(t, []Record{{Value: []byte("one"), Timestamp: 1000}}, plain(CodecNone))
	o := plain(CodecNone)
	o.ProducerID, o.ProducerEpoch, o.FirstSequence = 4000, 2, 17
	two := mustEncode(t, []Record{{Value: []byte("two"), Timestamp: 2000}, {Key: []byte("k"), Timestamp: 1500}}, o)
	last := segmentRun(t, 3, 2, 70, one)
	last.Rows[0].Expected = 12
	body, _ := EncodeSegment([]SegmentRun{segmentRun(t, 1, 1, 0, one, two), segmentRun(t, 1, 1, 5, two), last})
	return body
}

func TestSegmentWithAFlippedBitIsNeverReadAsAnother(t *testing.T) {
	body := smallSegment(t)
	whole, err := readSegment(body)
	if err != nil {
		t.Fatal(err)
	}
	footer, err := parseSegmentTrailer(body[len(body)-segmentTrailerBytes:], int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(body) {
		damaged := bytes.Clone(body)
		damaged[bit/8] ^= 1 << (bit % 8)
		got, err := readSegment(damaged)
		behindBatches := int64(bit/8) >= footer.Extent.Start
		if behindBatches && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("bit %d of byte %d: error is %v", bit%8, bit/8, err)
		}
		if !behindBatches && !reflect.DeepEqual(got, whole) {
			t.Errorf("bit %d of byte %d in the batches changed what the footer says", bit%8, bit/8)
		}
	}
}

func TestSectionCutOffIsCorruptEvenWhereTheChecksumHolds(t *testing.T) {
	_, sections := EncodeSegment([]SegmentRun{segmentRun(t, 1, 1, 0, mustEncode(t, []Record{{}}, plain(CodecNone)))})
	for n := range sections[0].Bytes {
		b := sections[0].Bytes[:n]
		ref := SectionRef{Extent: Extent{Start: 1000, Next: 1000 + int64(n)}, CRC32C: crc32c(b)}
		if _, err := DecodeSection(b, ref); !errors.Is(err, ErrCorrupt) {
			t.Errorf("first %d bytes: error is %v", n, err)
		}
	}
}

func TestSectionOfRunsThatReachBehindItIsCorrupt(t *testing.T) {
	_, sections := EncodeSegment([]SegmentRun{segmentRun(t, 1, 1, 0, mustEncode(t, []Record{{}}, plain(CodecNone)))})
	s := sections[0]
	length := s.Ref.Extent.Len()
	s.Ref.Extent = Extent{Start: 20, Next: 20 + length}
	if _, err := DecodeSection(s.Bytes, s.Ref); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error is %v", err)
	}
}

func TestSegmentCutOffAnywhereIsCorrupt(t *testing.T) {
	body := smallSegment(t)
	for n := range body {
		if _, err := readSegment(body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("first %d of %d bytes: error is %v", n, len(body), err)
		}
	}
}

func TestSectionThatBreaksARuleIsCorruptEvenWhereTheChecksumHolds(t *testing.T) {
	const topic, next = "aa 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ", "ab 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
	const row = "00 3d 01 00 11 22 33 44 "
	for name, spelled := range map[string]string{
		"":                     "01 00 01" + topic + "01 05 08 01" + row,
		"no topics":            "01 00 00",
		"no partitions":        "01 00 01" + topic + "00 05 08 01" + row,
		"no rows":              "01 00 01" + topic + "01 05 08 00" + row,
		"too many topics":      "01 00 02" + topic + "01 05 08 01" + row,
		"a million rows":       "01 00 01" + topic + "01 05 08 c0 84 3d" + row,
		"start in the header":  "01 00 01" + topic + "01 05 07 01" + row,
		"unknown row flag":     "01 00 01" + topic + "01 05 08 01 04 3d 01 00 11 22 33 44",
		"batch of 60 bytes":    "01 00 01" + topic + "01 05 08 01 00 3c 01 00 11 22 33 44",
		"no records":           "01 00 01" + topic + "01 05 08 01 00 3d 00 00 11 22 33 44",
		"max timestamp -2":     "01 00 01" + topic + "01 05 08 01 00 3d 01 03 11 22 33 44",
		"producer epoch 32768": "01 00 01" + topic + "01 05 08 01 01 3d 01 00 11 22 33 44 01 80 80 02 00",
		"a byte more":          "01 00 01" + topic + "01 05 08 01" + row + "00",
		"partition 2^31":       "01 00 01" + topic + "02 ff ff ff ff 07 08 01" + row + "00 00 01" + row,
		"topics out of order":  "01 00 02" + next + "01 05 08 01" + row + topic + "01 05 00 01" + row,
		"a topic twice":        "01 00 02" + topic + "01 05 08 01" + row + topic + "01 06 00 01" + row,
	} {
		b := unspell(t, spelled)
		ref := SectionRef{Extent: Extent{Start: 1000, Next: 1000 + int64(len(b))}, CRC32C: crc32c(b)}
		if _, err := DecodeSection(b, ref); name == "" && err != nil || name != "" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
		ref.Extent.Next++
		if _, err := DecodeSection(b, ref); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s, shorter than its reference: error is %v", name, err)
		}
	}
}

func TestFooterThatBreaksARuleIsCorruptEvenWhereTheChecksumHolds(t *testing.T) {
	for name, spelled := range map[string]string{
		"":                     "00 00 00 02  00 01 00 00 00 01 11 22 33 44  00 02 00 00 00 01 11 22 33 44  aa bb",
		"a shard twice":        "00 00 00 02  00 01 00 00 00 01 11 22 33 44  00 01 00 00 00 01 11 22 33 44  aa bb",
		"shards out of order":  "00 00 00 02  00 02 00 00 00 01 11 22 33 44  00 01 00 00 00 01 11 22 33 44  aa bb",
		"a byte more":          "00 00 00 02  00 01 00 00 00 01 11 22 33 44  00 02 00 00 00 01 11 22 33 44  aa bb cc",
		"a byte less":          "00 00 00 02  00 01 00 00 00 01 11 22 33 44  00 02 00 00 00 01 11 22 33 44  aa",
		"four billion of them": "ff ff ff ff  00 01 00 00 00 01 11 22 33 44",
		"nothing":              "",
	} {
		b := unspell(t, spelled)
		ref := SectionRef{Extent: Extent{Start: 1000, Next: 1000 + int64(len(b))}, CRC32C: crc32c(b)}
		if _, err := decodeFooter(b, ref); name == "" && err != nil || name != "" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestTrailerOfAnotherObjectIsCorrupt(t *testing.T) {
	body := smallSegment(t)
	trailer := body[len(body)-segmentTrailerBytes:]
	for _, size := range []int64{0, 39, int64(len(body)) - 1, int64(len(body)) + 1, math.MaxInt64} {
		if _, err := parseSegmentTrailer(trailer, size); !errors.Is(err, ErrCorrupt) {
			t.Errorf("object of %d bytes: error is %v", size, err)
		}
	}
}

func TestLaterSegmentFormatsAreNamedBeforeAnyChecksum(t *testing.T) {
	body := smallSegment(t)
	trailer := body[len(body)-segmentTrailerBytes:]
	trailer[trailerVersionAt+3] = 9
	_, err := parseSegmentTrailer(trailer, int64(len(body)))
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "segment format 9, this program reads 1") {
		t.Errorf("trailer: error is %v", err)
	}
	_, err = DecodeSection([]byte{7, 1, 2, 3}, SectionRef{})
	if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "format 7, this program reads 1") {
		t.Errorf("section: error is %v", err)
	}
}

func TestFlagsOfLaterFormatsAreRefusedByName(t *testing.T) {
	for flag, name := range map[byte]string{1: "merged", 4: "unknown"} {
		body := smallSegment(t)
		trailer := body[len(body)-segmentTrailerBytes:]
		trailer[trailerFlagsAt+3] = flag
		copy(trailer[trailerCRCAt:], be32(crc32c(trailer[:trailerCRCAt])))
		if _, err := parseSegmentTrailer(trailer, int64(len(body))); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), name) {
			t.Errorf("trailer flag %d: error is %v", flag, err)
		}
		b := []byte{sectionVersion, flag, 0}
		ref := SectionRef{Extent: Extent{Start: 100, Next: 103}, CRC32C: crc32c(b)}
		if _, err := DecodeSection(b, ref); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), name) {
			t.Errorf("section flag %d: error is %v", flag, err)
		}
	}
}

func TestEncodingARowThatIsNotOfItsBatchPanics(t *testing.T) {
	b := mustEncode(t, []Record{{}}, plain(CodecNone))
	good := segmentRun(t, 0, 1, 0, b)
	for name, r := range map[string]SegmentRun{
		"wrong length": {Topic: good.Topic, Batches: [][]byte{b[1:]}, Rows: good.Rows},
		"no rows":      {Topic: good.Topic, Batches: [][]byte{b}},
		"empty run":    {Topic: good.Topic},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			EncodeSegment([]SegmentRun{r})
		}()
	}
}

func be32(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
