// Package shardlog is the shard log protocol: a totally ordered list of entries kept in a ring of table items, appended by
// one leader at a time, replayable by anyone. Core is the protocol, pure; Shard drives one Core against a real
// table and bucket. DESIGN.md beside this file states the invariants, spec/ models them.
package shardlog

import (
	"context"
	"errors"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Config is what one agent's replica of one shard log needs to know.
type Config struct {
	Shard   objectlog.Shard
	Cluster objectlog.UUID
	Boot    objectlog.UUID // this run of the agent: the holder's name in the lease item

	Lease time.Duration // how long an unmoved lease nonce is watched before it is taken over; default 3 s, 0.5 s to 60 s
	// ClaimAtOnce skips that watch, for a table that only one process can open (bbolt): the holder named in it is gone.
	ClaimAtOnce bool

	EntryBytesMax        int           // above it an entry refers to footers; default 8 KiB
	SnapshotEveryEntries int           // default slots / 8
	SnapshotEveryBytes   int64         // of entries and footers; default 8 MB
	SnapshotEvery        time.Duration // after a change; default 60 s

	// TailBytes bounds the newest applied entries that are kept for followers' streams, but for the last one; memory may hold half as much again.
	// Who is further behind reads the ring. Default 4 MiB: a process with many replicas gives each a part of what it has.
	TailBytes int

	// Random gives 64 random bits: nonces, names, jitter. Seeded in simulation.
	Random func() uint64
}

// Registration plugs a machine into the log: it applies the commands whose kind is in [From, To), and its part of a
// snapshot bears its name.
type Registration struct {
	Name     string
	From, To metadata.Kind
	Machine  metadata.Machine
}

// Receipt says where a proposal was committed and what each of its commands did. The records of a Commit are durable from then on.
type Receipt struct {
	Seq     metadata.Seq
	Results []any // one per command: Apply's result, or the error with which Prepare refused it
}

var (
	// ErrNotLeader: the proposal was not appended and never will be; propose to the leader.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknown: leadership ended while the append was in flight; it may or may not be in the log. Re-send idempotent commands.
	ErrUnknown = errors.New("outcome unknown")
	// ErrHalted: the shard met missing or corrupt state and stopped. It is not read as empty; a person must look.
	ErrHalted = errors.New("shard halted")
)

// Role is what a replica is doing.
type Role uint8

// The roles.
const (
	RoleStarting  Role = iota // no applied state yet
	RoleFollowing             // applies another leader's entries
	RoleClaiming              // lease item, catch-up, barrier
	RoleLeading
	RoleHalted
)

// Status describes a replica for people and for readiness.
type Status struct {
	Role     Role
	Epoch    objectlog.Epoch
	Leader   objectlog.UUID // boot of the known leader; zero when none
	Applied  metadata.Seq   // -1 before the first entry
	Snapshot metadata.Seq   // newest confirmed; -1 when none
	Renewed  bool           // leading, and the lease was renewed within its time
	Slots    int            // of the ring; 0: not known yet
	Used     int            // slots that hold entries behind the previous snapshot, as far as the lease item is known here: a leader knows
	// SnapshotAge is how long ago the newest snapshot was confirmed here; negative: it was not, or by another leader.
	SnapshotAge time.Duration
	Away        error // leading or claiming, and the table left a put undecided for the lease time: which, since when, why
	Fault       error // why the shard halted
}

// Log is what the rest of the agent sees of a shard log; *Shard is the one that drives a Core. The names are those of Shard's methods.
type Log interface {
	// Propose appends the commands to the log, in order, together (one entry, maybe with others'), and answers when they are applied. ErrNotLeader,
	// ErrUnknown, ErrHalted; a context that ends first leaves the outcome unknown.
	Propose(ctx context.Context, commands []metadata.Command) (Receipt, error)
	// Current answers a seq such that the applied state has reached every entry committed before the call. It reads the next slot.
	Current(ctx context.Context) (metadata.Seq, error)
	// Read runs f while the machines do not change. f does no I/O.
	Read(f func(applied metadata.Seq))
	// Changed is closed when an entry behind the applied state of this moment is applied, or when Role, Leader, Epoch, Renewed or Fault change.
	Changed() <-chan struct{}
	Status() Status
}
