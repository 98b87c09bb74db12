// Package lead decides, as a pure core, which agents are alive, which of them should lead which shard, whose entries are followed, and
// where proposals go. Who leads is decided by the shard logs alone: a mistake made here costs a change of leader, never a record.
// DESIGN.md beside this file states the rules.
package lead

import (
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// Config is what one agent's Core needs to know. Zero values are the defaults named here.
type Config struct {
	Self   Peer
	Shards int
	Lease  time.Duration // of the shard logs; default 3 s
	Random func() uint64 // 64 random bits: jitter. Seeded in simulation
}

// Peer is one run of an agent.
type Peer struct {
	Boot objectlog.UUID
	Name string // of the place where it runs, the same behind a restart, no two alike at one time: rendezvous hashing goes by it
}

// Report is what an agent says of its replica of one shard.
type Report struct {
	Leads   bool
	Epoch   objectlog.Epoch // newest known
	Leader  objectlog.UUID  // as the lease item says it; zero when none is known
	Applied metadata.Seq
}

// Event is what a Core is told.
type Event interface{ event() }

// Tick tells nothing but the time. The first Step is a Tick; later ones come at NextWake.
type Tick struct{}

// Listed says which other agents have an item in the table; those missing from it are forgotten unless they were heard since.
type Listed struct{ Peers []Peer }

// Heard is a greeting of another agent, whether it was asked for or not. Reports are by shard number.
type Heard struct {
	Peer     Peer
	Draining bool
	Reports  []Report
}

// Failed says that a Ping had no greeting of that boot for an answer.
type Failed struct {
	Boot    objectlog.UUID
	Refused bool // its address refuses connections: no process listens there
	Gone    bool // another boot answers at its address
}

// Moved is the status of this agent's own replica, told whenever it changes other than in Applied.
type Moved struct {
	Shard  objectlog.Shard
	Status shardlog.Status
}

// StreamEnded says that a stream begun by Follow ended, or was silent for too long.
type StreamEnded struct {
	Shard objectlog.Shard
	Boot  objectlog.UUID
}

// Offered says that the holder let go of the lease at that epoch and wants this agent to claim.
type Offered struct {
	Shard  objectlog.Shard
	Holder objectlog.UUID
	Epoch  objectlog.Epoch
}

// HandedOff answers a HandOff: leadership was let go, or not (Err), whether or not the other agent heard of it.
type HandedOff struct {
	Shard objectlog.Shard
	Err   error
}

// Drain says that this agent is about to stop: it hands off what it leads and claims nothing more.
type Drain struct{}

func (Tick) event()        {}
func (Listed) event()      {}
func (Heard) event()       {}
func (Failed) event()      {}
func (Moved) event()       {}
func (StreamEnded) event() {}
func (Offered) event()     {}
func (HandedOff) event()   {}
func (Drain) event()       {}

// Effect is what a Core wants done. Effects of one step are begun in order and may run together.
type Effect interface{ effect() }

// Ping sends one greeting to the agent. Its end is a Heard or a Failed; one is under way per boot.
type Ping struct{ Boot objectlog.UUID }

// Follow follows the shard's entries from that boot, in place of whom it was followed from before; zero: from nobody. A stream that ends
// by itself is a StreamEnded.
type Follow struct {
	Shard objectlog.Shard
	Boot  objectlog.UUID
}

// Tell passes an event on to this agent's replica.
type Tell struct {
	Shard objectlog.Shard
	Event shardlog.Event
}

// HandOff lets go of the shard's leadership, then offers it to the other agent; zero: to nobody. It is answered by HandedOff.
type HandOff struct {
	Shard objectlog.Shard
	To    objectlog.UUID
}

func (Ping) effect()    {}
func (Follow) effect()  {}
func (Tell) effect()    {}
func (HandOff) effect() {}

// Core is one agent's view of the others, as a state machine without goroutines, clock and I/O: Step takes an event and
// answers effects. One goroutine at a time may use it.
type Core struct{ cfg Config }

// New is a Core that knows nobody but itself.
func New(cfg Config) *Core { panic("lead: New: to be written") }

// Step takes one event at a time of the monotonic clock, which never falls, and answers what is to be done.
func (c *Core) Step(now time.Duration, e Event) []Effect { panic("lead: Step: to be written") }

// NextWake is the time at which a Tick has something to do.
func (c *Core) NextWake() (at time.Duration, ok bool) { panic("lead: NextWake: to be written") }

// Leader is where proposals of the shard go: the holder of the newest epoch that this agent has heard of; zero: nobody is known.
func (c *Core) Leader(s objectlog.Shard) (objectlog.UUID, objectlog.Epoch) {
	panic("lead: Leader: to be written")
}

// Live answers the agents that are alive as far as this one knows, itself included unless it drains, by name.
func (c *Core) Live() []Peer { panic("lead: Live: to be written") }

// Reached says whether the boot answered its last ping, and how long ago it was heard; false: it never was.
func (c *Core) Reached(boot objectlog.UUID, now time.Duration) (ok bool, ago time.Duration) {
	panic("lead: Reached: to be written")
}

// Rendezvous answers the peers in the order in which they should have what key names, the first first. Every agent that knows the same
// peers answers the same, and a peer that comes or goes moves only what it gets or had.
func Rendezvous(key string, peers []Peer) []Peer { panic("lead: Rendezvous: to be written") }
