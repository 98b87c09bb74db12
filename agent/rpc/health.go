package rpc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	healthv1 "github.com/splashdam/splashdam/proto/grpc/health/v1"
)

// health is gRPC's health protocol over the engine's readiness. Who may connect may ask.
type health struct{ edge *edge }

// Check implements Health.
func (h health) Check(_ context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	status := h.status(r.GetService())
	if status == healthv1.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("check %q: no such service", r.GetService()))
	}
	return &healthv1.HealthCheckResponse{Status: status}, nil
}

// Watch implements Health.
func (h health) Watch(ctx context.Context, r *healthv1.HealthCheckRequest, stream *connect.ServerStream[healthv1.HealthCheckResponse]) error {
	poll := time.NewTicker(h.edge.poll)
	defer poll.Stop()
	last := healthv1.HealthCheckResponse_ServingStatus(-1)
	for {
		if status := h.status(r.GetService()); status != last {
			last = status
			err := h.edge.sendWithin(ctx, 0, func() error { return stream.Send(&healthv1.HealthCheckResponse{Status: status}) })
			if err != nil {
				return err
			}
		}
		if h.edge.draining() {
			return nil // the server waits for its streams before it stops
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h health) status(service string) healthv1.HealthCheckResponse_ServingStatus {
	if service != "" && !slices.Contains(services(), service) {
		return healthv1.HealthCheckResponse_SERVICE_UNKNOWN
	}
	if h.edge.engine.Ready() != nil {
		return healthv1.HealthCheckResponse_NOT_SERVING
	}
	return healthv1.HealthCheckResponse_SERVING
}
