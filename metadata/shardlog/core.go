package shardlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// phase is what a Core is doing; each has a method of that name, which does all that can be done now.
//
//	idle → finding → loading → replaying → following ⇄ claiming
//	          ↑________________|   ↑           |         |
//	          |    (lapped)        |___________|_________| claim confirmed: mine
//	          |                    |
//	          |                    ↓ the end, and mine
//	          |___________________ barrier ⇄ replaying (the slot was taken by an earlier leader)
//	                               |
//	                               ↓ committed
//	                               leading → replaying, no longer mine (deposed); → following (resigned)
//
//	every phase → halted
type phase uint8

const (
	phaseIdle      phase = iota
	phaseFinding         // reads the lease item, which knows the ring and the snapshots
	phaseLoading         // reads a snapshot
	phaseReplaying       // applies what the ring holds, to the end
	phaseFollowing       // applies what comes, watches the lease
	phaseClaiming        // the put that claims the lease item is not decided
	phaseBarrier         // the first entry of my epoch is not committed
	phaseLeading
	phaseHalted
)

// timer names a moment at which there is something to do. An armed timer holds back what it is for.
type timer uint8

const (
	timerRead     timer = iota // ring slots after a failed read
	timerFooters               // footers after a failed read
	timerLease                 // next read of the lease item
	timerLoad                  // snapshot after a failed read
	timerPoll                  // next look at the ring without a stream
	timerAppend                // next attempt of an append
	timerPut                   // next attempt of a put to the lease item
	timerRenew                 // next renewal
	timerTenure                // a leader stops taking proposals, unless a renewal is confirmed before
	timerSnapshot              // earliest next snapshot after a failed one
	timerChange                // snapshot of a change that is old enough
	timerPace                  // next append when snapshots are late
	timers
)

// Core is one replica of one shard log, as a state machine without goroutines, clock and I/O: Step takes an event and
// answers effects. One goroutine at a time may use it; the machines are changed by Step only.
type Core struct {
	cfg      Config
	machines []Registration
	initial  [][]byte // each machine's state before the first entry

	now     Now
	armed   [timers]time.Duration // 0: not armed
	lastID  uint64
	effects []Effect

	phase phase
	fault error // phaseHalted
	known bool  // the machines hold the state at tip
	tip   tip
	since int64 // bytes of entries and footers applied since the snapshot that was loaded or confirmed

	lease    lease // newest known
	leaseRev metadata.Rev
	rank     int
	gone     objectlog.UUID // holder that is known to have let go
	watch    watch
	find     leaseRead
	outdated bool           // the log or the stream shows another leader than the lease item, which is to be read
	stream   objectlog.UUID // the leader that the newest stream named
	streams  bool           // a stream gave a sign of life within the lease time
	load     load
	damaged  map[objectlog.SnapshotName]error // snapshots that could not be loaded

	ring    ringReader
	started bool // the end of the log was reached once

	mine      bool            // the claim of epoch is confirmed, and nothing newer was seen
	epoch     objectlog.Epoch // of my claim
	confirmed time.Duration   // when the newest confirmed put to the lease item was first sent
	put       *leasePut       // at most one
	resigning bool

	append *appending // at most one in flight
	queue  []Proposed
	snap   *checkpoint
	change time.Duration // when the first entry behind the newest snapshot was noticed; 0: not yet
	late   bool          // the alarm about late snapshots was given

	unstored time.Duration // when the alarm about a snapshot that was not stored was given; 0: the newest one was
	moved    time.Duration // when the newest move of the snapshot pointers in this tenure was confirmed; 0: there was none

	prints  fingerprints
	applied []Committed // by the newest step
}

// New is a replica that knows nothing yet. The machines are in their initial state. It panics when kinds overlap, which is a mistake of
// the program.
func New(cfg Config, machines []Registration) *Core {
	c := &Core{cfg: cfg.withDefaults(), machines: machines, tip: tip{seq: -1}, damaged: map[objectlog.SnapshotName]error{}}
	c.ring.reset()
	for i, r := range machines {
		for _, q := range machines[:i] {
			if r.From < q.To && q.From < r.To {
				panic(fmt.Sprintf("shardlog: machines %s and %s have kinds in common", q.Name, r.Name))
			}
		}
		c.initial = append(c.initial, r.Machine.View().Encode(nil))
	}
	return c
}

func (c Config) withDefaults() Config {
	if c.Lease <= 0 {
		c.Lease = 3 * time.Second
	}
	if c.EntryBytesMax <= 0 {
		c.EntryBytesMax = 8 << 10
	}
	if c.SnapshotEveryBytes <= 0 {
		c.SnapshotEveryBytes = 8 << 20
	}
	if c.SnapshotEvery <= 0 {
		c.SnapshotEvery = time.Minute
	}
	if c.TailBytes <= 0 {
		c.TailBytes = 4 << 20
	}
	return c
}

