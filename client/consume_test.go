package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"pgregory.net/rapid"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
)

// fill appends n records to a partition of the fake's log, in batches of so many.
func (f *fake) fill(topic string, partition, n, perBatch int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.topics[topic].partitions[partition]
	for n > 0 {
		var records []objectlog.Record
		for i := range min(n, perBatch) {
			at := int(p.next) + i
			records = append(records, objectlog.Record{Value: []byte(value(partition, at)), Timestamp: objectlog.Timestamp(1000 + at)})
		}
		b, err := objectlog.EncodeBatch(nil, records, objectlog.BatchOptions{
			Codec: objectlog.CodecSnappy, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer,
		})
		if err != nil {
			panic(err)
		}
		objectlog.PatchBatch(b, objectlog.Offset(p.next), 1)
		base := p.next
		p.next += int64(len(records))
		p.batches = append(p.batches, fakeBatch{base, p.next, b})
		n -= len(records)
	}
	f.wake()
}

func (b *bench) consumer(t testing.TB, cfg client.ConsumerConfig) *client.Consumer {
	t.Helper()
	if len(cfg.Topics)+len(cfg.Partitions) == 0 {
		cfg.Topics = []string{"matches"}
	}
	c, err := b.client.NewConsumer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read polls n records and checks that each partition's come in order from its offset in next.
func read(t testing.TB, c *client.Consumer, next map[client.Partition]client.Offset, n, pollMax int) {
	t.Helper()
	ctx := within(t)
	for n > 0 {
		records, err := c.Poll(ctx, min(n, pollMax))
		if err != nil {
			t.Fatalf("Poll: %v", err)
		}
		for _, r := range records {
			if r.Offset != next[r.Partition] || string(r.Value) != value(int(r.Partition), int(r.Offset)) {
				t.Fatalf("got %d/%d %q, want offset %d", r.Partition, r.Offset, r.Value, next[r.Partition])
			}
			next[r.Partition]++
		}
		n -= len(records)
	}
}

func TestConsumerReadsEveryPartitionInOrder(t *testing.T) {
	b := newBench(t, 5)
	for p := range 5 {
		b.fill("matches", p, 1000, 37)
	}
	c := b.consumer(t, client.ConsumerConfig{FetchBytes: 4 << 10})
	next := map[client.Partition]client.Offset{}
	read(t, c, next, 5000, 10)
	for p := range 5 { // and what comes afterwards
		b.fill("matches", p, 10, 3)
	}
	read(t, c, next, 50, 100)
}

func TestConsumerStartsWhereItIsTold(t *testing.T) {
	for _, test := range []struct {
		name  string
		start client.Start
		want  client.Offset
	}{
		{"earliest", client.Earliest(), 0}, {"latest", client.Latest(), 100}, {"offset", client.At(42), 42},
		{"time", client.Since(time.UnixMilli(1077)), 77}, {"tail", client.Tail(5), 95},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, 1)
			b.fill("matches", 0, 100, 30)
			c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches"}}, Start: test.start})
			if err := b.until(within(t), func() bool { return b.calls["Fetch"] > 0 }); err != nil {
				t.Fatal(err)
			}
			if got := c.Position("matches", 0); got != test.want {
				t.Errorf("position %d, want %d", got, test.want)
			}
			b.fill("matches", 0, 1, 1)
			read(t, c, map[client.Partition]client.Offset{0: test.want}, int(101-test.want), 1000)
		})
	}
}

func TestPositionDoesNotPassAnUnprocessedRecord(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches"}}})
	if _, err := c.Poll(within(t), 4); err != nil {
		t.Fatal(err)
	}
	if got := c.Position("matches", 0); client.NoOffset != got && got != 0 {
		t.Errorf("position %d while the first poll is being processed", got)
	}
	if _, err := c.Poll(within(t), 4); err != nil {
		t.Fatal(err)
	}
	if got := c.Position("matches", 0); got != 4 {
		t.Errorf("position %d, want 4", got)
	}
}

