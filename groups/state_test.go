package groups

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// log is a State with the log that led to it.
type log struct {
	*State
	t   testing.TB
	at  metadata.Position
	all []metadata.Command
}

func newLog(t testing.TB) *log { return &log{State: NewState(), t: t} }

// do applies a command that Prepare accepts.
func (l *log) do(c metadata.Command) Result {
	l.t.Helper()
	if _, err := l.Prepare(c); err != nil {
		l.t.Fatal(err)
	}
	l.at.Seq++
	l.at.Time += 10
	result, err := l.Apply(l.at, c)
	if err != nil {
		l.t.Fatal(err)
	}
	l.all = append(l.all, c)
	return result.(Result)
}

// want applies a command and compares its reason.
func (l *log) want(c metadata.Command, reason Reason) Result {
	l.t.Helper()
	r := l.do(c)
	if r.Reason != reason {
		l.t.Fatalf("kind %d: reason %q, want %q", c.Kind, r.Reason, reason)
	}
	return r
}

func (l *log) group(id string) *Group {
	l.t.Helper()
	g, ok := l.Group(id)
	if !ok {
		l.t.Fatalf("no group %q", id)
	}
	return g
}

func (l *log) encoded() []byte { return l.View().Encode(nil) }

func topic(n int) objectlog.UUID { return objectlog.UUID{0: byte(n), 15: 1} }

func at(n, partition int) TopicPartition {
	return TopicPartition{topic(n), objectlog.Partition(partition)}
}

func member(id string, topics ...string) Member {
	return Member{ID: id, Subscribed: Subscription{Topics: topics}, Session: 10 * time.Second, Rebalance: time.Minute}
}

func static(id, instance string, topics ...string) Member {
	m := member(id, topics...)
	m.Instance = instance
	return m
}

func join(m Member) metadata.Command { return Join{Group: "g", Member: m}.Command() }

func leave(id string) metadata.Command { return Leave{Group: "g", Member: id}.Command() }

func (l *log) release(id string, generation int64, partitions ...TopicPartition) metadata.Command {
	return Release{Group: "g", Member: id, Generation: generation, Partitions: partitions}.Command()
}

func commit(id string, generation int64, offset objectlog.Offset, partitions ...TopicPartition) CommitOffsets {
	c := CommitOffsets{Group: "g", Member: id, Generation: generation}
	for _, p := range partitions {
		c.Offsets = append(c.Offsets, Committed{TopicPartition: p, Offset: offset, Epoch: -1})
	}
	return c
}

// assigned assigns partitions of topic 1 by index of member, for the members as they are.
func (l *log) assigned(members ...int32) Result {
	l.t.Helper()
	return l.want(Assign{Group: "g", Version: l.group("g").Version, Targets: []Target{{topic(1), members}}}.Command(), ReasonNone)
}

// slots writes who has what of topic 1: owner@since, or owner@since>target.
func (l *log) slots() string {
	l.t.Helper()
	var b []string
	for _, s := range l.group("g").Slots {
		x := fmt.Sprintf("%d:%s@%d", s.Partition, s.Owner, s.Since)
		if s.Target != s.Owner {
			x += ">" + s.Target
		}
		b = append(b, x)
	}
	return strings.Join(b, " ")
}

func (l *log) wantSlots(want string) {
	l.t.Helper()
	if got := l.slots(); got != want {
		l.t.Fatalf("slots %q, want %q", got, want)
	}
}

func (l *log) wantPosition(p TopicPartition, want objectlog.Offset) {
	l.t.Helper()
	if c, ok := l.group("g").Committed(p); !ok || c.Offset != want {
		l.t.Fatalf("position %d (%v), want %d", c.Offset, ok, want)
	}
}

