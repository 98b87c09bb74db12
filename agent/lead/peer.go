package lead

import (
	"bytes"
	"slices"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	// againAfter lies between two refusals that together mean that no process listens.
	againAfter = 20 * time.Millisecond
	// forgetLeases: a peer that was neither listed nor heard for so long is forgotten.
	forgetLeases = 10
	// youthTime is how long an agent takes those that ran before it under its name for gone: far more than shards take to learn who holds their
	// lease. Behind it the lease decides.
	youthTime = 10 * time.Second
)

// peer is another boot, as this agent knows it.
type peer struct {
	Peer
	listed bool          // in the newest list
	known  time.Duration // when it was last listed
	heard  time.Duration // when it was last heard; negative: never
	since  time.Duration // alive without a break
	grace  time.Duration // until then it counts as alive unheard; 0: it does not

	draining   bool // for good
	dead       bool // for good: another boot has its place
	superseded bool // a newer boot bears its name: the next refusal is its end

	pinging bool
	again   bool          // ping once more when the one under way is over
	urgent  bool          // the next ping is due though it is neither listed nor alive
	next    time.Duration // when to ping
	failed  int           // pings in a row
	refused int           // in a row; from 2 on only an answer takes it back
	refusal time.Duration // when the newest came

	reports []Report
	held    []objectlog.Epoch // by shard, the newest epoch that it said it holds in an answer

	missed int           // shards in a row that were handed to it, and that another one took
	shy    time.Duration // it is handed nothing before
}

// answers: it was heard within the lease, and its address does not refuse.
func (c *Core) answers(p *peer) bool {
	return !p.dead && p.refused < 2 && p.heard >= 0 && c.now-p.heard < c.cfg.Lease
}

func (c *Core) live(p *peer) bool { return c.answers(p) && !p.draining }

func (c *Core) peer(boot objectlog.UUID) *peer {
	if i, ok := c.find(boot); ok {
		return c.peers[i]
	}
	return nil
}

func (c *Core) find(boot objectlog.UUID) (int, bool) {
	return slices.BinarySearchFunc(c.peers, boot, func(p *peer, b objectlog.UUID) int { return bytes.Compare(p.Boot[:], b[:]) })
}

// meet adds a peer that is not known yet, to be pinged at once.
func (c *Core) meet(p Peer) *peer {
	i, _ := c.find(p.Boot)
	met := &peer{Peer: p, known: c.now, heard: -1, next: c.now, held: make([]objectlog.Epoch, c.cfg.Shards)}
	c.peers = slices.Insert(c.peers, i, met)
	return met
}

// supersede: those who bore the name of a boot that was just met are asked whether they are still there.
func (c *Core) supersede(by *peer, before []*peer) {
	for _, p := range before {
		if p.Name == by.Name {
			p.superseded = true
			c.ask(p)
		}
	}
}

func (c *Core) onListed(e Listed) {
	first := !c.listed
	c.listed = true
	before := slices.Clone(c.peers)
	for _, p := range c.peers {
		p.listed = false
	}
	for _, l := range e.Peers {
		if l.Boot == c.cfg.Self.Boot {
			continue
		}
		p := c.peer(l.Boot)
		if p == nil {
			p = c.meet(l)
			c.supersede(p, before)
			p.superseded = l.Name == c.cfg.Self.Name
			if first && !p.superseded {
				p.grace = c.now + c.cfg.Lease/3
			}
		}
		p.Name, p.listed, p.known = l.Name, true, c.now
	}
}

func (c *Core) onHeard(e Heard) {
	if e.Peer.Boot == c.cfg.Self.Boot {
		return
	}
	p := c.peer(e.Peer.Boot)
	if p == nil {
		before := slices.Clone(c.peers)
		p = c.meet(e.Peer)
		c.supersede(p, before)
	}
	if !e.Unasked {
		p.pinging = false
	}
	if p.dead {
		return
	}
	alive := c.live(p)
	p.Name, p.draining, p.heard, p.grace = e.Peer.Name, p.draining || e.Draining, c.now, 0
	switch {
	case !e.Unasked:
		p.failed, p.refused, p.superseded = 0, 0, false
		p.next = c.now + c.about(c.cfg.Lease/3)
	case p.failed > 0 && p.refused != 1: // it may be reached again
		p.next, p.urgent = c.now, true
	}
	if !alive {
		p.since = c.now
	}
	c.learn(p, e)
	if p.again {
		c.ask(p)
	}
}

