package groups

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// A snapshot is a version byte and the groups by id, each
//
//	id, generation, version, assigned, idle
//	members by id: as in a Join
//	slots by partition: partition, target + 1 and owner + 1 as indexes of members (0: none), since
//	offsets by partition: as in a CommitOffsets, time
//
// in the writing of package wire.
const snapshotVersion = 1

// view is the State at one moment. Nothing in it is changed.
type view []*group

// View implements metadata.Machine. It costs a pointer per group.
func (s *State) View() metadata.View {
	s.gen++
	return view(slices.Clone(s.groups))
}

// Encode implements metadata.View.
func (v view) Encode(dst []byte) []byte {
	dst = wire.AppendInt(append(dst, snapshotVersion), len(v))
	for _, g := range v {
		dst = wire.AppendInt(wire.AppendString(dst, g.ID), g.Generation)
		dst = wire.AppendInt(wire.AppendInt(dst, g.Version), g.Assigned)
		dst = binary.AppendVarint(dst, int64(g.Idle))
		dst = wire.AppendInt(dst, len(g.Members))
		index := map[string]int{"": 0}
		for i, m := range g.Members {
			index[m.ID] = i + 1
			dst = appendMember(dst, m)
		}
		dst = wire.AppendInt(dst, len(g.Slots))
		var last TopicPartition
		for i, s := range g.Slots {
			dst = appendPlace(dst, i, last, s.TopicPartition)
			dst = wire.AppendInt(wire.AppendInt(dst, index[s.Target]), index[s.Owner])
			dst = wire.AppendInt(dst, s.Since)
			last = s.TopicPartition
		}
		dst = wire.AppendInt(dst, len(g.Offsets))
		for i, o := range g.Offsets {
			dst = binary.AppendVarint(appendOffset(dst, i, last, &o), int64(o.Time))
			last = o.TopicPartition
		}
	}
	return dst
}

// Restore implements metadata.Machine. What it does not accept leaves the state as it was.
func (s *State) Restore(b []byte) error {
	r := reader{wire.Reader{B: b}}
	if version := r.Byte("version"); r.Err == nil && version != snapshotVersion {
		return fmt.Errorf("restore groups: version %d, this program knows %d", version, snapshotVersion)
	}
	fresh := NewState()
	for i := range r.Count("groups", 8) {
		g := r.snapshotGroup()
		if i > 0 && g.ID <= fresh.groups[i-1].ID && r.Err == nil {
			r.Fail("group %q: out of order", g.ID)
		}
		if r.Err != nil {
			break
		}
		fresh.groups = append(fresh.groups, &group{g, fresh.gen})
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("restore groups: %w", err)
	}
	fresh.moves = s.moves
	for _, g := range fresh.groups {
		fresh.move(&g.Group)
	}
	*s = *fresh
	return nil
}

func (r *reader) snapshotGroup() Group {
	g := Group{ID: r.group(), Generation: int64(r.Bounded("generation", generationMax))}
	g.Version, g.Assigned = int64(r.Bounded("version", generationMax)), int64(r.Bounded("assigned", generationMax))
	g.Idle = objectlog.Timestamp(r.Varint("idle"))
	for i := range r.Count("members", 10) {
		m := r.member()
		if i > 0 && m.ID <= g.Members[i-1].ID && r.Err == nil {
			r.Fail("member %q: out of order", m.ID)
		}
		if r.Err != nil {
			return g
		}
		g.Members = append(g.Members, &m)
	}
	var last TopicPartition
	for i := range r.Count("slots", 5) {
		s := Slot{TopicPartition: r.place(i, last)}
		s.Target, s.Owner = r.memberOf(&g), r.memberOf(&g)
		s.Since = int64(r.Bounded("since", generationMax))
		last = s.TopicPartition
		g.Slots = append(g.Slots, s)
	}
	for i := range r.Count("offsets", 6) {
		o := r.offset(i, last)
		o.Time = objectlog.Timestamp(r.Varint("time"))
		last = o.TopicPartition
		g.Offsets = append(g.Offsets, o)
	}
	return g
}

func (r *reader) memberOf(g *Group) string {
	i := r.Bounded("index of a member", uint64(len(g.Members)))
	if i == 0 {
		return ""
	}
	return g.Members[i-1].ID
}
