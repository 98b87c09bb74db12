package agent

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/metadata"
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

// Queue answers how far a queue is, currently.
func (a *Agent) Queue(ctx context.Context, group, topic string) (QueueInfo, error) {
	const op = "get queue of"
	if err := queues.CheckGroup(group); err != nil {
		return QueueInfo{}, groupError(op, group, because(InvalidRequest, err))
	}
	t, err := a.findCurrent(ctx, topic, 0)
	if err != nil {
		return QueueInfo{}, topicError(op, topic, err)
	}
	probed := make(map[objectlog.Shard]bool)
	info := QueueInfo{Partitions: make([]QueuePartition, t.Partitions)}
	newest := objectlog.NoTimestamp
	for i := range info.Partitions {
		k := queues.Key{Topic: t.ID, Partition: objectlog.Partition(i), Group: group}
		shard := metadata.ShardOf(t.ID, k.Partition, len(a.shards))
		if !probed[shard] {
			if err := a.current(ctx, shard); err != nil {
				return QueueInfo{}, topicError(op, objectOf(topic, k.Partition), err)
			}
			probed[shard] = true
		}
		var ok bool
		s := a.shards[shard]
		s.log.Read(func(metadata.Seq) {
			var state metadata.PartitionState
			if state, ok = s.state.Partition(t.ID, k.Partition); !ok {
				return
			}
			q, _ := s.queues.Queue(k)
			info.Partitions[i] = queuePartition(state, q)
			if q != nil && q.Used >= newest {
				newest, info.Policy = q.Used, q.Policy
			}
		})
		if !ok {
			return QueueInfo{}, topicError(op, objectOf(topic, k.Partition), metadata.ReasonUnknownTopic)
		}
	}
	return info, nil
}

// queuePartition is called within log.Read; q nil: the queue has nothing of the partition.
func queuePartition(state metadata.PartitionState, q *queues.Queue) QueuePartition {
	p := QueuePartition{Lag: int64(state.HighWatermark - state.LogStart), HighWatermark: state.HighWatermark}
	if q == nil {
		return p
	}
	p.Known, p.Next, p.Used = true, q.Next, q.Used
	p.Locked, p.Delayed, p.Released = q.Count(queues.Locked), q.Count(queues.Delayed), q.Count(queues.Ready)
	p.Dying = q.Count(queues.Failed) + q.Count(queues.Moving)
	p.Lag = q.Unfinished(state.LogStart, state.HighWatermark)
	return p
}
