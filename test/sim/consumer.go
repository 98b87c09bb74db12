package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// workEvery and commitEvery are about how often a consumer processes records and commits.
	workEvery   = 300 * time.Millisecond
	commitEvery = 4 * time.Second
	// workOnce is how many records of a partition it processes at once, at most.
	workOnce = 8
	// commitTimeout is how long it waits for a commit.
	commitTimeout = 600 * time.Millisecond
)

// consumer is one run of a consumer's process: the member's core that ships, and what a driver keeps.
type consumer struct {
	process
	seat *seat
	run  int
	rng  *rand.Rand

	core       *member.Core
	life       int    // of the core
	id         string // of the member, in that life
	wake       time.Duration
	works      map[log]*stint
	committing bool
	leaving    bool
	asked      *node // by the last heartbeat
}

// stint is a time in which a member works on one partition.
type stint struct {
	number     int // in the history
	by         *consumer
	member     string
	log        log
	generation int64            // that was adopted when it began
	from       objectlog.Offset // the committed position that it began at
	next       objectlog.Offset // to process
	committed  objectlog.Offset // acknowledged
	begun      bool             // the position is known
	over       bool
}

// start runs a consumer's process for a seat.
func (s *seat) start() {
	w := s.w
	s.runs++
	c := &consumer{process: process{w: w}, seat: s, run: s.runs, rng: rand.New(rand.NewPCG(s.rng.Uint64(), uint64(s.runs))), works: map[log]*stint{}}
	c.core = member.New(member.Config{Session: s.session, PollMax: 3 * s.session, Static: s.instance != ""})
	s.now = c
	w.stats.Members++
	w.trace("consumer starts", s.number, int64(c.run))
	c.step(member.Begin{})
	c.to(between(c.rng, 0, workEvery), c.work)
	c.to(between(c.rng, 0, commitEvery), c.commitWorks)
}

// crash ends the process at once. What it sent is on its way all the same.
func (c *consumer) crash() {
	c.w.trace("consumer ends", c.seat.number, int64(c.run))
	c.dead = true
	for _, st := range c.works {
		st.over = true
	}
	clear(c.works)
}

// step gives the core an event and carries out what it wants.
func (c *consumer) step(e member.Event) {
	if c.dead {
		return
	}
	for _, effect := range c.core.Step(c.w.now, e) {
		switch e := effect.(type) {
		case member.Send:
			c.send(e)
		case member.Stop:
			c.stop(e)
		case member.Start:
			for _, p := range e.Places {
				c.begin(c.w.logAt(p))
			}
		case member.NextWake:
			c.wakeAt(e.At)
		case member.End:
			c.crash()
		}
	}
}

func (c *consumer) wakeAt(at time.Duration) {
	if c.wake == at {
		return
	}
	c.wake = at
	c.to(max(0, at-c.w.now), func() {
		if c.wake == at {
			c.wake = 0
			c.step(member.Tick{})
		}
	})
}

func (c *consumer) send(e member.Send) {
	w, s := c.w, c.seat
	if e.Life != c.life {
		c.life, c.id = e.Life, fmt.Sprintf("%d.%d.%d", s.number, c.run, e.Life)
		w.check.groups.runs[c.id] = c
	}
	w.stats.Beats++
	h := groups.Heartbeat{Group: s.group, Generation: e.Generation, Leaving: e.Leave, Member: groups.Member{ID: c.id, Instance: s.instance,
		Subscribed: s.subscribed, Session: s.session, Rebalance: 2 * s.session}}
	for _, p := range e.Owned {
		h.Owned = append(h.Owned, w.partitionOf(w.logAt(p)))
	}
	slices.SortFunc(h.Owned, groups.TopicPartition.Compare)
	again := func() { c.step(member.Failed{Request: e.Request, Kind: member.Retry, After: consumerRetry}) }
	to := w.someone(c.rng)
	for tries := 0; e.Elsewhere && to == c.asked && tries < places*places; tries++ {
		to = w.someone(c.rng)
	}
	c.asked = to
	c.call(to, func(n *node, reply func(func())) {
		n.heartbeat(h, e.Wait, func(a groups.Assignment, err error) { reply(func() { c.answered(e.Request, a, err) }) })
	}, again)
}

// answered gives the core what became of a heartbeat.
func (c *consumer) answered(request int, a groups.Assignment, err error) {
	var reason groups.Reason
	switch {
	case err == nil:
		e := member.Answered{Request: request, Generation: a.Generation, Session: a.Session}
		for _, p := range a.Partitions {
			e.Assigned = append(e.Assigned, c.w.placeOf(p))
		}
		c.step(e)
	case !errors.As(err, &reason):
		c.step(member.Failed{Request: request, Kind: member.Retry, After: consumerRetry})
	case reason == groups.ReasonUnknownMember:
		c.step(member.Failed{Request: request, Kind: member.UnknownMember})
	case reason == groups.ReasonFencedInstance:
		c.step(member.Failed{Request: request, Kind: member.Fenced, Err: err})
	default:
		c.w.fail("protocol", "a heartbeat of %s was answered: %v", c.id, err)
	}
}

