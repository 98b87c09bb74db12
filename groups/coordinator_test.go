package groups

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// led is a log with the coordinator of its leader.
type led struct {
	*log
	core    *Coordinator
	now     time.Duration
	epoch   objectlog.Epoch
	catalog topics
	version uint64
}

func newLed(t testing.TB) *led {
	return &led{log: newLog(t), core: NewCoordinator(), now: 1, epoch: 1, catalog: topics{"x": {topic(1), 4}}, version: 1}
}

// tick lets time go by and answers what is due.
func (l *led) tick(d time.Duration) []metadata.Command {
	l.now += d
	return l.core.Tick(l.now, l.epoch, l.State, l.catalog, l.version)
}

// pass lets time go by in ticks of 100 ms, and carries out what is due.
func (l *led) pass(d time.Duration) {
	for ; d > 0; d -= 100 * time.Millisecond {
		for _, c := range l.tick(100 * time.Millisecond) {
			l.do(c)
		}
	}
}

func (l *led) heartbeat(h Heartbeat) (Assignment, error) {
	h.Group = "g"
	commands, err := l.core.Heartbeat(h, l.State)
	if err != nil {
		return Assignment{}, err
	}
	for _, c := range commands {
		l.do(c)
	}
	a, _, err := Answer(h, l.State)
	return a, err
}

func (l *led) quiet() {
	l.t.Helper()
	if due := l.tick(100 * time.Millisecond); len(due) > 0 {
		l.t.Fatalf("%d commands, the first of kind %d", len(due), due[0].Kind)
	}
}

func (l *led) wantMembers(want string) {
	l.t.Helper()
	var ids []string
	if g, ok := l.Group("g"); ok {
		for _, m := range g.Members {
			ids = append(ids, m.ID)
		}
	}
	if got := strings.Join(ids, " "); got != want {
		l.t.Fatalf("members %q, want %q", got, want)
	}
}

// joined is a group with these members, settled.
func joined(t testing.TB, members ...Member) *led {
	l := newLed(t)
	for _, m := range members {
		if _, err := l.heartbeat(Heartbeat{Member: m}); err != nil {
			t.Fatal(err)
		}
	}
	l.pass(200 * time.Millisecond)
	return l
}

// stays is a heartbeat that keeps everything and carries out the newest assignment.
func (l *led) stays(m Member) Heartbeat {
	g := l.group("g")
	return Heartbeat{Member: m, Generation: max(1, g.Generation), Owned: g.Assignment(m.ID)}
}

func TestMemberIsGoneWhenItsSessionIsOver(t *testing.T) {
	a, b := member("a", "x"), member("b", "x")
	l := joined(t, a, b)
	for range 12 {
		l.pass(time.Second)
		if _, err := l.heartbeat(l.stays(a)); err != nil {
			t.Fatal(err)
		}
	}
	l.wantMembers("a")
	if n := len(l.group("g").Assignment("a")); n != 4 {
		t.Fatalf("a has %d partitions", n)
	}
	if _, err := l.heartbeat(Heartbeat{Member: b, Generation: 1}); err != ReasonUnknownMember {
		t.Fatalf("b hears %v", err)
	}
}

func TestSessionLastsAsLongAsItWasTold(t *testing.T) {
	a := member("a", "x")
	a.Session = 3 * time.Second
	l := joined(t, a)
	l.pass(2700 * time.Millisecond)
	l.wantMembers("a")
	l.pass(300 * time.Millisecond)
	l.wantMembers("")
}

func TestNewLeaderGivesEveryoneAFreshSession(t *testing.T) {
	l := joined(t, member("a", "x"))
	l.pass(9 * time.Second)
	l.epoch = 2
	l.pass(9 * time.Second)
	l.wantMembers("a")
	l.epoch = 0 // elsewhere
	l.tick(time.Hour)
	l.epoch = 4
	l.pass(9 * time.Second)
	l.wantMembers("a")
	l.pass(2 * time.Second)
	l.wantMembers("")
}

func TestClockOfSessionsStandsWhileLeadershipIsNotConfirmed(t *testing.T) {
	l := joined(t, member("a", "x"))
	l.pass(9 * time.Second)
	for range 100 {
		epoch := l.epoch
		l.epoch = 0
		if due := l.tick(time.Minute); due != nil {
			t.Fatal("something is due where nobody leads")
		}
		l.epoch = epoch
	}
	l.pass(500 * time.Millisecond)
	l.wantMembers("a")
	l.pass(time.Second)
	l.wantMembers("")
}

