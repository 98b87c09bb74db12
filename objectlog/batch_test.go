package objectlog

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

var allCodecs = []Codec{CodecNone, CodecGzip, CodecSnappy, CodecLZ4, CodecZstd}

func plain(codec Codec) BatchOptions {
	return BatchOptions{Codec: codec, LogAppendTime: NoTimestamp, ProducerID: NoProducer}
}

func mustEncode(t testing.TB, records []Record, o BatchOptions) []byte {
	t.Helper()
	b, err := EncodeBatch(nil, records, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t testing.TB, b []byte) []Record {
	t.Helper()
	got, err := decodeAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func decodeAll(b []byte) (records []Record, err error) {
	err = DecodeBatch(b, Limits{}, func(_ Offset, r Record) bool {
		records = append(records, r)
		return true
	})
	return records, err
}

func drawBytes(t *rapid.T, label string) []byte {
	switch rapid.IntRange(0, 3).Draw(t, label+" kind") {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return bytes.Repeat([]byte("splash"), rapid.IntRange(1, 30_000).Draw(t, label+" repeats"))
	default:
		return rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, label)
	}
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		Key:       drawBytes(t, "key"),
		Value:     drawBytes(t, "value"),
		Timestamp: Timestamp(rapid.Int64Min(-1).Draw(t, "timestamp")),
	}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		r.Headers = append(r.Headers, Header{Key: rapid.String().Draw(t, "header"), Value: drawBytes(t, "header value")})
	}
	return r
}

func drawOptions(t *rapid.T) BatchOptions {
	o := plain(rapid.SampledFrom(allCodecs).Draw(t, "codec"))
	if rapid.Bool().Draw(t, "producer") {
		o.ProducerID = ProducerID(rapid.Int64Min(0).Draw(t, "id"))
		o.ProducerEpoch = rapid.Int16Min(0).Draw(t, "epoch")
		o.FirstSequence = rapid.Int32Min(0).Draw(t, "sequence")
	}
	return o
}

func TestBatchComesBackAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		for range rapid.IntRange(1, 8).Draw(t, "records") {
			records = append(records, drawRecord(t))
		}
		o := drawOptions(t)
		before := rapid.SliceOf(rapid.Byte()).Draw(t, "before")
		b, err := EncodeBatch(bytes.Clone(before), records, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, before) {
			t.Fatal("what was in dst is gone")
		}
		b = b[len(before):]
		h, err := CheckBatch(b, Limits{BatchBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		PatchBatch(b, 77, 5)
		var got []Record
		err = DecodeBatch(append(b, "what lies behind"...), Limits{}, func(at Offset, r Record) bool {
			if want := Offset(77 + len(got)); at != want {
				t.Fatalf("offset is %d, want %d", at, want)
			}
			got = append(got, r)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, records) {
			t.Fatalf("got %v\nwant %v", got, records)
		}
		latest := NoTimestamp
		for _, r := range records {
			latest = max(latest, r.Timestamp)
		}
		if !o.agrees(h) || h.Records != int32(len(records)) || h.MaxTimestamp != latest {
			t.Fatalf("header %+v of %d records with %+v", h, len(records), o)
		}
	})
}

func (o BatchOptions) agrees(h BatchHeader) bool {
	if o.ProducerID == NoProducer {
		o.ProducerEpoch, o.FirstSequence = -1, -1
	}
	return h.Codec == o.Codec && h.ProducerID == o.ProducerID && h.ProducerEpoch == o.ProducerEpoch && h.FirstSequence == o.FirstSequence
}

