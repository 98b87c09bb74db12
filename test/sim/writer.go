package sim

import (
	"context"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// write gives the write path an event and carries out what it wants. It answers false when a submission found the buffer full.
func (n *node) write(e write.Event) (room bool) {
	if n.dead {
		return false
	}
	room = true
	for _, effect := range n.writer.Step(n.mono(), e) {
		switch e := effect.(type) {
		case write.Full:
			room = false
		case write.Wake:
			n.tick(&n.wake, e.At, func() { n.write(write.Tick{}) })
		case write.Upload:
			n.upload(e)
		case write.Propose:
			n.proposeSegments(e)
		case write.Answer:
			e.Batch.Owner.(func(write.Answer))(e)
		}
	}
	return room
}

func (n *node) upload(u write.Upload) {
	e := u.Encoded
	if e == nil {
		e = write.Encode(u.Batches)
		e.Name = objectlog.SegmentName{Boot: n.boot, Counter: u.Counter, Random: n.rng.Uint32()}
		e.Nonce = n.uuid()
	}
	body := e.Body
	n.w.putObject(n, n.w.keys.Segment(e.Name), func() []byte { return body }, e.Nonce, func(err error) {
		n.write(write.Uploaded{Counter: u.Counter, Encoded: e, Err: err})
	})
}

func (n *node) proposeSegments(p write.Propose) {
	same := func(results []any) {
		for i, c := range p.Commits {
			n.w.check.same(commit{n.ordinal, int(p.Shard), c.Counter}, results[i])
		}
	}
	n.propose(int(p.Shard), p.Commands(n.ordinal), same, func(results []any) {
		n.write(write.Decided{Shard: p.Shard, Results: results})
	})
}

// current asks the replica for the applied state to be current, and calls done when it is. It may never be: then fail is called, unless it is nil.
func (n *node) current(s int, done func(metadata.Seq), fail func()) {
	n.asked++
	id := n.asked
	n.replicas[s].currents[id] = func(c shardlog.CurrentAnswered) {
		switch {
		case c.Err == nil:
			done(c.Seq)
		case fail != nil:
			fail()
		}
	}
	n.step(s, shardlog.CurrentAsked{ID: id})
}

func (w *world) list(prefix string) []string {
	var keys []string
	for after := ""; ; {
		infos, err := w.bucket.List(context.Background(), prefix, after, 1000)
		if err != nil || len(infos) == 0 {
			return keys
		}
		for _, i := range infos {
			keys = append(keys, i.Key)
		}
		after = keys[len(keys)-1]
	}
}

func (w *world) deleteObject(n *node, key string) {
	request(w, n, theBucket, true, func() error { return w.bucket.Delete(context.Background(), key) }, func(error) {}, func() {})
}
