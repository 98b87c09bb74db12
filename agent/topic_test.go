package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
)

func TestTopicIsCreatedAlteredGrownAndDeleted(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	ctx := t.Context()
	topic, err := a.CreateTopic(ctx, "orders", 3, metadata.Settings{"retention.ms": "5000"}, false)
	if err != nil || topic.Partitions != 3 || topic.State != metadata.TopicActive || topic.Settings["retention.ms"] != "5000" {
		t.Fatalf("created %+v, %v", topic, err)
	}
	_, err = a.CreateTopic(ctx, "orders", 3, nil, false)
	wantErr(t, "created again", err, metadata.ReasonTopicExists)

	set := func(value string) func(metadata.Settings) (metadata.Settings, error) {
		return func(s metadata.Settings) (metadata.Settings, error) { s["retention.ms"] = value; return s, nil }
	}
	altered, err := a.AlterTopic(ctx, "orders", topic.Version, set("6000"), false)
	if err != nil || altered.Settings["retention.ms"] != "6000" || altered.Version <= topic.Version {
		t.Errorf("altered %+v, %v", altered, err)
	}
	_, err = a.AlterTopic(ctx, "orders", topic.Version, set("7000"), false)
	wantErr(t, "altered at an old version", err, metadata.ReasonTopicChanged)
	_, err = a.AlterTopic(ctx, "orders", 0, set("soon"), false)
	wantErr(t, "altered to nonsense", err, InvalidSetting)
	if dry, err := a.AlterTopic(ctx, "orders", 0, set("8000"), true); err != nil || dry.Settings["retention.ms"] != "8000" {
		t.Errorf("validated %+v, %v", dry, err)
	}
	if now, _ := a.Topic(ctx, "orders"); now.Settings["retention.ms"] != "6000" {
		t.Errorf("topic %+v after a validation, want it unchanged", now)
	}

	if grown, err := a.AddPartitions(ctx, "orders", 200, false); err != nil || grown.Partitions != 200 {
		t.Errorf("grown %+v, %v", grown, err)
	}
	_, err = a.AddPartitions(ctx, "orders", 4, false)
	wantErr(t, "shrunk", err, InvalidRequest)
	for _, dry := range []bool{false, true} {
		_, err = a.AddPartitions(ctx, "orders", 200, dry)
		wantErr(t, "grown to what it has", err, InvalidRequest)
		if e := (*Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Hint, "200") {
			t.Errorf("error %#v, want a hint at what the topic has", err)
		}
	}
	if r := a.produce(t, values("orders", 199, "a")); r.Err != nil {
		t.Error(r.Err)
	}
	described := a.DescribePartitions(ctx, mustTopic(t, a, "orders"))
	if len(described) != 200 || described[199].State.HighWatermark != 1 || described[199].Err != nil {
		t.Errorf("described %d, the last %+v", len(described), described[len(described)-1])
	}

	wantErr(t, "deleted at an old version", a.DeleteTopic(ctx, "orders", 1), metadata.ReasonTopicChanged)
	wantErr(t, "deleted", a.DeleteTopic(ctx, "orders", 0), nil)
	_, err = a.Topic(ctx, "orders")
	wantErr(t, "topic after its deletion", err, metadata.ReasonUnknownTopic)
	wantErr(t, "produce to it", a.produce(t, values("orders", 0, "a")).Err, metadata.ReasonUnknownTopic)
	wantErr(t, "deleted again", a.DeleteTopic(ctx, "orders", 0), metadata.ReasonUnknownTopic)
	a.topic(t, "orders", 1) // the name is free, and the new topic is empty
	if f := a.fetchOne(t, "orders", 0); f.HighWatermark != 0 {
		t.Errorf("the new topic begins at %d", f.HighWatermark)
	}
}

