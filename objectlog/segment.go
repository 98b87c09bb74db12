package objectlog

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// BatchRow is what a segment's footer, and a Commit, say about one batch.
type BatchRow struct {
	Bytes         int32 // stored size; a run's batches lie one behind the other
	Records       int32 // offsets the batch takes: its last offset delta + 1
	MaxTimestamp  Timestamp
	ProducerID    ProducerID // NoProducer: the three producer fields mean nothing
	ProducerEpoch int16
	FirstSequence int32
	CRC           uint32 // the batch's own CRC32C field
	Expected      Offset // append only at this offset (compare-and-append); NoOffset: anywhere
}

// Run is the contiguous batches of one partition inside a segment.
type Run struct {
	Topic     UUID
	Partition Partition
	Start     int64 // position of the run's first batch in the segment, in bytes
	Rows      []BatchRow
}

// Section is the part of a segment's footer that belongs to one shard: what the shard's leader is told, and what an
// entry refers to when rows would not fit into it. Sections decode on their own.
type Section struct {
	Shard Shard
	Ref   SectionRef
	Bytes []byte // encoded runs, sorted by topic and partition; CRC32C is in Ref
}

// SectionRef finds a section inside its segment and checks it.
type SectionRef struct {
	Extent Extent
	CRC32C uint32
}

// SegmentRun is one run to be written: its place is found by EncodeSegment.
type SegmentRun struct {
	Shard     Shard
	Topic     UUID
	Partition Partition
	Batches   [][]byte   // encoded batches, in order
	Rows      []BatchRow // one per batch
}

// A segment. All fixed integers are big-endian.
//
//	header    0  magic            "SDSG"
//	          4  format version   uint32   1
//	batches   8  of all runs, sorted by shard, topic, partition, without gaps
//	footer       directory:
//	               sections       uint32
//	               per section:   shard uint16, bytes uint32, CRC32C uint32
//	             sections, in the directory's order (which is by shard), without gaps
//	trailer   0  footer start     uint64
//	          8  footer bytes     uint32   the footer ends where the trailer begins
//	         12  footer CRC32C    uint32
//	         16  flags            uint32   none is defined; bit 0 is kept for merged segments
//	         20  trailer CRC32C   uint32   of the 20 bytes before
//	         24  format version   uint32   1
//	         28  magic            "SDSG"
const (
	segmentMagic       = "SDSG"
	segmentVersion     = 1
	segmentHeaderBytes = 8

	directoryEntryBytes = 10

	trailerFlagsAt   = 16
	trailerCRCAt     = 20
	trailerVersionAt = 24
	trailerMagicAt   = 28
)

// segmentTrailerBytes is the size of the fixed trailer: the last bytes of every segment.
const segmentTrailerBytes = 32

// EncodeSegment lays the runs out, sorted by shard, topic and partition (it sorts runs in place), with footer and trailer.
// The answer's sections are in shard order. The cost is one copy of the batches. Several runs of one partition become
// one, in the order given. A row that does not belong to its batch is a mistake of the caller's, and panics.
func EncodeSegment(runs []SegmentRun) (body []byte, sections []Section) {
	sortRuns(runs)
	end := int64(segmentHeaderBytes)
	for rest := runs; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Shard == rest[0].Shard {
			n++
		}
		section := Section{Shard: rest[0].Shard}
		section.Bytes, end = appendSection(nil, rest[:n], end)
		sections = append(sections, section)
		rest = rest[n:]
	}
	footer := placeSections(sections, end)

	body = make([]byte, 0, footer.Extent.Next+segmentTrailerBytes)
	body = append(body, segmentMagic...)
	body = binary.BigEndian.AppendUint32(body, segmentVersion)
	for i := range runs {
		for _, batch := range runs[i].Batches {
			body = append(body, batch...)
		}
	}
	body = appendDirectory(body, sections)
	for i := range sections {
		body = append(body, sections[i].Bytes...)
	}
	footer.CRC32C = crc32c(body[footer.Extent.Start:])
	return appendTrailer(body, footer), sections
}

// sortRuns sorts in place and stably. It sorts numbers, then moves each run once: runs are large.
func sortRuns(runs []SegmentRun) {
	order := make([]int32, len(runs))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		if c := cmp.Compare(runs[a].Shard, runs[b].Shard); c != 0 {
			return c
		}
		if c := runs[a].comparePartition(&runs[b]); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	sorted := make([]SegmentRun, len(runs))
	for i, at := range order {
		sorted[i] = runs[at]
	}
	copy(runs, sorted)
}

