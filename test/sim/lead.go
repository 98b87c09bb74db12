package sim

import (
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// leading is what a driver keeps beside a lead.Core.
type leading struct {
	core    *lead.Core
	listed  time.Duration // when it first knew who else has an item in the table; 0: not yet
	wake    time.Duration
	streams []*stream // by shard: what is followed
	tenures []*tenure // by shard
}

// tenure is the time in which an agent knows one leader of a shard, or none.
type tenure struct {
	boot  objectlog.UUID
	over  bool
	ended []func() // who wants to know
}

// placeNames are the same for every boot at a place.
var placeNames = [places]string{"place-0", "place-1", "place-2", "place-3"}

func (n *node) peer() lead.Peer { return lead.Peer{Boot: n.boot, Name: placeNames[n.place]} }

func (n *node) newLeading() {
	w := n.w
	n.lead.core = lead.New(lead.Config{Self: n.peer(), Shards: w.set.shards, Lease: w.set.lease, Random: n.rng.Uint64})
	n.lead.streams = make([]*stream, w.set.shards)
	for range w.set.shards {
		n.lead.tenures = append(n.lead.tenures, &tenure{})
	}
}

// learn gives the core an event, ends the tenures that are over, and carries out what it wants.
func (n *node) learn(e lead.Event) {
	if n.dead {
		return
	}
	effects := n.lead.core.Step(n.mono(), e)
	var ended []func()
	for s, t := range n.lead.tenures {
		if boot, _ := n.lead.core.Leader(objectlog.Shard(s)); boot != t.boot {
			t.over = true
			ended = append(ended, t.ended...)
			n.lead.tenures[s] = &tenure{boot: boot}
		}
	}
	for _, f := range effects {
		n.carryOutLead(f)
	}
	for _, f := range ended {
		f()
	}
	if at, ok := n.lead.core.NextWake(); ok {
		n.tick(&n.lead.wake, at, func() { n.learn(lead.Tick{}) })
	}
}

func (n *node) carryOutLead(f lead.Effect) {
	switch f := f.(type) {
	case lead.Ping:
		n.ping(f.Boot)
	case lead.Follow:
		n.follow(int(f.Shard), f.Boot)
	case lead.Tell:
		switch e := f.Event.(type) {
		case shardlog.Ranked:
			n.w.trace("is ranked", n.place, int64(f.Shard), int64(e.Rank))
		case shardlog.HolderGone:
			n.w.trace("is told that a holder is gone", n.place, int64(f.Shard), n.w.known[e.Holder].ordinal)
		}
		n.step(int(f.Shard), f.Event)
	case lead.HandOff:
		n.handOff(int(f.Shard), f.To, f.Epoch)
	}
}

// notice tells the core, a moment later, how a replica fares. What moves on meanwhile is told once; how far the replica has come, a few times per
// lease.
func (n *node) notice(s int, status shardlog.Status) {
	r := n.replicas[s]
	same := status.Role == r.told.Role && status.Epoch == r.told.Epoch && status.Leader == r.told.Leader && status.Renewed == r.told.Renewed
	if r.noticing || same && (status.Applied == r.told.Applied || n.mono()-r.toldAt <= n.w.set.lease/6) {
		return
	}
	r.noticing = true
	n.w.to(n, between(n.rng, 0, 100*time.Microsecond), func() {
		r.noticing, r.told, r.toldAt = false, r.core.Status(n.mono()), n.mono()
		n.learn(lead.Moved{Shard: objectlog.Shard(s), Status: r.told})
	})
}

// greeting is what the agent says of itself.
func (n *node) greeting() lead.Heard {
	h := lead.Heard{Peer: n.peer(), Draining: n.draining, Reports: make([]lead.Report, len(n.replicas))}
	for s, r := range n.replicas {
		status := r.core.Status(n.mono())
		h.Reports[s] = lead.Report{Leads: status.Role == shardlog.RoleLeading, Epoch: status.Epoch, Leader: status.Leader, Applied: status.Applied,
			Halted: status.Role == shardlog.RoleHalted}
	}
	return h
}

// ping greets whoever is where the boot runs, or ran.
func (n *node) ping(boot objectlog.UUID) {
	mine := n.greeting()
	mine.Unasked = true
	n.w.stats.Pings++
	n.call(n.w.known[boot].place, n.w.set.lease/3, func(m *node, reply func(func())) {
		m.learn(mine)
		theirs := m.greeting()
		reply(func() {
			if m.boot == boot {
				n.learn(theirs)
				return
			}
			theirs.Unasked = true
			n.learn(theirs)
			n.learn(lead.Failed{Boot: boot, Gone: true})
		})
	}, func(o outcome) { n.learn(lead.Failed{Boot: boot, Refused: o == refused}) })
}

// handOff lets go of a shard, then offers it.
func (n *node) handOff(s int, to objectlog.UUID, epoch objectlog.Epoch) {
	n.w.trace("hands off", n.place, int64(s), int64(epoch))
	n.w.stats.HandOffs++
	handed := func() { n.learn(lead.HandedOff{Shard: objectlog.Shard(s)}) }
	n.step(s, shardlog.Resign{})
	n.whenIdle(s, func() {
		heir := n.w.known[to]
		if heir == nil {
			handed()
			return
		}
		n.call(heir.place, requestTimeout, func(m *node, reply func(func())) {
			if m.boot == to {
				m.learn(lead.Offered{Shard: objectlog.Shard(s), Holder: n.boot, Epoch: epoch})
			}
			reply(handed)
		}, func(outcome) { handed() })
	})
}

// whenIdle calls do once the replica neither leads nor claims.
func (n *node) whenIdle(s int, do func()) {
	r := n.replicas[s]
	r.idle = append(r.idle, do)
	n.wakeIdle(r, r.core.Status(n.mono()).Role)
}

func (n *node) wakeIdle(r *replica, role shardlog.Role) {
	if len(r.idle) == 0 || role == shardlog.RoleLeading || role == shardlog.RoleClaiming {
		return
	}
	waiting := r.idle
	r.idle = nil
	for _, do := range waiting {
		n.w.to(n, 0, do)
	}
}

// leads says whether the agent leads anything.
func (n *node) leads() bool {
	for _, r := range n.replicas {
		if role := r.core.Status(n.mono()).Role; role == shardlog.RoleLeading || role == shardlog.RoleClaiming {
			return true
		}
	}
	return false
}

// drain is a graceful stop: the agent takes no new clients, hands off what it leads, and goes.
func (n *node) drain(then func()) {
	n.draining = true
	n.w.trace("drains", n.place, n.ordinal)
	n.learn(lead.Drain{})
	deadline := n.w.now + 2*n.w.set.lease + time.Second
	var look func()
	look = func() {
		if n.leads() && n.w.now < deadline {
			n.w.to(n, 10*time.Millisecond, look)
			return
		}
		n.leave()
		n.w.to(n, 100*time.Millisecond, func() {
			n.w.kill(n.place)
			then()
		})
	}
	look()
}
