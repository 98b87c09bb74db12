// Package groups holds consumer groups: members, their partitions and committed offsets, as a pure function of the shard log that a group
// belongs to; the assignor; and the pure core with which a leader keeps sessions. No clock, no I/O, no goroutine.
package groups

import (
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// State owns the kinds in [From, To).
const (
	From metadata.Kind = 64
	To   metadata.Kind = 96
)

// The bounds of what a group may hold.
const (
	groupBytesMax    = 255 // of a group's id
	memberBytesMax   = 64  // of a member's id
	instanceBytesMax = 255 // of an instance id
	clientBytesMax   = 255 // of a client's name and of its host
	patternBytesMax  = 1024
	topicsMax        = 1000 // names that one member subscribes to
	MetadataBytesMax = 4096 // beside a committed offset; Kafka's default
	membersMax       = 10_000
	sessionMin       = time.Second
	sessionMax       = 30 * time.Minute

	topicBytesMax        = 249
	groupsMax            = 1_000_000 // of one shard
	commitMax            = 10_000    // offsets of one command
	partitionsMax        = 100_000   // of one topic
	generationMax        = 1 << 62
	durationMax          = uint64(24 * time.Hour / time.Millisecond)
	offsetMax     uint64 = 1 << 62

	// An assignment is one command and has to fit into an entry, so a group has at most some 120,000 partitions.
	assignBytesMax = 240 << 10
	targetBytesMax = 16 + 3 // topic and number of partitions
	placeBytesMax  = 2      // a member's index
)

// ShardOf is the rule of which shard a group belongs to: FNV-1a with 64 bits of its id. Where groups lie depends on it for ever.
func ShardOf(group string, shards int) objectlog.Shard {
	hash := fnv.New64a()
	hash.Write([]byte(group)) // never fails
	return objectlog.Shard(hash.Sum64() % uint64(shards))
}

// TopicPartition is one partition of one life of a topic: a topic that was deleted and made anew has another id.
type TopicPartition struct {
	Topic     objectlog.UUID
	Partition objectlog.Partition
}

// Compare orders partitions by topic, then number.
func (p TopicPartition) Compare(q TopicPartition) int {
	if c := slices.Compare(p.Topic[:], q.Topic[:]); c != 0 {
		return c
	}
	return int(p.Partition) - int(q.Partition)
}

// Subscription is what a member wants to read: topics by name, and those whose whole name matches a pattern of RE2.
type Subscription struct {
	Topics  []string // sorted, each once
	Pattern string   // empty: none
}

// Equal says whether two subscriptions are of the same topics and pattern.
func (s Subscription) Equal(t Subscription) bool {
	return s.Pattern == t.Pattern && slices.Equal(s.Topics, t.Topics)
}

// Member is one consumer of a group.
type Member struct {
	ID         string // chosen by the client, new with each of its lives
	Instance   string // of a static member, the same in each of its lives; else empty
	Former     string // of a static member: the id in its life before this one, which is fenced
	Client     string // what it calls itself
	Host       string // where it was seen
	Subscribed Subscription
	Session    time.Duration // without a heartbeat for so long it is gone
	Rebalance  time.Duration // within so long it must give up what it is told to
	Joined     objectlog.Timestamp
}

// Slot is one partition of a group. A partition moves in three steps, each an entry: the target changes, the owner says that it has
// stopped (or is gone), the target becomes the owner.
type Slot struct {
	TopicPartition
	Target string // the member that is to have it; empty: none
	Owner  string // the member that has it, until it says that it has stopped; empty: none
	// Since is the generation in which Owner got it. Commits of earlier generations are of an earlier time as owner, and refused.
	Since int64
}

// Committed is a group's position in one partition: the offset of the next record to process.
type Committed struct {
	TopicPartition
	Offset   objectlog.Offset
	Epoch    objectlog.Epoch // leader epoch of the last processed record as the consumer knows it; negative: unknown
	Metadata string
	Time     objectlog.Timestamp
}

// Group is one group. What State hands out are its own parts, which nobody else changes.
type Group struct {
	ID         string
	Generation int64               // rises with every new assignment, and with every static member that takes over from its former life
	Version    int64               // rises with every change of the members or their subscriptions
	Assigned   int64               // the Version that the targets were made for; below Version: an assignment is due
	Idle       objectlog.Timestamp // when the last member left, or the last offset was committed without one
	Members    []*Member           // by id
	Slots      []Slot              // by topic and partition
	Offsets    []Committed

	moved uint64 // the state's count of moves at the newest one in this group
}

// Member finds a member.
func (g *Group) Member(id string) (*Member, bool) {
	i, ok := g.index(id)
	if !ok {
		return nil, false
	}
	return g.Members[i], true
}

// index is where the member is, or belongs.
func (g *Group) index(id string) (int, bool) {
	return slices.BinarySearchFunc(g.Members, id, func(m *Member, id string) int { return strings.Compare(m.ID, id) })
}

// Assignment is what the member may work on: what it owns and is to keep. What it owns beyond that it must give up, and say so.
func (g *Group) Assignment(member string) []TopicPartition {
	var assigned []TopicPartition
	for _, s := range g.Slots {
		if s.Owner == member && s.Target == member {
			assigned = append(assigned, s.TopicPartition)
		}
	}
	return assigned
}

// Committed finds the group's position in a partition.
func (g *Group) Committed(p TopicPartition) (Committed, bool) {
	i, ok := slices.BinarySearchFunc(g.Offsets, p, func(c Committed, p TopicPartition) int { return c.Compare(p) })
	if !ok {
		return Committed{}, false
	}
	return g.Offsets[i], true
}

// OwnerOf answers the member that has a partition; empty: none.
func (g *Group) OwnerOf(p TopicPartition) string {
	if i, ok := g.slot(p); ok {
		return g.Slots[i].Owner
	}
	return ""
}

// Places are the partitions in which the group has a position, or that it has, in order.
func (g *Group) Places() []TopicPartition {
	places := make([]TopicPartition, 0, len(g.Offsets)+len(g.Slots))
	for _, o := range g.Offsets {
		places = append(places, o.TopicPartition)
	}
	for _, s := range g.Slots {
		places = append(places, s.TopicPartition)
	}
	slices.SortFunc(places, TopicPartition.Compare)
	return slices.Compact(places)
}

// Clone is a picture that stays as it is.
func (g *Group) Clone() Group {
	c := *g
	c.Members, c.Slots, c.Offsets = slices.Clone(g.Members), slices.Clone(g.Slots), slices.Clone(g.Offsets)
	return c
}

// Settled says that an assignment is made and carried out: nobody waits for anybody.
func (g *Group) Settled() bool {
	return g.Assigned == g.Version && !slices.ContainsFunc(g.Slots, func(s Slot) bool { return s.Target != s.Owner })
}

// Reason says why a command, or a part of it, did nothing. Edges map each to their codes in one table; numbers cross between agents and are
// never reused.
type Reason uint8

// The reasons.
const (
	ReasonNone            Reason = 0
	ReasonUnknownGroup    Reason = 1
	ReasonUnknownMember   Reason = 2 // it never joined, left, or its session is over: give up everything and join anew
	ReasonFencedInstance  Reason = 3 // a later life of the same static member took over
	ReasonStaleGeneration Reason = 4 // of a commit: the member does not own the partition, or committed for an earlier time as its owner
	ReasonNotEmpty        Reason = 5 // the group has members
	ReasonFull            Reason = 6 // of members, or the shard of groups
	ReasonStaleVersion    Reason = 7 // an assignment was made from members that are no longer these
)

var reasons = [...]string{"none", "unknown group", "unknown member", "another life of this instance took over", "stale generation", "the group has members",
	"the group is full", "members changed meanwhile"}

// Error implements error.
func (r Reason) Error() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "unknown reason"
}

// Result is what every command of this package answers.
type Result struct {
	Reason     Reason
	Generation int64     // the group's, behind the command
	Refused    []Refusal // CommitOffsets with ReasonNone: those that were not taken
}

// Refusal is one offset that was not committed.
type Refusal struct {
	Index  int // in CommitOffsets.Offsets
	Reason Reason
}
