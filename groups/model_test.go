package groups

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// world is a group, its leader, one that led before and has not noticed, members that follow the protocol, and what is on its way between them.
type world struct {
	t       *rapid.T
	state   *State
	at      metadata.Position
	now     time.Duration
	core    *Coordinator
	stale   *State       // of a leader that is none any more; nil: there is none
	staleAt metadata.Seq // of the newest entry that it knows
	former  *Coordinator
	catalog topics
	version uint64
	lives   int
	topics  int

	members   []*consumer // each process that still runs, those too that are fenced or gone
	calls     []*call
	proposals []*proposal
	answers   []*answer
	commits   []*committing

	tenures  map[TopicPartition][]tenure // in the order in which they began
	worked   map[workedIn]string         // who
	accepted map[TopicPartition][]string // whose commits were accepted
	count    map[string]int              // of what happened, so that it is known to happen
}

// tenure is a time in which a member works on a partition.
type tenure struct {
	member string
	from   int // how many commits had been accepted: the newest one's position is where it begins
}

type workedIn struct {
	TopicPartition
	generation int64
}

// consumer is one life of a member.
type consumer struct {
	Member
	generation int64
	works      map[TopicPartition]int // by tenure
	call       int                    // number of the newest heartbeat
	under      bool                   // it is not answered
	todo       *answer                // not carried out yet
	leaving    bool
	silent     bool         // it works on, and cannot reach anybody
	over       metadata.Seq // where its time as a member ended, 0: it did not. What it was answered before is void, though it may not know
	knows      metadata.Seq // where the newest answer is from that it carried out
}

type call struct {
	of *consumer
	n  int
	h  Heartbeat
}

type proposal struct {
	commands []metadata.Command
	answers  *call // when it is applied; nil: it is the leader's own
}

type answer struct {
	of *consumer
	n  int
	a  Assignment
	at metadata.Seq
	e  error
}

type committing struct {
	command CommitOffsets
	tenures []int
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, state: NewState(), now: 1, core: NewCoordinator(), catalog: topics{"x": {topic(1), 3}}, version: 1, topics: 1,
		tenures: map[TopicPartition][]tenure{}, worked: map[workedIn]string{}, accepted: map[TopicPartition][]string{}, count: map[string]int{}}
	w.at.Epoch = 1
	return w
}

func (w *world) oneIn(n int, what string) bool { return rapid.IntRange(1, n).Draw(w.t, what) == 1 }

// take answers one of what is on its way, and often removes it: what stays comes again.
func take[T any](w *world, from *[]T) (x T, ok bool) {
	if len(*from) == 0 {
		return x, false
	}
	i := rapid.IntRange(0, len(*from)-1).Draw(w.t, "which")
	x = (*from)[i]
	if !w.oneIn(6, "again") || len(*from) > 20 {
		*from = slices.Delete(*from, i, i+1)
	}
	return x, true
}

func (w *world) apply(c metadata.Command) Result {
	w.at.Seq++
	w.at.Time++
	if _, err := w.state.Prepare(c); err != nil {
		w.t.Fatalf("prepare: %v", err)
	}
	r, err := w.state.Apply(w.at, c)
	if err != nil {
		w.t.Fatalf("apply: %v", err)
	}
	return r.(Result)
}

// join starts a member, dynamic or static. A static one's former life, if there is one, goes on: it was cut off and does not know.
func (w *world) join(*rapid.T) {
	if len(w.members) >= 6 {
		return
	}
	w.lives++
	m := &consumer{Member: member(fmt.Sprintf("m%d", w.lives)), works: map[TopicPartition]int{}}
	m.Subscribed = rapid.SampledFrom([]Subscription{{Topics: []string{"x"}}, {Pattern: "x|y"}, {Topics: []string{"x", "y"}}}).Draw(w.t, "subscription")
	m.Instance = rapid.SampledFrom([]string{"", "", "i", "j"}).Draw(w.t, "instance")
	m.Session, m.Rebalance = 2*time.Second, 3*time.Second
	w.members = append(w.members, m)
}

func (w *world) consumer() (m *consumer, ok bool) {
	if len(w.members) == 0 {
		return nil, false
	}
	return rapid.SampledFrom(w.members).Draw(w.t, "member"), true
}

func (w *world) heartbeat(*rapid.T) {
	// A first answer has nothing to stop and is carried out at once, as the SDK's member does: another heartbeat of generation 0 would join anew.
	if m, ok := w.consumer(); ok && !m.silent && (m.generation > 0 || m.todo == nil) {
		w.send(m)
	}
}

