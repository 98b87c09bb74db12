package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
	"github.com/splashdam/splashdam/test/history"
)

// fault is a row of the matrix. Play does it once: it begins it, lasts as long as it should, and returns; whatever is still wrong then is
// healed by who called.
type fault struct {
	name     string
	slots    int  // of the rings; 0: many
	disturbs bool // clients are cut off from agents, too
	play     func(r *round)
}

// round is one play of a fault.
type round struct {
	*cluster
	h      *history.History
	ctx    context.Context // ends when the history's faults must
	chance *rand.Rand
	span   time.Duration // how long a fault lasts that has no length of its own, give or take
	since  time.Time     // when recovery begins; zero: when the fault is healed
}

// last lets time go by; false: the faults must end.
func (r *round) last(d time.Duration) bool { return pause(r.ctx, d) }

// lasting is how long a fault lasts.
func (r *round) lasting() time.Duration {
	return r.span/2 + time.Duration(r.chance.Int64N(int64(r.span)))
}

// anAgent is any agent.
func (r *round) anAgent() *agent { return r.agents[r.chance.IntN(len(r.agents))] }

// aLeader is the leader of any shard, or, where none is known, any agent.
func (r *round) aLeader() *agent {
	if a := r.leader(r.ctx, r.chance.IntN(shards)); a != nil {
		return a
	}
	return r.anAgent()
}

// some are the agents that a fault is for: a leader, any, or all.
func (r *round) some() []*agent {
	switch r.chance.IntN(4) {
	case 0:
		return r.agents
	case 1:
		return []*agent{r.anAgent()}
	}
	return []*agent{r.aLeader()}
}

// coin is heads half the time.
func (r *round) coin() bool { return r.chance.IntN(2) == 0 }

func matching(kind, key string, probability float64, do faultproxy.Action) faultproxy.Rule {
	return faultproxy.Rule{Match: faultproxy.Match{Kind: kind, KeyContains: key, Probability: probability}, Action: do}
}

func status(code string, forwarded bool) faultproxy.Action {
	return faultproxy.Action{Do: faultproxy.Status, Error: code, Forwarded: forwarded}
}

// bucketRules and tableRules last for a while at some agents. Rules are right by construction; wrong ones would change nothing and be
// noticed as faults that were not played.
func (r *round) rules(bucket, table []faultproxy.Rule) {
	for _, a := range r.some() {
		r.h.Note("rules at agent %d: %v %v", a.index, bucket, table)
		a.bucket.SetRules(bucket...)
		a.table.SetRules(table...)
	}
	r.last(r.lasting())
}

func bucketRule(kind string, probability float64, do faultproxy.Action) func(*round) {
	return func(r *round) { r.rules([]faultproxy.Rule{matching(kind, "", probability, do)}, nil) }
}

func bothRules(probability float64, bucket, table faultproxy.Action) func(*round) {
	return func(r *round) {
		r.rules([]faultproxy.Rule{matching("", "", probability, bucket)}, []faultproxy.Rule{matching("", "", probability, table)})
	}
}

