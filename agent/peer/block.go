package peer

import (
	"context"
	"fmt"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// blockBytesMax bounds one answer, and with it what a call makes this agent read; agents ask for some MiB at most.
const blockBytesMax = 32 << 20

// ReadBlock implements agent.Peers.
func (c *Client) ReadBlock(ctx context.Context, to agent.AgentInfo, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	what := fmt.Sprintf("read %d..%d of segment %s/%d", extent.Start, extent.Next, segment.Boot, segment.Counter)
	ctx, call, err := c.beginTo(ctx, what, to)
	if err != nil {
		return nil, err
	}
	answer, err := c.large.ReadBlock(ctx, &peerv1.ReadBlockRequest{To: call.meant[:], SegmentBoot: segment.Boot[:],
		SegmentCounter: segment.Counter, SegmentRandom: segment.Random, Start: extent.Start, Next: extent.Next})
	if err := call.end(err); err != nil {
		return nil, err
	}
	if n := int64(len(answer.GetData())); n == 0 || n > extent.Len() {
		return nil, call.fail(malformed("%d bytes instead of 1 to %d", n, extent.Len()))
	}
	return answer.GetData(), nil
}

// ReadBlock implements the service.
func (s *server) ReadBlock(ctx context.Context, r *peerv1.ReadBlockRequest) (*peerv1.ReadBlockResponse, error) {
	if err := s.meant(r.GetTo()); err != nil {
		return nil, toWire(err)
	}
	boot, err := uuidOf("segment's boot", r.GetSegmentBoot())
	if err != nil {
		return nil, toWire(err)
	}
	extent := objectlog.Extent{Start: r.GetStart(), Next: r.GetNext()}
	if extent.Start < 0 || extent.Next <= extent.Start || extent.Len() > blockBytesMax {
		return nil, toWire(malformed("extent %d..%d", extent.Start, extent.Next))
	}
	name := objectlog.SegmentName{Boot: boot, Counter: r.GetSegmentCounter(), Random: r.GetSegmentRandom()}
	data, err := s.engine.Block(ctx, name, extent)
	if err != nil {
		return nil, toWire(err)
	}
	return &peerv1.ReadBlockResponse{Data: data}, nil
}
