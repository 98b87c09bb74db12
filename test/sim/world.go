// Package sim runs the cores that ship (shard logs, replicated state, leadership, write path) of three agents in one goroutine, with table, bucket,
// network and clock faked, from one seed: the same seed gives the same history, hash included. What clients see is checked against the
// invariants of FAULTS.md.
package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	tablemem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	bucketmem "github.com/splashdam/splashdam/objectlog/mem"
)

const (
	// places are the addresses at which an agent may run.
	places = 4
	// agents run at a time; each restart is a new boot, at the same place or at the free one.
	agents = 3
)

// world is everything outside of the cores. Nothing in it is touched by a second goroutine.
type world struct {
	opt     Options
	now     time.Duration
	queue   eventQueue
	ordered uint64 // events scheduled so far: ties of time are broken by it

	fate    *rand.Rand // of messages
	lives   *rand.Rand // of boots: their own randomness
	choices *rand.Rand // of clients and of the setting

	table  tablemem.Table
	bucket bucketmem.Bucket
	keys   objectlog.Keys
	set    setting
	links  links
	noise  noise

	at       [places]*node            // nil while nobody runs there
	dark     [places]bool             // nothing answers there, not even a refusal: the machine is gone
	boots    int64                    // ordinals taken
	known    map[objectlog.UUID]*node // every boot there ever was
	gone     []*node                  // dead boots
	registry []*listing
	epochs   []objectlog.Epoch // newest known to anybody, by shard
	changes  int               // of them
	stats    Stats
	check    *checker
	who      []*producer
	topic    []topic
	groups   []string // names
	seats    []*seat
	lasts    []*seat // of the members that read to the end when all is over
	queueing queueing
	healed   time.Duration   // when the faults ended
	changed  []time.Duration // when the newest epoch of a shard began

	hash uint64   // of the history so far
	log  []string // the same in words, when asked for
	err  error    // the first violation
}

// setting is what a seed chooses for all its agents.
type setting struct {
	shards        int
	slots         int
	lease         time.Duration
	entryBytesMax int
	snapshotEvery time.Duration
	tailMax       int // entries that an agent keeps for its followers
}

// after makes something happen later.
func (w *world) after(d time.Duration, do func()) {
	w.ordered++
	w.queue.add(event{w.now + d, w.ordered, do})
}

// to makes something happen to a boot later: not if it is dead by then, and when it goes on if it is paused.
func (w *world) to(n *node, d time.Duration, do func()) {
	w.after(d, func() {
		switch {
		case n.dead:
		case n.pausedUntil > w.now:
			w.to(n, n.pausedUntil-w.now, do)
		default:
			do()
		}
	})
}

// run lets things happen until a time, until done, which is asked once in a millisecond, says so, or until something is wrong.
func (w *world) run(until time.Duration, done func() bool) {
	for asked := w.now; w.err == nil && len(w.queue) > 0 && w.queue[0].at <= until; {
		if done != nil && w.now >= asked {
			asked = w.now + time.Millisecond
			if done() {
				return
			}
		}
		e := w.queue.take()
		w.now = e.at
		e.do()
	}
	if w.err == nil && w.now < until && (done == nil || !done()) {
		w.now = until
	}
}

// trace adds one happening to the history.
func (w *world) trace(what string, place int, numbers ...int64) {
	h := w.hash
	mix := func(b byte) { h = (h ^ uint64(b)) * 0x100000001b3 } // FNV-1a
	put := func(n int64) {
		for i := range 8 {
			mix(byte(n >> (8 * i)))
		}
	}
	put(int64(w.now))
	for i := range len(what) {
		mix(what[i])
	}
	put(int64(place))
	for _, n := range numbers {
		put(n)
	}
	w.hash = h
	if w.opt.Log {
		w.log = append(w.log, fmt.Sprintf("%9.3f ms  agent %d  %s %v", float64(w.now)/1e6, place, what, numbers))
	}
}

// stopped are the anomalies that damage may cause: something is not available. None of them misleads a client.
var stopped = map[string]bool{"halt": true, "lost-object": true, "corrupt": true, "unavailable": true, "unseen": true}

// fail records the first violation; the run ends.
func (w *world) fail(name, format string, args ...any) {
	if w.opt.Damage && stopped[name] {
		w.stats.Stopped++
		return
	}
	if w.err == nil {
		w.err = fmt.Errorf("%s at %.3f ms: %s", name, float64(w.now)/1e6, fmt.Sprintf(format, args...))
	}
}

// chance is true with probability p. It draws even when p is 0, so that a quiet link does not shift the fates of the others.
func (w *world) chance(p float64) bool { return w.fate.Float64() < p }

// between is a random duration in [a, b).
func between(r *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(max(b-a, 1))))
}
