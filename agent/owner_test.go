package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

// neighbourhood is the blocks of several agents in front of one bucket, who read of each other without a network. Requests are counted
// on a clock that waits for the processors: an agent that is starved of them for seconds leaves its neighbours to the bucket.
type neighbourhood struct {
	Peers
	stores
	agents []*neighbour
	asked  atomic.Int64
	// answer, when set, takes the place of what an owner would lend.
	answer func(ctx context.Context, lend func() ([]byte, error)) ([]byte, error)
}

type neighbour struct {
	*blocks
	info AgentInfo
	boot objectlog.UUID
	dead atomic.Bool // its address refuses connections; nobody has noticed yet
}

// ReadBlock implements Peers.
func (n *neighbourhood) ReadBlock(ctx context.Context, to AgentInfo, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	n.asked.Add(1)
	for _, a := range n.agents {
		if a.info.Boot != to.Boot || a.dead.Load() {
			continue
		}
		lend := func() ([]byte, error) { return a.lend(ctx, segment, extent) }
		if n.answer != nil {
			return n.answer(ctx, lend)
		}
		return lend()
	}
	return nil, ErrRefused
}

func (n *neighbourhood) live() map[objectlog.UUID]AgentInfo {
	live := make(map[objectlog.UUID]AgentInfo)
	for _, a := range n.agents {
		live[a.boot] = a.info
	}
	return live
}

// newNeighbourhood is one agent for each zone that is named.
func newNeighbourhood(t *testing.T, zones ...string) *neighbourhood {
	t.Helper()
	n := &neighbourhood{stores: newStores()}
	for i, zone := range zones {
		a := &neighbour{blocks: newTestBlocks(t, n.stores), boot: objectlog.UUID{15: byte(i + 1)}}
		a.info = AgentInfo{Boot: a.boot.String(), Zone: zone, PeerAddress: fmt.Sprint("agent-", i)}
		a.share(a.info, n.live, n)
		n.agents = append(n.agents, a)
	}
	return n
}

// ownedBy is a segment of nobody who lives whose first blocks that agent owns, behind another.
func (n *neighbourhood) ownedBy(t *testing.T, owner *neighbour, after uint64) objectlog.SegmentName {
	t.Helper()
	for i := range uint64(1000) {
		name := objectlog.SegmentName{Boot: objectlog.UUID{9}, Counter: after + 1 + i}
		if to, ok := owner.sharing.owner(owner.keys, block{segment: name}, false); ok && to.Boot == owner.info.Boot {
			return name
		}
	}
	t.Fatal("the agent owns nothing")
	return objectlog.SegmentName{}
}

