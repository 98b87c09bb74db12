package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// A Commit has two bodies of the same meaning. Both begin with the boot's ordinal, its UUID, counter and random number.
//
// kindCommit goes on with the section's start, length and CRC32C; its rows are the footer.
//
// kindCommitRows goes on with the number of rows and the rows, in the section's order:
//
//	flags      1 byte
//	topic      rowTopic: difference to the number of the last topic; when the sum is 0, a topic id follows
//	partition  rowPartition; else 0 behind rowTopic, and the last partition + 1 without it
//	start      rowStart: difference to where the last row's batch ends
//	bytes, records
//	time       difference of the max timestamp to the last row's
//	crc        4 bytes
//	producer   rowProducer without rowSameProducer: difference to the last id, then the epoch
//	sequence   rowProducer
//	expected   rowExpected
//
// The first three are there only in a row that begins a run. Everything "last" is 0 before the first row. A topic that
// has no number in this shard is written by its id, so that what becomes of it does not depend on the form: it may be added
// by an earlier command of the same entry.

const (
	rowRun          = 1 << iota // begins a run
	rowTopic                    // of another topic than the last
	rowPartition                // not the expected one
	rowStart                    // not behind the last
	rowProducer                 // has producer state
	rowSameProducer             // id and epoch are those of the last row with producer state
	rowExpected                 // compare-and-append

	rowBytesMin = 8 // flags, bytes, records, time, crc
)

// commit is a Commit of either form.
type commit struct {
	ordinal int64
	segment objectlog.SegmentName
	runs    []run
}

// run is an objectlog.Run whose topic is known by its dense number or, when that is 0, by its id.
type run struct {
	number    uint32
	topic     objectlog.UUID
	partition objectlog.Partition
	start     int64
	rows      []objectlog.BatchRow
}

// Command encodes c, by reference. The section's bytes belong into Footer.
func (c Commit) Command() Command {
	b := appendCommitHead(nil, c.Ordinal, c.Segment)
	b = wire.AppendInt(wire.AppendInt(b, c.Section.Extent.Start), c.Section.Extent.Len())
	return Command{Kind: kindCommit, Body: wire.AppendUint32(b, c.Section.CRC32C)}
}

func appendCommitHead(dst []byte, ordinal int64, n objectlog.SegmentName) []byte {
	dst = append(wire.AppendInt(dst, ordinal), n.Boot[:]...)
	return wire.AppendUint32(binary.AppendUvarint(dst, n.Counter), n.Random)
}

func (r *reader) commitHead() (ordinal int64, n objectlog.SegmentName) {
	ordinal = int64(r.Bounded("ordinal", maxInt63))
	n = objectlog.SegmentName{Boot: r.UUID("boot"), Counter: r.Uvarint("counter"), Random: r.Uint32("random")}
	if r.Err == nil && (n.Boot.IsZero() || n.Counter == 0) {
		r.Fail("segment %s/%d: no boot or no counter", n.Boot, n.Counter)
	}
	return ordinal, n
}

func (c *Commit) decode(r *reader) {
	c.Ordinal, c.Segment = r.commitHead()
	start := int64(r.Bounded("section start", positionMax))
	c.Section.Extent = objectlog.Extent{Start: start, Next: start + int64(r.Bounded("section length", positionMax))}
	c.Section.CRC32C = r.Uint32("section crc")
}

// decodeCommit reads a commit of either form, its rows checked. They lie in runs and rows, which grow as needed.
func decodeCommit(c Command, runs []run, rows []objectlog.BatchRow) (commit, []objectlog.BatchRow, error) {
	if c.Kind == kindCommit {
		k, err := decodeReferred(c, runs)
		return k, rows, err
	}
	r := newReader(c.Body)
	var k commit
	k.ordinal, k.segment = r.commitHead()
	k.runs, rows = r.runs(runs, rows)
	return k, rows, errors.Join(r.End(), checkRuns(k.runs))
}

