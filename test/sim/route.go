package sim

import (
	"errors"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// proposeTimeout is after how long an agent takes a proposal's outcome for unknown.
	proposeTimeout = time.Second
	// routeRetry is how long a proposal that no leader took waits, unless another leader is known before.
	routeRetry = 50 * time.Millisecond
	// routeGrace is how long a leader that was replaced may still answer for what it was sent.
	routeGrace = 250 * time.Millisecond
)

// proposal looks for the leader of its shard until it is decided, or nobody knows whether it is.
type proposal struct {
	n        *node
	shard    int
	commands []metadata.Command
	done     func(results []any)
	checks   func(results []any) // of every answer, also of one that comes too late

	over    bool
	tries   int
	waiting bool // until the next try: nobody is asked
}

// propose sends commands to the shard's leader, as far as this agent knows it. results is nil unless the leader answered with a receipt.
func (n *node) propose(s int, commands []metadata.Command, checks, done func(results []any)) {
	p := &proposal{n: n, shard: s, commands: commands, checks: checks, done: done}
	n.w.to(n, proposeTimeout, func() { p.end(nil) })
	p.route()
}

func (p *proposal) end(results []any) {
	if !p.over {
		p.over = true
		p.done(results)
	}
}

// route asks the leader of the present tenure. When that ends meanwhile, whoever is asked may never answer: then the outcome is unknown.
func (p *proposal) route() {
	if p.over {
		return
	}
	n, t := p.n, p.n.lead.tenures[p.shard]
	p.tries++
	p.waiting = false
	try := p.tries
	mine := func() bool { return !p.over && p.tries == try }
	t.ended = append(t.ended, func() {
		switch {
		case !mine():
		case p.waiting:
			p.route()
		default:
			n.w.to(n, routeGrace, func() {
				if mine() && !p.waiting {
					p.end(nil)
				}
			})
		}
	})
	never := func() {
		if !mine() || p.waiting {
			return
		}
		if p.waiting = true; t.over {
			p.route()
			return
		}
		n.w.to(n, routeRetry, func() {
			if mine() {
				p.route()
			}
		})
	}
	decided := func(d shardlog.Decided) {
		if d.Err == nil && p.checks != nil {
			p.checks(d.Receipt.Results)
		}
		switch {
		case !mine():
		case d.Err == nil:
			p.end(d.Receipt.Results)
		case errors.Is(d.Err, shardlog.ErrNotLeader) && !errors.Is(d.Err, shardlog.ErrUnknown):
			never()
		default:
			p.end(nil)
		}
	}
	p.ask(t.boot, decided, never)
}

// ask asks one boot, which does not pass it on. never: nothing was done there.
func (p *proposal) ask(boot objectlog.UUID, decided func(shardlog.Decided), never func()) {
	n, s := p.n, p.shard
	m := n.w.known[boot]
	switch {
	case m == nil:
		never()
	case m == n:
		n.ask(s, p.commands, decided)
	default:
		n.call(m.place, proposeTimeout, func(m *node, reply func(func())) {
			if m.boot != boot {
				reply(never)
				return
			}
			m.ask(s, p.commands, func(d shardlog.Decided) { reply(func() { decided(d) }) })
		}, func(o outcome) {
			if o == refused || o == stranger {
				never()
			} else {
				decided(shardlog.Decided{Err: shardlog.ErrUnknown})
			}
		})
	}
}

// ask proposes to the replica at this very agent. A command of its own goes along, by which the log tells whether this proposal is in it.
func (n *node) ask(s int, commands []metadata.Command, done func(shardlog.Decided)) {
	w := n.w
	n.asked++
	id := n.asked
	tag := w.check.newTag(s)
	r := n.replicas[s]
	r.pending[id] = func(d shardlog.Decided) {
		w.check.decided(tag, d)
		if d.Err == nil {
			d.Receipt.Results = d.Receipt.Results[:len(commands)]
		}
		done(d)
	}
	tagged := append(append(make([]metadata.Command, 0, len(commands)+1), commands...), tag.command())
	n.step(s, shardlog.Proposed{ID: id, Commands: tagged})
}