func mustTopic(t *testing.T, a running, name string) metadata.Topic {
	t.Helper()
	topic, err := a.Topic(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func TestCreationIsValidated(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "taken", 1)
	for _, c := range []struct {
		name       string
		partitions int32
		settings   metadata.Settings
		want       error
	}{
		{"a/b", 1, nil, InvalidTopic}, {"", 1, nil, InvalidTopic}, {"a", 0, nil, InvalidRequest}, {"a", 1 << 30, nil, InvalidRequest},
		{"a", 1, metadata.Settings{"retention": "1"}, InvalidSetting}, {"taken", 1, nil, metadata.ReasonTopicExists},
	} {
		for _, only := range []bool{true, false} {
			_, err := a.CreateTopic(t.Context(), c.name, c.partitions, c.settings, only)
			wantErr(t, fmt.Sprintf("create %q with %d, validate only %v", c.name, c.partitions, only), err, c.want)
		}
	}
	if _, err := a.CreateTopic(t.Context(), "new", 1, nil, true); err != nil {
		t.Error(err)
	}
	_, err := a.Topic(t.Context(), "new")
	wantErr(t, "topic after a validation", err, metadata.ReasonUnknownTopic)
}

func TestTopicsArePagedByName(t *testing.T) {
	a := start(t, newStores(), testConfig())
	for i := range 7 {
		a.topic(t, fmt.Sprintf("t%d", i), 1)
	}
	if err := a.DeleteTopic(t.Context(), "t2", 0); err != nil {
		t.Fatal(err)
	}
	var names []string
	after := ""
	for {
		page, err := a.Topics(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, topic := range page {
			names = append(names, topic.Name)
		}
		after = names[len(names)-1]
	}
	want(t, "names", strings.Join(names, " "), "t0 t1 t3 t4 t5 t6")
}

// Crash rows of settling: the agent goes away at each entry that a creation, growth or deletion needs, without and with
// its effect; the next leader of shard 0 completes it.
func TestHalfDoneTopicsAreSettledByTheNextLeader(t *testing.T) {
	for _, landed := range []metamem.Fault{metamem.FailBefore, metamem.FailAfter} {
		for cut := 1; cut <= 4; cut++ {
			t.Run(fmt.Sprintf("entry %d %v", cut, landed), func(t *testing.T) {
				s := newStores()
				cfg := testConfig()
				a := start(t, s, cfg)
				a.topic(t, "grown", 1)
				a.topic(t, "deleted", 100)
				crash(t, s, a, cut, landed, func(ctx context.Context) {
					var wait sync.WaitGroup
					wait.Go(func() { _, _ = a.CreateTopic(ctx, "created", 100, nil, false) })
					wait.Go(func() { _, _ = a.AddPartitions(ctx, "grown", 100, false) })
					wait.Go(func() { _ = a.DeleteTopic(ctx, "deleted", 0) })
					wait.Wait()
				})
				b := start(t, s, cfg)
				if err := b.waitCatalog(t.Context(), func(s *metadata.State) bool { return len(s.Unsettled()) == 0 }); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"created", "grown"} {
					topic, err := b.Topic(t.Context(), name)
					if err != nil {
						continue // never entered the catalog
					}
					for _, p := range b.DescribePartitions(t.Context(), topic) {
						if p.Err != nil {
							t.Errorf("%s/%d: %v", name, p.Partition, p.Err)
						}
					}
				}
				if topic, err := b.Topic(t.Context(), "deleted"); err == nil {
					want(t, "partitions of the topic that was not deleted", topic.Partitions, 100)
				}
			})
		}
	}
}

// crash lets the table fail from the cut-th entry on, so that nothing behind it is written, and ends the agent there.
func crash(t *testing.T, s stores, a running, cut int, landed metamem.Fault, act func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	entries := 0
	s.failTable(func(r metamem.Request) metamem.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Op == metamem.OpPut && strings.HasPrefix(r.Key.PK, "ring#") {
			entries++
		}
		switch {
		case entries < cut:
			return metamem.None
		case entries == cut && ctx.Err() == nil:
			cancel()
			return landed
		}
		return metamem.FailBefore
	})
	act(ctx)
	a.kill()
	s.heal()
}

func TestTrimAnswersTheNewLogStart(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	a.produce(t, values("orders", 0, "a", "b", "c"))
	got, err := a.TrimPartition(t.Context(), "orders", 0, 2)
	if err != nil || got != 2 {
		t.Errorf("trim: %d, %v", got, err)
	}
	if got, err = a.TrimPartition(t.Context(), "orders", 0, 1); err != nil || got != 2 {
		t.Errorf("trim back: %d, %v; want it to stay", got, err)
	}
	_, err = a.TrimPartition(t.Context(), "orders", 0, 9)
	wantErr(t, "trim beyond the end", err, metadata.ReasonInvalid)
	_, err = a.TrimPartition(t.Context(), "orders", 0, -1)
	wantErr(t, "trim to a negative offset", err, InvalidRequest)
	_, err = a.TrimPartition(t.Context(), "orders", 1, 0)
	wantErr(t, "trim of no partition", err, metadata.ReasonUnknownTopic)
	want(t, "values", a.read(t, "orders", 0, 2, 1)[0], "c")
}

func TestHaltedShardIsNotReadyAndSaysWhy(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	a.topic(t, "orders", 1)
	shard := metadata.ShardOf(mustTopic(t, a, "orders").ID, 0, 2)
	a.stop()
	s.table.Edit(metadata.LeaseKey(shard), func(i metadata.Item) (metadata.Item, bool) { i.Value = []byte("garbage"); return i, true })
	b, err := Open(t.Context(), testConfig(), s.bucket, s.table)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	for changed := b.shards[shard].log.Changed(); b.shards[shard].log.Status().Fault == nil; changed = b.shards[shard].log.Changed() {
		<-changed
	}
	wantErr(t, "ready", b.Ready(), Unavailable)
	info, err := b.Cluster(t.Context())
	if err != nil || info.Shards[shard].Fault == "" {
		t.Errorf("cluster %+v, %v; want the fault of shard %d", info.Shards, err, shard)
	}
	if shard != catalogShard {
		waitFor(t, b, func() bool { _, err := b.find(t.Context(), "orders", 0); return err == nil })
		r := b.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}}).Wait(t.Context())[0]
		wantErr(t, "produce to a halted shard", r.Err, Unavailable)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("Run ended without the shard's fault")
	}
}
