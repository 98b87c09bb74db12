package sim

import (
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// queueGroup reads a topic as a queue, orderedGroup another one in order.
	queueGroup   = "queue"
	orderedGroup = "ordered"
	// queueWindow is how many records of a partition may be in flight.
	queueWindow = 10
	// crew is how many consumers a queue has.
	crew = 2
	// lettersTopic is the index of the topic of dead letters. The catalog does not know it, so no group reads it.
	lettersTopic = len(topicNames)
)

// nowhere is a topic that was deleted.
var nowhere = objectlog.UUID{0xff}

// queueing is what a history has of queues.
type queueing struct {
	rng       *rand.Rand
	keys      []queues.Key // of the queue: a topic's first two partitions; none: nobody reads a queue
	ordered   queues.Key
	policy    queues.Policy
	lock      time.Duration // as it travels
	crew      []*puller
	producers objectlog.ProducerID // given to routes
	still     bool                 // nobody moves dead letters any more
}

// chooseQueues chooses the topic of the queue and of the ordered group, and the topic of dead letters: it may be of the queue's shard, or of another.
func (w *world) chooseQueues(rng *rand.Rand) {
	t := topic{id: objectlog.UUID{byte(lettersTopic + 1)}, name: "letters", partitions: 2, shard: rng.IntN(w.set.shards)}
	for int(metadata.ShardOf(t.id, 0, w.set.shards)) != t.shard {
		t.id[15]++
	}
	w.topic = append(w.topic, t)
	q := &w.queueing
	q.rng, q.producers = rng, 1000
	q.policy = queues.Policy{Deliveries: 2 + rng.Int32N(3), DeadLetters: t.name}
	q.lock = between(rng, 500*time.Millisecond, 3*time.Second).Truncate(time.Millisecond)
	of := rng.IntN(len(topicNames))
	if rng.IntN(5) == 0 { // a history without queues
		return
	}
	for p := range objectlog.Partition(2) {
		q.keys = append(q.keys, queues.Key{Topic: w.topic[of].id, Partition: p, Group: queueGroup})
	}
	q.ordered = queues.Key{Topic: w.topic[(of+1)%len(topicNames)].id, Partition: objectlog.Partition(rng.IntN(2)), Group: orderedGroup}
}

// letterKeys are of the queues that the topic of dead letters has itself.
func (w *world) letterKeys() []queues.Key {
	t := w.topic[lettersTopic]
	return []queues.Key{{Topic: t.id, Partition: 0}, {Topic: t.id, Partition: 1}}
}

// everywhere are all partitions, those of dead letters too.
func (w *world) everywhere() []log {
	all := w.logs()
	for p := range w.topic[lettersTopic].partitions {
		all = append(all, log{lettersTopic, objectlog.Partition(p)})
	}
	return all
}

func (w *world) logOfPlace(p queues.Place) log {
	return w.logOf(groups.TopicPartition{Topic: p.Topic, Partition: p.Partition})
}

func (w *world) logOfKey(k queues.Key) log {
	return w.logOfPlace(queues.Place{Topic: k.Topic, Partition: k.Partition})
}

// shardOf is the shard of a queue: its partition's.
func (w *world) shardOf(k queues.Key) int { return w.topic[w.logOfKey(k).topic].shard }

// newProducerID is one that is used for one route.
func (w *world) newProducerID() objectlog.ProducerID {
	w.queueing.producers++
	return w.queueing.producers
}

// queueConsumers begins the work on the queue.
func (w *world) queueConsumers() {
	if len(w.queueing.keys) == 0 {
		return
	}
	for i := range crew {
		w.hire(i)
	}
	w.after(between(w.queueing.rng, time.Second, 4*time.Second), w.redrive)
	q := &quitter{process: process{w: w}, rng: w.queueing.rng}
	q.to(between(q.rng, time.Second, 4*time.Second), q.read)
}

// senders are the queues from which records go to other partitions, beside the queue.
func (w *world) senders() []queues.Key {
	if len(w.queueing.keys) == 0 {
		return nil
	}
	return append(w.letterKeys(), w.queueing.ordered)
}

// drained: all records of the queue are accepted or dead letters, and no dead letter is on its way.
func (w *world) drained() bool {
	for _, key := range w.queueing.keys {
		leader := w.leader(w.shardOf(key))
		if leader == nil {
			return false
		}
		r := leader.replicas[w.shardOf(key)]
		p, _ := r.state.Partition(key.Topic, key.Partition)
		q, ok := r.queues.Queue(key)
		if p.HighWatermark > 0 && (!ok || q.Next < p.HighWatermark || len(q.Pieces) > 0) {
			return false
		}
	}
	for _, key := range w.senders() {
		leader := w.leader(w.shardOf(key))
		if leader == nil {
			return false
		}
		if q, ok := leader.replicas[w.shardOf(key)].queues.Queue(key); ok && q.Count(queues.Failed)+q.Count(queues.Moving) > 0 {
			return false
		}
	}
	return true
}
