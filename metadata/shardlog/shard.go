package shardlog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// waitingMax bounds the callers whose proposals and current reads are undecided; more of them wait at the door.
const waitingMax = 4096

// Shard runs one Core: it is the Log of one shard for this agent.
type Shard struct {
	table  metadata.Table
	bucket objectlog.Bucket
	keys   objectlog.Keys
	shard  objectlog.Shard
	began  time.Time

	inbox   chan Event    // from outside: Followed, HolderGone, Ranked, Resign
	calls   chan *call    // proposals and current reads
	answers chan Event    // from effects under way
	done    chan struct{} // closed when Run is over

	waiting map[uint64]*call // by ID; owned by Run
	lastID  uint64           // owned by Run

	mu      sync.RWMutex // held for writing while the Core steps
	core    *Core
	changed chan struct{} // closed and renewed when status moves
	told    Status        // when changed was renewed
	tail    []Committed   // newest applied entries, without gaps; its elements never change
	size    int           // bytes of tail
	slack   int           // bytes that were forgotten in front of tail, as its array may still hold them
}

// call is one caller that waits for a decision.
type call struct {
	commands []metadata.Command
	current  bool // a current read, else a proposal

	ready   chan struct{} // closed when the fields below are set
	decided Decided
	seq     metadata.Seq
	err     error
}

// Open is a replica that Run drives. The machines are in their initial state and belong to it from now on.
func Open(cfg Config, keys objectlog.Keys, table metadata.Table, bucket objectlog.Bucket, machines []Registration) *Shard {
	return &Shard{table: table, bucket: bucket, keys: keys, shard: cfg.Shard, began: time.Now(),
		inbox: make(chan Event), calls: make(chan *call), answers: make(chan Event), done: make(chan struct{}),
		waiting: map[uint64]*call{}, core: New(cfg, machines), changed: make(chan struct{})}
}

// Run drives the replica until ctx ends, and returns when everything it started is over. It goes on when the shard halts, to say so to
// callers; the fault is then returned at the end.
func (s *Shard) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var effects sync.WaitGroup
	defer func() {
		cancel()
		effects.Wait()
		close(s.done)
		for _, c := range s.waiting {
			c.answer(Decided{Err: ErrUnknown}, s.Status().Applied, ErrUnknown)
		}
	}()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		calls := s.calls
		if len(s.waiting) >= waitingMax {
			calls = nil
		}
		var e Event = Tick{}
		select {
		case <-ctx.Done():
			return s.Status().Fault
		case <-wake.C:
		case e = <-s.answers:
		case e = <-s.inbox:
		case c := <-calls:
			e = s.admit(c)
		}
		for _, f := range s.step(e) {
			s.dispatch(ctx, &effects, f)
		}
		if at, ok := s.core.NextWake(); ok {
			wake.Reset(at - s.mono())
		} else {
			wake.Stop()
		}
	}
}

func (s *Shard) mono() time.Duration { return time.Since(s.began) + 1 }

func (s *Shard) admit(c *call) Event {
	s.lastID++
	s.waiting[s.lastID] = c
	if c.current {
		return CurrentAsked{ID: s.lastID}
	}
	return Proposed{ID: s.lastID, Commands: c.commands}
}

// step steps the Core and tells those who wait for a change.
func (s *Shard) step(e Event) []Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Now{Mono: s.mono(), Wall: objectlog.Timestamp(time.Now().UnixMilli())}
	effects := s.core.Step(now, e)
	for _, a := range s.core.applied {
		s.keep(a)
	}
	if status := s.core.Status(now.Mono); status.differs(s.told) {
		s.told = status
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return effects
}

// differs: what else moves, as time does, wakes nobody.
func (s Status) differs(t Status) bool {
	return s.Applied != t.Applied || s.Role != t.Role || s.Leader != t.Leader || s.Epoch != t.Epoch || s.Renewed != t.Renewed || s.Fault != t.Fault
}

