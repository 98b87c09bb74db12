package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// askTimeout bounds a read from a block's owner, and the wait for its turn: the bucket is there for everybody, and not much slower.
	askTimeout = 3 * time.Second
	// restTime is how long an owner that failed to answer is not asked again.
	restTime = 5 * time.Second
	// lendReads is how many GETs are in flight at once for other agents, who keep the rest of their patience for the bucket.
	lendReads = 32
	// lentBytesMax bounds the answers on their way to other agents; what the wire makes of them takes as much again.
	lentBytesMax = 128 << 20
	// flightsMax is how many blocks may be waited for until other agents are sent to the bucket themselves.
	flightsMax = 2048
	// factsMax is how many segments something is known of: those of the last minutes.
	factsMax = 4096
)

// way says how a reader comes to a block.
type way uint8

const (
	byOwner    way = iota // it is asked of its owner in the zone
	fromBucket            // the owner was asked in vain
	forPeers              // by the owner, for another agent, who may not know where the segment ends
)

// route is where a block is read, and how much of it.
type route struct {
	ask   bool // the owner; else the bucket
	owner AgentInfo
	whole bool // from the bucket, since the others of the zone will ask for the rest of it
}

// sharing is what blocks know of the other agents of their zone.
type sharing struct {
	self    AgentInfo
	live    func() map[objectlog.UUID]AgentInfo
	peers   Peers
	tail    chan struct{}        // asked at once: who waits for an owner takes no turn from those who read the bucket, and
	catchUp chan struct{}        // owners never ask on, so none waits in a circle
	resting map[string]time.Time // until when, by boot; under the lock of blocks
}

// share makes the agents of a zone read each block from one of them. It is called before the first read; live answers the agents of all zones
// that are alive, by boot, this one among them unless it drains.
func (b *blocks) share(self AgentInfo, live func() map[objectlog.UUID]AgentInfo, peers Peers) {
	b.sharing = &sharing{self: self, live: live, peers: peers, tail: make(chan struct{}, tailReads), catchUp: make(chan struct{}, catchUpReads),
		resting: make(map[string]time.Time)}
}

// owner answers the agent from which the zone reads a block; false: this one is alone. Records just written are still with who wrote them; else
// rendezvous decides, for all blocks alike that one GET reads.
func (s *sharing) owner(keys objectlog.Keys, k block, tail bool) (AgentInfo, bool) {
	live := s.live()
	alone := true
	var zone []lead.Peer
	for boot, a := range live {
		if a.Zone == s.self.Zone {
			zone = append(zone, lead.Peer{Boot: boot, Name: placeOf(a)})
			alone = alone && a.Boot == s.self.Boot
		}
	}
	if alone {
		return AgentInfo{}, false
	}
	if writer, ok := live[k.segment.Boot]; ok && tail && writer.Zone == s.self.Zone {
		return writer, true
	}
	first := lead.Rendezvous(fmt.Sprintf("%s %d", keys.Segment(k.segment), k.index/blocksAtOnce), zone)[0]
	return live[first.Boot], true
}

// asks is the bound of asking owners that belongs to a pool of GETs.
func (b *blocks) asks(pool chan struct{}) chan struct{} {
	if pool == b.tail {
		return b.sharing.tail
	}
	return b.sharing.catchUp
}

// route is called with the lock held.
func (b *blocks) route(k block, pool chan struct{}, w way) route {
	switch {
	case w == forPeers:
		return route{whole: true}
	case w == fromBucket || b.sharing == nil || b.facts.of[k.segment].doubted:
		return route{}
	}
	owner, shared := b.sharing.owner(b.keys, k, pool == b.tail)
	switch {
	case !shared || b.sharing.rests(owner):
		// Alone: what one tail reader wants of a block, the next will want more of.
		return route{whole: pool == b.tail}
	case owner.Boot == b.sharing.self.Boot:
		return route{whole: true}
	}
	return route{ask: true, owner: owner}
}

