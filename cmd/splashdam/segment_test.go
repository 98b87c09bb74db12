package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
)

const segmentKey = "cluster/seg/0a/boot/1.seg"

// storeSegment puts objectlog's golden segment into the bucket of a new data folder.
func storeSegment(t *testing.T) (data, name string) {
	t.Helper()
	body, err := os.ReadFile("../../objectlog/testdata/two-shards.seg")
	if err != nil {
		t.Fatal(err)
	}
	data = t.TempDir()
	bucket, err := file.Open(filepath.Join(data, bucketFolder))
	if err != nil {
		t.Fatal(err)
	}
	if err := bucket.Put(context.Background(), segmentKey, body, objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	return data, filepath.Join(data, bucketFolder, filepath.FromSlash(segmentKey))
}

// change rewrites a file.
func change(t *testing.T, name string, f func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSegmentDumpPrintsAKeyAFileOfTheBucketAndACopyAlike(t *testing.T) {
	want, err := os.ReadFile("../../objectlog/testdata/segment.dump")
	if err != nil {
		t.Fatal(err)
	}
	data, name := storeSegment(t)
	for what, arg := range map[string]string{"key": segmentKey, "file": name, "copy": "../../objectlog/testdata/two-shards.seg"} {
		code, stdout, stderr, _ := runFor(t, nil, "segment", "dump", arg, "--records", "--data", data)
		if code != exitDone || stdout != string(want) || stderr != "" {
			t.Errorf("%s: exit %d, error %q, output\n%s", what, code, stderr, stdout)
		}
	}
}

func TestSegmentDumpPrintsJSON(t *testing.T) {
	golden, err := os.ReadFile("../../objectlog/testdata/segment.json")
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, golden); err != nil {
		t.Fatal(err)
	}
	data, _ := storeSegment(t)
	code, stdout, stderr, _ := runFor(t, nil, "segment", "dump", segmentKey, "--data", data, "-o", "json")
	if code != exitDone || strings.TrimSpace(stdout) != strings.TrimSpace(want.String()) || stderr != "" {
		t.Errorf("exit %d, error %q, output\n%s", code, stderr, stdout)
	}
	_, stdout, _, _ = runFor(t, nil, "segment", "dump", segmentKey, "--records", "--data", data, "-o", "json")
	if strings.Count(stdout, "\n") != 1 || !strings.Contains(stdout, `"key":"bra-arg"`) {
		t.Errorf("with records: output\n%s", stdout)
	}
}

func TestSegmentDumpOfNothingIsOneErrorLine(t *testing.T) {
	data, name := storeSegment(t)
	for what, arg := range map[string]string{
		"missing key": "cluster/seg/none.seg", "missing file": filepath.Join(data, "none.seg"), "folder": filepath.Dir(name),
	} {
		for _, format := range []string{"text", "json"} {
			code, stdout, stderr, _ := runFor(t, nil, "segment", "dump", arg, "--data", data, "-o", format)
			if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "splashdam: dump segment "+arg+": ") {
				t.Errorf("%s as %s: exit %d, output %q, error %q", what, format, code, stdout, stderr)
			}
		}
	}
}

func TestSegmentDumpSaysWhatIsWrongWhereInTextAndJSON(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		error  string   // of the JSON and the error line
		path   []string // to the damage in the JSON; none: the segment itself is whole
		text   string
	}{
		{"no segment", func([]byte) []byte { return []byte("# Splashdam\n") },
			`segment, byte 0: segment header: begins with "# Sp", not "SDSG": corrupt`, []string{"header", "damage"}, "DAMAGED at byte 0: segment header"},
		{"empty file", func([]byte) []byte { return nil },
			`segment, byte 0: segment header: begins with "", not "SDSG": corrupt`, []string{"header", "damage"}, "segment: 0 bytes"},
		{"bit of a batch", func(b []byte) []byte { b[60] ^= 0x20; return b },
			"segment, byte 8: record batch: CRC32C is", []string{"sections", "runs", "batches", "damage"}, "    DAMAGED at byte 8: record batch: CRC32C is"},
		{"bit of the footer", func(b []byte) []byte { b[13301] ^= 1; return b },
			"segment, byte 13301: segment footer: CRC32C is", []string{"footer", "damage"}, "batches found without the footer"},
		{"cut off", func(b []byte) []byte { return b[:4000] },
			"segment, byte 3968: segment trailer: ends in", []string{"trailer", "damage"}, "    no batch at byte 3364: record batch: its length says"},
		{"bit of a batch that no checksum of the segment covers", func(b []byte) []byte { b[8] ^= 1; return b },
			"its bytes are not those of its CRC32C: damaged file: corrupt", nil, "trailer: bytes [13490, 13522), format 1"},
		{"bit of the file's own trailer", func(b []byte) []byte { b[len(b)-40] ^= 1; return b },
			"its trailer is not that of a file of 13562 bytes: damaged file: corrupt", nil, "trailer: bytes [13490, 13522), format 1"},
		{"file's own trailer cut off", func(b []byte) []byte { return b[:len(b)-40] },
			"no trailer of a bucket's file", nil, "trailer: bytes [13490, 13522), format 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, name := storeSegment(t)
			change(t, name, c.change)
			check := func(format string) string {
				code, stdout, stderr, _ := runFor(t, nil, "segment", "dump", segmentKey, "--data", data, "-o", format)
				if line := "splashdam: dump segment " + segmentKey + ": " + c.error; code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, line) {
					t.Errorf("as %s: exit %d, error %q, want %q", format, code, stderr, line)
				}
				return stdout
			}
			if text := check("text"); !strings.Contains(text, c.text) {
				t.Errorf("no %q in\n%s", c.text, text)
			}
			var got struct {
				Error string `json:"error"`
			}
			var whole any
			text := check("json")
			if json.Unmarshal([]byte(text), &got) != nil || json.Unmarshal([]byte(text), &whole) != nil || !strings.HasPrefix(got.Error, c.error) {
				t.Errorf("JSON says error %q, want %q:\n%s", got.Error, c.error, text)
			}
			if path := pathToDamage(whole); !reflect.DeepEqual(path, c.path) {
				t.Errorf("damage is at %q, want %q:\n%s", path, c.path, text)
			}
		})
	}
}

// pathToDamage names the fields from the segment to the first damage of the walk.
func pathToDamage(v any) []string {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			if path := pathToDamage(element); path != nil {
				return path
			}
		}
	case map[string]any:
		if _, ok := v["damage"]; ok {
			return []string{"damage"}
		}
		for _, field := range []string{"header", "sections", "runs", "batches", "footer", "trailer"} {
			if path := pathToDamage(v[field]); path != nil {
				return append([]string{field}, path...)
			}
		}
	}
	return nil
}
