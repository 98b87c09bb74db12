package sim

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// proposeTimeout is after how long an agent takes a proposal's outcome for unknown.
const proposeTimeout = time.Second

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
	n.propose(int(p.Shard), p.Commands(n.ordinal), func(results []any) {
		n.write(write.Decided{Shard: p.Shard, Results: results})
	})
}

// propose sends commands to the shard's leader, as far as this agent knows it. results is nil unless the leader answered with a receipt.
func (n *node) propose(s int, commands []metadata.Command, done func(results []any)) {
	answered := false
	once := func(results []any) {
		if !answered {
			answered = true
			done(results)
		}
	}
	n.w.to(n, proposeTimeout, func() { once(nil) })
	leader := n.replicas[s].core.Status(n.mono()).Leader
	reply := func(d shardlog.Decided) []any {
		if d.Err != nil {
			return nil
		}
		return d.Receipt.Results
	}
	if leader == n.boot {
		n.ask(s, commands, func(d shardlog.Decided) { once(reply(d)) })
		return
	}
	for p, m := range n.w.at {
		if m != nil && m.boot == leader {
			n.w.tell(n, p, func(m *node) {
				m.ask(s, commands, func(d shardlog.Decided) {
					m.w.tell(m, n.place, func(back *node) {
						if back == n {
							once(reply(d))
						}
					})
				})
			})
		}
	}
}

// ask proposes to the replica at this very agent.
func (n *node) ask(s int, commands []metadata.Command, done func(shardlog.Decided)) {
	n.asked++
	id := n.asked
	n.replicas[s].proposals[id] = done
	n.replicas[s].pending[id] = true
	n.step(s, shardlog.Proposed{ID: id, Commands: commands})
}

// current asks the replica for the applied state to be current, and calls done when it is. It may never be.
func (n *node) current(s int, done func(metadata.Seq)) {
	n.asked++
	id := n.asked
	n.replicas[s].currents[id] = func(c shardlog.CurrentAnswered) {
		if c.Err == nil {
			done(c.Seq)
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
