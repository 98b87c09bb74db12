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
// is a pure core: what it wants done are commands, which may be lost or proposed twice. What is still due is due again at the next tick. Sessions
// begin anew with each leadership.
type Coordinator struct {
	clock    metadata.LeaderClock // of sessions
	watched  map[string]*watched  // groups with members
	catalog  uint64               // the catalog's version that current goes by
	patterns map[string]*regexp.Regexp
}

// watched is what is known of one group.
type watched struct {
	moved    uint64          // the group's, when the following two were found
	holders  map[string]bool // members that have something to give up
	current  bool            // the assignment is as it should be
	sessions map[string]*session
}

// session is one member's. Both times are of the clock of sessions.
type session struct {
	until  time.Duration // then it is gone; 0: it was heard since the last tick
	giveUp time.Duration // then it should have given up what it must; 0: there is nothing to give up
}

// NewCoordinator is one that has not led yet.
func NewCoordinator() *Coordinator {
	return &Coordinator{watched: map[string]*watched{}, patterns: map[string]*regexp.Regexp{}}
}

// Tick counts the time and answers what is due. It is called as metadata.LeaderClock says, and with the version of the catalog, which another
// catalog never has.
func (c *Coordinator) Tick(now time.Duration, epoch objectlog.Epoch, s *State, catalog Catalog, version uint64) []metadata.Command {
	_, anew := c.clock.Tick(now, epoch)
	if epoch == 0 {
		return nil
	}
	if anew {
		clear(c.watched)
	}
	if c.catalog != version {
		c.catalog = version
		for _, w := range c.watched {
			w.current = false
		}
	}
	var due []metadata.Command
	met := 0
	s.Groups("", func(g *Group) bool {
		if len(g.Members) > 0 {
			met++
			due = c.look(due, g, catalog)
		}
		return true
	})
	if len(c.watched) > met {
		maps.DeleteFunc(c.watched, func(id string, _ *watched) bool {
			g, ok := s.Group(id)
			return !ok || len(g.Members) == 0
		})
	}
	return due
}

// look adds what is due in one group.
func (c *Coordinator) look(due []metadata.Command, g *Group, catalog Catalog) []metadata.Command {
	w := c.watched[g.ID]
	if w == nil {
		w = &watched{sessions: map[string]*session{}}
		c.watched[g.ID] = w
	}
	if w.moved != g.moved {
		w.moved, w.holders, w.current = g.moved, g.holders(), false
	}
	before := len(due)
	for _, m := range g.Members {
		if !c.alive(w, m) {
			due = append(due, Leave{Group: g.ID, Member: m.ID}.Command())
		}
	}
	if len(w.sessions) > len(g.Members) {
		maps.DeleteFunc(w.sessions, func(id string, _ *session) bool {
			_, ok := g.Member(id)
			return !ok
		})
	}
	if len(due) > before || w.current { // of those who leave nothing has to be assigned first
		return due
	}
	command := Assign{Group: g.ID, Version: g.Version, Targets: assign(c.topics(g, catalog), g.with)}
	if _, changed := g.assigned(command.Targets, g.Generation+1); !changed && g.Assigned == g.Version {
		w.current = true
		return due
	}
	return append(due, command.Command())
}

// alive looks at a member's session; who has none gets one.
func (c *Coordinator) alive(w *watched, m *Member) bool {
	x := w.sessions[m.ID]
	if x == nil {
		x = &session{}
		w.sessions[m.ID] = x
	}
	if x.until == 0 {
		x.until = c.clock.Lived() + m.Session
	}
	switch {
	case !w.holders[m.ID]:
		x.giveUp = 0
	case x.giveUp == 0:
		x.giveUp = c.clock.Lived() + m.Rebalance
	}
	return c.clock.Lived() <= x.until && (x.giveUp == 0 || c.clock.Lived() <= x.giveUp)
}