func TestPartitionMovesWhenItsOwnerLetsGo(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.assigned(0, 0)
	l.wantSlots("0:a@1 1:a@1")
	l.want(join(member("b", "x")), ReasonNone)
	if r := l.assigned(0, 1); r.Generation != 2 {
		t.Fatalf("generation %d", r.Generation)
	}
	l.wantSlots("0:a@1 1:a@1>b")
	g := l.group("g")
	if got := g.Assignment("a"); !reflect.DeepEqual(got, []TopicPartition{at(1, 0)}) || g.Assignment("b") != nil {
		t.Fatalf("a may work on %v, b on %v", got, g.Assignment("b"))
	}
	if g.Settled() {
		t.Fatal("settled while a partition is on its way")
	}
	l.want(l.release("a", 2, at(1, 0), at(1, 1), at(1, 7)), ReasonNone) // of what it is to keep nothing is released
	l.wantSlots("0:a@1 1:b@2")
	if g := l.group("g"); !g.Settled() || g.OwnerOf(at(1, 1)) != "b" || g.OwnerOf(at(2, 0)) != "" {
		t.Fatal("not settled, or of another owner")
	}
}

func TestReleaseOfAnEarlierGenerationReleasesNothing(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.want(join(member("b", "x")), ReasonNone)
	l.assigned(0)
	l.assigned(1)
	for _, generation := range []int64{0, 1, 3} {
		if r := l.want(l.release("a", generation, at(1, 0)), ReasonStaleGeneration); r.Generation != 2 {
			t.Fatalf("answered generation %d", r.Generation)
		}
	}
	l.wantSlots("0:a@1>b")
	l.want(l.release("c", 2, at(1, 0)), ReasonUnknownMember)
	l.want(Release{Group: "none", Member: "a", Generation: 2}.Command(), ReasonUnknownMember)
	l.want(l.release("b", 2, at(1, 0)), ReasonNone) // it is not b's
	l.wantSlots("0:a@1>b")
}

func TestReleasedPartitionOfNobodyIsForgotten(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.assigned(0, 0)
	l.assigned(0)
	l.wantSlots("0:a@1 1:a@1>")
	l.want(l.release("a", 2, at(1, 1)), ReasonNone)
	l.wantSlots("0:a@1")
	if l.assigned(0, 0).Generation != 3 {
		t.Fatal("a partition came back in the same generation")
	}
	l.wantSlots("0:a@1 1:a@3")
}

func TestAssignmentThatChangesNothingBeginsNoGeneration(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.assigned(0)
	l.want(join(member("b", "x")), ReasonNone)
	if r := l.assigned(0); r.Generation != 1 {
		t.Fatalf("generation %d", r.Generation)
	}
	if g := l.group("g"); g.Assigned != g.Version {
		t.Fatal("an assignment is still due")
	}
	l.assigned(-1, 9) // nobody, and an index of no member
	l.wantSlots("0:a@1>")
}

func TestAssignmentOfOtherMembersIsRefused(t *testing.T) {
	l := newLog(t)
	l.want(Assign{Group: "g"}.Command(), ReasonUnknownGroup)
	l.want(join(member("a", "x")), ReasonNone)
	old := Assign{Group: "g", Version: l.group("g").Version, Targets: []Target{{topic(1), []int32{0}}}}.Command()
	l.want(join(member("0", "x")), ReasonNone) // the index would be another one's
	l.want(old, ReasonStaleVersion)
	l.wantSlots("")
}

func TestLeavingHandsOverWhatWasOnItsWayAndFreesTheRest(t *testing.T) {
	l := newLog(t)
	l.want(leave("a"), ReasonUnknownGroup)
	for _, id := range []string{"a", "b", "c"} {
		l.want(join(member(id, "x")), ReasonNone)
	}
	l.assigned(0, 0, 1, 2)
	l.assigned(0, 1, 0, 2)
	l.wantSlots("0:a@1 1:a@1>b 2:b@1>a 3:c@1")
	l.want(leave("a"), ReasonNone)
	l.wantSlots("1:b@2 2:b@1> 3:c@1")
	l.want(leave("a"), ReasonUnknownMember)
	l.want(leave("b"), ReasonNone)
	l.want(leave("c"), ReasonNone)
	l.wantSlots("")
	if g := l.group("g"); g.Idle != l.at.Time || g.Version != 6 {
		t.Fatalf("idle since %d, version %d", g.Idle, g.Version)
	}
}

