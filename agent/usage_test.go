package agent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// stored adds up what the state holds of a topic.
func (r running) stored(t *testing.T, name string) (bytes int64) {
	t.Helper()
	topic, err := r.Topic(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.DescribePartitions(t.Context(), topic) {
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		bytes += p.State.StoredBytes
	}
	return bytes
}

// topicUsage answers the topics, by name.
func (r running) topicUsage() []TopicUsage {
	_, _, topics := r.Usage()
	slices.SortFunc(topics, func(a, b TopicUsage) int { return strings.Compare(a.Topic, b.Topic) })
	return topics
}

func (r running) wantUsage(t *testing.T, topics ...TopicUsage) {
	t.Helper()
	if got := r.topicUsage(); !slices.Equal(got, topics) {
		t.Errorf("usage %+v, want %+v", got, topics)
	}
}

func TestUsageCountsTheBytesOfTheBatchesThatAreStoredAndServed(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 5)
	a.topic(t, "returns", 2)
	var all sync.WaitGroup
	for i := range 40 { // together, so that some share a stored batch
		all.Go(func() {
			for _, topic := range []string{"orders", "orders", "returns"} {
				if r := a.produce(t, values(topic, AnyPartition, strings.Repeat("v", i+1), "w")); r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	all.Wait()
	orders, returns := a.stored(t, "orders"), a.stored(t, "returns")
	if orders == 0 || returns == 0 {
		t.Fatalf("stored %d and %d bytes, want some", orders, returns)
	}
	a.wantUsage(t, TopicUsage{"orders", orders, 0}, TopicUsage{"returns", returns, 0})
	for range 2 { // the second time from the cache
		earliest := func(topic string) FetchPartition { return FetchPartition{Topic: topic, Partition: AnyPartition} }
		for _, f := range a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{earliest("returns"), earliest("orders")}}) {
			if f.Err != nil {
				t.Fatal(f.Err)
			}
		}
	}
	a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 1000), at("none", 0, 0)}})
	a.wantUsage(t, TopicUsage{"orders", orders, 2 * orders}, TopicUsage{"returns", returns, 2 * returns})
	if boot, countedFor, _ := a.Usage(); boot != a.presence.info.Boot || countedFor <= 0 {
		t.Errorf("usage of %q for %v, want the boot and how long it counts", boot, countedFor)
	}
}

func TestUsageCountsWhatIsRepeatedOrRefusedNotAtAll(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	b := values("orders", 0, "a", "b")
	b.FirstSequence = 0
	for i := range 3 {
		r := a.Submit(t.Context(), ProduceRequest{Batches: []ProduceBatch{b}, Producer: Producer{ID: 7}}).Wait(t.Context())[0]
		if r.Err != nil || r.Duplicate != (i > 0) {
			t.Fatalf("attempt %d: %+v", i, r)
		}
	}
	b = values("orders", 0, "c")
	b.Expected = 77
	wantErr(t, "another offset", a.produce(t, b).Err, metadata.ReasonOffsetMismatch)
	a.wantUsage(t, TopicUsage{"orders", a.stored(t, "orders"), 0})
}

func TestUsageNamesTheLargestTopicsAndAddsUpTheOthers(t *testing.T) {
	a := start(t, newStores(), testConfig())
	const topics = usageTopics + 3
	var sum int64
	for i := range topics {
		name := fmt.Sprintf("t%03d", i)
		a.topic(t, name, 1, "compression.type", "uncompressed")
		if r := a.produce(t, values(name, 0, strings.Repeat("v", 1+10*i))); r.Err != nil {
			t.Fatal(r.Err)
		}
		sum += a.stored(t, name)
	}
	total := func(list []TopicUsage) (sum int64) {
		for _, one := range list {
			sum += one.ProducedBytes
		}
		return sum
	}
	_, _, got := a.Usage()
	if len(got) != usageTopics+1 || got[0].Topic != "t102" || got[usageTopics].Topic != "" || total(got) != sum {
		t.Errorf("usage of %d topics, first %+v, last %+v, together %d; want %d, t102, the rest, %d", len(got), got[0], got[len(got)-1], total(got), usageTopics+1, sum)
	}
	want(t, "rest", got[usageTopics].ProducedBytes, a.stored(t, "t000")+a.stored(t, "t001")+a.stored(t, "t002"))
	for i := 90; i < topics; i++ {
		if err := a.DeleteTopic(t.Context(), fmt.Sprintf("t%03d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, a.Agent, func() bool { return len(a.writer.counts.names()) == 90 })
	_, _, got = a.Usage()
	if len(got) != 91 || got[90].Topic != "" || total(got) != sum {
		t.Errorf("usage after deletion: %d topics, together %d; want 90 and the rest, %d", len(got), total(got), sum)
	}
	want(t, "topics in memory", len(a.writer.counts.topics), 90)
}

func TestCountsOfDeletedTopicsAreFoldedBeforeAnyoneAsks(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	a.produce(t, values("orders", 0, "a"))
	counts := a.writer.counts
	for i := range 3 * sweepLeast { // as topics that were deleted since
		counts.add(objectlog.UUID{0: 1, 14: byte(i >> 8), 15: byte(i)}, topicBytes{fetched: 1})
		if n := len(counts.topics); n > sweepLeast {
			t.Fatalf("%d topics in memory, one exists", n)
		}
	}
	a.wantUsage(t, TopicUsage{"", 0, 3 * sweepLeast}, TopicUsage{"orders", a.stored(t, "orders"), 0})
}
