package sim

import (
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// node is one boot of an agent: the cores that ship, and what a driver keeps.
type node struct {
	w           *world
	place       int
	boot        objectlog.UUID
	ordinal     int64
	dead        bool
	pausedUntil time.Duration

	born  time.Duration
	rate  float64 // of its monotonic clock
	skew  time.Duration
	rng   *rand.Rand
	asked uint64 // ids of proposals and current reads

	replicas []*replica
	writer   *write.Core
	wake     time.Duration // of the writer's next tick; 0: none
}

// replica is one shard log at one boot.
type replica struct {
	core      *shardlog.Core
	state     *metadata.State
	applied   metadata.Seq
	wake      time.Duration
	proposals map[uint64]func(shardlog.Decided)
	currents  map[uint64]func(shardlog.CurrentAnswered)
	pending   map[uint64]bool // proposals handed to the core: each is answered once
}

// start boots an agent at a place.
func (w *world) start(place int) *node {
	w.boots++
	rng := rand.New(rand.NewPCG(w.lives.Uint64(), w.lives.Uint64()))
	n := &node{w: w, place: place, ordinal: w.boots, born: w.now, rng: rng, rate: 0.9 + 0.2*rng.Float64()}
	n.boot = n.uuid()
	n.writer = write.NewCore(write.Config{Shards: w.set.shards, BufferBytesMax: 1 << 20, SegmentBytesMax: 4 << 10, FlushRate: 20, FlushBurst: 2,
		Timeout: 5 * time.Second, UploadsMax: 4})
	for s := range w.set.shards {
		n.replicas = append(n.replicas, n.newReplica(objectlog.Shard(s)))
	}
	w.at[place] = n
	w.trace("starts", place, n.ordinal)
	for s := range n.replicas {
		n.step(s, shardlog.Tick{})
	}
	w.rank()
	return n
}

func (n *node) newReplica(s objectlog.Shard) *replica {
	w := n.w
	r := &replica{state: metadata.NewState(metadata.Config{Shard: s, Shards: w.set.shards}), applied: -1,
		proposals: map[uint64]func(shardlog.Decided){}, currents: map[uint64]func(shardlog.CurrentAnswered){}, pending: map[uint64]bool{}}
	r.core = shardlog.New(shardlog.Config{Shard: s, Cluster: w.keys.Cluster, Boot: n.boot, Lease: w.set.lease, EntryBytesMax: w.set.entryBytesMax,
		SnapshotEvery: w.set.snapshotEvery, Random: n.rng.Uint64}, []shardlog.Registration{{Name: "state", From: metadata.StateFrom, To: metadata.StateTo, Machine: r.state}})
	return r
}

// uuid takes a draw for each byte: another rule would make another history of every seed.
func (n *node) uuid() objectlog.UUID {
	return objectlog.NewUUID(func() (bits uint64) {
		for i := range 8 {
			bits |= uint64(byte(n.rng.Uint32())) << (8 * i)
		}
		return bits
	})
}

// kill ends a boot at once. What it sent is on its way all the same.
func (w *world) kill(place int) {
	n := w.at[place]
	if n == nil {
		return
	}
	n.dead = true
	w.at[place] = nil
	w.gone = append(w.gone, n)
	w.trace("dies", place, n.ordinal)
	w.rank()
	if w.fate.Float64() < 0.7 { // its address refuses connections
		for p := range places {
			w.tell(n, p, func(m *node) {
				for s := range m.replicas {
					m.step(s, shardlog.HolderGone{Holder: n.boot})
				}
			})
		}
	}
}

// rank tells every agent which shards it succeeds in.
func (w *world) rank() {
	for s := range w.set.shards {
		rank := 0
		for i := range places {
			n := w.at[(s+i)%places]
			if n == nil {
				continue
			}
			r := rank
			if rank++; r > 1 {
				r = -1
			}
			w.to(n, w.delay(), func() { n.step(s, shardlog.Ranked{Rank: r}) })
		}
	}
}

func (n *node) mono() time.Duration {
	return time.Second + time.Duration(float64(n.w.now-n.born)*n.rate)
}

func (n *node) time() shardlog.Now {
	return shardlog.Now{Mono: n.mono(), Wall: objectlog.Timestamp((n.w.now + n.skew) / time.Millisecond)}
}

// tick calls do when the boot's monotonic clock shows at, unless *wake was moved meanwhile.
func (n *node) tick(wake *time.Duration, at time.Duration, do func()) {
	if *wake != 0 && *wake <= at {
		return
	}
	*wake = at
	d := time.Duration(float64(at-n.mono())/n.rate) + time.Microsecond
	n.w.to(n, max(d, 0), func() {
		if *wake == at {
			*wake = 0
			do()
		}
	})
}

// step gives the core of a shard an event and carries out what it wants.
func (n *node) step(s int, e shardlog.Event) {
	if n.dead {
		return
	}
	r := n.replicas[s]
	for _, effect := range r.core.Step(n.time(), e) {
		n.carryOut(s, r, effect)
	}
	if at := r.core.Status(n.mono()).Applied; at != r.applied {
		r.applied = at
		n.w.trace("applied", n.place, int64(s), int64(at))
		n.w.stats.Applied++
		if at%4 == 0 {
			n.w.check.state(s, at, stateHash(r.state))
		}
	}
	if at, ok := r.core.NextWake(); ok {
		n.tick(&r.wake, at, func() { n.step(s, shardlog.Tick{}) })
	}
}

func stateHash(s *metadata.State) uint64 {
	h := fnv.New64a()
	h.Write(s.View().Encode(nil))
	return h.Sum64()
}

func (n *node) carryOut(s int, r *replica, effect shardlog.Effect) {
	w := n.w
	switch e := effect.(type) {
	case shardlog.PutItem:
		w.putItem(n, e.Item, e.Cond, func(res metadata.PutResult) { n.step(s, shardlog.PutDone{ID: e.ID, Result: res}) })
	case shardlog.GetItem:
		w.getItem(n, e.Key, func(item metadata.Item, ok bool, err error) {
			n.step(s, shardlog.ItemRead{ID: e.ID, Item: item, Found: ok, Err: err})
		})
	case shardlog.LoadSnapshot:
		w.getObject(n, w.keys.Snapshot(e.Name), objectlog.Extent{}, func(b []byte, err error) {
			n.step(s, shardlog.SnapshotLoaded{ID: e.ID, Body: b, Err: err})
		})
	case shardlog.StoreSnapshot:
		n.storeSnapshot(s, e)
	case shardlog.DeleteSnapshots:
		n.deleteSnapshots(objectlog.Shard(s), e)
	case shardlog.ReadFooters:
		n.readFooters(e.Refs, nil, func(footers [][]byte, err error) {
			n.step(s, shardlog.FootersRead{ID: e.ID, Footers: footers, Err: err})
		})
	case shardlog.Decided:
		if !r.pending[e.ID] {
			w.fail("protocol", "proposal %d answered twice", e.ID)
		}
		delete(r.pending, e.ID)
		if f := r.proposals[e.ID]; f != nil {
			delete(r.proposals, e.ID)
			f(e)
		}
	case shardlog.CurrentAnswered:
		if f := r.currents[e.ID]; f != nil {
			delete(r.currents, e.ID)
			f(e)
		}
	case shardlog.Committed:
		w.stats.Entries++
		for p := range places {
			if p != n.place {
				w.tell(n, p, func(m *node) {
					m.step(s, shardlog.Followed{Leader: n.boot, Entries: []shardlog.Committed{e}})
				})
			}
		}
	case shardlog.Alarm:
		w.trace("alarm", n.place, int64(s))
		if errors.Is(e.Err, shardlog.ErrHalted) {
			w.fail("halt", "agent %d: %v", n.place, e.Err)
		}
	}
}

func (n *node) storeSnapshot(s int, e shardlog.StoreSnapshot) {
	key := n.w.keys.Snapshot(e.Name)
	n.w.putObject(n, key, e.Encode, e.Nonce, func(err error) {
		if err != nil {
			n.step(s, shardlog.SnapshotStored{ID: e.ID, Err: err})
			return
		}
		n.w.getObject(n, key, objectlog.Extent{}, func(b []byte, err error) {
			n.step(s, shardlog.SnapshotStored{ID: e.ID, Body: b, Err: err})
		})
	})
}

func (n *node) deleteSnapshots(s objectlog.Shard, e shardlog.DeleteSnapshots) {
	names := e.Names
	if e.Below > 0 {
		for _, key := range n.w.list(n.w.keys.SnapshotPrefix(s)) {
			if name, ok := n.w.keys.ParseSnapshot(key); ok && e.Covers(name) {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		if e.Covers(name) {
			n.w.deleteObject(n, n.w.keys.Snapshot(name))
		}
	}
}

func (n *node) readFooters(refs []metadata.FooterRef, got [][]byte, done func([][]byte, error)) {
	if len(got) == len(refs) {
		done(got, nil)
		return
	}
	ref := refs[len(got)]
	n.w.getObject(n, n.w.keys.Segment(ref.Segment), ref.Section.Extent, func(b []byte, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		n.readFooters(refs, append(got, b), done)
	})
}