// holders are the members that have something which they should give up; nil: nobody.
func (g *Group) holders() map[string]bool {
	var holders map[string]bool
	for _, s := range g.Slots {
		if s.Owner != s.Target && s.Owner != "" {
			if holders == nil {
				holders = map[string]bool{}
			}
			holders[s.Owner] = true
		}
	}
	return holders
}

// with answers the index of the member that is to have a partition, if it may; else that of the one that has it; -1: neither. So what is
// on its way to a member stays so, and an assignment that is made again while it is carried out is the same one.
func (g *Group) with(p TopicPartition, may func(member int32) bool) int32 {
	i, ok := g.slot(p)
	if !ok {
		return -1
	}
	for _, id := range [...]string{g.Slots[i].Target, g.Slots[i].Owner} {
		if m, ok := g.index(id); ok && may(int32(m)) {
			return int32(m)
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
	size := 0
	for _, name := range slices.Sorted(maps.Keys(subscribers)) {
		id, n, ok := catalog.Topic(name)
		if !ok {
			continue
		}
		if size += targetBytesMax + int(n)*placeBytesMax; size > assignBytesMax {
			break // what does not fit into an entry would never be assigned, and neither would the rest
		}
		topics = append(topics, readTopic{id: id, partitions: n, members: subscribers[name]})
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
		if whole(re, name) {
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
		if w := c.watched[h.Group]; w != nil {
			delete(w.sessions, m.ID) // of its time as a member before this one, which may be over
		}
		return []metadata.Command{Join{Group: h.Group, Member: m}.Command()}, nil
	}
	released, all := g.released(h)
	if w := c.watched[h.Group]; w != nil {
		if x := w.sessions[m.ID]; x != nil {
			x.until = 0 // the clock is that of the last tick, which may have been long ago
			if all {
				x.giveUp = 0 // whatever it is told to give up next, it has the whole time for it
			}
		}
	}
	var commands []metadata.Command
	if !m.same(known) {
		commands = append(commands, Join{Group: h.Group, Member: m}.Command())
	}
	if len(released) > 0 {
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
	m.Session = min(max(m.Session, sessionMin), sessionMax).Truncate(time.Millisecond) // as a Join carries it
	m.Rebalance = min(max(m.Rebalance, sessionMin), 2*sessionMax).Truncate(time.Millisecond)
	m.Former, m.Joined = "", 0
	return m
}

// same: a Join would change nothing. Where a member was seen does not count, or each balancer's choice would be an entry.
func (m Member) same(known *Member) bool {
	return m.Client == known.Client && m.Subscribed.Equal(known.Subscribed) && m.Session == known.Session && m.Rebalance == known.Rebalance
}

// released is what the member was to give up and works on no longer; all: it works on nothing else that it was to give up. What it said of an
// earlier assignment says nothing of this one.
func (g *Group) released(h Heartbeat) (released []TopicPartition, all bool) {
	if h.Generation != g.Generation {
		return nil, false
	}
	all = true
	for _, s := range g.Slots {
		if s.Owner != h.Member.ID || s.Target == h.Member.ID {
			continue
		}
		if _, works := slices.BinarySearchFunc(h.Owned, s.TopicPartition, TopicPartition.Compare); works {
			all = false
			continue
		}
		released = append(released, s.TopicPartition)
	}
	return released, all
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
	if g.returned(h) {
		return Assignment{}, true, ReasonUnknownMember
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

// returned: the member works on something since before it got it. It was gone in between, others may have had it, and what came late of its first
// call has made it a member again, of which it knows nothing: were it told to keep that, its position of then would undo theirs.
func (g *Group) returned(h Heartbeat) bool {
	return slices.ContainsFunc(g.Slots, func(s Slot) bool {
		if s.Owner != h.Member.ID || s.Since <= h.Generation {
			return false
		}
		_, works := slices.BinarySearchFunc(h.Owned, s.TopicPartition, TopicPartition.Compare)
		return works
	})
}
