package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

const (
	commitsMax      = 4096 // that wait for one shard
	commitsOnce     = 1024 // in one proposal
	commitBytesOnce = 128 << 10
)

// committer collects the commands of consumers for one shard, commits of offsets and what is done with queues: a lone one is proposed at once, and
// many wait for each other, so that they are not more entries than flushes. Each is proposed once, whatever comes of it: a second time might undo what
// its member has committed since.
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

// commitCall is one command under way.
type commitCall struct {
	command metadata.Command
	state   commitState   // under the lock of the committer
	late    func(any)     // what to do with the result once the caller has left; under the lock too
	decided chan struct{} // closed when result and err are set
	result  any           // of the machine that the command is of; an error where it was not taken
	err     error
}

type commitState uint8

const (
	commitWaits    commitState = iota
	commitGone                 // its caller has left before it was proposed: it never will be
	commitProposed             // perhaps appended
	commitDecided
)

func newCommitter(cfg Config, log shardlog.Log) *committer {
	return &committer{log: log, cfg: cfg, wake: make(chan struct{}, 1), hurry: make(chan struct{})}
}

// commit answers when the command is applied at the leader. Unavailable, Busy and Draining: it is not, and will not be.
func (c *committer) commit(ctx context.Context, command metadata.Command) (any, error) {
	call, err := c.begin(command)
	if err != nil {
		return nil, err
	}
	return c.wait(ctx, call, nil)
}

// begin takes a command, to be waited for. What one caller begins is proposed in that order.
func (c *committer) begin(command metadata.Command) (*commitCall, error) {
	call := &commitCall{command: command, decided: make(chan struct{})}
	return call, c.hold(call)
}

// wait is the second half of commit. A result that comes when ctx has ended is given to late, if there is one, which must not wait.
func (c *committer) wait(ctx context.Context, call *commitCall, late func(any)) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProduceTimeout)
	defer cancel()
	select {
	case <-call.decided:
		return call.result, call.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch call.state {
	case commitWaits:
		call.state = commitGone
		return nil, because(Unavailable, ctx.Err())
	case commitDecided:
		return call.result, call.err
	}
	call.late = late
	return nil, because(OutcomeUnknown, ctx.Err())
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
				c.decide(calls, func(int) (any, error) { return nil, Draining })
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
	c.decide(calls, func(i int) (any, error) {
		switch {
		case errors.Is(err, shardlog.ErrNotLeader):
			return nil, because(Unavailable, err)
		case err != nil:
			return nil, because(OutcomeUnknown, err)
		}
		return receipt.Results[i], nil
	})
}

// decide answers the callers.
func (c *committer) decide(calls []*commitCall, how func(i int) (any, error)) {
	for i, call := range calls {
		c.mu.Lock()
		call.result, call.err = how(i)
		call.state = commitDecided
		late := call.late
		c.mu.Unlock()
		close(call.decided)
		if late != nil && call.err == nil {
			late(call.result)
		}
		c.held.Done()
	}
}

// resultOf is what a command of a machine did whose results are of type R; an error where it was not taken.
func resultOf[R any](result any) (R, error) {
	var none R
	switch r := result.(type) {
	case R:
		return r, nil
	case error:
		return none, because(InvalidRequest, r)
	}
	return none, because(OutcomeUnknown, errStrangeResult)
}
