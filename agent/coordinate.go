package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// sessionTick is how often sessions are looked at. What came in between is assigned together.
	sessionTick = 100 * time.Millisecond
	// catalogPatience bounds the look at the catalog behind a take-over; then it is tried again.
	catalogPatience = 5 * time.Second
	// dueMax and dueBytesMax bound one proposal of what a tick found due.
	dueMax      = 256
	dueBytesMax = 128 << 10
)

// coordinator drives the groups.Coordinator and the queues.Clock of one shard, and wakes the heartbeats that wait for news of a group.
type coordinator struct {
	shard shard
	start time.Time     // of the core's monotonic clock
	ended chan struct{} // closed when nobody looks after the groups any more

	assignments, expired atomic.Int64 // that were appended here
	locksEnded           atomic.Int64 // records of queues

	mu      sync.Mutex // taken before the shard's state is read
	core    *groups.Coordinator
	waiting map[string]*groupNews // by group
	busy    bool                  // what a tick found to be done is under way
	locks   *queues.Clock
	ending  bool            // so are the locks that a tick found to be over
	caught  objectlog.Epoch // in which the catalog was brought up to date: the leader before may have seen a later one
}

// groupNews is closed when the group is not as it was any more.
type groupNews struct {
	moved  uint64
	closed chan struct{}
}

func newCoordinator(s shard) *coordinator {
	return &coordinator{shard: s, start: time.Now(), ended: make(chan struct{}), core: groups.NewCoordinator(), locks: queues.NewClock(), waiting: map[string]*groupNews{}}
}

// leading answers the epoch in which the shard is led here by a lease that is confirmed; 0: it is not.
func (c *coordinator) leading() objectlog.Epoch {
	if s := c.shard.replica.Status(); s.Role == shardlog.RoleLeading && s.Renewed && s.Fault == nil {
		return s.Epoch
	}
	return 0
}

// coordinate looks after the groups of a shard until ctx ends.
func (a *Agent) coordinate(ctx context.Context, c *coordinator) error {
	defer close(c.ended)
	var work sync.WaitGroup
	defer work.Wait()
	tick := time.NewTicker(sessionTick)
	defer tick.Stop()
	for {
		changed := c.shard.log.Changed()
		c.wake()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
			for _, d := range []duty{a.tick(c), c.tickLocks()} {
				if d.do != nil {
					work.Go(func() {
						d.do(ctx)
						c.mu.Lock()
						*d.under = false
						c.mu.Unlock()
					})
				}
			}
		}
	}
}

// duty is what a tick found to be done. It is not found again while it is under way, which is under the lock of the coordinator.
type duty struct {
	do    func(context.Context) // nil: nothing
	under *bool
}

// tick counts the time of sessions, and answers what is to be done now, unless something is being done.
func (a *Agent) tick(c *coordinator) duty {
	epoch := c.leading()
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch == 0 || epoch != c.caught {
		c.core.Tick(c.now(), 0, c.shard.groups, nil, 0)
		if epoch == 0 || c.busy {
			return duty{}
		}
		c.busy = true
		return duty{func(ctx context.Context) { a.catchUp(ctx, c, epoch) }, &c.busy}
	}
	topics := a.topics.of(a.shards[catalogShard])
	var due []metadata.Command
	c.shard.log.Read(func(metadata.Seq) {
		due = c.core.Tick(c.now(), epoch, c.shard.groups, topics, topics.version)
	})
	if c.busy || len(due) == 0 {
		return duty{}
	}
	c.busy = true
	return duty{func(ctx context.Context) { c.propose(ctx, due) }, &c.busy}
}

// tickLocks counts the time of locks and delays, and answers the end of those that are over. Neither waits for groups, nor for the catalog.
func (c *coordinator) tickLocks() duty {
	epoch := c.leading()
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []metadata.Command
	c.shard.log.Read(func(metadata.Seq) { due = c.locks.Tick(c.now(), epoch, c.shard.queues) })
	if c.ending || len(due) == 0 {
		return duty{}
	}
	c.ending = true
	return duty{func(ctx context.Context) { c.propose(ctx, due) }, &c.ending}
}

func (c *coordinator) now() time.Duration { return time.Since(c.start) + 1 }

// catchUp brings the catalog up to date for an epoch.
func (a *Agent) catchUp(ctx context.Context, c *coordinator, epoch objectlog.Epoch) {
	ctx, cancel := context.WithTimeout(ctx, catalogPatience)
	defer cancel()
	if a.current(ctx, catalogShard) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caught = epoch
}

// propose appends what is due. What is not appended is due again.
func (c *coordinator) propose(ctx context.Context, due []metadata.Command) {
	assign := groups.Assign{}.Command().Kind
	for len(due) > 0 {
		n, size := 0, 0
		for n < len(due) && n < dueMax && (n == 0 || size+len(due[n].Body) <= dueBytesMax) {
			size += len(due[n].Body)
			n++
		}
		receipt, err := own(c.shard.log).Propose(ctx, due[:n])
		if err != nil {
			return // another leads, or will
		}
		for i, result := range receipt.Results {
			if ended, ok := result.(queues.Result); ok {
				c.locksEnded.Add(ended.Expired)
				continue
			}
			switch r, ok := result.(groups.Result); {
			case !ok:
				slog.Error("coordinate groups and queues", "err", result)
			case r.Reason != groups.ReasonNone: // it is out of date
			case due[i].Kind == assign:
				c.assignments.Add(1)
			default:
				c.expired.Add(1)
			}
		}
		due = due[n:]
	}
}

// wake ends the waiting for news of groups that are not as they were, and of all where this agent does not lead.
func (c *coordinator) wake() {
	leads := c.leading() != 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return
	}
	c.shard.log.Read(func(metadata.Seq) {
		for id, news := range c.waiting {
			if !leads || c.shard.groups.Moved(id) != news.moved {
				close(news.closed)
				delete(c.waiting, id)
			}
		}
	})
}

// take answers what has to be appended for a heartbeat.
func (c *coordinator) take(h groups.Heartbeat) (commands []metadata.Command, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shard.log.Read(func(metadata.Seq) { commands, err = c.core.Heartbeat(h, c.shard.groups) })
	return commands, err
}

// answer answers a heartbeat from the applied state. Where that has nothing new for the member, and it would wait, there is a channel too, which
// is closed when the group is not as it was.
func (c *coordinator) answer(h groups.Heartbeat, wait bool) (answer groups.Assignment, moved <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var news bool
	var count uint64
	c.shard.log.Read(func(metadata.Seq) {
		answer, news, err = groups.Answer(h, c.shard.groups)
		count = c.shard.groups.Moved(h.Group)
	})
	if err != nil || news || !wait {
		return answer, nil, err
	}
	n := c.waiting[h.Group]
	if n != nil && n.moved != count { // wake has not come to it yet
		close(n.closed)
		n = nil
	}
	if n == nil {
		n = &groupNews{moved: count, closed: make(chan struct{})}
		c.waiting[h.Group] = n
	}
	return answer, n.closed, nil
}
