package write

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func records(p objectlog.Partition, texts ...string) *Batch {
	b := batchOf(0, 0)
	b.Partition = p
	b.Records = nil
	for _, v := range texts {
		b.Records = append(b.Records, objectlog.Record{Value: []byte(v), Timestamp: 5})
	}
	return b
}

// encodedAs makes the batch one that came encoded.
func encodedAs(t *testing.T, b *Batch) *Batch {
	t.Helper()
	encoded, row, err := EncodeRecords(b.Records, objectlog.CodecNone, 1<<20, objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		t.Fatal(err)
	}
	b.Records, b.Encoded, b.Row = nil, encoded, row
	return b
}

// stored is what one stored batch of a segment holds.
type stored struct {
	partition objectlog.Partition
	values    []string
	header    objectlog.BatchHeader
}

// open reads an encoded segment back through its sections.
func open(t *testing.T, e *Encoded) []stored {
	t.Helper()
	var out []stored
	for i, s := range e.Sections {
		runs, err := objectlog.DecodeSection(s.Bytes, s.Ref)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for _, r := range runs {
			at := r.Start
			for _, row := range r.Rows {
				b := e.Body[at : at+int64(row.Bytes)]
				h, err := objectlog.ParseBatchHeader(b)
				if err != nil {
					t.Fatal(err)
				}
				one := stored{partition: r.Partition, header: h}
				err = objectlog.DecodeBatch(b, objectlog.Limits{}, func(_ objectlog.Offset, r objectlog.Record) bool {
					one.values = append(one.values, string(r.Value))
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, one)
				checkOwners(t, e.rows[i][rows], one.values)
				at += int64(row.Bytes)
				rows++
			}
		}
		if rows != len(e.rows[i]) {
			t.Errorf("section %d: %d rows, owners of %d", i, rows, len(e.rows[i]))
		}
	}
	return out
}

// checkOwners compares a stored batch's values with those that its owners submitted.
func checkOwners(t *testing.T, owners []owner, values []string) {
	t.Helper()
	n := 0
	for _, o := range owners {
		if int(o.delta) != n {
			t.Errorf("owner at delta %d, want %d", o.delta, n)
		}
		for i := range o.records {
			if o.batch.Records != nil && string(o.batch.Records[o.first+i].Value) != values[n] {
				t.Errorf("record %d is %q, its owner submitted %q", n, values[n], o.batch.Records[o.first+i].Value)
			}
			n++
		}
	}
	if n != len(values) {
		t.Errorf("owners of %d records, %d are stored", n, len(values))
	}
}

func TestNeighbouringRecordsOfAPartitionBecomeOneBatch(t *testing.T) {
	got := open(t, Encode([]*Batch{records(1, "c"), records(0, "a", "b"), records(1, "d")}))
	if len(got) != 2 || len(got[0].values) != 2 || len(got[1].values) != 2 || got[1].partition != 1 || got[1].values[1] != "d" {
		t.Errorf("stored %+v, want one batch for each of two partitions", got)
	}
}

func TestEncodedBatchesKeepTheirBytesAndTheirPlace(t *testing.T) {
	middle := encodedAs(t, records(0, "b", "c"))
	e := Encode([]*Batch{records(0, "a"), middle, records(0, "d")})
	got := open(t, e)
	if len(got) != 3 || got[0].values[0] != "a" || got[1].values[0] != "b" || got[2].values[0] != "d" {
		t.Fatalf("stored %+v, want a, then b and c, then d", got)
	}
	if !bytes.Contains(e.Body, middle.Encoded) {
		t.Error("the encoded batch is not in the segment byte for byte")
	}
}

func TestBatchesAreSplitAtTheirLargestSize(t *testing.T) {
	noise := rand.NewChaCha8([32]byte{})
	var texts []string
	for range 30 {
		v := make([]byte, 300)
		_, _ = noise.Read(v)
		texts = append(texts, string(v))
	}
	b := records(0, texts...)
	b.BytesMax, b.Codec = 1000, objectlog.CodecSnappy
	got := open(t, Encode([]*Batch{b}))
	if len(got) < 10 {
		t.Errorf("%d batches for 9,000 bytes, want at least 10", len(got))
	}
	var values []string
	for _, s := range got {
		values = append(values, s.values...)
		if s.header.Bytes > 1000 {
			t.Errorf("batch of %d bytes, want at most 1000", s.header.Bytes)
		}
	}
	for i := range texts {
		if values[i] != texts[i] {
			t.Fatalf("record %d changed its place", i)
		}
	}
}

func TestLogAppendTimeIsTheLatestOfTheMergedRequests(t *testing.T) {
	first, second := records(0, "a"), records(0, "b")
	first.Stamp, second.Stamp = 100, 200
	e := Encode([]*Batch{first, second})
	if h := open(t, e)[0].header; !h.LogAppendTime || h.MaxTimestamp != 200 {
		t.Errorf("header %+v, want LogAppendTime 200", h)
	}
	if o := e.rows[0][0][0]; o.stamp != 200 {
		t.Errorf("the first request is answered with append time %d, stored is 200", o.stamp)
	}
}

func TestRecordsThatCannotBeEncodedFailAlone(t *testing.T) {
	good, bad := records(0, "a"), records(0, "b")
	bad.Records[0].Timestamp = -7
	e := Encode([]*Batch{good, bad})
	if got := open(t, e); len(got) != 1 || got[0].values[0] != "a" {
		t.Errorf("stored %+v, want a alone", got)
	}
	if len(e.failed) != 1 || e.failed[0].batch != bad || errors.Is(e.failed[0].err, ErrUnknown) {
		t.Errorf("failed %+v, want the bad batch", e.failed)
	}
}

func TestFailedPartOfASplitBatchIsUnknownNotRefused(t *testing.T) {
	b := records(0, "a", "b")
	b.Records[1].Timestamp = -7
	b.BytesMax = BatchOverhead + RecordBytes(b.Records[0])
	e := Encode([]*Batch{b})
	if len(e.failed) != 1 || !errors.Is(e.failed[0].err, ErrUnknown) {
		t.Errorf("failed %+v, want unknown: the other part is in the segment", e.failed)
	}
}

func TestSegmentWithoutAnyGoodBatchIsNotStored(t *testing.T) {
	bad := records(0, "b")
	bad.Records[0].Timestamp = -7
	r := newRig(t, nil)
	r.submit(bad)
	u := r.upload()
	e := Encode(u.Batches)
	if e.Body != nil {
		t.Fatalf("body of %d bytes", len(e.Body))
	}
	r.step(Uploaded{Counter: u.Counter, Encoded: e})
	if len(r.answers) != 1 || r.answers[0].Err == nil || len(r.proposals) != 0 || !r.core.Empty() {
		t.Errorf("answers %+v, proposals %+v", r.answers, r.proposals)
	}
}

func TestRecordBytesBoundsWhatIsEncoded(t *testing.T) {
	r := objectlog.Record{Key: make([]byte, 70), Value: make([]byte, 70000), Timestamp: 1 << 40,
		Headers: []objectlog.Header{{Key: "k", Value: make([]byte, 200)}, {Key: "long name of a header"}}}
	b, _, err := EncodeRecords([]objectlog.Record{{Timestamp: 0}, r}, objectlog.CodecNone, 1<<20, objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		t.Fatal(err)
	}
	if bound := BatchOverhead + RecordBytes(objectlog.Record{}) + RecordBytes(r); len(b) > bound {
		t.Errorf("%d bytes encoded, bound %d", len(b), bound)
	}
}

func BenchmarkEncode(b *testing.B) {
	noise := rand.NewChaCha8([32]byte{})
	var batches []*Batch
	total := int64(0)
	for p := range 64 {
		one := batchOf(0, 0)
		one.Partition, one.Codec = objectlog.Partition(p), objectlog.CodecSnappy
		one.Records = nil
		for range 64 {
			v := make([]byte, 1024)
			_, _ = noise.Read(v[:512])
			one.Records = append(one.Records, objectlog.Record{Value: v, Timestamp: 1})
			total += 1024
		}
		batches = append(batches, one)
	}
	b.SetBytes(total)
	for b.Loop() {
		Encode(batches)
	}
}
