package peer

import (
	"context"
	"fmt"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// HandOff implements agent.Peers.
func (c *Client) HandOff(ctx context.Context, to agent.AgentInfo, s objectlog.Shard, epoch objectlog.Epoch) error {
	ctx, cancel := context.WithTimeout(ctx, handOffTimeout)
	defer cancel()
	ctx, call, err := c.beginTo(ctx, fmt.Sprintf("hand off shard %d", s), to)
	if err != nil {
		return err
	}
	_, err = c.small.HandOff(ctx, &peerv1.HandOffRequest{To: call.meant[:], Shard: int32(s), Epoch: int64(epoch)})
	return call.end(err)
}

// HandOff implements the service. The holder is whoever calls.
func (s *server) HandOff(ctx context.Context, r *peerv1.HandOffRequest) (*peerv1.HandOffResponse, error) {
	if err := s.meant(r.GetTo()); err != nil {
		return nil, toWire(err)
	}
	shard, err := shardOf(r.GetShard())
	if err != nil {
		return nil, toWire(err)
	}
	epoch, err := epochOf(r.GetEpoch())
	if err != nil {
		return nil, toWire(err)
	}
	return &peerv1.HandOffResponse{}, toWire(s.engine.TakeOver(ctx, shard, callerOf(ctx).boot, epoch))
}