// noise is a batch of about that size.
func noise(t *testing.T, size int, seed byte) []byte {
	t.Helper()
	v := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(v)
	batch, err := objectlog.EncodeBatch(nil, []objectlog.Record{{Value: v}}, objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// segment puts batches of about that size, end to end.
func (n *neighbourhood) segment(t *testing.T, name objectlog.SegmentName, count, size int) (body []byte, batches []metadata.LocatedBatch) {
	t.Helper()
	for i := range count {
		batch := noise(t, size, byte(i))
		h, err := objectlog.ParseBatchHeader(batch)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, metadata.LocatedBatch{Segment: name, Start: int64(len(body)),
			Row: objectlog.BatchRow{Bytes: int32(len(batch)), Records: 1, CRC: h.CRC}})
		body = append(body, batch...)
	}
	if err := n.bucket.Put(t.Context(), n.agents[0].keys.Segment(name), body, objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	return body, batches
}

func (n *neighbourhood) counts() (gets, stats int) {
	return n.bucket.Count(objmem.OpGet), n.bucket.Count(objmem.OpStat)
}

// wantRequests compares what the bucket was asked since with bounds.
func (n *neighbourhood) wantRequests(t *testing.T, gets, stats int) {
	t.Helper()
	if g, s := n.counts(); g > gets || s > stats {
		t.Errorf("%d GETs, %d stats; want at most %d and %d", g, s, gets, stats)
	}
}

// load reads and verifies.
func (n *neighbour) load(t *testing.T, batches []metadata.LocatedBatch, pool chan struct{}) {
	t.Helper()
	if _, err := n.blocks.load(t.Context(), batches, nil, pool); err != nil {
		t.Errorf("agent %s: %v", n.info.PeerAddress, err)
	}
}

// replay lets 1,000 readers, in turn of all agents, read segments that nobody has in a cache, each from a place of its own. It answers the
// number of blocks.
func (n *neighbourhood) replay(t *testing.T, segments int) int {
	t.Helper()
	blocks := 0
	var all [][]metadata.LocatedBatch
	for i := range segments {
		body, batches := n.segment(t, objectlog.SegmentName{Boot: objectlog.UUID{9}, Counter: uint64(i + 1)}, 80, 32<<10)
		all, blocks = append(all, batches), blocks+(len(body)+blockBytes-1)/blockBytes
	}
	var readers sync.WaitGroup
	for r := range 1000 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(r)))
			for range 5 {
				batches := all[random.IntN(len(all))]
				first := random.IntN(len(batches) - 2)
				n.agents[r%len(n.agents)].load(t, batches[first:first+1+random.IntN(2)], n.agents[r%len(n.agents)].catchUp)
			}
		})
	}
	readers.Wait()
	return blocks
}

func TestZoneGetsEachBlockOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbourhood(t, "a", "a", "a")
		blocks := n.replay(t, 20)
		gets, stats := n.counts()
		t.Logf("%d blocks, 3 agents of a zone, 5,000 reads: %d GETs, %d stats, %d asked of owners", blocks, gets, stats, n.asked.Load())
		n.wantRequests(t, blocks*11/10, 20*3/2)
		if asked := n.asked.Load(); asked > int64(2*2*blocks) {
			t.Errorf("owners were asked %d times for %d blocks by two others, want twice each at most", asked, blocks)
		}
	})
}

func TestGetsGrowWithZones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbourhood(t, "", "b", "", "b", "")
		blocks := n.replay(t, 20)
		gets, stats := n.counts()
		t.Logf("%d blocks, 5 agents of two zones, 5,000 reads: %d GETs, %d stats, %d asked of owners", blocks, gets, stats, n.asked.Load())
		n.wantRequests(t, 2*blocks*11/10, 2*20*3/2)
		for _, a := range n.agents {
			owner, ok := a.sharing.owner(a.keys, block{segment: objectlog.SegmentName{Counter: 1}}, false)
			if !ok || owner.Zone != a.info.Zone {
				t.Errorf("agent of zone %q reads from %+v", a.info.Zone, owner)
			}
		}
	})
}

func TestTailIsReadFromTheWriterWithoutAnyGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbourhood(t, "a", "a", "a", "b")
		writer := n.agents[1]
		for i := range uint64(10) {
			name := objectlog.SegmentName{Boot: writer.boot, Counter: i + 1}
			body, batches := n.segment(t, name, 50, 32<<10)
			writer.keep(name, body)
			var readers sync.WaitGroup
			for r := range 100 {
				readers.Go(func() {
					a := n.agents[r%3]
					a.load(t, batches[r%50:r%50+1], a.tail)
				})
			}
			readers.Wait()
		}
		gets, stats := n.counts()
		t.Logf("tail of 20 blocks, 1,000 reads: %d GETs, %d stats, %d asked of the writer", gets, stats, n.asked.Load())
		n.wantRequests(t, 0, 0)
		_, batches := n.segment(t, objectlog.SegmentName{Boot: writer.boot, Counter: 99}, 1, 1000)
		n.agents[3].load(t, batches, n.agents[3].tail)
		want(t, "GETs of the other zone", n.bucket.Count(objmem.OpGet), 1)
	})
}

