package groups

import (
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// The defaults of a member.
const (
	sessionDefault   = 10 * time.Second
	rebalanceDefault = 5 * time.Minute
	// tickMax is what a tick counts for at most: a leader that stood still has not observed anybody's silence.
	tickMax = time.Second
)

// Heartbeat is what a member says of itself, at least three times per session. The first one, of generation 0, makes it a member.
type Heartbeat struct {
	Group string
	// Member is who says it; Joined does not count. Zero times are the defaults.
	Member     Member
	Generation int64            // of the newest assignment that it has carried out; 0: none yet
	Owned      []TopicPartition // what it works on, sorted; what it no longer owns it must not touch again
	Leaving    bool
}

// Assignment answers a Heartbeat.
type Assignment struct {
	Generation int64
	Partitions []TopicPartition // what the member may work on: all else it is to stop, then to heartbeat again with this generation
	Session    time.Duration
}

// Catalog is what there is to read.
type Catalog interface {
	// Topic finds an active topic.
	Topic(name string) (id objectlog.UUID, partitions int32, ok bool)
	// Names calls f with every active topic.
	Names(f func(name string))
}

// Coordinator keeps the sessions of the groups of one shard while it is led here, and says when members are gone and assignments due. It
// is a pure core: what it wants done are commands, which may be lost or proposed twice.
//
// Its clock runs only while leadership is confirmed and ticks come in time, so neither an outage of the table nor a leader that stood still ends
// a session; and it begins anew with each leadership.
type Coordinator struct {
	epoch    objectlog.Epoch
	last     time.Duration // of the last tick that counted; 0: none
	lived    time.Duration // the clock of sessions
	sessions map[sessionKey]*session
	catalog  uint64 // the catalog's version that assignments were made for
	patterns map[string]*regexp.Regexp
}

type sessionKey struct{ group, member string }

// session is one member's. Both times are of the clock of sessions.
type session struct {
	until  time.Duration // then it is gone
	giveUp time.Duration // then it should have given up what it must; 0: there is nothing to give up
}

// NewCoordinator is one that has not led yet.
func NewCoordinator() *Coordinator {
	return &Coordinator{sessions: map[sessionKey]*session{}, patterns: map[string]*regexp.Regexp{}}
}

// Tick counts the time and answers what is due. It is called several times a second with a monotonic clock that is never 0, the epoch in which
// the shard is led here (0: it is not, or the lease is not confirmed), and the version of the catalog, which another catalog never has.
func (c *Coordinator) Tick(now time.Duration, epoch objectlog.Epoch, s *State, catalog Catalog, version uint64) []metadata.Command {
	if epoch == 0 {
		c.last = 0
		return nil
	}
	if epoch != c.epoch {
		c.epoch, c.last, c.catalog = epoch, 0, 0
		clear(c.sessions)
	}
	if c.last != 0 {
		c.lived += min(now-c.last, tickMax)
	}
	c.last = now
	var due []metadata.Command
	members := 0
	s.Groups("", func(g *Group) bool {
		left := false
		for _, m := range g.Members {
			members++
			if !c.alive(g, m) {
				due = append(due, Leave{Group: g.ID, Member: m.ID}.Command())
				left = true
			}
		}
		if !left && len(g.Members) > 0 && (g.Assigned != g.Version || c.catalog != version) {
			due = c.assign(due, g, catalog)
		}
		return true
	})
	if len(c.sessions) > members {
		maps.DeleteFunc(c.sessions, func(k sessionKey, _ *session) bool {
			g, ok := s.Group(k.group)
			if ok {
				_, ok = g.Member(k.member)
			}
			return !ok
		})
	}
	c.catalog = version
	return due
}

// alive looks at a member's session; who has none gets one.
func (c *Coordinator) alive(g *Group, m *Member) bool {
	k := sessionKey{g.ID, m.ID}
	x := c.sessions[k]
	if x == nil {
		x = &session{until: c.lived + m.Session}
		c.sessions[k] = x
	}
	switch holds := g.holdsBack(m.ID); {
	case !holds:
		x.giveUp = 0
	case x.giveUp == 0:
		x.giveUp = c.lived + m.Rebalance
	}
	return c.lived <= x.until && (x.giveUp == 0 || c.lived <= x.giveUp)
}

// holdsBack: there is something that the member should have given up.
func (g *Group) holdsBack(member string) bool {
	return slices.ContainsFunc(g.Slots, func(s Slot) bool { return s.Owner == member && s.Target != member })
}

// assign makes the group's assignment. One that changes nothing is proposed only where the members changed, so that it is not made again.
func (c *Coordinator) assign(due []metadata.Command, g *Group, catalog Catalog) []metadata.Command {
	command := Assign{Group: g.ID, Version: g.Version, Targets: assign(c.topics(g, catalog), g.with)}
	if _, changed := g.assigned(command.Targets, g.Generation+1); !changed && g.Assigned == g.Version {
		return due
	}
	return append(due, command.Command())
}

// with answers the index of the member that a partition is with.
func (g *Group) with(p TopicPartition) int32 {
	i, ok := g.slot(p)
	if !ok {
		return -1
	}
	for _, id := range []string{g.Slots[i].Owner, g.Slots[i].Target} {
		if i, ok := g.index(id); ok {
			return int32(i)
		}
	}
	return -1
}

// topics are what the group's members subscribe to and what there is.
func (c *Coordinator) topics(g *Group, catalog Catalog) []readTopic {
	subscribers := map[string][]int32{}
	matches := map[string][]string{} // by pattern
	for i, m := range g.Members {
		names := m.Subscribed.Topics
		if p := m.Subscribed.Pattern; p != "" {
			if _, ok := matches[p]; !ok {
				matches[p] = c.match(p, catalog)
			}
			names = append(slices.Clip(names), matches[p]...)
		}
		for _, name := range names {
			if known := subscribers[name]; len(known) == 0 || known[len(known)-1] != int32(i) { // named, and matched too
				subscribers[name] = append(known, int32(i))
			}
		}
	}
	topics := make([]readTopic, 0, len(subscribers))
	partitions := 0
	for _, name := range slices.Sorted(maps.Keys(subscribers)) {
		id, n, ok := catalog.Topic(name)
		if partitions += int(n); ok && partitions <= slotsMax {
			topics = append(topics, readTopic{id: id, partitions: n, members: subscribers[name]})
		}
	}
	return topics
}

// match answers the topics that match a pattern, which was checked when its member joined.
func (c *Coordinator) match(pattern string, catalog Catalog) []string {
	re := c.patterns[pattern]
	if re == nil {
		var err error
		if re, err = compile(pattern); err != nil {
			return nil
		}
		if len(c.patterns) >= patternsMax {
			clear(c.patterns)
		}
		c.patterns[pattern] = re
	}
	var names []string
	catalog.Names(func(name string) {
		if re.MatchString(name) {
			names = append(names, name)
		}
	})
	return names
}

// patternsMax bounds the compiled patterns that are kept.
const patternsMax = 1000

// Heartbeat takes note of a member's sign of life and answers what follows from what it said. When that is applied, Answer has the answer.
// Error: a Reason; the member has to give up everything, and may join anew if it is ReasonUnknownMember.
func (c *Coordinator) Heartbeat(h Heartbeat, s *State) ([]metadata.Command, error) {
	g, ok := s.Group(h.Group)
	var known *Member
	if ok {
		known, ok = g.Member(h.Member.ID)
	}
	m := h.Member.withDefaults()
	switch {
	case h.Leaving && ok:
		return []metadata.Command{Leave{Group: h.Group, Member: m.ID}.Command()}, nil
	case h.Leaving:
		return nil, nil // it has left
	case !ok && h.Generation != 0:
		return nil, g.admits(m.ID, m.Instance)
	case !ok:
		return []metadata.Command{Join{Group: h.Group, Member: m}.Command()}, nil
	}
	if x := c.sessions[sessionKey{h.Group, m.ID}]; x != nil {
		x.until = c.lived + m.Session
	}
	var commands []metadata.Command
	if !m.same(known) {
		commands = append(commands, Join{Group: h.Group, Member: m}.Command())
	}
	if released := g.released(h); len(released) > 0 {
		commands = append(commands, Release{Group: h.Group, Member: m.ID, Generation: h.Generation, Partitions: released}.Command())
	}
	return commands, nil
}

func (m Member) withDefaults() Member {
	if m.Session == 0 {
		m.Session = sessionDefault
	}
	if m.Rebalance == 0 {
		m.Rebalance = rebalanceDefault
	}
	m.Session, m.Rebalance = min(max(m.Session, sessionMin), sessionMax), min(max(m.Rebalance, sessionMin), 2*sessionMax)
	m.Former, m.Joined = "", 0
	return m
}

// same: a Join would change nothing. Where a member was seen does not count, or each balancer's choice would be an entry.
func (m Member) same(known *Member) bool {
	return m.Instance == known.Instance && m.Client == known.Client && m.Subscribed.Equal(known.Subscribed) && m.Session == known.Session && m.Rebalance == known.Rebalance
}

// released is what the member was to give up and works on no longer. What it said of an earlier assignment says nothing of this one.
func (g *Group) released(h Heartbeat) []TopicPartition {
	if h.Generation != g.Generation {
		return nil
	}
	var released []TopicPartition
	for _, s := range g.Slots {
		if s.Owner != h.Member.ID || s.Target == h.Member.ID {
			continue
		}
		if _, works := slices.BinarySearchFunc(h.Owned, s.TopicPartition, TopicPartition.Compare); !works {
			released = append(released, s.TopicPartition)
		}
	}
	return released
}

// Answer answers a heartbeat from the applied state. News: it tells the member something that it does not know.
func Answer(h Heartbeat, s *State) (a Assignment, news bool, err error) {
	g, ok := s.Group(h.Group)
	if h.Leaving {
		return Assignment{}, true, nil
	}
	if !ok {
		return Assignment{}, true, ReasonUnknownMember
	}
	if reason := g.admits(h.Member.ID, h.Member.Instance); reason != ReasonNone {
		return Assignment{}, true, reason
	}
	m, _ := g.Member(h.Member.ID)
	a = Assignment{Generation: g.Generation, Partitions: g.Assignment(m.ID), Session: m.Session}
	news = a.Generation != h.Generation
	for _, p := range a.Partitions {
		if _, owned := slices.BinarySearchFunc(h.Owned, p, TopicPartition.Compare); !owned {
			news = true
		}
	}
	return a, news, nil
}