// keep adds an entry to the tail and forgets the oldest beyond its bound. Entries that were followed count: this replica may come to lead,
// and others be a little behind it.
func (s *Shard) keep(e Committed) {
	if n := len(s.tail); n > 0 && s.tail[n-1].Seq+1 != e.Seq {
		s.tail, s.size, s.slack = nil, 0, 0 // a snapshot was loaded between
	}
	s.tail = append(s.tail, e)
	s.size += e.bytes()
	for s.size > s.core.cfg.TailBytes && len(s.tail) > 1 {
		n := s.tail[0].bytes()
		s.size -= n
		s.slack += n
		s.tail = s.tail[1:]
	}
	if s.slack > s.core.cfg.TailBytes/2 { // a copy, since followers may be reading the array
		s.tail, s.slack = slices.Clone(s.tail), 0
	}
}

func (e Committed) bytes() int {
	n := len(e.Entry)
	for _, f := range e.Footers {
		n += len(f)
	}
	return n
}

// dispatch answers callers and starts what takes time. The Core bounds how many requests are under way.
func (s *Shard) dispatch(ctx context.Context, effects *sync.WaitGroup, e Effect) {
	switch e := e.(type) {
	case Decided:
		s.waiting[e.ID].answer(e, 0, e.Err)
		delete(s.waiting, e.ID)
	case CurrentAnswered:
		s.waiting[e.ID].answer(Decided{}, e.Seq, e.Err)
		delete(s.waiting, e.ID)
	case Committed: // kept by step
	case Alarm:
		slog.ErrorContext(ctx, "shard log alarm", "shard", s.shard, "error", e.Err)
	default:
		effects.Go(func() {
			if a := s.execute(ctx, e); a != nil {
				select {
				case s.answers <- a:
				case <-ctx.Done():
				}
			}
		})
	}
}

func (c *call) answer(d Decided, seq metadata.Seq, err error) {
	c.decided, c.seq, c.err = d, seq, err
	close(c.ready)
}

// wait hands the call to Run and waits for its answer.
func (s *Shard) wait(ctx context.Context, c *call) error {
	c.ready = make(chan struct{})
	select {
	case s.calls <- c:
	case <-s.done:
		return ErrNotLeader
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
	select {
	case <-c.ready:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// Propose implements Log. The commands are not changed and must not be until the shard log is done with them, which may be after ctx ended.
func (s *Shard) Propose(ctx context.Context, commands []metadata.Command) (Receipt, error) {
	c := &call{commands: commands}
	if err := s.wait(ctx, c); err != nil {
		return Receipt{}, fmt.Errorf("propose to shard %d: %w", s.shard, err)
	}
	return c.decided.Receipt, nil
}

// Current implements Log.
func (s *Shard) Current(ctx context.Context) (metadata.Seq, error) {
	c := &call{current: true}
	if err := s.wait(ctx, c); err != nil {
		return 0, fmt.Errorf("current read of shard %d: %w", s.shard, err)
	}
	return c.seq, nil
}

// Read implements Log.
func (s *Shard) Read(f func(applied metadata.Seq)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f(s.core.tip.seq)
}

// Changed implements Log.
func (s *Shard) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// Status implements Log.
func (s *Shard) Status() Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.core.Status(s.mono())
}

// Committed answers the committed entries from seq on that this replica has applied and still has at hand, for a follower's stream; false when
// the first of them is gone. Changed tells when to ask again. Nothing is copied, and nothing of it may be changed.
func (s *Shard) Committed(from metadata.Seq) ([]Committed, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	tail, next := s.tail, s.core.tip.seq+1
	if n := len(tail); n > 0 && tail[n-1].Seq+1 != next {
		tail = nil // a snapshot was loaded
	}
	first := next - metadata.Seq(len(tail))
	if from < first {
		return nil, false
	}
	return tail[min(from, next)-first : len(tail) : len(tail)], true
}

// Tell passes on what an agent learns from outside: Followed, HolderGone, Ranked or Resign.
func (s *Shard) Tell(ctx context.Context, e Event) error {
	select {
	case s.inbox <- e:
		return nil
	case <-s.done:
		return ErrNotLeader
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Resign lets go of leadership, if there is any, after appending what was proposed before. It answers when another may claim.
func (s *Shard) Resign(ctx context.Context) error {
	if err := s.Tell(ctx, Resign{}); err != nil {
		return fmt.Errorf("resign from shard %d: %w", s.shard, err)
	}
	for {
		changed := s.Changed()
		if r := s.Status().Role; r != RoleLeading && r != RoleClaiming {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("resign from shard %d: %w", s.shard, context.Cause(ctx))
		}
	}
}
