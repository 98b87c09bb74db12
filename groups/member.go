package groups

import (
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func (c *Join) apply(s *State, at metadata.Position) Result {
	g := s.ownOrMake(c.Group, at.Time)
	if g == nil {
		return Result{Reason: ReasonFull}
	}
	s.move(g)
	m := c.Member
	m.Joined = at.Time
	if known, ok := g.Member(m.ID); ok {
		m.Joined, m.Former, m.Instance = known.Joined, known.Former, known.Instance // an instance has one member
		if !m.Subscribed.Equal(known.Subscribed) {
			g.Version++
		}
		g.put(&m)
		return Result{Generation: g.Generation}
	}
	if m.Instance != "" {
		for _, former := range g.Members {
			switch {
			case former.Instance != m.Instance:
			case former.Former == m.ID: // of a life that is over; a copy of its call was late
				return Result{Reason: ReasonFencedInstance, Generation: g.Generation}
			default:
				g.succeed(former, &m)
				return Result{Generation: g.Generation}
			}
		}
	}
	if len(g.Members) >= membersMax {
		return Result{Reason: ReasonFull, Generation: g.Generation}
	}
	g.put(&m)
	g.Version++
	return Result{Generation: g.Generation}
}

// put enters a member, or replaces what is known of it.
func (g *Group) put(m *Member) {
	i, ok := g.index(m.ID)
	if ok {
		g.Members[i] = m
		return
	}
	g.Members = slices.Insert(g.Members, i, m)
}

// succeed puts a static member's new life in the place of the former one. Its partitions stay where they are; that a generation begins
// keeps the two lives apart.
func (g *Group) succeed(former, m *Member) {
	g.Members = slices.DeleteFunc(g.Members, func(x *Member) bool { return x == former })
	m.Former = former.ID
	g.put(m)
	g.Version++
	g.Generation++
	for i := range g.Slots {
		s := &g.Slots[i]
		if s.Target == former.ID {
			s.Target = m.ID
		}
		if s.Owner == former.ID {
			s.Owner, s.Since = m.ID, g.Generation
		}
	}
}

func (c *Leave) apply(s *State, at metadata.Position) Result {
	i, ok := s.find(c.Group)
	if !ok {
		return Result{Reason: ReasonUnknownGroup}
	}
	if _, ok := s.groups[i].Member(c.Member); !ok {
		return Result{Reason: ReasonUnknownMember, Generation: s.groups[i].Generation}
	}
	g := s.ownAt(i)
	s.move(g)
	g.Members = slices.DeleteFunc(g.Members, func(m *Member) bool { return m.ID == c.Member })
	g.Version++
	for i := range g.Slots {
		s := &g.Slots[i]
		if s.Target == c.Member {
			s.Target = ""
		}
		if s.Owner == c.Member {
			s.handOver(g.Generation)
		}
	}
	g.sweep()
	if len(g.Members) == 0 {
		g.Idle = at.Time
	}
	return Result{Generation: g.Generation}
}

// handOver makes the target the owner: the former one has stopped, or is gone.
func (s *Slot) handOver(generation int64) {
	s.Owner, s.Since = s.Target, generation
	if s.Owner == "" {
		s.Since = 0
	}
}

// sweep drops the partitions that nobody has and nobody is to have.
func (g *Group) sweep() {
	g.Slots = slices.DeleteFunc(g.Slots, func(s Slot) bool { return s.Owner == "" && s.Target == "" })
}

func (c *Release) apply(s *State, _ metadata.Position) Result {
	g := s.own(c.Group)
	if reason := g.admits(c.Member, ""); reason != ReasonNone {
		return Result{Reason: reason}
	}
	if c.Generation != g.Generation {
		return Result{Reason: ReasonStaleGeneration, Generation: g.Generation}
	}
	s.move(g)
	for _, p := range c.Partitions {
		if i, ok := g.slot(p); ok && g.Slots[i].Owner == c.Member && g.Slots[i].Target != c.Member {
			g.Slots[i].handOver(g.Generation)
		}
	}
	g.sweep()
	return Result{Generation: g.Generation}
}

func (c *Assign) apply(s *State, _ metadata.Position) Result {
	g := s.own(c.Group)
	if g == nil {
		return Result{Reason: ReasonUnknownGroup}
	}
	if c.Version != g.Version {
		return Result{Reason: ReasonStaleVersion, Generation: g.Generation}
	}
	next := g.Generation + 1
	slots, changed := g.assigned(c.Targets, next)
	g.Assigned = g.Version
	s.move(g)
	if changed {
		g.Slots, g.Generation = slots, next
	}
	return Result{Generation: g.Generation}
}

// assigned are the slots behind an assignment. Partitions of nobody are handed over at once, those of others when these let go.
func (g *Group) assigned(targets []Target, generation int64) (slots []Slot, changed bool) {
	slots = make([]Slot, 0, len(g.Slots))
	left := g.Slots // not yet met
	give := func(s Slot, target string) {
		if s.Target != target {
			s.Target, changed = target, true
		}
		if s.Owner == "" && target != "" {
			s.handOver(generation)
			changed = true
		}
		if s.Owner != "" || s.Target != "" {
			slots = append(slots, s)
		}
	}
	for _, t := range targets {
		for i, m := range t.Members {
			p := TopicPartition{t.Topic, objectlog.Partition(i)}
			for len(left) > 0 && left[0].Compare(p) < 0 {
				give(left[0], "")
				left = left[1:]
			}
			s := Slot{TopicPartition: p}
			if len(left) > 0 && left[0].TopicPartition == p {
				s, left = left[0], left[1:]
			}
			target := ""
			if m >= 0 && int(m) < len(g.Members) {
				target = g.Members[m].ID
			}
			give(s, target)
		}
	}
	for _, s := range left {
		give(s, "")
	}
	return slots, changed
}
