package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/splashdam/splashdam/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a fake with a client and, mostly, one topic.
type bench struct {
	*fake
	client *client.Client
}

type cleaner interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newBench(t testing.TB, partitions int32) *bench {
	t.Helper()
	b, end := openBench(t, partitions)
	t.Cleanup(end)
	return b
}

func openBench(t cleaner, partitions int32) (*bench, func()) {
	t.Helper()
	f := startFake()
	f.addTopic("matches", partitions)
	c, err := client.New(impatient(f))
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return &bench{f, c}, func() { c.Close(); f.close() }
}

func (b *bench) producer(t cleaner, cfg client.ProducerConfig) *client.Producer {
	t.Helper()
	p, err := b.client.NewProducer(cfg)
	if err != nil {
		t.Fatalf("NewProducer: %v", err)
	}
	return p
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func to(partition int, i int) client.Record {
	return client.Record{Topic: "matches", Partition: client.Partition(partition), Value: []byte(value(partition, i))}
}

// values lists what is to be in a partition after n records.
func values(partition, n int) []string {
	var out []string
	for i := range n {
		out = append(out, value(partition, i))
	}
	return out
}

// produceAll produces n records to each partition, partition by partition in turn, closes the producer and answers the results.
func produceAll(t cleaner, p *client.Producer, partitions, n int) [][]client.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	results := make([][]client.Result, partitions)
	for i := range n {
		for part := range partitions {
			p.Produce(ctx, to(part, i), func(r client.Result) {
				mu.Lock()
				defer mu.Unlock()
				results[part] = append(results[part], r)
			})
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return results
}

// exactlyOnce checks that every record was acknowledged at its place and that the log holds nothing else.
func exactlyOnce(t cleaner, f *fake, results [][]client.Result, n int) {
	t.Helper()
	for part, list := range results {
		got := f.values("matches", int32(part))
		if want := values(part, n); !slices.Equal(got, want) {
			t.Fatalf("partition %d: log has %d records %v, want %d in order, each once", part, len(got), clip(got), n)
		}
		if len(list) != n {
			t.Fatalf("partition %d: %d results for %d records", part, len(list), n)
		}
		for i, r := range list {
			if r.Err != nil || r.Offset != client.Offset(i) || r.Partition != client.Partition(part) {
				t.Fatalf("partition %d record %d: result %+v", part, i, r)
			}
		}
	}
}

func clip(list []string) []string { return list[:min(len(list), 50)] }

func TestProduceSyncAnswersOffsetsInOrder(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{})
	results, err := p.ProduceSync(within(t), to(0, 0), to(0, 1), to(0, 2))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if r.Offset != client.Offset(i) {
			t.Errorf("result %d: offset %d", i, r.Offset)
		}
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestProduceKeepsOrderAndPacksBatches(t *testing.T) {
	for _, mode := range []struct {
		name string
		cfg  client.ProducerConfig
	}{
		{"stream", client.ProducerConfig{}}, {"unary", client.ProducerConfig{Unary: true}},
		{"zstd", client.ProducerConfig{Compression: "zstd"}}, {"lz4", client.ProducerConfig{Compression: "lz4"}},
		{"gzip", client.ProducerConfig{Compression: "gzip"}}, {"none", client.ProducerConfig{Compression: "none"}},
		{"not idempotent", client.ProducerConfig{NotIdempotent: true}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			b := newBench(t, 3)
			mode.cfg.Partitioner = client.Manual
			const n = 2000
			exactlyOnce(t, b.fake, produceAll(t, b.producer(t, mode.cfg), 3, n), n)
			if got := b.batches("matches", 0); got > n/10 {
				t.Errorf("%d batches for %d records", got, n)
			}
		})
	}
}

func TestEveryFaultLeavesEachRecordExactlyOnceAndInOrder(t *testing.T) {
	for _, unary := range []bool{false, true} {
		for _, f := range []fault{loseReply, cut, late, unavailable, undecided, undecidedNot} {
			t.Run(fmt.Sprintf("unary=%v/fault=%d", unary, f), func(t *testing.T) {
				b := newBench(t, 2)
				b.faults = func(_ string, _ int32, n int) fault {
					if n%4 == 1 {
						return f
					}
					return none
				}
				p := b.producer(t, client.ProducerConfig{Partitioner: client.Manual, Unary: unary, BatchBytes: 1 << 10, Linger: -1})
				exactlyOnce(t, b.fake, produceAll(t, p, 2, 300), 300)
			})
		}
	}
}

func TestRandomFaultsNeverLoseDuplicateOrReorder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, end := openBench(t, 3)
		defer end()
		seed := rapid.Uint64().Draw(t, "seed")
		chance := rapid.IntRange(0, 60).Draw(t, "fault percent")
		unary := rapid.Bool().Draw(t, "unary")
		n := rapid.IntRange(1, 120).Draw(t, "records")
		window := rapid.IntRange(1, 5).Draw(t, "window")
		rnd := rand.New(rand.NewPCG(seed, 1))
		b.faults = func(string, int32, int) fault {
			if rnd.IntN(100) >= chance {
				return none
			}
			return fault(1 + rnd.IntN(int(undecidedNot)))
		}
		p := b.producer(t, client.ProducerConfig{
			Partitioner: client.Manual, Unary: unary, BatchBytes: 1 << 10, Linger: -1, InFlightBatches: window,
		})
		exactlyOnce(t, b.fake, produceAll(t, p, 3, n), n)
	})
}

