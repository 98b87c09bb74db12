package rpc

import (
	"context"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// ListOffsets implements LogService.
func (e *edge) ListOffsets(ctx context.Context, r *v1.ListOffsetsRequest) (*v1.ListOffsetsResponse, error) {
	if err := checkReads("list offsets", r.GetPartitions(), r.GetIsolation()); err != nil {
		return nil, err
	}
	response := &v1.ListOffsetsResponse{}
	var wanted []agent.FetchPartition
	for i, p := range r.GetPartitions() {
		w, err := e.readable(ctx, ActionDescribe, "list offsets", i, p)
		if err == nil && w.Start.Kind == agent.StartOffset {
			err = invalid("list offsets", "start.offset", "not accepted: it is known already; want point, timestamp or tail_records")
		}
		if err != nil {
			refused := e.refusedPartition(p, err)
			response.Partitions = append(response.Partitions, &v1.ListOffsetsResponse_Partition{Topic: refused.Topic, Partition: refused.Partition, Error: refused.Error})
			continue
		}
		wanted = append(wanted, w)
	}
	if len(wanted) == 0 {
		return response, nil
	}
	for _, found := range e.engine.ListOffsets(ctx, wanted) {
		response.Partitions = append(response.Partitions, e.foundOffset(found))
	}
	return response, nil
}

func (e *edge) foundOffset(found agent.FoundOffset) *v1.ListOffsetsResponse_Partition {
	out := &v1.ListOffsetsResponse_Partition{Topic: found.Topic}
	if found.Partition >= 0 {
		out.Partition = new(int32(found.Partition))
	}
	if found.Err != nil {
		out.Error = e.detail(found.Err)
		return out
	}
	out.Offset = new(int64(found.Offset))
	out.Timestamp = protoTime(found.Timestamp)
	out.LogStartOffset = new(int64(found.LogStart))
	out.HighWatermark = new(int64(found.HighWatermark))
	return out
}

// InitProducer implements LogService.
func (e *edge) InitProducer(ctx context.Context, r *v1.InitProducerRequest) (*v1.InitProducerResponse, error) {
	p, err := producerOf("init producer", r.GetProducer())
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionWrite, Resource{}); err != nil {
		return nil, err
	}
	if p, err = e.engine.InitProducer(ctx, p); err != nil {
		return nil, err
	}
	return &v1.InitProducerResponse{Producer: &v1.Producer{Id: int64(p.ID), Epoch: int32(p.Epoch)}}, nil
}
