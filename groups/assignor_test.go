package groups

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// places says where partitions are: the member that is to have one and the one that has it, which may be others. An absent one is free.
type places map[TopicPartition][2]int32

func (x places) with(p TopicPartition, may func(int32) bool) int32 {
	m, ok := x[p]
	if !ok {
		return -1
	}
	for _, m := range m {
		if m >= 0 && may(m) {
			return m
		}
	}
	return -1
}

// of are the places that an assignment leads to.
func of(targets []Target) places {
	x := places{}
	for _, t := range targets {
		for p, m := range t.Members {
			x[TopicPartition{t.Topic, objectlog.Partition(p)}] = [2]int32{m, m}
		}
	}
	return x
}

// sets are the topics with the same subscribers.
func sets(all []readTopic) map[string][]readTopic {
	out := map[string][]readTopic{}
	for _, t := range all {
		key := fmt.Sprint(t.members)
		out[key] = append(out[key], t)
	}
	return out
}

// balance counts a set's partitions by member, and the moves: partitions that are with one who may have them and go to another.
func balance(set []readTopic, targets []Target, was places) (count map[int32]int, moves int) {
	count = map[int32]int{}
	members := set[0].members
	for _, m := range members {
		count[m] = 0
	}
	for _, t := range set {
		i := slices.IndexFunc(targets, func(x Target) bool { return x.Topic == t.id })
		for p, m := range targets[i].Members {
			count[m]++
			if now := was.with(TopicPartition{t.id, objectlog.Partition(p)}, func(m int32) bool { return slices.Contains(members, m) }); now >= 0 && now != m {
				moves++
			}
		}
	}
	return count, moves
}

// balanced: the numbers of two members differ by at most one, and nobody else has any.
func balanced(count map[int32]int, members []int32) bool {
	few, many := 1<<30, 0
	for _, n := range count {
		few, many = min(few, n), max(many, n)
	}
	return len(count) == len(members) && many-few <= 1
}

// fewestMoves tries every balanced assignment of a set.
func fewestMoves(set []readTopic, was places) int {
	members := set[0].members
	var now []int32
	for _, t := range set {
		for p := range t.partitions {
			now = append(now, was.with(TopicPartition{t.id, objectlog.Partition(p)}, func(m int32) bool { return slices.Contains(members, m) }))
		}
	}
	best := len(now) + 1
	count := map[int32]int{}
	for _, m := range members {
		count[m] = 0
	}
	var try func(i, moves int)
	try = func(i, moves int) {
		if moves >= best {
			return
		}
		if i == len(now) {
			if balanced(count, members) {
				best = moves
			}
			return
		}
		for _, m := range members {
			count[m]++
			more := 0
			if now[i] >= 0 && now[i] != m {
				more = 1
			}
			try(i+1, moves+more)
			count[m]--
		}
	}
	try(0, 0)
	return best
}

func drawTopics(t *rapid.T, members int32, partitions int) []readTopic {
	var all []readTopic
	for i := range rapid.IntRange(1, 4).Draw(t, "topics") {
		if partitions == 0 {
			break
		}
		n := rapid.IntRange(1, partitions).Draw(t, "partitions")
		partitions -= n
		subscribers := rapid.SliceOfNDistinct(rapid.Int32Range(0, members-1), 1, int(members), rapid.ID[int32]).Draw(t, "members")
		if rapid.Bool().Draw(t, "all") {
			subscribers = nil
			for m := range members {
				subscribers = append(subscribers, m)
			}
		}
		slices.Sort(subscribers)
		all = append(all, readTopic{topic(i + 1), int32(n), subscribers})
	}
	return all
}

func drawPlaces(t *rapid.T, all []readTopic, members int32) places {
	was := places{}
	for _, topic := range all {
		for p := range topic.partitions {
			if rapid.IntRange(0, 4).Draw(t, "free") > 0 {
				one := rapid.Int32Range(0, members-1).Draw(t, "is to have it")
				was[TopicPartition{topic.id, objectlog.Partition(p)}] = [2]int32{one, rapid.OneOf(rapid.Just(one), rapid.Int32Range(-1, members-1)).Draw(t, "has it")}
			}
		}
	}
	return was
}

func TestAssignmentIsBalancedWithTheFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := rapid.Int32Range(1, 4).Draw(t, "members")
		all := drawTopics(t, members, 7)
		was := drawPlaces(t, all, members)
		targets := assign(all, was.with)
		for _, set := range sets(all) {
			count, moves := balance(set, targets, was)
			if !balanced(count, set[0].members) {
				t.Fatalf("unbalanced: %v of %v", count, set)
			}
			if best := fewestMoves(set, was); moves != best {
				t.Fatalf("%d moves, %d would do", moves, best)
			}
		}
		if again := assign(all, of(targets).with); !reflect.DeepEqual(again, targets) {
			t.Fatalf("made again: %v, was %v", again, targets)
		}
		slices.Reverse(all)
		if again := assign(all, was.with); !reflect.DeepEqual(again, targets) {
			t.Fatalf("in another order: %v, was %v", again, targets)
		}
	})
}