func TestLoneAgentOfAZoneReadsAsMuchAsItNeeds(t *testing.T) {
	n := newNeighbourhood(t, "a", "b")
	_, batches := n.segment(t, objectlog.SegmentName{Counter: 1}, 10, 10_000)
	n.agents[0].load(t, batches[:1], n.agents[0].catchUp)
	want(t, "asked", n.asked.Load(), 0)
	n.wantRequests(t, 1, 0)
	if data, _ := n.agents[0].held(block{segment: batches[0].Segment}); len(data) >= 20_000 {
		t.Errorf("read %d bytes for a batch of 10,000", len(data))
	}
}

func TestDeadOwnerIsNotWaitedForNorAskedAgainAtOnce(t *testing.T) {
	n := newNeighbourhood(t, "a", "a")
	reader, owner := n.agents[0], n.agents[1]
	owner.dead.Store(true)
	_, batches := n.segment(t, n.ownedBy(t, owner, 0), 120, 32<<10) // four blocks
	reader.load(t, batches, reader.catchUp)
	want(t, "asked", n.asked.Load(), 1)
	n.wantRequests(t, 1, 0)
	_, batches = n.segment(t, objectlog.SegmentName{Boot: owner.boot, Counter: 1}, 1, 1000)
	reader.load(t, batches, reader.tail)
	want(t, "asked in all", n.asked.Load(), 1)
}

func TestHungOwnerCostsOnlyItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbourhood(t, "a", "a")
		reader, owner := n.agents[0], n.agents[1]
		n.answer = func(ctx context.Context, _ func() ([]byte, error)) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var readers sync.WaitGroup
		began, name := time.Now(), objectlog.SegmentName{}
		for range 4 * catchUpReads {
			name = n.ownedBy(t, owner, name.Counter)
			_, batches := n.segment(t, name, 1, 1000)
			readers.Go(func() { reader.load(t, batches, reader.catchUp) })
		}
		readers.Wait()
		if took := time.Since(began); took > askTimeout {
			t.Errorf("took %v, want %v at most", took, askTimeout)
		}
		asked := n.asked.Load()
		name = objectlog.SegmentName{Boot: owner.boot, Counter: 1}
		_, batches := n.segment(t, name, 1, 1000)
		reader.load(t, batches, reader.tail)
		want(t, "asked while it rests", n.asked.Load(), asked)
		<-time.After(restTime) // by the clock of this test alone
		n.answer = nil
		name.Counter++
		_, batches = n.segment(t, name, 1, 1000)
		reader.load(t, batches, reader.tail)
		want(t, "asked behind that", n.asked.Load(), asked+1)
	})
}

// spoiled is an owner whose answers are not what it has.
func spoiled(spoil func([]byte) ([]byte, error)) func(context.Context, func() ([]byte, error)) ([]byte, error) {
	return func(_ context.Context, lend func() ([]byte, error)) ([]byte, error) {
		data, err := lend()
		if err != nil {
			return nil, err
		}
		return spoil(data)
	}
}

