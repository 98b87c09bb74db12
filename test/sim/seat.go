package sim

import (
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
)

// seat is a place in a group, taken by one run of a consumer's process after the other.
type seat struct {
	w          *world
	number     int
	group      string
	instance   string // of a static member; else empty
	subscribed groups.Subscription
	session    time.Duration
	rng        *rand.Rand
	runs       int
	now        *consumer // the newest run
}

// groupNames are of one group in each shard.
func (w *world) groupNames() []string {
	var names []string
	for s := range w.set.shards {
		for b := byte('a'); ; b++ {
			if name := "group-" + string(b); int(groups.ShardOf(name, w.set.shards)) == s {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

// consumers takes the seats, and lets things happen to their consumers until the faults end.
func (w *world) consumers() {
	steady := w.opt.Alone != ""
	w.check.groups.steady = steady
	w.groups = w.groupNames()
	crowd := 2
	if i := w.choices.IntN(2 * len(w.groups)); i < len(w.groups) { // a group alone
		w.groups, crowd = w.groups[i:i+1], 3
	}
	for i, name := range w.groups {
		session := between(w.choices, time.Second, 3*time.Second).Truncate(time.Millisecond) // as it travels
		for range crowd {
			s := &seat{w: w, number: len(w.seats) + 1, group: name, session: session, rng: rand.New(rand.NewPCG(w.choices.Uint64(), uint64(i)))}
			if s.rng.IntN(3) == 0 {
				s.instance = "instance-" + string(rune('0'+s.number))
			}
			s.subscribe()
			w.seats = append(w.seats, s)
			w.after(between(s.rng, 0, time.Second), s.start)
			if !steady {
				s.schedule()
			}
		}
		if !steady && w.choices.IntN(2) == 0 {
			w.after(between(w.choices, w.opt.Span/4, w.opt.Span)-w.now, func() { w.reset(name) })
		}
	}
}

// subscribe chooses what the seat's consumers read: all topics by pattern, all by name, or one by name.
func (s *seat) subscribe() {
	switch s.rng.IntN(5) {
	case 0, 1:
		s.subscribed = groups.Subscription{Pattern: "topic-[a-z]"}
	case 2, 3:
		s.subscribed = groups.Subscription{Topics: []string{topicNames[0], topicNames[1], topicNames[2]}}
	default:
		s.subscribed = groups.Subscription{Topics: []string{topicNames[s.rng.IntN(len(topicNames))]}}
	}
}

func (s *seat) schedule() {
	s.w.after(between(s.rng, time.Second, 6*time.Second), func() {
		if s.w.now < s.w.opt.Span {
			s.fate()
			s.schedule()
		}
	})
}

// fate is one thing that happens to a consumer.
func (s *seat) fate() {
	w, c := s.w, s.now
	if c == nil {
		return
	}
	if c.dead {
		s.start()
		return
	}
	switch s.rng.IntN(6) {
	case 0: // it is back before its session is over, or with its next fate
		c.crash()
		if s.rng.IntN(2) == 0 {
			w.after(between(s.rng, 0, s.session/2), func() {
				if s.now.dead && w.now < w.opt.Span {
					s.start()
				}
			})
		}
	case 1:
		w.trace("consumer pauses", s.number)
		c.pausedUntil = w.now + between(s.rng, s.session/4, 2*s.session)
	case 2:
		c.leave()
	case 3:
		s.subscribe()
	}
}

func (c *consumer) leave() {
	c.w.trace("consumer leaves", c.seat.number)
	c.to(0, func() {
		c.leaving = true
		c.step(member.Leave{})
	})
}

// reset moves a group's positions back, although it may have members: they go on where they are.
func (w *world) reset(group string) {
	if w.now >= w.opt.Span {
		return
	}
	n := w.someone(w.choices)
	if n == nil {
		return
	}
	s := int(groups.ShardOf(group, w.set.shards))
	g, ok := n.replicas[s].groups.Group(group)
	if !ok || len(g.Offsets) == 0 {
		return
	}
	back := groups.CommitOffsets{Group: group, Force: w.choices.IntN(4) > 0}
	for _, o := range g.Offsets {
		back.Offsets = append(back.Offsets, groups.Committed{TopicPartition: o.TopicPartition, Offset: o.Offset / 2, Epoch: -1, Metadata: resetMark})
	}
	held := len(g.Members) > 0
	n.propose(s, []metadata.Command{back.Command()}, nil, func(results []any) {
		if results == nil {
			return
		}
		r, _ := results[0].(groups.Result)
		w.trace("reset", 0, int64(r.Reason))
		if r.Reason != groups.ReasonNone && (back.Force || r.Reason != groups.ReasonNotEmpty || !held) {
			w.stats.Refused++
		}
	})
}
