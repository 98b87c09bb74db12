package objectlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// The batches here are spelled out by hand from Kafka's documentation of the format (and of gzip, snappy, LZ4 and zstd, of
// each a block that is stored, not compressed), with checksums by a bitwise CRC, so that the codec is not only tested
// against itself.

// knownHeader is the header of a batch of the two knownRecords: its length, CRC and codec are to be filled in.
const knownHeader = `
	00 00 00 00 00 00 00 00   | base offset 0
	00 00 00 LL               | batch length
	00 00 00 00               | leader epoch 0
	02                        | magic
	CC CC CC CC               | CRC32C
	00 KK                     | attributes: the codec
	00 00 00 01               | last offset delta
	00 00 01 8b cf e5 68 00   | base timestamp 1700000000000
	00 00 01 8b cf e5 6b e8   | max timestamp 1700000001000
	00 00 00 00 00 00 0f a0   | producer id 4000
	00 03                     | producer epoch
	00 00 00 11               | first sequence 17
	00 00 00 02               | records
`

const knownBody = `
	1e 00 00 00               | 15 bytes, attributes, timestamp delta 0, offset delta 0
	02 6b 0a 68 65 6c 6c 6f   | key "k", value "hello"
	02 02 68 01               | 1 header: "h" with null
	0e 00 d0 0f 02            | 7 bytes, attributes, timestamp delta 1000, offset delta 1
	01 01 00                  | no key, a tombstone, no headers
`

// knownHalves is knownBody in two parts of 10 and 14 bytes.
var knownHalves = [2]string{"1e 00 00 00 02 6b 0a 68 65 6c", "6c 6f 02 02 68 01 0e 00 d0 0f 02 01 01 00"}

var knownRecords = []Record{
	{Key: []byte("k"), Value: []byte("hello"), Headers: []Header{{Key: "h"}}, Timestamp: 1_700_000_000_000},
	{Timestamp: 1_700_000_001_000},
}

type knownBatch struct {
	name             string
	length, crc, key string
	codec            Codec
	payload          string
}

var knownBatches = []knownBatch{
	{"none", "49", "84 e9 8c 48", "00", CodecNone, knownBody},
	{"gzip", "60", "63 bf c1 80", "01", CodecGzip, `
		1f 8b 08 00 00 00 00 00 00 ff   | header
		01 18 00 e7 ff                  | last block, stored, 24 bytes
		` + knownBody + `
		21 a1 0f af 18 00 00 00         | CRC32, size`},
	{"snappy, bare block", "4b", "90 4a ba 9d", "02", CodecSnappy, `
		18 5c                           | 24 bytes, a literal of 24
		` + knownBody},
	{"snappy, framed", "65", "88 23 bd 57", "02", CodecSnappy, `
		82 53 4e 41 50 50 59 00         | magic
		00 00 00 01 00 00 00 01         | version, compatible version
		00 00 00 0c 0a 24               | 12 bytes: 10, a literal of 10
		` + knownHalves[0] + `
		00 00 00 10 0e 34               | 16 bytes: 14, a literal of 14
		` + knownHalves[1]},
	{"lz4 with all checksums", "70", "40 7c 33 69", "03", CodecLZ4, `
		04 22 4d 18 7c 40               | magic, flags, 64 KiB blocks
		18 00 00 00 00 00 00 00 0c      | content size, header checksum
		0a 00 00 80                     | 10 bytes, stored
		` + knownHalves[0] + `
		27 c9 d4 a5                     | block checksum
		0e 00 00 80                     | 14 bytes, stored
		` + knownHalves[1] + `
		a9 da 63 1f 00 00 00 00         | block checksum, end
		54 b8 af a4                     | content checksum`},
	{"zstd", "52", "4d cf d8 fa", "04", CodecZstd, `
		28 b5 2f fd 20 18               | magic, single segment, 24 bytes
		c1 00 00                        | last block, raw, 24 bytes
		` + knownBody},
}

func (k knownBatch) bytes(t testing.TB) []byte {
	t.Helper()
	header := strings.NewReplacer("LL", k.length, "CC CC CC CC", k.crc, "KK", k.key).Replace(knownHeader)
	return unspell(t, header+k.payload)
}

// unspell reads hex digits. On each line, what follows a bar is a comment.
func unspell(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for line := range strings.Lines(s) {
		digits, _, _ := strings.Cut(line, "|")
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func TestBatchesSpelledByHandAreReadAsKafkaMeansThem(t *testing.T) {
	for _, k := range knownBatches {
		t.Run(k.name, func(t *testing.T) {
			b := k.bytes(t)
			got, err := CheckBatch(b, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			want := BatchHeader{
				Bytes: len(b), CRC: got.CRC, Codec: k.codec, LastOffsetDelta: 1, FirstTimestamp: 1_700_000_000_000,
				MaxTimestamp: 1_700_000_001_000, ProducerID: 4000, ProducerEpoch: 3, FirstSequence: 17, Records: 2,
			}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if records := mustDecode(t, b); !reflect.DeepEqual(records, knownRecords) {
				t.Errorf("got  %v\nwant %v", records, knownRecords)
			}
		})
	}
}

func TestEncodeWritesTheBatchSpelledByHand(t *testing.T) {
	o := BatchOptions{LogAppendTime: NoTimestamp, ProducerID: 4000, ProducerEpoch: 3, FirstSequence: 17}
	if got, want := mustEncode(t, knownRecords, o), knownBatches[0].bytes(t); !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}

func TestAppendTimeIsWrittenWhereKafkaHasIt(t *testing.T) {
	o := plain(CodecNone)
	o.LogAppendTime = 0x1112131415161718
	b := mustEncode(t, knownRecords, o)
	if b[22] != 0x08 || !bytes.Equal(b[35:43], unspell(t, "11 12 13 14 15 16 17 18")) {
		t.Errorf("attributes %02x, max timestamp % x", b[22], b[35:43])
	}
}

func TestPatchWritesWhereKafkaHasTheFields(t *testing.T) {
	b := knownBatches[0].bytes(t)
	PatchBatch(b, 0x0102030405060708, 0x0a0b0c0d)
	if got, want := b[:16], unspell(t, "01 02 03 04 05 06 07 08 00 00 00 49 0a 0b 0c 0d"); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	h, err := ParseBatchHeader(b)
	if err != nil || h.BaseOffset != 0x0102030405060708 || h.LeaderEpoch != 0x0a0b0c0d {
		t.Errorf("%+v, %v", h, err)
	}
}

// stampBatch makes a LogAppendTime batch of the one batch in b, in place, as a Kafka broker does for topics with
// message.timestamp.type=LogAppendTime: the records keep their timestamp deltas, which mean nothing from then on.
func stampBatch(b []byte, at Timestamp) {
	b[batchAttributes+1] |= attrLogAppendTime
	binary.BigEndian.PutUint64(b[batchMaxTimeAt:], uint64(at))
	sealBatch(b)
}
