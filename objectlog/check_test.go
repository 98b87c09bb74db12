package objectlog

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// reseal gives a batch that was changed by hand the length and checksum that belong to it.
func reseal(b []byte) []byte {
	binary.BigEndian.PutUint32(b[batchLengthAt:], uint32(len(b)-batchLengthNext))
	sealBatch(b)
	return b
}

// batchOf wraps a payload that the given codec may or may not decode.
func batchOf(codec Codec, records int, payload []byte) []byte {
	b := make([]byte, batchHeaderBytes, batchHeaderBytes+len(payload))
	plain(codec).putHeader(b, records, 0, 0)
	return reseal(append(b, payload...))
}

func TestBatchWithAFlippedBitIsRefused(t *testing.T) {
	for _, k := range knownBatches {
		b := k.bytes(t)
		for bit := range 8 * len(b) {
			at := bit / 8
			outside := at < batchLengthAt || at >= batchEpochAt && at < batchMagicAt
			b[at] ^= 1 << (bit % 8)
			_, err := CheckBatch(b, Limits{})
			if outside && err != nil {
				t.Errorf("%s: byte %d lies outside the checksum: %v", k.name, at, err)
			}
			if !outside && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Errorf("%s: bit %d of byte %d: error is %v", k.name, bit%8, at, err)
			}
			b[at] ^= 1 << (bit % 8)
		}
	}
}

func TestBatchCutOffAnywhereIsCorrupt(t *testing.T) {
	for _, k := range knownBatches {
		b := k.bytes(t)
		for n := range b {
			if _, err := CheckBatch(b[:n], Limits{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: first %d bytes: error is %v", k.name, n, err)
			}
			if err := DecodeBatch(b[:n], Limits{}, func(Offset, Record) bool { return true }); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: decode first %d bytes: error is %v", k.name, n, err)
			}
		}
	}
}

// What lies behind the checksum may be wrong as well: a client computes it over whatever it has.
func TestPayloadCutOffOrLengthenedIsInvalidEvenWhereTheChecksumHolds(t *testing.T) {
	for _, k := range knownBatches {
		b := k.bytes(t)
		for n := batchHeaderBytes; n < len(b); n++ {
			if _, err := CheckBatch(reseal(bytes.Clone(b[:n])), Limits{}); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: payload of %d bytes: error is %v", k.name, n-batchHeaderBytes, err)
			}
		}
		if _, err := CheckBatch(reseal(append(bytes.Clone(b), 0)), Limits{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: one byte more: error is %v", k.name, err)
		}
	}
}

