package agent

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// inFront answers who leads the shard, and the two others.
func inFront(t *testing.T, all []member, s objectlog.Shard) (leader member, others []member) {
	t.Helper()
	for _, m := range all {
		if m.shards[s].replica.Status().Role == shardlog.RoleLeading {
			leader = m
		} else {
			others = append(others, m)
		}
	}
	if len(others) != 2 {
		t.Fatalf("%d agents do not lead shard %d", len(others), s)
	}
	return leader, others
}

// offers notes the epoch of the newest offer.
type offers struct {
	Peers
	newest *atomic.Int64
}

func (o offers) HandOff(ctx context.Context, to AgentInfo, s objectlog.Shard, epoch objectlog.Epoch) error {
	o.newest.Store(int64(epoch))
	return o.Peers.HandOff(ctx, to, s, epoch)
}

func TestAgentThatIsReplacedBeforeItHandsOffMisleadsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, newest := newWire(), newStores(), &atomic.Int64{}
		var all []member
		for _, place := range []string{"one", "two", "three"} {
			all = append(all, w.join(t, s, place, func(c *Config) {
				c.Dial = func(own Identity) Peers { return offers{w.dial(own), newest} }
			}))
		}
		<-time.After(time.Minute)
		leader, others := inFront(t, all, 0)
		epoch := leader.shards[0].replica.Status().Epoch
		// others[0] decided to hand the shard to others[1] when it led, an epoch ago.
		others[0].leaders.handOff(t.Context(), lead.HandOff{Shard: 0, To: others[1].identity.Boot, Epoch: epoch - 1})
		want(t, "epoch that is offered", objectlog.Epoch(newest.Load()), epoch-1)
		<-time.After(time.Minute)
		if now := leader.shards[0].replica.Status(); now.Role != shardlog.RoleLeading || now.Epoch != epoch {
			t.Errorf("role %d at epoch %d, which led at epoch %d", now.Role, now.Epoch, epoch)
		}
		if tenure, _ := others[1].leaders.leader(0); tenure.boot != leader.identity.Boot {
			t.Errorf("a minute later agent %s takes %s for the leader, want %s; ready: %v", others[1].place, tenure.boot, leader.identity.Boot, others[1].Ready())
		}
	})
}
