package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// Options say what a history is like. The zero value of a field is its default.
type Options struct {
	Ops    int           // client writes, about; default 160
	Span   time.Duration // virtual time with faults; default 20 s
	Log    bool          // keep the history in words
	Damage bool          // stored bytes are damaged too: what needs them may stop, but never mislead
	Only   []int         // faults to keep, by index; nil: all
	Alone  string        // the one fault of the history, at the leader of shard 0 where it concerns an agent; empty: many
}

// Stats count what a history held.
type Stats struct {
	Ops, Acks, Reads, Unknown, Refused, Duplicates, Faults, Entries, Applied, Boots, Stopped, Pings, HandOffs, Compared, Changes, Storm int

	Members, Beats, Moves, Processed, Positions, Back, Fenced, Expired int // of consumer groups

	Pulled, Delivered, Accepted, Elapsed, Letters, Rewritten, Redriven, TakenBack int // of queues

	Leaderless time.Duration // the longest time that a shard had no leader, behind the one fault
}

// Result is a history's outcome.
type Result struct {
	Hash   uint64
	Err    error // the first violation; nil: none
	Stats  Stats
	Faults []fault
	Log    []string
}

const (
	quiesce  = 60 * time.Second // nothing may be undecided so long after the last fault
	recovery = 10 * time.Second // the first write after the last fault may take so long
)

// Run makes one history.
func Run(seed uint64, opt Options) Result {
	if opt.Ops == 0 {
		opt.Ops = 160
	}
	if opt.Span == 0 {
		opt.Span = 20 * time.Second
	}
	w := newWorld(seed, opt)
	faults := chooseFaults(draws(seed, 4), opt.Span, 2)
	if opt.Alone != "" {
		faults = []fault{chooseAlone(draws(seed, 4), opt.Alone, opt.Span)}
	}
	if opt.Damage {
		faults = append(faults, chooseDamage(draws(seed, 5), opt.Span, 2)...)
	}
	w.create()
	if w.err == nil {
		for i, f := range faults {
			if wanted(i, opt.Only) {
				w.strike(f)
			}
		}
		w.clients()
		w.consumers()
		w.queueConsumers()
		w.run(w.opt.Span, nil)
		w.recover()
	}
	w.stats.Acks, w.stats.Boots, w.stats.Changes = w.check.acks, int(w.boots), w.changes
	if w.err != nil && opt.Log {
		w.describe()
	}
	return Result{Hash: w.hash, Err: w.err, Stats: w.stats, Faults: faults, Log: w.log}
}

