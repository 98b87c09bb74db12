package agent

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func TestMain(m *testing.M) {
	if underRace {
		runtime.GOMAXPROCS(1)
	}
	goleak.VerifyTestMain(m)
}

// stores are a bucket and a table in memory, with their fault hooks.
type stores struct {
	bucket *objmem.Bucket
	table  *metamem.Table

	bucketFault *atomic.Pointer[func(objmem.Request) objmem.Fault]
	tableFault  *atomic.Pointer[func(metamem.Request) metamem.Fault]
}

func newStores() stores {
	s := stores{bucketFault: &atomic.Pointer[func(objmem.Request) objmem.Fault]{}, tableFault: &atomic.Pointer[func(metamem.Request) metamem.Fault]{}}
	s.bucket = &objmem.Bucket{Fault: func(r objmem.Request) objmem.Fault { return (*s.bucketFault.Load())(r) }}
	s.table = &metamem.Table{Fault: func(r metamem.Request) metamem.Fault { return (*s.tableFault.Load())(r) }}
	s.heal()
	return s
}

// failBucket and failTable say what goes wrong from now on, also beside a running agent.
func (s stores) failBucket(f func(objmem.Request) objmem.Fault)  { s.bucketFault.Store(&f) }
func (s stores) failTable(f func(metamem.Request) metamem.Fault) { s.tableFault.Store(&f) }

func (s stores) heal() {
	s.failBucket(func(objmem.Request) objmem.Fault { return objmem.None })
	s.failTable(func(metamem.Request) metamem.Fault { return metamem.None })
}

// testConfig is a small cluster whose leaders claim at once.
func testConfig() Config {
	return Config{Version: "test", ClientAddress: "127.0.0.1:1", Shards: 2, Slots: 64, ExclusiveTable: true, FlushFreely: true,
		ProduceTimeout: 20 * time.Second, BlockCacheBytes: 8 << 20}
}

// running is an agent whose Run is under way.
type running struct {
	*Agent
	stop    func() // ends Run and waits for it; may be called twice
	mayHalt *bool  // Run's error may be that a shard halted
}

// start opens an agent and runs it until the test ends.
func start(t *testing.T, s stores, cfg Config) running {
	t.Helper()
	a, err := Open(t.Context(), cfg, s.bucket, s.table)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, a)
}

func run(t *testing.T, a *Agent) running {
	t.Helper()
	r := begin(t, a)
	waitReady(t, a)
	return r
}

// begin runs an agent that may not be ready for long.
func begin(t *testing.T, a *Agent) running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped, mayHalt := false, false
	r := running{Agent: a, mayHalt: &mayHalt, stop: func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-ended; err != nil && !(mayHalt && errors.Is(err, shardlog.ErrHalted)) {
				t.Errorf("Run: %v", err)
			}
		}
	}}
	t.Cleanup(r.stop)
	return r
}

// kill ends an agent whose stores have failed, as a crash does: nothing is flushed, handed on or removed.
func (r running) kill() {
	r.cfg.DrainTimeout = time.Millisecond
	r.stop()
}

func waitReady(t *testing.T, a *Agent) {
	t.Helper()
	waitFor(t, a, func() bool { return a.Ready() == nil })
}

// waitFor waits until the agent's shards have come to a state that satisfies done.
func waitFor(t *testing.T, a *Agent, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		var changed []<-chan struct{}
		for _, s := range a.shards {
			changed = append(changed, s.log.Changed())
		}
		if done() {
			return
		}
		if !a.waitForAny(ctx, changed) {
			t.Fatalf("not in time; ready: %v", a.Ready())
		}
	}
}

func (r running) topic(t *testing.T, name string, partitions int32, settings ...string) {
	t.Helper()
	s := make(map[string]string)
	for i := 0; i < len(settings); i += 2 {
		s[settings[i]] = settings[i+1]
	}
	if _, err := r.CreateTopic(t.Context(), name, partitions, s, false); err != nil {
		t.Fatal(err)
	}
}

// produce submits one batch and answers its result.
func (r running) produce(t *testing.T, b ProduceBatch) ProduceResult {
	t.Helper()
	return r.Submit(t.Context(), ProduceRequest{Batches: []ProduceBatch{b}, Producer: Producer{ID: objectlog.NoProducer}}).Wait(t.Context())[0]
}

// values is a batch of records with these values and no key.
func values(topic string, p objectlog.Partition, texts ...string) ProduceBatch {
	b := ProduceBatch{Topic: topic, Partition: p, Expected: objectlog.NoOffset, FirstSequence: -1}
	for _, v := range texts {
		b.Records = append(b.Records, objectlog.Record{Value: []byte(v), Timestamp: objectlog.NoTimestamp})
	}
	return b
}

// read fetches the values of a partition from an offset on, until it has so many.
func (r running) read(t *testing.T, topic string, p objectlog.Partition, from objectlog.Offset, n int) []string {
	t.Helper()
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(got) < n {
		f := r.Fetch(ctx, FetchRequest{Wait: 5 * time.Second, Partitions: []FetchPartition{{Topic: topic, Partition: p,
			Start: Start{Kind: StartOffset, Offset: from}}}})[0]
		if f.Err != nil {
			t.Fatalf("fetch %s/%d at %d: %v", topic, p, from, f.Err)
		}
		if f.Next == from {
			t.Fatalf("fetch %s/%d at %d: nothing; want %d records more", topic, p, from, n-len(got))
		}
		got = append(got, decode(t, f)...)
		from = f.Next
	}
	return got
}

// decode answers the values of the records asked for, after checking that their offsets are contiguous.
func decode(t *testing.T, f FetchedPartition) []string {
	t.Helper()
	var got []string
	next := f.From
	for _, b := range f.Batches {
		err := objectlog.DecodeBatch(b, objectlog.Limits{}, func(o objectlog.Offset, r objectlog.Record) bool {
			if o < f.From {
				return true
			}
			if o != next {
				t.Fatalf("%s/%d: offset %d, want %d", f.Topic, f.Partition, o, next)
			}
			next++
			got = append(got, string(r.Value))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if next != f.Next {
		t.Fatalf("%s/%d: records end at %d, Next is %d", f.Topic, f.Partition, next, f.Next)
	}
	return got
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestProducedRecordsAreFetchedInOrderAndSurviveARestart(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	a.topic(t, "orders", 3)
	for i := range 5 {
		r := a.produce(t, values("orders", 1, strconv.Itoa(2*i), strconv.Itoa(2*i+1)))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		want(t, "position", r.Positions[1], Position{1, objectlog.Offset(2*i + 1)})
	}
	check := func(a running) {
		for i, v := range a.read(t, "orders", 1, 3, 7) {
			want(t, "value", v, strconv.Itoa(3+i))
		}
	}
	check(a)
	a.stop()
	check(start(t, s, testConfig()))
}