// busy says whether whoever takes the route has to wait for a turn.
func (b *blocks) busy(r route, pool chan struct{}) bool {
	if r.ask {
		pool = b.asks(pool)
	}
	return len(pool) == cap(pool)
}

// borrow reads n blocks in a row from their owner, or, if that fails for whatever reason, from the bucket.
func (b *blocks) borrow(run []*flight, first block, need int64, there []byte, owner AgentInfo, pool chan struct{}) {
	data, err := b.ask(first, need, there, owner, pool)
	if err == nil {
		b.land(run, first, data, nil)
		return
	}
	order, bytes := blocksOf(first.segment, objectlog.Extent{Start: first.start(), Next: first.start() + need})
	b.startOrder(order, bytes, pool, fromBucket, true)
	for i, k := range order {
		run[i].data, run[i].err = b.read(context.WithoutCancel(b.ctx), k, bytes[k], pool, fromBucket) // flights end with b.ctx
	}
}

// ask answers need bytes from the beginning of the first block; when something of it is there, all of that block.
func (b *blocks) ask(first block, need int64, there []byte, owner AgentInfo, pool chan struct{}) ([]byte, error) {
	asks := b.asks(pool)
	turn, cancelTurn := context.WithTimeout(b.ctx, askTimeout)
	defer cancelTurn()
	select {
	case asks <- struct{}{}:
		defer func() { <-asks }()
	case <-turn.Done():
		return nil, turn.Err()
	}
	b.mu.Lock()
	rests := b.sharing.rests(owner)
	b.mu.Unlock()
	if rests { // since this read was begun
		return nil, errRests
	}
	ctx, cancel := context.WithTimeout(b.ctx, askTimeout)
	defer cancel()
	extent := objectlog.Extent{Start: first.start() + int64(len(there)), Next: first.start() + need}
	if len(there) > 0 {
		extent.Next = first.start() + blockBytes
	}
	data, err := b.sharing.peers.ReadBlock(ctx, owner, first.segment, extent)
	if got := int64(len(there) + len(data)); err == nil && (got < need || int64(len(data)) > extent.Len()) {
		err = fmt.Errorf("%d bytes of [%d, %d), want %d", len(data), extent.Start, extent.Next, need-int64(len(there)))
	}
	if err != nil {
		b.rest(owner, first, err)
		return nil, err
	}
	if len(there) > 0 {
		data = append(slices.Clip(there), data...)
	}
	return data, nil
}

var errRests = errors.New("did not answer a moment ago")

// rests is called with the lock held.
func (s *sharing) rests(a AgentInfo) bool { return time.Now().Before(s.resting[a.Boot]) }

// rest leaves an owner alone for a while. One that says that the object is not there may be right.
func (b *blocks) rest(owner AgentInfo, k block, err error) {
	if errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrRange) || b.ctx.Err() != nil {
		return
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.sharing.rests(owner) { // once for all that asked at one time
		slog.Warn("read block from its owner; the bucket is read for a while", "agent", owner.Boot, "address", owner.PeerAddress, "object", b.keys.Segment(k.segment), "err", err)
	}
	for boot, until := range b.sharing.resting {
		if now.After(until) {
			delete(b.sharing.resting, boot)
		}
	}
	b.sharing.resting[owner.Boot] = now.Add(restTime)
}

// Block answers a part of a segment to another agent, for which this one is its owner: out of the cache, or by a GET of whole blocks, never
// out of a third agent. The part lies within what one GET reads; the answer is shorter where the segment ends. Its memory counts as taken
// until ctx ends, which must be when the answer has been sent.
func (a *Agent) Block(ctx context.Context, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	data, err := a.blocks.lend(ctx, segment, extent)
	if err != nil {
		return nil, &Error{Op: "read block", Object: a.keys.Segment(segment), Cause: err}
	}
	return data, nil
}

