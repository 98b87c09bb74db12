package main

import (
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
)

// kill is kill -9; the agents come back at once or after some seconds.
func (r *round) kill(victims ...*agent) {
	r.since = time.Now()
	later := r.coin()
	for _, a := range victims {
		r.h.Note("kill -9 of agent %d, for good: %t", a.index, later)
		if later {
			a.down()
		} else {
			a.kill()
		}
	}
	if len(victims) == len(r.agents) && later { // nobody is there until they come back
		r.last(r.lasting() / 2)
		r.since = time.Now()
	} else {
		r.last(r.lasting())
	}
	for _, a := range victims {
		a.up()
	}
}

// freeze is SIGSTOP for a time, of a leader half the time, which then goes on in the middle of what its successor does.
func (r *round) freeze(d time.Duration) {
	a := r.anAgent()
	if r.coin() {
		a = r.aLeader()
	}
	r.since = time.Now()
	r.h.Note("SIGSTOP of agent %d for %s", a.index, d)
	a.freeze()
	r.last(d)
	a.thaw()
	r.h.Note("SIGCONT of agent %d", a.index)
	r.last(time.Second) // for what it does now
}

// oneWay loses what agents send to a store, or what it answers.
func (r *round) oneWay(bucket bool) {
	do := faultproxy.Action{Do: faultproxy.DropReply}
	if r.coin() {
		do.Do = faultproxy.DropBefore
	}
	rules := []faultproxy.Rule{matching("", "", 0, do)}
	if bucket {
		r.rules(rules, nil)
	} else {
		r.rules(nil, rules)
	}
}

// bothWays parts agents from stores, with resets or in silence.
func (r *round) bothWays(bucket, table bool) {
	if r.coin() {
		silent := []faultproxy.Rule{matching("", "", 0, faultproxy.Action{Do: faultproxy.Blackhole})}
		var b, t []faultproxy.Rule
		if bucket {
			b = silent
		}
		if table {
			t = silent
		}
		r.rules(b, t)
		return
	}
	for _, a := range r.some() {
		r.h.Note("cut of agent %d from bucket %t, table %t", a.index, bucket, table)
		if bucket {
			a.bucket.Cut()
		}
		if table {
			a.table.Cut()
		}
	}
	r.last(r.lasting())
}

// broken is one way in which a link does not work.
func (r *round) broken() quality {
	return []quality{{cut: true}, {deaf: true}, {mute: true}, {deaf: true, mute: true}}[r.chance.IntN(4)]
}

func (r *round) partClients() {
	q := r.broken()
	for _, a := range r.some() {
		r.h.Note("clients of agent %d: %+v", a.index, q)
		a.clients.set(anyone, q)
	}
	r.last(r.lasting())
}

// partAgents parts an agent from one other, or from all: it is not reached any more, or neither reaches nor is reached.
func (r *round) partAgents(oneWay bool) {
	a, q := r.aLeader(), r.broken()
	other := anyone
	if n := len(r.agents); n > 1 && r.coin() {
		other = (a.index + 1 + r.chance.IntN(n-1)) % n
	}
	r.h.Note("agents: %d not reached by %d, one way %t: %+v", a.index, other, oneWay, q)
	a.peers.set(other, q)
	for _, b := range r.agents {
		if !oneWay && b != a && (other == anyone || other == b.index) {
			b.peers.set(a.index, q)
		}
	}
	r.last(r.lasting())
}

// isolate takes an agent off the network: nothing goes in or out any more, and nobody is told.
func (r *round) isolate() {
	a := r.aLeader()
	r.since = time.Now()
	r.h.Note("agent %d is off the network", a.index)
	silent := matching("", "", 0, faultproxy.Action{Do: faultproxy.Blackhole})
	a.bucket.SetRules(silent)
	a.table.SetRules(silent)
	a.clients.set(anyone, quality{deaf: true, mute: true})
	a.peers.set(anyone, quality{deaf: true, mute: true})
	for _, b := range r.agents {
		b.peers.set(a.index, quality{deaf: true, mute: true})
	}
	r.last(r.lasting() + lease)
}

// links makes all links of all agents bad.
func (r *round) links(q quality) {
	for _, a := range r.agents {
		a.clients.set(anyone, q)
		a.peers.set(anyone, q)
	}
}

