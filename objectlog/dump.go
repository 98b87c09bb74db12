package objectlog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Dump prints a whole segment for people: header, sections, runs, batches and, if asked for, records with offsets
// relative to their batch. Everything is verified on the way, down to the records. What is damaged is printed where it is
// found, and the rest goes on as far as it can be read; without a footer, batches are looked for one behind the other.
// The error is the first damage found (ErrCorrupt, ErrInvalid, ErrVersion, ErrTooLarge), or w's.
func Dump(w io.Writer, body []byte, records bool) error {
	d := dumper{w: bufio.NewWriter(w), body: body, records: records}
	d.segment()
	return errors.Join(d.first, d.w.Flush())
}

type dumper struct {
	w       *bufio.Writer
	body    []byte
	records bool
	at      int64 // where the batches read so far end
	first   error
}

func (d *dumper) printf(format string, args ...any) {
	fmt.Fprintf(d.w, format, args...)
}

// damage prints what is wrong with the bytes at a position.
func (d *dumper) damage(indent string, at int64, err error) {
	d.printf("%sDAMAGED at byte %d: %v\n", indent, at, err)
	if d.first == nil {
		d.first = fmt.Errorf("segment, byte %d: %w", at, err)
	}
}

func (d *dumper) segment() {
	size := int64(len(d.body))
	d.printf("segment: %d bytes\n", size)
	if err := checkSegmentHeader(d.body); err != nil {
		d.damage("", 0, err)
	} else {
		d.printf("header: format %d\n", segmentVersion)
	}
	d.at = segmentHeaderBytes
	trailerAt := max(size-SegmentTrailerBytes, 0)
	footer, err := ParseSegmentTrailer(d.body[trailerAt:], size)
	if err != nil {
		d.damage("", trailerAt, err)
		d.strays(size)
		return
	}
	sections, err := DecodeFooter(d.body[footer.Extent.Start:footer.Extent.Next], footer)
	if err != nil {
		d.damage("", footer.Extent.Start, err)
		d.strays(footer.Extent.Start)
		return
	}
	for _, s := range sections {
		d.section(s)
	}
	if d.at != footer.Extent.Start {
		d.damage("", d.at, fmt.Errorf("%d bytes before the footer belong to no run: %w", footer.Extent.Start-d.at, ErrCorrupt))
	}
	d.printf("footer: bytes [%d, %d), CRC32C %08x, %d sections\n", footer.Extent.Start, footer.Extent.Next, footer.CRC32C, len(sections))
	d.printf("trailer: bytes [%d, %d), format %d\n", trailerAt, size, segmentVersion)
}

func checkSegmentHeader(body []byte) error {
	if len(body) < segmentHeaderBytes || string(body[:4]) != segmentMagic {
		return fmt.Errorf("segment header: begins with %q, not %q: %w", body[:min(len(body), 4)], segmentMagic, ErrCorrupt)
	}
	if err := checkSegmentVersion(binary.BigEndian.Uint32(body[4:])); err != nil {
		return fmt.Errorf("segment header: %w", err)
	}
	return nil
}

func (d *dumper) section(s Section) {
	d.printf("section of shard %d: bytes [%d, %d), CRC32C %08x\n", s.Shard, s.Ref.Extent.Start, s.Ref.Extent.Next, s.Ref.CRC32C)
	runs, err := DecodeSection(s.Bytes, s.Ref)
	if err != nil {
		d.damage("  ", s.Ref.Extent.Start, err)
		return
	}
	for _, run := range runs {
		d.run(run)
	}
}

func (d *dumper) run(run Run) {
	next := run.Start
	for _, row := range run.Rows {
		next += int64(row.Bytes)
	}
	d.printf("  run of topic %s partition %d: bytes [%d, %d), %d batches\n", run.Topic, run.Partition, run.Start, next, len(run.Rows))
	if run.Start != d.at {
		d.damage("    ", run.Start, fmt.Errorf("run starts here, the one before ended at %d: %w", d.at, ErrCorrupt))
	}
	for at, i := run.Start, 0; i < len(run.Rows); i++ {
		row := run.Rows[i]
		d.batch(at, d.body[at:at+int64(row.Bytes)], &row)
		at += int64(row.Bytes)
	}
	d.at = next
}

