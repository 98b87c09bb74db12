package agent

import (
	"context"
	"errors"

	"github.com/splashdam/splashdam/objectlog"
)

// GivenUp is a record that an ordered group gives up on.
type GivenUp struct {
	Group, Topic string
	Partition    objectlog.Partition
	Offset       objectlog.Offset
	Committed    objectlog.Offset // the group's position; NoOffset: none
	Attempts     int32
	First        objectlog.Timestamp // failure; NoTimestamp: now
	Error        string
	DeadLetters  string // empty: the topic's name with "-dlq" behind it
}

// PartitionOffset is the place of a record in a topic.
type PartitionOffset struct {
	Partition objectlog.Partition
	Offset    objectlog.Offset
}

// DeadLetter is a record of a dead-letter topic that was neither redriven nor discarded.
type DeadLetter struct {
	PartitionOffset
	Record    objectlog.Record
	Source    PartitionOffset // where it was; Offset NoOffset: the record does not say so
	Topic     string          // of Source
	Group     string
	Attempts  int32
	First     objectlog.Timestamp // failure; NoTimestamp: the record does not say so
	Last      objectlog.Timestamp
	Reason    string // the name of a queues.Cause
	Error     string
	Redriving bool
}

// DeadLetterCount is how many dead letters a topic has.
type DeadLetterCount struct {
	Topic     string
	Err       error
	Records   int64
	Redriving int64 // of them
}

// Redrive asks to send dead letters on.
type Redrive struct {
	Topic     string
	Only      []PartitionOffset // empty: all, RecordsMax with one call
	To        string            // empty: where each comes from
	Edited    []byte            // of the only one
	HasEdited bool
	// FailedBefore: those that failed for the last time at or before it; NoTimestamp: all.
	FailedBefore objectlog.Timestamp
	RecordsMax   int // 0: 100
}

// Redriven is what a Redrive came to.
type Redriven struct {
	Arrived, Redriving, Remaining int64
	Refused                       []RefusedLetter
}

// RefusedLetter is one that nothing was done of.
type RefusedLetter struct {
	PartitionOffset
	Err error
}

// Discard asks to count dead letters no more. Fields are those of Redrive; RecordsMax 0: 1,000.
type Discard struct {
	Topic        string
	Only         []PartitionOffset
	FailedBefore objectlog.Timestamp
	RecordsMax   int
}

// Discarded is what a Discard came to.
type Discarded struct {
	Records, Remaining int64
	Refused            []PartitionOffset
}

// SendDeadLetter has a record that an ordered group gives up on copied to the dead-letter topic. When it returns nil that will happen.
func (a *Agent) SendDeadLetter(ctx context.Context, g GivenUp) error {
	return topicError("send to dead letters", objectOf(g.Topic, g.Partition), because(Unavailable, errors.New("no dead letters")))
}

// CountDeadLetters counts currently; no topics: all that have the setting dead.letters.
func (a *Agent) CountDeadLetters(ctx context.Context, topics []string) ([]DeadLetterCount, error) {
	return nil, topicError("count dead letters", "", because(Unavailable, errors.New("no dead letters")))
}

// DeadLetters lists dead letters behind a place, at most limit, by partition and offset; with only: of those.
func (a *Agent) DeadLetters(ctx context.Context, topic string, only []PartitionOffset, after PartitionOffset, limit int) ([]DeadLetter, error) {
	return nil, topicError("list dead letters of", topic, because(Unavailable, errors.New("no dead letters")))
}

// RedriveDeadLetters begins what it can, waits for it for a while, and answers how far it is.
func (a *Agent) RedriveDeadLetters(ctx context.Context, r Redrive) (Redriven, error) {
	return Redriven{}, topicError("redrive dead letters of", r.Topic, because(Unavailable, errors.New("no dead letters")))
}

// DiscardDeadLetters makes dead letters count no more.
func (a *Agent) DiscardDeadLetters(ctx context.Context, d Discard) (Discarded, error) {
	return Discarded{}, topicError("discard dead letters of", d.Topic, because(Unavailable, errors.New("no dead letters")))
}
