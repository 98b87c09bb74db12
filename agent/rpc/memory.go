package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/splashdam/splashdam/agent"
)

// memory is what all calls together may hold at one time: requests as they are read, decoded and decided, and answers
// to reads. A call that finds none waits for a moment, then is told to come back.
type memory struct {
	max int64

	mu    sync.Mutex
	free  int64
	reads int64         // held by reads
	stuck bool          // a call that holds something waits for more
	waits int           // calls that wait
	freed chan struct{} // closed and replaced when bytes come back while calls wait
}

const (
	// memoryPatience is long enough for the calls before to be decided, and short enough for a client to look for another agent.
	memoryPatience = time.Second
	// smallBytes is how much a call may hold to count as small.
	smallBytes = 1 << 20

	// The parts of the memory that calls leave free: writes an eighth to reads and to small calls, reads half of that to small
	// writes. Small writes may have the last byte.
	leftByWrites = 8
	leftByReads  = 16
	// readsPart is the part that all reads together may hold, however slowly their answers are taken: an eighth less by large ones.
	readsPart = 2
)

func newMemory(max int64) *memory {
	return &memory{max: max, free: max, freed: make(chan struct{})}
}

// claim is one call's part of the memory. Its methods are called by one goroutine at a time.
type claim struct {
	memory   *memory
	held     int64
	whole    *int64        // held by the call in all: it shares this with what is detached; guarded by memory.mu
	decoded  int64         // of held: what the messages read weigh once they are decoded
	read     bool          // the call is a read
	patience time.Duration // of a wait while nothing is held
}

// claim begins a call that holds nothing.
func (m *memory) claim() *claim {
	return &claim{memory: m, whole: new(int64), patience: memoryPatience}
}

// reading says that the call, which holds nothing yet, is a read.
func (c *claim) reading() { c.read = true }

// errMemory is told to the call that found no memory in time.
var errMemory = errors.New("requests in flight take all the memory that they may")

// take adds n bytes. Calls that hold something don't wait for each other: one waits, the others give up what they have at
// once, so that it goes on.
func (c *claim) take(ctx context.Context, n int64) error {
	m := c.memory
	n = c.clip(n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.grant(c, n) {
		return nil
	}
	if c.held > 0 {
		if m.stuck {
			return c.busy()
		}
		m.stuck = true
		defer func() { m.stuck = false }()
	}
	m.waits++
	defer func() { m.waits-- }()
	patience := c.patience
	if c.held > 0 {
		patience = memoryPatience
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		freed := m.freed
		m.mu.Unlock()
		over := false
		select {
		case <-freed:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			over = true
		}
		m.mu.Lock()
		if m.grant(c, n) {
			return nil
		}
		if over {
			return c.busy()
		}
	}
}

// tryTake is take without the wait.
func (c *claim) tryTake(n int64) bool {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return c.memory.grant(c, c.clip(n))
}

// clip makes the largest of all calls possible, if alone.
func (c *claim) clip(n int64) int64 {
	most := c.memory.max - c.memory.max/leftByWrites
	if c.read {
		most = c.memory.max/readsPart - c.memory.max/leftByWrites
	}
	return max(min(n, most-c.held), 0)
}

func (c *claim) busy() error {
	return &agent.Error{Op: "take memory", Cause: agent.Busy, Hint: fmt.Sprintf("%v: %d MiB", errMemory, c.memory.max>>20), RetryAfter: memoryPatience}
}

// grant is called with mu held.
func (m *memory) grant(c *claim, n int64) bool {
	leave, reads := m.max/leftByWrites, m.max/readsPart
	small := *c.whole+n <= min(smallBytes, m.max/64)
	switch {
	case c.read:
		leave = m.max / leftByReads
	case small:
		leave = 0
	}
	if !small {
		reads -= m.max / leftByWrites
	}
	if n > 0 && (m.free-n < leave || c.read && m.reads+n > reads) {
		return false
	}
	m.add(c, n)
	return true
}

// add is called with mu held. A negative n gives back.
func (m *memory) add(c *claim, n int64) {
	m.free -= n
	c.held += n
	*c.whole += n
	if c.read {
		m.reads += n
	}
}

// keep gives back all but n bytes.
func (c *claim) keep(n int64) {
	back := c.held - n
	if back <= 0 {
		return
	}
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(c, -back)
	if m.waits > 0 {
		close(m.freed)
		m.freed = make(chan struct{})
	}
}

func (c *claim) release() { c.keep(0) }

// detach hands what is held to a claim of its own, for a message that outlives the reading of the next.
func (c *claim) detach() *claim {
	own := *c
	c.held, c.decoded = 0, 0
	return &own
}

type claimKey struct{}

// claimOf is the call's claim.
func (e *edge) claimOf(ctx context.Context) *claim {
	if c, ok := ctx.Value(claimKey{}).(*claim); ok {
		return c
	}
	return e.memory.claim() // a call from within, such as a test's
}