// late holds some puts of items with a key, and lets them land in the middle of what follows.
func (r *round) late(key string, probability float64) {
	for _, a := range r.some() {
		r.h.Note("puts of %s of agent %d land late", key, a.index)
		a.table.SetRules(matching("PutItem", key, probability, faultproxy.Action{Do: faultproxy.Hold}))
	}
	for end := time.Now().Add(r.lasting()); time.Now().Before(end) && r.last(200*time.Millisecond); {
		r.release()
	}
}

// lateEntries holds an entry of a leader that hangs on it, kills the leader, and lets the entry land behind the successor's barrier or when
// the ring has gone round.
func (r *round) lateEntries(lap bool) {
	a := r.aLeader()
	a.table.SetRules(faultproxy.Rule{Match: faultproxy.Match{Kind: "PutItem", KeyContains: "ring#", Count: shards},
		Action: faultproxy.Action{Do: faultproxy.Hold, Hang: true}})
	until(r.ctx, r.span, func() bool { return a.table.Held() > 0 })
	r.h.Note("agent %d has %d entries on their way", a.index, a.table.Held())
	r.since = time.Now()
	if r.coin() {
		a.down()
	} else {
		a.freeze()
	}
	until(r.ctx, 4*lease, func() bool { _, ok := r.h.Recovered(r.since, len(used)); return ok })
	if lap {
		r.awaitLap()
	}
	for _, late := range a.table.ReleaseAll() {
		r.h.Note("late: %v", late)
	}
	r.last(time.Second)
}

// lapMax is how long a round may wait for the rings to go round: with the fewest slots that takes some seconds.
const lapMax = 40 * time.Second

// awaitLap waits until every shard has appended more entries than a ring of the fewest slots has.
func (r *round) awaitLap() {
	before := r.applied()
	done := until(r.ctx, lapMax, func() bool {
		now := r.applied()
		for shard, seq := range before {
			if now[shard] <= seq+slotsFew {
				return false
			}
		}
		return len(before) == shards
	})
	r.h.Note("the rings went round: %t", done)
}

// applied is how many entries each shard has, as far as the agent knows that answers.
func (r *round) applied() map[int32]int64 {
	seqs := map[int32]int64{}
	info, _ := r.described(r.ctx)
	for _, s := range info.Shards {
		seqs[s.Shard] = s.AppliedSeq
	}
	return seqs
}

// lateObjects holds some objects and lets them land in the middle of what follows.
func (r *round) lateObjects(hold faultproxy.Action) {
	for _, a := range r.some() {
		a.bucket.SetRules(matching("put", "", 0.4, hold))
	}
	for end := time.Now().Add(r.lasting()); time.Now().Before(end) && r.last(300*time.Millisecond); {
		r.release()
	}
}

func (r *round) fail500() {
	landed, code := r.coin(), 0.7
	if landed {
		code = 0.5
	}
	bothRules(code, status("InternalError", landed), status("InternalServerError", landed))(r)
}

// fillAndCrash keeps snapshots from being stored until the ring is full, and kills the leader then.
func (r *round) fillAndCrash() {
	a := r.aLeader()
	for _, b := range r.agents {
		b.bucket.SetRules(matching("put", ".snap", 0, status("SlowDown", false)))
	}
	r.h.Note("no snapshots, then kill -9 of agent %d", a.index)
	r.last(2 * r.lasting())
	a.kill()
	r.last(lease)
}

// freezeLease keeps lease items from being put, which looks to others as if their holders were gone.
func (r *round) freezeLease() {
	for _, a := range r.some() {
		r.h.Note("lease items of agent %d are frozen", a.index)
		a.table.SetRules(matching("PutItem", "shard#", 0, status("InternalServerError", false)))
	}
	r.last(r.lasting() + 2*lease)
}

// outage is one of the table for everybody, with refusals or in silence.
func (r *round) outage() {
	do := []faultproxy.Action{{Do: faultproxy.DropBefore}, {Do: faultproxy.Blackhole}, status("ServiceUnavailable", false)}[r.chance.IntN(3)]
	r.h.Note("table outage: %s", do.Do)
	for _, a := range r.agents {
		a.table.SetRules(matching("", "", 0, do))
	}
	r.last(5 * r.lasting())
}

// roll stops and starts one agent after the other, as an upgrade does.
func (r *round) roll() {
	r.since = time.Now()
	for _, a := range r.agents {
		if r.ctx.Err() != nil {
			return
		}
		r.h.Note("SIGTERM of agent %d", a.index)
		if err := a.stop(); err != nil {
			r.h.Note("agent %d: %v", a.index, err)
		}
		a.up()
		until(r.ctx, startTimeout, func() bool { return a.readyz() == nil })
		r.last(time.Second)
	}
}
