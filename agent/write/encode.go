package write

import (
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// Encoded is a segment ready to be put, with the memory of which stored batch holds whose records. Name and Nonce
// belong to whoever puts it and are kept for the next attempt.
type Encoded struct {
	Name     objectlog.SegmentName
	Nonce    objectlog.UUID
	Body     []byte // nil once stored, and when no batch could be encoded
	Sections []objectlog.Section

	rows   [][][]owner // per section, per stored batch in the section's order: whose records it holds
	failed []failure
}

// owner says which records of a stored batch belong to a submitted one.
type owner struct {
	batch   *Batch
	first   int   // record of the submitted batch
	records int   // so many
	delta   int32 // of the first one, from the stored batch's base offset
	stored  int32 // bytes of the stored batch, at its first owner; else 0
	stamp   objectlog.Timestamp
}

type failure struct {
	batch *Batch
	err   error
}

func (e *Encoded) index(shard objectlog.Shard) (int, bool) {
	return slices.BinarySearchFunc(e.Sections, shard, func(s objectlog.Section, n objectlog.Shard) int {
		return int(s.Shard) - int(n)
	})
}

func (e *Encoded) section(shard objectlog.Shard) (objectlog.Section, bool) {
	i, ok := e.index(shard)
	if !ok {
		return objectlog.Section{}, false
	}
	return e.Sections[i], true
}

func (e *Encoded) rowsOf(shard objectlog.Shard) [][]owner {
	i, ok := e.index(shard)
	if !ok {
		return nil
	}
	return e.rows[i]
}

// Encode lays the batches out as one segment. Records of neighbouring batches of a partition become one stored batch,
// unless that would exceed its largest size. A batch that cannot be encoded fails alone.
func Encode(batches []*Batch) *Encoded {
	e := &Encoded{}
	runs := e.collect(batches)
	runs = slices.DeleteFunc(runs, func(r *run) bool { return len(r.Batches) == 0 })
	if len(runs) == 0 {
		return e
	}
	// EncodeSegment sorts what it is given; sorting the same way first keeps the owners beside their rows.
	slices.SortFunc(runs, compareRuns)
	segmentRuns := make([]objectlog.SegmentRun, len(runs))
	for i, r := range runs {
		segmentRuns[i] = r.SegmentRun
	}
	e.Body, e.Sections = objectlog.EncodeSegment(segmentRuns)
	e.rows = make([][][]owner, len(e.Sections))
	section := 0
	for _, r := range runs {
		for e.Sections[section].Shard != r.Shard {
			section++
		}
		e.rows[section] = append(e.rows[section], r.owners...)
	}
	return e
}

// run is one partition's part of the segment while it is made.
type run struct {
	objectlog.SegmentRun
	owners  [][]owner // per stored batch
	pending []owner   // records not encoded yet
	bytes   int       // of pending, encoded without compression
}

func compareRuns(a, b *run) int {
	if a.Shard != b.Shard {
		return int(a.Shard) - int(b.Shard)
	}
	if c := slices.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

func (e *Encoded) collect(batches []*Batch) []*run {
	type key struct {
		topic     objectlog.UUID
		partition objectlog.Partition
	}
	index := make(map[key]*run)
	var runs []*run
	for _, b := range batches {
		r := index[key{b.Topic, b.Partition}]
		if r == nil {
			r = &run{SegmentRun: objectlog.SegmentRun{Shard: b.Shard, Topic: b.Topic, Partition: b.Partition}}
			index[key{b.Topic, b.Partition}] = r
			runs = append(runs, r)
		}
		if b.Encoded != nil {
			e.flush(r)
			r.append(b.Encoded, b.Row, []owner{{batch: b, records: int(b.Row.Records), stamp: b.Stamp}})
			continue
		}
		e.add(r, b)
	}
	for _, r := range runs {
		e.flush(r)
	}
	return runs
}

func (r *run) append(batch []byte, row objectlog.BatchRow, owners []owner) {
	r.Batches = append(r.Batches, batch)
	r.Rows = append(r.Rows, row)
	owners[0].stored = row.Bytes
	r.owners = append(r.owners, owners)
}

// add takes a batch's records into the run, and encodes what is pending where it would grow too large.
func (e *Encoded) add(r *run, b *Batch) {
	if n := len(r.pending); n > 0 && !mergeable(r.pending[n-1].batch, b) {
		e.flush(r)
	}
	first := 0
	for i := range b.Records {
		size := RecordBytes(b.Records[i])
		if r.bytes > 0 && BatchOverhead+r.bytes+size > b.BytesMax {
			if i > first {
				r.pending = append(r.pending, owner{batch: b, first: first, records: i - first})
			}
			e.flush(r)
			first = i
		}
		r.bytes += size
	}
	r.pending = append(r.pending, owner{batch: b, first: first, records: len(b.Records) - first})
}

func mergeable(a, b *Batch) bool {
	return a.Codec == b.Codec && a.BytesMax == b.BytesMax &&
		(a.Stamp == objectlog.NoTimestamp) == (b.Stamp == objectlog.NoTimestamp)
}

// flush encodes what is pending of the run.
func (e *Encoded) flush(r *run) {
	if len(r.pending) > 0 {
		e.encode(r, r.pending)
	}
	r.pending, r.bytes = nil, 0
}

// encode appends one stored batch with the owners' records. If that fails the owners are tried one by one, so that
// the one with the bad records fails alone.
func (e *Encoded) encode(r *run, owners []owner) {
	stamp, codec := objectlog.NoTimestamp, owners[0].batch.Codec
	var records []objectlog.Record
	for i := range owners {
		o := &owners[i]
		o.delta = int32(len(records))
		records = append(records, o.batch.Records[o.first:o.first+o.records]...)
		stamp = max(stamp, o.batch.Stamp)
	}
	for i := range owners {
		owners[i].stamp = stamp
	}
	batch, row, err := EncodeRecords(records, codec, owners[0].batch.BytesMax, objectlog.BatchOptions{LogAppendTime: stamp,
		ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1})
	switch {
	case err == nil:
		r.append(batch, row, owners)
	case len(owners) == 1:
		if owners[0].records < len(owners[0].batch.Records) {
			err = undecided{fmt.Errorf("a part of the records: %w", err)} // the other parts may be committed
		}
		e.failed = append(e.failed, failure{owners[0].batch, err})
	default:
		for i := range owners {
			e.encode(r, owners[i:i+1:i+1])
		}
	}
}

// EncodeRecords encodes one batch of at most bytesMax and its row. Where compression makes it too large, it is stored
// uncompressed. Error: ErrTooLarge, or what the encoder says.
func EncodeRecords(records []objectlog.Record, codec objectlog.Codec, bytesMax int, o objectlog.BatchOptions) ([]byte, objectlog.BatchRow, error) {
	o.Codec = codec
	batch, err := objectlog.EncodeBatch(nil, records, o)
	if err == nil && len(batch) > bytesMax && codec != objectlog.CodecNone {
		o.Codec = objectlog.CodecNone
		batch, err = objectlog.EncodeBatch(nil, records, o)
	}
	if err == nil && len(batch) > bytesMax {
		err = objectlog.ErrTooLarge
	}
	if err != nil {
		return nil, objectlog.BatchRow{}, err
	}
	h, err := objectlog.ParseBatchHeader(batch)
	if err != nil {
		return nil, objectlog.BatchRow{}, fmt.Errorf("parse the encoded batch: %w", err)
	}
	return batch, RowOf(h), nil
}

// RowOf is the row of a batch that may be appended anywhere.
func RowOf(h objectlog.BatchHeader) objectlog.BatchRow {
	return objectlog.BatchRow{
		Bytes: int32(h.Bytes), Records: h.LastOffsetDelta + 1, MaxTimestamp: h.MaxTimestamp,
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, FirstSequence: h.FirstSequence,
		CRC: h.CRC, Expected: objectlog.NoOffset,
	}
}

// BatchOverhead is the size of a record batch without its records.
const BatchOverhead = 61

// RecordBytes is an upper bound of the record's size in an uncompressed batch.
func RecordBytes(r objectlog.Record) int {
	const lengths = 30 // the varints of lengths, deltas and attributes at their longest
	n := lengths + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}
