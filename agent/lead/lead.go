// Package lead decides, as a pure core, which agents are alive, which of them should lead which shard, whose entries are followed, and
// where proposals go. Who leads is decided by the shard logs alone: a mistake made here costs a change of leader, never a record.
// DESIGN.md beside this file states the rules.
package lead

import (
	"fmt"
	"slices"
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
	Halted  bool // for as long as that boot runs
}

// Event is what a Core is told.
type Event interface{ event() }

// Tick tells nothing but the time. The first Step is a Tick; later ones come at NextWake.
type Tick struct{}

// Listed says which other agents have an item in the table. Until the first one a Core takes nothing for its own.
type Listed struct{ Peers []Peer }

// Heard is a greeting of another agent. Reports are by shard number.
type Heard struct {
	Peer     Peer
	Draining bool
	Unasked  bool // it answers no Ping of this agent: it ends none, and does not show that the other one can be reached
	Reports  []Report
}

// Failed says that a Ping had no greeting of that boot for an answer.
type Failed struct {
	Boot    objectlog.UUID
	Refused bool // its address refuses connections: no process listens there
	Gone    bool // another boot answers at its address
}

// Moved is the status of this agent's own replica, told whenever it changes. A change of Applied alone may be told late: only moves
// compare it.
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

// HandOff lets go of the shard's leadership, then offers it to the other agent; zero: to nobody. It is answered by HandedOff. The offer tells
// the epoch that is named here: the replica may have heard of another leader's meanwhile.
type HandOff struct {
	Shard objectlog.Shard
	To    objectlog.UUID
	Epoch objectlog.Epoch
}

func (Ping) effect()    {}
func (Follow) effect()  {}
func (Tell) effect()    {}
func (HandOff) effect() {}

// Core is one agent's view of the others, as a state machine without goroutines, clock and I/O: Step takes an event and
// answers effects. One goroutine at a time may use it.
type Core struct {
	cfg    Config
	peers  []*peer  // by boot: no order of a map reaches an effect
	shards []*shard // by number

	started  bool
	began    time.Duration // the first step
	now      time.Duration
	wake     time.Duration // 0: nothing to do until an event
	effects  []Effect
	listed   bool // the table's list was told once
	draining bool
	standing []Peer // who may lead, this agent included, as the shards' orders have it
	alive    []Peer // as Live answered it since the newest step; nil: it was not asked
}

// shard is what a Core keeps of one shard.
type shard struct {
	number objectlog.Shard
	key    string
	order  []Peer // those who may lead it, by rendezvous
	anew   bool   // the order is to be found out again

	status shardlog.Status // of the own replica
	news   bool            // some of what lookUp goes by has changed
	epoch  objectlog.Epoch // newest known
	holder objectlog.UUID  // of that epoch; zero: nobody known. It may be dead
	said   bool            // it said itself that it leads
	let    objectlog.Epoch // up to it every holder is known to have let go

	told    int           // rank that the replica has; rankUnknown: it may have set another one itself
	pin     pin           // rank that goes above the order's
	granted time.Duration // when it began to be among the claimsMax, as a claim is due; 0: it is not
	gone    tell          // newest HolderGone

	from    objectlog.UUID // followed
	flowing bool           // no StreamEnded yet
	flowed  time.Duration  // when the stream was begun
	ended   int            // streams of from that ended soon, in a row
	resume  time.Duration  // when to follow again

	move    time.Duration   // not handed off before; of a shard that is led
	handing bool            // a HandOff is under way
	handed  objectlog.Epoch // what the newest HandOff lets go of
	heir    objectlog.UUID  // to whom; zero: nobody, or it is known who leads since
}

// New is a Core that knows nobody but itself.
func New(cfg Config) *Core {
	if cfg.Lease <= 0 {
		cfg.Lease = 3 * time.Second
	}
	c := &Core{cfg: cfg}
	for n := range cfg.Shards {
		c.shards = append(c.shards, &shard{number: objectlog.Shard(n), key: fmt.Sprintf("shard#%d", n), news: true, let: -1, told: rankUnknown})
	}
	return c
}

// Step takes one event at a time of the monotonic clock, which never falls, and answers what is to be done.
func (c *Core) Step(now time.Duration, e Event) []Effect {
	if !c.started {
		c.started, c.began = true, now
	}
	c.now, c.wake, c.effects, c.alive = now, 0, nil, nil
	switch e := e.(type) {
	case Tick:
	case Listed:
		c.onListed(e)
	case Heard:
		c.onHeard(e)
	case Failed:
		c.onFailed(e)
	case Moved:
		c.onMoved(e)
	case StreamEnded:
		c.onStreamEnded(e)
	case Offered:
		c.onOffered(e)
	case HandedOff:
		c.onHandedOff(e)
	case Drain:
		c.onDrain()
	}
	c.settle()
	return c.effects
}

// settle does all that can be done now. It judges by what is known, not by what just happened, so that nothing is missed when things
// come in another order; and it notes when time alone will change its judgement.
func (c *Core) settle() {
	c.forget()
	for _, s := range c.shards {
		c.lookUp(s)
		c.judge(s)
	}
	c.stand()
	c.rank()
	for _, s := range c.shards {
		c.follow(s)
	}
	c.ping()
	c.moveOn()
}

// NextWake is the time at which a Tick has something to do.
func (c *Core) NextWake() (at time.Duration, ok bool) { return c.wake, c.wake > 0 }

// Leader is where proposals of the shard go: the holder of the newest epoch that this agent has heard of; zero: nobody is known, or it is
// known to be away.
func (c *Core) Leader(s objectlog.Shard) (objectlog.UUID, objectlog.Epoch) {
	if int(s) >= len(c.shards) {
		return objectlog.UUID{}, 0
	}
	x := c.shards[s]
	return c.leader(x), x.epoch
}

// Live answers the agents that are alive as far as this one knows, itself included unless it drains, by name. The answer is not to be changed.
func (c *Core) Live() []Peer {
	if c.alive != nil {
		return c.alive
	}
	c.alive = make([]Peer, 0, len(c.peers)+1)
	if !c.draining {
		c.alive = append(c.alive, c.cfg.Self)
	}
	for _, p := range c.peers {
		if c.live(p) {
			c.alive = append(c.alive, p.Peer)
		}
	}
	slices.SortFunc(c.alive, comparePeers)
	return c.alive
}

// Reached says whether the boot answered its last ping, and how long ago it was heard: since the first step when it never was.
func (c *Core) Reached(boot objectlog.UUID, now time.Duration) (ok bool, ago time.Duration) {
	if boot == c.cfg.Self.Boot {
		return true, 0
	}
	if p := c.peer(boot); p != nil && p.heard >= 0 {
		return p.failed == 0 && !p.dead, now - p.heard
	}
	return false, now - c.began
}

// shard is nil for a number out of range: a greeting of a stranger costs nothing.
func (c *Core) shard(s objectlog.Shard) *shard {
	if int(s) < len(c.shards) {
		return c.shards[s]
	}
	return nil
}

func (c *Core) emit(e Effect) { c.effects = append(c.effects, e) }

// at notes a time at which there will be something to do; what is past waits for an event.
func (c *Core) at(t time.Duration) {
	if t > c.now && (c.wake == 0 || t < c.wake) {
		c.wake = t
	}
}

// about is d less up to a quarter, by chance, so that agents that started together part.
func (c *Core) about(d time.Duration) time.Duration { return d - c.chance(d/4) }

// chance is a random duration in [0, d).
func (c *Core) chance(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.cfg.Random() % uint64(d))
}