// send begins a heartbeat. Answers to those before count no more.
func (w *world) send(m *consumer) {
	m.call++
	m.under = true
	h := Heartbeat{Group: "g", Member: m.Member, Generation: m.generation, Leaving: m.leaving}
	for p := range m.works {
		h.Owned = append(h.Owned, p)
	}
	slices.SortFunc(h.Owned, TopicPartition.Compare)
	w.calls = append(w.calls, &call{m, m.call, h})
}

// arrive brings a heartbeat to the leader, or to the one before, which answers from what it knows and can append nothing.
func (w *world) arrive(*rapid.T) {
	c, ok := take(w, &w.calls)
	if !ok {
		return
	}
	if w.stale != nil && w.oneIn(3, "astray") {
		if commands, err := w.former.Heartbeat(c.h, w.stale); err != nil || len(commands) == 0 {
			w.count["stale answer"]++
			w.reply(c, w.stale)
		}
		return
	}
	commands, err := w.core.Heartbeat(c.h, w.state)
	switch {
	case err != nil:
		w.answers = append(w.answers, &answer{of: c.of, n: c.n, e: err})
	case len(commands) == 0:
		w.reply(c, w.state)
	default:
		w.proposals = append(w.proposals, &proposal{commands, c})
	}
}

func (w *world) reply(c *call, s *State) {
	a, _, err := Answer(c.h, s)
	at := w.at.Seq
	if s == w.stale {
		at = w.staleAt
	}
	w.answers = append(w.answers, &answer{of: c.of, n: c.n, a: a, at: at, e: err})
}

// append applies a proposal, in any order among those that were proposed.
func (w *world) append(*rapid.T) {
	p, ok := take(w, &w.proposals)
	if !ok {
		return
	}
	for _, c := range p.commands {
		if w.apply(c).Reason == ReasonFencedInstance && p.answers != nil {
			w.answers = append(w.answers, &answer{of: p.answers.of, n: p.answers.n, e: ReasonFencedInstance})
			return
		}
	}
	if p.answers != nil {
		w.reply(p.answers, w.state)
	}
}

func (w *world) hear(*rapid.T) {
	a, ok := take(w, &w.answers)
	if !ok || a.n != a.of.call || !a.of.under {
		return
	}
	m := a.of
	m.under = false
	switch {
	case a.e != nil || m.leaving: // nothing is its own any more
		w.count[fmt.Sprintf("told %v", a.e)]++
		clear(m.works)
		w.members = slices.DeleteFunc(w.members, func(x *consumer) bool { return x == m })
	case a.a.Generation < m.generation:
		w.count["older answer"]++ // of a leader that is none any more
	default:
		m.todo = a
	}
}

// carryOut works through an assignment.
func (w *world) carryOut(*rapid.T) {
	if m, ok := w.consumer(); ok {
		w.follow(m)
	}
}

func (w *world) follow(m *consumer) {
	if m.todo == nil {
		return
	}
	a := m.todo.a
	m.knows, m.todo = m.todo.at, nil
	stop := map[TopicPartition]bool{}
	for p := range m.works {
		if !slices.Contains(a.Partitions, p) {
			stop[p] = true
		}
	}
	w.commitOf(m, func(p TopicPartition) bool { return stop[p] })
	for p := range stop {
		delete(m.works, p)
	}
	m.generation = a.Generation
	for _, p := range a.Partitions {
		if _, works := m.works[p]; !works && w.exists(p.Topic) {
			all := w.tenures[p]
			m.works[p] = len(all)
			w.tenures[p] = append(all, tenure{m.ID, len(w.accepted[p])})
			w.count["tenure"]++
		}
	}
}

// exists: of a topic that is gone there is nothing to read, whatever a member was told before.
func (w *world) exists(topic objectlog.UUID) bool {
	for _, x := range w.catalog {
		if x.id == topic {
			return true
		}
	}
	return false
}

func (w *world) commit(*rapid.T) {
	if m, ok := w.consumer(); ok {
		w.commitOf(m, func(TopicPartition) bool { return true })
	}
}

// commitOf sends the positions of what a member works on.
func (w *world) commitOf(m *consumer, which func(TopicPartition) bool) {
	c := &committing{command: CommitOffsets{Group: "g", Member: m.ID, Instance: m.Instance, Generation: m.generation}}
	for p := range m.works {
		if which(p) {
			c.command.Offsets = append(c.command.Offsets, Committed{TopicPartition: p, Epoch: -1})
		}
	}
	if len(c.command.Offsets) == 0 {
		return
	}
	slices.SortFunc(c.command.Offsets, func(a, b Committed) int { return a.Compare(b.TopicPartition) })
	for _, o := range c.command.Offsets {
		c.tenures = append(c.tenures, m.works[o.TopicPartition])
	}
	w.commits = append(w.commits, c)
}