// Under a delivery timeout shorter than the trouble, results differ, but none of them lies.
func TestResultsUnderRandomFaultsAndTimeoutsNeverLie(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, end := openBench(t, 1)
		defer end()
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		chance := rapid.IntRange(50, 97).Draw(t, "fault percent")
		b.bytesMax = rapid.SampledFrom([]int{0, 400, 900}).Draw(t, "batch limit")
		b.faults = func(string, int32, int) fault {
			if rnd.IntN(100) >= chance {
				return none
			}
			return fault(1 + rnd.IntN(int(undecidedNot)))
		}
		p := b.producer(t, client.ProducerConfig{
			Partitioner: client.Manual, BatchBytes: 1 << 10, Linger: -1, DeliveryTimeout: 100 * time.Millisecond, Compression: "none",
		})
		results := produceAll(t, p, 1, 60)[0]
		b.fake.mu.Lock()
		for _, apply := range b.heldBack { // what is under way lands in the end
			apply()
		}
		b.fake.mu.Unlock()
		truthful(t, b.values("matches", 0), results)
	})
}

func truthful(t cleaner, log []string, results []client.Result) {
	t.Helper()
	places := make(map[string][]int)
	for at, v := range log {
		places[v] = append(places[v], at)
	}
	acknowledged := -1
	for i, r := range results {
		at := places[value(0, i)]
		switch {
		case len(at) > 1:
			t.Fatalf("record %d is in the log %d times; result %+v", i, len(at), r)
		case r.Err == nil && len(at) == 0:
			t.Fatalf("record %d is acknowledged and not in the log", i)
		case r.Err == nil && r.Offset != client.NoOffset && int(r.Offset) != at[0]:
			t.Fatalf("record %d is acknowledged at %d and is at %d", i, r.Offset, at[0])
		case r.Err == nil && at[0] <= acknowledged:
			t.Fatalf("record %d at %d is behind a later one at %d", i, at[0], acknowledged)
		case r.Err != nil && !errors.Is(r.Err, client.ErrUnknownOutcome) && len(at) > 0:
			t.Fatalf("record %d is reported as definitely failed (%v) and is in the log", i, r.Err)
		}
		if r.Err == nil {
			acknowledged = at[0]
		}
	}
}

