package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func metamemFault(key metadata.Key, rev metadata.Rev, f metamem.Fault) func(metamem.Request) metamem.Fault {
	done := false
	return func(r metamem.Request) metamem.Fault {
		if r.Op == metamem.OpPut && r.Key == key && r.Rev == rev && !done {
			done = true
			return f
		}
		return metamem.None
	}
}

// The crash table: every remote write that Open makes is cut off, once without and once with its effect. The next agent
// must find a cluster that works.
func TestOpenCutOffAtAnyWriteIsGoneOnWithByTheNext(t *testing.T) {
	writes := []struct {
		name string
		key  metadata.Key // of the table; zero: the mark in the bucket
		rev  metadata.Rev
	}{
		{"cluster item", metadata.ClusterKey(), 1},
		{"mark", metadata.Key{}, 0},
		{"counter of boots", metadata.AgentKey("next"), 1},
		{"counter of producers", metadata.ProducersKey(), 1},
		{"cluster item, ready", metadata.ClusterKey(), 2},
		{"boot ordinal", metadata.AgentKey("next"), 2},
	}
	for _, w := range writes {
		for _, landed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, landed %v", w.name, landed), func(t *testing.T) {
				s := newStores()
				ctx, cancel := context.WithCancel(t.Context())
				s.failTable(func(r metamem.Request) metamem.Fault {
					if ctx.Err() != nil || r.Op != metamem.OpPut || r.Key != w.key || r.Rev != w.rev {
						return metamem.None
					}
					cancel() // nothing that the agent does from here on matters
					if landed {
						return metamem.FailAfter
					}
					return metamem.FailBefore
				})
				s.failBucket(func(r objmem.Request) objmem.Fault {
					if ctx.Err() != nil || r.Op != objmem.OpPut || w.key != (metadata.Key{}) {
						return objmem.None
					}
					cancel()
					if landed {
						return objmem.FailAfter
					}
					return objmem.FailBefore
				})
				if _, err := Open(ctx, testConfig(), s.bucket, s.table); err == nil {
					t.Fatal("Open succeeded, though its write was cut off")
				}
				s.heal()
				a := start(t, s, testConfig())
				a.topic(t, "orders", 1)
				if r := a.produce(t, values("orders", 0, "a")); r.Err != nil {
					t.Fatal(r.Err)
				}
				if w.name == "boot ordinal" && landed {
					want(t, "ordinal behind one that may be taken", a.presence.info.Ordinal, int64(2))
				}
			})
		}
	}
}

func TestUnknownOutcomeOfACounterTakesAnotherNumber(t *testing.T) {
	for _, f := range []metamem.Fault{metamem.FailBefore, metamem.FailAfter, metamem.Hold, metamem.Throttle, metamem.Twice} {
		s := newStores()
		if _, err := Open(t.Context(), testConfig(), s.bucket, s.table); err != nil {
			t.Fatal(err)
		}
		s.failTable(metamemFault(metadata.ProducersKey(), 2, f))
		j := &joiner{cfg: testConfig().withDefaults(), bucket: s.bucket, table: s.table}
		given := make(map[int64]bool)
		for range 4 {
			first, err := j.take(t.Context(), metadata.ProducersKey(), 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.table.Held()) > 0 {
				if _, err := s.table.Release(s.table.Held()[0].N); err != nil {
					t.Fatal(err)
				}
			}
			for n := first; n < first+10; n++ {
				if given[n] {
					t.Errorf("%v: number %d was given out twice", f, n)
				}
				given[n] = true
			}
		}
	}
}