// landed: a commit is accepted of the owner only, and undoes nothing of a later one.
func (w *world) land(*rapid.T) {
	c, ok := take(w, &w.commits)
	if !ok {
		return
	}
	r := w.apply(c.command.Command())
	if r.Reason != ReasonNone {
		w.count[fmt.Sprintf("commit: %v", r.Reason)]++
		return
	}
	g, _ := w.state.Group("g")
	for i, o := range c.command.Offsets {
		p, n := o.TopicPartition, c.tenures[i]
		if slices.ContainsFunc(r.Refused, func(x Refusal) bool { return x.Index == i }) {
			w.count["commit refused"]++
			continue
		}
		w.count["commit"]++
		if owner := g.OwnerOf(p); owner != c.command.Member {
			w.t.Fatalf("a commit of %s was accepted in a partition of %q", c.command.Member, owner)
		}
		for _, other := range w.accepted[p][w.tenures[p][n].from:] {
			if other != c.command.Member {
				w.t.Fatalf("a commit of %s in its tenure %d of %v undid one of %s", c.command.Member, n, p, other)
			}
		}
		w.accepted[p] = append(w.accepted[p], c.command.Member)
	}
}

// tick lets time go by at the leader, and proposes what is due.
func (w *world) tick(*rapid.T) {
	w.now += time.Duration(rapid.IntRange(1, 3).Draw(w.t, "time")) * 100 * time.Millisecond
	for _, c := range w.core.Tick(w.now, w.at.Epoch, w.state, w.catalog, w.version) {
		if c.Kind == kindLeave {
			w.count["session over"]++
		}
		w.proposals = append(w.proposals, &proposal{commands: []metadata.Command{c}})
	}
}

