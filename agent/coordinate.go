package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// sessionTick is how often sessions are looked at. What came in between is assigned together.
	sessionTick = 100 * time.Millisecond
	// dueMax and dueBytesMax bound one proposal of what a tick found due.
	dueMax      = 256
	dueBytesMax = 128 << 10
)

// coordinator drives the groups.Coordinator of one shard, and wakes the heartbeats that wait for news of a group.
type coordinator struct {
	shard shard
	start time.Time // of the core's monotonic clock

	mu        sync.Mutex // taken before the shard's state is read
	core      *groups.Coordinator
	waiting   map[string]*groupNews
	proposing bool // what the last tick found due
}

// groupNews is closed when the group is not as it was any more.
type groupNews struct {
	moved  uint64
	closed chan struct{}
}

func newCoordinator(s shard) *coordinator {
	return &coordinator{shard: s, start: time.Now(), core: groups.NewCoordinator(), waiting: map[string]*groupNews{}}
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
	var proposals sync.WaitGroup
	defer proposals.Wait()
	tick := time.NewTicker(sessionTick)
	defer tick.Stop()
	known := objectlog.Epoch(0) // in which the catalog was brought up to date
	for {
		changed := c.shard.log.Changed()
		c.wake()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			continue
		case <-tick.C:
		}
		epoch := c.leading()
		if epoch != 0 && epoch != known { // the leader before may have seen a later catalog
			if a.current(ctx, catalogShard) != nil {
				epoch = 0
			} else {
				known = epoch
			}
		}
		if due := c.tick(epoch, a.topics.of(a.shards[catalogShard])); len(due) > 0 {
			proposals.Go(func() { c.propose(ctx, due) })
		}
	}
}

// tick answers what is due, unless what was due before is still being proposed.
func (c *coordinator) tick(epoch objectlog.Epoch, topics *topicList) []metadata.Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []metadata.Command
	c.shard.log.Read(func(metadata.Seq) {
		due = c.core.Tick(time.Since(c.start)+1, epoch, c.shard.groups, topics, topics.version)
	})
	if c.proposing {
		return nil
	}
	c.proposing = len(due) > 0
	return due
}