// lend answers a copy of the extent, as far as the segment goes, and counts it as lent until ctx ends.
func (b *blocks) lend(ctx context.Context, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	const group = blocksAtOnce * blockBytes
	if extent.Start < 0 || extent.Next <= extent.Start || extent.Start/group != (extent.Next-1)/group {
		return nil, because(InvalidRequest, fmt.Errorf("bytes [%d, %d): want a part of %d aligned bytes", extent.Start, extent.Next, group))
	}
	if !b.mayLend(extent.Len()) {
		return nil, Busy
	}
	context.AfterFunc(ctx, func() { b.returned(extent.Len()) })
	order, bytes := blocksOf(segment, extent)
	b.startOrder(order, bytes, b.lending, forPeers, true)
	var out []byte
	for _, k := range order {
		data, err := b.read(ctx, k, bytes[k], b.lending, forPeers)
		if err != nil {
			return nil, err
		}
		from, next := max(0, extent.Start-k.start()), min(int64(len(data)), bytes[k])
		if from >= next {
			break
		}
		out = append(slices.Grow(out, int(extent.Next-k.start()-from)), data[from:next]...)
		if next < bytes[k] {
			break
		}
	}
	if len(out) == 0 {
		return nil, objectlog.ErrRange
	}
	return out, nil
}

// mayLend takes so many bytes for an answer, unless this agent has too much to do for others.
func (b *blocks) mayLend(bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.flights) > flightsMax || b.lent+bytes > lentBytesMax {
		return false
	}
	b.lent += bytes
	return true
}

func (b *blocks) returned(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent -= bytes
}

// blocksOf answers the blocks that hold an extent, and how much of each.
func blocksOf(segment objectlog.SegmentName, extent objectlog.Extent) (order []block, bytes map[block]int64) {
	bytes = make(map[block]int64)
	for k := (block{segment: segment, index: extent.Start / blockBytes}); k.start() < extent.Next; k = k.plus(1) {
		order = append(order, k)
		bytes[k] = min(blockBytes, extent.Next-k.start())
	}
	return order, bytes
}

// fact is what is known of a segment.
type fact struct {
	end     int64 // its size; 0: not known
	doubted bool  // bytes of it were wrong: what other agents say of it is not believed
}

// facts are those of the segments that were met last.
type facts struct {
	of    map[objectlog.SegmentName]fact
	order []objectlog.SegmentName // oldest first
}

func (f *facts) note(segment objectlog.SegmentName, is fact) {
	if _, ok := f.of[segment]; !ok {
		if f.order = append(f.order, segment); len(f.order) > factsMax {
			delete(f.of, f.order[0])
			f.order = f.order[1:]
		}
	}
	f.of[segment] = is
}

// ends says whether the block is known to end behind the data.
func (f *facts) ends(k block, data []byte) bool {
	end := f.of[k.segment].end
	return end > 0 && k.start()+int64(len(data)) >= end
}

func (b *blocks) ends(k block, data []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.facts.ends(k, data)
}

func (b *blocks) endKnown(segment objectlog.SegmentName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.facts.of[segment].end > 0
}

func (b *blocks) learnEnd(segment objectlog.SegmentName, end int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.facts.note(segment, fact{end: end, doubted: b.facts.of[segment].doubted})
}

// endOf answers the segment's size, of which the bucket is asked once for all that want to know.
func (b *blocks) endOf(ctx context.Context, segment objectlog.SegmentName) (int64, error) {
	b.mu.Lock()
	end := b.facts.of[segment].end
	b.mu.Unlock()
	if end > 0 {
		return end, nil
	}
	key := b.keys.Segment(segment)
	got, err, _ := b.stats.Do(key, func() (any, error) {
		info, err := b.bucket.Stat(ctx, key)
		if err == nil {
			b.learnEnd(segment, info.Bytes)
		}
		return info.Bytes, err
	})
	return got.(int64), err
}
