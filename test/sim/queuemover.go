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

// walk is one attempt to write what is on its way along one route, in the order of its sequences.
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

// write writes the next record alone, or, behind the first one of the walk, all that are left one behind the other.
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
	pieces := k.left[:1]
	if len(k.arrived) > 0 && n.rng.IntN(2) == 0 {
		pieces = k.left
	}
	answers, open := make([]write.Answer, len(pieces)), len(pieces)
	batches := make([]*write.Batch, len(pieces))
	for i, p := range pieces {
		batches[i] = w.letterBatch(k.key, p)
		batches[i].Owner = func(a write.Answer) {
			answers[i] = a
			if open--; open == 0 {
				k.answered(pieces, answers)
			}
		}
	}
	if !n.write(write.Submit{Batches: batches}) {
		w.to(n, between(n.rng, 50*time.Millisecond, 300*time.Millisecond), k.retry)
	}
}

// answered takes what the target's log says, up to the first record of which it is not known that it arrived.
func (k *walk) answered(pieces []queues.Piece, answers []write.Answer) {
	n, w := k.n, k.n.w
	for i, a := range answers {
		switch {
		case errors.Is(a.Err, write.ErrNotWritten), errors.Is(a.Err, write.ErrUnknown):
			w.to(n, between(n.rng, 50*time.Millisecond, 300*time.Millisecond), k.retry)
			return
		case a.Err != nil:
			w.fail("protocol", "a dead letter was answered with %v", a.Err)
			return
		case a.Parts[0].Reason == metadata.ReasonUnknownTopic:
			k.reroute()
			return
		case !k.written(pieces[i], a.Parts[0]):
			return
		}
	}
	k.write()
}

// reroute takes back what is on its way to a topic that is gone.
func (k *walk) reroute() {
	k.n.ask(k.s, []metadata.Command{queues.Reroute{Key: k.key, Producer: k.producer}.Command()}, func(d shardlog.Decided) {
		k.n.taken(d)
		k.over()
	})
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

// written takes what the target's log says of one record.
func (k *walk) written(p queues.Piece, part write.Part) (arrived bool) {
	w := k.n.w
	at := departure{p.Move.Producer, p.Move.Sequence}
	value := w.check.queues.letters[at].value
	switch {
	case part.Reason == metadata.ReasonOldSequence, part.Duplicate:
		w.stats.Rewritten++
	case part.Reason == metadata.ReasonNone:
		w.stats.Letters++
	default: // a route has no gap
		w.fail("route-gap", "%s, sequence %d of producer %d: %v", value, at.sequence, at.producer, part.Reason)
		return false
	}
	if part.Reason == metadata.ReasonNone && !w.queueing.still {
		w.check.acked(w.logOfPlace(p.Move.To), part.Base, value)
	}
	w.check.queues.arrived[at] = true
	k.arrived = append(k.arrived, queues.Arrival{Offset: p.From, Producer: at.producer, Sequence: at.sequence})
	k.left = k.left[1:]
	return true
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
