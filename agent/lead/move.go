package lead

import (
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// tenureLeases is how long a shard stays where it is.
	tenureLeases = 3
	// behindMax is how many entries a replica may lack that a shard is handed to.
	behindMax metadata.Seq = 64
)

// onMoved takes note of what the own replica does.
func (c *Core) onMoved(e Moved) {
	s := c.shard(e.Shard)
	if s == nil {
		return
	}
	was := s.status
	s.status, s.news = e.Status, true
	s.anew = s.anew || (was.Role == shardlog.RoleHalted) != (s.status.Role == shardlog.RoleHalted)
	if s.status.Role == shardlog.RoleLeading && s.status.Epoch <= s.let { // said before it let go
		s.status.Role, s.status.Leader = shardlog.RoleFollowing, objectlog.UUID{}
	}
	leads, led := s.status.Role == shardlog.RoleLeading, was.Role == shardlog.RoleLeading
	switch {
	case leads && (!led || was.Epoch != s.status.Epoch):
		c.tenure(s)
		c.askAll() // so that all learn of it
	case led && !leads:
		s.told = rankUnknown
		if s.status.Leader.IsZero() && s.status.Epoch == was.Epoch {
			c.letGo(s, was.Epoch)
		}
	}
}

// tenure begins a time in which the shard stays, or none when this agent is about to stop.
func (c *Core) tenure(s *shard) {
	s.move = c.now
	if !c.draining {
		s.move += tenureLeases*c.cfg.Lease + c.chance(c.cfg.Lease)
	}
}

// letGo: the own replica ended its tenure by itself. Its rank is -1 by itself, and stays so for a while, or it would be the first to
// claim what it let go.
func (c *Core) letGo(s *shard, epoch objectlog.Epoch) {
	if s.let >= epoch { // known from the other of Moved and HandedOff
		return
	}
	s.told, s.let, s.news = rankUnknown, epoch, true
	if s.epoch <= epoch {
		c.pinRank(s, -1)
	}
}

func (c *Core) onHandedOff(e HandedOff) {
	s := c.shard(e.Shard)
	if s == nil || !s.handing {
		return
	}
	s.handing = false
	if e.Err != nil {
		s.heir = objectlog.UUID{}
	}
	switch {
	case e.Err != nil && c.draining:
		s.move = c.now + c.cfg.Lease/3
	case e.Err != nil:
		c.tenure(s)
	default:
		if s.status.Role == shardlog.RoleLeading && s.status.Epoch == s.handed {
			s.status.Role, s.status.Leader, s.news = shardlog.RoleFollowing, objectlog.UUID{}, true
		}
		c.letGo(s, s.handed)
	}
}

// onOffered: this agent was chosen, unless another one holds what is offered: nobody lets go of another one's epoch.
func (c *Core) onOffered(e Offered) {
	s := c.shard(e.Shard)
	if s == nil || c.draining || s.epoch > e.Epoch || s.epoch == e.Epoch && !s.holder.IsZero() && s.holder != e.Holder {
		return
	}
	switch s.status.Role {
	case shardlog.RoleClaiming, shardlog.RoleLeading, shardlog.RoleHalted: // it does what it can
		return
	}
	s.let, s.epoch, s.news = max(s.let, e.Epoch), e.Epoch, true
	c.pinRank(s, 0)
	if s.told != 0 {
		s.told = 0
		c.emit(Tell{Shard: s.number, Event: shardlog.Ranked{Rank: 0}})
	}
	c.emit(Tell{Shard: s.number, Event: shardlog.HolderGone{Holder: e.Holder}})
}

func (c *Core) onDrain() {
	if c.draining {
		return
	}
	c.draining = true
	for _, s := range c.shards {
		s.move = c.now
	}
	c.askAll()
}

// moveOn hands off what should be led by another agent: everything at once when this agent is about to stop, else one shard at a time.
func (c *Core) moveOn() {
	busy := false
	for _, s := range c.shards {
		busy = busy || s.handing
	}
	for _, s := range c.shards {
		if s.status.Role != shardlog.RoleLeading || s.handing || busy && !c.draining {
			continue
		}
		ready, to := s.move, objectlog.UUID{}
		if c.draining {
			to = c.heir(s)
		} else {
			p := c.wanted(s)
			if p == nil {
				continue
			}
			ready, to = max(ready, p.since+c.cfg.Lease, p.shy), p.Boot
		}
		if ready > c.now {
			c.at(ready)
			continue
		}
		s.handing, s.handed, s.heir, busy = true, s.status.Epoch, to, true
		c.emit(HandOff{Shard: s.number, To: to, Epoch: s.handed})
	}
}

// judge looks who took a shard that was handed on. Whoever can be reached by agents, but not reach the table, would be handed a shard
// again and again while nobody leads it.
func (c *Core) judge(s *shard) {
	p := c.peer(s.heir)
	if p == nil || s.holder.IsZero() || s.epoch <= s.handed {
		return
	}
	s.heir = objectlog.UUID{}
	if s.holder == p.Boot {
		p.missed, p.shy = 0, 0
		return
	}
	p.missed++
	p.shy = c.now + tenureLeases*c.cfg.Lease<<min(p.missed, 6)
}

// wanted is the peer that should lead the shard and could go on at once; nil: this agent, or nobody who could.
func (c *Core) wanted(s *shard) *peer {
	if len(s.order) == 0 {
		return nil
	}
	p := c.peer(s.order[0].Boot)
	if p == nil || !p.listed || !c.live(p) || p.failed > 0 || !near(p, s) { // it may greet, and not answer: then proposals would not reach it
		return nil
	}
	return p
}

// heir is the best of those that could go on: one that is near and answers, else one that is alive, else nobody.
func (c *Core) heir(s *shard) objectlog.UUID {
	var heir objectlog.UUID
	for _, o := range s.order {
		p := c.peer(o.Boot)
		if p == nil || !c.live(p) {
			continue
		}
		if near(p, s) && p.failed == 0 {
			return p.Boot
		}
		if heir.IsZero() {
			heir = p.Boot
		}
	}
	return heir
}

// near: the peer follows the shard, and lacks little.
func near(p *peer, s *shard) bool {
	if int(s.number) >= len(p.reports) {
		return false
	}
	r := p.reports[s.number]
	return r.Epoch == s.status.Epoch && r.Applied+behindMax >= s.status.Applied
}
