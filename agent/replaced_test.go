package agent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// leaderOf answers who leads the shard, and the two others.
func leaderOf(t *testing.T, all []member, s objectlog.Shard) (leader member, others []member) {
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

func (m member) alter(t *testing.T, topic, key, value string) {
	t.Helper()
	_, err := m.AlterTopic(t.Context(), topic, 0, func(s metadata.Settings) (metadata.Settings, error) { s[key] = value; return s, nil }, false)
	if err != nil {
		t.Fatal(err)
	}
}

func TestLeaderWhoseCatalogStoppedTrimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256, "retention.ms", "3600000")
		<-time.After(time.Minute)
		catalog, others := leaderOf(t, all, 0)
		stopped := others[0]
		*stopped.mayHalt = true
		for i := range 140 { // until there is a fingerprint to differ from
			catalog.alter(t, "orders", "max.message.bytes", fmt.Sprint(100000+i))
		}
		<-time.After(time.Second)
		f := stopped.shards[0].replica.Fingerprint()
		f.Hash++
		if err := stopped.shards[0].replica.Tell(t.Context(), shardlog.Compared{Leader: f}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		want(t, "role of the replica that differs", stopped.shards[0].replica.Status().Role, shardlog.RoleHalted)
		stale := metadata.Topic{ID: topicID(t, catalog.running, "orders"), Name: "orders", Partitions: 256, Settings: metadata.Settings{"retention.ms": "3600000"}}
		for _, p := range spread {
			if r := catalog.produce(t, values("orders", p, "keep me")); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		catalog.alter(t, "orders", "retention.ms", "-1")
		<-time.After(2 * time.Hour)
		stopped.retainTopic(t.Context(), stale, stopped.cfg.Wall())
		for _, p := range spread {
			f := catalog.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Partition: p, Start: Start{Kind: StartOffset}}}})[0]
			if f.Err != nil || len(f.Batches) != 1 {
				t.Errorf("a record of a topic that keeps its records is gone from %d: %v, log start %d", p, f.Err, f.LogStart)
			}
		}
	})
}

func TestLeaderThatWasReplacedTrimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1, "retention.ms", "1000")
		<-time.After(30 * time.Second)
		stale, err := all[0].Topic(t.Context(), "orders") // what an agent that stands still from now on knows
		if err != nil {
			t.Fatal(err)
		}
		leader, others := leaderOf(t, all, metadata.ShardOf(stale.ID, 0, 4))
		if r := others[0].produce(t, values("orders", 0, "keep me")); r.Err != nil {
			t.Fatal(r.Err)
		}
		leader.dead.Store(true) // replaced by one of the others; it does not know
		<-time.After(10 * time.Second)
		others[0].alter(t, "orders", "retention.ms", "-1")
		<-time.After(10 * time.Second)
		leader.retainTopic(t.Context(), stale, leader.cfg.Wall())
		f := others[0].Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Start: Start{Kind: StartOffset}}}})[0]
		if f.Err != nil || len(f.Batches) != 1 {
			t.Errorf("trimmed by an agent that was replaced, by settings of before: %v, log start %d", f.Err, f.LogStart)
		}
	})
}

func TestLeaderThatIsNotRenewedEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		<-time.After(time.Minute)
		leader, _ := leaderOf(t, all, 0)
		leader.dead.Store(true) // its puts fail from now on; it still answers other agents
		<-time.After(30 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := leader.Stream(ctx, 0, 0, func(Signal) error { return nil })
		wantErr(t, "stream of an agent that was replaced 25 s ago", err, shardlog.ErrNotLeader)
		want(t, "it says that it leads", leader.shardInfos()[0].Leads, false)
	})
}

func TestDamagedShardDoesNotKeepTopicsFromBeingMadeElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		all[0].topic(t, "old", 1)
		<-time.After(time.Minute)
		s.table.Edit(metadata.LeaseKey(2), func(i metadata.Item) (metadata.Item, bool) { return i, false })
		<-time.After(time.Minute)
		for _, m := range all {
			*m.mayHalt = true
		}
		if err := all[0].DeleteTopic(t.Context(), "old", 0); err != nil { // which waits for every shard
			t.Fatal(err)
		}
		<-time.After(time.Second)
		made := 0
		for i := range 8 {
			began := time.Now()
			_, err := all[0].CreateTopic(t.Context(), fmt.Sprintf("new-%d", i), 1, nil, false)
			if err == nil {
				made++
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("a topic in shards that are well was made after %s", took)
				}
			}
		}
		if made == 0 { // one of four shards is damaged
			t.Error("none of 8 topics was made")
		}
	})
}