// faults is the matrix, by the numbers of the faults there.
func faults() []fault {
	dropReply, dropBefore := faultproxy.Action{Do: faultproxy.DropReply}, faultproxy.Action{Do: faultproxy.DropBefore}
	twice, hold := faultproxy.Action{Do: faultproxy.Twice}, faultproxy.Action{Do: faultproxy.Hold}
	list := []fault{
		{name: "F01 none", play: func(r *round) { r.last(r.lasting()) }},
		{name: "F02 kill -9 of a leader", play: func(r *round) { r.kill(r.aLeader()) }},
		{name: "F02 kill -9 of any agent", play: func(r *round) { r.kill(r.anAgent()) }},
		{name: "F02 kill -9 of all agents", play: func(r *round) { r.kill(r.agents...) }},
		{name: "F03 pause of 1x the lease", play: func(r *round) { r.freeze(lease) }},
		{name: "F03 pause of 3x the lease", play: func(r *round) { r.freeze(3 * lease) }},
		{name: "F03 pause of 20x the lease", play: func(r *round) { r.freeze(20 * lease) }},
		{name: "F06 agent and table, one way", play: func(r *round) { r.oneWay(false) }},
		{name: "F06 agent and table, both ways", play: func(r *round) { r.bothWays(false, true) }},
		{name: "F07 agent and bucket, one way", play: func(r *round) { r.oneWay(true) }},
		{name: "F07 agent and bucket, both ways", play: func(r *round) { r.bothWays(true, false) }},
		{name: "F08 client and agent", disturbs: true, play: (*round).partClients},
		{name: "F09 agent and agent, one way", play: func(r *round) { r.partAgents(true) }},
		{name: "F09 agent and agent, both ways", play: func(r *round) { r.partAgents(false) }},
		{name: "F09 agent and everything", disturbs: true, play: (*round).isolate},
		{name: "F10 loss", disturbs: true, play: func(r *round) {
			r.links(quality{loss: 0.05})
			rules := []faultproxy.Rule{matching("", "", 0.05, dropBefore), matching("", "", 0.05, dropReply)}
			r.rules(rules, rules)
		}},
		{name: "F11 1 Mbit/s", disturbs: true, play: func(r *round) {
			const mbit = 125_000
			r.links(quality{bytesPerSecond: mbit})
			slow := faultproxy.Action{BytesPerSecond: mbit}
			bothRules(0, slow, slow)(r)
		}},
		{name: "F12 latency of 50 ms to 2 s", disturbs: true, play: func(r *round) {
			r.links(quality{delay: 50 * time.Millisecond, jitter: 300 * time.Millisecond})
			late := faultproxy.Action{DelayMillis: 50, JitterMillis: 1950}
			bothRules(0, late, late)(r)
		}},
		{name: "F13 applied, reply lost", play: func(r *round) {
			r.rules([]faultproxy.Rule{matching("put", "", 0.4, dropReply)}, []faultproxy.Rule{matching("PutItem", "", 0.4, dropReply)})
		}},
		{name: "F14 late, past the successor's barrier", play: func(r *round) { r.lateEntries(false) }},
		{name: "F14 late, past a full lap", slots: slotsFew, play: func(r *round) { r.lateEntries(true) }},
		{name: "F14 lease items land late", play: func(r *round) { r.late("shard#", 0.5) }},
		{name: "F15 delivered twice", play: bothRules(0.5, twice, twice)},
		{name: "F16 500", play: (*round).fail500},
		{name: "F16 503", play: bothRules(0.7, status("SlowDown", false), status("ServiceUnavailable", false))},
		{name: "F16 throttling", play: bothRules(0.8, status("SlowDown", false), status("ThrottlingException", false))},
		{name: "F17 object stored, reply lost", play: bucketRule("put", 0.5, dropReply)},
		{name: "F17 object stored late", play: func(r *round) { r.lateObjects(hold) }},
		{name: "F17 409", play: bucketRule("put", 0.5, status("ConditionalRequestConflict", false))},
		{name: "F17 412", play: func(r *round) { bucketRule("put", 0.5, status("PreconditionFailed", r.coin()))(r) }},
		{name: "F21 small ring and crash", slots: slotsFew, play: (*round).fillAndCrash},
		{name: "F22 lease item frozen", play: (*round).freezeLease},
		{name: "F23 table outage", play: (*round).outage},
		{name: "F24 rolling restart", play: (*round).roll},
	}
	single := list[1:]
	return append(list, fault{name: "F30 random", slots: slotsFew, disturbs: true, play: func(r *round) {
		one := single[r.chance.IntN(len(single))]
		r.h.Note("random: %s", one.name)
		one.play(r)
		if r.coin() { // a second one on top of what the first left behind
			other := single[r.chance.IntN(len(single))]
			r.h.Note("random: %s", other.name)
			other.play(r)
		}
	}})
}
