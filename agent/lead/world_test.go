package lead

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	ms    = time.Millisecond
	lease = 3 * time.Second
	hop   = ms // one way between two agents, or to the table
)

// world runs Cores over shard logs that never fail, on one clock from one seed.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Duration
	queue happenings
	order int
	nodes []*node
	items []listing
	logs  []leaseItem
	cut   map[[2]int]bool // from the first to the second: connections are refused
	lost  map[[2]int]bool // likewise: another agent answers at the second one's address
	log   []string        // everything but pings
	told  []gone
}

// listing is an agent's item in the table.
type listing struct {
	n  *node
	at time.Duration // when it died; 0: it did not
}

// leaseItem is one shard's.
type leaseItem struct {
	epoch  objectlog.Epoch
	holder *node
	moved  time.Duration // the last change by a dead holder; a living one renews all the time
}

// gone is a HolderGone that was told.
type gone struct {
	at     time.Duration
	by     *node
	shard  objectlog.Shard
	holder objectlog.UUID
}

type node struct {
	w        *world
	id       int
	self     Peer
	core     *Core
	dead     bool
	silent   bool // dead, and nothing refuses connections in its place
	barred   bool // from the table
	draining bool
	wake     time.Duration
	pinging  map[objectlog.UUID]bool
	replicas []*replica
}

type replica struct {
	status shardlog.Status
	rank   int
	gone   objectlog.UUID
	since  time.Duration // of the watch
	look   time.Duration
	from   objectlog.UUID
	stream int
}

type happening struct {
	at    time.Duration
	order int
	do    func()
}

type happenings []happening

func (q happenings) Len() int { return len(q) }
func (q happenings) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q happenings) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *happenings) Push(x any)   { *q = append(*q, x.(happening)) }
func (q *happenings) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

func newWorld(t *testing.T, seed uint64, shards int) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Second, logs: make([]leaseItem, shards), cut: map[[2]int]bool{}, lost: map[[2]int]bool{}}
}

func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, happening{w.now + d, w.order, do})
}

func (w *world) run(d time.Duration) {
	until := w.now + d
	for steps := 0; len(w.queue) > 0 && w.queue[0].at <= until; steps++ {
		if steps > 5_000_000 {
			w.t.Fatal("the world does not come to rest")
		}
		h := heap.Pop(&w.queue).(happening)
		w.now = h.at
		h.do()
	}
	w.now = until
}

func (w *world) start(name string) *node {
	n := &node{w: w, id: len(w.nodes), self: Peer{Boot: objectlog.NewUUID(w.rng.Uint64), Name: name}, pinging: map[objectlog.UUID]bool{}}
	n.core = New(Config{Self: n.self, Shards: len(w.logs), Lease: lease, Random: w.rng.Uint64})
	w.nodes = append(w.nodes, n)
	w.items = append(w.items, listing{n: n})
	for range w.logs {
		n.replicas = append(n.replicas, &replica{})
	}
	n.step(Tick{})
	w.after(hop, func() { n.list() })
	for s := range n.replicas {
		n.lookIn(s, hop)
	}
	return n
}

// list tells the node the table's list, now and again.
func (n *node) list() {
	var e Listed
	for _, item := range n.w.items {
		if item.n != n && (item.at == 0 || n.w.now-item.at < time.Minute) {
			e.Peers = append(e.Peers, item.n.self)
		}
	}
	n.step(e)
	n.w.after(10*time.Second, n.list)
}

func (n *node) kill(silent bool) {
	w := n.w
	n.dead, n.silent = true, silent
	for i := range w.items {
		if w.items[i].n == n {
			w.items[i].at = w.now
		}
	}
	for s := range w.logs {
		if w.logs[s].holder == n {
			w.logs[s].moved = w.now
		}
	}
	if silent {
		return
	}
	for _, m := range w.nodes {
		for s := range m.replicas {
			m.endStream(s, n)
		}
	}
}

