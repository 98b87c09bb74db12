package objectlog

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// SegmentName identifies one segment of a cluster: it is all that state keeps of the object's key.
type SegmentName struct {
	Boot    UUID
	Counter uint64 // from 1, per boot
	Random  uint32
}

// Keys builds and parses every object key of one cluster. Keys are made of UUIDs and counters only, never of
// client strings:
//
//	<prefix>/cluster
//	<prefix>/<cluster>/seg/<2 hex of spread>/<boot>/<counter, 16 hex>-<random, 8 hex>.seg
//	<prefix>/<cluster>/snap/<2 hex of spread>/<shard, 4 hex>/<epoch, 8 hex>/<seq, 16 hex>-<random, 8 hex>.snap
//	<prefix>/<cluster>/probe/<boot>-<number, 16 hex>
//
// The spread distributes keys over the store's partitions, which split by key prefix. It follows from the name: see
// SegmentName.spread; of a snapshot, the low byte of the shard with its bits reversed. All digits are lower case.
type Keys struct {
	Prefix  string // may be empty; no slash at either end
	Cluster UUID
}

// SnapshotName identifies one snapshot of a shard.
type SnapshotName struct {
	Shard  Shard
	Epoch  Epoch
	Seq    int64
	Random uint32
}

// Mark is the key of the object that says whose the prefix is.
func (k Keys) Mark() string {
	if k.Prefix == "" {
		return "cluster"
	}
	return k.Prefix + "/cluster"
}

// Probe is the key of an object with which a boot finds out whether objects can be put; it is removed again.
func (k Keys) Probe(boot UUID, n uint64) string {
	return fmt.Sprintf("%s/probe/%s-%016x", k.root(), boot, n)
}

// Segment is the segment's object key.
func (k Keys) Segment(n SegmentName) string {
	return fmt.Sprintf("%s/seg/%02x/%s/%016x-%08x.seg", k.root(), n.spread(), n.Boot, n.Counter, n.Random)
}

// spread keeps 64 segments in a row together and then moves on by one. Boots begin at random and have different rates, so the
// requests of a cluster meet all 256 values; where a store keeps folders, one more with its fsyncs comes every 64
// segments, not with each.
func (n SegmentName) spread() byte { return n.Boot[0] + byte(n.Counter>>6) }

// ParseSegment reads what Segment wrote; false for any other key.
func (k Keys) ParseSegment(key string) (SegmentName, bool) {
	parts, ok := k.split(key, "/seg/", ".seg", 3)
	if !ok {
		return SegmentName{}, false
	}
	boot, err := ParseUUID(parts[1])
	counter, random, ok := parseCounter(parts[2])
	n := SegmentName{Boot: boot, Counter: counter, Random: random}
	// One name has one key: what parses but is written otherwise, such as upper-case digits, is a foreign key.
	if err != nil || !ok || k.Segment(n) != key {
		return SegmentName{}, false
	}
	return n, true
}

// Snapshot is the snapshot's object key.
func (k Keys) Snapshot(n SnapshotName) string {
	return fmt.Sprintf("%s%08x/%016x-%08x.snap", k.SnapshotPrefix(n.Shard), uint32(n.Epoch), uint64(n.Seq), n.Random)
}

// ParseSnapshot reads what Snapshot wrote; false for any other key.
func (k Keys) ParseSnapshot(key string) (SnapshotName, bool) {
	parts, ok := k.split(key, "/snap/", ".snap", 4)
	if !ok {
		return SnapshotName{}, false
	}
	shard, errShard := strconv.ParseUint(parts[1], 16, 16)
	epoch, errEpoch := strconv.ParseUint(parts[2], 16, 32)
	seq, random, ok := parseCounter(parts[3])
	n := SnapshotName{Shard: Shard(shard), Epoch: Epoch(epoch), Seq: int64(seq), Random: random}
	if errShard != nil || errEpoch != nil || !ok || k.Snapshot(n) != key {
		return SnapshotName{}, false
	}
	return n, true
}

// SnapshotPrefix begins the keys of all snapshots of a shard that share one spread, which is all of them: the spread
// follows from the shard. Behind it, key order is order of epoch, then seq.
func (k Keys) SnapshotPrefix(s Shard) string {
	return fmt.Sprintf("%s/snap/%02x/%04x/", k.root(), bits.Reverse8(byte(s)), uint16(s))
}

// Folder answers in which folder of a cluster a key, or a prefix of keys, lies: "seg" or "snap"; else "".
func Folder(key string) string {
	for _, folder := range []string{"seg", "snap"} {
		if strings.Contains(key, "/"+folder+"/") {
			return folder
		}
	}
	return ""
}

func (k Keys) root() string {
	if k.Prefix == "" {
		return k.Cluster.String()
	}
	return k.Prefix + "/" + k.Cluster.String()
}

// split answers the path elements between the cluster's folder and the suffix, if there are n of them.
func (k Keys) split(key, folder, suffix string, n int) ([]string, bool) {
	rest, ok := strings.CutPrefix(key, k.root()+folder)
	if !ok {
		return nil, false
	}
	rest, ok = strings.CutSuffix(rest, suffix)
	if !ok {
		return nil, false
	}
	parts := strings.Split(rest, "/")
	return parts, len(parts) == n
}

func parseCounter(s string) (counter uint64, random uint32, ok bool) {
	first, second, found := strings.Cut(s, "-")
	counter, errFirst := strconv.ParseUint(first, 16, 64)
	r, errSecond := strconv.ParseUint(second, 16, 32)
	return counter, uint32(r), found && errFirst == nil && errSecond == nil
}
