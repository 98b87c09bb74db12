package groups

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// State is the Machine of the groups of one shard.
//
// Views share its groups. A group is copied before its first change after a view, and then is the state's own until the next.
type State struct {
	gen    uint32   // rises with every view
	groups []*group // by id
	// moves counts the changes of members and partitions. It is this replica's own count and not part of its state.
	moves uint64
}

// group is a Group with the number of the view it was copied behind. What its slices of pointers and strings lead to is never changed.
type group struct {
	Group
	gen uint32
}

// NewState is the state before the first entry.
func NewState() *State { return &State{gen: 1} }

var errUnknownKind = errors.New("not a kind of this version")

func decodeOperation(c metadata.Command) (operation, error) {
	op, ok := operationOf(c.Kind)
	if !ok {
		return nil, errUnknownKind
	}
	r := reader{wire.Reader{B: c.Body}}
	op.decode(&r)
	return op, r.End()
}

// Prepare implements metadata.Machine.
func (s *State) Prepare(c metadata.Command) (short metadata.Command, err error) {
	op, err := decodeOperation(c)
	if err == nil {
		err = op.check()
	}
	if err != nil {
		return metadata.Command{}, fmt.Errorf("prepare command of kind %d: %w", c.Kind, err)
	}
	return metadata.Command{Kind: c.Kind, Body: c.Body}, nil
}

// Reference implements metadata.Machine: groups refer to no footers.
func (s *State) Reference(c metadata.Command) (ref metadata.FooterRef, ok bool, err error) {
	if _, known := operationOf(c.Kind); !known {
		err = fmt.Errorf("reference of command of kind %d: %w", c.Kind, errUnknownKind)
	}
	return metadata.FooterRef{}, false, err
}

// Apply implements metadata.Machine. Its results are of type Result.
func (s *State) Apply(at metadata.Position, c metadata.Command) (result any, err error) {
	op, err := decodeOperation(c)
	if err != nil {
		return nil, fmt.Errorf("apply command of kind %d at %d: %w", c.Kind, at.Seq, err)
	}
	return op.apply(s, at), nil
}

// Group finds a group. It may be read until the next Apply.
func (s *State) Group(id string) (*Group, bool) {
	i, ok := s.find(id)
	if !ok {
		return nil, false
	}
	return &s.groups[i].Group, true
}

// Groups calls f with the groups whose ids are greater than after, in order, until it answers false. They may be read until the next Apply.
func (s *State) Groups(after string, f func(*Group) bool) {
	i, ok := s.find(after)
	if ok {
		i++
	}
	for ; i < len(s.groups) && f(&s.groups[i].Group); i++ {
	}
}

// Moved answers a number that is another one after every change of the group's members or partitions, as long as this State lives; 0: there is no
// such group.
func (s *State) Moved(id string) uint64 {
	i, ok := s.find(id)
	if !ok {
		return 0
	}
	return s.groups[i].moved
}

func (s *State) move(g *Group) {
	s.moves++
	g.moved = s.moves
}

func (s *State) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.groups, id, func(g *group, id string) int { return strings.Compare(g.ID, id) })
}

// own answers a group for changing; nil: it is not there.
func (s *State) own(id string) *Group {
	i, ok := s.find(id)
	if !ok {
		return nil
	}
	return s.ownAt(i)
}

func (s *State) ownAt(i int) *Group {
	g := s.groups[i]
	if g.gen != s.gen {
		g = &group{g.Group, s.gen}
		g.Members, g.Slots, g.Offsets = slices.Clone(g.Members), slices.Clone(g.Slots), slices.Clone(g.Offsets)
		s.groups[i] = g
	}
	return &g.Group
}

