package groups

import (
	"cmp"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// readTopic is a topic that a group reads.
type readTopic struct {
	id         objectlog.UUID
	partitions int32
	members    []int32 // indexes of its subscribers, ascending; at least one
}

// assign says who is to have which partition: sticky and balanced. Topics with the same subscribers form a set; within a set, the numbers of
// partitions of two members differ by at most one, and as few partitions as such a balance allows leave the member that they are with. Where
// several could have the larger number, it is those with less from other sets. It answers topics in the order of their ids. Of its own
// assignment it makes the same one.
//
// with answers the index of the member that a partition is with, of those that may; -1: nobody.
func assign(topics []readTopic, with func(p TopicPartition, may func(member int32) bool) int32) []Target {
	topics = slices.SortedFunc(slices.Values(topics), func(a, b readTopic) int { return slices.Compare(a.id[:], b.id[:]) })
	targets := make([]Target, len(topics))
	sets := map[string][]int{} // topics by their subscribers
	var order []string
	for i, t := range topics {
		targets[i] = Target{Topic: t.id, Members: make([]int32, t.partitions)}
		key := keyOf(t.members)
		if sets[key] == nil {
			order = append(order, key)
		}
		sets[key] = append(sets[key], i)
	}
	load := map[int32]int{} // of sets that are done
	for _, key := range order {
		assignSet(topics, targets, sets[key], with, load)
	}
	return targets
}

func keyOf(members []int32) string {
	b := make([]byte, 0, 4*len(members))
	for _, m := range members {
		b = append(b, byte(m>>24), byte(m>>16), byte(m>>8), byte(m))
	}
	return string(b)
}

// assignSet assigns the topics of one set.
func assignSet(topics []readTopic, targets []Target, set []int, with func(TopicPartition, func(int32) bool) int32, load map[int32]int) {
	members := topics[set[0]].members
	count := make(map[int32]int, len(members)) // partitions that are with the member now
	for _, m := range members {
		count[m] = 0
	}
	subscribes := func(m int32) bool {
		_, ok := count[m]
		return ok
	}
	partitions := 0
	for _, i := range set {
		for p := range targets[i].Members {
			m := with(TopicPartition{topics[i].id, objectlog.Partition(p)}, subscribes)
			if m >= 0 {
				count[m]++
			}
			targets[i].Members[p] = m
			partitions++
		}
	}
	// Whoever has more than the smaller number keeps the larger one: each of these saves a move.
	few := partitions / len(members)
	ranked := slices.Clone(members)
	slices.SortFunc(ranked, func(a, b int32) int {
		return cmp.Or(cmp.Compare(min(max(count[b], few), few+1), min(max(count[a], few), few+1)), cmp.Compare(load[a], load[b]), cmp.Compare(a, b))
	})
	quota := make(map[int32]int, len(members))
	for rank, m := range ranked {
		quota[m] = few
		if rank < partitions%len(members) {
			quota[m]++
		}
		load[m] += quota[m]
	}
	var free []*int32
	for _, i := range set {
		for p := range targets[i].Members {
			target := &targets[i].Members[p]
			if *target >= 0 && quota[*target] > 0 {
				quota[*target]--
				continue
			}
			free = append(free, target)
		}
	}
	// Round by round, so that a topic's partitions are spread.
	for len(free) > 0 {
		for _, m := range members {
			if quota[m] > 0 {
				quota[m]--
				*free[0] = m
				free = free[1:]
			}
		}
	}
}
