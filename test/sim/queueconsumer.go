package sim

import (
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// pullEvery is about how long a consumer waits between two pulls, while there are faults and behind them.
	pullEvery     = 1500 * time.Millisecond
	pullEveryCalm = 300 * time.Millisecond
	// queueTimeout is how long it waits for an answer before it asks again: the same, elsewhere.
	queueTimeout = 700 * time.Millisecond
	// queueTries is how often it asks.
	queueTries = 3
	// pullMost is how many records it takes at once, at most.
	pullMost = 8
	// unread is how often an agent can't read what it has locked.
	unread = 0.04
)

// puller is one run of a consumer of the queue.
type puller struct {
	process
	place int
	rng   *rand.Rand
}

// pull is one call for records, over all its attempts, and the work on what came.
type pull struct {
	by    *puller
	key   queues.Key
	lock  uint64
	limit int32
	began time.Duration
	tries int
	over  bool

	given map[objectlog.Offset]bool  // by the log, under this lock
	said  map[objectlog.Offset]uint8 // verdicts, by bits

	extended map[objectlog.Offset]time.Duration // when the call was made by which it was
}

// hire starts a consumer at a place.
func (w *world) hire(place int) {
	p := &puller{process: process{w: w}, place: place, rng: rand.New(rand.NewPCG(w.queueing.rng.Uint64(), uint64(place)))}
	w.queueing.crew = append(w.queueing.crew, p)
	p.next()
	if !w.check.groups.steady {
		w.after(between(p.rng, 2*time.Second, 8*time.Second), p.fate)
	}
}

// fate: it stands still, or dies and another one comes in its place.
func (p *puller) fate() {
	w := p.w
	switch {
	case w.now >= w.opt.Span || p.dead:
	case p.rng.IntN(2) == 0:
		p.pausedUntil = w.now + between(p.rng, 0, 2*w.queueing.lock)
		w.after(between(p.rng, 2*time.Second, 8*time.Second), p.fate)
	default:
		w.trace("puller dies", p.place)
		p.dead = true
		w.hire(p.place)
	}
}

func (p *puller) next() {
	every := pullEvery
	if p.w.now >= p.w.opt.Span {
		every = pullEveryCalm
	}
	p.to(between(p.rng, every/2, every*3/2), p.pull)
}

// pull asks for records of one partition.
func (p *puller) pull() {
	w := p.w
	pl := &pull{by: p, key: w.queueing.keys[p.rng.IntN(len(w.queueing.keys))], lock: p.rng.Uint64() | 1, limit: 1 + p.rng.Int32N(pullMost), began: w.now,
		given: map[objectlog.Offset]bool{}, said: map[objectlog.Offset]uint8{}, extended: map[objectlog.Offset]time.Duration{}}
	w.check.queues.pulls[pl.lock] = pl
	pl.attempt()
}

func (pl *pull) attempt() {
	p := pl.by
	pl.tries++
	mine := pl.tries
	again := func() {
		switch {
		case pl.over || pl.tries != mine:
		case mine < queueTries:
			pl.attempt()
		default: // whoever holds what is locked under it, it is nobody
			pl.over = true
			p.next()
		}
	}
	p.to(queueTimeout, again)
	p.call(p.w.someone(p.rng), func(n *node, reply func(func())) {
		n.acquire(pl, func(acquired []queues.Acquired, ok bool) {
			reply(func() {
				if !ok {
					again()
					return
				}
				p.w.check.queues.pulled(pl, acquired)
				if !pl.over {
					pl.over = true
					pl.work(acquired)
				}
			})
		})
	}, again)
}

// acquire is what an agent does with a pull. Not ok: the outcome is unknown.
func (n *node) acquire(pl *pull, done func(acquired []queues.Acquired, ok bool)) {
	w, s := n.w, n.w.shardOf(pl.key)
	r := n.replicas[s]
	p, known := r.state.Partition(pl.key.Topic, pl.key.Partition)
	if q, ok := r.queues.Queue(pl.key); !known || ok && q.Available(p.HighWatermark, queueWindow) == 0 && pl.tries == 1 || !ok && p.HighWatermark == 0 {
		done(nil, true) // it would wait
		return
	}
	c := queues.Acquire{Key: pl.key, Lock: pl.lock, Wait: w.queueing.lock, Limit: pl.limit, Window: queueWindow, Until: p.HighWatermark, Policy: w.queueing.policy}
	n.proposeQueue(s, c.Command(), func(result *queues.Result) {
		switch {
		case result == nil:
			done(nil, false)
		case len(result.Acquired) > 0 && w.chance(unread):
			n.giveBack(pl, result.Acquired, done)
		default:
			done(result.Acquired, true)
		}
	})
}

