package objectlog

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestDumpPrintsEverythingOfASegment(t *testing.T) {
	var out strings.Builder
	if err := Dump(&out, goldenSegment(t), true); err != nil {
		t.Fatal(err)
	}
	golden(t, "segment.dump", []byte(out.String()))
}

func TestDumpSaysWhatIsWrongWhere(t *testing.T) {
	good := goldenSegment(t)
	footer, err := ParseSegmentTrailer(good[len(good)-SegmentTrailerBytes:], int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	footerAt := int(footer.Extent.Start)
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   error
		text   []string
	}{
		{"header", func(b []byte) []byte { b[0] = 'x'; return b }, ErrCorrupt, []string{`DAMAGED at byte 0: segment header: begins with "xDSG"`, "section of shard 3"}},
		{"header version", func(b []byte) []byte { b[7] = 2; return b }, ErrVersion, []string{"segment format 2, this program reads 1"}},
		{"first batch", func(b []byte) []byte { b[8+70] ^= 1; return b }, ErrCorrupt, []string{"DAMAGED at byte 8: record batch: CRC32C", "section of shard 3"}},
		{"footer", func(b []byte) []byte { b[footerAt+2] ^= 1; return b }, ErrCorrupt, []string{"segment footer: CRC32C", "batches found without the footer", "batch at 8:"}},
		{"trailer", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, ErrCorrupt, []string{"segment trailer: ends in", "batch at 8:", "no batch at byte"}},
		{"cut off", func(b []byte) []byte { return b[:200] }, ErrCorrupt, []string{"segment trailer", "batches found without the footer"}},
		{"empty", func(b []byte) []byte { return nil }, ErrCorrupt, []string{"segment: 0 bytes", "segment header", "segment trailer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := Dump(&out, c.change(bytes.Clone(good)), false)
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			for _, text := range c.text {
				if !strings.Contains(out.String(), text) {
					t.Errorf("no %q in\n%s", text, out.String())
				}
			}
		})
	}
}

func TestDumpSeesARowThatIsNotOfItsBatch(t *testing.T) {
	r := segmentRun(t, 0, 1, 0, mustEncode(t, []Record{{}}, plain(CodecNone)))
	r.Rows[0].Records = 2
	body, _ := EncodeSegment([]SegmentRun{r})
	var out strings.Builder
	if err := Dump(&out, body, false); !errors.Is(err, ErrCorrupt) || !strings.Contains(out.String(), "records in the footer is 2, in the batch 1") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestDumpSeesBytesThatBelongToNoRun(t *testing.T) {
	for _, c := range []struct {
		before, behind int
		text           string
	}{
		{0, 0, "trailer"},
		{5, 0, "DAMAGED at byte 13: run starts here, the one before ended at 8"},
		{0, 5, "5 bytes before the footer belong to no run"},
	} {
		batch := mustEncode(t, []Record{{}}, plain(CodecNone))
		section := Section{}
		var end int64
		section.Bytes, end = appendSection(nil, []SegmentRun{segmentRun(t, 0, 1, 0, batch)}, int64(segmentHeaderBytes+c.before))
		sections := []Section{section}
		footer := placeSections(sections, end+int64(c.behind))
		body := slices.Concat([]byte(segmentMagic+"\x00\x00\x00\x01"), make([]byte, c.before), batch, make([]byte, c.behind))
		body = append(appendDirectory(body, sections), sections[0].Bytes...)
		footer.CRC32C = crc32c(body[footer.Extent.Start:])
		var out strings.Builder
		err := Dump(&out, appendTrailer(body, footer), false)
		if whole := c.before+c.behind == 0; (err == nil) != whole || !strings.Contains(out.String(), c.text) {
			t.Errorf("%+v: error %v\n%s", c, err, out.String())
		}
	}
}

func TestDumpFindsEveryFlippedBitOfASegment(t *testing.T) {
	body := smallSegment(t)
	runs, err := readSegment(body)
	if err != nil {
		t.Fatal(err)
	}
	// Base offset and leader epoch lie outside all checksums: whatever they hold is patched when served.
	open := map[int]bool{}
	for _, list := range runs {
		for _, run := range list {
			at := int(run.Start)
			for _, row := range run.Rows {
				for i := range 8 {
					open[at+i] = true
				}
				for i := range 4 {
					open[at+batchEpochAt+i] = true
				}
				at += int(row.Bytes)
			}
		}
	}
	for bit := range 8 * len(body) {
		body[bit/8] ^= 1 << (bit % 8)
		if err := Dump(io.Discard, body, true); (err == nil) != open[bit/8] {
			t.Errorf("bit %d of byte %d: error is %v", bit%8, bit/8, err)
		}
		body[bit/8] ^= 1 << (bit % 8)
	}
}
