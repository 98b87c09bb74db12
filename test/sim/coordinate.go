package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// sessionTick is how often an agent looks at the sessions that it keeps, by its own clock.
	sessionTick = 200 * time.Millisecond
	// beatPatience is how long an agent looks for the leader that keeps a member's session, beyond what the member waits for news.
	beatPatience = time.Second
)

// coordinating is what a driver keeps beside a groups.Coordinator.
type coordinating struct {
	core      *groups.Coordinator
	known     objectlog.Epoch // in which the catalog was brought up to date
	asking    bool            // for that
	proposing bool            // what the last tick found due
	waiting   []*beat

	led   objectlog.Epoch // the same epoch as the core knows, and since when; for the check of sessions
	since time.Duration
	heard map[string]time.Duration // by member
}

// beat is a heartbeat that waits for news at the agent that leads its group's shard.
type beat struct {
	h     groups.Heartbeat
	moved uint64 // of the group, when it was looked at last
	over  bool   // it waits no longer
	done  func(groups.Assignment, error)
}

// leading answers the epoch in which the shard is led here by a lease that is confirmed; 0: it is not.
func (n *node) leading(r *replica) objectlog.Epoch {
	if r.role != shardlog.RoleLeading {
		return 0
	}
	if st := r.core.Status(n.mono()); st.Role == shardlog.RoleLeading && st.Renewed && st.Fault == nil {
		return st.Epoch
	}
	return 0
}

// coordinate looks after the groups and queues of all shards, for as long as the agent lives.
func (n *node) coordinate() {
	for s, r := range n.replicas {
		n.look(s, r)
		n.endWaits(s, r)
		n.move(s, r)
	}
	n.w.to(n, time.Duration(float64(sessionTick)/n.rate), n.coordinate)
}

// look is one look at the sessions of a shard's groups.
func (n *node) look(s int, r *replica) {
	c := &r.sessions
	epoch := n.leading(r)
	n.wakeBeats(r)
	if epoch != 0 && epoch != c.known { // the leader before may have seen a later catalog
		n.meet(c, epoch)
		epoch = 0
	}
	if epoch != 0 && epoch != c.led {
		c.led, c.since, c.heard = epoch, n.mono(), map[string]time.Duration{}
	}
	if epoch == 0 {
		c.core.Tick(n.mono(), 0, r.groups, nil, 0)
		return
	}
	topics := n.topics()
	due := c.core.Tick(n.mono(), epoch, r.groups, topics, topics.version)
	if len(due) > 0 {
		n.w.check.groups.due(n, s, due)
	}
	if c.proposing || len(due) == 0 {
		return
	}
	c.proposing = true
	n.ask(s, due, func(d shardlog.Decided) {
		c.proposing = false
		n.taken(d)
	})
}

// meet brings the catalog up to date for an epoch.
func (n *node) meet(c *coordinating, epoch objectlog.Epoch) {
	if !c.asking {
		c.asking = true
		n.current(0, func(metadata.Seq) { c.asking, c.known = false, epoch }, func() { c.asking = false })
	}
}

// taken: what a coordinator makes is never malformed.
func (n *node) taken(d shardlog.Decided) {
	for _, r := range d.Receipt.Results {
		if err, ok := r.(error); ok && d.Err == nil {
			n.w.fail("protocol", "what a coordinator asked for was refused: %v", err)
		}
	}
}

// heartbeat takes a member's heartbeat to whoever keeps its session. The error is a groups.Reason; after any other it may be sent again.
func (n *node) heartbeat(h groups.Heartbeat, wait time.Duration, done func(groups.Assignment, error)) {
	s := int(groups.ShardOf(h.Group, n.w.set.shards))
	began := n.w.now
	var try func()
	try = func() {
		t := n.lead.tenures[s]
		over := false
		once := func(a groups.Assignment, err error) {
			if over {
				return
			}
			over = true
			var reason groups.Reason
			switch {
			case err == nil, errors.As(err, &reason), n.w.now > began+wait+beatPatience:
				done(a, err)
			default:
				n.w.to(n, routeRetry, try)
			}
		}
		t.ended = append(t.ended, func() { once(groups.Assignment{}, shardlog.ErrNotLeader) })
		n.beatAt(n.w.known[t.boot], s, h, max(0, wait-(n.w.now-began)), once)
	}
	try()
}

// beatAt takes a heartbeat to one boot, which does not pass it on.
func (n *node) beatAt(leader *node, s int, h groups.Heartbeat, wait time.Duration, done func(groups.Assignment, error)) {
	switch {
	case leader == nil:
		done(groups.Assignment{}, shardlog.ErrNotLeader)
	case leader == n:
		n.heartbeatHere(s, h, wait, done)
	default:
		n.call(leader.place, wait+beatPatience, func(m *node, reply func(func())) {
			if m != leader {
				reply(func() { done(groups.Assignment{}, shardlog.ErrNotLeader) })
				return
			}
			m.heartbeatHere(s, h, wait, func(a groups.Assignment, err error) { reply(func() { done(a, err) }) })
		}, func(outcome) { done(groups.Assignment{}, errNoAnswer) })
	}
}