func TestTickThatIsLateCountsAsThreeTicks(t *testing.T) {
	l := joined(t, member("a", "x"))
	for range 32 {
		if due := l.tick(time.Hour); len(due) > 0 {
			t.Fatal("a leader that stood still has observed nobody's silence")
		}
	}
	l.tick(time.Hour)
	if due := l.tick(time.Hour); len(due) != 1 {
		t.Fatalf("%d commands behind 34 late ticks, which count as ten seconds", len(due))
	}
}

func TestLeaveThatIsLostIsDueAgain(t *testing.T) {
	l := joined(t, member("a", "x"))
	for range 36 {
		l.tick(time.Second)
	}
	for range 3 {
		if due := l.tick(time.Second); len(due) != 1 || due[0].Kind != kindLeave {
			t.Fatalf("due %v", due)
		}
	}
}

func TestMemberThatComesBackAtOnceHasAFreshSession(t *testing.T) {
	a := member("a", "x")
	l := joined(t, a)
	for range 36 {
		l.tick(time.Second)
	}
	l.do(l.tick(time.Second)[0])
	l.wantMembers("")
	if _, err := l.heartbeat(Heartbeat{Member: a}); err != nil { // before any tick
		t.Fatal(err)
	}
	l.pass(9 * time.Second)
	l.wantMembers("a")
}

// holding is a group in which a was told to give up two of its four partitions.
func holding(t testing.TB) (l *led, a, b Member) {
	a, b = member("a", "x"), member("b", "x")
	a.Rebalance = 20 * time.Second
	l = joined(t, a)
	if _, err := l.heartbeat(Heartbeat{Member: b}); err != nil {
		t.Fatal(err)
	}
	l.pass(200 * time.Millisecond)
	l.wantSlots("0:a@1 1:a@1 2:a@1>b 3:a@1>b")
	return l, a, b
}

func TestMemberThatDoesNotGiveUpWhatItMustIsGone(t *testing.T) {
	l, a, b := holding(t)
	old := Heartbeat{Member: a, Generation: 1, Owned: []TopicPartition{at(1, 0), at(1, 1), at(1, 2), at(1, 3)}}
	for range 30 {
		l.pass(time.Second)
		l.heartbeat(old)
		l.heartbeat(l.stays(b))
	}
	l.wantMembers("b")
	l.wantSlots("0:b@3 1:b@3 2:b@2 3:b@2")
}

func TestMemberThatGivesUpBitByBitHasOneTimeForAll(t *testing.T) {
	l, a, b := holding(t)
	bit := Heartbeat{Member: a, Generation: 2, Owned: []TopicPartition{at(1, 0), at(1, 1), at(1, 3)}}
	for range 30 {
		l.pass(time.Second)
		l.heartbeat(bit)
		l.heartbeat(l.stays(b))
	}
	l.wantMembers("b")
}

func TestMemberThatGaveUpEverythingHasTheWholeTimeForTheNext(t *testing.T) {
	l, a, b := holding(t)
	for i := range 20 { // every 15 seconds it has to give up two, and then gets them back
		for range 14 {
			l.pass(time.Second)
			l.heartbeat(Heartbeat{Member: a, Generation: 1})
			l.heartbeat(l.stays(b))
		}
		l.heartbeat(l.stays(a))
		// Between the release and the next assignment no tick sees that nothing is held.
		g := l.group("g")
		order := []int32{0, 0, 1, 1}
		if i%2 == 0 {
			order = []int32{1, 1, 0, 0}
		}
		l.want(Assign{Group: "g", Version: g.Version, Targets: []Target{{topic(1), order}}}.Command(), ReasonNone)
	}
	l.wantMembers("a b")
}

func TestAssignmentIsMadeOnceAndThenNothingIsDue(t *testing.T) {
	l := newLed(t)
	l.heartbeat(Heartbeat{Member: member("a", "x")})
	due := l.tick(100 * time.Millisecond)
	if len(due) != 1 || due[0].Kind != kindAssign {
		t.Fatalf("due %v", due)
	}
	l.do(due[0])
	l.wantSlots("0:a@1 1:a@1 2:a@1 3:a@1")
	for range 20 {
		l.quiet()
	}
	idle := member("b", "nothing")
	l.heartbeat(Heartbeat{Member: idle})
	l.pass(100 * time.Millisecond)
	if g := l.group("g"); g.Generation != 1 || g.Assigned != g.Version {
		t.Fatalf("generation %d, assigned for %d of %d", g.Generation, g.Assigned, g.Version)
	}
	l.quiet()
}