func TestAgentItemIsPutAgainAfterAnUnknownOutcome(t *testing.T) {
	for _, f := range []metamem.Fault{metamem.FailBefore, metamem.FailAfter} {
		s := newStores()
		failed := false
		s.failTable(func(r metamem.Request) metamem.Fault {
			if r.Op == metamem.OpPut && r.Key.PK == "agents" && r.Key.SK != "next" && !failed {
				failed = true
				return f
			}
			return metamem.None
		})
		a := start(t, s, testConfig())
		info, err := a.Cluster(t.Context())
		if err != nil || len(info.Agents) != 1 || info.Agents[0].Version != "test" || len(info.Shards) != 2 {
			t.Errorf("%v: cluster %+v, %v; want one agent and two shards", f, info, err)
		}
	}
}

// opened is a cluster whose agent has gone.
func opened(t *testing.T) stores {
	t.Helper()
	s := newStores()
	start(t, s, testConfig()).stop()
	return s
}

func TestOpenRefusesStoresThatAreNotWhole(t *testing.T) {
	remove := func(key metadata.Key) func(s stores) {
		return func(s stores) {
			s.table.Edit(key, func(i metadata.Item) (metadata.Item, bool) { return i, false })
		}
	}
	set := func(change func(*cluster)) func(s stores) {
		return func(s stores) {
			s.table.Edit(metadata.ClusterKey(), func(i metadata.Item) (metadata.Item, bool) {
				var c cluster
				_ = json.Unmarshal(i.Value, &c)
				change(&c)
				i.Value = c.encode()
				return i, true
			})
		}
	}
	for _, c := range []struct {
		name   string
		damage func(s stores)
		says   string
	}{
		{"cluster item lost", remove(metadata.ClusterKey()), "damaged"},
		{"ordinals lost", remove(metadata.AgentKey("next")), "damaged"},
		{"ordinals garbled", func(s stores) {
			s.table.Edit(metadata.AgentKey("next"), func(i metadata.Item) (metadata.Item, bool) { i.Value = []byte("{}"); return i, true })
		}, "damaged"},
		{"later format", set(func(c *cluster) { c.Format = 2 }), "format level 2"},
		{"other shards", set(func(c *cluster) { c.Shards = 5 }), "5 shards"},
		{"other slots", set(func(c *cluster) { c.Slots = 128 }), "128 slots"},
		{"cluster item garbled", func(s stores) {
			s.table.Edit(metadata.ClusterKey(), func(i metadata.Item) (metadata.Item, bool) { i.Value = []byte("x"); return i, true })
		}, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opened(t)
			c.damage(s)
			if _, err := Open(t.Context(), testConfig(), s.bucket, s.table); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Open: %v, want an error about %q", err, c.says)
			}
		})
	}
}

func TestOpenRefusesABucketOfAnotherCluster(t *testing.T) {
	one, other := opened(t), opened(t)
	if _, err := Open(t.Context(), testConfig(), other.bucket, one.table); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("Open with another bucket: %v", err)
	}
	absent := &objmem.Bucket{}
	if _, err := Open(t.Context(), testConfig(), absent, one.table); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("Open with an empty bucket: %v", err)
	}
	if _, err := Open(t.Context(), testConfig(), one.bucket, &metamem.Table{}); err == nil || !strings.Contains(err.Error(), "the table is empty, but") {
		t.Errorf("Open with an empty table: %v", err)
	}
	cfg := testConfig()
	cfg.Prefix = "elsewhere"
	if _, err := Open(t.Context(), cfg, one.bucket, &metamem.Table{}); err != nil {
		t.Errorf("Open under another prefix: %v", err)
	}
}

// TestPrefixBelongsToOneCluster: two are made at once with tables of their own, and both have found the prefix free.
func TestPrefixBelongsToOneCluster(t *testing.T) {
	bucket := &objmem.Bucket{}
	first, second := newStores(), newStores()
	other := Config{Shards: 1, Slots: 64}
	done := false
	second.table.Fault = func(r metamem.Request) metamem.Fault {
		if r.Op == metamem.OpPut && r.Key == metadata.ClusterKey() && !done {
			done = true
			if _, made, err := Create(t.Context(), other, bucket, first.table); err != nil || !made {
				t.Errorf("first: made %v, %v", made, err)
			}
		}
		return metamem.None
	}
	if _, _, err := Create(t.Context(), other, bucket, second.table); err == nil || !strings.Contains(err.Error(), "belongs to another cluster") {
		t.Errorf("second: %v, want a refusal", err)
	}
	if _, made, err := Create(t.Context(), other, bucket, first.table); err != nil || made {
		t.Errorf("first again: made %v, %v; want to find it", made, err)
	}
}

