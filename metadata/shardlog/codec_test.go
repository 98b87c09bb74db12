package shardlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

var (
	sampleEntry = entry{ring: objectlog.UUID{1, 2}, seq: 77, epoch: 5, nonce: 0x1122334455667788, prevHash: hash{9}, time: 1700000000000,
		commands: []metadata.Command{{Kind: 3, Body: []byte("commit")}, {Kind: 64, Body: []byte{}}}}
	sampleLease = lease{ring: objectlog.UUID{1, 2}, slots: 4096, holder: objectlog.UUID{7}, epoch: 5, nonce: 42,
		cur:  pointer{name: objectlog.SnapshotName{Shard: testShard, Epoch: 5, Seq: 70, Random: 3}, hash: hash{8}, crc: 0xdeadbeef, bytes: 1000},
		prev: pointer{name: objectlog.SnapshotName{Shard: testShard, Epoch: 4, Seq: 60, Random: 2}, hash: hash{6}, crc: 0xfeedface, bytes: 900}}
	sampleSnapshot = snapshot{shard: testShard, ring: objectlog.UUID{1, 2}, tip: tip{seq: 70, epoch: 5, hash: hash{8}, time: 1700000000000},
		sections: []section{{"groups", []byte("g")}, {"state", []byte{}}}}
)

// The golden bytes pin the formats: what is written today must be read for ever.
func TestGoldenBytes(t *testing.T) {
	for name, b := range map[string][]byte{"entry": sampleEntry.encode(), "lease": sampleLease.encode(), "snapshot": sampleSnapshot.encode()} {
		file := filepath.Join("testdata", name+".hex")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s is not what %s holds:\n%s", name, file, got)
		}
	}
}

func TestFormatsRoundTrip(t *testing.T) {
	if got, err := decodeEntry(sampleEntry.encode()); err != nil || !reflect.DeepEqual(got, sampleEntry) {
		t.Errorf("entry %+v, %v", got, err)
	}
	if got, err := decodeLease(sampleLease.encode(), testShard); err != nil || got != sampleLease {
		t.Errorf("lease %+v, %v", got, err)
	}
	if got, err := decodeSnapshot(sampleSnapshot.encode()); err != nil || !reflect.DeepEqual(got, sampleSnapshot) {
		t.Errorf("snapshot %+v, %v", got, err)
	}
}

func decodeAll(b []byte) map[string]error {
	_, entryErr := decodeEntry(b)
	_, leaseErr := decodeLease(b, testShard)
	_, snapshotErr := decodeSnapshot(b)
	return map[string]error{"entry": entryErr, "lease": leaseErr, "snapshot": snapshotErr}
}

func TestEveryFlippedBitAndEveryCutIsNoticed(t *testing.T) {
	for name, b := range map[string][]byte{"entry": sampleEntry.encode(), "lease": sampleLease.encode(), "snapshot": sampleSnapshot.encode()} {
		for i := range 8 * len(b) {
			c := bytes.Clone(b)
			c[i/8] ^= 1 << (i % 8)
			if err := decodeAll(c)[name]; !errors.Is(err, objectlog.ErrCorrupt) && !errors.Is(err, objectlog.ErrVersion) {
				t.Fatalf("%s with bit %d flipped: %v", name, i, err)
			}
		}
		for i := range b {
			if err := decodeAll(b[:i])[name]; !errors.Is(err, objectlog.ErrCorrupt) {
				t.Fatalf("%s cut at %d: %v", name, i, err)
			}
		}
		if err := decodeAll(append(bytes.Clone(b), 0))[name]; !errors.Is(err, objectlog.ErrCorrupt) {
			t.Errorf("%s with a byte too many: %v", name, err)
		}
	}
}

func TestLaterFormatIsASpecificError(t *testing.T) {
	b := append([]byte("SDLE\x00\x02"), "whatever comes then"...)
	if _, err := decodeEntry(b); !errors.Is(err, objectlog.ErrVersion) {
		t.Errorf("got %v", err)
	}
}

// reseal gives fuzzed bytes a valid checksum, so that what lies behind it is reached.
func reseal(b []byte) []byte {
	if len(b) < crcBytes {
		return b
	}
	return appendCRC(bytes.Clone(b[:len(b)-crcBytes]), 0)
}

func FuzzEntry(f *testing.F) {
	f.Add(sampleEntry.encode())
	f.Add((&entry{}).encode())
	f.Add([]byte("SDLE"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, x := range [][]byte{b, reseal(b)} {
			if e, err := decodeEntry(x); err == nil && !bytes.Equal(e.encode(), x) {
				t.Errorf("%x decodes, but encodes as %x", x, e.encode())
			}
		}
	})
}

func FuzzLease(f *testing.F) {
	f.Add(sampleLease.encode())
	f.Add((&lease{slots: 64}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, x := range [][]byte{b, reseal(b)} {
			if l, err := decodeLease(x, testShard); err == nil && !bytes.Equal(l.encode(), x) {
				t.Errorf("%x decodes, but encodes as %x", x, l.encode())
			}
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add(sampleSnapshot.encode())
	f.Add((&snapshot{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, x := range [][]byte{b, reseal(b)} {
			if s, err := decodeSnapshot(x); err == nil && !bytes.Equal(s.encode(), x) {
				t.Errorf("%x decodes, but encodes as %x", x, s.encode())
			}
		}
	})
}
