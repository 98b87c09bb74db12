package objectlog

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
)

// WriteText prints the description line by line, damage where it was found.
func (d *SegmentDescription) WriteText(w io.Writer) error {
	out := textWriter{bufio.NewWriter(w)}
	out.segment(d)
	return out.Flush()
}

type textWriter struct{ *bufio.Writer }

func (w textWriter) printf(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func (w textWriter) damage(indent string, d *damage) {
	if d != nil {
		w.printf("%sDAMAGED at byte %d: %s\n", indent, d.At, d.Cause)
	}
}

func (w textWriter) segment(d *SegmentDescription) {
	w.printf("segment: %d bytes\n", d.Bytes)
	w.damage("", d.Header.Damage)
	if d.Header.Damage == nil {
		w.printf("header: format %d\n", d.Header.Format)
	}
	w.damage("", d.Trailer.Damage)
	for i := range d.Sections {
		w.section(&d.Sections[i])
	}
	if d.Footer != nil {
		w.damage("", d.Footer.Damage)
	}
	if d.Strays != nil {
		w.strays(d.Strays)
		return
	}
	w.printf("footer: bytes [%d, %d), CRC32C %s, %d sections\n", d.Footer.Start, d.Footer.Next, d.Footer.CRC32C, d.Footer.Sections)
	w.printf("trailer: bytes [%d, %d), format %d\n", d.Trailer.Start, d.Trailer.Next, d.Trailer.Format)
}

func (w textWriter) strays(d *strayBatches) {
	w.printf("batches found without the footer:\n")
	for i := range d.Batches {
		w.batch(&d.Batches[i])
	}
	if d.End != nil {
		w.printf("    no batch at byte %d: %s\n", d.End.At, d.End.Cause)
	}
}

func (w textWriter) section(d *sectionDescription) {
	w.printf("section of shard %d: bytes [%d, %d), CRC32C %s\n", d.Shard, d.Start, d.Next, d.CRC32C)
	w.damage("  ", d.Damage)
	for i := range d.Runs {
		w.run(&d.Runs[i])
	}
}

func (w textWriter) run(d *runDescription) {
	w.printf("  run of topic %s partition %d: bytes [%d, %d), %d batches\n", d.Topic, d.Partition, d.Start, d.Next, len(d.Batches))
	w.damage("    ", d.Damage)
	for i := range d.Batches {
		w.batch(&d.Batches[i])
	}
}

func (w textWriter) batch(d *batchDescription) {
	if d.batchFields == nil {
		w.damage("    ", d.Damage)
		return
	}
	w.printf("    batch at %d: %d bytes, %d records, %s, CRC32C %s, %s to %s", d.Start, d.Bytes, d.Records, d.Codec, d.CRC32C,
		orNoTime(d.FirstTimestamp), orNoTime(d.MaxTimestamp))
	if d.LogAppendTime {
		w.printf(", append time")
	}
	if p := d.Producer; p != nil {
		w.printf(", producer %d epoch %d sequence %d", p.ID, p.Epoch, p.FirstSequence)
	}
	if d.Expected != nil {
		w.printf(", expected at offset %d", *d.Expected)
	}
	w.printf("\n")
	w.damage("      ", d.RowDamage)
	for i := range d.RecordDetails {
		w.record(&d.RecordDetails[i])
	}
	w.damage("      ", d.Damage)
}

func (w textWriter) record(d *recordDescription) {
	w.printf("      record +%d: %s, key %s, value %s", d.OffsetDelta, orNoTime(d.Timestamp), quote(d.Key, d.KeyBase64), quote(d.Value, d.ValueBase64))
	for i := range d.Headers {
		h := &d.Headers[i]
		w.printf(", header %q: %s", h.Name, quote(h.Value, h.ValueBase64))
	}
	w.printf("\n")
}

func orNoTime(text string) string { return cmp.Or(text, "no time") }

// quotedBytesMax keeps a record on a line that a terminal can show.
const quotedBytesMax = 200

// quote prints what Readable answered.
func quote(text *string, bytes []byte) string {
	if text == nil && bytes == nil {
		return "null"
	}
	s := string(bytes)
	if text != nil {
		s = *text
	}
	if len(s) > quotedBytesMax {
		return fmt.Sprintf("%q... (%d bytes)", s[:quotedBytesMax], len(s))
	}
	return fmt.Sprintf("%q", s)
}
