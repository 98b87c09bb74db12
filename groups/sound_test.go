package groups

import (
	"errors"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// sound says what is wrong with a group.
func (g *Group) sound() error {
	instances := map[string]bool{}
	for i, m := range g.Members {
		if i > 0 && g.Members[i-1].ID >= m.ID {
			return fmt.Errorf("member %q is out of order", m.ID)
		}
		if m.Instance != "" && instances[m.Instance] {
			return fmt.Errorf("two members of instance %q", m.Instance)
		}
		instances[m.Instance] = true
	}
	for _, s := range g.Slots {
		if _, ok := g.Member(s.Owner); !ok {
			return fmt.Errorf("partition %d is owned by %q, who is no member", s.Partition, s.Owner)
		}
		if _, ok := g.Member(s.Target); !ok && s.Target != "" {
			return fmt.Errorf("partition %d is on its way to %q, who is no member", s.Partition, s.Target)
		}
		if s.Since < 1 || s.Since > g.Generation {
			return fmt.Errorf("partition %d is owned since %d, now is %d", s.Partition, s.Since, g.Generation)
		}
	}
	if !slices.IsSortedFunc(g.Slots, func(a, b Slot) int { return a.Compare(b.TopicPartition) }) ||
		!slices.IsSortedFunc(g.Offsets, func(a, b Committed) int { return a.Compare(b.TopicPartition) }) {
		return errors.New("partitions are out of order")
	}
	if g.Assigned > g.Version {
		return fmt.Errorf("assigned for %d, now is %d", g.Assigned, g.Version)
	}
	return nil
}

// topics are a Catalog.
type topics map[string]existing

type existing struct {
	id         objectlog.UUID
	partitions int32
}

func (x topics) Topic(name string) (objectlog.UUID, int32, bool) {
	t, ok := x[name]
	return t.id, t.partitions, ok
}

func (x topics) Names(f func(string)) {
	for name := range x {
		f(name)
	}
}