func TestAssignmentThatIsLostIsDueAgain(t *testing.T) {
	for name, change := range map[string]func(*led){
		"members": func(l *led) { l.heartbeat(Heartbeat{Member: member("b", "x")}) },
		"catalog": func(l *led) { l.catalog["x"], l.version = existing{topic(1), 6}, 2 },
	} {
		l := joined(t, member("a", "x"))
		change(l)
		for range 3 {
			if due := l.tick(100 * time.Millisecond); len(due) != 1 || due[0].Kind != kindAssign {
				t.Errorf("%s changed: due %v", name, due)
			}
		}
		l.pass(100 * time.Millisecond)
		l.quiet()
	}
}

// A copy of an assignment that was made from an older catalog is applied late: its members are those of the moment.
func TestAssignmentThatWasUndoneIsMadeAgain(t *testing.T) {
	l := newLed(t)
	l.heartbeat(Heartbeat{Member: member("a", "x")})
	old := l.tick(100 * time.Millisecond)[0]
	l.do(old)
	l.catalog["x"], l.version = existing{topic(1), 6}, 2
	l.pass(200 * time.Millisecond)
	l.do(old)
	l.pass(200 * time.Millisecond)
	if n := len(l.group("g").Assignment("a")); n != 6 {
		t.Fatalf("a has %d partitions of 6", n)
	}
}

func TestAssignmentIsNotMadeAnewWhileItIsCarriedOut(t *testing.T) {
	l := newLed(t)
	l.catalog["x"] = existing{topic(1), 12}
	a := member("a", "x")
	for _, m := range []Member{a, member("b", "x"), member("c", "x")} {
		l.heartbeat(Heartbeat{Member: m})
	}
	l.pass(200 * time.Millisecond)
	other := member("a", "y") // whatever it has is on its way to others
	l.heartbeat(Heartbeat{Member: other, Generation: 1, Owned: l.group("g").Assignment("a")})
	l.pass(200 * time.Millisecond)
	generation := l.group("g").Generation
	for !l.group("g").Settled() {
		for _, s := range l.group("g").Slots {
			if s.Owner != s.Target {
				l.want(l.release(s.Owner, generation, s.TopicPartition), ReasonNone)
				break
			}
		}
		l.quiet()
	}
	if g := l.group("g"); g.Generation != generation {
		t.Fatalf("generation %d behind %d", g.Generation, generation)
	}
}

func TestCatalogIsFollowed(t *testing.T) {
	l := joined(t, Member{ID: "a", Subscribed: Subscription{Topics: []string{"x"}, Pattern: "log-.*|y"}})
	change := func(name string, to existing) {
		l.version++
		if l.catalog[name] = to; to.partitions == 0 {
			delete(l.catalog, name)
		}
		l.pass(100 * time.Millisecond)
		l.quiet()
	}
	want := func(n int) {
		t.Helper()
		if got := len(l.group("g").Assignment("a")); got != n {
			t.Fatalf("%d partitions, want %d", got, n)
		}
	}
	want(4)
	change("x", existing{topic(1), 6})
	want(6)
	change("log-1", existing{topic(2), 2})
	want(8)
	change("catalog-1", existing{topic(3), 2}) // the whole name has to match
	change("yes", existing{topic(4), 2})
	want(8)
	change("y", existing{topic(5), 1})
	want(9)
	generation := l.group("g").Generation
	change("other", existing{topic(6), 9})
	if l.group("g").Generation != generation {
		t.Fatal("a topic that nobody reads began a generation")
	}
	change("x", existing{})
	want(3)
	l.heartbeat(l.stays(Member{ID: "a", Subscribed: l.group("g").Members[0].Subscribed}))
	if n := len(l.group("g").Slots); n != 3 {
		t.Fatalf("%d partitions behind the end of a topic", n)
	}
	change("x", existing{topic(7), 2}) // another life of it
	want(5)
}

