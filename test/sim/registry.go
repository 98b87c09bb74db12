package sim

import (
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

// listing is an agent's item in the table. It stays behind a crash.
type listing struct {
	of *node
	at time.Duration // newest heartbeat
}

const (
	heartbeatEvery = 10 * time.Second
	heartbeatRetry = time.Second
	// listedFor is how long an item may stand still before the leader of shard 0 removes it.
	listedFor = time.Minute
)

// beat puts the agent's item, and looks who else has one.
func (n *node) beat() {
	w := n.w
	again := func(d time.Duration) { w.to(n, d, n.beat) }
	sweeps := n.replicas[0].core.Status(n.mono()).Role == shardlog.RoleLeading
	request(w, n, theTable, true, func() bool {
		w.enter(n)
		if sweeps {
			w.unlist(func(l *listing) bool { return w.now-l.at > listedFor })
		}
		return true
	}, func(bool) { n.list(func() { again(heartbeatEvery) }) }, func() { again(heartbeatRetry) })
}

func (n *node) list(done func()) {
	w := n.w
	request(w, n, theTable, false, func() lead.Listed {
		var e lead.Listed
		for _, l := range w.registry {
			if l.of != n {
				e.Peers = append(e.Peers, l.of.peer())
			}
		}
		return e
	}, func(e lead.Listed) {
		if n.lead.listed == 0 {
			n.lead.listed = w.now
		}
		n.learn(e)
		done()
	}, func() { w.to(n, heartbeatRetry, func() { n.list(done) }) })
}

// leave removes the agent's own item.
func (n *node) leave() {
	n.left = true
	request(n.w, n, theTable, true, func() bool {
		n.w.unlist(func(l *listing) bool { return l.of == n })
		return true
	}, func(bool) {}, func() {})
}

func (w *world) enter(n *node) {
	for _, l := range w.registry {
		if l.of == n {
			l.at = w.now
			return
		}
	}
	if !n.left {
		w.registry = append(w.registry, &listing{n, w.now})
	}
}

func (w *world) unlist(drop func(*listing) bool) {
	kept := w.registry[:0]
	for _, l := range w.registry {
		if !drop(l) {
			kept = append(kept, l)
		}
	}
	clear(w.registry[len(kept):])
	w.registry = kept
}