func decodeReferred(c Command, runs []run) (commit, error) {
	r := newReader(c.Body)
	var ref Commit
	ref.decode(&r)
	if err := r.End(); err != nil {
		return commit{}, err
	}
	if len(c.Footer) == 0 {
		return commit{}, errors.New("without the section it refers to")
	}
	section, err := objectlog.DecodeSection(c.Footer, ref.Section)
	if err != nil {
		return commit{}, err
	}
	for _, s := range section {
		runs = append(runs, run{topic: s.Topic, partition: s.Partition, start: s.Start, rows: s.Rows})
	}
	return commit{ordinal: ref.Ordinal, segment: ref.Segment, runs: runs}, checkRuns(runs)
}

// checkRuns keeps poison out: what it lets through, every state can judge.
func checkRuns(runs []run) error {
	for i := range runs {
		r := &runs[i]
		if r.number == 0 && r.topic.IsZero() {
			return fmt.Errorf("run %d: %w", i, errNoTopic)
		}
		if r.partition < 0 || r.start < 0 || r.start > positionMax {
			return fmt.Errorf("run %d: partition %d at position %d", i, r.partition, r.start)
		}
		end := r.start
		for j := range r.rows {
			if err := checkRow(&r.rows[j]); err != nil {
				return fmt.Errorf("run %d, batch %d: %w", i, j, err)
			}
			if end += int64(r.rows[j].Bytes); end > positionMax {
				return fmt.Errorf("run %d, batch %d: ends at %d, beyond every segment", i, j, end)
			}
		}
	}
	return nil
}

func checkRow(w *objectlog.BatchRow) error {
	switch {
	case w.Bytes < 1 || w.Records < 1:
		return fmt.Errorf("%d records in %d bytes", w.Records, w.Bytes)
	case w.MaxTimestamp < objectlog.NoTimestamp:
		return fmt.Errorf("max timestamp %d", w.MaxTimestamp)
	case w.Expected < objectlog.NoOffset:
		return fmt.Errorf("expected offset %d", w.Expected)
	case w.ProducerID < objectlog.NoProducer:
		return fmt.Errorf("producer id %d", w.ProducerID)
	case w.ProducerID != objectlog.NoProducer && (w.ProducerEpoch < 0 || w.FirstSequence < 0):
		return fmt.Errorf("producer %d: epoch %d, sequence %d", w.ProducerID, w.ProducerEpoch, w.FirstSequence)
	}
	return nil
}

// rowCursor is all that the encoding of a row refers back to.
type rowCursor struct {
	number    uint32
	partition objectlog.Partition
	end       int64
	time      objectlog.Timestamp
	producer  objectlog.ProducerID
	epoch     int16
}

// appendRuns writes rows; number answers a topic's dense number, 0 when it has none.
func appendRuns(dst []byte, runs []run, number func(objectlog.UUID) uint32) []byte {
	n := 0
	for i := range runs {
		n += len(runs[i].rows)
	}
	dst = wire.AppendInt(dst, n)
	var at rowCursor
	for i := range runs {
		for j := range runs[i].rows {
			if j == 0 {
				dst = at.appendRun(dst, &runs[i], number(runs[i].topic))
			} else {
				dst = at.appendRow(dst, 0, nil, &runs[i].rows[j])
			}
		}
	}
	return dst
}

// appendRun writes the first row of a run.
func (at *rowCursor) appendRun(dst []byte, r *run, number uint32) []byte {
	flags, place := byte(rowRun), make([]byte, 0, 40)
	due := at.partition + 1
	if number == 0 || number != at.number {
		flags |= rowTopic
		place = binary.AppendVarint(place, int64(number)-int64(at.number))
		if number == 0 {
			place = append(place, r.topic[:]...)
		}
		due = 0
	}
	if r.partition != due {
		flags |= rowPartition
		place = wire.AppendInt(place, r.partition)
	}
	if r.start != at.end {
		flags |= rowStart
		place = binary.AppendVarint(place, r.start-at.end)
	}
	at.number, at.partition, at.end = number, r.partition, r.start
	return at.appendRow(dst, flags, place, &r.rows[0])
}