func TestRunGoesOnAtTheRecordThatFailed(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 20, 7)
	c := b.consumer(t, client.ConsumerConfig{})
	failure := errors.New("out of ink")
	var seen []client.Offset
	err := c.Run(within(t), func(_ context.Context, r client.Record) error {
		if r.Offset == 9 {
			c.Pause("matches", 0)
			c.Resume("matches", 0)
			return failure
		}
		seen = append(seen, r.Offset)
		return nil
	})
	if !errors.Is(err, failure) || len(seen) != 9 || c.Position("matches", 0) != 9 {
		t.Fatalf("%v after %v, position %d", err, seen, c.Position("matches", 0))
	}
	ctx, cancel := context.WithCancel(within(t))
	err = c.Run(ctx, func(_ context.Context, r client.Record) error {
		if seen = append(seen, r.Offset); r.Offset == 19 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || len(seen) != 20 || seen[9] != 9 {
		t.Fatalf("%v after %v", err, seen)
	}
}

func TestPausedPartitionIsNotReadUntilResumed(t *testing.T) {
	b := newBench(t, 2)
	b.fill("matches", 0, 100, 10)
	c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches"}, {Topic: "matches", Partition: 1}}})
	next := map[client.Partition]client.Offset{}
	read(t, c, next, 15, 15)
	c.Pause("matches", 0)
	b.fill("matches", 1, 20, 10)
	read(t, c, next, 20, 100)
	if next[0] != 15 || next[1] != 20 {
		t.Fatalf("read up to %v", next)
	}
	c.Resume("matches", 0)
	read(t, c, next, 85, 100)
}

func TestSeekMovesBothWays(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 100, 10)
	c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches"}}})
	read(t, c, map[client.Partition]client.Offset{}, 25, 25)
	for _, to := range []client.Offset{3, 88} {
		if err := c.Seek("matches", 0, client.At(to)); err != nil {
			t.Fatal(err)
		}
		read(t, c, map[client.Partition]client.Offset{0: to}, 10, 4)
	}
	if err := c.Seek("matches", 7, client.At(0)); err == nil {
		t.Error("seek of a partition that is not assigned was accepted")
	}
}

func TestOutOfRangeFollowsThePolicy(t *testing.T) {
	for policy, want := range map[client.OutOfRange]client.Offset{
		client.OutOfRangeError: -1, client.OutOfRangeEarliest: 30, client.OutOfRangeLatest: 60,
	} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			b := newBench(t, 1)
			b.fill("matches", 0, 60, 10)
			b.mu.Lock()
			b.topics["matches"].partitions[0].start = 30
			b.mu.Unlock()
			c := b.consumer(t, client.ConsumerConfig{
				Partitions: []client.Assignment{{Topic: "matches", Start: client.At(5)}}, OutOfRange: policy,
			})
			if want < 0 {
				for range 2 { // it is answered until something is done about it
					if _, err := c.Poll(within(t), 10); !errors.Is(err, client.ErrOutOfRange) {
						t.Fatalf("got %v", err)
					}
				}
				if err := c.Seek("matches", 0, client.At(30)); err != nil {
					t.Fatal(err)
				}
				want = 30
			}
			if policy == client.OutOfRangeLatest {
				go func() {
					_ = b.until(context.Background(), func() bool { return b.calls["ListOffsets"] > 0 && b.calls["Fetch"] > 1 })
					b.fill("matches", 0, 5, 5)
				}()
			}
			read(t, c, map[client.Partition]client.Offset{0: want}, 5, 10)
		})
	}
}

func TestAddedPartitionsAreReadFromTheirBeginning(t *testing.T) {
	b := newBench(t, 1)
	c := b.consumer(t, client.ConsumerConfig{Start: client.Latest(), MetadataAge: 100 * time.Millisecond})
	if err := b.until(within(t), func() bool { return b.calls["Fetch"] > 0 }); err != nil {
		t.Fatal(err)
	}
	b.addTopic("matches", 2)
	b.fill("matches", 1, 10, 10)
	read(t, c, map[client.Partition]client.Offset{}, 10, 10)
}

func TestUnknownTopicIsToldAndATopicThatComesIsRead(t *testing.T) {
	b := newBench(t, 1)
	c := b.consumer(t, client.ConsumerConfig{Topics: []string{"later"}})
	if _, err := c.Poll(within(t), 1); !errors.Is(err, client.ErrUnknownTopic) {
		t.Fatalf("got %v", err)
	}
	b.addTopic("later", 1)
	b.fill("later", 0, 3, 3)
	ctx := within(t)
	for {
		records, err := c.Poll(ctx, 10)
		if err == nil && len(records) == 3 {
			return
		}
		if !errors.Is(err, client.ErrUnknownTopic) {
			t.Fatalf("got %d records, %v", len(records), err)
		}
	}
}

func TestTopicDeletedUnderAConsumerIsToldAfterWhatWasFetched(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	c := b.consumer(t, client.ConsumerConfig{})
	read(t, c, map[client.Partition]client.Offset{}, 10, 10)
	b.dropTopic("matches")
	if _, err := c.Poll(within(t), 1); !errors.Is(err, client.ErrUnknownTopic) {
		t.Fatalf("got %v", err)
	}
}

