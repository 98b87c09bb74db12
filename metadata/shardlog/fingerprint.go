package shardlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"slices"

	"github.com/splashdam/splashdam/metadata"
)

// Fingerprint is a hash of the whole state at one seq, by which replicas find out that they differ. The zero Fingerprint is none: a hash is
// never 0.
type Fingerprint struct {
	Seq  metadata.Seq
	Hash uint64
}

// HashState asks for the hash of the state at a seq: Hash. Every replica takes one at the same seqs. It is answered by StateHashed.
type HashState struct {
	ID    uint64
	Seq   metadata.Seq
	names []string
	views []metadata.View
	size  int64 // bytes of the newest snapshot: about as many as will be encoded
}

var ecma = crc64.MakeTable(crc64.ECMA)

// hashBytesMax bounds what is allocated on a size that was read.
const hashBytesMax = 256 << 20

// Hash is the hash of the state. It may run beside the Core.
func (e HashState) Hash() uint64 {
	var sum uint64
	head, body := []byte(nil), make([]byte, 0, min(e.size, hashBytesMax)*9/8)
	for i, v := range e.views {
		body = v.Encode(body[:0])
		head = appendBytes(head[:0], e.names[i])
		head = binary.AppendUvarint(head, uint64(len(body)))
		sum = crc64.Update(crc64.Update(sum, ecma, head), ecma, body)
	}
	return max(sum, 1)
}

// StateHashed answers a HashState.
type StateHashed struct {
	ID   uint64
	Hash uint64
}

// Compared brings the leader's fingerprint. A replica whose own at that seq is another one halts: one of the two is wrong, and nobody can
// tell which.
type Compared struct{ Leader Fingerprint }

func (HashState) effect()  {}
func (StateHashed) event() {}
func (Compared) event()    {}

const (
	// fingerprintEvery is how many entries lie at least between two fingerprints: each costs as much as encoding a snapshot.
	fingerprintEvery = 64
	// fingerprintsMax bounds how many wait for their like: replicas are rarely further apart, and the next ones tell as well.
	fingerprintsMax = 8
)

// fingerprints are what a replica has to compare.
type fingerprints struct {
	id     uint64        // of the HashState under way; 0: none
	seq    metadata.Seq  // its
	own    []Fingerprint // newest last, as are the leader's
	leader []Fingerprint
}

// hashWhenDue asks for a fingerprint of the applied state at the seqs at which every replica does, unless one is under way. A replay
// leaves them out: it would hash in a moment what was compared in hours.
func (c *Core) hashWhenDue() {
	if c.phase != phaseFollowing && c.phase != phaseBarrier && c.phase != phaseLeading {
		return
	}
	if n := c.tip.seq; n == 0 || n%max(fingerprintEvery, c.slots()/8) != 0 || c.prints.id != 0 {
		return
	}
	e := HashState{ID: c.nextID(), Seq: c.tip.seq, size: c.lease.cur.bytes}
	e.names, e.views = c.views()
	c.prints.id, c.prints.seq = e.ID, e.Seq
	c.emit(e)
}

// views are pictures of the machines, in the order in which they were registered.
func (c *Core) views() (names []string, views []metadata.View) {
	for _, r := range c.machines {
		names, views = append(names, r.Name), append(views, r.Machine.View())
	}
	return names, views
}

func (c *Core) onStateHashed(e StateHashed) {
	if c.prints.id == 0 || e.ID != c.prints.id {
		return
	}
	c.prints.id = 0
	c.prints.own = withNewest(c.prints.own, Fingerprint{Seq: c.prints.seq, Hash: e.Hash})
	c.compareStates()
}

func (c *Core) onCompared(e Compared) {
	if e.Leader.Hash == 0 || slices.Contains(c.prints.leader, e.Leader) {
		return
	}
	c.prints.leader = withNewest(c.prints.leader, e.Leader)
	c.compareStates()
}

func withNewest(all []Fingerprint, f Fingerprint) []Fingerprint {
	all = append(all, f)
	return all[max(0, len(all)-fingerprintsMax):]
}

func (c *Core) compareStates() {
	for _, own := range c.prints.own {
		for _, leader := range c.prints.leader {
			if own.Seq == leader.Seq && own.Hash != leader.Hash {
				c.halt(damage(fmt.Sprintf("state at seq %d", own.Seq), fmt.Sprintf("hash %016x, the leader's", leader.Hash), fmt.Sprintf("%016x", own.Hash),
					"this agent or the leader applied an entry wrongly: compare their versions and the shard's snapshots, then restart the one that is wrong"))
				return
			}
		}
	}
}

// Fingerprint answers the newest that this replica has taken; zero: none yet.
func (s *Shard) Fingerprint() Fingerprint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if own := s.core.prints.own; len(own) > 0 {
		return own[len(own)-1]
	}
	return Fingerprint{}
}
