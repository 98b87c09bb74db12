package groups

import (
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// The kinds of State. They are in every entry ever written: a number is never reused, and a changed body gets a new number.
const (
	kindJoin          metadata.Kind = 64
	kindLeave         metadata.Kind = 65
	kindAssign        metadata.Kind = 66
	kindRelease       metadata.Kind = 67
	kindCommitOffsets metadata.Kind = 68
	kindDeleteGroup   metadata.Kind = 69
	kindDropTopic     metadata.Kind = 70
	kindExpire        metadata.Kind = 71
)

// Join makes a member, or changes what is known of it. With the instance id of another member it takes that one's place, which is fenced
// from then on: its partitions are the new one's, in a new generation. The group is made if it is not there. Repeats do nothing.
type Join struct {
	Group  string
	Member Member // less Joined, which is the entry's time
}

// Leave removes a member and frees its partitions. Repeats do nothing.
type Leave struct {
	Group, Member string
}

// Assign says who is to have which partition. It is refused when the members are others than those it was made from. One that changes
// nothing begins no generation.
type Assign struct {
	Group   string
	Version int64 // of the group it was made from
	Targets []Target
}

// Target is one topic's part of an assignment.
type Target struct {
	Topic   objectlog.UUID
	Members []int32 // by partition, from 0: the index of a member among the group's, in order of their ids; -1: nobody
}

// Release says that a member has stopped to work on partitions which it is no longer to have. Whoever is to have them gets them.
type Release struct {
	Group, Member string
	// Generation is that of the newest assignment which the member had seen when it said so. When it is not the group's, what the
	// member said may be older than the assignment, and nothing is released.
	Generation int64
	Partitions []TopicPartition // sorted
}

// CommitOffsets moves a group's positions. Of a member, each partition must be its own, and Generation not below that in which it got it.
// Without a member the group must have none, unless Force. The group is made if it is not there.
type CommitOffsets struct {
	Group, Member, Instance string // Member empty: of none
	Generation              int64
	Force                   bool
	Offsets                 []Committed // sorted, each partition once; less Time, which is the entry's
}

// DeleteGroup forgets a group without members.
type DeleteGroup struct {
	Group string
}

// DropTopic forgets every position and every partition in a topic that was deleted, in all groups of the shard.
type DropTopic struct {
	Topic objectlog.UUID
}

// Expire forgets the groups that had no members and no commits since before the time.
type Expire struct {
	Before objectlog.Timestamp
}
