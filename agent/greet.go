package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// Identity is what this agent shows other agents.
func (a *Agent) Identity() Identity { return a.identity }

// secret is what all agents of a cluster share. It comes from the cluster's mark, a random UUID that only those see who can read the
// table and the bucket, and they can do more harm than an agent: so there is nothing to set, and nothing to forget.
func (c cluster) secret() string {
	h := hmac.New(sha256.New, []byte(c.Mark))
	h.Write([]byte("splashdam peers"))
	return hex.EncodeToString(h.Sum(nil))
}

// greeting is what this agent says of itself.
func (a *Agent) greeting() Greeting {
	g := Greeting{Agent: a.presence.info, Shards: a.shardInfos()}
	switch err := a.Ready(); {
	case errors.Is(err, Draining):
		g.Draining = true
	case err != nil:
		g.Problem = problem(err)
	}
	return g
}

// Greet takes another agent's greeting and answers the own one.
func (a *Agent) Greet(ctx context.Context, from Greeting) (Greeting, error) {
	if a.leaders != nil {
		a.leaders.heard(ctx, from, true)
	}
	return a.greeting(), nil
}

// TakeOver says that the holder let go of the shard's lease at the epoch, and wants this agent to lead.
func (a *Agent) TakeOver(ctx context.Context, s objectlog.Shard, holder objectlog.UUID, epoch objectlog.Epoch) error {
	if err := a.checkShard(s); err != nil {
		return err
	}
	if a.leaders != nil {
		a.leaders.post(ctx, lead.Offered{Shard: s, Holder: holder, Epoch: epoch})
	}
	return nil
}

// CheckPeerAddress tries the own advertised peer address, as other agents will. An error says that it leads to somebody else; that it
// can't be reached from here is a warning in the log, since networks differ. It is called once the agent is served to others.
func (a *Agent) CheckPeerAddress(ctx context.Context) error {
	own := a.presence.info
	if a.leaders == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	answer, err := a.leaders.peers.Ping(ctx, own.PeerAddress, a.greeting())
	switch {
	case errors.Is(err, ErrStranger):
		return fmt.Errorf("advertised peer address %s: it leads elsewhere: %w", own.PeerAddress, err)
	case err != nil:
		slog.Warn("the advertised peer address can't be reached from here", "address", own.PeerAddress, "err", err)
	case answer.Agent.Boot != own.Boot:
		return fmt.Errorf("advertised peer address %s: agent %s on host %q answers there: every agent needs an address of its own", own.PeerAddress, answer.Agent.Boot, answer.Agent.Host)
	}
	return nil
}

// shardInfos describes the own replicas.
func (a *Agent) shardInfos() []ShardInfo {
	infos := make([]ShardInfo, len(a.shards))
	for i, s := range a.shards {
		status := s.log.Status()
		one := ShardInfo{Shard: objectlog.Shard(i), Leads: status.Role == shardlog.RoleLeading, Epoch: status.Epoch, Applied: status.Applied,
			Slots: status.Slots, Used: status.Used, Snapshot: status.Snapshot, SnapshotAge: status.SnapshotAge}
		if !status.Leader.IsZero() {
			one.Leader = status.Leader.String()
		}
		if status.Fault != nil {
			one.Fault = status.Fault.Error()
		}
		infos[i] = one
	}
	return infos
}

// problem is an error of Ready in a sentence for people.
func problem(err error) string {
	if c := (*caused)(nil); errors.As(err, &c) {
		err = c.met
	}
	return err.Error()
}