func TestGarbageOfAnOwnerIsNotBelieved(t *testing.T) {
	const patched = 16 // the first bytes of a batch: base offset, length, leader epoch
	for name, spoil := range map[string]func([]byte) ([]byte, error){
		"zeros":       func(data []byte) ([]byte, error) { return make([]byte, len(data)), nil },
		"flipped bit": func(data []byte) ([]byte, error) { data[len(data)/2] ^= 4; return data, nil },
		"half":        func(data []byte) ([]byte, error) { return data[:len(data)/2], nil },
		"more":        func(data []byte) ([]byte, error) { return append(data, data...), nil },
		"error":       func([]byte) ([]byte, error) { return nil, errors.New("garbage") },
		"nothing":     func([]byte) ([]byte, error) { return nil, objectlog.ErrNotFound },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNeighbourhood(t, "a", "a")
			n.answer = spoiled(spoil)
			reader, owner := n.agents[0], n.agents[1]
			body, batches := n.segment(t, n.ownedBy(t, owner, 0), 100, 32<<10)
			var readers sync.WaitGroup
			for i := range 50 {
				readers.Go(func() {
					mine := batches[2*i : 2*i+2]
					loaded, err := reader.blocks.load(t.Context(), mine, batches[2*i+2:], reader.catchUp)
					if isSuspect(err) { // the second look, which may read farther
						mine = batches[2*i:]
						loaded, err = reader.blocks.load(t.Context(), mine, nil, reader.catchUp)
					}
					if err != nil || len(loaded) != len(mine) {
						t.Errorf("%d batches, %v", len(loaded), err)
						return
					}
					for j, l := range mine {
						if !bytes.Equal(loaded[j][patched:], body[l.Start+patched:l.Start+int64(l.Row.Bytes)]) {
							t.Errorf("batch %d differs", 2*i+j)
						}
					}
				})
			}
			readers.Wait()
		})
	}
}

func TestFetchLooksAgainInTheBucketWhereAnOwnerAnswersGarbage(t *testing.T) {
	s := newStores()
	a := filled(t, s, "a", "b")
	other := AgentInfo{Boot: objectlog.UUID{1}.String(), PeerAddress: "other"}
	garbage := &neighbourhood{stores: s, answer: spoiled(func(data []byte) ([]byte, error) { return make([]byte, len(data)), nil })}
	garbage.agents = []*neighbour{{blocks: newTestBlocks(t, s), info: other, boot: objectlog.UUID{1}}}
	garbage.agents[0].keys = a.keys
	a.blocks.share(a.presence.info, garbage.live, garbage)
	want(t, "first", decode(t, a.fetchOne(t, "orders", 0))[0], "a")
	want(t, "second", decode(t, a.fetchOne(t, "orders", 1))[0], "b")
	if garbage.asked.Load() == 0 {
		t.Error("the owner was not asked")
	}
}

func TestAgentsThatTakeEachOtherForTheOwnerBothAnswer(t *testing.T) {
	n := newNeighbourhood(t, "a", "a")
	for i, a := range n.agents { // each sees the other alone
		a.sharing.live = func() map[objectlog.UUID]AgentInfo {
			return map[objectlog.UUID]AgentInfo{n.agents[1-i].boot: n.agents[1-i].info}
		}
	}
	n.answer = func(ctx context.Context, lend func() ([]byte, error)) ([]byte, error) {
		for ctx.Err() == nil && n.asked.Load() < 2 { // until both have asked
			runtime.Gosched()
		}
		return lend()
	}
	_, batches := n.segment(t, objectlog.SegmentName{Counter: 1}, 20, 1000)
	began := time.Now()
	var readers sync.WaitGroup
	for _, a := range n.agents {
		readers.Go(func() { a.load(t, batches, a.catchUp) })
	}
	readers.Wait()
	if took := time.Since(began); took >= askTimeout {
		t.Errorf("took %v: they waited for each other", took)
	}
	want(t, "asked", n.asked.Load(), 2)
}

