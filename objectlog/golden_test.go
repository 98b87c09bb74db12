package objectlog

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// golden compares with a golden file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldenRecords() []Record {
	return append([]Record{
		{Key: []byte("bra-arg"), Value: []byte(`{"goal":"Messi","minute":23}`), Timestamp: 1_700_000_000_000, Headers: []Header{{Key: "source", Value: []byte("feed")}, {Key: "empty"}}},
		{Key: []byte("bra-arg"), Timestamp: 1_700_000_000_500},
		{Value: []byte{}, Timestamp: 1_699_999_999_000},
	}, jsonRecords(3)...)
}

// A library that compresses better one day must still be read as before, so for compressed batches the golden file is
// read, not compared.
func TestGoldenBatchesDecodeToTheirRecords(t *testing.T) {
	for _, codec := range allCodecs {
		name := "batch." + codec.name()
		encoded := mustEncode(t, goldenRecords(), plain(codec))
		if *update || codec == CodecNone {
			golden(t, name, encoded)
		}
		b := readGolden(t, name)
		if _, err := CheckBatch(b, Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := mustDecode(t, b); !reflect.DeepEqual(got, goldenRecords()) {
			t.Errorf("%s: got  %v\nwant %v", name, got, goldenRecords())
		}
	}
}

// goldenSegment has two shards, every codec, producer rows and a row with an expected offset.
func goldenSegment(t testing.TB) []byte {
	var batches [][]byte
	for _, codec := range allCodecs {
		batches = append(batches, readGolden(t, "batch."+codec.name()))
	}
	o := plain(CodecNone)
	o.ProducerID, o.ProducerEpoch, o.FirstSequence = 4000, 3, 17
	produced := mustEncode(t, knownRecords, o)
	stamped := bytes.Clone(batches[0])
	stampBatch(stamped, 1_700_000_100_000)
	expecting := segmentRun(t, 3, 2, 64, stamped, produced)
	expecting.Rows[1].Expected = 123_456
	body, _ := EncodeSegment([]SegmentRun{
		expecting,
		segmentRun(t, 1, 1, 0, batches[0], produced),
		segmentRun(t, 1, 1, 7, batches[1], batches[2], batches[3]),
		segmentRun(t, 1, 9, 2, batches[4]),
	})
	return body
}

func TestGoldenSegmentIsWrittenAndReadAsEver(t *testing.T) {
	body := goldenSegment(t)
	golden(t, "two-shards.seg", body)
	got, err := readSegment(readGolden(t, "two-shards.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[1]) != 3 || len(got[3]) != 1 {
		t.Fatalf("runs are %v", got)
	}
	if row := got[3][0].Rows[1]; row.Expected != 123_456 || row.ProducerID != 4000 || row.ProducerEpoch != 3 || row.FirstSequence != 17 {
		t.Errorf("row is %+v", row)
	}
	if row := got[3][0].Rows[0]; row.Expected != NoOffset || row.ProducerID != NoProducer || row.MaxTimestamp != 1_700_000_100_000 {
		t.Errorf("row is %+v", row)
	}
}

// The encoder does not look into batches, so these need not be any.
func TestSegmentSpelledByHandIsWhatEncodeWrites(t *testing.T) {
	batch := bytes.Repeat([]byte{0xbb}, 61)
	body, _ := EncodeSegment([]SegmentRun{
		{Shard: 2, Topic: UUID{0: 0xaa}, Partition: 5, Batches: [][]byte{batch}, Rows: []BatchRow{{
			Bytes: 61, Records: 3, MaxTimestamp: 100, ProducerID: 300, ProducerEpoch: 1, FirstSequence: 9, CRC: 0xcafef00d, Expected: NoOffset}}},
		{Shard: 2, Topic: UUID{0: 0xaa}, Partition: 7, Batches: [][]byte{batch}, Rows: []BatchRow{{
			Bytes: 61, Records: 1, MaxTimestamp: 98, ProducerID: NoProducer, CRC: 0xdeadbeef, Expected: 128}}},
	})
	section := unspell(t, `
		01 00                                            | format, flags
		01                                               | 1 topic
		aa 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  | its id
		02                                               | 2 partitions
		05 08 01                                         | partition 5, gap 8, 1 row
		01 3d 03 c8 01 ca fe f0 0d ac 02 01 09           | producer; 61 bytes, 3 records, time +100, CRC, id 300, epoch 1, sequence 9
		01 00 01                                         | partition 5+1+1, gap 0, 1 row
		02 3d 01 03 de ad be ef 80 01                    | expected; 61 bytes, 1 record, time -2, CRC, offset 128
	`)
	want := unspell(t, "53 44 53 47 00 00 00 01")
	want = append(append(want, batch...), batch...)
	footer := unspell(t, "00 00 00 01 | sections \n 00 02 00 00 00 31 | shard, bytes")
	footer = append(append(footer, be32(crc32c(section))...), section...)
	trailer := unspell(t, "00 00 00 00 00 00 00 82 | 8 + 2*61 \n 00 00 00 3f | 14 + 49")
	trailer = append(append(trailer, be32(crc32c(footer))...), 0, 0, 0, 0)
	trailer = append(trailer, be32(crc32c(trailer))...)
	trailer = append(trailer, unspell(t, "00 00 00 01 53 44 53 47")...)
	want = append(append(want, footer...), trailer...)
	if !bytes.Equal(body, want) {
		t.Errorf("got  % x\nwant % x", body, want)
	}
}