func (r *SegmentRun) comparePartition(o *SegmentRun) int {
	if c := bytes.Compare(r.Topic[:], o.Topic[:]); c != 0 {
		return c
	}
	return cmp.Compare(r.Partition, o.Partition)
}

// placeSections fills in where the sections will lie in a footer that starts at the given position, and answers the
// footer's place, still without checksum.
func placeSections(sections []Section, start int64) SectionRef {
	at := start + 4 + int64(len(sections))*directoryEntryBytes
	for i := range sections {
		next := at + int64(len(sections[i].Bytes))
		sections[i].Ref = SectionRef{Extent: Extent{Start: at, Next: next}, CRC32C: crc32c(sections[i].Bytes)}
		at = next
	}
	return SectionRef{Extent: Extent{Start: start, Next: at}}
}

func appendDirectory(dst []byte, sections []Section) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(len(sections)))
	for i := range sections {
		dst = be.AppendUint16(dst, uint16(sections[i].Shard))
		dst = be.AppendUint32(dst, uint32(len(sections[i].Bytes)))
		dst = be.AppendUint32(dst, sections[i].Ref.CRC32C)
	}
	return dst
}

func appendTrailer(dst []byte, footer SectionRef) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = be.AppendUint64(dst, uint64(footer.Extent.Start))
	dst = be.AppendUint32(dst, uint32(footer.Extent.Len()))
	dst = be.AppendUint32(dst, footer.CRC32C)
	dst = be.AppendUint32(dst, 0)
	dst = be.AppendUint32(dst, crc32c(dst[start:]))
	dst = be.AppendUint32(dst, segmentVersion)
	return append(dst, segmentMagic...)
}

// parseSegmentTrailer reads the trailer, which is the last segmentTrailerBytes of an object of the given size, and
// answers where the footer (the directory of sections and the sections) lies. Errors: ErrCorrupt, ErrVersion.
func parseSegmentTrailer(trailer []byte, objectBytes int64) (footer SectionRef, err error) {
	if len(trailer) != segmentTrailerBytes || objectBytes < segmentHeaderBytes+segmentTrailerBytes {
		return footer, fmt.Errorf("segment trailer: %d bytes of an object of %d: %w", len(trailer), objectBytes, ErrCorrupt)
	}
	be := binary.BigEndian
	if magic := trailer[trailerMagicAt:]; string(magic) != segmentMagic {
		return footer, fmt.Errorf("segment trailer: ends in %q, not %q: %w", magic, segmentMagic, ErrCorrupt)
	}
	if err := checkSegmentVersion(be.Uint32(trailer[trailerVersionAt:])); err != nil {
		return footer, fmt.Errorf("segment trailer: %w", err)
	}
	if got, want := crc32c(trailer[:trailerCRCAt]), be.Uint32(trailer[trailerCRCAt:]); got != want {
		return footer, fmt.Errorf("segment trailer: CRC32C is %08x, should be %08x: %w", got, want, ErrCorrupt)
	}
	if flags := be.Uint32(trailer[trailerFlagsAt:]); flags != 0 {
		return footer, fmt.Errorf("segment trailer: %w", errFlags(flags))
	}
	start, length := be.Uint64(trailer), be.Uint32(trailer[8:])
	next := objectBytes - segmentTrailerBytes
	if start < segmentHeaderBytes || start > uint64(next) || int64(start)+int64(length) != next {
		return footer, fmt.Errorf("segment trailer: footer of %d bytes at %d in an object of %d: %w", length, start, objectBytes, ErrCorrupt)
	}
	return SectionRef{Extent: Extent{Start: int64(start), Next: next}, CRC32C: be.Uint32(trailer[12:])}, nil
}

func checkSegmentVersion(version uint32) error {
	if version != segmentVersion {
		return fmt.Errorf("segment format %d, this program reads %d: %w", version, segmentVersion, ErrVersion)
	}
	return nil
}

// flagNames names the flags of segments and sections that are given out but that this program does not read.
var flagNames = [...]string{"merged"}

func errFlags(flags uint32) error {
	for bit := range 32 {
		if flags>>bit&1 == 0 {
			continue
		}
		name := "unknown"
		if bit < len(flagNames) {
			name = flagNames[bit]
		}
		return fmt.Errorf("flag bit %d (%s), which this program does not read: %w", bit, name, ErrVersion)
	}
	return nil
}
