package objectlog

import (
	"encoding/binary"
	"fmt"
	"math"
)

// A section. Varints are unsigned unless noted.
//
//	format version   uint8    1
//	flags            uint8    none is defined; bit 0 is kept for sections of merged segments
//	topics           varint
//	per topic, ascending:
//	  topic id       16 bytes
//	  partitions     varint   at least 1
//	  per partition, ascending:
//	    partition    varint   first of the topic: itself; then: how much more than the one before, less 1
//	    gap          varint   run start less the end of the run before; first of the section: less 0
//	    rows         varint   at least 1
//	    per row:
//	      flags      uint8    bit 0 producer, bit 1 expected; the others 0
//	      bytes      varint   at least 61
//	      records    varint   at least 1
//	      max time   zigzag   less that of the row before in the section; first: less 0
//	      crc        uint32
//	      producer id, producer epoch, first sequence   varint each, if bit 0
//	      expected   varint   if bit 1
const (
	sectionVersion = 1

	rowProducer = 0x01
	rowExpected = 0x02

	// What an element takes at least, so that a false count is refused before memory is set aside for it.
	topicBytesMin = 16 + 1 + runBytesMin
	runBytesMin   = 3 + rowBytesMin
	rowBytesMin   = 8
)

// appendSection encodes the runs of one shard, which are sorted and lie in the segment from start on, and answers where
// they end.
func appendSection(dst []byte, runs []SegmentRun, start int64) ([]byte, int64) {
	dst = append(dst, sectionVersion, 0)
	dst = binary.AppendUvarint(dst, uint64(countTopics(runs)))
	gap := uint64(start)
	latest := Timestamp(0)
	for i := 0; i < len(runs); {
		first := i == 0 || runs[i].Topic != runs[i-1].Topic
		if first {
			dst = append(dst, runs[i].Topic[:]...)
			dst = binary.AppendUvarint(dst, uint64(countPartitions(runs[i:])))
			dst = binary.AppendUvarint(dst, uint64(runs[i].Partition))
		} else {
			dst = binary.AppendUvarint(dst, uint64(runs[i].Partition-runs[i-1].Partition-1))
		}
		dst = binary.AppendUvarint(dst, gap)
		gap = 0
		same, rows := 1, len(runs[i].Rows)
		for i+same < len(runs) && runs[i].comparePartition(&runs[i+same]) == 0 {
			rows += len(runs[i+same].Rows)
			same++
		}
		dst = binary.AppendUvarint(dst, uint64(rows))
		for j := range same {
			var n int64
			dst, n = runs[i+j].appendRows(dst, &latest)
			start += n
		}
		i += same
	}
	return dst, start
}

// appendRows encodes the rows of one run and answers the bytes of its batches.
func (r *SegmentRun) appendRows(dst []byte, latest *Timestamp) (out []byte, total int64) {
	if len(r.Rows) == 0 || len(r.Rows) != len(r.Batches) {
		panic(fmt.Sprintf("objectlog: encode segment: partition %s/%d: %d rows for %d batches", r.Topic, r.Partition, len(r.Rows), len(r.Batches)))
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if int(row.Bytes) != len(r.Batches[i]) {
			panic(fmt.Sprintf("objectlog: encode segment: partition %s/%d: row of %d bytes for a batch of %d", r.Topic, r.Partition, row.Bytes, len(r.Batches[i])))
		}
		dst = row.append(dst, *latest)
		*latest = row.MaxTimestamp
		total += int64(row.Bytes)
	}
	return dst, total
}

func (r *BatchRow) append(dst []byte, latest Timestamp) []byte {
	var flags byte
	if r.ProducerID != NoProducer {
		flags |= rowProducer
	}
	if r.Expected != NoOffset {
		flags |= rowExpected
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(r.Bytes))
	dst = binary.AppendUvarint(dst, uint64(r.Records))
	dst = binary.AppendVarint(dst, int64(r.MaxTimestamp-latest))
	dst = binary.BigEndian.AppendUint32(dst, r.CRC)
	if flags&rowProducer != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.ProducerID))
		dst = binary.AppendUvarint(dst, uint64(r.ProducerEpoch))
		dst = binary.AppendUvarint(dst, uint64(r.FirstSequence))
	}
	if flags&rowExpected != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Expected))
	}
	return dst
}

// countTopics counts the topics of sorted runs.
func countTopics(runs []SegmentRun) int {
	n := 0
	for i := range runs {
		if i == 0 || runs[i].Topic != runs[i-1].Topic {
			n++
		}
	}
	return n
}

// countPartitions counts the partitions of the topic that the first of the sorted runs belongs to.
func countPartitions(runs []SegmentRun) int {
	n := 1
	for i := 1; i < len(runs) && runs[i].Topic == runs[0].Topic; i++ {
		if runs[i].Partition != runs[i-1].Partition {
			n++
		}
	}
	return n
}

