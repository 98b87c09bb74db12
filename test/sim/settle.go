package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// claimLeases: so long after the last fault, and after every agent has come to its first list, every shard has a leader.
	claimLeases = 3
	// changesMax bounds the changes of a shard's leader after the last fault: a claim, claims that crossed, and a move to its owner.
	changesMax = 3
	// outageChangesMax bounds them behind an outage of the table.
	outageChangesMax = 1
)

// leader answers the live agent that leads the shard under the newest epoch; nil: none does.
func (w *world) leader(s int) *node {
	for _, n := range w.at {
		if n == nil {
			continue
		}
		if st := n.replicas[s].core.Status(n.mono()); st.Role == shardlog.RoleLeading && st.Epoch == w.epochs[s] {
			return n
		}
	}
	return nil
}

// leaderless answers a shard that nobody leads; negative: there is none.
func (w *world) leaderless() int {
	for s := range w.set.shards {
		if w.leader(s) == nil {
			return s
		}
	}
	return -1
}

// claimed checks that every shard is led in time. An agent claims nothing before its first list, and one whose call for that was lost before the last
// fault ended makes the next behind heartbeatRetry.
func (w *world) claimed() {
	late := func() bool {
		since := w.healed
		for _, n := range w.at {
			switch {
			case n == nil:
			case n.lead.listed == 0:
				return false
			default:
				since = max(since, n.lead.listed)
			}
		}
		return w.now > since+claimLeases*w.set.lease
	}
	w.run(w.healed+quiesce, func() bool { return w.now > w.healed && (w.leaderless() < 0 || late()) })
	if s := w.leaderless(); w.err == nil && s >= 0 {
		w.fail("leaderless", "shard %d, %d leases after the last fault and every agent's first list", s, claimLeases)
	}
}

// owners are the agents that should lead, by shard: the first of each shard's order of those that live.
func (w *world) owners() []*node {
	var live []lead.Peer
	for _, n := range w.at {
		if n != nil {
			live = append(live, n.peer())
		}
	}
	var owners []*node
	for s := range w.set.shards {
		owners = append(owners, w.known[lead.Rendezvous(fmt.Sprintf("shard#%d", s), live)[0].Boot])
	}
	return owners
}

// settled: every shard is led by its owner, and every agent knows it.
func (w *world) settled(owners []*node) bool {
	for s, owner := range owners {
		for _, n := range w.at {
			if n == nil {
				continue
			}
			if boot, _ := n.lead.core.Leader(objectlog.Shard(s)); boot != owner.boot {
				return false
			}
		}
		if w.leader(s) != owner {
			return false
		}
	}
	return true
}

// settle checks that leadership comes to rest after the last fault, where it should, without a duel. A renewal that a fault held up is given up, and
// sent again, only behind the fault's end: until then a lease may run out whose leader is in its place, so that is no rest.
func (w *world) settle(before []objectlog.Epoch) {
	owners := w.owners()
	renewed := w.healed + requestTimeout + w.set.lease/4 // the back-off is a sixth of the lease at most, by the slowest clock a little more
	settled := func() bool { return w.now >= renewed && w.settled(owners) }
	w.run(w.now+quiesce, settled)
	if w.err == nil && !settled() {
		w.fail("unsettled", "%v after the last fault: %s", quiesce, w.whoLeads(owners))
	}
	rest := w.changes
	w.run(w.now+claimLeases*w.set.lease, func() bool { return w.changes > rest })
	if w.err == nil && w.changes > rest {
		w.fail("duel", "leadership was settled, and changed while nothing happened")
	}
	for s, e := range w.epochs {
		if e-before[s] > changesMax {
			w.fail("duel", "shard %d changed its leader %d times after the last fault", s, e-before[s])
		}
	}
}

// whoLeads says who should lead each shard, who does, and whom every agent takes for the leader.
func (w *world) whoLeads(owners []*node) string {
	ordinal := func(n *node) int64 {
		if n == nil {
			return 0
		}
		return n.ordinal
	}
	var b strings.Builder
	for s, owner := range owners {
		fmt.Fprintf(&b, "shard %d is boot %d's and led by boot %d;", s, owner.ordinal, ordinal(w.leader(s)))
		for _, n := range w.at {
			if n != nil {
				boot, epoch := n.lead.core.Leader(objectlog.Shard(s))
				fmt.Fprintf(&b, " boot %d takes boot %d for its leader in epoch %d;", n.ordinal, ordinal(w.known[boot]), epoch)
			}
		}
	}
	return b.String()
}

// noStorm: agents that could not reach the table have seen nothing of its leases, so whoever led goes on (H22).
func (w *world) noStorm(changes int) {
	w.stats.Storm += changes
	if most := outageChangesMax * w.set.shards; changes > most {
		w.fail("duel", "%d changes of leader since the table went away, %d leases after it is back", changes, claimLeases)
	}
}

// watch notes the longest time that a shard has no leader from now on.
func (w *world) watch(left time.Duration) {
	const every = time.Millisecond
	since := make([]time.Duration, w.set.shards)
	var look func()
	look = func() {
		for s := range since {
			if since[s] += every; w.leader(s) != nil {
				since[s] = 0
			}
			w.stats.Leaderless = max(w.stats.Leaderless, since[s])
		}
		if left -= every; left > 0 {
			w.after(every, look)
		}
	}
	look()
}
