package sim

import (
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// redriveEvery is about how often somebody looks at the dead letters.
	redriveEvery = 4 * time.Second
	// redriveMost is how many of them are redriven or discarded at once, at most.
	redriveMost = 3
)

// redrive sends dead letters back to the queue, or discards them, through any agent.
func (w *world) redrive() {
	rng := w.queueing.rng
	if w.now >= w.opt.Span {
		return
	}
	w.after(between(rng, redriveEvery/2, redriveEvery*3/2), w.redrive)
	n, key := w.someone(rng), w.letterKeys()[rng.IntN(2)]
	if n == nil || n.pausedUntil > w.now {
		return
	}
	s := w.shardOf(key)
	p, _ := n.replicas[s].state.Partition(key.Topic, key.Partition)
	q, _ := n.replicas[s].queues.Queue(key)
	var there []objectlog.Offset
	for o := objectlog.Offset(0); o < p.HighWatermark && len(there) < redriveMost; o++ {
		at := standing{untouched: true}
		if q != nil {
			at = standingOf(q.Pieces, q.Next, o)
		}
		if (at.untouched || at.holds(queues.Ready)) && rng.IntN(3) > 0 {
			there = append(there, o)
		}
	}
	if len(there) == 0 {
		return
	}
	if rng.IntN(4) == 0 {
		c := queues.Discard{Key: key, Until: p.HighWatermark}
		for _, o := range there {
			w.check.queues.watch(key).record(o).discarded = true
			c.Ranges = append(c.Ranges, queues.Range{From: o, To: o + 1})
		}
		n.proposeQueue(s, c.Command(), func(*queues.Result) {})
		return
	}
	c := queues.MoveOut{Key: key, Until: p.HighWatermark}
	fresh := map[queues.Place]objectlog.ProducerID{}
	for _, o := range there {
		back := w.queueing.keys[rng.IntN(len(w.queueing.keys))]
		to := queues.Place{Topic: back.Topic, Partition: back.Partition}
		c.Items = append(c.Items, queues.Departure{Offset: o, To: to, Producer: w.routeProducer(q, fresh, to)})
	}
	send := func(n *node) {
		n.proposeQueue(s, c.Command(), func(r *queues.Result) {
			if r != nil && r.Reason == queues.ReasonNone {
				w.stats.Redriven += len(c.Items) - len(r.Refused)
			}
		})
	}
	send(n)
	if rng.IntN(2) == 0 { // whoever hears nothing asks again, maybe while the first call goes on
		w.after(between(rng, 0, time.Second), func() {
			if n := w.someone(rng); n != nil && w.now < w.opt.Span {
				send(n)
			}
		})
	}
}

// quitter is the consumer of a group that reads a partition in order and gives up on a record now and then.
type quitter struct {
	process
	rng *rand.Rand
	at  objectlog.Offset // committed
}

func (q *quitter) read() {
	w, key := q.w, q.w.queueing.ordered
	if w.now >= w.opt.Span {
		return
	}
	q.to(between(q.rng, time.Second, 4*time.Second), q.read)
	bad := q.at + objectlog.Offset(q.rng.IntN(3))
	if bad >= w.check.next[w.logOfKey(key)] {
		return
	}
	c := queues.Fail{Key: key, Offset: bad, Committed: q.at, Deliveries: 3, First: objectlog.Timestamp(w.now / time.Millisecond), Error: "it can't be read", Policy: w.queueing.policy}
	w.check.queues.watch(key).record(bad).givenUp = true
	q.call(w.someone(q.rng), func(n *node, reply func(func())) {
		n.proposeQueue(w.shardOf(key), c.Command(), func(r *queues.Result) {
			reply(func() {
				if r != nil && q.rng.IntN(3) > 0 { // else it crashes, and meets the record again
					w.check.queues.quits(key, bad)
					q.at = max(q.at, bad+1)
					w.check.queues.position = q.at
				}
			})
		})
	}, func() {})
}
