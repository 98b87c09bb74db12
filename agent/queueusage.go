package agent

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// queuesNamed bounds the queues that QueueUsage names: each is a few series of the metrics.
const queuesNamed = 100

// QueueUsage is what an agent can tell of queues without asking anybody. Queues are as far as they lie in shards that it leads: those of all
// agents together are all of them. Counts are of records, by calls to this agent since it was opened; Expired, of locks that ended here.
type QueueUsage struct {
	Queues  int         // groups on topics
	Largest []QueueSize // the 100 with the largest lag, largest first

	Acquired, Accepted, Released, Rejected, Expired int64
}

// QueueSize is a queue as far as QueueUsage tells of it.
type QueueSize struct {
	Group, Topic  string
	Locked, Dying int64 // records; as of QueuePartition
	Lag           int64 // in partitions that it has had records of
}

// queueCounts count what was done with records.
type queueCounts struct{ acquired, accepted, released, rejected atomic.Int64 }

func (c *queueCounts) settled(v queues.Verdict) {
	switch v {
	case queues.Accept:
		c.accepted.Add(1)
	case queues.Release:
		c.released.Add(1)
	case queues.Reject:
		c.rejected.Add(1)
	}
}

// QueueUsage answers it.
func (a *Agent) QueueUsage() QueueUsage {
	u := QueueUsage{Acquired: a.pulls.acquired.Load(), Accepted: a.pulls.accepted.Load(), Released: a.pulls.released.Load(), Rejected: a.pulls.rejected.Load()}
	names := map[objectlog.UUID]string{}
	for name, t := range a.topics.of(a.shards[catalogShard]).byName {
		names[t.ID] = name
	}
	sizes := map[queues.Key]*QueueSize{}
	for _, c := range a.coordinators {
		u.Expired += c.locksEnded.Load()
		if c.leading() == 0 {
			continue
		}
		s := c.shard
		s.log.Read(func(metadata.Seq) {
			s.queues.Queues(queues.Key{}, func(q *queues.Queue) bool {
				state, ok := s.state.Partition(q.Topic, q.Partition)
				if names[q.Topic] == "" || !ok || q.Group == "" || q.Ordered {
					return true
				}
				k := queues.Key{Topic: q.Topic, Group: q.Group}
				if sizes[k] == nil {
					sizes[k] = &QueueSize{Group: q.Group, Topic: names[q.Topic]}
				}
				p := queuePartition(state, q)
				sizes[k].Locked += p.Locked
				sizes[k].Dying += p.Dying
				sizes[k].Lag += p.Lag
				return true
			})
		})
	}
	u.Queues = len(sizes)
	for _, s := range sizes {
		u.Largest = append(u.Largest, *s)
	}
	slices.SortFunc(u.Largest, func(a, b QueueSize) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	})
	u.Largest = u.Largest[:min(len(u.Largest), queuesNamed)]
	return u
}