func TestRetryCarriesTheSameSequenceSoTheDuplicateIsTold(t *testing.T) {
	b := newBench(t, 1)
	b.faults = func(_ string, _ int32, n int) fault {
		if n == 1 {
			return loseReply
		}
		return none
	}
	p := b.producer(t, client.ProducerConfig{})
	results, err := p.ProduceSync(within(t), to(0, 0))
	if err != nil || !results[0].Duplicate || results[0].Offset != 0 {
		t.Fatalf("got %+v, %v; want a duplicate at 0", results, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.values("matches", 0); len(got) != 1 {
		t.Fatalf("log has %v", got)
	}
}

func TestAnswerOutOfTurnIsNotBelieved(t *testing.T) {
	b := newBench(t, 1)
	b.misnumber = 1
	p := b.producer(t, client.ProducerConfig{})
	results, err := p.ProduceSync(within(t), to(0, 0))
	if err != nil || !results[0].Duplicate || results[0].Offset != 0 {
		t.Fatalf("got %+v, %v; want a duplicate at 0", results, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownOutcomeIsReportedAsSuchAfterTheDeliveryTimeout(t *testing.T) {
	b := newBench(t, 1)
	b.faults = func(string, int32, int) fault { return undecided }
	p := b.producer(t, client.ProducerConfig{DeliveryTimeout: 500 * time.Millisecond})
	_, err := p.ProduceSync(within(t), to(0, 0))
	if !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestNothingSentIsADefiniteFailure(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{DeliveryTimeout: time.Second})
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	b.faults = func(string, int32, int) fault { return unavailable }
	_, err := p.ProduceSync(within(t), to(0, 1))
	var e *client.Error
	if errors.Is(err, client.ErrUnknownOutcome) || !errors.As(err, &e) || e.Reason != "DELIVERY_TIMEOUT" {
		t.Fatalf("got %v; want a definite time-out", err)
	}
	b.faults = nil
	if _, err := p.ProduceSync(within(t), to(0, 2)); err != nil {
		t.Fatalf("after the hole: %v", err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.values("matches", 0), []string{value(0, 0), value(0, 2)}; !slices.Equal(got, want) {
		t.Fatalf("log has %v, want %v", got, want)
	}
}

func TestTopicDeletedMidwayFailsItsRecordsAndNoOthers(t *testing.T) {
	b := newBench(t, 1)
	b.addTopic("others", 1)
	p := b.producer(t, client.ProducerConfig{})
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	b.dropTopic("matches")
	if _, err := p.ProduceSync(within(t), to(0, 1)); !errors.Is(err, client.ErrUnknownTopic) {
		t.Fatalf("got %v", err)
	}
	if _, err := p.ProduceSync(within(t), client.Record{Topic: "others"}); err != nil {
		t.Fatalf("the other topic: %v", err)
	}
	b.addTopic("matches", 1) // anew: its producer state is empty
	if _, err := p.ProduceSync(within(t), to(0, 2)); err != nil {
		t.Fatalf("after it came back: %v", err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestLostProducerStateStartsANewEpoch(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{})
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	clear(b.topics["matches"].partitions[0].producers)
	b.mu.Unlock()
	if r, err := p.ProduceSync(within(t), to(0, 1)); err != nil || r[0].Offset != 1 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestBatchTooLargeForItsTopicIsSplit(t *testing.T) {
	b := newBench(t, 1)
	b.bytesMax = 300
	p := b.producer(t, client.ProducerConfig{Compression: "none", Partitioner: client.Manual})
	exactlyOnce(t, b.fake, produceAll(t, p, 1, 200), 200)
}

func TestRecordTooLargeIsRefusedAndTheNextGoesOn(t *testing.T) {
	b := newBench(t, 1)
	b.bytesMax = 300
	p := b.producer(t, client.ProducerConfig{Compression: "none"})
	big := client.Record{Topic: "matches", Value: make([]byte, 1000)}
	results, err := p.ProduceSync(within(t), big, to(0, 1))
	if !errors.Is(err, client.ErrTooLarge) || results[1].Err != nil {
		t.Fatalf("got %+v, %v", results, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestProduceBlocksWhileTheBufferIsFull(t *testing.T) {
	b := newBench(t, 1)
	b.hold = make(chan struct{})
	p := b.producer(t, client.ProducerConfig{BufferBytes: 1 << 20})
	big := client.Record{Topic: "matches", Value: make([]byte, 600<<10)}
	first := make(chan client.Result, 1)
	p.Produce(within(t), big, func(r client.Result) { first <- r })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.ProduceSync(ctx, big); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v; want the context's error, which is definite", err)
	}
	close(b.hold)
	if r := <-first; r.Err != nil {
		t.Fatal(r.Err)
	}
	if _, err := p.ProduceSync(within(t), big); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestCloseReportsWhatIsInFlightAsUnknownAndTheRestAsClosed(t *testing.T) {
	b := newBench(t, 1)
	b.hold = make(chan struct{})
	p := b.producer(t, client.ProducerConfig{BatchBytes: 1 << 10, Linger: -1, InFlightBatches: 1})
	var results []client.Result
	for i := range 100 {
		p.Produce(within(t), to(0, i), func(r client.Result) { results = append(results, r) })
	}
	if err := b.until(within(t), func() bool { return b.calls["ProduceStream"] > 0 }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Close: %v", err)
	}
	close(b.hold)
	if len(results) != 100 {
		t.Fatalf("%d results for 100 records", len(results))
	}
	if err := results[0].Err; !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("in flight: %v", err)
	}
	if err := results[99].Err; !errors.Is(err, client.ErrClosed) {
		t.Errorf("not sent: %v", err)
	}
	if _, err := p.ProduceSync(within(t), to(0, 0)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSlowServerMeetsTheRequestTimeout(t *testing.T) {
	f := startFake()
	defer f.close()
	f.addTopic("matches", 1)
	f.hold = make(chan struct{})
	cfg := impatient(f)
	cfg.RequestTimeout = 300 * time.Millisecond
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{DeliveryTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ProduceSync(within(t), to(0, 0)); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	close(f.hold)
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := f.values("matches", 0); len(got) > 1 {
		t.Fatalf("log has %v", got)
	}
}

func TestProducerFallsBackToUnaryCalls(t *testing.T) {
	t.Run("streams unimplemented", func(t *testing.T) {
		b := newBench(t, 1)
		b.noStreams = true
		p := b.producer(t, client.ProducerConfig{Partitioner: client.Manual})
		exactlyOnce(t, b.fake, produceAll(t, p, 1, 100), 100)
		if b.count("Produce") == 0 || b.count("ProduceStream") != 1 {
			t.Errorf("%d unary calls, %d streams", b.count("Produce"), b.count("ProduceStream"))
		}
	})
	t.Run("HTTP/1.1 only", func(t *testing.T) {
		f := startFake(true)
		defer f.close()
		f.addTopic("matches", 1)
		c, err := client.New(impatient(f))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual})
		if err != nil {
			t.Fatal(err)
		}
		exactlyOnce(t, f, produceAll(t, p, 1, 100), 100)
		if f.count("Produce") == 0 || f.count("ProduceStream") != 0 {
			t.Errorf("%d unary calls, %d streams", f.count("Produce"), f.count("ProduceStream"))
		}
	})
}

func TestProducerGoesOnAtAnotherAddress(t *testing.T) {
	b := newBench(t, 1)
	cfg := impatient(b.fake)
	cfg.Addresses = []string{"127.0.0.1:1", b.address()}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestOldStreamIsReplacedWithoutLosingItsPlace(t *testing.T) {
	f := startFake()
	defer f.close()
	f.addTopic("matches", 1)
	cfg := impatient(f)
	cfg.ConnectionAge = time.Second
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for f.count("ProduceStream") < 2 {
		if _, err := p.ProduceSync(within(t), to(0, n)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := f.values("matches", 0); !slices.Equal(got, values(0, n)) {
		t.Fatalf("log has %d records, want %d in order", len(got), n)
	}
}

func TestFlushWaitsForEveryRecord(t *testing.T) {
	b := newBench(t, 2)
	p := b.producer(t, client.ProducerConfig{Linger: time.Minute, Partitioner: client.Manual})
	got := 0
	for i := range 50 {
		p.Produce(within(t), to(i%2, i), func(client.Result) { got++ })
	}
	if err := p.Flush(within(t)); err != nil || got != 50 {
		t.Fatalf("%d results after Flush, %v", got, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestAcksNoneAnswersWithoutOffset(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{Acks: client.AcksNone})
	r, err := p.ProduceSync(within(t), to(0, 0))
	if err != nil || r[0].Offset != client.NoOffset {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestNotIdempotentDoesNotRepeatAnUnknownOutcome(t *testing.T) {
	b := newBench(t, 1)
	b.faults = func(string, int32, int) fault { return loseReply }
	p := b.producer(t, client.ProducerConfig{NotIdempotent: true})
	if _, err := p.ProduceSync(within(t), to(0, 0)); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.values("matches", 0); len(got) != 1 {
		t.Fatalf("log has %v", got)
	}
}

func TestProducerSeesAddedPartitions(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{Partitioner: client.Manual, MetadataAge: 100 * time.Millisecond})
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	b.addTopic("matches", 2)
	ctx := within(t)
	for {
		_, err := p.ProduceSync(ctx, to(1, 0))
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrUnknownTopic) {
			t.Fatal(err)
		}
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestKeylessRecordsReachEveryPartition(t *testing.T) {
	b := newBench(t, 4)
	p := b.producer(t, client.ProducerConfig{})
	for i := range 40 {
		if _, err := p.ProduceSync(within(t), client.Record{Topic: "matches", Value: []byte(value(0, i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	for part := range int32(4) {
		if got := len(b.values("matches", part)); got != 10 {
			t.Errorf("partition %d has %d records, want 10", part, got)
		}
	}
}

func TestKeylessRecordsGoOnToTheNextPartitionWhenABatchIsFull(t *testing.T) {
	const partitions, records = 4, 400
	b := newBench(t, partitions)
	b.hold = make(chan struct{})
	// While a batch of each partition is in flight nothing but its size ends another.
	p := b.producer(t, client.ProducerConfig{BatchBytes: 1 << 10, Linger: time.Minute, InFlightBatches: 1})
	for range records {
		p.Produce(within(t), client.Record{Topic: "matches", Value: make([]byte, 100)}, nil)
	}
	close(b.hold)
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	for part := range int32(partitions) {
		if got := len(b.values("matches", part)); got < records/partitions/2 {
			t.Errorf("partition %d has %d records of %d, want about a quarter", part, got, records)
		}
	}
}

func TestProducerConfigNamesEveryProblem(t *testing.T) {
	err := client.ProducerConfig{Compression: "brotli", Acks: 9, BatchBytes: 1, BufferBytes: 1, InFlightBatches: 6}.Validate()
	for _, field := range []string{"Compression", "Acks", "BatchBytes", "BufferBytes", "InFlightBatches"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
