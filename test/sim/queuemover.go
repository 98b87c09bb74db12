package sim

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// deposedFor is how long one that leads no more goes on moving.
	deposedFor = 3 * time.Second
	// departMost is how many records leave with one command, at most.
	departMost = 4
)

// moving is what an agent keeps of the records that its shards' queues send on.
type moving struct {
	departing map[queues.Key]bool
	walks     map[objectlog.ProducerID]bool // along routes
	until     time.Duration
}

// walk is one attempt to write what is on its way along one route: in the order of its sequences, one after the other was written.
type walk struct {
	n        *node
	s        int
	key      queues.Key
	producer objectlog.ProducerID
	left     []queues.Piece
	arrived  []queues.Arrival // not yet finished
}

// move is one look at what a shard's queues are to send on, by the leader, or by one that has not noticed that it is none any more.
func (n *node) move(s int, r *replica) {
	w, m := n.w, &r.moving
	epoch := n.leading(r)
	if epoch != 0 {
		m.until = w.now + deposedFor
	}
	if w.queueing.still || w.now >= m.until {
		return
	}
	r.queues.Queues(queues.Key{}, func(q *queues.Queue) bool {
		if epoch != 0 && !m.departing[q.Key] {
			n.depart(s, r, q)
		}
		for _, route := range q.Routes {
			if !m.walks[route.Producer] {
				n.walk(s, r, q, route.Producer)
			}
		}
		return true
	})
}

// depart puts failed records on their way, now and then to a topic that is gone by then.
func (n *node) depart(s int, r *replica, q *queues.Queue) {
	w := n.w
	c := queues.MoveOut{Key: q.Key}
	fresh := map[queues.Place]objectlog.ProducerID{}
	for _, p := range q.Pieces {
		for o := p.From; o < p.To && p.Phase == queues.Failed && len(c.Items) < departMost; o++ {
			to := queues.Place{Topic: w.topic[lettersTopic].id, Partition: q.Partition}
			if n.rng.IntN(16) == 0 {
				to.Topic = nowhere
			}
			c.Items = append(c.Items, queues.Departure{Offset: o, To: to, Producer: w.routeProducer(q, fresh, to)})
		}
	}
	if len(c.Items) == 0 {
		return
	}
	r.moving.departing[q.Key] = true
	n.ask(s, []metadata.Command{c.Command()}, func(d shardlog.Decided) {
		delete(r.moving.departing, c.Key)
		n.taken(d)
	})
}

// routeProducer is for a departure: none where a route is known.
func (w *world) routeProducer(q *queues.Queue, fresh map[queues.Place]objectlog.ProducerID, to queues.Place) objectlog.ProducerID {
	if q != nil && slices.ContainsFunc(q.Routes, func(r queues.Route) bool { return r.To == to }) {
		return objectlog.NoProducer
	}
	if _, ok := fresh[to]; !ok {
		fresh[to] = w.newProducerID()
	}
	return fresh[to]
}

// walk writes what is on its way along a route.
func (n *node) walk(s int, r *replica, q *queues.Queue, producer objectlog.ProducerID) {
	k := &walk{n: n, s: s, key: q.Key, producer: producer}
	for _, p := range q.Pieces {
		if p.Phase == queues.Moving && p.Move.Producer == producer {
			k.left = append(k.left, p)
		}
	}
	if len(k.left) == 0 {
		return
	}
	slices.SortFunc(k.left, func(a, b queues.Piece) int { return cmp.Compare(a.Move.Sequence, b.Move.Sequence) })
	r.moving.walks[producer] = true
	k.write()
}

// over ends the walk; what is left is begun anew.
func (k *walk) over() { delete(k.n.replicas[k.s].moving.walks, k.producer) }

// write writes the next record.
func (k *walk) write() {
	n, w := k.n, k.n.w
	if n.rng.IntN(12) == 0 { // it crashes between any two steps
		k.over()
		return
	}
	if len(k.left) == 0 {
		k.finish()
		return
	}
	p := k.left[0]
	again := func() { w.to(n, between(n.rng, 50*time.Millisecond, 300*time.Millisecond), k.retry) }
	b := w.letterBatch(k.key, p)
	b.Owner = func(a write.Answer) {
		switch {
		case a.Err == nil:
			k.written(p, a.Parts[0])
		case errors.Is(a.Err, write.ErrNotWritten), errors.Is(a.Err, write.ErrUnknown):
			again()
		default:
			w.fail("protocol", "a dead letter was answered with %v", a.Err)
		}
	}
	if !n.write(write.Submit{Batches: []*write.Batch{b}}) {
		again()
	}
}

func (k *walk) retry() {
	if k.n.w.queueing.still || k.n.w.now >= k.n.replicas[k.s].moving.until {
		k.over()
		return
	}
	k.write()
}

// letterBatch is the batch of a record on its way: the same one, whoever writes it.
func (w *world) letterBatch(key queues.Key, p queues.Piece) *write.Batch {
	to, shard := p.Move.To, w.shardOf(key)
	if to.Topic != nowhere {
		shard = w.topic[w.logOfPlace(to).topic].shard
	}
	value := w.check.queues.letters[departure{p.Move.Producer, p.Move.Sequence}].value
	o := objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: p.Move.Producer, ProducerEpoch: 0, FirstSequence: p.Move.Sequence}
	encoded, row, err := write.EncodeRecords([]objectlog.Record{{Value: []byte(value)}}, objectlog.CodecNone, 1<<20, o)
	if err != nil {
		panic(err)
	}
	return &write.Batch{Shard: objectlog.Shard(shard), Topic: to.Topic, Partition: to.Partition, Stamp: objectlog.NoTimestamp, Bytes: 200, Encoded: encoded, Row: row}
}

// written takes what the target's log says.
func (k *walk) written(p queues.Piece, part write.Part) {
	n, w := k.n, k.n.w
	at := departure{p.Move.Producer, p.Move.Sequence}
	switch part.Reason {
	case metadata.ReasonNone:
		if part.Duplicate {
			w.stats.Rewritten++
		} else {
			w.stats.Letters++
		}
		if !w.queueing.still {
			w.check.acked(w.logOfPlace(p.Move.To), part.Base, w.check.queues.letters[at].value)
		}
	case metadata.ReasonOldSequence:
		w.stats.Rewritten++
	case metadata.ReasonUnknownTopic:
		n.ask(k.s, []metadata.Command{queues.Reroute{Key: k.key, Producer: k.producer}.Command()}, func(d shardlog.Decided) {
			n.taken(d)
			k.over()
		})
		return
	default: // a route has no gap
		w.fail("route-gap", "%s, sequence %d of producer %d: %v", w.check.queues.letters[at].value, at.sequence, at.producer, part.Reason)
		return
	}
	w.check.queues.arrived[at] = true
	k.arrived = append(k.arrived, queues.Arrival{Offset: p.From, Producer: at.producer, Sequence: at.sequence})
	k.left = k.left[1:]
	k.write()
}

// finish finishes the sources of what has arrived.
func (k *walk) finish() {
	c := queues.Moved{Key: k.key, Items: k.arrived}
	slices.SortFunc(c.Items, func(a, b queues.Arrival) int { return cmp.Compare(a.Offset, b.Offset) })
	k.n.ask(k.s, []metadata.Command{c.Command()}, func(d shardlog.Decided) {
		k.n.taken(d)
		k.over()
	})
}