func TestPayloadWithAFlippedBitNeverPanics(t *testing.T) {
	for _, codec := range allCodecs {
		b := mustEncode(t, jsonRecords(2), plain(codec))
		for bit := 8 * batchHeaderBytes; bit < 8*len(b); bit++ {
			b[bit/8] ^= 1 << (bit % 8)
			reseal(b)
			_, err := CheckBatch(b, Limits{})
			if err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("codec %d: bit %d: error is %v", codec, bit, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestCheckRefusesWhatBreaksARule(t *testing.T) {
	be := binary.BigEndian
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   error
		text   string
	}{
		{"magic 1", func(b []byte) { b[batchMagicAt] = 1 }, ErrVersion, "format 1, this program reads 2"},
		{"magic 3", func(b []byte) { b[batchMagicAt] = 3 }, ErrVersion, "format 3, this program reads 2"},
		{"control", func(b []byte) { b[22] |= attrControl }, ErrInvalid, "control"},
		{"transactional", func(b []byte) { b[22] |= attrTransactional }, ErrInvalid, "transactional"},
		{"append time", func(b []byte) { b[22] |= attrLogAppendTime }, ErrInvalid, "LogAppendTime"},
		{"delete horizon", func(b []byte) { b[22] |= 0x40 }, ErrInvalid, "unknown attribute"},
		{"high attribute", func(b []byte) { b[21] |= 0x80 }, ErrInvalid, "unknown attribute"},
		{"codec 5", func(b []byte) { b[22] |= 5 }, ErrInvalid, "codec 5"},
		{"codec 7", func(b []byte) { b[22] |= 7 }, ErrInvalid, "codec 7"},
		{"last offset delta", func(b []byte) { be.PutUint32(b[batchLastDeltaAt:], 2) }, ErrInvalid, "last offset delta"},
		{"no records", func(b []byte) { be.PutUint32(b[batchRecordsAt:], 0) }, ErrInvalid, "0 records"},
		{"negative count", func(b []byte) { be.PutUint32(b[batchRecordsAt:], 1<<31); be.PutUint32(b[batchLastDeltaAt:], 1<<31-1) }, ErrInvalid, "records"},
		{"one record too many", func(b []byte) { be.PutUint32(b[batchRecordsAt:], 3); be.PutUint32(b[batchLastDeltaAt:], 2) }, ErrInvalid, "record 2"},
		{"one record too few", func(b []byte) { be.PutUint32(b[batchRecordsAt:], 1); be.PutUint32(b[batchLastDeltaAt:], 0) }, ErrInvalid, "behind the last record"},
		{"base timestamp", func(b []byte) { be.PutUint64(b[batchBaseTimeAt:], 1<<63) }, ErrInvalid, "base timestamp"},
		{"producer without epoch", func(b []byte) { be.PutUint16(b[batchProdEpochAt:], 0xffff) }, ErrInvalid, "producer"},
		{"producer without sequence", func(b []byte) { be.PutUint32(b[batchSequenceAt:], 0xffffffff) }, ErrInvalid, "producer"},
		{"negative producer", func(b []byte) { be.PutUint64(b[batchProducerAt:], 1<<64-2) }, ErrInvalid, "producer"},
		{"record length beyond the end", func(b []byte) { b[61] = 0x7e }, ErrInvalid, "record 0: length 63"},
		{"negative record length", func(b []byte) { b[61] = 0x01 }, ErrInvalid, "record 0"},
		{"record length too short", func(b []byte) { b[61] = 0x1c }, ErrInvalid, "record 0"},
		{"negative timestamp", func(b []byte) { b[64-1] = 0x03; be.PutUint64(b[batchBaseTimeAt:], 0) }, ErrInvalid, "timestamp delta -2 from 0"},
		{"offset delta", func(b []byte) { b[64] = 2 }, ErrInvalid, "offset delta 1"},
		{"second offset delta", func(b []byte) { b[81] = 4 }, ErrInvalid, "offset delta 2"},
		{"key length -2", func(b []byte) { b[65] = 3 }, ErrInvalid, "record 0"},
		{"header count", func(b []byte) { b[73] = 4 }, ErrInvalid, "headers"},
		{"negative header count", func(b []byte) { b[73] = 1 }, ErrInvalid, "record 0"},
		{"null header key", func(b []byte) { b[74] = 1 }, ErrInvalid, "headers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := knownBatches[0].bytes(t)
			c.change(b)
			_, err := CheckBatch(reseal(b), Limits{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error is %v; want %v with %q", err, c.want, c.text)
			}
		})
	}
}

// Sarama writes neither a max timestamp nor, without producer, an epoch and a sequence of -1.
func TestCheckTakesWhatKafkaTakesAndPutsTheMaxTimestampRight(t *testing.T) {
	for _, k := range knownBatches {
		right := k.bytes(t)
		wrong := bytes.Clone(right)
		binary.BigEndian.PutUint64(wrong[batchMaxTimeAt:], 0)
		h, err := CheckBatch(reseal(wrong), Limits{})
		if err != nil || !bytes.Equal(wrong, right) {
			t.Errorf("%s: not put right, error %v", k.name, err)
		}
		if again, err := CheckBatch(wrong, Limits{}); err != nil || again != h {
			t.Errorf("%s: then %+v, %v; at first %+v", k.name, again, err, h)
		}
	}
	b := knownBatches[0].bytes(t)
	binary.BigEndian.PutUint64(b[batchProducerAt:], 1<<64-1)
	h, err := CheckBatch(reseal(b), Limits{})
	if err != nil || h.ProducerID != NoProducer || h.ProducerEpoch != -1 || h.FirstSequence != -1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestCheckTakesOneBatchOnly(t *testing.T) {
	b := knownBatches[0].bytes(t)
	if _, err := CheckBatch(append(b, b...), Limits{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "behind its end") {
		t.Errorf("error is %v", err)
	}
}

func TestLimitsAreExact(t *testing.T) {
	b := knownBatches[0].bytes(t)
	packed := knownBatches[4].bytes(t)
	for _, c := range []struct {
		name    string
		b       []byte
		fits    Limits
		exceeds Limits
	}{
		{"batch bytes", b, Limits{BatchBytes: len(b)}, Limits{BatchBytes: len(b) - 1}},
		{"decoded bytes", packed, Limits{DecodedBytes: 24}, Limits{DecodedBytes: 23}},
		{"records", b, Limits{Records: 2}, Limits{Records: 1}},
		{"record bytes", b, Limits{RecordBytes: 15}, Limits{RecordBytes: 14}},
	} {
		if _, err := CheckBatch(c.b, c.fits); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := CheckBatch(c.b, c.exceeds); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error is %v, want ErrTooLarge", c.name, err)
		}
	}
	two := []Header{{Key: "a"}, {Key: "b"}}
	b = mustEncode(t, []Record{{Headers: two}}, plain(CodecNone))
	if _, err := CheckBatch(b, Limits{Headers: 1}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("headers: error is %v, want ErrTooLarge", err)
	}
}

func TestEveryCodecKeepsToTheDecodedLimit(t *testing.T) {
	records := jsonRecords(200)
	body := len(mustEncode(t, records, plain(CodecNone))) - batchHeaderBytes
	batches := map[string][]byte{}
	for _, k := range allCodecs[1:] {
		batches[fmt.Sprint("codec ", k)] = mustEncode(t, records, plain(k))
	}
	// Java's zstd does not say how large the content is.
	silent := mustEncode(t, records, plain(CodecZstd))
	silent = append(silent[:batchHeaderBytes], zstdWithoutSize(t, mustEncode(t, records, plain(CodecNone))[batchHeaderBytes:])...)
	batches["zstd without size"] = reseal(silent)
	// Noise is stored, not compressed.
	noise := make([]byte, body-11)
	x := uint32(1)
	for i := range noise {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	for _, k := range allCodecs[1:] {
		batches[fmt.Sprint("noise, codec ", k)] = mustEncode(t, []Record{{Value: noise}}, plain(k))
	}
	for k, b := range batches {
		if _, err := CheckBatch(b, Limits{DecodedBytes: body}); err != nil {
			t.Errorf("%s: limit just reached: %v", k, err)
		}
		for _, limit := range []int{body - 1, body / 2, 1000, 1} {
			if _, err := CheckBatch(b, Limits{DecodedBytes: limit}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: limit %d of %d: error is %v", k, limit, body, err)
			}
		}
	}
}

func zstdWithoutSize(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	// Two writes with a flush between them: the writer cannot know the size when it writes the header.
	for _, part := range [][]byte{body[:len(body)/2], body[len(body)/2:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var frame zstd.Header
	if err := frame.Decode(out.Bytes()); err != nil || frame.HasFCS {
		t.Fatalf("%+v, %v; want a frame without content size", frame, err)
	}
	return out.Bytes()
}

// bombs decompress to 128 MiB each, or say so.
func bombs(t testing.TB) map[string][]byte {
	const size = 128 << 20
	zeros := make([]byte, 1<<20)
	var gz, lz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	l := lz4.NewWriter(&lz)
	z, err := zstd.NewWriter(&zs, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range size / len(zeros) {
		for _, w := range []interface{ Write([]byte) (int, error) }{g, l, z} {
			if _, err := w.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []interface{ Close() error }{g, l, z} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	one := s2.EncodeSnappy(nil, zeros)
	framed := []byte(xerialMagic + "\x00\x00\x00\x01\x00\x00\x00\x01")
	for range size / len(zeros) {
		framed = append(binary.BigEndian.AppendUint32(framed, uint32(len(one))), one...)
	}
	// A frame header that announces 128 MiB: single segment, content size of 8 bytes.
	announced := append(unspell(t, "28 b5 2f fd e0"), binary.LittleEndian.AppendUint64(nil, size)...)
	return map[string][]byte{
		"gzip":              batchOf(CodecGzip, 1, gz.Bytes()),
		"lz4":               batchOf(CodecLZ4, 1, lz.Bytes()),
		"zstd":              batchOf(CodecZstd, 1, zs.Bytes()),
		"zstd, announced":   batchOf(CodecZstd, 1, append(announced, zs.Bytes()[6:]...)),
		"snappy":            batchOf(CodecSnappy, 1, framed),
		"snappy, announced": batchOf(CodecSnappy, 1, append(binary.AppendUvarint(nil, size), zeros[:1000]...)),
	}
}

func TestDecompressionBombsAreTooLargeAndCostBoundedMemory(t *testing.T) {
	const limit = 8 << 20
	for name, b := range bombs(t) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := CheckBatch(b, Limits{BatchBytes: 1 << 30, DecodedBytes: limit})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "8388608") {
			t.Errorf("%s of %d bytes: error is %v", name, len(b), err)
		}
		// All buffers that a doubling one had on its way count here; the last may be one block (LZ4: 4 MiB) beyond the limit.
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*limit {
			t.Errorf("%s: allocated %d bytes for a limit of %d", name, n, limit)
		}
	}
}

func TestSnappyLengthThatIsALieCostsNoMemory(t *testing.T) {
	b := batchOf(CodecSnappy, 1, append(binary.AppendUvarint(nil, 60<<20), 0, 'x'))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := CheckBatch(b, Limits{})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrInvalid) || n > 1<<20 {
		t.Errorf("error is %v, %d bytes allocated", err, n)
	}
}

func TestCompressedFormsThatKafkaClientsCannotReadAreInvalid(t *testing.T) {
	var rows []byte // of one length: S2 repeats the offset from one to the next
	for i := range 300 {
		rows = fmt.Appendf(rows, "%08x,abcdefghijklmnopqrstuvwxyz\n", uint32(i)*2654435761)
	}
	extended := s2.EncodeBetter(nil, rows)
	if checkSnappy(extended) == nil {
		t.Fatal("the S2 block of this test has no S2 extensions")
	}
	dependent := unspell(t, "04 22 4d 18 40 40 c0 00 00 00 00")
	dependent[6] = byte(xxh32(dependent[4:6]) >> 8)
	good := appendLZ4(nil, []byte("abc"))
	for _, c := range []struct {
		name    string
		codec   Codec
		payload []byte
		text    string
	}{
		{"s2 block", CodecSnappy, extended, "S2 extensions"},
		{"s2 block in a frame", CodecSnappy, slices.Concat([]byte(xerialMagic), unspell(t, "00 00 00 01 00 00 00 01"), be32(uint32(len(extended))), extended), "S2 extensions"},
		{"snappy for version 2", CodecSnappy, []byte(xerialMagic + "\x00\x00\x00\x02\x00\x00\x00\x02"), "for readers of version 2"},
		{"dependent lz4 blocks", CodecLZ4, dependent, "depend on each other"},
		{"two lz4 frames", CodecLZ4, append(bytes.Clone(good), good...), "behind the frame"},
		{"legacy lz4 frame", CodecLZ4, unspell(t, "02 21 4c 18 00 00 00 00"), "not a frame"},
		{"skippable lz4 frame", CodecLZ4, append(unspell(t, "50 2a 4d 18 00 00 00 00"), good...), "not a frame"},
		{"garbage behind gzip", CodecGzip, append(appendGzip(nil, []byte("abc")), 1, 2, 3), "gzip"},
		{"zstd with dictionary", CodecZstd, unspell(t, "28 b5 2f fd 21 07 03 19 00 00 61 62 63"), "zstd"},
		{"empty payload, zstd", CodecZstd, nil, "no frame"},
		{"empty payload, gzip", CodecGzip, nil, "record 0"},
		{"empty payload, lz4", CodecLZ4, nil, "not a frame"},
		{"empty payload, snappy", CodecSnappy, nil, "snappy"},
	} {
		_, err := CheckBatch(batchOf(c.codec, 1, c.payload), Limits{})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error is %v; want ErrInvalid with %q", c.name, err, c.text)
		}
	}
}

// Blocks are walked several at a time, so it matters how many there are, where the wrong one is, and whether the others end
// before it does.
func TestS2BlockIsFoundAtEveryPlaceOfASnappyFrame(t *testing.T) {
	rows := func(n int) []byte {
		var b []byte
		for i := range n {
			b = fmt.Appendf(b, "%08x,abcdefghijklmnopqrstuvwxyz\n", uint32(i)*2654435761)
		}
		return s2.EncodeSnappy(nil, b)
	}
	repeat := []byte{0x01, 0x00} // a copy of offset 0
	first, last := rows(300), append(rows(300), repeat...)
	first = slices.Insert(first, blockStart(first), repeat...)
	for _, plain := range [][]byte{rows(1), rows(400)} {
		for blocks := 1; blocks <= 9; blocks++ {
			for wrong := range blocks {
				for _, extended := range [][]byte{plain, first, last} {
					frame := slices.Concat([]byte(xerialMagic), unspell(t, "00 00 00 01 00 00 00 01"))
					for i := range blocks {
						block := plain
						if i == wrong {
							block = extended
						}
						frame = slices.Concat(frame, be32(uint32(len(block))), block)
					}
					if err := checkSnappy(frame); (err == nil) != (&extended[0] == &plain[0]) {
						t.Errorf("%d blocks, others of %d bytes, block %d is S2: %v", blocks, len(plain), wrong, err)
					}
				}
			}
		}
	}
}

func TestDamagedLZ4FramesSayWhatIsWrong(t *testing.T) {
	frame := knownBatches[4].bytes(t)[batchHeaderBytes:]
	sum := func(f []byte) { f[14] = byte(xxh32(f[4:14]) >> 8) }
	for _, c := range []struct {
		text   string
		change func(f []byte) []byte
	}{
		{"header checksum", func(f []byte) []byte { f[14]++; return f }},
		{"content is 24 bytes, the frame says 25", func(f []byte) []byte { f[6]++; sum(f); return f }},
		{"dictionary, version or block size", func(f []byte) []byte { f[4] |= 1; sum(f); return f }},
		{"dictionary, version or block size", func(f []byte) []byte { f[5] = 0x30; sum(f); return f }},
		{"block checksum", func(f []byte) []byte { f[29]++; return f }},
		{"content checksum", func(f []byte) []byte { f[len(f)-1]++; return f }},
		{"no end mark", func(f []byte) []byte { return f[:len(f)-8] }},
		{"block of 65537 bytes", func([]byte) []byte {
			return append([]byte(lz4Header+"\x01\x00\x01\x80"), make([]byte, 65537+4)...)
		}},
	} {
		_, err := readLZ4(nil, c.change(bytes.Clone(frame)), 1<<20)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("error is %v; want ErrInvalid with %q", err, c.text)
		}
	}
}

func TestRecordWithBytesToSpareIsInvalid(t *testing.T) {
	b := batchOf(CodecNone, 1, unspell(t, "0e 00 00 00 01 01 00 ff"))
	if _, err := CheckBatch(b, Limits{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "1 of its 7 bytes are not used") {
		t.Errorf("error is %v", err)
	}
}

// Other writers use options that ours does not.
func TestEveryLZ4BlockSizeAndChecksumIsRead(t *testing.T) {
	records := jsonRecords(600)
	body := mustEncode(t, records, plain(CodecNone))[batchHeaderBytes:]
	for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block256Kb, lz4.Block1Mb, lz4.Block4Mb} {
		var frame bytes.Buffer
		w := lz4.NewWriter(&frame)
		if err := w.Apply(lz4.BlockSizeOption(size), lz4.BlockChecksumOption(true), lz4.SizeOption(uint64(len(body)))); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := readLZ4(nil, frame.Bytes(), 1<<20)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("block size %v: %v", size, err)
		}
	}
}

// And others must be able to read ours.
func TestLibrariesReadWhatIsWritten(t *testing.T) {
	body := mustEncode(t, jsonRecords(300), plain(CodecNone))[batchHeaderBytes:]
	var got bytes.Buffer
	if _, err := got.ReadFrom(lz4.NewReader(bytes.NewReader(appendLZ4(nil, body)))); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("lz4: %v", err)
	}
	framed := appendSnappy(nil, body)
	if len(framed) > maxSnappyLen(len(body)) {
		t.Errorf("snappy: %d bytes, at most %d were expected", len(framed), maxSnappyLen(len(body)))
	}
	r, err := gzip.NewReader(bytes.NewReader(appendGzip(nil, body)))
	if err != nil {
		t.Fatal(err)
	}
	got.Reset()
	if _, err := got.ReadFrom(r); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("gzip: %v", err)
	}
}