// decodeFooter reads a footer: all sections, each with its bytes, which point into b. Errors: ErrCorrupt.
func decodeFooter(b []byte, ref SectionRef) ([]Section, error) {
	if err := ref.check(b); err != nil {
		return nil, fmt.Errorf("segment footer: %w", err)
	}
	c := cursor{b: b}
	count := int64(c.uint32())
	directory := cursor{b: c.take(count * directoryEntryBytes)}
	if c.bad {
		return nil, fmt.Errorf("segment footer: %d sections in %d bytes: %w", count, len(b), ErrCorrupt)
	}
	sections := make([]Section, 0, count)
	at := ref.Extent.Next - int64(len(c.b))
	for i := range int(count) {
		shard := Shard(binary.BigEndian.Uint16(directory.take(2)))
		bytes := c.take(int64(directory.uint32()))
		next := at + int64(len(bytes))
		if c.bad || i > 0 && shard <= sections[i-1].Shard {
			return nil, fmt.Errorf("segment footer: section of shard %d is out of order or goes beyond the end: %w", shard, ErrCorrupt)
		}
		place := SectionRef{Extent: Extent{Start: at, Next: next}, CRC32C: directory.uint32()}
		sections = append(sections, Section{Shard: shard, Ref: place, Bytes: bytes})
		at = next
	}
	if len(c.b) > 0 {
		return nil, fmt.Errorf("segment footer: %d bytes behind the last section: %w", len(c.b), ErrCorrupt)
	}
	return sections, nil
}

// check compares bytes that were read with what refers to them.
func (r SectionRef) check(b []byte) error {
	if int64(len(b)) != r.Extent.Len() {
		return fmt.Errorf("%d bytes, should be %d: %w", len(b), r.Extent.Len(), ErrCorrupt)
	}
	if got := crc32c(b); got != r.CRC32C {
		return fmt.Errorf("CRC32C is %08x, should be %08x: %w", got, r.CRC32C, ErrCorrupt)
	}
	return nil
}

// DecodeSection reads the runs of a section's bytes after checking ref.CRC32C. Errors: ErrCorrupt, ErrVersion.
func DecodeSection(b []byte, ref SectionRef) ([]Run, error) {
	// The version comes first: another format may place even what is checked here differently.
	if len(b) > 0 && b[0] != sectionVersion {
		return nil, fmt.Errorf("segment section: format %d, this program reads %d: %w", b[0], sectionVersion, ErrVersion)
	}
	if err := ref.check(b); err != nil {
		return nil, fmt.Errorf("segment section: %w", err)
	}
	d := sectionDecoder{cursor: cursor{b: b}}
	d.byte()
	if flags := d.byte(); flags != 0 {
		return nil, fmt.Errorf("segment section: %w", errFlags(uint32(flags)))
	}
	runs := d.topics()
	if d.bad || len(d.b) > 0 || d.end > ref.Extent.Start {
		return nil, fmt.Errorf("segment section: damaged behind run %d: %w", len(runs), ErrCorrupt)
	}
	return runs, nil
}

// sectionDecoder carries what the deltas of a section refer to.
type sectionDecoder struct {
	cursor
	end    int64 // of the run before
	latest Timestamp
}

// count reads a count of elements that take at least min bytes each. Where at least one must be, none is a failure.
func (d *sectionDecoder) count(min int, atLeast uint64) int {
	n := d.uvarintMax(uint64(len(d.b) / min))
	if n < atLeast {
		d.fail()
	}
	return int(n)
}

func (d *sectionDecoder) topics() []Run {
	topics := d.count(topicBytesMin, 1)
	var runs []Run
	var before UUID
	for i := range topics {
		var topic UUID
		copy(topic[:], d.take(int64(len(topic))))
		if i > 0 && string(topic[:]) <= string(before[:]) {
			d.fail()
		}
		before = topic
		partition := Partition(-1)
		for range d.count(runBytesMin, 1) {
			run := Run{Topic: topic}
			next := int64(partition) + 1 + int64(d.uvarintMax(math.MaxInt32))
			if next > math.MaxInt32 {
				d.fail()
				return runs
			}
			partition = Partition(next)
			run.Partition = partition
			d.run(&run)
			if d.bad {
				return runs
			}
			runs = append(runs, run)
		}
	}
	return runs
}

// run reads start and rows.
func (d *sectionDecoder) run(run *Run) {
	run.Start = d.end + int64(d.uvarintMax(math.MaxInt64/2))
	if run.Start < segmentHeaderBytes || run.Start > math.MaxInt64/2 {
		d.fail()
	}
	d.end = run.Start
	rows := d.count(rowBytesMin, 1)
	run.Rows = make([]BatchRow, rows)
	for i := range run.Rows {
		d.row(&run.Rows[i])
		if d.bad {
			return
		}
		d.end += int64(run.Rows[i].Bytes)
	}
}

func (d *sectionDecoder) row(r *BatchRow) {
	flags := d.byte()
	if flags&^(rowProducer|rowExpected) != 0 {
		d.fail()
	}
	r.Bytes = int32(d.uvarintMax(math.MaxInt32))
	r.Records = int32(d.uvarintMax(math.MaxInt32))
	r.MaxTimestamp = d.latest + Timestamp(d.varint())
	r.CRC = d.uint32()
	r.ProducerID, r.ProducerEpoch, r.FirstSequence, r.Expected = NoProducer, -1, -1, NoOffset
	if flags&rowProducer != 0 {
		r.ProducerID = ProducerID(d.uvarintMax(math.MaxInt64))
		r.ProducerEpoch = int16(d.uvarintMax(math.MaxInt16))
		r.FirstSequence = int32(d.uvarintMax(math.MaxInt32))
	}
	if flags&rowExpected != 0 {
		r.Expected = Offset(d.uvarintMax(math.MaxInt64))
	}
	if r.Bytes < batchHeaderBytes || r.Records < 1 || r.MaxTimestamp < NoTimestamp {
		d.fail()
	}
	d.latest = r.MaxTimestamp
}
