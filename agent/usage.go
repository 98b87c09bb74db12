package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// usageTopics bounds the topics that Usage names: each is a series of the metrics.
const usageTopics = 100

// TopicUsage counts bytes of record batches as they are stored.
type TopicUsage struct {
	Topic         string // empty: what is not named
	ProducedBytes int64  // acknowledged as appended; a duplicate is not appended again
	FetchedBytes  int64  // answered to fetches, whether or not they came from the cache
}

// Usage answers what was produced and fetched since the agent was opened: of the 100 topics with the most bytes, largest first; last,
// without a name, what is left: smaller topics and deleted ones together.
func (a *Agent) Usage() (boot string, countedFor time.Duration, topics []TopicUsage) {
	return a.presence.info.Boot, time.Since(a.writer.start), a.writer.counts.list()
}

// topicBytes are the counts of one topic.
type topicBytes struct{ produced, fetched int64 }

func (b *topicBytes) add(more topicBytes) {
	b.produced += more.produced
	b.fetched += more.fetched
}

// sweepLeast is the number of entries below which deleted topics are only looked for when the counts are asked for.
const sweepLeast = 1024

// topicCounts holds the counts of every topic of the catalog that has any. It is locked once per topic of a decided segment or
// an answered fetch, not per batch.
type topicCounts struct {
	catalog shard

	mu      sync.Mutex
	topics  map[objectlog.UUID]*topicBytes
	gone    topicBytes // of deleted topics
	sweepAt int        // number of entries at which deleted topics are looked for
}

func newTopicCounts(catalog shard) *topicCounts {
	return &topicCounts{catalog: catalog, topics: make(map[objectlog.UUID]*topicBytes), sweepAt: sweepLeast}
}

func (c *topicCounts) add(topic objectlog.UUID, b topicBytes) {
	c.mu.Lock()
	counted := c.topics[topic]
	if counted == nil {
		counted = &topicBytes{}
		c.topics[topic] = counted
	}
	counted.add(b)
	full := len(c.topics) >= c.sweepAt
	c.mu.Unlock()
	if full {
		c.sweep()
	}
}

// served counts what a fetch answers. Targets of one topic are neighbours.
func (c *topicCounts) served(targets []*target) {
	for i := 0; i < len(targets); {
		topic, bytes := targets[i].topic.ID, int64(0)
		for ; i < len(targets) && targets[i].topic.ID == topic; i++ {
			for _, b := range targets[i].Batches {
				bytes += int64(len(b))
			}
		}
		if bytes > 0 {
			c.add(topic, topicBytes{fetched: bytes})
		}
	}
}

// sweep folds the counts of deleted topics into one, and answers the names of all topics that there are.
func (c *topicCounts) sweep() map[objectlog.UUID]string {
	c.mu.Lock()
	counted := slices.Collect(maps.Keys(c.topics))
	c.mu.Unlock()
	// The catalog is read behind that: it had each of these topics before they were counted, so those that it has not now are gone.
	names := c.names()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range counted {
		if _, there := names[id]; there {
			continue
		}
		if b := c.topics[id]; b != nil {
			c.gone.add(*b)
			delete(c.topics, id)
		}
	}
	c.sweepAt = max(sweepLeast, 2*len(c.topics))
	return names
}

// names reads the catalog, some topics at a time, so that nobody waits for the whole.
func (c *topicCounts) names() map[objectlog.UUID]string {
	const some = 1000
	names := make(map[objectlog.UUID]string)
	for after := ""; ; {
		var page []metadata.Topic
		c.catalog.log.Read(func(metadata.Seq) { page = c.catalog.state.Topics(after, some) })
		for _, t := range page {
			names[t.ID] = t.Name
		}
		if len(page) < some {
			return names
		}
		after = page[len(page)-1].Name
	}
}

// list answers the topics of Usage.
func (c *topicCounts) list() []TopicUsage {
	names := c.sweep()
	var all []TopicUsage
	c.mu.Lock()
	rest := c.gone
	for id, b := range c.topics {
		if name, ok := names[id]; ok {
			all = append(all, TopicUsage{name, b.produced, b.fetched})
		} else {
			rest.add(*b) // made since the names were read, or counted once more since it was deleted
		}
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b TopicUsage) int {
		return cmp.Or(cmp.Compare(b.ProducedBytes+b.FetchedBytes, a.ProducedBytes+a.FetchedBytes), cmp.Compare(a.Topic, b.Topic))
	})
	for len(all) > usageTopics {
		last := all[len(all)-1]
		rest.add(topicBytes{last.ProducedBytes, last.FetchedBytes})
		all = all[:len(all)-1]
	}
	if rest != (topicBytes{}) {
		all = append(all, TopicUsage{"", rest.produced, rest.fetched})
	}
	return all
}
