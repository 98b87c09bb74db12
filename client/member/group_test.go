package member_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// world is a group's shard, its leader, and members, on one clock that goes on in steps. Messages are lost, late, and come twice.
type world struct {
	t       *rapid.T
	rng     *rand.Rand
	now     time.Duration
	state   *groups.State
	leader  *groups.Coordinator
	epoch   objectlog.Epoch
	seq     metadata.Seq
	calm    bool // no more faults
	net     []message
	waiting []*waiting // heartbeats at the leader
	actors  []*actor
	topics  catalog
	version uint64
}

type message struct {
	at time.Duration
	do func()
}

type waiting struct {
	h     groups.Heartbeat
	until time.Duration
	reply func(groups.Assignment, error)
}

// actor drives one member as a consumer does.
type actor struct {
	w        *world
	name     string
	instance string
	core     *member.Core
	wake     time.Duration
	working  map[member.Place]bool
	stops    map[int][]member.Place // being worked on
	dead     bool
	ended    bool
	paused   time.Duration // until then it does nothing
	pollAt   time.Duration
}

type catalog map[string]int32

func topicID(name string) (id objectlog.UUID) {
	copy(id[:], name)
	return id
}

func (c catalog) Topic(name string) (objectlog.UUID, int32, bool) {
	n, ok := c[name]
	return topicID(name), n, ok
}

func (c catalog) Names(f func(string)) {
	for name := range c {
		f(name)
	}
}

const (
	step      = 50 * time.Millisecond
	realm     = "readers" // the group
	worldPoll = 20 * time.Second
)

func placeOf(p groups.TopicPartition) member.Place {
	return member.Place{TopicID: p.Topic.String(), Partition: p.Partition}
}

func partitionsOf(places []member.Place) []groups.TopicPartition {
	var out []groups.TopicPartition
	for _, p := range places {
		id, err := objectlog.ParseUUID(p.TopicID)
		if err != nil {
			panic(err)
		}
		out = append(out, groups.TopicPartition{Topic: id, Partition: p.Partition})
	}
	return out
}

// post delivers something after a while, or never, or twice.
func (w *world) post(do func()) {
	for range 2 {
		late := step * time.Duration(1+w.rng.IntN(3))
		lost, twice := false, false
		if !w.calm {
			switch w.rng.IntN(12) {
			case 0, 1:
				lost = true
			case 2:
				late = step * time.Duration(w.rng.IntN(200))
			case 3:
				twice = true
			}
		}
		if !lost {
			w.net = append(w.net, message{w.now + late, do})
		}
		if !twice {
			return
		}
	}
}

func (w *world) apply(commands []metadata.Command) (results []groups.Result) {
	for _, c := range commands {
		w.seq++
		r, err := w.state.Apply(metadata.Position{Seq: w.seq, Epoch: w.epoch, Time: objectlog.Timestamp(w.now / time.Millisecond)}, c)
		if err != nil {
			w.t.Fatalf("apply: %v", err)
		}
		results = append(results, r.(groups.Result))
	}
	return results
}

// heartbeat arrives at the leader.
func (w *world) heartbeat(h groups.Heartbeat, wait time.Duration, reply func(groups.Assignment, error)) {
	commands, err := w.leader.Heartbeat(h, w.state)
	if err != nil {
		reply(groups.Assignment{}, err)
		return
	}
	for _, r := range w.apply(commands) {
		if r.Reason == groups.ReasonFencedInstance {
			reply(groups.Assignment{}, r.Reason)
			return
		}
	}
	w.waiting = append(w.waiting, &waiting{h, w.now + wait, reply})
}

// lead is what the leader does at every step.
func (w *world) lead() {
	w.apply(w.leader.Tick(w.now+1, w.epoch, w.state, w.topics, w.version))
	w.waiting = slices.DeleteFunc(w.waiting, func(x *waiting) bool {
		a, news, err := groups.Answer(x.h, w.state)
		if news || err != nil || w.now >= x.until {
			x.reply(a, err)
			return true
		}
		return false
	})
}

