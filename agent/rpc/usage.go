package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/objectlog/usage"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// StoreUsage is what was asked of one store since the process started.
type StoreUsage struct {
	Store string // bucket or table
	Lines []usage.Line
}

// GetUsage implements ClusterService.
func (e *edge) GetUsage(ctx context.Context, _ *v1.GetUsageRequest) (*v1.GetUsageResponse, error) {
	if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil {
		return nil, err
	}
	boot, countedFor, topics := e.engine.Usage()
	out := &v1.GetUsageResponse{BootId: boot, CountedFor: durationpb.New(countedFor)}
	for _, t := range topics {
		out.Topics = append(out.Topics, &v1.GetUsageResponse_Topic{Topic: t.Topic, ProducedBytes: t.ProducedBytes, FetchedBytes: t.FetchedBytes})
	}
	if e.cfg.Usage == nil {
		return out, nil
	}
	for _, s := range e.cfg.Usage() {
		for _, l := range s.Lines {
			out.Requests = append(out.Requests, &v1.GetUsageResponse_Requests{
				Store: s.Store, Kind: l.Kind, Cause: string(l.Cause), Requests: int64(l.Requests), Units: int64(l.Units), Bytes: int64(l.Bytes),
			})
		}
	}
	return out, nil
}
