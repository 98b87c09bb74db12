package sim

import (
	"slices"
	"strconv"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// groupChecks knows every consumer and watches what the logs make of their groups.
type groupChecks struct {
	w      *world
	steady bool // nothing happens to consumers but what is in the logs
	runs   map[string]*consumer
	stints []*stint
	of     map[string]*watched // by group

	seq []metadata.Seq // by shard: the newest entry that was looked at
	by  []*machine     // who applied it first
}

// watched is a group as the log has it, and what its consumers did.
type watched struct {
	members   []string
	slots     []groups.Slot
	offsets   []groups.Committed
	owners    map[groups.TopicPartition]ownership // of the newest position's committer
	accepted  map[accepted]bool
	processed map[log][]bool
	workers   map[turn]string
}

// ownership is one time in which a member has a partition.
type ownership struct {
	member string
	since  int64
}

// accepted is a commit that is in the log.
type accepted struct {
	stint int
	at    objectlog.Offset
}

// turn is a partition in one generation.
type turn struct {
	log        log
	generation int64
}

// resetMark is the metadata of positions that no member committed.
const resetMark = "reset"

func newGroupChecks(w *world) *groupChecks {
	return &groupChecks{w: w, runs: map[string]*consumer{}, of: map[string]*watched{}}
}

// group answers what is watched of a group.
func (k *groupChecks) group(id string) *watched {
	g := k.of[id]
	if g == nil {
		g = &watched{owners: map[groups.TopicPartition]ownership{}, accepted: map[accepted]bool{}, processed: map[log][]bool{}, workers: map[turn]string{}}
		k.of[id] = g
	}
	return g
}

// machine is the Machine of a shard's groups, which tells the checks of each entry that it applies.
type machine struct {
	*groups.State
	w     *world
	shard int
}

// Apply implements metadata.Machine.
func (m *machine) Apply(at metadata.Position, c metadata.Command) (any, error) {
	result, err := m.State.Apply(at, c)
	if err == nil {
		m.w.check.groups.applied(m, at.Seq)
	}
	return result, err
}

// Restore implements metadata.Machine.
func (m *machine) Restore(b []byte) error {
	if k := m.w.check.groups; k.by[m.shard] == m { // it may apply the newest entry a second time
		k.by[m.shard] = nil
	}
	return m.State.Restore(b)
}

// applied looks at what a command changed, at the first replica that applies it. Somebody has applied every entry when the next is appended.
func (k *groupChecks) applied(m *machine, seq metadata.Seq) {
	newest := &k.seq[m.shard]
	if seq < *newest || seq == *newest && k.by[m.shard] != m {
		return
	}
	*newest, k.by[m.shard] = seq, m
	m.Groups("", func(g *groups.Group) bool {
		k.look(g)
		return true
	})
}

func (k *groupChecks) look(g *groups.Group) {
	old := k.group(g.ID)
	for _, id := range old.members {
		if _, ok := g.Member(id); !ok {
			k.removed(g, id)
		}
	}
	for _, s := range old.slots {
		if owner := g.OwnerOf(s.TopicPartition); owner != s.Owner && s.Owner != "" {
			k.handedOver(g, s, owner)
		}
	}
	for i, s := range g.Slots {
		if i > 0 && g.Slots[i-1].Compare(s.TopicPartition) >= 0 {
			k.w.fail("two-owners", "group %s has %v twice at one log position", g.ID, k.w.logOf(s.TopicPartition))
		}
		for _, id := range []string{s.Owner, s.Target} {
			if _, ok := g.Member(id); id != "" && !ok {
				k.w.fail("two-owners", "%v of group %s is with %s, who is no member", k.w.logOf(s.TopicPartition), g.ID, id)
			}
		}
	}
	for _, o := range g.Offsets {
		if i, ok := slices.BinarySearchFunc(old.offsets, o.TopicPartition, func(c groups.Committed, p groups.TopicPartition) int { return c.Compare(p) }); !ok {
			k.position(g, old, o, 0)
		} else if before := old.offsets[i]; before != o {
			k.position(g, old, o, before.Offset)
		}
	}
	old.members = old.members[:0]
	for _, m := range g.Members {
		old.members = append(old.members, m.ID)
	}
	old.slots, old.offsets = append(old.slots[:0], g.Slots...), append(old.offsets[:0], g.Offsets...)
}

// removed: where nothing happens to consumers, nobody's session ends, whatever becomes of agents and of the table.
func (k *groupChecks) removed(g *groups.Group, id string) {
	c := k.runs[id]
	if k.steady && !c.dead && !c.leaving {
		k.w.fail("expired", "member %s of group %s is gone, to which nothing happened: only agents or the table failed", id, g.ID)
	}
}

// handedOver: a partition goes to another member when the former one has stopped to work on it, or is none any more.
func (k *groupChecks) handedOver(g *groups.Group, s groups.Slot, owner string) {
	l := k.w.logOf(s.TopicPartition)
	k.w.stats.Moves++
	k.w.trace("partition moves", 0, int64(l.topic), int64(l.partition), g.Generation)
	if _, ok := g.Member(s.Owner); !ok {
		return
	}
	c := k.runs[s.Owner]
	if st := c.works[l]; st != nil && st.member == s.Owner {
		k.w.fail("two-owners", "%v of group %s goes to %q in generation %d, and member %s, whose session goes on, still works on it", l, g.ID, owner, g.Generation, s.Owner)
	}
}

// position looks at a position that changed.
func (k *groupChecks) position(g *groups.Group, old *watched, o groups.Committed, before objectlog.Offset) {
	l := k.w.logOf(o.TopicPartition)
	k.w.trace("position", 0, int64(l.topic), int64(l.partition), int64(o.Offset))
	if o.Metadata == resetMark {
		delete(old.owners, o.TopicPartition)
		return
	}
	number, err := strconv.Atoi(o.Metadata)
	if err != nil || number >= len(k.stints) {
		k.w.fail("strange-commit", "%v of group %s is at %d by %q", l, g.ID, o.Offset, o.Metadata)
		return
	}
	st := k.stints[number]
	i := slices.IndexFunc(g.Slots, func(s groups.Slot) bool { return s.TopicPartition == o.TopicPartition })
	switch {
	case i < 0 || g.Slots[i].Owner != st.member:
		k.w.fail("fenced-commit", "a commit of member %s for %v of group %s was accepted, which it does not own at that log position", st.member, l, g.ID)
		return
	case g.Slots[i].Since > st.generation:
		k.w.fail("fenced-commit", "a commit of member %s for %v of group %s was accepted from its time as owner in generation %d: it got the partition anew in %d", st.member,
			l, g.ID, st.generation, g.Slots[i].Since)
	case o.Offset > st.next:
		k.w.fail("skipped", "%v of group %s is committed to %d by member %s, which processed from %d to %d", l, g.ID, o.Offset, st.member, st.from, st.next)
	}
	owner := ownership{st.member, g.Slots[i].Since}
	if last, ok := old.owners[o.TopicPartition]; ok && o.Offset < before {
		if k.w.stats.Back++; last != owner { // but for a late copy of the owner's own
			k.w.fail("position-back", "%v of group %s goes back from %d to %d, by a commit of member %s", l, g.ID, before, o.Offset, st.member)
		}
	}
	old.owners[o.TopicPartition] = owner
	old.accepted[accepted{number, o.Offset}] = true
	k.w.stats.Positions++
}

// begins notes that a member begins to work on a partition.
func (k *groupChecks) begins(st *stint) {
	st.number = len(k.stints)
	k.stints = append(k.stints, st)
}

// processes: in one generation one member processes a partition.
func (k *groupChecks) processes(st *stint, generation int64, next objectlog.Offset) {
	g := k.group(st.by.seat.group)
	t := turn{st.log, generation}
	if other, ok := g.workers[t]; ok && other != st.member {
		k.w.fail("two-workers", "%v of group %s was processed by member %s in generation %d, and is by member %s", st.log, st.by.seat.group, other, generation, st.member)
	}
	g.workers[t] = st.member
	done := g.processed[st.log]
	for objectlog.Offset(len(done)) < next {
		done = append(done, false)
	}
	for ; st.next < next; st.next++ {
		done[st.next] = true
		k.w.stats.Processed++
	}
	g.processed[st.log] = done
	k.w.trace("processes", st.by.seat.number, int64(st.log.topic), int64(st.log.partition), int64(next), generation)
}

// committed: a commit that is acknowledged is in the log.
func (k *groupChecks) committed(c groups.CommitOffsets, of []*stint, r groups.Result) {
	if r.Reason != groups.ReasonNone {
		return
	}
	g := k.group(c.Group)
	for i, o := range c.Offsets {
		if slices.ContainsFunc(r.Refused, func(r groups.Refusal) bool { return r.Index == i }) {
			k.w.stats.Fenced++
			continue
		}
		if !g.accepted[accepted{of[i].number, o.Offset}] {
			k.w.fail("lost-commit", "the commit of %v of group %s to %d by member %s is acknowledged, the log does not have it", of[i].log, c.Group, o.Offset, c.Member)
		}
		of[i].committed = max(of[i].committed, o.Offset)
	}
}

// due: a member goes when it was silent for its session at the agent that keeps it, as long as that knew of it, or gave nothing up for too long.
func (k *groupChecks) due(n *node, s int, commands []metadata.Command) {
	r := n.replicas[s]
	r.groups.Groups("", func(g *groups.Group) bool {
		for _, m := range g.Members {
			leave := groups.Leave{Group: g.ID, Member: m.ID}.Command()
			if !slices.ContainsFunc(commands, func(c metadata.Command) bool { return c.Kind == leave.Kind && string(c.Body) == string(leave.Body) }) {
				continue
			}
			k.w.stats.Expired++
			silent := n.mono() - max(r.sessions.since, r.sessions.heard[m.ID])
			holds := slices.ContainsFunc(g.Slots, func(x groups.Slot) bool { return x.Owner == m.ID && x.Target != m.ID })
			silent += sessionTick * 5 / 4 // its clock is that of the tick before
			if silent < m.Session && !(holds && n.mono()-r.sessions.since >= m.Rebalance) {
				k.w.fail("expired", "agent %d ends the session of member %s of group %s after %v without a heartbeat, of %v", n.place, m.ID, g.ID, silent, m.Session)
			}
		}
		return true
	})
}

// whole: every acknowledged record of every partition was processed in every group.
func (k *groupChecks) whole() {
	for _, s := range k.w.seats {
		g := k.group(s.group)
		for _, l := range k.w.logs() {
			done := g.processed[l]
			for o := range k.w.check.next[l] {
				if objectlog.Offset(len(done)) <= o || !done[o] {
					k.w.fail("unprocessed", "%v offset %d was acknowledged, and nobody of group %s has processed it", l, o, s.group)
					return
				}
			}
		}
	}
}