func TestJoinRepeatsDoNothingAndChangesAreNoted(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	before, moved := l.encoded(), l.Moved("g")
	l.want(join(member("a", "x")), ReasonNone)
	if !bytes.Equal(l.encoded(), before) {
		t.Fatal("a repeat changed the state")
	}
	m := member("a", "x")
	m.Client = "mail"
	l.want(join(m), ReasonNone)
	if g := l.group("g"); g.Version != 1 || g.Members[0].Client != "mail" || g.Members[0].Joined != 10 {
		t.Fatalf("version %d, %+v", g.Version, g.Members[0])
	}
	l.want(join(member("a", "x", "y")), ReasonNone)
	if g := l.group("g"); g.Version != 2 || l.Moved("g") == moved {
		t.Fatal("another subscription went unnoticed")
	}
}

func TestGroupThatIsFullTakesStaticSuccessorsOnly(t *testing.T) {
	l := newLog(t)
	l.want(join(static("first", "i", "x")), ReasonNone)
	for i := range membersMax - 1 {
		l.do(join(member(fmt.Sprint(i), "x")))
	}
	l.want(join(member("more", "x")), ReasonFull)
	l.want(join(static("second", "i", "x")), ReasonNone)
	if n := len(l.group("g").Members); n != membersMax {
		t.Fatalf("%d members", n)
	}
}

func TestStaticSuccessorTakesThePlaceInANewGeneration(t *testing.T) {
	l := newLog(t)
	l.want(join(static("a1", "i", "x")), ReasonNone)
	l.want(join(member("b", "x")), ReasonNone)
	l.assigned(0, 0, 1)
	l.assigned(0, 1, 0)
	l.wantSlots("0:a1@1 1:a1@1>b 2:b@1>a1")
	if r := l.want(join(static("a2", "i", "x")), ReasonNone); r.Generation != 3 {
		t.Fatalf("generation %d: both lives would work in one", r.Generation)
	}
	l.wantSlots("0:a2@3 1:a2@3>b 2:b@1>a2")
	for _, generation := range []int64{2, 3} {
		c := commit("a1", generation, 5, at(1, 0))
		l.want(c.Command(), ReasonUnknownMember)
		c.Instance = "i"
		l.want(c.Command(), ReasonFencedInstance)
	}
	l.want(join(static("a1", "i", "x")), ReasonFencedInstance) // a copy of its first call
	if r := l.want(commit("a2", 2, 5, at(1, 0)).Command(), ReasonNone); len(r.Refused) != 1 {
		t.Fatal("the new life committed for the former's time")
	}
	if r := l.want(commit("a2", 3, 5, at(1, 0)).Command(), ReasonNone); len(r.Refused) != 0 {
		t.Fatal("the new life cannot commit")
	}
}

func TestInstanceHasOneMember(t *testing.T) {
	l := newLog(t)
	l.want(join(static("a", "i", "x")), ReasonNone)
	l.want(join(static("b", "j", "x")), ReasonNone)
	l.want(join(static("b", "i", "x")), ReasonNone) // a member's instance is for life
	if m, _ := l.group("g").Member("b"); m.Instance != "j" {
		t.Fatalf("two members of instance %q", m.Instance)
	}
}

func TestCommitIsAcceptedOfTheOwnerForItsTimeOnly(t *testing.T) {
	l := newLog(t)
	l.want(commit("a", 1, 5, at(1, 0)).Command(), ReasonUnknownMember)
	l.want(join(member("a", "x")), ReasonNone)
	l.want(commit("a", 0, 5, at(1, 0)).Command(), ReasonNone)
	l.want(join(member("b", "x")), ReasonNone)
	l.assigned(0, 1)
	commits := func(id string, generation int64, want bool) {
		t.Helper()
		r := l.want(commit(id, generation, objectlog.Offset(l.at.Seq), at(1, 0)).Command(), ReasonNone)
		if got := len(r.Refused) == 0; got != want {
			t.Fatalf("commit of %s for generation %d: accepted %v", id, generation, got)
		}
		if !want && r.Refused[0] != (Refusal{0, ReasonStaleGeneration}) {
			t.Fatalf("refused as %+v", r.Refused[0])
		}
	}
	commits("a", 0, false)
	commits("a", 1, true)
	commits("a", 2, false) // there is none
	commits("b", 1, false)
	l.assigned(1, 1)
	commits("a", 1, true) // it still works
	commits("b", 2, false)
	l.want(l.release("a", 2, at(1, 0)), ReasonNone)
	commits("a", 1, false)
	commits("b", 1, false)
	commits("b", 2, true)
	l.assigned(0, 1)
	l.want(l.release("b", 3, at(1, 0)), ReasonNone)
	commits("a", 1, false) // of its former time: b's position would be undone
	commits("a", 3, true)
	position := l.at.Seq - 1
	l.wantPosition(at(1, 0), objectlog.Offset(position))
}

