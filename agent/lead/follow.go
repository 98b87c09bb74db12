package lead

import (
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// followAgain is how long a stream that ended soon is not begun again; it doubles up to a third of the lease.
const followAgain = 50 * time.Millisecond

// word is what somebody says about who holds a shard.
type word struct {
	epoch  objectlog.Epoch
	boot   objectlog.UUID
	weight int
}

// The weights, of words about one epoch: the leader knows best, then the own replica, which reads the lease item itself.
const (
	hearsay = iota
	own
	leads
)

// above: the newest epoch tells, whoever is known to hold it. Whoever held an older one does not lead any more.
func (w word) above(v word) bool {
	switch {
	case w.epoch != v.epoch:
		return w.epoch > v.epoch
	case w.boot.IsZero() != v.boot.IsZero():
		return v.boot.IsZero()
	}
	return w.weight > v.weight
}

// lookUp finds the holder of the newest epoch. When nobody knows that one, there is none. It asks every peer's report, so it does only when one
// of them has changed, or the own status, or who let go: most greetings tell nothing but how far replicas have come.
func (c *Core) lookUp(s *shard) {
	if !s.news {
		return
	}
	s.news = false
	best := word{epoch: -1}
	hear := func(w word) {
		if w.above(best) && w.weight < leads && c.denies(s, w) {
			w.boot = objectlog.UUID{}
		}
		if w.above(best) {
			best = w
		}
	}
	st := s.status
	if st.Role == shardlog.RoleLeading {
		hear(word{st.Epoch, c.cfg.Self.Boot, leads})
	}
	hear(word{st.Epoch, st.Leader, own})
	for _, p := range c.peers {
		if int(s.number) >= len(p.reports) {
			continue
		}
		r := p.reports[s.number]
		if r.Leads {
			hear(word{r.Epoch, p.Boot, leads})
		}
		hear(word{r.Epoch, r.Leader, hearsay})
	}
	if best.epoch <= s.let {
		best.boot = objectlog.UUID{}
	}
	epoch, said := max(best.epoch, s.let), best.weight == leads
	if epoch != s.epoch || best.boot != s.holder || said != s.said { // news: a stream that ended may hold now
		s.ended, s.resume = 0, c.now
	}
	s.epoch, s.holder, s.said = epoch, best.boot, said
}

// denies: whoever is named says itself, of that epoch or a later one, that it does not hold the shard.
func (c *Core) denies(s *shard, w word) bool {
	if w.boot == c.cfg.Self.Boot {
		r := Report{Leads: s.status.Role == shardlog.RoleLeading || s.status.Role == shardlog.RoleClaiming, Leader: s.status.Leader}
		return s.status.Epoch >= w.epoch && !r.holds(w.boot)
	}
	p := c.peer(w.boot)
	if p == nil || int(s.number) >= len(p.reports) {
		return false
	}
	r := p.reports[s.number]
	return r.Epoch >= w.epoch && !r.holds(w.boot)
}

// leader is the holder, unless it is known to be away.
func (c *Core) leader(s *shard) objectlog.UUID {
	if p := c.peer(s.holder); p != nil && (p.dead || p.refused >= 2) {
		return objectlog.UUID{}
	}
	return s.holder
}

// follow follows whoever leads. Whom nobody listed and who never greeted has no address.
func (c *Core) follow(s *shard) {
	want := c.leader(s)
	if c.peer(want) == nil {
		want = objectlog.UUID{}
	}
	switch {
	case want != s.from:
		s.from, s.ended, s.resume = want, 0, 0
	case want.IsZero() || s.flowing:
		return
	case s.resume > c.now:
		c.at(s.resume)
		return
	}
	s.flowing, s.flowed = !want.IsZero(), c.now
	c.emit(Follow{Shard: s.number, Boot: want})
}

// onStreamEnded: the end of a stream is the first sign of its leader's.
func (c *Core) onStreamEnded(e StreamEnded) {
	s := c.shard(e.Shard)
	if s == nil || s.from != e.Boot || !s.flowing {
		return
	}
	s.flowing = false
	if c.now-s.flowed >= c.cfg.Lease/3 {
		s.ended = 0
	}
	s.resume = c.now + min(followAgain<<min(s.ended, 10), c.cfg.Lease/3)
	s.ended++
	if p := c.peer(e.Boot); p != nil {
		c.ask(p)
	}
}
