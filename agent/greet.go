package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
	g := Greeting{Agent: a.presence.info, Shards: a.shardInfos(), Wall: a.cfg.Wall()}
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

// CheckPeerAddress tries the own advertised peer address, as other agents will: ErrStranger when it leads to somebody else. Other errors say that
// it can't be reached from here; since networks differ, others may reach it all the same. It is called once the agent is served to others.
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
		return fmt.Errorf("advertised peer address %s: it can't be reached from here: %w", own.PeerAddress, err)
	case answer.Agent.Boot != own.Boot:
		return fmt.Errorf("advertised peer address %s: agent %s on host %q answers there: %w", own.PeerAddress, answer.Agent.Boot, answer.Agent.Host, ErrStranger)
	}
	return nil
}

// meeting is what an agent has met with another one, beside what that one says.
type meeting struct {
	heard   time.Time     // when its newest greeting came
	failing time.Time     // since when it answers no ping; zero: it answered the newest
	failure error         // of the newest ping
	ahead   time.Duration // its clock before the own one, as its newest answer showed it
	told    bool          // it has told its clock
}

// clockOffMax is how far clocks may be apart before people are told: far more than a ping takes, which is how well it is known.
const clockOffMax = 5 * time.Second

// meet takes note of how a ping to the agent went, which took so long.
func (l *leaders) meet(boot objectlog.UUID, answer Greeting, err error, took time.Duration) {
	if err == nil && answer.Agent.Boot != boot.String() {
		err = fmt.Errorf("agent %s on host %q answers there", answer.Agent.Boot, answer.Agent.Host)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.agents[boot]; !ok {
		return // it was forgotten meanwhile
	}
	m := l.met[boot]
	switch m.failure = err; {
	case err == nil:
		m.failing = time.Time{}
		if answer.Wall > 0 && took <= pingTimeout { // longer: this process stood still
			then := l.wall() - objectlog.Timestamp((took / 2).Milliseconds())
			m.ahead, m.told = time.Duration(answer.Wall-then)*time.Millisecond, true
		}
	case m.failing.IsZero():
		m.failing = time.Now().Add(-took)
	}
	l.met[boot] = m
}

// unreached says why the agent has answered no ping for longer than the lease; empty: it has.
func (l *leaders) unreached(boot objectlog.UUID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.met[boot]; !m.failing.IsZero() && time.Since(m.failing) > l.lease {
		return m.failure.Error()
	}
	return ""
}

// clocks answers which clocks are off, the own one included, and how far they are ahead of the one in the middle. Of two agents the other one's is.
func (l *leaders) clocks() map[objectlog.UUID]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	ahead, sorted := map[objectlog.UUID]time.Duration{l.own.Boot: 0}, []time.Duration{0}
	for boot, m := range l.met {
		if m.told && m.failing.IsZero() {
			ahead[boot] = m.ahead
			sorted = append(sorted, m.ahead)
		}
	}
	slices.Sort(sorted)
	middle := sorted[len(sorted)/2]
	if other := sorted[(len(sorted)-1)/2]; other.Abs() < middle.Abs() {
		middle = other
	}
	maps.DeleteFunc(ahead, func(boot objectlog.UUID, by time.Duration) bool { return (by - middle).Abs() <= clockOffMax })
	for boot, by := range ahead {
		ahead[boot] = by - middle
	}
	return ahead
}

// shardInfos describes the own replicas.
func (a *Agent) shardInfos() []ShardInfo {
	infos := make([]ShardInfo, len(a.shards))
	for i, s := range a.shards {
		status := s.log.Status()
		one := ShardInfo{Shard: objectlog.Shard(i), Leads: status.Role == shardlog.RoleLeading && status.Renewed, Epoch: status.Epoch, Applied: status.Applied,
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
