package rpc

import (
	"context"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// queuePartitionBytes is about what a partition of a queue takes in an answer.
const queuePartitionBytes = 256

// GetQueue implements QueueService.
func (e *edge) GetQueue(ctx context.Context, r *v1.GetQueueRequest) (*v1.GetQueueResponse, error) {
	if err := checkQueue("get queue", r.GetGroup(), r.GetTopic()); err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{Topic: r.GetTopic()}); err != nil {
		return nil, err
	}
	q, err := e.engine.Queue(ctx, r.GetGroup(), r.GetTopic())
	if err != nil {
		return nil, err
	}
	if err := e.answering(ctx, int64(len(q.Partitions))*queuePartitionBytes); err != nil {
		return nil, err
	}
	out := &v1.GetQueueResponse{MaxDeliveries: q.Policy.Deliveries, DeadLetterTopic: q.Policy.DeadLetters}
	for i, p := range q.Partitions {
		partition := &v1.GetQueueResponse_Partition{Partition: new(int32(i)), Locked: p.Locked, Delayed: p.Delayed, Released: p.Released, Failed: p.Dying,
			Lag: p.Lag, HighWatermark: new(int64(p.HighWatermark))}
		if p.Known {
			partition.NextOffset, partition.LastUsed = new(int64(p.Next)), protoTime(p.Used)
		}
		out.Partitions = append(out.Partitions, partition)
	}
	return out, nil
}