// strays prints the batches that lie one behind the other from d.at on, of a segment without a footer.
func (d *dumper) strays(end int64) {
	d.printf("batches found without the footer:\n")
	for d.at < end {
		h, err := ParseBatchHeader(d.body[d.at:end])
		if err != nil {
			d.printf("    no batch at byte %d: %v\n", d.at, err)
			return
		}
		d.batch(d.at, d.body[d.at:d.at+int64(h.Bytes)], nil)
		d.at += int64(h.Bytes)
	}
}

// batch prints and verifies the batch at a position, against its row if there is one.
func (d *dumper) batch(at int64, b []byte, row *BatchRow) {
	h, err := ParseBatchHeader(b)
	if err != nil {
		d.damage("    ", at, err)
		return
	}
	d.printf("    batch at %d: %d bytes, %d records, %s, CRC32C %08x, %s to %s", at, h.Bytes, h.Records, h.Codec.name(), h.CRC,
		h.FirstTimestamp.text(), h.MaxTimestamp.text())
	if h.LogAppendTime {
		d.printf(", append time")
	}
	if h.ProducerID != NoProducer {
		d.printf(", producer %d epoch %d sequence %d", h.ProducerID, h.ProducerEpoch, h.FirstSequence)
	}
	if row != nil && row.Expected != NoOffset {
		d.printf(", expected at offset %d", row.Expected)
	}
	d.printf("\n")
	if row != nil {
		if err := row.checkHeader(h); err != nil {
			d.damage("      ", at, err)
		}
	}
	if err := DecodeBatch(b, Limits{}, func(offset Offset, r Record) bool {
		if d.records {
			d.record(offset-h.BaseOffset, r)
		}
		return true
	}); err != nil {
		d.damage("      ", at, err)
	}
}

// checkHeader compares what the footer says about a batch with its header.
func (r BatchRow) checkHeader(h BatchHeader) error {
	for _, field := range []struct {
		name      string
		row, want int64
	}{
		{"bytes", int64(r.Bytes), int64(h.Bytes)},
		{"records", int64(r.Records), int64(h.LastOffsetDelta) + 1},
		{"max timestamp", int64(r.MaxTimestamp), int64(h.MaxTimestamp)},
		{"producer id", int64(r.ProducerID), int64(h.ProducerID)},
		{"producer epoch", int64(r.ProducerEpoch), int64(h.ProducerEpoch)},
		{"first sequence", int64(r.FirstSequence), int64(h.FirstSequence)},
		{"CRC32C", int64(r.CRC), int64(h.CRC)},
	} {
		if field.row != field.want {
			return fmt.Errorf("%s in the footer is %d, in the batch %d: %w", field.name, field.row, field.want, ErrCorrupt)
		}
	}
	return nil
}

func (d *dumper) record(delta Offset, r Record) {
	d.printf("      record +%d: %s, key %s, value %s", delta, r.Timestamp.text(), quote(r.Key), quote(r.Value))
	for _, h := range r.Headers {
		d.printf(", header %q: %s", h.Key, quote(h.Value))
	}
	d.printf("\n")
}

// quotedBytesMax keeps a record on a line that a terminal can show.
const quotedBytesMax = 200

func quote(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > quotedBytesMax:
		return fmt.Sprintf("%q... (%d bytes)", b[:quotedBytesMax], len(b))
	default:
		return fmt.Sprintf("%q", b)
	}
}

func (codec Codec) name() string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(codec) < len(names) {
		return names[codec]
	}
	return fmt.Sprintf("codec %d", codec)
}

func (t Timestamp) text() string {
	if t == NoTimestamp {
		return "no time"
	}
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02T15:04:05.000Z")
}
