package sim

import (
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// topicNames are of the topics of every history.
var topicNames = [3]string{"topic-a", "topic-b", "topic-c"}

// insist proposes commands through any agent until they are decided, whatever becomes of agents.
func (w *world) insist(shard int, commands []metadata.Command, done func()) {
	again := func() { w.insist(shard, commands, done) }
	n := w.someone(w.lives)
	if n == nil {
		w.after(100*time.Millisecond, again)
		return
	}
	over := false
	once := func(f func()) {
		if !over {
			over = true
			f()
		}
	}
	n.propose(shard, commands, nil, func(results []any) {
		if results == nil {
			once(func() { w.after(100*time.Millisecond, again) })
			return
		}
		once(done)
	})
	w.after(2*proposeTimeout, func() { once(again) }) // that agent is dead, or stands still
}

// grow gives a topic a third partition, somebody who produces to it, and somebody who reads it.
func (w *world) grow(i int) {
	t := w.topic[i]
	w.insist(t.shard, []metadata.Command{metadata.AddPartitions{Topic: t.id, From: 2, To: 3}.Command()}, func() {
		w.insist(0, []metadata.Command{metadata.GrowTopic{ID: t.id, Partitions: 3}.Command(), metadata.ActivateTopic{ID: t.id, Partitions: 3}.Command()}, func() {
			w.trace("topic grew", 0, int64(i))
			w.topic[i].partitions = 3
			l := log{i, 2}
			p := w.newProducer(idempotent, l)
			p.schedule()
			w.newReader(l).schedule()
		})
	})
}