// begin begins to work on a partition, where the group is.
func (c *consumer) begin(l log) {
	_, generation := c.core.Committing()
	st := &stint{by: c, member: c.id, log: l, generation: generation}
	if c.works[l] != nil {
		c.w.fail("protocol", "%s is to begin %v, on which it works", st.member, l)
	}
	c.w.check.groups.begins(st)
	c.works[l] = st
	c.fetch(st)
}

func (c *consumer) fetch(st *stint) {
	w, p, asked := c.w, c.w.partitionOf(st.log), false
	again := func() {
		if !asked && !st.over {
			asked = true
			c.to(consumerRetry, func() { c.fetch(st) })
		}
	}
	c.to(commitTimeout, again)
	c.call(w.someone(c.rng), func(n *node, reply func(func())) {
		n.position(c.seat.group, p, func(o objectlog.Offset) {
			reply(func() {
				if asked = true; !st.over && !st.begun {
					st.begun, st.from, st.next, st.committed = true, o, o, o
				}
			})
		}, func() { reply(again) })
	}, again)
}

// stop ends the work on partitions. What is lost is dropped; the rest is committed before the member says that it has stopped.
func (c *consumer) stop(e member.Stop) {
	var all []*stint
	for _, p := range e.Places {
		if st := c.works[c.w.logAt(p)]; st != nil {
			all = append(all, st)
		}
	}
	if e.Lost {
		c.end(all)
		return
	}
	c.to(between(c.rng, 0, workEvery), func() { // with what is in hand
		stopped := false
		done := func() {
			if !stopped {
				stopped = true
				c.end(all)
				c.step(member.Stopped{Stop: e.Stop})
			}
		}
		if !c.commit(all, done) {
			done()
			return
		}
		c.to(commitTimeout, done)
	})
}

func (c *consumer) end(all []*stint) {
	for _, st := range all {
		st.over = true
		if c.works[st.log] == st {
			delete(c.works, st.log)
		}
	}
}

// stints are what the consumer works on, in order.
func (c *consumer) stints() []*stint {
	all := make([]*stint, 0, len(c.works))
	for _, st := range c.works {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *stint) int { return a.number - b.number })
	return all
}

// work processes committed records, as some agent has them.
func (c *consumer) work() {
	w := c.w
	if n := w.someone(c.rng); n != nil {
		for _, st := range c.stints() {
			if !st.begun {
				continue
			}
			t := w.topic[st.log.topic]
			p, _ := n.replicas[t.shard].state.Partition(t.id, st.log.partition)
			if next := min(p.HighWatermark, st.next+workOnce); st.next < next {
				_, generation := c.core.Committing()
				w.check.groups.processes(st, generation, next)
			}
		}
	}
	c.step(member.Polled{})
	c.to(between(c.rng, workEvery/2, workEvery*3/2), c.work)
}

func (c *consumer) commitWorks() {
	c.to(between(c.rng, commitEvery/2, commitEvery*3/2), c.commitWorks)
	if c.committing {
		return
	}
	c.committing = true
	done := func() { c.committing = false }
	if !c.commit(c.stints(), done) {
		done()
		return
	}
	c.to(commitTimeout, done)
}

// commit commits how far the stints have come, and calls done when that is answered. False: there is nothing to commit.
func (c *consumer) commit(all []*stint, done func()) bool {
	w, k := c.w, c.w.check.groups
	_, generation := c.core.Committing()
	command := groups.CommitOffsets{Group: c.seat.group, Member: c.id, Instance: c.seat.instance, Generation: generation}
	var of []*stint
	for _, st := range all {
		if st.begun && !st.over && st.next > st.committed {
			of = append(of, st)
		}
	}
	if len(of) == 0 {
		return false
	}
	slices.SortFunc(of, func(a, b *stint) int { return w.partitionOf(a.log).Compare(w.partitionOf(b.log)) })
	for _, st := range of {
		command.Offsets = append(command.Offsets, groups.Committed{TopicPartition: w.partitionOf(st.log), Offset: st.next, Epoch: -1, Metadata: strconv.Itoa(st.number)})
	}
	c.call(w.someone(c.rng), func(n *node, reply func(func())) {
		n.commitOffsets(command, func(r *groups.Result) {
			reply(func() {
				if r != nil {
					k.committed(command, of, *r)
				}
				done()
			})
		})
	}, done)
	return true
}

// logOf finds a partition by its topic's id.
func (w *world) logOf(p groups.TopicPartition) log {
	return log{slices.IndexFunc(w.topic, func(t topic) bool { return t.id == p.Topic }), p.Partition}
}

// logAt finds a partition by its place.
func (w *world) logAt(p member.Place) log {
	return log{slices.IndexFunc(w.topic, func(t topic) bool { return t.name == p.Topic }), p.Partition}
}

func (w *world) partitionOf(l log) groups.TopicPartition {
	return groups.TopicPartition{Topic: w.topic[l.topic].id, Partition: l.partition}
}

func (w *world) placeOf(p groups.TopicPartition) member.Place {
	t := w.topic[w.logOf(p).topic]
	return member.Place{Topic: t.name, TopicID: t.name, Partition: p.Partition}
}