// Step takes one event at one time and answers what is to be done. now.Mono never falls.
func (c *Core) Step(now Now, e Event) []Effect {
	c.now, c.effects, c.applied = now, nil, nil
	for t := range c.armed {
		if c.armed[t] <= now.Mono {
			c.armed[t] = 0
		}
	}
	switch e := e.(type) {
	case Tick:
	case Proposed:
		c.onProposed(e)
	case CurrentAsked:
		c.ring.ask(e.ID, c.lastID)
	case PutDone:
		c.onPutDone(e)
	case ItemRead:
		c.onItemRead(e)
	case SnapshotLoaded:
		c.onSnapshotLoaded(e)
	case SnapshotStored:
		c.onSnapshotStored(e)
	case FootersRead:
		c.onFootersRead(e)
	case Followed:
		c.onFollowed(e)
	case HolderGone:
		c.gone = e.Holder
		c.lookAgain()
	case Ranked:
		c.rank = e.Rank
		c.lookAgain()
	case Resign:
		c.onResign()
	case StateHashed:
		c.onStateHashed(e)
	case Compared:
		c.onCompared(e)
	}
	c.advance()
	return c.effects
}

// advance lets the phase do what it can, until none changes.
func (c *Core) advance() {
	for before := phase(timers); before != c.phase; {
		before = c.phase
		switch c.phase {
		case phaseIdle:
			c.phase = phaseFinding
		case phaseFinding:
			c.finding()
		case phaseLoading:
			c.loading()
		case phaseReplaying:
			c.replaying()
		case phaseFollowing:
			c.following()
		case phaseClaiming:
			c.claiming()
		case phaseBarrier:
			c.barrier()
		case phaseLeading:
			c.leading()
		case phaseHalted:
			c.halted()
		}
	}
}

// NextWake is the time at which a Tick has something to do; false: none until another event.
func (c *Core) NextWake() (at time.Duration, ok bool) {
	for _, t := range c.armed {
		if t > 0 && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok && c.phase != phaseHalted
}

// Status describes the replica at a time.
func (c *Core) Status(mono time.Duration) Status {
	s := Status{Epoch: max(c.lease.epoch, c.tip.epoch), Leader: c.lease.holder, Applied: c.tip.seq, Snapshot: c.lease.cur.seq(),
		Slots: c.lease.slots, Used: int(max(0, min(c.tip.seq-c.lease.prev.seq(), c.slots()))), SnapshotAge: -1, Fault: c.fault}
	if c.moved > 0 {
		s.SnapshotAge = mono - c.moved
	}
	switch {
	case c.phase == phaseHalted:
		s.Role = RoleHalted
	case c.phase == phaseLeading:
		s.Role = RoleLeading
		s.Renewed = mono-c.confirmed < c.cfg.Lease
		s.Away = c.away(mono)
	case c.mine || c.phase == phaseClaiming:
		s.Role = RoleClaiming
		s.Away = c.away(mono)
	case c.started:
		s.Role = RoleFollowing
	}
	return s
}

// machine applies the commands of a kind; nil: none does.
func (c *Core) machine(k metadata.Kind) metadata.Machine {
	for _, r := range c.machines {
		if r.From <= k && k < r.To {
			return r.Machine
		}
	}
	return nil
}

func (c *Core) emit(e Effect) { c.effects = append(c.effects, e) }

func (c *Core) nextID() uint64 {
	c.lastID++
	return c.lastID
}

func (c *Core) arm(t timer, after time.Duration) { c.armed[t] = c.now.Mono + max(after, 1) }

func (c *Core) waits(t timer) bool { return c.armed[t] != 0 }

// backoff arms t after the given number of attempts: 10 ms, doubling up to a sixth of the lease time, half of it by chance.
func (c *Core) backoff(t timer, attempts int) {
	d := min(10*time.Millisecond<<min(attempts, 20), c.cfg.Lease/6)
	c.arm(t, d/2+c.chance(d/2))
}

// chance is a random duration in [0, d).
func (c *Core) chance(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(c.cfg.Random() % uint64(d))
}

// halt stops the shard for good and says what a person needs to know.
func (c *Core) halt(why error) {
	if c.phase == phaseHalted {
		return
	}
	c.fault = fmt.Errorf("shard %d: %w: %w", c.cfg.Shard, why, ErrHalted)
	c.phase = phaseHalted
	c.stopLeading(c.fault)
	c.put, c.mine = nil, false
	c.armed = [timers]time.Duration{}
	c.emit(Alarm{Err: c.fault})
}

// halted answers whoever still waits.
func (c *Core) halted() {
	for _, a := range c.ring.asked {
		c.emit(CurrentAnswered{ID: a.id, Err: c.fault})
	}
	c.ring.asked = nil
}

// stopLeading answers the proposals that this replica will not decide any more: what was never appended is definite, what is in
// flight is unknown. why may be nil.
func (c *Core) stopLeading(why error) {
	unknown, never := ErrUnknown, ErrNotLeader
	if why != nil {
		unknown, never = errors.Join(ErrUnknown, why), errors.Join(ErrNotLeader, why)
	}
	if c.append != nil {
		for _, p := range c.append.proposals {
			c.emit(Decided{ID: p.id, Err: unknown})
		}
	}
	c.refuseQueue(never)
	c.append, c.snap, c.resigning, c.moved = nil, nil, false, 0
	for _, t := range []timer{timerAppend, timerSnapshot, timerChange, timerPace} {
		c.armed[t] = 0
	}
}

// depose ends my tenure: the log or the lease item shows that another boot claimed it. The machines hold committed entries only,
// so the replica follows from where it is.
func (c *Core) depose() {
	c.stopLeading(nil)
	c.mine, c.put = false, nil
	c.armed[timerRenew], c.armed[timerPut], c.armed[timerTenure] = 0, 0, 0
	c.watch = watch{}
	if c.phase != phaseFinding && c.phase != phaseLoading {
		c.replay()
	}
}
