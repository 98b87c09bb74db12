package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

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
		leader, others := leaderOf(t, all, 0)
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

// haltOne halts the replica of the shard at an agent: the leader's state is said to be another one at the seq of its newest fingerprint.
func haltOne(t *testing.T, m member, s objectlog.Shard) {
	t.Helper()
	*m.mayHalt = true
	own := m.shards[s].replica.Fingerprint()
	if own.Hash == 0 {
		t.Fatalf("agent %s has taken no fingerprint of shard %d", m.place, s)
	}
	own.Hash++
	if err := m.shards[s].replica.Tell(t.Context(), shardlog.Compared{Leader: own}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, "the replica halts", func() bool { return m.shards[s].replica.Status().Role == shardlog.RoleHalted })
}

func TestSuccessorThatHaltedHoldsUpNoTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute)
		s := metadata.ShardOf(topicID(t, all[0].running, "orders"), 0, 4)
		leader, others := leaderOf(t, all, s)
		for i := range 200 { // so that there is a fingerprint
			if r := leader.produce(t, values("orders", 0, fmt.Sprint(i))); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		<-time.After(time.Second)
		var peers []lead.Peer
		for _, m := range others {
			peers = append(peers, lead.Peer{Boot: m.identity.Boot, Name: placeOf(m.presence.info)})
		}
		first, second := others[0], others[1]
		if lead.Rendezvous(fmt.Sprintf("shard#%d", s), peers)[0].Boot == second.identity.Boot {
			first, second = second, first
		}
		haltOne(t, first, s)
		<-time.After(10 * time.Second)
		leader.die()
		eventually(t, time.Second, "the second successor leads", func() bool { return second.shards[s].replica.Status().Role == shardlog.RoleLeading })
	})
}

// mirror is the network of an agent that meets itself at the addresses of all others, as where each goes by a loopback address.
type mirror struct {
	Peers
	self *atomic.Pointer[Agent]
}

func (m mirror) Ping(ctx context.Context, _ string, own Greeting) (Greeting, error) {
	return m.self.Load().Greet(ctx, own)
}

// alone opens an agent on a host, that meets itself everywhere.
func (w *wire) alone(t *testing.T, s stores, host string) running {
	t.Helper()
	cfg, self := testConfig(), &atomic.Pointer[Agent]{}
	cfg.Shards, cfg.ExclusiveTable, cfg.PeerAddress, cfg.Host = 4, false, "127.0.0.1:4512", host
	cfg.Dial = func(own Identity) Peers { return mirror{w.dial(own), self} }
	a, err := Open(t.Context(), cfg, s.bucket, s.table)
	if err != nil {
		t.Fatal(err)
	}
	self.Store(a)
	return begin(t, a)
}

func TestAgentThatMeetsItselfAtAnothersAddressTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		one := w.alone(t, s, "host-1")
		<-time.After(time.Minute)
		wantErr(t, "the first agent, alone", one.Ready(), nil)
		var before []shardlog.Status
		for _, x := range one.shards {
			before = append(before, x.replica.Status())
		}
		two := w.alone(t, s, "host-2")
		<-time.After(time.Minute)
		for i, x := range one.shards {
			want(t, fmt.Sprint("role of the first agent in shard ", i), x.replica.Status().Role, shardlog.RoleLeading)
			want(t, fmt.Sprint("epoch of shard ", i), x.replica.Status().Epoch, before[i].Epoch)
		}
		want(t, "shards that the second one leads", two.leads(), 0)
		wantErr(t, "the first agent", one.Ready(), nil)
	})
}

func TestAgentThatMeetsItselfInTheFormerRunsPlaceTakesOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		one := w.alone(t, s, "host-1")
		<-time.After(time.Minute)
		one.kill()
		next := w.alone(t, s, "host-1")
		eventually(t, time.Second, "the next run leads", func() bool { return next.leads() == 4 })
	})
}
