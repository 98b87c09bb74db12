package metadata

import "github.com/splashdam/splashdam/objectlog"

// The commands of State. Each Command method encodes; Apply's result type stands beside it.

// CreateTopic enters a topic in state Creating into the catalog (shard 0). The same creation again, with the same ID, answers the
// topic as it is. Result: TopicResult.
type CreateTopic struct {
	ID         objectlog.UUID
	Name       string
	Partitions int32
	Settings   Settings
}

// AlterTopic replaces a topic's settings. Result: TopicResult.
type AlterTopic struct {
	ID       objectlog.UUID
	Version  int64 // the version it was decided on; 0: any
	Settings Settings
}

// GrowTopic asks for more partitions: the topic's Target rises, Partitions follows by ActivateTopic. Result: TopicResult.
type GrowTopic struct {
	ID         objectlog.UUID
	Partitions int32
}

// ActivateTopic: every shard has the topic's partitions up to Partitions; the topic becomes Active with them. Result: TopicResult.
type ActivateTopic struct {
	ID         objectlog.UUID
	Partitions int32
}

// DeleteTopic marks the topic Deleting: it is gone for clients at once, and its name is free once the entry is. Result: TopicResult.
type DeleteTopic struct {
	ID      objectlog.UUID
	Version int64 // 0: any
}

// ForgetTopic removes a Deleting topic from the catalog: every shard has dropped it. Result: TopicResult.
type ForgetTopic struct {
	ID objectlog.UUID
}

// AddPartitions creates, in this shard, those partitions in [From, To) of the topic that belong to it. Repeats do nothing, nor does one that
// comes behind the topic's DropTopic. Result: nil.
type AddPartitions struct {
	Topic    objectlog.UUID
	From, To int32
}

// DropTopic removes all partitions of the topic from this shard. Repeats do nothing. Result: nil.
type DropTopic struct {
	Topic objectlog.UUID
}

// Commit makes the runs of one section of one segment part of their partitions. It is proposed with the section as Footer; Prepare may rewrite
// it with dense rows. Idempotent by boot ordinal and counter. Result: CommitResult.
type Commit struct {
	Ordinal int64
	Segment objectlog.SegmentName
	Section objectlog.SectionRef
}

// Fence refuses, from here on, every segment of the boot with a counter below Below. Result: nil.
type Fence struct {
	Ordinal int64
	Below   uint64
}

// RetireBoots drops what is kept for boots below the ordinal and refuses their commits for ever. Result: nil.
type RetireBoots struct {
	Below int64
}

// Trim moves a partition's log start up, at most to the high watermark. Result: TrimResult.
type Trim struct {
	Topic     objectlog.UUID
	Partition objectlog.Partition
	LogStart  objectlog.Offset
}

// ExpireProducers forgets producers whose last batch was committed before the time. Result: nil.
type ExpireProducers struct {
	Before objectlog.Timestamp
}

// TopicResult is the topic after the command, or the reason why nothing changed.
type TopicResult struct {
	Topic  Topic
	Reason Reason
}

// TrimResult is the log start after the command.
type TrimResult struct {
	LogStart objectlog.Offset
	Reason   Reason
}

// CommitResult is the decision on every batch of a section, in the section's order. Unknown: the segment is fenced, of a retired boot, or
// was decided too long ago to remember; its batches may or may not be in the log, and Batches is empty.
type CommitResult struct {
	Unknown bool
	Batches []BatchResult
}

// BatchResult is the decision on one batch.
type BatchResult struct {
	// Base is the offset of the first record: new, or the original one of a duplicate. With ReasonOffsetMismatch it is the
	// partition's actual next offset; with every other reason NoOffset.
	Base      objectlog.Offset
	Reason    Reason
	Duplicate bool
}

// Reason says why Apply did not do what a command asked. ReasonNone: it did.
type Reason uint8

// The reasons. Edges map each to their codes in one table; numbers are kept in snapshots and never reused.
const (
	ReasonNone           Reason = 0
	ReasonUnknownTopic   Reason = 1 // topic or partition
	ReasonTopicExists    Reason = 2
	ReasonOffsetMismatch Reason = 3 // expected next offset
	ReasonSequenceGap    Reason = 4 // out of order sequence
	ReasonFencedProducer Reason = 5 // a newer epoch of this producer is known
	ReasonProducerLimit  Reason = 6 // no room for one more producer
	ReasonTopicChanged   Reason = 7 // the version (etag) is not the current one
	ReasonInvalid        Reason = 8 // e.g. fewer partitions than now, trim beyond the high watermark
	ReasonOldSequence    Reason = 9 // a duplicate of a batch too old to remember its offset
)