// ownOrMake answers a group for changing, a fresh one if it is not there; nil: there is no room for it.
func (s *State) ownOrMake(id string, now objectlog.Timestamp) *Group {
	i, ok := s.find(id)
	if ok {
		return s.ownAt(i)
	}
	if len(s.groups) >= groupsMax {
		return nil
	}
	g := &group{Group{ID: id, Idle: now}, s.gen}
	s.move(&g.Group)
	s.groups = slices.Insert(s.groups, i, g)
	return &g.Group
}

func (c *DeleteGroup) apply(s *State, _ metadata.Position) Result {
	i, ok := s.find(c.Group)
	if !ok {
		return Result{Reason: ReasonUnknownGroup}
	}
	if g := s.groups[i]; len(g.Members) > 0 {
		return Result{Reason: ReasonNotEmpty, Generation: g.Generation}
	}
	s.groups = slices.Delete(s.groups, i, i+1)
	return Result{}
}

func (c *Expire) apply(s *State, _ metadata.Position) Result {
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool { return len(g.Members) == 0 && g.Idle < c.Before })
	return Result{}
}

func (c *DropTopic) apply(s *State, _ metadata.Position) Result {
	for i, g := range s.groups {
		if slices.ContainsFunc(g.Offsets, func(o Committed) bool { return o.Topic == c.Topic }) {
			own := s.ownAt(i)
			own.Offsets = slices.DeleteFunc(own.Offsets, func(o Committed) bool { return o.Topic == c.Topic })
		}
		if slices.ContainsFunc(g.Slots, func(x Slot) bool { return x.Topic == c.Topic }) {
			own := s.ownAt(i)
			s.move(own)
			own.Slots = slices.DeleteFunc(own.Slots, func(x Slot) bool { return x.Topic == c.Topic })
		}
	}
	return Result{}
}

func (c *CommitOffsets) apply(s *State, at metadata.Position) Result {
	g := s.own(c.Group)
	if c.Member == "" {
		if g != nil && len(g.Members) > 0 && !c.Force {
			return Result{Reason: ReasonNotEmpty, Generation: g.Generation}
		}
		if g == nil {
			g = s.ownOrMake(c.Group, at.Time)
		}
		if g == nil {
			return Result{Reason: ReasonFull}
		}
		g.Idle = max(g.Idle, at.Time)
	} else if reason := g.admits(c.Member, c.Instance); reason != ReasonNone {
		return Result{Reason: reason}
	}
	result := Result{Generation: g.Generation}
	for i, o := range c.Offsets {
		if c.Member != "" && !g.mayCommit(c.Member, c.Generation, o.TopicPartition) {
			result.Refused = append(result.Refused, Refusal{i, ReasonStaleGeneration})
			continue
		}
		o.Time = at.Time
		g.commit(o)
	}
	return result
}

// admits says why a member may not act in the group. The group may be nil.
func (g *Group) admits(member, instance string) Reason {
	if g == nil {
		return ReasonUnknownMember
	}
	if _, ok := g.Member(member); ok {
		return ReasonNone
	}
	if instance != "" && slices.ContainsFunc(g.Members, func(m *Member) bool { return m.Instance == instance }) {
		return ReasonFencedInstance
	}
	return ReasonUnknownMember
}

// mayCommit: the member owns the partition, and did so in the generation that it commits for. In between it may have belonged to others, whose
// positions a late commit must not undo.
func (g *Group) mayCommit(member string, generation int64, p TopicPartition) bool {
	i, ok := g.slot(p)
	return ok && g.Slots[i].Owner == member && g.Slots[i].Since <= generation && generation <= g.Generation
}

func (g *Group) slot(p TopicPartition) (int, bool) {
	return slices.BinarySearchFunc(g.Slots, p, func(s Slot, p TopicPartition) int { return s.Compare(p) })
}

func (g *Group) commit(o Committed) {
	i, ok := slices.BinarySearchFunc(g.Offsets, o.TopicPartition, func(c Committed, p TopicPartition) int { return c.Compare(p) })
	if ok {
		g.Offsets[i] = o
		return
	}
	g.Offsets = slices.Insert(g.Offsets, i, o)
}