// learn keeps the newest report of each shard: greetings may overtake each other, and epochs never fall. What halted stays so.
func (c *Core) learn(p *peer, e Heard) {
	for len(p.reports) < min(len(e.Reports), c.cfg.Shards) {
		c.shards[len(p.reports)].news = true
		p.reports = append(p.reports, Report{})
	}
	for i := range min(len(e.Reports), c.cfg.Shards) {
		r := e.Reports[i]
		if r.Epoch < p.reports[i].Epoch {
			continue
		}
		s, was := c.shards[i], p.reports[i]
		r.Halted = r.Halted || was.Halted
		s.anew = s.anew || r.Halted != was.Halted
		s.news = s.news || r.Leads != was.Leads || r.Epoch != was.Epoch || r.Leader != was.Leader
		p.reports[i] = r
		if !r.holds(p.Boot) || r.Epoch <= p.held[i] {
			continue
		}
		if e.Unasked {
			c.ask(p) // so that its end would be noticed
		} else {
			p.held[i] = r.Epoch
		}
	}
}

// holds: the boot itself says that it holds the lease, whether or not it leads already.
func (r Report) holds(self objectlog.UUID) bool { return r.Leads || r.Leader == self }

func (c *Core) onFailed(e Failed) {
	p := c.peer(e.Boot)
	if p == nil {
		return
	}
	p.pinging, p.grace = false, 0
	p.failed++
	switch {
	case e.Refused && p.superseded: // one is enough; but it may be the newer of the two, so an answer takes it back
		p.refused = max(p.refused+1, 2)
	case e.Refused:
		p.refused++
	case p.refused < 2:
		p.refused = 0
	}
	if e.Refused {
		p.refusal = c.now
	}
	p.dead = p.dead || e.Gone
	switch {
	case p.refused == 1:
		p.next, p.urgent = c.now+againAfter, true
	case p.again, p.failed == 1 && c.holdsAny(p):
		c.ask(p)
	case c.answers(p):
		p.next = c.now + c.about(c.cfg.Lease/6)
	default:
		p.next = c.now + c.about(min(c.cfg.Lease/3<<min(p.failed-1, 4), 2*c.cfg.Lease))
	}
}

func (c *Core) holdsAny(p *peer) bool {
	return slices.ContainsFunc(c.shards, func(s *shard) bool { return s.holder == p.Boot })
}

// ask pings the peer at once, or once more when a ping is under way. Between two refusals it does not: they must lie apart.
func (c *Core) ask(p *peer) {
	if p.refused == 1 {
		return
	}
	p.again = p.pinging
	p.next, p.urgent = c.now, true
}

func (c *Core) askAll() {
	for _, p := range c.peers {
		c.ask(p)
	}
}

// ping sends the pings that are due.
func (c *Core) ping() {
	for _, p := range c.peers {
		if p.pinging || p.dead || !p.listed && !p.urgent && !c.answers(p) {
			continue
		}
		if p.next > c.now {
			c.at(p.next)
			continue
		}
		p.pinging, p.again, p.urgent = true, false, false
		c.emit(Ping{Boot: p.Boot})
	}
}

// forget drops the peers that are nowhere any more, and notes when others change by time alone.
func (c *Core) forget() {
	before := len(c.peers)
	c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool {
		if p.listed || p.pinging {
			return false
		}
		until := max(p.known, p.heard) + forgetLeases*c.cfg.Lease
		c.at(until)
		return until <= c.now
	})
	if len(c.peers) < before {
		for _, s := range c.shards {
			s.news = true
		}
	}
	for _, p := range c.peers {
		if c.answers(p) {
			c.at(p.heard + c.cfg.Lease)
		}
		c.at(p.grace)
	}
}