// heartbeatHere takes the heartbeat of a member whose group's shard this very agent leads.
func (n *node) heartbeatHere(s int, h groups.Heartbeat, wait time.Duration, done func(groups.Assignment, error)) {
	r := n.replicas[s]
	if n.leading(r) == 0 {
		done(groups.Assignment{}, shardlog.ErrNotLeader)
		return
	}
	commands, err := r.sessions.core.Heartbeat(h, r.groups)
	if err != nil {
		done(groups.Assignment{}, err)
		return
	}
	if r.sessions.heard != nil && !h.Leaving {
		r.sessions.heard[h.Member.ID] = n.mono()
	}
	b := &beat{h: h, over: wait == 0, done: done}
	if !b.over {
		n.w.to(n, wait, func() {
			b.over = true
			n.wakeBeats(r)
		})
	}
	if len(commands) == 0 {
		n.await(r, b)
		return
	}
	n.ask(s, commands, func(d shardlog.Decided) {
		n.taken(d)
		if d.Err != nil {
			done(groups.Assignment{}, d.Err)
			return
		}
		for _, result := range d.Receipt.Results {
			if res, _ := result.(groups.Result); res.Reason == groups.ReasonFull || res.Reason == groups.ReasonFencedInstance {
				done(groups.Assignment{}, res.Reason)
				return
			}
		}
		n.await(r, b)
	})
}

// await answers a heartbeat, now or when there is news for it.
func (n *node) await(r *replica, b *beat) {
	b.moved = r.groups.Moved(b.h.Group)
	switch a, news, err := groups.Answer(b.h, r.groups); {
	case n.leading(r) == 0: // its view may be an old one
		b.done(groups.Assignment{}, shardlog.ErrNotLeader)
	case err != nil, news, b.over, n.draining:
		b.done(a, err)
	default:
		r.sessions.waiting = append(r.sessions.waiting, b)
	}
}

// wakeBeats looks at the heartbeats that wait: whether their group is as it was, and whether the shard is still led here.
func (n *node) wakeBeats(r *replica) {
	if len(r.sessions.waiting) == 0 {
		return
	}
	leads := n.leading(r) != 0 && !n.draining
	waiting := r.sessions.waiting
	r.sessions.waiting = nil
	for _, b := range waiting {
		if leads && !b.over && r.groups.Moved(b.h.Group) == b.moved {
			r.sessions.waiting = append(r.sessions.waiting, b)
		} else {
			n.await(r, b)
		}
	}
}

// commitOffsets is what an agent does with a commit: a position beyond the log is not taken. results is nil when the outcome is unknown.
func (n *node) commitOffsets(c groups.CommitOffsets, done func(result *groups.Result)) {
	for _, o := range c.Offsets {
		l := n.w.logOf(o.TopicPartition)
		if p, ok := n.replicas[n.w.topic[l.topic].shard].state.Partition(o.Topic, o.Partition); !ok || p.HighWatermark < o.Offset {
			n.current(n.w.topic[l.topic].shard, func(metadata.Seq) {
				p, _ := n.replicas[n.w.topic[l.topic].shard].state.Partition(o.Topic, o.Partition)
				if p.HighWatermark < o.Offset {
					n.w.fail("stale-read", "agent %d refuses %v at %d of group %s: the log ends at %d there by a current read", n.place, l, o.Offset, c.Group, p.HighWatermark)
				}
				done(nil) // the member commits again
			}, func() { done(nil) })
			return
		}
	}
	n.propose(int(groups.ShardOf(c.Group, n.w.set.shards)), []metadata.Command{c.Command()}, nil, func(results []any) {
		if results == nil {
			done(nil)
			return
		}
		r, ok := results[0].(groups.Result)
		if !ok {
			n.w.fail("protocol", "a commit was answered with %v", results[0])
			return
		}
		done(&r)
	})
}

// position answers a group's position in a partition by a current read: 0 where none is committed.
func (n *node) position(group string, p groups.TopicPartition, done func(objectlog.Offset), fail func()) {
	s := int(groups.ShardOf(group, n.w.set.shards))
	n.current(s, func(metadata.Seq) {
		var at objectlog.Offset
		if g, ok := n.replicas[s].groups.Group(group); ok {
			c, _ := g.Committed(p)
			at = c.Offset
		}
		done(at)
	}, fail)
}

// topicList is the active topics of one version of the catalog, as a node has applied it.
type topicList struct {
	version uint64
	topics  []metadata.Topic // by name
}

// Topic implements groups.Catalog.
func (l *topicList) Topic(name string) (objectlog.UUID, int32, bool) {
	i := slices.IndexFunc(l.topics, func(t metadata.Topic) bool { return t.Name == name })
	if i < 0 {
		return objectlog.UUID{}, 0, false
	}
	return l.topics[i].ID, l.topics[i].Partitions, true
}

// Names implements groups.Catalog.
func (l *topicList) Names(f func(string)) {
	for _, t := range l.topics {
		f(t.Name)
	}
}

// topics answers the catalog as it is applied here.
func (n *node) topics() *topicList {
	state := n.replicas[0].state
	if version := state.CatalogChanges() + 1; n.catalog == nil || n.catalog.version != version {
		n.catalog = &topicList{version: version, topics: slices.DeleteFunc(state.Topics("", 100), func(t metadata.Topic) bool { return t.State != metadata.TopicActive })}
	}
	return n.catalog
}
