package objectlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestDumpPrintsEverythingOfASegment(t *testing.T) {
	d := DescribeSegment(goldenSegment(t), true)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	golden(t, "segment.dump", []byte(textOf(t, &d)))
}

func TestDumpAsJSONNamesEverythingOfASegment(t *testing.T) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(DescribeSegment(goldenSegment(t), false)); err != nil {
		t.Fatal(err)
	}
	golden(t, "segment.json", out.Bytes())
}

func textOf(t testing.TB, d *SegmentDescription) string {
	t.Helper()
	var out strings.Builder
	if err := d.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// causes lists every damage of a description, as its JSON has it.
func causes(t testing.TB, d *SegmentDescription) []string {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := json.Unmarshal(b, &whole); err != nil {
		t.Fatal(err)
	}
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if cause, ok := v["cause"]; ok {
				found = append(found, fmt.Sprintf("at byte %v: %v", v["at"], cause))
			}
			for _, field := range v {
				walk(field)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	walk(whole)
	return found
}

func TestDumpSaysWhatIsWrongWhere(t *testing.T) {
	good := goldenSegment(t)
	footer, err := parseSegmentTrailer(good[len(good)-segmentTrailerBytes:], int64(len(good)))
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
			d := DescribeSegment(c.change(bytes.Clone(good)), false)
			if !errors.Is(d.Err(), c.want) || d.Error != d.Err().Error() {
				t.Errorf("error is %v, and %q as JSON; want %v", d.Err(), d.Error, c.want)
			}
			out := textOf(t, &d)
			for _, text := range c.text {
				if !strings.Contains(out, text) {
					t.Errorf("no %q in\n%s", text, out)
				}
			}
			found := causes(t, &d)
			if len(found) == 0 {
				t.Error("no damage in the JSON")
			}
			for _, cause := range found {
				if !strings.Contains(out, cause) {
					t.Errorf("JSON says %q, the text does not:\n%s", cause, out)
				}
			}
			if said := strings.Count(out, "DAMAGED") + strings.Count(out, "no batch at byte"); said != len(found) {
				t.Errorf("JSON says %q, the text %d times that something is wrong:\n%s", found, said, out)
			}
		})
	}
}

func TestDumpSeesARowThatIsNotOfItsBatch(t *testing.T) {
	r := segmentRun(t, 0, 1, 0, mustEncode(t, []Record{{}}, plain(CodecNone)))
	r.Rows[0].Records = 2
	body, _ := EncodeSegment([]SegmentRun{r})
	d := DescribeSegment(body, false)
	if out := textOf(t, &d); !errors.Is(d.Err(), ErrCorrupt) || !strings.Contains(out, "records in the footer is 2, in the batch 1") {
		t.Errorf("%v\n%s", d.Err(), out)
	}
}

func TestDumpShowsTheRecordsBeforeADamagedOne(t *testing.T) {
	b := mustEncode(t, []Record{{Value: []byte("whole")}, {Value: []byte("cut")}}, plain(CodecNone))
	b[len(b)-1] = 9 // headers that are not there
	sealBatch(b)
	body, _ := EncodeSegment([]SegmentRun{segmentRun(t, 0, 1, 0, b)})
	d := DescribeSegment(body, true)
	out := textOf(t, &d)
	_, behind, ok := strings.Cut(out, `value "whole"`+"\n")
	if !errors.Is(d.Err(), ErrInvalid) || !ok || !strings.HasPrefix(behind, "      DAMAGED at byte 8: record batch: record 1:") {
		t.Errorf("%v\n%s", d.Err(), out)
	}
	if found := causes(t, &d); len(found) != 1 || !strings.Contains(out, found[0]) {
		t.Errorf("JSON says %q, the text\n%s", found, out)
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
		d := DescribeSegment(appendTrailer(body, footer), false)
		out := textOf(t, &d)
		if whole := c.before+c.behind == 0; (d.Err() == nil) != whole || !strings.Contains(out, c.text) {
			t.Errorf("%+v: error %v\n%s", c, d.Err(), out)
		}
	}
}

// A time beyond the year 9999 and a key that is no text are what a client may send.
func TestDumpShowsRecordsOfEveryKind(t *testing.T) {
	far := Timestamp(1 << 60)
	records := []Record{
		{Key: []byte("\xff\x00"), Value: []byte("<é>"), Timestamp: far, Headers: []Header{{Key: "h", Value: []byte{0xfe}}, {Key: "null"}}},
		{Value: []byte{}, Timestamp: far},
		{Key: []byte(strings.Repeat("k", quotedBytesMax+1)), Timestamp: far},
	}
	body, _ := EncodeSegment([]SegmentRun{segmentRun(t, 0, 1, 0, mustEncode(t, records, plain(CodecNone)))})
	d := DescribeSegment(body, true)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d.Sections[0].Runs[0].Batches[0].RecordDetails)
	if err != nil {
		t.Fatal(err)
	}
	at := far.text()
	want := `[{"offset_delta":0,"timestamp":"` + at + `","key_base64":"/wA=","value":"\u003cé\u003e","headers":[{"name":"h","value_base64":"/g=="},{"name":"null"}]},` +
		`{"offset_delta":1,"timestamp":"` + at + `","value":""},` +
		`{"offset_delta":2,"timestamp":"` + at + `","key":"` + strings.Repeat("k", quotedBytesMax+1) + `"}]`
	if string(b) != want {
		t.Errorf("JSON is\n%s\nwant\n%s", b, want)
	}
	out := textOf(t, &d)
	for _, text := range []string{
		`+0: ` + at + `, key "\xff\x00", value "<é>", header "h": "\xfe", header "null": null`,
		`+1: ` + at + `, key null, value ""`,
		`kkk"... (201 bytes), value null`,
	} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
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
		if d := DescribeSegment(body, true); (d.Err() == nil) != open[bit/8] {
			t.Errorf("bit %d of byte %d: error is %v", bit%8, bit/8, d.Err())
		}
		body[bit/8] ^= 1 << (bit % 8)
	}
}