// endStream ends the stream that the node follows from m, if it does.
func (n *node) endStream(s int, m *node) {
	r := n.replicas[s]
	if r.from != m.self.Boot {
		return
	}
	stream := r.stream
	n.w.after(hop, func() {
		if r.stream == stream {
			n.step(StreamEnded{Shard: objectlog.Shard(s), Boot: m.self.Boot})
		}
	})
}

func (w *world) node(boot objectlog.UUID) *node {
	for _, n := range w.nodes {
		if n.self.Boot == boot {
			return n
		}
	}
	return nil
}

func (n *node) step(e Event) {
	if n.dead {
		return
	}
	for _, f := range n.core.Step(n.w.now, e) {
		n.carryOut(f)
	}
	if at, ok := n.core.NextWake(); ok {
		if at <= n.w.now {
			n.w.t.Fatalf("%s at %v: woken at once again, behind %T", n.self.Name, n.w.now, e)
		}
		n.wake = at
		n.w.after(at-n.w.now, func() {
			if n.wake == at {
				n.step(Tick{})
			}
		})
	}
}

func (n *node) say(format string, args ...any) {
	n.w.log = append(n.w.log, fmt.Sprintf("%9.3fs %s: ", n.w.now.Seconds(), n.self.Name)+fmt.Sprintf(format, args...))
}

func (n *node) carryOut(f Effect) {
	w := n.w
	switch f := f.(type) {
	case Ping:
		n.ping(w.node(f.Boot))
		return
	case Follow:
		r := n.replicas[f.Shard]
		r.from = f.Boot
		r.stream++
		if m := w.node(f.Boot); m != nil && (m.dead || w.cut[[2]int{n.id, m.id}] || m.replicas[f.Shard].status.Role != shardlog.RoleLeading) {
			n.endStream(int(f.Shard), m)
		}
	case Tell:
		r := n.replicas[f.Shard]
		switch e := f.Event.(type) {
		case shardlog.Ranked:
			r.rank = e.Rank
		case shardlog.HolderGone:
			r.gone = e.Holder
			w.told = append(w.told, gone{w.now, n, f.Shard, e.Holder})
		}
		r.since = 0
		n.lookIn(int(f.Shard), hop)
	case HandOff:
		w.after(hop, func() { n.handOff(f) })
	}
	n.say("%T%v", f, f)
}

func (n *node) ping(m *node) {
	w := n.w
	if n.pinging[m.self.Boot] {
		w.t.Fatalf("%s has two pings to %s under way", n.self.Name, m.self.Name)
	}
	n.pinging[m.self.Boot] = true
	answer := func(d time.Duration, e func() Event) {
		w.after(d, func() {
			n.pinging[m.self.Boot] = false
			n.step(e())
		})
	}
	mine := n.greeting()
	mine.Unasked = true
	w.after(hop, func() {
		switch {
		case m.silent:
			answer(time.Second, func() Event { return Failed{Boot: m.self.Boot} })
		case w.lost[[2]int{n.id, m.id}]:
			answer(hop, func() Event { return Failed{Boot: m.self.Boot, Gone: true} })
		case m.dead || w.cut[[2]int{n.id, m.id}]:
			refused := Failed{Boot: m.self.Boot, Refused: true}
			for _, x := range w.nodes {
				if m.dead && x.id > m.id && x.self.Name == m.self.Name && !x.dead {
					refused = Failed{Boot: m.self.Boot, Gone: true}
				}
			}
			answer(hop, func() Event { return refused })
		default:
			m.step(mine)
			theirs := m.greeting()
			answer(hop, func() Event { return theirs })
		}
	})
}

func (n *node) greeting() Heard {
	h := Heard{Peer: n.self, Draining: n.draining}
	for _, r := range n.replicas {
		h.Reports = append(h.Reports, Report{Leads: r.status.Role == shardlog.RoleLeading, Epoch: r.status.Epoch, Leader: r.status.Leader})
	}
	return h
}