func TestRefusalsNameTheirOffsets(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.assigned(0, -1, 0)
	r := l.want(commit("a", 1, 5, at(1, 0), at(1, 1), at(1, 2), at(2, 0)).Command(), ReasonNone)
	want := Result{Generation: 1, Refused: []Refusal{{1, ReasonStaleGeneration}, {3, ReasonStaleGeneration}}}
	if !reflect.DeepEqual(r, want) {
		t.Fatalf("got %+v, want %+v", r, want)
	}
	if n := len(l.group("g").Offsets); n != 2 {
		t.Fatalf("%d positions", n)
	}
}

func TestCommitOfNoMemberWantsAGroupWithoutMembersUnlessForced(t *testing.T) {
	l := newLog(t)
	l.want(commit("", 0, 5, at(1, 0)).Command(), ReasonNone)
	l.wantPosition(at(1, 0), 5)
	l.want(join(member("a", "x")), ReasonNone)
	l.want(commit("", 0, 6, at(1, 0)).Command(), ReasonNotEmpty)
	l.wantPosition(at(1, 0), 5)
	forced := commit("", 0, 7, at(1, 0))
	forced.Force = true
	l.want(forced.Command(), ReasonNone)
	l.wantPosition(at(1, 0), 7)
	c, _ := l.group("g").Committed(at(1, 0))
	if c.Time != l.at.Time {
		t.Fatalf("committed at %d", c.Time)
	}
}

func TestDeleteGroupWantsOneWithoutMembers(t *testing.T) {
	l := newLog(t)
	c := DeleteGroup{Group: "g"}.Command()
	l.want(c, ReasonUnknownGroup)
	l.want(join(member("a", "x")), ReasonNone)
	l.want(c, ReasonNotEmpty)
	l.want(leave("a"), ReasonNone)
	l.want(c, ReasonNone)
	if _, ok := l.Group("g"); ok || l.Moved("g") != 0 {
		t.Fatal("it is still there")
	}
}

func TestDropTopicForgetsPositionsAndPartitions(t *testing.T) {
	l := newLog(t)
	for _, group := range []string{"g", "h"} {
		l.want(Join{Group: group, Member: member("a", "x")}.Command(), ReasonNone)
		l.want(Assign{Group: group, Version: 1, Targets: []Target{{topic(1), []int32{0}}, {topic(2), []int32{0}}}}.Command(), ReasonNone)
		c := commit("a", 1, 5, at(1, 0), at(2, 0))
		c.Group = group
		l.want(c.Command(), ReasonNone)
	}
	l.want(DropTopic{Topic: topic(1)}.Command(), ReasonNone)
	for _, group := range []string{"g", "h"} {
		if places := l.group(group).Places(); !reflect.DeepEqual(places, []TopicPartition{at(2, 0)}) {
			t.Fatalf("left of %s: %v", group, places)
		}
	}
	if r := l.want(commit("a", 1, 6, at(1, 0)).Command(), ReasonNone); len(r.Refused) != 1 {
		t.Fatal("committed in a topic that is gone")
	}
}

func TestExpireForgetsGroupsThatNobodyUses(t *testing.T) {
	l := newLog(t)
	l.want(commit("", 0, 5, at(1, 0)).Command(), ReasonNone) // at 10
	l.want(Join{Group: "h", Member: member("a", "x")}.Command(), ReasonNone)
	l.want(Join{Group: "i", Member: member("a", "x")}.Command(), ReasonNone)
	l.want(Leave{Group: "i", Member: "a"}.Command(), ReasonNone) // at 40
	l.want(Expire{Before: 10}.Command(), ReasonNone)
	l.group("g")
	l.want(Expire{Before: 40}.Command(), ReasonNone)
	if _, ok := l.Group("g"); ok {
		t.Fatal("nobody used it")
	}
	l.group("i")
	l.want(Expire{Before: 1 << 40}.Command(), ReasonNone)
	if _, ok := l.Group("i"); ok {
		t.Fatal("nobody used it")
	}
	l.group("h")
}