// A making on a wrong bucket is cut off behind the mark, and another goes on with it on the right one: both buckets are marked.
func TestClusterHasItsObjectsInOneBucket(t *testing.T) {
	s, wrong := newStores(), &objmem.Bucket{}
	cfg := Config{Shards: 1, Slots: 64}
	cut := metamemFault(metadata.AgentKey("next"), 1, metamem.FailBefore)
	s.failTable(cut)
	if _, _, err := Create(t.Context(), cfg, wrong, s.table); err == nil {
		t.Fatal("the making was not cut off")
	}
	s.heal()
	join := cfg
	join.JoinOnly = true
	if _, err := Open(t.Context(), join, s.bucket, s.table); err == nil || !strings.Contains(err.Error(), "not complete") {
		t.Errorf("an agent joins what is not complete: %v", err)
	}
	if _, made, err := Create(t.Context(), cfg, s.bucket, s.table); err != nil || !made {
		t.Fatal(made, err)
	}
	if _, err := Open(t.Context(), join, wrong, s.table); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("Open with the wrong bucket: %v", err)
	}
	if _, _, err := Create(t.Context(), cfg, wrong, s.table); err == nil {
		t.Error("the wrong bucket is taken for the cluster's by a repeated making")
	}
	join.ExclusiveTable = true
	start(t, s, join)
}

// Two makings of one cluster end at the same time on different buckets: the item that is complete decides.
func TestMakingThatEndsSecondOnAnotherBucketIsRefused(t *testing.T) {
	s, other := newStores(), &objmem.Bucket{}
	cfg := Config{Shards: 1, Slots: 64}
	done := false
	s.failTable(func(r metamem.Request) metamem.Fault {
		if r.Op == metamem.OpPut && r.Key == metadata.ClusterKey() && r.Rev == 2 && !done {
			done = true
			if _, made, err := Create(t.Context(), cfg, other, s.table); err != nil || !made {
				t.Errorf("the first to end: %v, %v", made, err)
			}
		}
		return metamem.None
	})
	if _, _, err := Create(t.Context(), cfg, s.bucket, s.table); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("the second: %v, want a refusal", err)
	}
}

func TestOpenMakesNoClusterWhenItShallOnlyJoin(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	cfg.JoinOnly = true
	if _, err := Open(t.Context(), cfg, s.bucket, s.table); !errors.Is(err, ErrNoCluster) {
		t.Errorf("Open: %v, want ErrNoCluster", err)
	}
	if n := s.table.Count(metamem.OpPut) + s.bucket.Count(objmem.OpPut); n != 0 {
		t.Errorf("%d writes by an agent that was refused", n)
	}
	if _, _, err := Create(t.Context(), testConfig(), s.bucket, s.table); err != nil {
		t.Fatal(err)
	}
	start(t, s, cfg)
}

func TestOpenRefusesATableThatIsNotTheOneOfTheCluster(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	cfg.TableID = "one"
	if _, _, err := Create(t.Context(), cfg, s.bucket, s.table); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"restored", ""} {
		cfg.TableID = id
		if _, err := Open(t.Context(), cfg, s.bucket, s.table); err == nil || !strings.Contains(err.Error(), "restored") {
			t.Errorf("Open of the table with id %q: %v, want a refusal", id, err)
		}
	}
	cfg.TableID = "one"
	start(t, s, cfg)
}

func TestOpenTakesShardsAndSlotsOfTheClusterWhereNoneAreGiven(t *testing.T) {
	s := opened(t)
	cfg := testConfig()
	cfg.Shards, cfg.Slots = 0, 0
	a := start(t, s, cfg)
	want(t, "shards", len(a.shards), 2)
}

