package metadata

import (
	"cmp"
	"maps"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// catalog is the topics of the cluster, kept by shard 0. Topics that are in it are never changed but replaced, so that
// views and readers share them.
type catalog struct {
	byName []*Topic
	shared bool // byName is in a view: copy it before changing it
	byID   map[objectlog.UUID]*Topic
	// changes rises with every change and every Restore. It is this replica's own count and not part of its state.
	changes uint64
}

func (c *catalog) find(name string) (int, bool) {
	return slices.BinarySearchFunc(c.byName, name, func(t *Topic, name string) int { return cmp.Compare(t.Name, name) })
}

func (c *catalog) own() {
	if c.shared {
		c.byName, c.shared = slices.Clone(c.byName), false
	}
}

// put enters or replaces the topic of this name.
func (c *catalog) put(t Topic) TopicResult {
	c.own()
	c.changes++
	i, ok := c.find(t.Name)
	if ok {
		c.byName[i] = &t
	} else {
		c.byName = slices.Insert(c.byName, i, &t)
	}
	c.byID[t.ID] = &t
	return TopicResult{Topic: t}
}

// change replaces the topic by what f makes of it. f answers false when there is nothing to change, or a reason against it.
func (c *catalog) change(id objectlog.UUID, f func(*Topic) (changed bool, reason Reason)) TopicResult {
	old, ok := c.byID[id]
	if !ok {
		return TopicResult{Reason: ReasonUnknownTopic}
	}
	t := *old
	changed, reason := f(&t)
	if reason != ReasonNone || !changed {
		return TopicResult{Topic: *old, Reason: reason}
	}
	t.Version++
	return c.put(t)
}

// changeLive is change for topics that clients see.
func (c *catalog) changeLive(id objectlog.UUID, f func(*Topic) (changed bool, reason Reason)) TopicResult {
	return c.change(id, func(t *Topic) (bool, Reason) {
		if t.State == TopicDeleting {
			return false, ReasonUnknownTopic
		}
		return f(t)
	})
}

// A name stays taken until the topic is forgotten. The same creation again, with the same id, answers the topic.
func (c *CreateTopic) apply(s *State, at Position) any {
	if i, ok := s.catalog.find(c.Name); ok {
		t := *s.catalog.byName[i]
		if t.ID == c.ID && t.State != TopicDeleting {
			return TopicResult{Topic: t}
		}
		return TopicResult{Topic: t, Reason: ReasonTopicExists}
	}
	if t, ok := s.catalog.byID[c.ID]; ok {
		return TopicResult{Topic: *t, Reason: ReasonInvalid}
	}
	return s.catalog.put(Topic{ID: c.ID, Name: c.Name, Target: c.Partitions, Settings: c.Settings, State: TopicCreating,
		Version: 1, Created: at.Time})
}

func (c *AlterTopic) apply(s *State, _ Position) any {
	return s.catalog.changeLive(c.ID, func(t *Topic) (bool, Reason) {
		if c.Version != 0 && c.Version != t.Version {
			return false, ReasonTopicChanged
		}
		if maps.Equal(t.Settings, c.Settings) {
			return false, ReasonNone
		}
		t.Settings = c.Settings
		return true, ReasonNone
	})
}

func (c *GrowTopic) apply(s *State, _ Position) any {
	return s.catalog.changeLive(c.ID, func(t *Topic) (bool, Reason) {
		if c.Partitions < t.Target {
			return false, ReasonInvalid
		}
		changed := c.Partitions > t.Target
		t.Target = c.Partitions
		return changed, ReasonNone
	})
}

// A late repeat, with fewer partitions than there are now, changes nothing.
func (c *ActivateTopic) apply(s *State, _ Position) any {
	return s.catalog.changeLive(c.ID, func(t *Topic) (bool, Reason) {
		if c.Partitions > t.Target {
			return false, ReasonInvalid
		}
		changed := c.Partitions > t.Partitions
		t.State, t.Partitions = TopicActive, max(t.Partitions, c.Partitions)
		return changed, ReasonNone
	})
}

func (c *DeleteTopic) apply(s *State, _ Position) any {
	return s.catalog.change(c.ID, func(t *Topic) (bool, Reason) {
		if t.State == TopicDeleting {
			return false, ReasonNone
		}
		if c.Version != 0 && c.Version != t.Version {
			return false, ReasonTopicChanged
		}
		t.State = TopicDeleting
		return true, ReasonNone
	})
}

func (c *ForgetTopic) apply(s *State, _ Position) any {
	t, ok := s.catalog.byID[c.ID]
	if !ok {
		return TopicResult{Reason: ReasonUnknownTopic}
	}
	if t.State != TopicDeleting {
		return TopicResult{Topic: *t, Reason: ReasonInvalid}
	}
	s.catalog.own()
	i, _ := s.catalog.find(t.Name)
	s.catalog.byName = slices.Delete(s.catalog.byName, i, i+1)
	delete(s.catalog.byID, c.ID)
	return TopicResult{Topic: *t}
}
