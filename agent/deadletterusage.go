package agent

import (
	"cmp"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// deadLetterTopicsNamed bounds the topics that DeadLetterUsage names: each is a series of the metrics.
const deadLetterTopicsNamed = 100

// DeadLetterUsage is what an agent can tell of dead letters without asking anybody. Topics and Stuck are as far as they lie in shards that it leads: those of all
// agents together are all of them. Written and Redriven count records since the agent was opened.
type DeadLetterUsage struct {
	Written  int64             // to dead-letter topics
	Redriven int64             // out of them
	Stuck    int               // records that can't be moved since 10 s or more, or routes with all on their way behind one that can't
	Topics   []DeadLetterCount // with the setting dead.letters: the 100 with the most, largest first; those without any too
}

// DeadLetterUsage answers it.
func (a *Agent) DeadLetterUsage() DeadLetterUsage {
	var u DeadLetterUsage
	led := make([]bool, len(a.shards))
	now := time.Now()
	for i, m := range a.movers {
		u.Written += m.written.Load()
		u.Redriven += m.redriven.Load()
		if led[i] = m.leading() != 0; led[i] {
			u.Stuck += m.stuck(now)
		}
	}
	for name, t := range a.topics.of(a.shards[catalogShard]).byName {
		if !t.Settings.DeadLetters() {
			continue
		}
		c, any := DeadLetterCount{Topic: name}, false
		for p := range objectlog.Partition(t.Partitions) {
			if n := metadata.ShardOf(t.ID, p, len(a.shards)); led[n] {
				any = true
				c.add(a.shards[n], queues.Key{Topic: t.ID, Partition: p})
			}
		}
		if any {
			u.Topics = append(u.Topics, c)
		}
	}
	slices.SortFunc(u.Topics, func(x, y DeadLetterCount) int {
		return cmp.Or(cmp.Compare(y.Records, x.Records), cmp.Compare(x.Topic, y.Topic))
	})
	u.Topics = u.Topics[:min(len(u.Topics), deadLetterTopicsNamed)]
	return u
}

// add counts the dead letters of one partition in the applied state.
func (c *DeadLetterCount) add(s shard, k queues.Key) {
	s.log.Read(func(metadata.Seq) {
		state, _ := s.state.Partition(k.Topic, k.Partition)
		q, ok := s.queues.Queue(k)
		if !ok {
			q = &queues.Queue{}
		}
		c.Records += q.Unfinished(state.LogStart, state.HighWatermark)
		c.Redriving += q.Count(queues.Moving)
	})
}
