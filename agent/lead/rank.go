package lead

import (
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// claimsMax replicas may be claiming at a time: behind an outage of the table nobody takes everything at once.
	claimsMax = 8
	// goneTellsMax bounds how often a boot is called gone on grounds that are no refusal. Two agents that are given one address or one name by
	// mistake would else depose each other for ever.
	goneTellsMax = 2
	// pinLeases is how long a rank that goes above the order's holds when no new leader shows.
	pinLeases = 2

	rankUnknown = -2
)

// pin is a rank that holds until an epoch above one shows, or until a time.
type pin struct {
	rank  int
	epoch objectlog.Epoch
	until time.Duration // 0: none
}

// tell is a HolderGone as it was told. It is told again when the replica has learnt of another holder since: of an epoch it did not know,
// it forgot whom it was told about.
type tell struct {
	boot  objectlog.UUID
	named objectlog.UUID
	epoch objectlog.Epoch
	times int // of that boot
}

// stand finds out who may lead, and orders them anew for the shards for which that changed.
func (c *Core) stand() {
	var standing []Peer
	if !c.draining {
		standing = append(standing, c.cfg.Self)
	}
	for _, p := range c.peers {
		if c.live(p) || p.grace > c.now && !p.dead {
			standing = append(standing, p.Peer)
		}
	}
	changed := c.standing == nil || !slices.Equal(standing, c.standing)
	if changed {
		c.standing = append([]Peer{}, standing...)
	}
	for _, s := range c.shards {
		if changed || s.anew {
			s.order, s.anew = Rendezvous(s.key, c.able(s)), false
		}
	}
}

// able answers those whose replica of the shard has not halted.
func (c *Core) able(s *shard) []Peer {
	able := make([]Peer, 0, len(c.standing))
	for _, o := range c.standing {
		halted := s.status.Role == shardlog.RoleHalted
		if p := c.peer(o.Boot); p != nil {
			halted = int(s.number) < len(p.reports) && p.reports[s.number].Halted
		}
		if !halted {
			able = append(able, o)
		}
	}
	return able
}

// rank tells the replicas their places.
func (c *Core) rank() {
	claiming, spare := 0, claimsMax
	for _, s := range c.shards {
		switch s.status.Role {
		case shardlog.RoleClaiming:
			claiming++
			spare--
		case shardlog.RoleLeading, shardlog.RoleHalted:
			s.granted = 0
		default:
			if s.granted > 0 && c.now-s.granted < c.cfg.Lease {
				spare--
				c.at(s.granted + c.cfg.Lease)
			}
		}
	}
	for _, s := range c.shards {
		switch s.status.Role {
		case shardlog.RoleClaiming, shardlog.RoleLeading, shardlog.RoleHalted: // has no use for a rank
		default:
			c.rankShard(s, claiming, &spare)
		}
	}
}

// rankShard tells one replica its place, and whether the holder is gone. A claim that is due at once takes one of the places
// that are left; one that takes none within the lease gives it back.
func (c *Core) rankShard(s *shard, claiming int, spare *int) {
	rank := c.place(s)
	gone, refused := c.goneHolder(s, rank)
	switch due := !gone.IsZero() || rank == 0 && (s.status.Leader.IsZero() || c.pinned(s)); {
	case !due:
		s.granted = 0
		if claiming >= claimsMax {
			rank = -1
		}
	case s.granted == 0 && *spare <= 0 && !c.pinned(s):
		rank, gone = -1, objectlog.UUID{}
	case s.granted == 0:
		s.granted = max(c.now, 1)
		*spare--
		c.at(s.granted + c.cfg.Lease)
	}
	if !gone.IsZero() {
		rank = 0 // also where a former run of this agent led, whatever the order says
	}
	if rank != s.told {
		s.told = rank
		c.emit(Tell{Shard: s.number, Event: shardlog.Ranked{Rank: rank}})
	}
	if !gone.IsZero() {
		c.tellGone(s, gone, refused)
	}
}

// place is the replica's rank as the order has it.
func (c *Core) place(s *shard) int {
	if c.draining {
		return -1
	}
	if c.pinned(s) {
		c.at(s.pin.until)
		return s.pin.rank
	}
	if !c.listed {
		return -1
	}
	place := 0
	for _, p := range s.order {
		switch {
		case p.Boot == c.cfg.Self.Boot:
			return place
		case p.Boot == s.holder:
			continue
		}
		if place++; place > 1 {
			break
		}
	}
	return -1
}

// pinRank fixes the rank until a newer epoch than the newest known one shows.
func (c *Core) pinRank(s *shard, rank int) {
	s.pin = pin{rank: rank, epoch: s.epoch, until: c.now + pinLeases*c.cfg.Lease}
}

func (c *Core) pinned(s *shard) bool { return s.pin.until > c.now && s.epoch <= s.pin.epoch }

// goneHolder answers the holder if it is gone for sure and this agent is to succeed it.
func (c *Core) goneHolder(s *shard, rank int) (boot objectlog.UUID, refused bool) {
	p := c.peer(s.holder)
	if p == nil || c.draining {
		return objectlog.UUID{}, false
	}
	young := c.now-c.began < youthTime
	switch {
	case p.Name == c.cfg.Self.Name && p.listed && young:
	case rank == 0 && p.dead:
	case rank == 0 && p.refused >= 2 && c.now-p.refusal < c.cfg.Lease && p.held[s.number] == s.epoch:
		return p.Boot, true
	default:
		return objectlog.UUID{}, false
	}
	if s.gone.boot == p.Boot && s.gone.times >= goneTellsMax && !s.toldGone(p.Boot) {
		return objectlog.UUID{}, false
	}
	return p.Boot, false
}

// toldGone: the replica was told so, and knows the same holder as then.
func (s *shard) toldGone(boot objectlog.UUID) bool {
	return s.gone.boot == boot && s.gone.named == s.status.Leader && s.gone.epoch == s.status.Epoch
}

func (c *Core) tellGone(s *shard, boot objectlog.UUID, refused bool) {
	if s.toldGone(boot) {
		return
	}
	times := s.gone.times
	if s.gone.boot != boot {
		times = 0
	}
	if !refused && s.status.Leader == boot {
		times++
	}
	s.gone = tell{boot: boot, named: s.status.Leader, epoch: s.status.Epoch, times: times}
	c.emit(Tell{Shard: s.number, Event: shardlog.HolderGone{Holder: boot}})
}