// lead makes another leader. What was proposed to the one before can be appended no more; that one may not know, and answers on.
func (w *world) lead(*rapid.T) {
	w.stale, w.staleAt, w.former, w.core = nil, w.at.Seq, w.core, NewCoordinator()
	if rapid.Bool().Draw(w.t, "lives on") {
		w.stale = NewState()
		if err := w.stale.Restore(w.state.View().Encode(nil)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.proposals = nil
	w.at.Epoch++
}

// change changes what there is to read.
func (w *world) change(*rapid.T) {
	w.version++
	y, there := w.catalog["y"]
	switch rapid.IntRange(0, 2).Draw(w.t, "change") {
	case 0:
		if x := w.catalog["x"]; x.partitions < 6 {
			w.catalog["x"] = existing{x.id, x.partitions + 1}
		}
	case 1:
		if !there {
			w.topics++
			w.catalog["y"] = existing{topic(w.topics), 2}
		}
	case 2:
		if there {
			delete(w.catalog, "y")
			w.apply(DropTopic{Topic: y.id}.Command())
			for _, m := range w.members {
				for p := range m.works {
					if p.Topic == y.id { // there is nothing to read any more
						delete(m.works, p)
					}
				}
			}
		}
	}
}

func (w *world) lose(*rapid.T) {
	take(w, &w.calls)
	take(w, &w.answers)
	take(w, &w.commits)
	take(w, &w.proposals)
}

// part ends a member: it leaves, dies, or is cut off from everybody and works on.
func (w *world) part(*rapid.T) {
	m, ok := w.consumer()
	if !ok || !w.oneIn(3, "really") {
		return
	}
	switch rapid.IntRange(0, 2).Draw(w.t, "how") {
	case 0:
		w.commitOf(m, func(TopicPartition) bool { return true })
		clear(m.works)
		m.leaving, m.todo = true, nil
	case 1:
		w.members = slices.DeleteFunc(w.members, func(x *consumer) bool { return x == m })
	case 2:
		m.silent = !m.silent
	}
}

func (w *world) check(t *rapid.T) {
	w.t = t
	g, ok := w.state.Group("g")
	if ok {
		if err := g.sound(); err != nil {
			t.Fatal(err)
		}
	}
	working := map[TopicPartition]string{} // of members whose time is not over
	for _, m := range w.members {
		if !w.isMember(m.ID) {
			m.over = w.at.Seq
		}
		for p := range m.works {
			in := workedIn{p, m.generation}
			if other, ok := w.worked[in]; ok && other != m.ID {
				t.Fatalf("%s and %s worked on %v in generation %d", other, m.ID, p, m.generation)
			}
			w.worked[in] = m.ID
			if m.knows <= m.over {
				w.count["works on"]++
				continue
			}
			if other, ok := working[p]; ok {
				t.Fatalf("%s and %s work on %v", other, m.ID, p)
			}
			working[p] = m.ID
		}
	}
}

func (w *world) isMember(id string) bool {
	g, ok := w.state.Group("g")
	if ok {
		_, ok = g.Member(id)
	}
	return ok
}

// heal lets everything arrive: everything is assigned, settled and worked on in the end.
func (w *world) heal(t *rapid.T) {
	w.calls, w.answers, w.commits, w.proposals, w.stale = nil, nil, nil, nil, nil
	for range 60 {
		for _, m := range slices.Clone(w.members) {
			m.silent = false
			w.send(m)
			c := w.calls[0]
			w.calls = nil
			commands, err := w.core.Heartbeat(c.h, w.state)
			for _, c := range commands {
				if w.apply(c).Reason == ReasonFencedInstance {
					err = ReasonFencedInstance
				}
			}
			if err != nil {
				w.members = slices.DeleteFunc(w.members, func(x *consumer) bool { return x == m })
				continue
			}
			a, _, err := Answer(c.h, w.state)
			if err != nil || m.leaving {
				w.members = slices.DeleteFunc(w.members, func(x *consumer) bool { return x == m })
				continue
			}
			m.todo = &answer{a: a, at: w.at.Seq}
			w.follow(m)
			w.check(t)
		}
		w.now += 100 * time.Millisecond
		for _, c := range w.core.Tick(w.now, w.at.Epoch, w.state, w.catalog, w.version) {
			w.apply(c)
		}
	}
	w.healed(t)
}

func (w *world) healed(t *rapid.T) {
	g, ok := w.state.Group("g")
	if len(w.members) == 0 {
		if ok && (len(g.Members) > 0 || len(g.Slots) > 0) {
			t.Fatalf("%d members and %d partitions of nobody", len(g.Members), len(g.Slots))
		}
		return
	}
	if len(g.Members) != len(w.members) || !g.Settled() {
		t.Fatalf("%d members of %d, settled: %v", len(g.Members), len(w.members), g.Settled())
	}
	want := int(w.catalog["x"].partitions)
	if slices.ContainsFunc(g.Members, func(m *Member) bool { return !m.Subscribed.Equal(Subscription{Topics: []string{"x"}}) }) {
		want += int(w.catalog["y"].partitions)
	}
	works := 0
	for _, m := range w.members {
		works += len(m.works)
		if len(m.works) != len(g.Assignment(m.ID)) {
			t.Fatalf("%s works on %v, and has %v", m.ID, m.works, g.Assignment(m.ID))
		}
	}
	if len(g.Slots) != want || works != want {
		t.Fatalf("%d partitions assigned and %d worked on, of %d", len(g.Slots), works, want)
	}
	again := NewState()
	encoded := w.state.View().Encode(nil)
	if err := again.Restore(encoded); err != nil || !bytes.Equal(again.View().Encode(nil), encoded) {
		t.Fatalf("restored: %v", err)
	}
}

func TestGroupKeepsItsPromisesWhateverHappens(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "800", "rapid.steps": "300"} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := flag.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	happened := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := map[string]func(*rapid.T){"join": w.join, "part": w.part, "change": w.change, "lead": w.lead, "lose": w.lose, "": w.check}
		for i := range 4 { // most of what happens
			for name, step := range map[string]func(*rapid.T){"heartbeat": w.heartbeat, "arrive": w.arrive, "append": w.append, "hear": w.hear, "carry out": w.carryOut,
				"commit": w.commit, "land": w.land, "tick": w.tick} {
				steps[fmt.Sprint(name, i)] = step
			}
		}
		t.Repeat(steps)
		w.heal(t)
		for what, n := range w.count {
			happened[what] += n
		}
	})
	for _, what := range []string{"tenure", "commit", "commit refused", "works on", "session over", "stale answer", "older answer",
		fmt.Sprintf("told %v", ReasonUnknownMember), fmt.Sprintf("told %v", ReasonFencedInstance), fmt.Sprintf("commit: %v", ReasonFencedInstance)} {
		if happened[what] == 0 {
			t.Errorf("%s: never happened", what)
		}
	}
	t.Log(happened)
}
