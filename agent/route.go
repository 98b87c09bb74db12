package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// routeRetry is how long what no leader took waits, unless another leader is known before.
const routeRetry = 50 * time.Millisecond

// routed is a shard log whose proposals go to the leader, whichever agent that is. All else is the own replica's.
type routed struct {
	*shardlog.Shard
	shard   objectlog.Shard
	leaders *leaders
}

// own is the log that takes proposals at this agent only.
func own(l shardlog.Log) shardlog.Log {
	if r, ok := l.(routed); ok {
		return r.Shard
	}
	return l
}

// Propose implements shardlog.Log: it looks for the leader until ctx ends.
func (r routed) Propose(ctx context.Context, commands []metadata.Command) (shardlog.Receipt, error) {
	began := time.Now()
	for {
		t, to := r.leaders.leader(r.shard)
		receipt, err := r.at(ctx, t, to, commands)
		if !errors.Is(err, shardlog.ErrNotLeader) {
			return receipt, err
		}
		if fault := r.Status().Fault; fault != nil && time.Since(began) > 2*r.leaders.lease {
			return receipt, fmt.Errorf("%w: %w", err, fault) // it is stopped here, and nobody else has come to lead it
		}
		if !t.next(ctx) {
			return receipt, err
		}
	}
}

// next waits until the shard has another leader, or a moment; false: ctx ended before.
func (t tenure) next(ctx context.Context) bool {
	retry := time.NewTimer(routeRetry)
	defer retry.Stop()
	select {
	case <-t.ended:
	case <-retry.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// at proposes to the leader of a tenure. When the tenure ends meanwhile, whoever is asked may be cut off and never answer: then the outcome is
// unknown.
func (r routed) at(ctx context.Context, t tenure, to AgentInfo, commands []metadata.Command) (shardlog.Receipt, error) {
	if t.boot.IsZero() {
		return shardlog.Receipt{}, fmt.Errorf("propose to shard %d: no leader is known: %w", r.shard, shardlog.ErrNotLeader)
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(t.over, stop)()
	if t.boot == r.leaders.own.Boot {
		return r.Shard.Propose(asking, commands)
	}
	receipt, err := r.leaders.peers.Propose(asking, to, r.shard, commands)
	switch {
	case err == nil && len(receipt.Results) != len(commands):
		return shardlog.Receipt{}, fmt.Errorf("propose to shard %d at agent %s: %d results for %d commands: %w", r.shard, t.boot, len(receipt.Results), len(commands), shardlog.ErrUnknown)
	case errors.Is(err, ErrRefused), errors.Is(err, ErrStranger): // nothing was done there
		return receipt, fmt.Errorf("propose to shard %d: %w: %w", r.shard, shardlog.ErrNotLeader, err)
	}
	return receipt, err
}

// ProposeHere appends to a shard that this very agent leads; shardlog.ErrNotLeader otherwise. It is what other agents ask for, and passes
// nothing on: so no proposal runs in circles.
func (a *Agent) ProposeHere(ctx context.Context, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error) {
	if err := a.checkShard(s); err != nil {
		return shardlog.Receipt{}, err
	}
	return a.shards[s].replica.Propose(ctx, commands)
}

func (a *Agent) checkShard(s objectlog.Shard) error {
	if int(s) >= len(a.shards) {
		return because(InvalidRequest, fmt.Errorf("shard %d: the cluster has %d", s, len(a.shards)))
	}
	return nil
}
