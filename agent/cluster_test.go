package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// three starts a cluster of three agents.
func three(t *testing.T) (*wire, stores, []member) {
	t.Helper()
	w, s := newWire(), newStores()
	var all []member
	for _, place := range []string{"one", "two", "three"} {
		all = append(all, w.join(t, s, place))
	}
	return w, s, all
}

// spread are partitions that lie in different shards: blocks of 64 follow one another.
var spread = []objectlog.Partition{0, 64, 128, 192}

func TestEveryAgentServesEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		next := map[objectlog.Partition]objectlog.Offset{}
		for i := range 30 {
			p, writer, reader := spread[i%len(spread)], all[i%3], all[(i+1+i/3)%3]
			v := fmt.Sprint(i)
			r := writer.produce(t, values("orders", p, v))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			want(t, "position", r.Positions[0], Position{p, next[p]})
			// What one agent has acknowledged every other one has, also for those who do not wait.
			f := reader.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Partition: p, Start: Start{Kind: StartOffset, Offset: next[p]}}}})[0]
			if f.Err != nil {
				t.Fatal(f.Err)
			}
			if got := decode(t, f); len(got) != 1 || got[0] != v {
				t.Fatalf("agent %s reads %q at %d/%d, want %q", reader.place, got, p, next[p], v)
			}
			next[p]++
		}
	})
}

func TestTopicMadeAtOneAgentIsKnownAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		for i, by := range all {
			name := fmt.Sprintf("topic-%d", i)
			by.topic(t, name, 256)
			for _, other := range all {
				if r := other.produce(t, values(name, 200, other.place)); r.Err != nil {
					t.Errorf("produce through %s: %v", other.place, r.Err)
				}
			}
			if err := all[(i+1)%3].DeleteTopic(t.Context(), name, 0); err != nil {
				t.Error(err)
			}
			if _, err := all[(i+2)%3].Topic(t.Context(), name); err == nil {
				t.Errorf("%s is deleted, and agent %s still has it", name, all[(i+2)%3].place)
			}
		}
	})
}

// requests counts those of the table.
func (s stores) requests() int {
	return s.table.Count(metamem.OpGet) + s.table.Count(metamem.OpQuery) + s.table.Count(metamem.OpPut)
}

func TestFollowersHearOfAnEntryWithoutAskingTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute) // everything has settled
		before := s.requests()
		for i := range 100 {
			if r := all[i%3].produce(t, values("orders", 0, fmt.Sprint(i))); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		for _, m := range all {
			m.read(t, "orders", 0, 0, 100)
		}
		// One put per entry, and what renewals and watchers take meanwhile.
		if n := s.requests() - before; n > 130 {
			t.Errorf("100 entries at three agents took %d table requests", n)
		}
	})
}

func TestLeaderThatDiesIsReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		<-time.After(time.Minute)
		i := 0
		for all[i].leads() == 0 {
			i++
		}
		survivors := []member{all[(i+1)%3], all[(i+2)%3]}
		all[i].die()
		began := time.Now()
		for _, m := range survivors {
			for _, p := range spread {
				if r := m.produce(t, values("orders", p, m.place)); r.Err != nil {
					t.Errorf("partition %d through %s: %v", p, m.place, r.Err)
				}
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("every partition takes records again after %s, want less than a second", took)
		}
		for _, m := range survivors {
			if err := m.Ready(); err != nil {
				t.Errorf("agent %s: %v", m.place, err)
			}
		}
	})
}

func TestLeaderThatVanishesIsReplacedBehindItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, all := three(t)
		all[0].topic(t, "orders", 256)
		<-time.After(time.Minute)
		i := 0
		for all[i].leads() == 0 {
			i++
		}
		w.mu.Lock()
		w.cut[all[i].place] = true
		w.mu.Unlock()
		all[i].dead.Store(true) // its writes do not arrive either
		began := time.Now()
		for _, p := range spread {
			if r := all[(i+1)%3].produce(t, values("orders", p, "v")); r.Err != nil {
				t.Errorf("partition %d: %v", p, r.Err)
			}
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("every partition takes records again after %s", took)
		}
		wantNotReady(t, all[i].running, "shard", "lease")
	})
}

func TestAgentThatStopsHandsItsShardsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		for range 2 { // until one is left
			<-time.After(time.Minute)
			i := 0
			for all[i].leads() == 0 {
				i++
			}
			leaving := all[i]
			all = append(all[:i:i], all[i+1:]...)
			began := time.Now()
			leaving.leave()
			left := time.Since(began)
			led := 0
			for _, m := range all {
				led += m.leads()
			}
			for _, p := range spread {
				if r := all[0].produce(t, values("orders", p, "v")); r.Err != nil {
					t.Errorf("partition %d: %v", p, r.Err)
				}
			}
			if took := time.Since(began); took > 300*time.Millisecond {
				t.Errorf("the agent left in %s, %d of 4 shards had a leader then, and partitions took records %s behind the beginning", left, led, took)
			}
		}
	})
}

func TestClusterShowsEveryAgentAndWhatItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		<-time.After(time.Minute)
		for _, m := range all {
			info, err := m.Cluster(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want(t, "agents", len(info.Agents), 3)
			leads := 0
			for _, a := range info.Agents {
				if a.Heard < 0 || a.Heard > 3*time.Second || a.Problem != "" || len(a.Shards) != 4 {
					t.Errorf("agent %s: heard %s ago, problem %q, %d shards", a.PeerAddress, a.Heard, a.Problem, len(a.Shards))
				}
				for _, s := range a.Shards {
					if s.Leads {
						leads++
					}
				}
			}
			want(t, "shards led", leads, 4)
		}
	})
}

func TestClusterIsKnownWithoutTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		<-time.After(time.Minute)
		s.failTable(func(metamem.Request) metamem.Fault { return metamem.FailBefore })
		info, err := all[1].Cluster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, "agents", len(info.Agents), 3)
		for _, a := range info.Agents {
			want(t, "shards that agent "+a.PeerAddress+" tells of", len(a.Shards), 4)
		}
		<-time.After(time.Minute)
		for _, m := range all {
			wantNotReady(t, m.running, "table")
		}
		s.heal()
		<-time.After(10 * time.Second)
		for _, m := range all {
			wantErr(t, "agent "+m.place+" behind the outage", m.Ready(), nil)
		}
	})
}

func TestDamagedShardStopsItselfAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		all[0].topic(t, "orders", 256)
		<-time.After(time.Minute)
		s.table.Edit(metadata.LeaseKey(2), func(i metadata.Item) (metadata.Item, bool) { return i, false })
		<-time.After(time.Minute)
		halted := 0
		for _, m := range all {
			*m.mayHalt = true
			if m.shards[2].log.Status().Role == shardlog.RoleHalted {
				halted++
			}
			for i, st := range m.shardInfos() {
				if i != 2 && st.Fault != "" {
					t.Errorf("agent %s: shard %d stopped too: %s", m.place, i, st.Fault)
				}
			}
		}
		if halted == 0 {
			t.Fatal("nobody noticed that a lease item is gone")
		}
		ready := 0
		for _, m := range all {
			if m.Ready() == nil {
				ready++
				for _, p := range spread {
					if r := m.produce(t, values("orders", p, "v")); r.Err != nil && metadata.ShardOf(topicID(t, m.running, "orders"), p, 4) != 2 {
						t.Errorf("partition %d through %s: %v", p, m.place, r.Err)
					}
				}
			}
		}
		if ready == 0 {
			t.Error("one damaged shard took every agent away from clients")
		}
	})
}

func topicID(t *testing.T, r running, name string) objectlog.UUID {
	t.Helper()
	topic, err := r.Topic(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return topic.ID
}

func TestAddressOfAnotherAgentIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, all := three(t)
		cfg := all[0].cfg
		cfg.PeerAddress, cfg.Host, cfg.FlushRate = all[1].place, "elsewhere", 0
		a, err := Open(t.Context(), cfg, s.bucket, s.table)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		wantErr(t, "an address that leads to another agent", a.CheckPeerAddress(t.Context()), ErrStranger)
		w.remove(all[1].place, all[1].Agent)
		wantErr(t, "an address where nobody is", a.CheckPeerAddress(t.Context()), ErrRefused)
		cancel()
		wantErr(t, "run", <-ended, nil)
	})
}

func TestProposalOfAStrangersShardIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		if _, err := all[0].ProposeHere(t.Context(), 99, nil); err == nil {
			t.Error("shard 99 of 4 took a proposal")
		}
		<-time.After(time.Minute)
		for _, m := range all {
			for i, s := range m.shards {
				_, err := m.ProposeHere(t.Context(), objectlog.Shard(i), nil)
				if leads := s.replica.Status().Role == shardlog.RoleLeading; !leads {
					wantErr(t, "proposal at a follower", err, shardlog.ErrNotLeader)
				}
			}
		}
	})
}

func TestCurrentReadAtAFollowerReadsOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute)
		for i := range 20 {
			if r := all[i%3].produce(t, values("orders", 0, fmt.Sprint(i))); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		synctest.Wait() // until the followers have heard everything: one that is behind reads on
		before := s.table.Count(metamem.OpGet)
		for _, m := range all {
			for _, sh := range m.shards {
				if _, err := sh.log.Current(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
		if n := s.table.Count(metamem.OpGet) - before; n > 18 {
			t.Errorf("12 current reads took %d requests: want one slot each, and what watches leases", n)
		}
	})
}
