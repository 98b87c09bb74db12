package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// follow feeds the own replica with what another agent commits, until that ends or is silent for the lease time. The replica checks every
// entry as it would check the ring's: what does not continue the chain is not taken, and a follower that was told something else than the log
// has stops at the next entry that is true.
func (l *leaders) follow(ctx context.Context, s objectlog.Shard, to AgentInfo) {
	replica := l.shards[s].replica
	boot, _ := objectlog.ParseUUID(to.Boot) // leaders knows agents by it
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	silence := time.AfterFunc(l.lease, stop)
	defer silence.Stop()
	err := l.peers.Follow(streaming, to, s, replica.Status().Applied+1, func(sig Signal) error {
		silence.Reset(l.lease)
		if err := replica.Tell(streaming, shardlog.Followed{Leader: boot, Entries: sig.Entries}); err != nil {
			return err
		}
		if sig.State != (shardlog.Fingerprint{}) {
			return replica.Tell(streaming, shardlog.Compared{Leader: sig.State})
		}
		return nil
	})
	if ctx.Err() == nil {
		slog.Debug("stream ended", "shard", s, "leader", to.Boot, "err", err)
		l.post(ctx, lead.StreamEnded{Shard: s, Boot: boot})
	}
}

// Stream sends what this agent commits as leader of the shard, from that seq on, with empty signals as signs of life; a follower that is
// further behind than what is kept gets the newest entry, and reads the ring up to it. It ends with ctx, with send's error, or with
// shardlog.ErrNotLeader.
func (a *Agent) Stream(ctx context.Context, s objectlog.Shard, from metadata.Seq, send func(Signal) error) error {
	if err := a.checkShard(s); err != nil {
		return err
	}
	replica := a.shards[s].replica
	alive := time.NewTicker(a.cfg.Lease / 6)
	defer alive.Stop()
	var told shardlog.Fingerprint
	for say := true; ; {
		changed, status := replica.Changed(), replica.Status()
		if status.Role != shardlog.RoleLeading || !status.Renewed { // whoever can't renew may have been replaced
			return shardlog.ErrNotLeader
		}
		entries, kept := replica.Committed(from)
		if !kept {
			from = max(from, status.Applied)
			entries, _ = replica.Committed(from)
		}
		if len(entries) > 0 || say {
			sig := Signal{Entries: entries}
			if state := replica.Fingerprint(); state != told {
				sig.State, told = state, state
			}
			if err := send(sig); err != nil {
				return err
			}
		}
		if n := len(entries); n > 0 {
			from = entries[n-1].Seq + 1
		}
		say = false
		select {
		case <-changed:
		case <-alive.C:
			say = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