func TestDecodeStopsWhenYieldAnswersFalse(t *testing.T) {
	b := mustEncode(t, []Record{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")}}, plain(CodecSnappy))
	n := 0
	if err := DecodeBatch(b, Limits{}, func(Offset, Record) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Fatalf("%d records, error %v; want 2, nil", n, err)
	}
}

func TestLogAppendTimeIsTheTimeOfAllRecords(t *testing.T) {
	records := []Record{{Value: []byte("a"), Timestamp: 5}, {Value: []byte("b"), Timestamp: NoTimestamp}}
	o := plain(CodecLZ4)
	o.LogAppendTime = 1234
	encoded := mustEncode(t, records, o)
	stamped := mustEncode(t, records, plain(CodecLZ4))
	stampBatch(stamped, 1234)
	for name, b := range map[string][]byte{"encoded": encoded, "stamped": stamped} {
		h, err := ParseBatchHeader(b)
		if err != nil || !h.LogAppendTime || h.MaxTimestamp != 1234 {
			t.Fatalf("%s: %+v, %v", name, h, err)
		}
		for i, r := range mustDecode(t, b) {
			if r.Timestamp != 1234 {
				t.Errorf("%s: record %d has timestamp %d", name, i, r.Timestamp)
			}
		}
	}
}

func TestEncodeRefusesWhatTheFormatHasNoRoomFor(t *testing.T) {
	one := []Record{{Value: []byte("a")}}
	for name, c := range map[string]struct {
		records []Record
		change  func(*BatchOptions)
	}{
		"no records":         {nil, func(*BatchOptions) {}},
		"codec":              {one, func(o *BatchOptions) { o.Codec = 5 }},
		"append time":        {one, func(o *BatchOptions) { o.LogAppendTime = -2 }},
		"producer":           {one, func(o *BatchOptions) { o.ProducerID = -2 }},
		"producer epoch":     {one, func(o *BatchOptions) { o.ProducerID, o.ProducerEpoch = 1, -1 }},
		"sequence":           {one, func(o *BatchOptions) { o.ProducerID, o.FirstSequence = 1, -1 }},
		"negative timestamp": {[]Record{{Timestamp: -2}}, func(*BatchOptions) {}},
	} {
		o := plain(CodecNone)
		c.change(&o)
		dst, err := EncodeBatch([]byte("before"), c.records, o)
		if !errors.Is(err, ErrInvalid) || string(dst) != "before" {
			t.Errorf("%s: got %q, %v; want the old dst, ErrInvalid", name, dst, err)
		}
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	for _, codec := range allCodecs {
		b := mustEncode(t, jsonRecords(100), plain(codec))
		if _, err := CheckBatch(b, Limits{}); err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(50, func() {
			if _, err := CheckBatch(b, Limits{}); err != nil {
				t.Fatal(err)
			}
		})
		// Now and then the collector empties a pool, and the race detector does so often.
		if n > 20 {
			t.Errorf("codec %d: %v allocations for 100 records", codec, n)
		}
	}
}

// Records outlive the call; the buffers of the decoders must not come back to them.
func TestDecodedRecordsStayAsTheyAreWhileOthersDecode(t *testing.T) {
	for _, codec := range allCodecs {
		var wait sync.WaitGroup
		for worker := range 4 {
			records := []Record{
				{Key: []byte{byte(worker)}, Value: bytes.Repeat([]byte{byte(worker), 1}, 2000), Timestamp: 1},
				{Headers: []Header{{Key: "h", Value: []byte{byte(worker)}}}},
			}
			b, other := mustEncode(t, records, plain(codec)), mustEncode(t, []Record{{Value: bytes.Repeat([]byte{0xff}, 5000)}}, plain(codec))
			wait.Go(func() {
				kept, err := decodeAll(b)
				for range 20 {
					_, errCheck := CheckBatch(other, Limits{})
					_, errDecode := decodeAll(other)
					_, errEncode := EncodeBatch(nil, []Record{{Value: make([]byte, 6000)}}, plain(codec))
					err = errors.Join(err, errCheck, errDecode, errEncode)
				}
				if err != nil || !reflect.DeepEqual(kept, records) {
					t.Errorf("codec %d: decoded records changed, error %v", codec, err)
				}
			})
		}
		wait.Wait()
	}
}

// jsonRecords makes records of about 1 KiB that compress about as service logs do.
func jsonRecords(n int) []Record {
	records := make([]Record, n)
	words := []string{"stadium", "referee", "corner", "offside", "penalty", "keeper", "striker", "whistle"}
	x := uint64(1)
	next := func() uint64 {
		x = x*6364136223846793005 + 1442695040888963407
		return x >> 33
	}
	for i := range records {
		v := fmt.Appendf(nil, `{"id":%d,"match":"bra-arg","trace":"%016x%016x"`, i, next()*next(), next()*next())
		for len(v) < 1000 {
			v = fmt.Appendf(v, `,"%s_%d":"%08x","score":%d`, words[next()%8], next()%50, next(), next()%1000)
		}
		records[i] = Record{Key: fmt.Appendf(nil, "key-%d", next()%1000), Value: append(v, '}'), Timestamp: Timestamp(1_700_000_000_000 + i)}
	}
	return records
}
