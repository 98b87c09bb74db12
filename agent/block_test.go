package agent

import (
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// segmentOf puts a segment of so many bytes and answers its batches, each as long as given.
func segmentOf(t *testing.T, s stores, b *blocks, counter uint64, bytes, batch int64) (batches []metadata.LocatedBatch) {
	t.Helper()
	name := objectlog.SegmentName{Counter: counter}
	if err := s.bucket.Put(t.Context(), b.keys.Segment(name), make([]byte, bytes), objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	for start := int64(0); start+batch <= bytes; start += batch {
		batches = append(batches, metadata.LocatedBatch{Segment: name, Start: start, Row: objectlog.BatchRow{Bytes: int32(batch)}})
	}
	return batches
}

func newTestBlocks(t *testing.T, s stores) *blocks {
	t.Helper()
	b, err := newBlocks(s.bucket, objectlog.Keys{}, 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

// readAll reads the batches' blocks and answers how many GETs and stats that took.
func readAll(t *testing.T, s stores, b *blocks, batches []metadata.LocatedBatch) (gets, stats int) {
	t.Helper()
	gets, stats = s.bucket.Count(mem.OpGet), s.bucket.Count(mem.OpStat)
	order, bytes := needs(batches)
	for _, k := range order {
		data, err := b.read(t.Context(), k, bytes[k], b.catchUp, byOwner)
		if err != nil || int64(len(data)) < bytes[k] {
			t.Fatalf("block %d of segment %d: %d bytes, want %d (%v)", k.index, k.segment.Counter, len(data), bytes[k], err)
		}
	}
	return s.bucket.Count(mem.OpGet) - gets, s.bucket.Count(mem.OpStat) - stats
}

func TestNeighbouringBlocksAreReadByOneGet(t *testing.T) {
	s := newStores()
	b := newTestBlocks(t, s)
	batches := segmentOf(t, s, b, 1, 6<<20+1000, 1000) // six blocks and a bit
	before := s.bucket.Count(mem.OpGet)
	b.startAll(batches, nil, b.catchUp, true)
	readAll(t, s, b, batches)
	if got := s.bucket.Count(mem.OpGet) - before; got != 2 {
		t.Errorf("%d GETs for seven blocks, want 2", got)
	}
	if gets, stats := readAll(t, s, b, batches); gets+stats != 0 {
		t.Errorf("read again: %d GETs, %d stats", gets, stats)
	}
}

func TestNeighboursOfTwoOwnersAreReadByTwoGets(t *testing.T) {
	s := newStores()
	b := newTestBlocks(t, s)
	batches := segmentOf(t, s, b, 1, 6<<20, 1<<20)[2:]
	b.startAll(batches, nil, b.catchUp, true)
	readAll(t, s, b, batches)
	if got := s.bucket.Count(mem.OpGet); got != 2 {
		t.Errorf("%d GETs for the blocks [2, 6), want 2: [2, 4) and [4, 6)", got)
	}
	order, bytes := needs(segmentOf(t, s, b, 2, 6<<20, 1<<20)[2:])
	if n := b.startRun(order, bytes, b.catchUp, byOwner, true); n != 2 {
		t.Errorf("reads %d blocks at once, want 2", n)
	}
}

func TestBlockIsReadAsFarAsTheNextFetchWillWantIt(t *testing.T) {
	s := newStores()
	b := newTestBlocks(t, s)
	batches := segmentOf(t, s, b, 1, 1<<20, 64<<10)
	b.startAll(batches[:3], batches[3:], b.catchUp, true)
	if gets, stats := readAll(t, s, b, batches); gets > 1 || stats != 0 {
		t.Errorf("%d GETs, %d stats, want one GET at most: that of the first fetch", gets, stats)
	}
	if got := s.bucket.Count(mem.OpGet); got != 1 {
		t.Errorf("%d GETs, want 1", got)
	}
}

func TestReadingAheadLeavesWhatFillsNoGet(t *testing.T) {
	s := newStores()
	b := newTestBlocks(t, s)
	first, second := segmentOf(t, s, b, 1, 5<<20, 1<<20), segmentOf(t, s, b, 2, 7<<20, 1<<20)
	order, bytes := needs(append(first, second[:6]...))
	if got := whole(order, bytes); len(got) != 9 || got[8] != order[8] { // all of the first, four blocks of the second
		t.Errorf("reads %d of %d blocks ahead, want 9", len(got), len(order))
	}
	if got := whole(needs(second[:3])); len(got) != 0 {
		t.Errorf("reads %d blocks ahead that fill no GET", len(got))
	}
}

// TestBlockThatWasReadIsThereUntilItIsAskedFor: a cache that prefers what was asked for before drops it.
func TestBlockThatWasReadIsThereUntilItIsAskedFor(t *testing.T) {
	r := recent{data: make(map[block][]byte), bytesMax: 100}
	for i := range int64(5) {
		r.add(block{index: i}, make([]byte, 40))
	}
	r.add(block{index: 4}, make([]byte, 50))
	if len(r.data) != 2 || len(r.order) != 2 || r.bytes != 90 || len(r.data[block{index: 4}]) != 50 || r.data[block{index: 3}] == nil {
		t.Errorf("holds %d blocks, %d bytes, order %v; want the newest two, 90 bytes", len(r.data), r.bytes, r.order)
	}
	r.drop(block{index: 3})
	if r.bytes != 50 || len(r.order) != 1 {
		t.Errorf("dropped one: %d bytes, order %v", r.bytes, r.order)
	}
}
