package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

const (
	commitsMax      = 4096 // that wait for one shard
	commitsOnce     = 1024 // in one proposal
	commitBytesOnce = 128 << 10
)

// committer collects the commits of offsets for one shard: a lone one is proposed at once, and many wait for each other, so that they are
// not more entries than flushes. Each is proposed once, whatever comes of it: a second time might undo what its member has committed since.
type committer struct {
	log   shardlog.Log
	cfg   Config
	wake  chan struct{}  // holds a value when something waits
	hurry chan struct{}  // closed by drain
	held  sync.WaitGroup // commits that are not decided

	mu      sync.Mutex
	closed  bool          // takes no more
	waiting []*commitCall // oldest first

	next time.Time // of the next proposal, without a burst; only run uses it
}

// commitCall is one commit under way.
type commitCall struct {
	command metadata.Command
	state   commitState   // under the lock of the committer
	decided chan struct{} // closed when result and err are set
	result  groups.Result
	err     error
}

type commitState uint8

const (
	commitWaits    commitState = iota
	commitGone                 // its caller has left before it was proposed: it never will be
	commitProposed             // perhaps appended
)

func newCommitter(cfg Config, log shardlog.Log) *committer {
	return &committer{log: log, cfg: cfg, wake: make(chan struct{}, 1), hurry: make(chan struct{})}
}

// commit answers when the command is applied at the leader. Unavailable, Busy and Draining: it is not, and will not be.
func (c *committer) commit(ctx context.Context, command metadata.Command) (groups.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProduceTimeout)
	defer cancel()
	call := &commitCall{command: command, decided: make(chan struct{})}
	if err := c.hold(call); err != nil {
		return groups.Result{}, err
	}
	select {
	case <-call.decided:
		return call.result, call.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.state == commitWaits {
		call.state = commitGone
		return groups.Result{}, because(Unavailable, ctx.Err())
	}
	return groups.Result{}, because(OutcomeUnknown, ctx.Err())
}

func (c *committer) hold(call *commitCall) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return Draining
	case len(c.waiting) >= commitsMax:
		return Busy
	}
	c.held.Add(1)
	c.waiting = append(c.waiting, call)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// drain takes no more commits, proposes at once those that wait, and answers when all are decided or ctx ends. It is called once.
func (c *committer) drain(ctx context.Context) {
	c.close()
	close(c.hurry)
	decided := make(chan struct{})
	go func() { // until all are decided, at the latest by the end of run
		c.held.Wait()
		close(decided)
	}()
	select {
	case <-decided:
	case <-ctx.Done():
	}
}

func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// run proposes what is committed, one proposal at a time, until ctx ends.
func (c *committer) run(ctx context.Context) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			c.close()
			for calls := c.take(); len(calls) > 0; calls = c.take() {
				c.decide(calls, func(int) (groups.Result, error) { return groups.Result{}, Draining })
			}
			return nil
		}
		for c.anyWaits() && ctx.Err() == nil {
			pace := time.NewTimer(c.pace())
			select {
			case <-pace.C:
				c.propose(ctx, c.take())
			case <-c.hurry:
				c.propose(ctx, c.take())
			case <-ctx.Done():
			}
			pace.Stop()
		}
	}
}

func (c *committer) anyWaits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 0
}

// pace answers how long the next proposal has to wait: FlushRate a second go, once the burst is used.
func (c *committer) pace() time.Duration {
	if c.cfg.FlushFreely {
		return 0
	}
	every := time.Duration(float64(time.Second) / c.cfg.FlushRate)
	now := time.Now()
	if rested := now.Add(time.Duration(1-c.cfg.FlushBurst) * every); c.next.Before(rested) {
		c.next = rested
	}
	wait := c.next.Sub(now)
	c.next = c.next.Add(every)
	return max(0, wait)
}

// take answers what waits and is waited for, as far as one proposal has room.
func (c *committer) take() []*commitCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	var calls []*commitCall
	size := 0
	for len(c.waiting) > 0 {
		call := c.waiting[0]
		if len(calls) == commitsOnce || len(calls) > 0 && size+len(call.command.Body) > commitBytesOnce {
			break
		}
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		if call.state == commitGone {
			c.held.Done()
			continue
		}
		call.state = commitProposed
		size += len(call.command.Body)
		calls = append(calls, call)
	}
	return calls
}

func (c *committer) propose(ctx context.Context, calls []*commitCall) {
	if len(calls) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProduceTimeout)
	defer cancel()
	commands := make([]metadata.Command, len(calls))
	for i, call := range calls {
		commands[i] = call.command
	}
	receipt, err := proposeToLeader(ctx, c.log, commands)
	c.decide(calls, func(i int) (groups.Result, error) {
		switch {
		case errors.Is(err, shardlog.ErrNotLeader):
			return groups.Result{}, because(Unavailable, err)
		case err != nil:
			return groups.Result{}, because(OutcomeUnknown, err)
		}
		return groupResult(receipt.Results[i])
	})
}

// decide answers the callers.
func (c *committer) decide(calls []*commitCall, how func(i int) (groups.Result, error)) {
	for i, call := range calls {
		call.result, call.err = how(i)
		close(call.decided)
		c.held.Done()
	}
}