func TestDamagedBatchIsFetchedAgainAndNeverSkipped(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 100, 10)
	b.damage = 2
	c := b.consumer(t, client.ConsumerConfig{})
	read(t, c, map[client.Partition]client.Offset{}, 100, 10)

	b.mu.Lock()
	b.damage = 1 << 30
	b.mu.Unlock()
	b.fill("matches", 0, 1, 1)
	if _, err := c.Poll(within(t), 1); !errors.Is(err, objectlog.ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	if got := c.Position("matches", 0); got != 100 {
		t.Errorf("position %d, want 100", got)
	}
}

func TestMissingBatchIsToldAndNotSkipped(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 30, 10)
	b.mu.Lock()
	p := b.topics["matches"].partitions[0]
	p.batches = append(p.batches[:1:1], p.batches[2])
	b.mu.Unlock()
	c := b.consumer(t, client.ConsumerConfig{})
	read(t, c, map[client.Partition]client.Offset{}, 10, 10)
	if _, err := c.Poll(within(t), 1); !errors.Is(err, objectlog.ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestSeekDuringAFetchIgnoresWhatItBrings(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	b.holdFetch = make(chan struct{})
	c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches", Start: client.At(0)}}})
	if err := b.until(within(t), func() bool { return b.calls["Fetch"] > 0 }); err != nil {
		t.Fatal(err)
	}
	if err := c.Seek("matches", 0, client.At(5)); err != nil {
		t.Fatal(err)
	}
	close(b.holdFetch)
	read(t, c, map[client.Partition]client.Offset{0: 5}, 5, 10)
}

func TestConsumerOutlivesFailuresOfTheConnection(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b, end := openBench(rt, 3)
		defer end()
		every := rapid.IntRange(2, 6).Draw(rt, "a failure every")
		n := 0
		b.refuse = func(call string) error {
			if n++; n%every == 0 {
				return connect.NewError(connect.CodeUnavailable, errors.New("no agent"))
			}
			return nil
		}
		for p := range 3 {
			b.fill("matches", p, 200, rapid.IntRange(1, 50).Draw(rt, "per batch"))
		}
		c, err := b.client.NewConsumer(client.ConsumerConfig{
			Topics: []string{"matches"}, FetchBytes: 4 << 10, FetchWait: 20 * time.Millisecond,
		})
		if err != nil {
			rt.Fatalf("NewConsumer: %v", err)
		}
		defer c.Close()
		next := map[client.Partition]client.Offset{}
		read(t, c, next, 300, rapid.IntRange(1, 100).Draw(rt, "poll"))
		for p := range 3 {
			b.fill("matches", p, 20, 7)
		}
		read(t, c, next, 360, 100)
	})
}

func TestPollEndsWithItsContextAndNamesTheLastError(t *testing.T) {
	b := newBench(t, 1)
	b.refuse = func(string) error { return connect.NewError(connect.CodeUnavailable, errors.New("no agent")) }
	c := b.consumer(t, client.ConsumerConfig{Partitions: []client.Assignment{{Topic: "matches", Start: client.At(0)}}})
	if err := b.until(within(t), func() bool { return b.calls["Fetch"] > 2 }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Poll(ctx, 1)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no agent") {
		t.Fatalf("got %v", err)
	}
}

func TestCloseEndsAPollThatWaits(t *testing.T) {
	b := newBench(t, 1)
	c := b.consumer(t, client.ConsumerConfig{})
	polled := make(chan error, 1)
	go func() {
		_, err := c.Poll(context.Background(), 1)
		polled <- err
	}()
	if err := b.until(within(t), func() bool { return b.calls["Fetch"] > 0 }); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-polled; !errors.Is(err, client.ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestPrefetchStaysWithinItsBound(t *testing.T) {
	b := newBench(t, 4)
	for p := range 4 {
		b.fill("matches", p, 200_000, 5000) // about 1 MB each as stored
	}
	c := b.consumer(t, client.ConsumerConfig{PrefetchBytes: 1 << 20, FetchBytes: 128 << 10})
	read(t, c, map[client.Partition]client.Offset{}, 800_000, 10_000)
	if got := c.Position("matches", 0); got == client.NoOffset {
		t.Error("no position after reading all")
	}
}

func TestConsumerConfigNamesEveryProblem(t *testing.T) {
	err := client.ConsumerConfig{
		Topics: []string{"a"}, Partitions: []client.Assignment{{Topic: "a"}, {Topic: "b"}, {Topic: "b"}},
		OutOfRange: 9, PrefetchBytes: 5, Fetches: 100, FetchWait: time.Hour,
	}.Validate()
	var missing []string
	for _, field := range []string{"Partitions[0]", "Partitions[2]", "OutOfRange", "PrefetchBytes", "Fetches", "FetchWait"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			missing = append(missing, field)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%v does not name %v", err, missing)
	}
}