func TestMembershipOfThoseWhoCommitIsJudgedBeforeTheirPartitions(t *testing.T) {
	l := newLog(t)
	l.want(join(static("a1", "i", "x")), ReasonNone)
	l.want(leave("a1"), ReasonNone)
	c := commit("a1", 0, 5, at(1, 0))
	c.Instance = "i"
	l.want(c.Command(), ReasonUnknownMember) // nobody took over
}

func TestGroupsAreListedInOrderBehindAnID(t *testing.T) {
	l := newLog(t)
	for _, id := range []string{"c", "a", "b"} {
		l.want(Join{Group: id, Member: member("m", "x")}.Command(), ReasonNone)
	}
	list := func(after string, limit int) (ids string) {
		l.Groups(after, func(g *Group) bool {
			ids += g.ID
			return len(ids) < limit
		})
		return ids
	}
	for after, want := range map[string]string{"": "abc", "a": "bc", "aa": "bc", "c": ""} {
		if got := list(after, 9); got != want {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	if got := list("", 2); got != "ab" {
		t.Errorf("the first two are %q", got)
	}
}

func TestViewsStayAsTheyAre(t *testing.T) {
	l := newLog(t)
	type seen struct {
		view    metadata.View
		encoded []byte
	}
	var all []seen
	for range 2 { // a second time each command meets the state that the first time left
		for _, c := range everyCommand() {
			l.do(c)
			v := l.View()
			all = append(all, seen{v, v.Encode(nil)})
		}
	}
	for i, s := range all {
		if !bytes.Equal(s.view.Encode(nil), s.encoded) {
			t.Errorf("the view behind command %d changed", i)
		}
	}
}

func TestPictureOfAGroupStaysAsItIs(t *testing.T) {
	l := newLog(t)
	l.want(join(member("a", "x")), ReasonNone)
	l.assigned(0, 0)
	l.want(commit("a", 1, 5, at(1, 0)).Command(), ReasonNone)
	picture := l.group("g").Clone()
	before := fmt.Sprint(picture.Slots, picture.Offsets, *picture.Members[0])
	l.want(commit("a", 1, 6, at(1, 0)).Command(), ReasonNone)
	l.want(join(member("a", "y")), ReasonNone)
	l.assigned(-1, 0)
	if after := fmt.Sprint(picture.Slots, picture.Offsets, *picture.Members[0]); after != before {
		t.Fatalf("was %s, is %s", before, after)
	}
}

func TestRestoredStateGoesOnAsTheOneItIsOf(t *testing.T) {
	l := settled(t)
	again := NewState()
	if err := again.Restore(l.encoded()); err != nil {
		t.Fatal(err)
	}
	for _, c := range everyCommand() {
		l.at.Seq++
		a, errA := l.Apply(l.at, c)
		b, errB := again.Apply(l.at, c)
		if !reflect.DeepEqual(a, b) || errA != nil || errB != nil {
			t.Fatalf("kind %d: %v %v, restored %v %v", c.Kind, a, errA, b, errB)
		}
	}
	if !bytes.Equal(l.encoded(), again.View().Encode(nil)) {
		t.Fatal("the states differ")
	}
}

func TestRestoreMovesEveryGroup(t *testing.T) {
	l := settled(t)
	moved := l.Moved("g")
	if err := l.Restore(l.encoded()); err != nil {
		t.Fatal(err)
	}
	if l.Moved("g") <= moved {
		t.Fatal("who waits for news of the group is not woken")
	}
}

func TestPrepareRefusesWhatMustNotEnterAnEntry(t *testing.T) {
	long := strings.Repeat("x", 5000)
	bad := map[string]metadata.Command{
		"no group":                   Join{Member: member("a", "x")}.Command(),
		"long group":                 DeleteGroup{Group: long}.Command(),
		"control character":          Leave{Group: "a\nb", Member: "a"}.Command(),
		"not text":                   DeleteGroup{Group: "\xff"}.Command(),
		"no member":                  join(member("", "x")),
		"long member":                leave(long),
		"no subscription":            join(member("a")),
		"bad topic name":             join(member("a", "a b")),
		"topics out of order":        join(member("a", "y", "x")),
		"topic twice":                join(member("a", "x", "x")),
		"bad pattern":                join(Member{ID: "a", Subscribed: Subscription{Pattern: "("}}),
		"pattern in two halves":      join(Member{ID: "a", Subscribed: Subscription{Pattern: "a)|(?:b"}}),
		"long pattern":               join(Member{ID: "a", Subscribed: Subscription{Pattern: long}}),
		"long instance":              join(static("a", long, "x")),
		"long session":               join(Member{ID: "a", Subscribed: Subscription{Pattern: "."}, Session: 25 * time.Hour}),
		"negative version":           Assign{Group: "g", Version: -1}.Command(),
		"topics of targets unsorted": Assign{Group: "g", Targets: []Target{{Topic: topic(2)}, {Topic: topic(1)}}}.Command(),
		"too many partitions":        Assign{Group: "g", Targets: []Target{{topic(1), make([]int32, partitionsMax+1)}}}.Command(),
		"too large for an entry":     Assign{Group: "g", Targets: []Target{{topic(1), make([]int32, 70_000)}, {topic(2), make([]int32, 70_000)}}}.Command(),
		"index of no member":         Assign{Group: "g", Targets: []Target{{topic(1), []int32{membersMax}}}}.Command(),
		"released out of order":      Release{Group: "g", Member: "a", Partitions: []TopicPartition{at(1, 1), at(1, 0)}}.Command(),
		"released twice":             Release{Group: "g", Member: "a", Partitions: []TopicPartition{at(1, 1), at(1, 1)}}.Command(),
		"partition above all":        Release{Group: "g", Member: "a", Partitions: []TopicPartition{at(1, partitionsMax)}}.Command(),
		"negative offset":            commit("a", 1, -1, at(1, 0)).Command(),
		"offsets out of order":       commit("a", 1, 1, at(2, 0), at(1, 0)).Command(),
		"long metadata":              CommitOffsets{Group: "g", Offsets: []Committed{{TopicPartition: at(1, 0), Metadata: long}}}.Command(),
		"too many offsets":           tooMany().Command(),
		"unknown kind":               {Kind: To - 1},
		"cut short":                  {Kind: kindDropTopic, Body: []byte{1}},
		"bytes too many":             {Kind: kindDeleteGroup, Body: []byte("\x01gx")},
		"force of 2":                 {Kind: kindCommitOffsets, Body: []byte("\x01g\x00\x00\x00\x02\x00")},
		"partition of no topic":      {Kind: kindRelease, Body: []byte("\x01g\x01a\x00\x01\x00\x00")},
	}
	for name, c := range bad {
		if _, err := NewState().Prepare(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, _, err := NewState().Reference(metadata.Command{Kind: To - 1}); err == nil {
		t.Error("an unknown kind has no reference")
	}
	if _, err := NewState().Apply(metadata.Position{}, metadata.Command{Kind: To - 1}); err == nil {
		t.Error("an unknown kind applies")
	}
}

func tooMany() CommitOffsets {
	c := CommitOffsets{Group: "g"}
	for i := range commitMax + 1 {
		c.Offsets = append(c.Offsets, Committed{TopicPartition: at(1, i)})
	}
	return c
}

func TestReasonsHaveNames(t *testing.T) {
	for r := ReasonNone; r <= ReasonStaleVersion; r++ {
		if r.Error() == "unknown reason" || r.Error() == "" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if Reason(200).Error() != "unknown reason" {
		t.Error("a reason of a later version has a name")
	}
}

func TestShardsOfGroupsAreThoseOfEver(t *testing.T) {
	for group, want := range map[string]objectlog.Shard{"": 5, "a": 12, "orders-email": 1, "größe": 10} {
		if got := ShardOf(group, 16); got != want {
			t.Errorf("%q is in shard %d, want %d", group, got, want)
		}
		hash := fnv.New64a()
		hash.Write([]byte(group))
		if got := ShardOf(group, 7); uint64(got) != hash.Sum64()%7 {
			t.Errorf("%q of 7 is in shard %d", group, got)
		}
	}
}
