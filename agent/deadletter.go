package agent

import (
	"context"
	"errors"
	"strconv"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
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

const opSend = "send to dead letters"

// SendDeadLetter has a record that an ordered group gives up on copied to the dead-letter topic. When it returns nil that will happen, or has. One below the
// group's position is not sent: that is for repeats only.
func (a *Agent) SendDeadLetter(ctx context.Context, g GivenUp) error {
	if g.DeadLetters == "" {
		g.DeadLetters = g.Topic + deadLetterAfter
	}
	if err := a.sendDeadLetter(ctx, g); err != nil {
		return topicError(opSend, objectOf(g.Topic, g.Partition), err)
	}
	return nil
}

func (a *Agent) sendDeadLetter(ctx context.Context, g GivenUp) error {
	if err := checkGivenUp(g); err != nil {
		return err
	}
	t, err := a.find(ctx, g.Topic, g.Partition)
	if err != nil {
		return err
	}
	k := queues.Key{Topic: t.ID, Partition: g.Partition, Group: g.Group}
	shard := metadata.ShardOf(t.ID, g.Partition, len(a.shards))
	if a.sendable(k, shard, g) != nil { // that there is something wrong with it is only said behind a current read
		if err := a.current(ctx, shard); err != nil {
			return err
		}
		if err := a.sendable(k, shard, g); err != nil {
			return err
		}
	}
	if g.First == objectlog.NoTimestamp {
		g.First = a.cfg.Wall()
	}
	results, err := a.propose(ctx, shard, queues.Fail{Key: k, Offset: g.Offset, Committed: max(0, g.Committed), Deliveries: max(1, g.Attempts), First: g.First,
		Error: queues.CutError(g.Error), Policy: queues.Policy{Deliveries: min(max(1, g.Attempts), queues.DeliveriesMax), DeadLetters: g.DeadLetters}}.Command())
	if err != nil {
		return err
	}
	result, err := resultOf[queues.Result](results[0])
	if err == nil && result.Reason != queues.ReasonNone {
		err = result.Reason
	}
	return err
}

func checkGivenUp(g GivenUp) error {
	if err := queues.CheckGroup(g.Group); err != nil {
		return because(InvalidRequest, err)
	}
	if err := metadata.CheckTopicName(g.DeadLetters); err != nil {
		return because(InvalidTopic, err)
	}
	if g.DeadLetters == g.Topic {
		return because(InvalidRequest, errSameTopic)
	}
	if g.Partition < 0 || g.Offset < 0 || g.Committed < objectlog.NoOffset {
		return because(InvalidRequest, errors.New("partition and offsets must not be negative"))
	}
	return nil
}

var errPassed = errors.New("the group's position is behind the record: send it to the dead letters before the position is committed")

// sendable says what is wrong with a record that a group gives up on, in the applied state, which may lag. One that was trimmed can't be copied any more,
// and one below the group's position that the queue has never heard of was never sent.
func (a *Agent) sendable(k queues.Key, shard objectlog.Shard, g GivenUp) error {
	var state metadata.PartitionState
	var next objectlog.Offset
	there := false
	s := a.shards[shard]
	s.log.Read(func(metadata.Seq) {
		state, there = s.state.Partition(k.Topic, k.Partition)
		if q, ok := s.queues.Queue(k); ok {
			next = q.Next
		}
	})
	switch {
	case !there:
		return metadata.ReasonUnknownTopic
	case g.Offset < next: // perhaps it is sent already
		return nil
	case g.Offset < state.LogStart || g.Offset >= state.HighWatermark:
		return &Error{Op: opSend, Object: objectOf(g.Topic, g.Partition), Cause: OutOfRange, Hint: "the log does not hold this record", Details: map[string]string{
			"log_start": strconv.FormatInt(int64(state.LogStart), 10), "high_watermark": strconv.FormatInt(int64(state.HighWatermark), 10)}}
	case g.Offset < g.Committed:
		return because(InvalidRequest, errPassed)
	}
	return nil
}
