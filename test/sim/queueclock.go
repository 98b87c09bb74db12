package sim

import (
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// ticking is what a driver keeps beside a queues.Clock.
type ticking struct {
	core      *queues.Clock
	proposing bool // what the last tick found due
	seen      waits
}

// endWaits is one look at the locks and delays of a shard's queues.
func (n *node) endWaits(s int, r *replica) {
	c := &r.waits
	epoch := n.leading(r)
	due := c.core.Tick(n.mono(), epoch, r.queues)
	c.seen.tick(n.mono(), epoch, r.queues)
	for _, d := range due {
		n.w.check.queues.due(n, r, d)
	}
	if c.proposing || len(due) == 0 {
		return
	}
	c.proposing = true
	n.ask(s, due, func(d shardlog.Decided) {
		c.proposing = false
		n.taken(d)
	})
}

// waits are those of a shard's queues, as the checks have seen them begin at one leader.
type waits struct {
	epoch objectlog.Epoch
	last  time.Duration // of the look before, if leadership was confirmed then
	lived time.Duration // of this leadership, while it was confirmed
	since map[wait]time.Duration
}

type wait struct {
	key   queues.Key
	stamp int64
}

func (w *waits) tick(now time.Duration, epoch objectlog.Epoch, s *queues.State) {
	if epoch == 0 {
		w.last = 0
		return
	}
	if epoch != w.epoch {
		*w = waits{epoch: epoch, since: map[wait]time.Duration{}}
	}
	if w.last != 0 {
		w.lived += min(now-w.last, metadata.TickMax)
	}
	w.last = now
	s.Queues(queues.Key{}, func(q *queues.Queue) bool {
		for _, p := range q.Pieces {
			if p.Phase == queues.Locked || p.Phase == queues.Delayed {
				if _, ok := w.since[wait{q.Key, p.Stamp}]; !ok {
					w.since[wait{q.Key, p.Stamp}] = w.lived
				}
			}
		}
		return true
	})
}

// due: a leader ends a wait when it has led for the whole of it, with a lease that was confirmed.
func (k *queueChecks) due(n *node, r *replica, c metadata.Command) {
	b := wire.Reader{B: c.Body}
	key := queues.Key{Topic: b.UUID("topic"), Partition: objectlog.Partition(b.Uvarint("partition"))}
	key.Group = b.String("group", 255)
	q, ok := r.queues.Queue(key)
	stamp := int64(0)
	for range b.Count("stamps", 1) {
		stamp += int64(b.Uvarint("stamp"))
		for i := 0; ok && i < len(q.Pieces); i++ {
			p := q.Pieces[i]
			if p.Stamp != stamp || p.Phase != queues.Locked && p.Phase != queues.Delayed {
				continue
			}
			since, seen := r.waits.seen.since[wait{key, stamp}]
			if lived := r.waits.seen.lived - since; !seen || r.waits.seen.last == 0 || lived < p.Wait {
				k.w.fail("early-end", "agent %d ends the wait %d of %v of group %q after %v as its leader, of %v", n.place, stamp, k.w.logOfKey(key), key.Group, lived, p.Wait)
			}
		}
	}
	if err := b.End(); err != nil {
		k.w.fail("protocol", "what a clock asked for: %v", err)
	}
}
