package rpc

import (
	"context"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// GetUsage implements ClusterService.
func (e *edge) GetUsage(ctx context.Context, _ *v1.GetUsageRequest) (*v1.GetUsageResponse, error) {
	panic("agent/rpc: to be written")
}