// Sets share members: what one set has too much of, the next one evens out as far as it can without a move.
func TestLargerNumbersGoToThoseWithLessFromOtherSets(t *testing.T) {
	both := []int32{0, 1}
	targets := assign([]readTopic{{topic(1), 2, []int32{0}}, {topic(2), 3, both}}, places{}.with)
	if count, _ := balance([]readTopic{{topic(2), 3, both}}, targets, places{}); count[1] != 2 {
		t.Fatalf("%v of the second set, though 0 has the first one", count)
	}
	// Member 0 had one of the second set, less than the smaller number: that saves no move, and does not count.
	targets = assign([]readTopic{{topic(1), 2, []int32{0}}, {topic(2), 5, both}}, places{at(2, 0): {0, 0}}.with)
	if count, _ := balance([]readTopic{{topic(2), 5, both}}, targets, places{}); count[1] != 3 {
		t.Fatalf("%v of the second set, though 0 has the first one", count)
	}
}

func TestMembersBeyondPartitionsAreIdleAndTakeOver(t *testing.T) {
	five := []int32{0, 1, 2, 3, 4}
	targets := assign([]readTopic{{topic(1), 3, five}}, places{}.with)
	if want := []int32{0, 1, 2}; !reflect.DeepEqual(targets[0].Members, want) {
		t.Fatalf("assigned %v", targets[0].Members)
	}
	// The one of index 1 is gone: those behind it move up.
	was := places{at(1, 0): {0, 0}, at(1, 2): {1, 1}}
	targets = assign([]readTopic{{topic(1), 3, five[:4]}}, was.with)
	if want := []int32{0, 2, 1}; !reflect.DeepEqual(targets[0].Members, want) {
		t.Fatalf("assigned %v, want what is left untouched and an idle one for the rest", targets[0].Members)
	}
}

func TestPartitionsOfATopicAreSpread(t *testing.T) {
	members := []int32{0, 1, 2}
	targets := assign([]readTopic{{topic(1), 3, members}, {topic(2), 3, members}, {topic(3), 3, members}}, places{}.with)
	for _, x := range targets {
		if want := []int32{0, 1, 2}; !reflect.DeepEqual(x.Members, want) {
			t.Errorf("%s is with %v", x.Topic, x.Members)
		}
	}
}

// With members that come and go, one at a time, each change moves no more than it must.
func TestComingsAndGoingsMoveOnlyWhatTheyMust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 60).Draw(t, "partitions")
		ids := []int32{0} // members keep their numbers here; in a group they are indexes of the moment
		was := places{}
		next := int32(1)
		for range rapid.IntRange(1, 20).Draw(t, "changes") {
			before := len(ids)
			if comes := before == 1 || rapid.Bool().Draw(t, "comes"); comes {
				ids = append(ids, next)
				next++
			} else {
				i := rapid.IntRange(0, len(ids)-1).Draw(t, "who goes")
				ids = slices.Delete(ids, i, i+1)
			}
			all := []readTopic{{topic(1), int32(partitions), ids}}
			targets := assign(all, was.with)
			count, moves := balance(all, targets, was)
			if !balanced(count, ids) {
				t.Fatalf("unbalanced: %v", count)
			}
			if len(ids) < before && moves > 0 {
				t.Fatalf("%d moves of what was not the gone one's", moves)
			}
			if share := (partitions + len(ids) - 1) / len(ids); len(was) > 0 && moves > share {
				t.Fatalf("%d moves for one who gets at most %d", moves, share)
			}
			was = of(targets)
		}
	})
}

func TestNothingIsAssignedOfNothing(t *testing.T) {
	if got := assign(nil, places{}.with); len(got) != 0 {
		t.Fatal(got)
	}
	got := assign([]readTopic{{topic(1), 0, []int32{0}}}, places{}.with)
	if len(got) != 1 || len(got[0].Members) != 0 {
		t.Fatal(got)
	}
}

// crowd is a group with so many members, all reading topics of so many partitions, everything assigned.
func crowd(members, topicsN, partitions int) ([]readTopic, places) {
	ids := make([]int32, members)
	for i := range ids {
		ids[i] = int32(i)
	}
	var all []readTopic
	for i := range topicsN {
		all = append(all, readTopic{objectlog.UUID{byte(i >> 8), byte(i)}, int32(partitions / topicsN), ids})
	}
	return all, of(assign(all, places{}.with))
}

// One member is gone: the others take its partitions over.
func benchmarkAssign(b *testing.B, members, topicsN, partitions int) {
	all, was := crowd(members, topicsN, partitions)
	gone := int32(rand.New(rand.NewPCG(1, 2)).IntN(members))
	rest := slices.DeleteFunc(slices.Clone(all[0].members), func(m int32) bool { return m == gone })
	for i := range all {
		all[i].members = rest
	}
	b.ReportAllocs()
	for b.Loop() {
		assign(all, was.with)
	}
}

func BenchmarkAssign100MembersTo1000Partitions(b *testing.B) { benchmarkAssign(b, 100, 10, 1_000) }
func BenchmarkAssign10000MembersTo10000Partitions(b *testing.B) {
	benchmarkAssign(b, 10_000, 10, 10_000)
}
