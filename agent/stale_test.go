package agent

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// deaf hears signs of life of streams, and no entries, while mute is set.
type deaf struct {
	Peers
	mute *atomic.Bool
}

func (d deaf) Follow(ctx context.Context, to AgentInfo, s objectlog.Shard, from metadata.Seq, heard func(Signal) error) error {
	return d.Peers.Follow(ctx, to, s, from, func(sig Signal) error {
		if d.mute.Load() {
			return heard(Signal{})
		}
		return heard(sig)
	})
}

func threeDeaf(t *testing.T) ([]member, map[string]*atomic.Bool) {
	w, s := newWire(), newStores()
	mute := map[string]*atomic.Bool{}
	var all []member
	for _, place := range []string{"one", "two", "three"} {
		m := &atomic.Bool{}
		mute[place] = m
		all = append(all, w.join(t, s, place, func(c *Config) {
			c.Dial = func(own Identity) Peers { return deaf{w.dial(own), m} }
		}))
	}
	return all, mute
}

func TestTopicMadeAnewIsKnownWhereTheCatalogLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, mute := threeDeaf(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute)
		leader, others := leaderOf(t, all, 0)
		mute[others[0].place].Store(true)
		if err := leader.DeleteTopic(t.Context(), "orders", 0); err != nil {
			t.Fatal(err)
		}
		leader.topic(t, "orders", 1)
		wantErr(t, "produce to the partitions of before", others[0].produce(t, values("orders", 0, "v")).Err, Unavailable)
		if r := others[0].produce(t, values("orders", 0, "v")); r.Err != nil {
			t.Errorf("produce again: %v", r.Err)
		}
		f := others[0].Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Start: Start{Kind: StartOffset}}}})[0]
		if f.Err != nil || len(f.Batches) != 1 {
			t.Errorf("fetch of a topic that exists: %d batches, %v", len(f.Batches), f.Err)
		}
	})
}

func TestFetchOfATopicMadeAnewFindsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, mute := threeDeaf(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute)
		leader, others := leaderOf(t, all, 0)
		mute[others[0].place].Store(true)
		if err := leader.DeleteTopic(t.Context(), "orders", 0); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		leader.topic(t, "orders", 1)
		if r := leader.produce(t, values("orders", 0, "v")); r.Err != nil {
			t.Fatal(r.Err)
		}
		f := others[0].Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "orders", Start: Start{Kind: StartOffset}}}})[0]
		if f.Err != nil || len(f.Batches) != 1 {
			t.Errorf("fetch: %d batches, %v", len(f.Batches), f.Err)
		}
		found := others[1].ListOffsets(t.Context(), []FetchPartition{{Topic: "orders", Start: Start{Kind: StartLatest}}})[0]
		if found.Err != nil || found.Offset != 1 {
			t.Errorf("list offsets: %d, %v", found.Offset, found.Err)
		}
	})
}

func TestShortWaitFindsWhatAnotherAgentAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, mute := threeDeaf(t)
		all[0].topic(t, "orders", 1)
		<-time.After(time.Minute)
		s := metadata.ShardOf(topicID(t, all[0].running, "orders"), 0, 4)
		leader, others := leaderOf(t, all, s)
		mute[others[0].place].Store(true)
		for _, wait := range []time.Duration{0, 500 * time.Millisecond, 2 * time.Second} {
			r := leader.produce(t, values("orders", 0, "v"))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			f := others[0].Fetch(t.Context(), FetchRequest{Wait: wait, Partitions: []FetchPartition{{Topic: "orders", Start: Start{Kind: StartOffset, Offset: r.Positions[0].Offset}}}})[0]
			if f.Err != nil || len(f.Batches) == 0 {
				t.Errorf("a fetch that waits %s does not see offset %d, which was acknowledged before: high watermark %d, %v", wait, r.Positions[0].Offset, f.HighWatermark, f.Err)
			}
		}
	})
}

// liar answers proposals with results of other commands.
type liar struct{ Peers }

func (l liar) Propose(ctx context.Context, to AgentInfo, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error) {
	r, err := l.Peers.Propose(ctx, to, s, commands)
	for i := range r.Results {
		r.Results[i] = nil
	}
	return r, err
}

func TestResultOfAnotherCommandIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		var all []member
		for _, place := range []string{"one", "two", "three"} {
			all = append(all, w.join(t, s, place, func(c *Config) {
				c.Dial = func(own Identity) Peers { return liar{w.dial(own)} }
			}))
		}
		<-time.After(time.Minute)
		_, others := leaderOf(t, all, 0)
		_, err := others[0].CreateTopic(t.Context(), "orders", 1, nil, false)
		wantErr(t, "create topic", err, OutcomeUnknown)
	})
}