func TestConfigReportsEveryProblem(t *testing.T) {
	err := Config{Shards: 2000, Slots: 3, Prefix: "/x", FlushFreely: true, FlushRate: 1, BufferBytesMax: 1}.Validate()
	for _, name := range []string{"Shards", "Slots", "Prefix", "FlushRate", "BufferBytesMax"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Validate: %v, want a word about %s", err, name)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("Validate of the zero value: %v", err)
	}
}

func TestHeartbeatMovesTheItemAndSurvivesUnknownOutcomes(t *testing.T) {
	s := newStores()
	a, err := Open(t.Context(), testConfig(), s.bucket, s.table)
	if err != nil {
		t.Fatal(err)
	}
	key := metadata.AgentKey(a.presence.info.Boot)
	faults := []metamem.Fault{metamem.None, metamem.FailAfter, metamem.None, metamem.FailBefore, metamem.None, metamem.None}
	beats := 0
	s.failTable(func(r metamem.Request) metamem.Fault {
		if r.Op == metamem.OpPut && r.Key == key && beats < len(faults) {
			beats++
			return faults[beats-1]
		}
		return metamem.None
	})
	last := metadata.Rev(1)
	for range 6 {
		a.presence.beat(t.Context())
	}
	item, ok, err := s.table.Get(t.Context(), key)
	if err != nil || !ok || item.Rev <= last {
		t.Errorf("item %+v, %v, %v; want a later revision", item, ok, err)
	}
	s.table.Edit(key, func(i metadata.Item) (metadata.Item, bool) { return i, false })
	a.presence.beat(t.Context())
	if _, ok, _ := s.table.Get(t.Context(), key); !ok {
		t.Error("a swept item does not come back with the next beat")
	}
	a.presence.leave(t.Context())
	if _, ok, _ := s.table.Get(t.Context(), key); ok {
		t.Error("the item stays after leave")
	}
}

func TestSweepRemovesItemsThatStandStill(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	dead := metadata.Item{Key: metadata.AgentKey("dead"), Rev: 3, Value: []byte(`{"boot":"dead"}`)}
	s.table.Put(t.Context(), dead, metadata.If{})
	seen := a.sweep(t.Context(), nil)
	a.presence.beat(t.Context())
	a.sweep(t.Context(), seen)
	if _, ok, _ := s.table.Get(t.Context(), dead.Key); ok {
		t.Error("the dead agent's item is still there")
	}
	if _, ok, _ := s.table.Get(t.Context(), metadata.AgentKey(a.presence.info.Boot)); !ok {
		t.Error("the live agent's item is gone")
	}
	if _, ok, _ := s.table.Get(t.Context(), metadata.AgentKey("next")); !ok {
		t.Error("the counter of boots is gone")
	}
}

func TestProducerIDsAreNeverGivenOutTwice(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	given := make(map[objectlog.ProducerID]bool)
	for range 3 {
		for range producerBlock/2 + 1 {
			p, err := a.InitProducer(t.Context(), Producer{ID: objectlog.NoProducer})
			if err != nil || given[p.ID] || p.Epoch != 0 || p.ID < 1 {
				t.Fatalf("producer %+v, %v; given before: %v", p, err, given[p.ID])
			}
			given[p.ID] = true
		}
		a.stop()
		a = start(t, s, testConfig())
	}
	p, err := a.InitProducer(t.Context(), Producer{ID: 5, Epoch: 3})
	if err != nil || p != (Producer{5, 4}) {
		t.Errorf("next epoch: %+v, %v", p, err)
	}
	p, err = a.InitProducer(t.Context(), Producer{ID: 5, Epoch: 32767})
	if err != nil || p.ID == 5 || given[p.ID] || p.Epoch != 0 {
		t.Errorf("behind the last epoch: %+v, %v; want a new id", p, err)
	}
}