// propose appends what is due. What is not appended is due again.
func (c *coordinator) propose(ctx context.Context, due []metadata.Command) {
	defer func() {
		c.mu.Lock()
		c.proposing = false
		c.mu.Unlock()
	}()
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
		for _, result := range receipt.Results {
			if err, ok := result.(error); ok {
				slog.Error("coordinate groups", "err", err)
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

// news answers a channel that is closed when the group is not as it is now.
func (c *coordinator) news(group string) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.waiting[group]; n != nil {
		return n.closed
	}
	n := &groupNews{closed: make(chan struct{})}
	c.shard.log.Read(func(metadata.Seq) { n.moved = c.shard.groups.Moved(group) })
	c.waiting[group] = n
	return n.closed
}

// heartbeat answers what has to be appended for a heartbeat.
func (c *coordinator) heartbeat(h groups.Heartbeat) (commands []metadata.Command, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shard.log.Read(func(metadata.Seq) { commands, err = c.core.Heartbeat(h, c.shard.groups) })
	return commands, err
}

// HeartbeatHere takes the heartbeat of a member whose group's shard this very agent leads; shardlog.ErrNotLeader otherwise. It waits up to
// wait for news. A groups.Reason is the group's answer; after any other error the same heartbeat may be sent again.
func (a *Agent) HeartbeatHere(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	c := a.coordinators[groups.ShardOf(h.Group, len(a.shards))]
	waited := time.NewTimer(wait)
	defer waited.Stop()
	if c.leading() == 0 {
		return groups.Assignment{}, shardlog.ErrNotLeader
	}
	commands, err := c.heartbeat(h)
	if err != nil {
		return groups.Assignment{}, err
	}
	if len(commands) > 0 {
		if err := c.carryOut(ctx, commands); err != nil {
			return groups.Assignment{}, err
		}
	}
	for over := wait == 0; ; {
		news := c.news(h.Group)
		var answer groups.Assignment
		var some bool
		c.shard.log.Read(func(metadata.Seq) { answer, some, err = groups.Answer(h, c.shard.groups) })
		switch {
		case c.leading() == 0: // its view may be an old one
			return groups.Assignment{}, shardlog.ErrNotLeader
		case err != nil || some || over:
			return answer, err
		}
		select {
		case <-news:
		case <-waited.C:
			over = true
		case <-a.draining:
			over = true
		case <-ctx.Done():
			return groups.Assignment{}, ctx.Err()
		}
	}
}

// carryOut appends what a heartbeat asks for. A Release that came too late is no fault of the member's.
func (c *coordinator) carryOut(ctx context.Context, commands []metadata.Command) error {
	receipt, err := own(c.shard.log).Propose(ctx, commands)
	if err != nil {
		return err
	}
	for _, result := range receipt.Results {
		switch r := result.(type) {
		case error:
			return because(InvalidRequest, r)
		case groups.Result:
			if r.Reason == groups.ReasonFull || r.Reason == groups.ReasonFencedInstance {
				return r.Reason
			}
		}
	}
	return nil
}

// heartbeatPatience is how long a heartbeat looks for its leader, beyond what it waits for news.
const heartbeatPatience = 10 * time.Second

// Heartbeat takes a member's sign of life to whoever keeps its session, and answers what the member may work on. Its errors are a
// groups.Reason, InvalidRequest, or Unavailable: then it may be sent again.
func (a *Agent) Heartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+heartbeatPatience)
	defer cancel()
	begun := time.Now()
	for {
		answer, err := a.heartbeatThere(ctx, h, max(0, wait-time.Since(begun)))
		reason, settled := errors.AsType[groups.Reason](err)
		switch {
		case err == nil:
			return answer, nil
		case settled:
			return groups.Assignment{}, groupError("heartbeat in", h.Group, reason)
		case errors.Is(err, InvalidRequest):
			return groups.Assignment{}, groupError("heartbeat in", h.Group, err)
		}
		select {
		case <-time.After(proposeRetry):
		case <-ctx.Done():
			return groups.Assignment{}, groupError("heartbeat in", h.Group, because(Unavailable, err))
		}
	}
}

func (a *Agent) heartbeatThere(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	if a.leaders == nil {
		return a.HeartbeatHere(ctx, h, wait)
	}
	t, to := a.leaders.leader(groups.ShardOf(h.Group, len(a.shards)))
	if t.boot.IsZero() {
		return groups.Assignment{}, fmt.Errorf("no leader is known: %w", shardlog.ErrNotLeader)
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.over, stop)()
	if t.boot == a.leaders.own.Boot {
		return a.HeartbeatHere(asking, h, wait)
	}
	return a.leaders.peers.Heartbeat(asking, to, h, wait)
}

func groupError(op, group string, cause error) error {
	return topicError(op, "group "+group, cause)
}

// topicList is the active topics of one version of the catalog. It is not changed.
type topicList struct {
	version uint64
	byName  map[string]metadata.Topic
}

// Topic implements groups.Catalog.
func (l *topicList) Topic(name string) (objectlog.UUID, int32, bool) {
	t, ok := l.byName[name]
	return t.ID, t.Partitions, ok
}

// Names implements groups.Catalog.
func (l *topicList) Names(f func(string)) {
	for name := range l.byName {
		f(name)
	}
}

// topicLists keeps the newest list.
type topicLists struct {
	mu     sync.Mutex
	newest *topicList
}

// of answers the active topics in the catalog as it is applied here.
func (l *topicLists) of(catalog shard) *topicList {
	l.mu.Lock()
	defer l.mu.Unlock()
	catalog.log.Read(func(metadata.Seq) {
		version := catalog.state.CatalogChanges() + 1 // 0 is no catalog's
		if l.newest != nil && l.newest.version == version {
			return
		}
		l.newest = &topicList{version: version, byName: map[string]metadata.Topic{}}
		for after := ""; ; {
			page := catalog.state.Topics(after, topicsPage)
			if len(page) == 0 {
				return
			}
			for _, t := range page {
				if after = t.Name; t.State == metadata.TopicActive {
					l.newest.byName[t.Name] = t
				}
			}
		}
	})
	return l.newest
}
