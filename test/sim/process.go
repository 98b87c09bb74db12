package sim

import "time"

const (
	// stragglers are the calls that are late in the best of times, while consumers come and go.
	stragglers = 0.04
	// consumerRetry is how long a consumer waits after a failure.
	consumerRetry = 100 * time.Millisecond
)

// process is one that consumes: it may stand still, and dies or ends.
type process struct {
	w           *world
	dead        bool
	pausedUntil time.Duration
}

// to makes something happen to the process later: not if it is dead by then, and when it goes on if it is paused.
func (p *process) to(d time.Duration, do func()) {
	p.w.after(d, func() {
		switch {
		case p.dead:
		case p.pausedUntil > p.w.now:
			p.to(p.pausedUntil-p.w.now, do)
		default:
			do()
		}
	})
}

// call takes a call to an agent, as a balancer picks one. land happens there when the call arrives, maybe twice, maybe late, maybe never; what it
// replies happens to the consumer, or never. nobody: no agent takes calls.
func (p *process) call(n *node, land func(n *node, reply func(func())), nobody func()) {
	w := p.w
	if n == nil {
		p.to(consumerRetry, nobody)
		return
	}
	straggles := w.noise.late
	if !w.check.groups.steady && w.now < w.opt.Span {
		straggles = max(straggles, stragglers)
	}
	gone, twice, late := w.chance(w.noise.loss), w.chance(w.noise.twice), w.chance(straggles)
	if gone {
		return
	}
	d := w.delay()
	if late {
		d += between(w.fate, 0, lateMax)
	}
	w.to(n, d, func() {
		land(n, func(f func()) {
			if !w.chance(w.noise.loss) {
				p.to(w.delay(), f)
			}
		})
	})
	if twice {
		w.to(n, w.delay()+between(w.fate, 0, lateMax), func() { land(n, func(func()) {}) })
	}
}