func TestPatternMatchesWholeNamesOnly(t *testing.T) {
	for pattern, names := range map[string]string{"a": "a", "a|ab": "a ab", "a.*?": "a ab abc", "^ab$": "ab", "(?i)AB": "ab", "": "", "c": "", `\Qab`: "ab"} {
		re, err := compile(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range []string{"a", "ab", "abc"} {
			if whole(re, name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != names {
			t.Errorf("%q matches %v, want %q", pattern, got, names)
		}
	}
}

func TestAssignmentFitsIntoAnEntryHoweverManyPartitionsThereAre(t *testing.T) {
	l := newLed(t)
	for i := range 4 {
		l.catalog[fmt.Sprint("t", i)] = existing{topic(i + 10), 50_000}
	}
	l.heartbeat(Heartbeat{Member: Member{ID: "a", Subscribed: Subscription{Pattern: ".*"}}})
	due := l.tick(100 * time.Millisecond)
	if len(due) != 1 || len(due[0].Body) > 256<<10 {
		t.Fatalf("%d commands, the first of %d bytes", len(due), len(due[0].Body))
	}
	l.do(due[0])
	l.quiet()
	if n := len(l.group("g").Slots); n != 100_000 {
		t.Fatalf("%d partitions assigned", n)
	}
}

func TestOneHeartbeatReleasesWhatTheMemberWorksOnNoLonger(t *testing.T) {
	l, a, _ := holding(t)
	late := Heartbeat{Member: a, Generation: 1} // said before it had heard of the assignment
	l.heartbeat(late)
	l.wantSlots("0:a@1 1:a@1 2:a@1>b 3:a@1>b")
	now := Heartbeat{Member: a, Generation: 2, Owned: []TopicPartition{at(1, 0), at(1, 1), at(1, 3)}}
	for range 2 { // twice
		if got, err := l.heartbeat(now); err != nil || got.Generation != 2 || len(got.Partitions) != 2 {
			t.Fatal(got, err)
		}
		l.wantSlots("0:a@1 1:a@1 2:b@2 3:a@1>b")
	}
	l.heartbeat(late)
	l.wantSlots("0:a@1 1:a@1 2:b@2 3:a@1>b")
}

func TestHeartbeatOfOneWhoIsNoMemberIsRefusedUnlessItJoins(t *testing.T) {
	l := joined(t, static("a1", "i", "x"))
	l.heartbeat(Heartbeat{Member: static("a2", "i", "x")})
	l.wantMembers("a2")
	for _, leaving := range []bool{false, true} {
		_, err := l.heartbeat(Heartbeat{Member: static("a1", "i", "x"), Generation: 1, Leaving: leaving})
		if !leaving && err != ReasonFencedInstance || leaving && err != nil {
			t.Fatalf("leaving %v: the former life hears %v", leaving, err)
		}
		l.wantMembers("a2")
	}
	if _, err := l.heartbeat(Heartbeat{Member: static("a1", "i", "x")}); err != ReasonFencedInstance { // a copy of its first one
		t.Fatalf("the former life hears %v", err)
	}
	l.wantMembers("a2")
	if _, err := l.heartbeat(Heartbeat{Member: member("b", "x"), Generation: 1}); err != ReasonUnknownMember {
		t.Fatalf("a stranger hears %v", err)
	}
	h := Heartbeat{Group: "none", Member: member("b", "x"), Generation: 1}
	if _, err := l.core.Heartbeat(h, l.State); err != ReasonUnknownMember {
		t.Fatalf("one of no group hears %v", err)
	}
	if _, _, err := Answer(h, l.State); err != ReasonUnknownMember {
		t.Fatalf("one of no group is answered %v", err)
	}
}

// Both calls are of one life. The other member's commits would be undone by one that goes on where it was before it was gone.
func TestMemberThatWasGoneMeanwhileKeepsNothing(t *testing.T) {
	l := joined(t, member("a", "x"))
	before := l.stays(member("a", "x"))
	l.do(leave("a"))
	if _, err := l.heartbeat(Heartbeat{Member: member("b", "x")}); err != nil {
		t.Fatal(err)
	}
	l.pass(200 * time.Millisecond)
	l.want(commit("b", l.group("g").Generation, 9, at(1, 0)).Command(), ReasonNone)
	if _, err := l.heartbeat(Heartbeat{Member: member("a", "x")}); err != nil { // a copy of its first call
		t.Fatal(err)
	}
	if a, err := l.heartbeat(before); err != nil || len(a.Partitions) > 0 {
		t.Fatalf("answer %v, %v: all is another member's", a, err)
	}
	l.do(leave("b"))
	l.pass(200 * time.Millisecond)
	if a, err := l.heartbeat(before); err != ReasonUnknownMember {
		t.Fatalf("answer %v, %v: it works on since before it has them", a, err)
	}
	fresh := Heartbeat{Member: member("a", "x"), Generation: before.Generation}
	if a, err := l.heartbeat(fresh); err != nil || len(a.Partitions) != 4 {
		t.Fatalf("answer %v, %v: what it does not work on it may begin", a, err)
	}
}

func TestLeavingTwiceIsLeavingOnce(t *testing.T) {
	l := joined(t, member("a", "x"))
	for range 2 {
		if _, err := l.heartbeat(Heartbeat{Member: member("a", "x"), Generation: 1, Leaving: true}); err != nil {
			t.Fatal(err)
		}
		l.wantMembers("")
	}
}

func TestHeartbeatThatSaysNothingNewIsNoEntry(t *testing.T) {
	m := Member{ID: "a", Client: "mail", Host: "here", Subscribed: Subscription{Topics: []string{"x"}}, Session: 2*time.Second + 7, Rebalance: 3*time.Second + 7}
	l := joined(t, m, static("b", "i", "x"))
	m.Host, m.Instance = "there", "j"
	before := len(l.all)
	for range 3 {
		if _, err := l.heartbeat(l.stays(m)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.all) - before; n != 0 {
		t.Fatalf("%d commands", n)
	}
	m.Subscribed.Topics = []string{"x", "y"}
	l.heartbeat(l.stays(m))
	if n := len(l.all) - before; n != 1 {
		t.Fatalf("%d commands for a new subscription", n)
	}
}

func TestTimesOfAMemberHaveDefaultsAndBounds(t *testing.T) {
	for want, m := range map[[2]time.Duration]Member{
		{sessionDefault, rebalanceDefault}: {},
		{sessionMin, sessionMin}:           {Session: 1, Rebalance: 1},
		{sessionMax, 2 * sessionMax}:       {Session: 1 << 60, Rebalance: 1 << 60},
	} {
		if m := m.withDefaults(); m.Session != want[0] || m.Rebalance != want[1] {
			t.Errorf("session %s, rebalance %s, want %s", m.Session, m.Rebalance, want)
		}
	}
}

func TestAnswerIsNewsIfItTellsSomething(t *testing.T) {
	l, a, b := holding(t)
	for name, x := range map[string]struct {
		h    Heartbeat
		news bool
	}{
		"a generation to carry out":      {Heartbeat{Member: a, Generation: 1, Owned: []TopicPartition{at(1, 0), at(1, 1), at(1, 2), at(1, 3)}}, true},
		"it is carried out":              {Heartbeat{Member: a, Generation: 2, Owned: []TopicPartition{at(1, 0), at(1, 1)}}, false},
		"a partition that it has":        {Heartbeat{Member: a, Generation: 2, Owned: []TopicPartition{at(1, 0)}}, true},
		"what is not its yet":            {Heartbeat{Member: b, Generation: 2}, false},
		"it is no member":                {Heartbeat{Member: member("c", "x"), Generation: 2}, true},
		"it leaves":                      {Heartbeat{Member: a, Generation: 2, Leaving: true}, true},
		"what it stopped goes to others": {Heartbeat{Member: a, Generation: 2, Owned: []TopicPartition{at(1, 0), at(1, 1), at(1, 2)}}, false},
	} {
		x.h.Group = "g"
		if _, news, _ := Answer(x.h, l.State); news != x.news {
			t.Errorf("%s: news %v", name, news)
		}
	}
	l.want(l.release("a", 2, at(1, 2), at(1, 3)), ReasonNone)
	got, news, err := Answer(Heartbeat{Group: "g", Member: b, Generation: 2}, l.State)
	want := Assignment{Generation: 2, Partitions: []TopicPartition{at(1, 2), at(1, 3)}, Session: 10 * time.Second}
	if !news || err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, news %v, %v", got, news, err)
	}
}

func TestCoordinatorForgetsWhoIsGone(t *testing.T) {
	l := joined(t, member("a", "x"), member("b", "x"))
	l.heartbeat(Heartbeat{Member: member("a", "x"), Generation: 1, Leaving: true})
	l.pass(200 * time.Millisecond)
	if w := l.core.watched["g"]; len(w.sessions) != 1 {
		t.Fatalf("%d sessions of one member", len(w.sessions))
	}
	l.heartbeat(Heartbeat{Member: member("b", "x"), Generation: 1, Leaving: true})
	l.pass(200 * time.Millisecond)
	if len(l.core.watched) != 0 {
		t.Fatal("it watches a group without members")
	}
}

// idle is a leader of groups that have nothing to do.
func idle(b testing.TB, groups, members int) *led {
	l := newLed(b)
	l.catalog["x"] = existing{topic(1), 16}
	for i := range groups {
		id := fmt.Sprintf("group-%05d", i)
		for m := range members {
			l.do(Join{Group: id, Member: member(fmt.Sprint("m", m), "x")}.Command())
		}
	}
	l.pass(200 * time.Millisecond)
	l.quiet()
	return l
}

func BenchmarkTickWith10000IdleGroups(b *testing.B) {
	l := idle(b, 10_000, 2)
	b.ReportAllocs()
	for b.Loop() {
		if due := l.tick(1); len(due) > 0 {
			b.Fatal("something is due")
		}
	}
}
