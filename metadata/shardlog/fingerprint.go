package shardlog

import "github.com/splashdam/splashdam/metadata"

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
}

// Hash is the hash of the state. It may run beside the Core.
func (e HashState) Hash() uint64 { panic("shardlog: HashState.Hash: to be written") }

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

// Fingerprint answers the newest that this replica has taken; zero: none yet.
func (s *Shard) Fingerprint() Fingerprint { panic("shardlog: Shard.Fingerprint: to be written") }