func (n *node) handOff(f HandOff) {
	w, l := n.w, &n.w.logs[f.Shard]
	if n.dead {
		return
	}
	if n.barred {
		n.step(HandedOff{Shard: f.Shard, Err: errors.New("away")})
		return
	}
	if l.holder == n { // else there is nothing to let go of any more
		l.holder = nil
		n.replicas[f.Shard].rank = -1
		n.move(int(f.Shard), shardlog.RoleFollowing)
	}
	if m := w.node(f.To); m != nil && !w.cut[[2]int{n.id, m.id}] {
		w.after(hop, func() { m.step(Offered{Shard: f.Shard, Holder: n.self.Boot, Epoch: f.Epoch}) })
	}
	n.step(HandedOff{Shard: f.Shard})
}

// lookIn lets the replica look at the lease item later.
func (n *node) lookIn(s int, d time.Duration) {
	r := n.replicas[s]
	at := n.w.now + d
	r.look = at
	n.w.after(d, func() {
		if r.look == at && !n.dead {
			n.lookAt(s)
		}
	})
}

func (n *node) lookAt(s int) {
	w, r, l := n.w, n.replicas[s], &n.w.logs[s]
	every := lease / 3
	if r.rank < 0 {
		every = 2 * lease
	}
	n.lookIn(s, every)
	if n.barred || l.holder == n {
		return
	}
	if l.epoch != r.status.Epoch {
		r.gone = objectlog.UUID{}
	}
	if r.since == 0 || l.epoch != r.status.Epoch {
		r.since = w.now
	}
	n.move(s, shardlog.RoleFollowing)
	if l.holder != nil && !l.holder.dead && !l.holder.barred {
		l.moved = w.now
	}
	free := l.holder == nil && (r.rank == 0 || !r.gone.IsZero()) || l.holder != nil && l.holder.self.Boot == r.gone
	if r.rank >= 0 && (free || w.now-max(l.moved, r.since) >= lease+time.Duration(r.rank)*lease/2) {
		old := l.holder
		l.epoch, l.holder, r.gone = l.epoch+1, n, objectlog.UUID{}
		n.move(s, shardlog.RoleClaiming)
		if old != nil {
			w.after(hop, func() { old.move(s, shardlog.RoleFollowing) })
		}
		w.after(3*hop, func() {
			if w.logs[s].holder == n && !n.dead {
				n.move(s, shardlog.RoleLeading)
			}
		})
	}
}

// move tells the core what the replica knows now.
func (n *node) move(s int, role shardlog.Role) {
	r, l := n.replicas[s], n.w.logs[s]
	was := r.status
	r.status = shardlog.Status{Role: role, Epoch: l.epoch}
	if l.holder != nil {
		r.status.Leader = l.holder.self.Boot
	}
	if r.status == was || n.dead {
		return
	}
	if was.Role != role {
		n.say("shard %d: role %d", s, role)
	}
	if was.Role == shardlog.RoleLeading && role != was.Role {
		for _, m := range n.w.nodes {
			m.endStream(s, n)
		}
	}
	n.step(Moved{Shard: objectlog.Shard(s), Status: r.status})
}

// leading answers who leads the shard; empty: nobody.
func (w *world) leading(s int) string {
	for _, n := range w.nodes {
		if !n.dead && n.replicas[s].status.Role == shardlog.RoleLeading {
			return n.self.Name
		}
	}
	return ""
}

// wantOwners checks that every shard is led by the first of the living agents' order.
func (w *world) wantOwners() {
	w.t.Helper()
	var living []Peer
	for _, n := range w.nodes {
		if !n.dead && !n.draining {
			living = append(living, n.self)
		}
	}
	for s := range w.logs {
		want := Rendezvous(fmt.Sprintf("shard#%d", s), living)[0].Name
		if got := w.leading(s); got != want {
			w.t.Errorf("shard %d is led by %q, want %q", s, got, want)
		}
	}
}