func TestLentIsWhatWasAskedAsFarAsTheSegmentGoes(t *testing.T) {
	n := newNeighbourhood(t, "a", "a")
	owner := n.agents[0]
	body, _ := n.segment(t, objectlog.SegmentName{Counter: 1}, 170, 32<<10) // a bit more than five blocks
	size := int64(len(body))
	for _, c := range []struct {
		start, next, end int64
		err              error
	}{
		{4 << 20, 4<<20 + 10, 4<<20 + 10, nil},
		{5<<20 + 7, 6 << 20, size, nil},
		{4<<20 + 100, 6 << 20, size, nil},
		{0, 4 << 20, 4 << 20, nil},
		{3<<20 - 5, 3<<20 + 5, 3<<20 + 5, nil},
		{size - 1, 6 << 20, size, nil},
		{size, 6 << 20, 0, objectlog.ErrRange},
		{6 << 20, 6<<20 + 1, 0, objectlog.ErrRange},
		{3 << 20, 5 << 20, 0, InvalidRequest},
		{0, 4<<20 + 1, 0, InvalidRequest},
		{-1, 1, 0, InvalidRequest},
		{10, 10, 0, InvalidRequest},
		{10, 9, 0, InvalidRequest},
	} {
		got, err := owner.lend(t.Context(), objectlog.SegmentName{Counter: 1}, objectlog.Extent{Start: c.start, Next: c.next})
		if !errors.Is(err, c.err) || err == nil && !bytes.Equal(got, body[c.start:c.end]) {
			t.Errorf("[%d, %d): %d bytes, %v; want %d, %v", c.start, c.next, len(got), err, c.end-c.start, c.err)
		}
		clear(got) // the answer is the asker's
	}
	want(t, "asked", n.asked.Load(), 0)
	n.wantRequests(t, 5, 1) // of them one beyond the end
	if _, err := owner.lend(t.Context(), objectlog.SegmentName{Counter: 2}, objectlog.Extent{Next: 1}); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("no such segment: %v", err)
	}
}

func TestOwnerWithTooMuchToDoSendsOthersToTheBucket(t *testing.T) {
	n := newNeighbourhood(t, "a", "a")
	owner := n.agents[0]
	for i := range int64(flightsMax + 1) {
		owner.flights[block{index: i}] = &flight{}
	}
	if _, err := owner.lend(t.Context(), objectlog.SegmentName{Counter: 1}, objectlog.Extent{Next: 1}); !errors.Is(err, Busy) {
		t.Errorf("got %v, want busy", err)
	}
	clear(owner.flights)
}

func TestOwnerLendsNoMoreThanItsMemoryAllowsUntilAnswersAreSent(t *testing.T) {
	n := newNeighbourhood(t, "a", "a")
	owner, name := n.agents[0], objectlog.SegmentName{Counter: 1}
	n.segment(t, name, 130, 32<<10) // all of four blocks: in the cache from the first time on
	whole := objectlog.Extent{Next: blocksAtOnce * blockBytes}
	sending, sent := context.WithCancel(t.Context())
	for lent := int64(0); lent < lentBytesMax; lent += whole.Len() {
		if _, err := owner.lend(sending, name, whole); err != nil {
			t.Fatalf("behind %d bytes: %v", lent, err)
		}
	}
	if _, err := owner.lend(sending, name, objectlog.Extent{Next: 1}); !errors.Is(err, Busy) {
		t.Errorf("%d bytes are on their way: got %v, want busy", lentBytesMax, err)
	}
	sent()
	for owner.lentBytes() > 0 {
		runtime.Gosched()
	}
	if _, err := owner.lend(t.Context(), name, whole); err != nil {
		t.Errorf("all of them were sent: got %v", err)
	}
	// A failure takes nothing for longer than its call.
	failing, failed := context.WithCancel(t.Context())
	if _, err := owner.lend(failing, objectlog.SegmentName{Counter: 2}, whole); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("no such segment: %v", err)
	}
	failed()
	for owner.lentBytes() > whole.Len() {
		runtime.Gosched()
	}
}

func (n *neighbour) lentBytes() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lent
}

func TestFactsAreOfTheSegmentsThatWereMetLast(t *testing.T) {
	f := facts{of: make(map[objectlog.SegmentName]fact)}
	for i := range uint64(factsMax + 10) {
		f.note(objectlog.SegmentName{Counter: i}, fact{end: 1})
		f.note(objectlog.SegmentName{Counter: i}, fact{end: 2})
	}
	if len(f.of) != factsMax || len(f.order) != factsMax || f.of[objectlog.SegmentName{Counter: 9}].end != 0 || f.of[objectlog.SegmentName{Counter: 10}].end != 2 {
		t.Errorf("%d facts in an order of %d", len(f.of), len(f.order))
	}
}