func draws(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// newWorld is a world in which nothing has happened yet.
func newWorld(seed uint64, opt Options) *world {
	w := &world{opt: opt, known: map[objectlog.UUID]*node{}, fate: draws(seed, 1), lives: draws(seed, 2), choices: draws(seed, 3)}
	w.check = newChecker(w)
	w.choose()
	w.chooseQueues(draws(seed, 6))
	return w
}

// describe adds to the history in words where every replica stands.
func (w *world) describe() {
	for _, n := range w.at {
		if n == nil {
			continue
		}
		for s, r := range n.replicas {
			w.log = append(w.log, fmt.Sprintf("boot %d at agent %d, shard %d: %+v", n.ordinal, n.place, s, r.core.Status(n.mono())))
		}
	}
}

func wanted(i int, only []int) bool {
	if only == nil {
		return true
	}
	for _, o := range only {
		if o == i {
			return true
		}
	}
	return false
}

func (w *world) choose() {
	r := w.choices
	w.set = setting{shards: 2, slots: []int{4, 8, 16, 64}[r.IntN(4)], lease: between(r, 500*time.Millisecond, 2*time.Second),
		entryBytesMax: []int{120, 400, 8 << 10}[r.IntN(3)], snapshotEvery: between(r, time.Second, 10*time.Second),
		tailMax: []int{2, 8, 64}[r.IntN(3)]}
	w.epochs, w.changed, w.check.tags = make([]objectlog.Epoch, w.set.shards), make([]time.Duration, w.set.shards), make([][]fate, w.set.shards)
	w.check.groups.seq, w.check.groups.by = slices.Repeat([]metadata.Seq{-1}, w.set.shards), make([]*machine, w.set.shards)
	w.check.queues.seq, w.check.queues.by = slices.Clone(w.check.groups.seq), make([]*queueMachine, w.set.shards)
	w.keys = objectlog.Keys{Prefix: "sim", Cluster: objectlog.UUID{1}}
	for i := range 3 {
		t := topic{name: topicNames[i], partitions: 2}
		for t.id = (objectlog.UUID{byte(i + 1)}); ; t.id[15]++ { // one topic in one shard, two in the other
			if t.shard = int(metadata.ShardOf(t.id, 0, w.set.shards)); t.shard == i%w.set.shards {
				break
			}
		}
		w.topic = append(w.topic, t)
	}
}

// logs are the partitions of the topics that the catalog knows: at first two of each.
func (w *world) logs() []log {
	var all []log
	for i, t := range w.topic[:len(topicNames)] {
		for p := range t.partitions {
			all = append(all, log{i, objectlog.Partition(p)})
		}
	}
	return all
}

// create makes the rings, boots the agents and creates the topics, without faults.
func (w *world) create() {
	for s := range w.set.shards {
		if err := shardlog.Create(context.Background(), &w.table, objectlog.Shard(s), w.set.slots, w.lives.Uint64); err != nil {
			w.fail("create", "%v", err)
			return
		}
	}
	for p := range agents {
		w.start(p, 1)
	}
	made := 0
	for i, t := range w.topic {
		w.insist(t.shard, []metadata.Command{metadata.AddPartitions{Topic: t.id, From: 0, To: 2}.Command()}, func() {
			if i == lettersTopic {
				made++
				return
			}
			w.insist(0, []metadata.Command{metadata.CreateTopic{ID: t.id, Name: t.name, Partitions: 2}.Command(), metadata.ActivateTopic{ID: t.id, Partitions: 2}.Command()},
				func() { made++ })
		})
	}
	w.run(w.now+time.Minute, func() bool { return made == len(w.topic) })
	if made < len(w.topic) {
		w.fail("unavailable", "no topics after a minute without faults")
	}
	w.opt.Span += w.now // from here on, when the faults end
}

func (w *world) clients() {
	logs := w.logs()
	for i := range 9 {
		w.newProducer(manner(i%int(manners)), logs[w.choices.IntN(len(logs))])
	}
	for _, p := range w.who {
		p.schedule()
	}
	for _, l := range logs {
		w.newReader(l).schedule()
	}
	if w.opt.Alone == "" && w.choices.IntN(2) == 0 {
		i := w.choices.IntN(len(topicNames))
		w.after(between(w.choices, 0, w.opt.Span-w.now), func() { w.grow(i) })
	}
}

// recover heals everything and checks that the cluster comes back: a write to every partition within 10 s, nothing undecided after 60 s, every
// agent's state the same, everything acknowledged there.
func (w *world) recover() {
	w.heal()
	w.healed = w.now
	healed, epochs := w.now, slices.Clone(w.epochs)
	if !w.opt.Damage {
		w.finish()
	}
	var probes []*producer
	for _, l := range w.logs() {
		p := w.newProducer(idempotent, l)
		p.begin()
		probes = append(probes, p)
	}
	recovered := func() bool {
		for _, p := range probes {
			if p.done == 0 {
				return false
			}
		}
		return true
	}
	if !w.opt.Damage {
		w.claimed()
	}
	w.run(healed+recovery, recovered)
	if w.err == nil && !recovered() {
		w.fail("unavailable", "no write to every partition within %v of the last fault", recovery)
	}
	idle := func() bool {
		for _, p := range w.who {
			if p.op != nil {
				return false
			}
		}
		return true
	}
	w.run(healed+quiesce, idle)
	if w.err == nil && !idle() {
		w.fail("unseen", "a batch is undecided %v after the last fault", quiesce)
	}
	if !w.opt.Damage {
		w.settle(epochs)
		w.farewell()
	}
	w.silence()
	w.compare(w.now + quiesce + recovery)
}

// compare makes every agent current, and a new one from the stores alone, and reads everything through each.
func (w *world) compare(until time.Duration) {
	for p, n := range w.at {
		if n != nil {
			w.kill(p)
			w.start(p, 1)
			break
		}
	}
	current := 0
	for _, n := range w.at {
		if n == nil {
			continue
		}
		for s := range n.replicas {
			n.current(s, func(metadata.Seq) { current++ }, nil)
		}
	}
	all := agents * w.set.shards
	w.run(until, func() bool { return current == all })
	if w.err == nil && current < all {
		w.fail("unavailable", "%d of %d replicas are current, %v after the last fault", current, all, quiesce)
	}
	for _, n := range w.at {
		if n == nil {
			continue
		}
		for s, r := range n.replicas {
			if r.core.Status(n.mono()).Role == shardlog.RoleHalted {
				return // of damage
			}
			w.check.state(s, r.core.Status(n.mono()).Applied, r.hash())
		}
		w.check.whole(n)
	}
	if w.err == nil && !w.opt.Damage {
		w.check.queues.whole()
	}
}

// Minimise drops faults from a failing history for as long as it still fails in the same way, and answers those that are left.
func Minimise(seed uint64, opt Options) []int {
	first := Run(seed, opt)
	only := make([]int, len(first.Faults))
	for i := range only {
		only[i] = i
	}
	for i := 0; i < len(only); {
		fewer := append(append([]int{}, only[:i]...), only[i+1:]...)
		opt.Only = fewer
		if r := Run(seed, opt); r.Err != nil && anomaly(r.Err) == anomaly(first.Err) {
			only = fewer
		} else {
			i++
		}
	}
	return only
}

func anomaly(err error) string {
	name, _, _ := strings.Cut(fmt.Sprint(err), " ")
	return name
}

// Explain describes a failing history: its seed, the faults that it takes, and the end of what happened.
func Explain(seed uint64, opt Options, lines int) string {
	opt.Only = Minimise(seed, opt)
	opt.Log = true
	r := Run(seed, opt)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\nfaults needed:\n", seed, r.Err)
	for _, i := range opt.Only {
		fmt.Fprintf(&b, "  %2d %v\n", i, r.Faults[i])
	}
	fmt.Fprintf(&b, "the last of %d happenings:\n", len(r.Log))
	for _, l := range r.Log[max(0, len(r.Log)-lines):] {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}