func (at *rowCursor) appendRow(dst []byte, flags byte, place []byte, w *objectlog.BatchRow) []byte {
	if w.ProducerID != objectlog.NoProducer {
		flags |= rowProducer
		if w.ProducerID == at.producer && w.ProducerEpoch == at.epoch {
			flags |= rowSameProducer
		}
	}
	if w.Expected != objectlog.NoOffset {
		flags |= rowExpected
	}
	dst = append(append(dst, flags), place...)
	dst = wire.AppendInt(wire.AppendInt(dst, w.Bytes), w.Records)
	dst = binary.AppendVarint(dst, int64(w.MaxTimestamp-at.time))
	dst = wire.AppendUint32(dst, w.CRC)
	at.end, at.time = at.end+int64(w.Bytes), w.MaxTimestamp
	if flags&rowProducer != 0 {
		if flags&rowSameProducer == 0 {
			dst = wire.AppendInt(binary.AppendVarint(dst, int64(w.ProducerID-at.producer)), w.ProducerEpoch)
			at.producer, at.epoch = w.ProducerID, w.ProducerEpoch
		}
		dst = wire.AppendInt(dst, w.FirstSequence)
	}
	if flags&rowExpected != 0 {
		dst = wire.AppendInt(dst, w.Expected)
	}
	return dst
}

// runs reads what appendRuns wrote.
func (r *reader) runs(runs []run, rows []objectlog.BatchRow) ([]run, []objectlog.BatchRow) {
	n := r.Count("rows", rowBytesMin)
	rows = slices.Grow(rows[:0], n) // never moved below: runs point into it
	first := 0
	var at rowCursor
	for range n {
		flags := r.Byte("flags")
		if flags&rowRun != 0 {
			if len(runs) > 0 {
				runs[len(runs)-1].rows = rows[first:]
			}
			first = len(rows)
			runs = append(runs, at.readRun(r, flags))
		} else if len(runs) == 0 || flags&(rowTopic|rowPartition|rowStart) != 0 {
			r.Fail("row flags %#x", flags)
		}
		rows = append(rows, at.readRow(r, flags))
		if r.Err != nil {
			return nil, rows
		}
	}
	if len(runs) > 0 {
		runs[len(runs)-1].rows = rows[first:]
	}
	return runs, rows
}

func (at *rowCursor) readRun(r *reader, flags byte) (n run) {
	n.number, n.partition, n.start = at.number, at.partition+1, at.end
	if flags&rowTopic != 0 {
		number := int64(at.number) + r.Varint("topic")
		if number < 0 || number > positionMax {
			r.Fail("topic number %d", number)
		}
		n.number, n.partition = uint32(number), 0
		if number == 0 {
			n.topic = r.UUID("topic")
		}
	}
	if flags&rowPartition != 0 {
		n.partition = objectlog.Partition(r.Bounded("partition", maxInt31))
	}
	if flags&rowStart != 0 {
		n.start += r.Varint("start")
	}
	at.number, at.partition, at.end = n.number, n.partition, n.start
	return n
}

func (at *rowCursor) readRow(r *reader, flags byte) (w objectlog.BatchRow) {
	w.Bytes, w.Records = int32(r.Bounded("bytes", maxInt31)), int32(r.Bounded("records", maxInt31))
	w.MaxTimestamp = at.time + objectlog.Timestamp(r.Varint("time"))
	w.CRC = r.Uint32("crc")
	at.end, at.time = at.end+int64(w.Bytes), w.MaxTimestamp
	w.ProducerID, w.Expected = objectlog.NoProducer, objectlog.NoOffset
	switch flags & (rowProducer | rowSameProducer) {
	case rowProducer:
		at.producer += objectlog.ProducerID(r.Varint("producer"))
		at.epoch = int16(r.Bounded("producer epoch", maxInt15))
		fallthrough
	case rowProducer | rowSameProducer:
		w.ProducerID, w.ProducerEpoch = at.producer, at.epoch
		w.FirstSequence = int32(r.Bounded("sequence", maxInt31))
	case rowSameProducer:
		r.Fail("row flags %#x", flags)
	}
	if flags&rowExpected != 0 {
		w.Expected = objectlog.Offset(r.Bounded("expected offset", maxInt63))
	}
	if flags >= rowExpected<<1 {
		r.Fail("row flags %#x", flags)
	}
	return w
}