func (w *world) join(name, instance string, poll time.Duration) *actor {
	a := &actor{w: w, name: name, instance: instance, working: map[member.Place]bool{}, stops: map[int][]member.Place{}, pollAt: w.now + poll,
		core: member.New(member.Config{Session: session, PollMax: worldPoll, Static: instance != ""})}
	w.actors = append(w.actors, a)
	a.step(member.Begin{})
	return a
}

func (a *actor) runs() bool { return !a.dead && a.w.now >= a.paused }

func (a *actor) step(e member.Event) {
	if a.dead {
		return
	}
	a.wake = 1 << 62
	for _, effect := range a.core.Step(a.w.now, e) {
		switch f := effect.(type) {
		case member.Send:
			a.send(f)
		case member.Stop:
			a.stop(f)
		case member.Start:
			for _, p := range f.Places {
				a.working[p] = true
			}
		case member.NextWake:
			a.wake = f.At
		case member.End:
			a.ended = true
		}
	}
}

// later does something when the actor is not paused any more.
func (a *actor) later(do func()) {
	if a.w.now < a.paused {
		a.w.net = append(a.w.net, message{a.paused, func() { a.later(do) }})
		return
	}
	do()
}

func (a *actor) send(s member.Send) {
	m := groups.Member{ID: fmt.Sprintf("%s-%d", a.name, s.Life), Instance: a.instance, Subscribed: groups.Subscription{Topics: []string{"t", "u"}},
		Session: session, Rebalance: time.Hour}
	h := groups.Heartbeat{Group: realm, Member: m, Generation: s.Generation, Owned: partitionsOf(s.Owned), Leaving: s.Leave}
	a.w.post(func() {
		a.w.heartbeat(h, s.Wait, func(answer groups.Assignment, err error) {
			a.w.post(func() { a.later(func() { a.hear(s.Request, answer, err) }) })
		})
	})
}

func (a *actor) hear(request int, answer groups.Assignment, err error) {
	switch err {
	case nil:
		var places []member.Place
		for _, p := range answer.Partitions {
			places = append(places, placeOf(p))
		}
		a.step(member.Answered{Request: request, Generation: answer.Generation, Assigned: places, Session: answer.Session})
	case groups.ReasonUnknownMember:
		a.step(member.Failed{Request: request, Kind: member.UnknownMember})
	case groups.ReasonFencedInstance:
		a.step(member.Failed{Request: request, Kind: member.Fenced, Err: err})
	default:
		a.w.t.Fatalf("heartbeat: %v", err)
	}
}

func (a *actor) stop(s member.Stop) {
	if s.Lost {
		clear(a.stops)
		for _, p := range s.Places {
			delete(a.working, p)
		}
		return
	}
	a.stops[s.Stop] = s.Places
	a.w.net = append(a.w.net, message{a.w.now + step*time.Duration(a.w.rng.IntN(40)), func() { a.later(func() { a.commit(s.Stop) }) }})
}

// commit sends the positions of what is being stopped until an answer comes. A commit of what is not lost must be taken.
func (a *actor) commit(stop int) {
	if a.dead || a.stops[stop] == nil {
		return
	}
	life, generation := a.core.Committing()
	c := groups.CommitOffsets{Group: realm, Member: fmt.Sprintf("%s-%d", a.name, life), Instance: a.instance, Generation: generation}
	for _, p := range partitionsOf(a.stops[stop]) {
		c.Offsets = append(c.Offsets, groups.Committed{TopicPartition: p, Epoch: -1})
	}
	a.w.post(func() {
		r := a.w.apply([]metadata.Command{c.Command()})[0]
		if a.stops[stop] != nil && a.runs() && a.w.now < a.wake && (r.Reason != 0 || len(r.Refused) > 0) {
			a.w.t.Fatalf("%s: commit of generation %d, group %d: %v %v", a.name, generation, r.Generation, r.Reason, r.Refused)
		}
		a.w.post(func() {
			a.later(func() {
				if places := a.stops[stop]; places != nil {
					delete(a.stops, stop)
					for _, p := range places {
						delete(a.working, p)
					}
					a.step(member.Stopped{Stop: stop})
				}
			})
		})
	})
	a.w.net = append(a.w.net, message{a.w.now + 20*step, func() { a.later(func() { a.commit(stop) }) }})
}