// giveBack returns what an agent has locked and can't read.
func (n *node) giveBack(pl *pull, acquired []queues.Acquired, done func([]queues.Acquired, bool)) {
	c := queues.Settle{Key: pl.key}
	for _, a := range acquired {
		c.Items = append(c.Items, pl.say(a.From, a.To, queues.Return))
	}
	n.proposeQueue(n.w.shardOf(pl.key), c.Command(), func(*queues.Result) { done(nil, true) })
}

// proposeQueue proposes a command for a queue to whoever leads its shard. result is nil when the outcome is unknown.
func (n *node) proposeQueue(s int, c metadata.Command, done func(result *queues.Result)) {
	n.propose(s, []metadata.Command{c}, nil, func(results []any) {
		if results == nil {
			done(nil)
			return
		}
		r, ok := results[0].(queues.Result)
		if !ok || r.Reason != queues.ReasonNone && r.Reason != queues.ReasonNoProducer {
			n.w.fail("protocol", "a command for a queue was answered with %v", results[0])
		}
		done(&r)
	})
}

// say notes a verdict, before anybody hears it.
func (pl *pull) say(from, to objectlog.Offset, v queues.Verdict) queues.Settlement {
	for o := from; o < to; o++ {
		pl.said[o] |= 1 << v
	}
	return queues.Settlement{From: from, To: to, Lock: pl.lock, Verdict: v}
}

// work is what a consumer does with what it pulled: now and then for too long.
func (pl *pull) work(acquired []queues.Acquired) {
	p := pl.by
	if len(acquired) == 0 {
		p.next()
		return
	}
	lock := p.w.queueing.lock
	takes := between(p.rng, 0, lock*5/4)
	if p.w.now >= p.w.opt.Span {
		takes = between(p.rng, 0, lock/4)
	}
	if p.rng.IntN(8) == 0 {
		extends := queues.Settle{Key: pl.key}
		for _, a := range acquired {
			item := pl.say(a.From, a.To, queues.Extend)
			item.Wait = lock
			extends.Items = append(extends.Items, item)
		}
		p.to(takes/2, func() { p.settle(extends, queueTries) })
	}
	p.to(takes, func() {
		if c := pl.judge(acquired); len(c.Items) > 0 {
			p.settle(c, 1)
		}
		p.next()
	})
}

// judge says what became of each record. Every ninth can't be processed.
func (pl *pull) judge(acquired []queues.Acquired) queues.Settle {
	p := pl.by
	calm := p.w.now >= p.w.opt.Span
	c := queues.Settle{Key: pl.key}
	for _, a := range acquired {
		for o := a.From; o < a.To; o++ {
			luck := p.rng.IntN(20)
			switch poison := o%9 == 4; {
			case luck == 0 && !calm: // forgotten
			case poison && (luck < 4 || calm):
				c.Items = append(c.Items, pl.say(o, o+1, queues.Reject))
			case poison, luck == 1 && !calm:
				item := pl.say(o, o+1, queues.Release)
				if luck%2 == 0 {
					item.Wait = between(p.rng, time.Millisecond, time.Second).Truncate(time.Millisecond)
				}
				item.Error = "it can't be read"
				c.Items = append(c.Items, item)
			default:
				c.Items = append(c.Items, pl.say(o, o+1, queues.Accept))
			}
		}
	}
	return c
}

// settle says what became of records, and again elsewhere for as long as the outcome is unknown.
func (p *puller) settle(c queues.Settle, try int) {
	over, called := false, p.w.now
	again := func() {
		if !over && try < queueTries {
			p.settle(c, try+1)
		}
		over = true
	}
	p.to(queueTimeout, again)
	p.call(p.w.someone(p.rng), func(n *node, reply func(func())) {
		n.proposeQueue(n.w.shardOf(c.Key), c.Command(), func(result *queues.Result) {
			reply(func() {
				if result == nil {
					again()
					return
				}
				over = true
				p.w.check.queues.settled(c, called, *result)
			})
		})
	}, again)
}
