package rpc

import (
	"context"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// GetCluster implements ClusterService.
func (e *edge) GetCluster(ctx context.Context, _ *v1.GetClusterRequest) (*v1.GetClusterResponse, error) {
	if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil {
		return nil, err
	}
	c, err := e.engine.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	out := &v1.GetClusterResponse{
		ClusterId:   c.ID.String(),
		FormatLevel: int32(c.FormatLevel),
		Limits: &v1.GetClusterResponse_Limits{
			RequestBytesMax:       int64(e.cfg.RequestBytesMax),
			BatchBytesMax:         int64(e.cfg.Limits.BatchBytes),
			FetchBytesMax:         fetchBytesMax,
			FetchWaitMaxMs:        fetchWaitMax.Milliseconds(),
			PartitionsPerTopicMax: partitionsMax,
		},
		Version:              e.cfg.Version,
		AutoCreatePartitions: c.AutoPartitions,
	}
	for _, a := range c.Agents {
		out.Agents = append(out.Agents, &v1.GetClusterResponse_Agent{
			BootId: a.Boot, BootOrdinal: a.Ordinal, ClientAddress: a.ClientAddress, PeerAddress: a.PeerAddress, Zone: a.Zone, Version: a.Version,
		})
	}
	for _, s := range c.Shards {
		out.Shards = append(out.Shards, &v1.GetClusterResponse_Shard{
			Shard: new(int32(s.Shard)), Leader: s.Leader, Epoch: int64(s.Epoch), AppliedSeq: new(int64(s.Applied)), Fault: s.Fault,
		})
	}
	return out, nil
}
