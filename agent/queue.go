package agent

import (
	"context"
	"errors"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// PullRequest asks for records of a queue.
type PullRequest struct {
	Group, Topic string
	RecordsMax   int32         // 0: 100
	BytesMax     int64         // of stored batches that are read; the first one comes even if it is larger; 0: 1 MiB
	Wait         time.Duration // for the first record
	Lock         time.Duration // 0: 30 s
	Deliveries   int32         // 0: 5
	DeadLetters  string        // empty: the topic's name with "-dlq" behind it
	Start        Start         // in partitions that the queue has nothing of yet
}

// Pulled is what was locked in one partition. Every record of Acquired is in Batches, or is not in the log any more; batches hold others beside them, and
// are as those of a FetchedPartition.
type Pulled struct {
	queues.Place
	Lock     uint64
	Acquired []queues.Acquired
	Batches  [][]byte
}

// Acknowledgement is what became of one record.
type Acknowledgement struct {
	queues.Place
	Offset  objectlog.Offset
	Lock    uint64
	Verdict queues.Verdict
	Wait    time.Duration // of Release: the delay; of Extend: from now on
	Error   string        // of Release and Reject
}

// QueueInfo is how far a queue is.
type QueueInfo struct {
	Policy     queues.Policy
	Partitions []QueuePartition // all of the topic, by number
}

// QueuePartition is how far a queue is in one partition.
type QueuePartition struct {
	Known                            bool // the queue has had records of it
	Next                             objectlog.Offset
	Locked, Delayed, Released, Dying int64 // records; Dying: failed, and not yet in the dead-letter topic
	Lag                              int64
	HighWatermark                    objectlog.Offset
	Used                             objectlog.Timestamp
}

// Pull locks records and reads them. It proposes to the leaders of the partitions' shards, which may be others; what it locked and can't read it
// gives back. It answers nothing when there was nothing for r.Wait.
func (a *Agent) Pull(ctx context.Context, r PullRequest) ([]Pulled, error) {
	return nil, topicError("pull from", r.Topic, because(Unavailable, errors.New("no queues")))
}

// Acknowledge says what became of records of a group, and answers an error or nil for each: queues.ReasonNotLocked where the lock has ended, or the record was
// acknowledged before. OutcomeUnknown: it may be done.
func (a *Agent) Acknowledge(ctx context.Context, group string, all []Acknowledgement) ([]error, error) {
	return nil, topicError("acknowledge for", "group "+group, because(Unavailable, errors.New("no queues")))
}

// Queue answers how far a queue is, currently.
func (a *Agent) Queue(ctx context.Context, group, topic string) (QueueInfo, error) {
	return QueueInfo{}, topicError("get queue", topic, because(Unavailable, errors.New("no queues")))
}