// pass lets one step of time go by.
func (w *world) pass() {
	w.now += step
	for _, a := range w.actors {
		if !a.runs() {
			continue
		}
		if w.now >= a.wake {
			a.step(member.Tick{})
		}
		if w.now >= a.pollAt {
			a.pollAt = w.now + time.Second
			a.step(member.Polled{})
		}
	}
	due := w.net
	w.net = nil
	slices.SortStableFunc(due, func(a, b message) int { return cmp.Compare(a.at, b.at) })
	for i, m := range due {
		if m.at > w.now {
			w.net = append(w.net, due[i:]...)
			break
		}
		m.do()
	}
	w.lead()
	w.check()
}

// check: nobody works on what another works on. Who is paused does not work, and finds out before it does so again.
func (w *world) check() {
	by := map[member.Place]string{}
	for _, a := range w.actors {
		if !a.runs() || w.now >= a.wake {
			continue
		}
		for p := range a.working {
			if other, taken := by[p]; taken {
				w.t.Fatalf("at %v %s and %s work on %v/%d", w.now, other, a.name, p.TopicID, p.Partition)
			}
			by[p] = a.name
		}
	}
}

// disturb does one random thing.
func (w *world) disturb() {
	a := w.actors[w.rng.IntN(len(w.actors))]
	switch w.rng.IntN(9) {
	case 0:
		w.join(fmt.Sprintf("m%d", len(w.actors)), "", 0)
	case 1:
		again := a.instance != "" && !a.dead && !a.ended
		if a.dead = true; again { // its next life
			w.join(fmt.Sprintf("m%d", len(w.actors)), a.instance, 0)
		}
	case 2:
		a.paused = w.now + time.Duration(w.rng.IntN(30))*time.Second
	case 3:
		a.pollAt = w.now + time.Duration(w.rng.IntN(40))*time.Second
	case 4:
		if a.runs() {
			a.step(member.Leave{})
		}
	case 5:
		w.epoch++
		w.leader, w.waiting = groups.NewCoordinator(), nil
	case 6:
		w.topics = maps.Clone(w.topics)
		w.topics["t"] += int32(w.rng.IntN(3))
		w.version++
	case 7:
		if len(w.actors) < 3 {
			w.join(fmt.Sprintf("m%d", len(w.actors)), fmt.Sprintf("i%d", len(w.actors)), 0)
		}
	}
}

func TestMembersOfOneGroupShareItUnderFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), state: groups.NewState(), leader: groups.NewCoordinator(), epoch: 1,
			topics: catalog{"t": 3, "u": 2}, version: 1}
		for i := range rapid.IntRange(1, 4).Draw(t, "members") {
			w.join(fmt.Sprintf("m%d", i), "", 0)
		}
		for range rapid.IntRange(0, 30).Draw(t, "faults") {
			for range w.rng.IntN(100) {
				w.pass()
			}
			w.disturb()
		}
		w.calm = true
		w.join("last", "", 0)
		for range int(3 * time.Minute / step) {
			w.pass()
		}
		w.settled()
	})
}

// settled: in peace everything is worked on by those that are left, each with what the group says.
func (w *world) settled() {
	g, _ := w.state.Group(realm)
	if !g.Settled() || len(g.Slots) != int(w.topics["t"]+w.topics["u"]) {
		w.t.Fatalf("the group did not settle: %+v", g)
	}
	worked := 0
	for _, a := range w.actors {
		if a.dead || a.ended {
			continue
		}
		life, generation := a.core.Committing()
		mine := g.Assignment(fmt.Sprintf("%s-%d", a.name, life))
		if generation != g.Generation || len(mine) != len(a.working) {
			w.t.Fatalf("%s works on %v in generation %d, the group says %v in %d", a.name, a.working, generation, mine, g.Generation)
		}
		for _, p := range mine {
			if !a.working[placeOf(p)] {
				w.t.Fatalf("%s does not work on %v", a.name, p)
			}
		}
		worked += len(mine)
	}
	if worked != len(g.Slots) {
		w.t.Fatalf("%d of %d partitions are worked on", worked, len(g.Slots))
	}
}
