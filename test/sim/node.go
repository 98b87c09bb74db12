package sim

import (
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// node is one boot of an agent: the cores that ship, and what a driver keeps.
type node struct {
	w           *world
	place       int
	level       int // of the format: agents of two levels refuse each other
	boot        objectlog.UUID
	ordinal     int64
	dead        bool
	draining    bool
	left        bool // its item is not to be put any more
	pausedUntil time.Duration

	born  time.Duration
	rate  float64 // of its monotonic clock
	skew  time.Duration
	rng   *rand.Rand
	asked uint64 // ids of proposals and current reads

	catalog  *topicList // as it was applied when it was last looked at
	lead     leading
	replicas []*replica
	writer   *write.Core
	wake     time.Duration // of the writer's next tick; 0: none
}

// replica is one shard log at one boot.
type replica struct {
	core     *shardlog.Core
	state    *metadata.State
	groups   *groups.State
	sessions coordinating
	queues   *queues.State
	waits    ticking
	moving   moving
	applied  metadata.Seq
	role     shardlog.Role
	wake     time.Duration
	pending  map[uint64]func(shardlog.Decided) // proposals handed to the core: each is answered once
	currents map[uint64]func(shardlog.CurrentAnswered)

	told     shardlog.Status // to the leadership's core
	toldAt   time.Duration
	noticing bool
	idle     []func() // waits for the end of a tenure

	subs   []*sub
	living bool // signs of life are under way
	tail   []shardlog.Committed
	print  shardlog.Fingerprint // newest
}

// start boots an agent at a place, whose clock may go wrong by a fifth.
func (w *world) start(place, level int) *node {
	w.boots++
	rng := rand.New(rand.NewPCG(w.lives.Uint64(), w.lives.Uint64()))
	n := &node{w: w, place: place, level: level, ordinal: w.boots, born: w.now, rng: rng, rate: 0.8 + 0.4*rng.Float64()}
	n.boot = n.uuid()
	n.writer = write.NewCore(write.Config{Shards: w.set.shards, BufferBytesMax: 1 << 20, SegmentBytesMax: 4 << 10, FlushRate: 20, FlushBurst: 2,
		Timeout: 5 * time.Second, UploadsMax: 4})
	for s := range w.set.shards {
		n.replicas = append(n.replicas, n.newReplica(objectlog.Shard(s)))
	}
	n.newLeading()
	w.at[place], w.known[n.boot], w.dark[place] = n, n, false
	w.trace("starts", place, n.ordinal, int64(level))
	for s := range n.replicas {
		n.step(s, shardlog.Tick{})
	}
	n.learn(lead.Tick{})
	n.beat()
	w.to(n, between(rng, 0, sessionTick), n.coordinate)
	return n
}

func (n *node) newReplica(s objectlog.Shard) *replica {
	w := n.w
	r := &replica{state: metadata.NewState(metadata.Config{Shard: s, Shards: w.set.shards}), applied: -1, groups: groups.NewState(), queues: queues.NewState(),
		currents: map[uint64]func(shardlog.CurrentAnswered){}, pending: map[uint64]func(shardlog.Decided){}}
	r.sessions.core, r.waits.core = groups.NewCoordinator(), queues.NewClock()
	r.moving = moving{departing: map[queues.Key]bool{}, walks: map[objectlog.ProducerID]bool{}}
	r.core = shardlog.New(shardlog.Config{Shard: s, Cluster: w.keys.Cluster, Boot: n.boot, Lease: w.set.lease, EntryBytesMax: w.set.entryBytesMax,
		SnapshotEvery: w.set.snapshotEvery, Random: n.rng.Uint64}, []shardlog.Registration{{Name: "state", From: metadata.StateFrom, To: metadata.StateTo, Machine: r.state},
		{Name: "groups", From: groups.From, To: groups.To, Machine: &machine{State: r.groups, w: w, shard: int(s)}},
		{Name: "queues", From: queues.From, To: queues.To, Machine: &queueMachine{State: r.queues, w: w, shard: int(s), beside: r.state}},
		{Name: "tags", From: tagKind, To: tagKind + 1, Machine: &tags{w: w, shard: int(s)}}})
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
	if w.dark[place] {
		return
	}
	for _, m := range w.at { // connections end
		for s := range w.set.shards {
			if m != nil && m.lead.streams[s] != nil && m.lead.streams[s].boot == n.boot && !w.links.out[place][m.place] {
				st := m.lead.streams[s]
				w.to(m, w.delay(), func() { m.endStream(s, st) })
			}
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
	n.moved(s, r)
	if at, ok := r.core.NextWake(); ok {
		n.tick(&r.wake, at, func() { n.step(s, shardlog.Tick{}) })
	}
}

// moved looks what a step changed.
func (n *node) moved(s int, r *replica) {
	status := r.core.Status(n.mono())
	pumps := r.role != status.Role
	if at := status.Applied; at != r.applied {
		r.applied, pumps = at, true
		n.w.trace("applied", n.place, int64(s), int64(at))
		n.w.stats.Applied++
		if at%8 == 0 {
			n.w.check.state(s, at, r.hash())
		}
		n.wakeBeats(r)
	}
	if r.role != status.Role {
		r.role = status.Role
		n.w.trace("role", n.place, int64(s), int64(status.Role), int64(status.Epoch))
		n.wakeIdle(r, status.Role)
	}
	n.w.epoch(s, status.Epoch)
	n.notice(s, status)
	if pumps {
		n.pump(s, false)
	}
}

// epoch counts the changes of leadership.
func (w *world) epoch(s int, e objectlog.Epoch) {
	if e > w.epochs[s] {
		w.epochs[s], w.changed[s] = e, w.now
		w.changes++
	}
}

// hash is of the state of partitions, groups and queues.
func (r *replica) hash() uint64 {
	h := fnv.New64a()
	h.Write(r.queues.View().Encode(r.groups.View().Encode(r.state.View().Encode(nil))))
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
		f := r.pending[e.ID]
		if f == nil {
			w.fail("protocol", "proposal %d answered twice", e.ID)
			return
		}
		delete(r.pending, e.ID)
		f(e)
	case shardlog.CurrentAnswered:
		if f := r.currents[e.ID]; f != nil {
			delete(r.currents, e.ID)
			f(e)
		}
	case shardlog.Committed:
		w.stats.Entries++
		r.keep(e, w.set.tailMax)
	case shardlog.HashState:
		hash := e.Hash()
		w.to(n, w.delay(), func() {
			r.print = shardlog.Fingerprint{Seq: e.Seq, Hash: hash}
			w.check.fingerprint(s, r.print)
			n.step(s, shardlog.StateHashed{ID: e.ID, Hash: hash})
		})
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
