package objectlog

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func testKeys(t testing.TB) Keys {
	t.Helper()
	cluster, err := ParseUUID("00112233-4455-6677-8899-aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	return Keys{Prefix: "a/b", Cluster: cluster}
}

func TestKeysAreSpelledAsDocumented(t *testing.T) {
	k := testKeys(t)
	segment := k.Segment(SegmentName{Boot: k.Cluster, Counter: 0x1f, Random: 0xabcdef12})
	if want := "a/b/00112233-4455-6677-8899-aabbccddeeff/seg/00/00112233-4455-6677-8899-aabbccddeeff/000000000000001f-abcdef12.seg"; segment != want {
		t.Errorf("got  %s\nwant %s", segment, want)
	}
	k.Prefix = ""
	snapshot := k.Snapshot(SnapshotName{Shard: 3, Epoch: 7, Seq: 0x1234, Random: 0xff})
	if want := "00112233-4455-6677-8899-aabbccddeeff/snap/c0/0003/00000007/0000000000001234-000000ff.snap"; snapshot != want {
		t.Errorf("got  %s\nwant %s", snapshot, want)
	}
}

func TestSegmentsInARowShareTheirSpreadAndABootMeetsEverySpread(t *testing.T) {
	k := testKeys(t)
	boot := UUID{0xff, 1}
	folder := func(counter uint64) string {
		key := k.Segment(SegmentName{Boot: boot, Counter: counter, Random: uint32(counter * 0x9e3779b9)})
		return key[:strings.LastIndexByte(key, '/')]
	}
	met := make(map[string]int)
	for counter := range uint64(256 * 64) {
		met[folder(counter)]++
	}
	for f, n := range met {
		if n != 64 {
			t.Errorf("%s holds %d segments, want 64", f, n)
		}
	}
	if len(met) != 256 || folder(63) != folder(0) || folder(64) == folder(0) {
		t.Errorf("%d folders, %s, %s, %s", len(met), folder(0), folder(63), folder(64))
	}
}

func TestKeysParseToTheNamesTheyWereBuiltFrom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := Keys{Prefix: rapid.SampledFrom([]string{"", "p", "p/q"}).Draw(t, "prefix"), Cluster: UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "cluster"))}
		segment := SegmentName{
			Boot:    UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "boot")),
			Counter: rapid.Uint64().Draw(t, "counter"),
			Random:  rapid.Uint32().Draw(t, "random"),
		}
		if got, ok := k.ParseSegment(k.Segment(segment)); !ok || got != segment {
			t.Fatalf("got %+v, %v; want %+v", got, ok, segment)
		}
		snapshot := SnapshotName{
			Shard:  Shard(rapid.Uint16().Draw(t, "shard")),
			Epoch:  Epoch(rapid.Int32().Draw(t, "epoch")),
			Seq:    rapid.Int64().Draw(t, "seq"),
			Random: rapid.Uint32().Draw(t, "snapshot random"),
		}
		key := k.Snapshot(snapshot)
		if got, ok := k.ParseSnapshot(key); !ok || got != snapshot {
			t.Fatalf("got %+v, %v; want %+v", got, ok, snapshot)
		}
		if !strings.HasPrefix(key, k.SnapshotPrefix(snapshot.Shard)) {
			t.Fatalf("%s does not begin with %s", key, k.SnapshotPrefix(snapshot.Shard))
		}
		if _, ok := k.ParseSegment(key); ok {
			t.Fatal("a snapshot's key parsed as a segment's")
		}
	})
}

func TestKeysThatAreNotOursDoNotParse(t *testing.T) {
	k := testKeys(t)
	good := k.Segment(SegmentName{Boot: k.Cluster, Counter: 0x1f, Random: 0xabcdef12})
	snap := k.Snapshot(SnapshotName{Shard: 3, Epoch: 7, Seq: 0x1234, Random: 0xff})
	for _, key := range []string{
		"", "/", good + "/", good + ".seg", "x" + good, good[1:], strings.ToUpper(good),
		strings.Replace(good, "/seg/00/", "/seg/01/", 1),
		strings.Replace(good, "000000000000001f", "1f", 1),
		strings.Replace(good, "000000000000001f", "+00000000000001f", 1),
		strings.Replace(good, "abcdef12.seg", "ABCDEF12.seg", 1),
		strings.Replace(good, "-abcdef12", "abcdef12", 1),
		strings.Replace(good, "00112233-", "10112233-", 1),
		snap, strings.Replace(snap, "/c0/", "/c1/", 1),
	} {
		if n, ok := k.ParseSegment(key); ok {
			t.Errorf("%q parsed as segment %+v", key, n)
		}
		if n, ok := k.ParseSnapshot(key); ok && key != snap {
			t.Errorf("%q parsed as snapshot %+v", key, n)
		}
	}
}

func TestMarkIsOneForAPrefixWhateverTheCluster(t *testing.T) {
	for prefix, want := range map[string]string{"": "cluster", "a": "a/cluster", "a/b": "a/b/cluster"} {
		for _, cluster := range []UUID{{}, {1, 2, 3}} {
			if got := (Keys{Prefix: prefix, Cluster: cluster}).Mark(); got != want {
				t.Errorf("prefix %q: %q, want %q", prefix, got, want)
			}
		}
	}
}

func TestFolderTellsSegmentsFromSnapshots(t *testing.T) {
	k := testKeys(t)
	for key, want := range map[string]string{
		k.Segment(SegmentName{}): "seg", k.Snapshot(SnapshotName{}): "snap", k.SnapshotPrefix(3): "snap", k.Mark(): "", "": "",
	} {
		if got := Folder(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
