package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	succeedEvery = 50 * time.Millisecond
	// succeedFor is far more than shards take to learn who holds their lease; behind it the lease decides.
	succeedFor = 10 * time.Second
)

// succeed tells the shards that whoever ran before at this agent's peer address is gone, so that a restarted agent claims their leases at
// once and does not watch them for their time. No two agents of one host have one peer address. Where two are given one by mistake, the second
// takes over once, when it starts: leases only decide who leads, never what is in the log.
func (a *Agent) succeed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, succeedFor)
	defer cancel()
	before := a.predecessors(ctx)
	if len(before) == 0 {
		return nil
	}
	tick := time.NewTicker(succeedEvery)
	defer tick.Stop()
	told := make([]bool, len(a.shards))
	for {
		for i, s := range a.shards {
			if leader := s.log.Status().Leader; before[leader] && !told[i] {
				told[i] = s.tell(ctx, shardlog.HolderGone{Holder: leader}) == nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// predecessors are the boots whose items have this agent's peer address and host.
func (a *Agent) predecessors(ctx context.Context) map[objectlog.UUID]bool {
	own := a.presence.info
	if own.PeerAddress == "" || a.cfg.ExclusiveTable { // shards of an exclusive table claim at once anyway
		return nil
	}
	items, err := a.agentItems(ctx)
	if err != nil {
		slog.Warn("look for former runs of this agent", "err", err)
		return nil
	}
	before := make(map[objectlog.UUID]bool)
	for _, item := range items {
		var other AgentInfo
		if err := json.Unmarshal(item.Value, &other); err != nil {
			continue
		}
		boot, err := objectlog.ParseUUID(other.Boot)
		if err == nil && other.Boot != own.Boot && other.PeerAddress == own.PeerAddress && other.Host == own.Host {
			before[boot] = true
		}
	}
	return before
}
