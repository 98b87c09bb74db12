package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/groups"
)

// settleTime is how long groups may take to come to rest after the last fault and the last change of leader, beyond a session by the slowest
// clock: members meet the new leader, partitions are given up and handed over, and messages of before arrive.
const settleTime = 2*lateMax + 2*time.Second

// finish watches the groups after the last fault: they come to rest, everybody stops, and a last member of each reads to the end.
func (w *world) finish() {
	deadline := func(group string) time.Duration {
		var session time.Duration
		for _, s := range w.seats {
			if s.group == group {
				session = s.session
			}
		}
		return max(w.healed, w.changed[groups.ShardOf(group, w.set.shards)]) + session*5/4 + settleTime
	}
	waiting := slices.Clone(w.groups)
	var look func()
	look = func() {
		waiting = slices.DeleteFunc(waiting, w.atRest)
		for _, g := range waiting {
			if w.now > deadline(g) {
				w.fail("unsettled-group", "group %s is not at rest: %s", g, w.unrest(g))
			}
		}
		if len(waiting) > 0 {
			w.after(100*time.Millisecond, look)
			return
		}
		w.last()
	}
	look()
}

// atRest: every consumer that lives is a member and nobody else is, and every partition that one reads is with one who works on it.
func (w *world) atRest(group string) bool { return w.unrest(group) == "" }

// unrest says why a group is not at rest.
func (w *world) unrest(group string) string {
	shard := int(groups.ShardOf(group, w.set.shards))
	n, catalog := w.leader(shard), w.leader(0)
	if n == nil || catalog == nil {
		return "its shard has no leader"
	}
	var live []*consumer
	wanted := 0
	read := map[string]bool{}
	for _, s := range w.seats {
		if s.group != group || s.now == nil || s.now.dead {
			continue
		}
		live = append(live, s.now)
		for _, t := range catalog.topics().topics {
			if !read[t.Name] && (s.subscribed.Pattern != "" || slices.Contains(s.subscribed.Topics, t.Name)) {
				read[t.Name] = true
				wanted += int(t.Partitions)
			}
		}
	}
	g, ok := n.replicas[shard].groups.Group(group)
	switch {
	case !ok && len(live) == 0:
		return ""
	case !ok:
		return "it is not there"
	case len(g.Members) != len(live):
		var members, runs []string
		for _, m := range g.Members {
			members = append(members, m.ID)
		}
		for _, c := range live {
			runs = append(runs, c.id)
		}
		return fmt.Sprintf("its members are %v, and %v live", members, runs)
	case !g.Settled() && len(live) > 0:
		return fmt.Sprintf("the assignment of version %d, now %d, is not carried out: %v", g.Assigned, g.Version, g.Slots)
	case len(g.Slots) != wanted:
		return "partitions are missing, or too many"
	}
	for _, s := range g.Slots {
		if c := w.check.groups.runs[s.Owner]; c.dead || c.id != s.Owner || c.works[w.logOf(s.TopicPartition)] == nil {
			return "a partition is with a member that does not work on it"
		}
	}
	return ""
}

// last ends all consumers, half of them by leaving, and starts one in each group.
func (w *world) last() {
	for i, s := range w.seats {
		if c := s.now; c != nil && !c.dead {
			if i%2 == 0 {
				c.leave()
			} else {
				c.crash()
			}
		}
	}
	for i, group := range w.groups {
		s := &seat{w: w, number: 100 + i, group: group, session: time.Second, rng: w.seats[i].rng, subscribed: groups.Subscription{Pattern: ".*"}}
		w.lasts = append(w.lasts, s)
		s.start()
	}
}

// readAll: the last members have everything that was acknowledged behind them.
func (w *world) readAll() bool {
	if len(w.lasts) == 0 {
		return false
	}
	for _, s := range w.lasts {
		for _, l := range w.logs() {
			if st := s.now.works[l]; st == nil || st.next < w.check.next[l] {
				return false
			}
		}
	}
	return true
}

// farewell ends what consumers do, when all is read, and checks that all was.
func (w *world) farewell() {
	asked := w.now
	w.run(w.now+quiesce, func() bool {
		if w.now < asked {
			return false
		}
		asked = w.now + 10*time.Millisecond
		return w.readAll() && w.drained()
	})
	switch {
	case w.err != nil:
	case !w.readAll():
		w.fail("unprocessed", "%v after the last fault nobody has read to the end", w.now-w.healed)
	case !w.drained():
		w.fail("unprocessed", "%v after the last fault a queue is not empty", w.now-w.healed)
	}
	if w.err == nil {
		w.check.groups.whole()
	}
	w.silence()
}

// silence ends all consumers.
func (w *world) silence() {
	for _, s := range slices.Concat(w.seats, w.lasts) {
		if s.now != nil && !s.now.dead {
			s.now.crash()
		}
	}
	w.queueing.still = true
	for _, p := range w.queueing.crew {
		p.dead = true
	}
}
