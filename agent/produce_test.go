package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func encoded(t *testing.T, codec objectlog.Codec, p Producer, sequence int32, texts ...string) []byte {
	t.Helper()
	records := values("", 0, texts...).Records
	for i := range records {
		records[i].Timestamp = 1000
	}
	b, err := objectlog.EncodeBatch(nil, records, objectlog.BatchOptions{Codec: codec, LogAppendTime: objectlog.NoTimestamp,
		ProducerID: p.ID, ProducerEpoch: p.Epoch, FirstSequence: sequence})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encodedBatch(topic string, p objectlog.Partition, b []byte) ProduceBatch {
	return ProduceBatch{Topic: topic, Partition: p, Encoded: b, Expected: objectlog.NoOffset, FirstSequence: -1}
}

var nobody = Producer{ID: objectlog.NoProducer, Epoch: -1}

func TestWrongBatchesAreRefusedAndNeverFailTheirNeighbours(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 2, "max.message.bytes", "2000")
	good := encoded(t, objectlog.CodecNone, nobody, -1, "x")
	corrupt := bytes.Clone(good)
	corrupt[len(corrupt)-1] ^= 1
	with := func(b ProduceBatch, change func(*ProduceBatch)) ProduceBatch { change(&b); return b }
	cases := []struct {
		name string
		b    ProduceBatch
		want error
	}{
		{"no name", values("", 0, "a"), InvalidTopic},
		{"bad name", values("a/b", 0, "a"), InvalidTopic},
		{"neither records nor encoded", values("orders", 0), InvalidRequest},
		{"both", with(values("orders", 0, "a"), func(b *ProduceBatch) { b.Encoded = good }), InvalidRequest},
		{"negative partition", values("orders", -2, "a"), InvalidRequest},
		{"encoded for any partition", encodedBatch("orders", AnyPartition, good), InvalidRequest},
		{"expected for any partition", with(values("orders", AnyPartition, "a"), func(b *ProduceBatch) { b.Expected = 0 }), InvalidRequest},
		{"negative expected", with(values("orders", 0, "a"), func(b *ProduceBatch) { b.Expected = -2 }), InvalidRequest},
		{"sequence without producer", with(values("orders", 0, "a"), func(b *ProduceBatch) { b.FirstSequence = 0 }), InvalidRequest},
		{"unknown topic", values("none", 0, "a"), metadata.ReasonUnknownTopic},
		{"unknown partition", values("orders", 2, "a"), metadata.ReasonUnknownTopic},
		{"record too large", values("orders", 0, strings.Repeat("a", 2000)), objectlog.ErrTooLarge},
		{"negative time", with(values("orders", 0, "a"), func(b *ProduceBatch) { b.Records[0].Timestamp = -5 }), objectlog.ErrInvalid},
		{"corrupt", encodedBatch("orders", 0, corrupt), objectlog.ErrCorrupt},
		{"garbage", encodedBatch("orders", 0, []byte("garbage")), objectlog.ErrCorrupt},
		{"encoded too large", encodedBatch("orders", 0, encoded(t, objectlog.CodecNone, nobody, -1, strings.Repeat("a", 2000))), objectlog.ErrTooLarge},
	}
	r := ProduceRequest{Producer: nobody}
	for _, c := range cases {
		r.Batches = append(r.Batches, c.b, values("orders", 0, "good"))
	}
	results := a.Submit(t.Context(), r).Wait(t.Context())
	for i, c := range cases {
		wantErr(t, c.name, results[2*i].Err, c.want)
		if n := results[2*i+1]; n.Err != nil || len(n.Positions) != 1 {
			t.Errorf("%s: its neighbour got %+v", c.name, n)
		}
	}
	want(t, "records in the log", len(a.read(t, "orders", 0, 0, len(cases))), len(cases))
}

func TestRecordsGoToThePartitionOfTheirKey(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 5)
	b := values("orders", AnyPartition)
	for i := range 40 {
		b.Records = append(b.Records, objectlog.Record{Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, i), Timestamp: 7})
	}
	r := a.produce(t, b)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	for i, p := range r.Positions {
		want(t, "partition", p.Partition, objectlog.PartitionFor(b.Records[i].Key, 5))
		got := a.read(t, "orders", p.Partition, p.Offset, 1)[0]
		want(t, "value at its position", got, fmt.Sprint(i))
	}
}

func TestBatchesWithoutKeyGoRoundThePartitions(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 3)
	seen := make(map[objectlog.Partition]int)
	for range 6 {
		r := a.produce(t, values("orders", AnyPartition, "a", "b"))
		if r.Err != nil || r.Positions[0].Partition != r.Positions[1].Partition {
			t.Fatalf("result %+v, want both records in one partition", r)
		}
		seen[r.Positions[0].Partition]++
	}
	if !maps.Equal(seen, map[objectlog.Partition]int{0: 2, 1: 2, 2: 2}) {
		t.Errorf("batches per partition %v", seen)
	}
}

func TestExpectedOffsetIsCompareAndAppend(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	b := values("orders", 0, "a", "b")
	b.Expected = 0
	if r := a.produce(t, b); r.Err != nil || r.Positions[1].Offset != 1 {
		t.Fatalf("at the next offset: %+v", r)
	}
	r := a.produce(t, b)
	wantErr(t, "again", r.Err, metadata.ReasonOffsetMismatch)
	e, ok := r.Err.(*Error)
	if !ok || e.Details["actual"] != "2" {
		t.Errorf("error %#v, want detail actual 2", r.Err)
	}
}

func TestSequencesMakeProduceIdempotent(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	p, err := a.InitProducer(t.Context(), Producer{ID: objectlog.NoProducer})
	if err != nil {
		t.Fatal(err)
	}
	send := func(p Producer, sequence int32, texts ...string) ProduceResult {
		b := values("orders", 0, texts...)
		b.FirstSequence = sequence
		return a.Submit(t.Context(), ProduceRequest{Batches: []ProduceBatch{b}, Producer: p}).Wait(t.Context())[0]
	}
	first := send(p, 0, "a", "b")
	again := send(p, 0, "a", "b")
	if first.Err != nil || again.Err != nil || !again.Duplicate || first.Duplicate || !slices.Equal(first.Positions, again.Positions) {
		t.Errorf("first %+v, again %+v; want the original positions", first, again)
	}
	wantErr(t, "gap", send(p, 5, "x").Err, metadata.ReasonSequenceGap)
	old := p
	p.Epoch++
	if r := send(p, 0, "c"); r.Err != nil || r.Positions[0].Offset != 2 {
		t.Errorf("new epoch: %+v", r)
	}
	wantErr(t, "fenced", send(old, 2, "x").Err, metadata.ReasonFencedProducer)
	r := a.Submit(t.Context(), ProduceRequest{Batches: []ProduceBatch{encodedBatch("orders", 0, encoded(t, objectlog.CodecLZ4, p, 1, "d"))}, Producer: nobody})
	if got := r.Wait(t.Context())[0]; got.Err != nil || len(got.Positions) != 1 || got.Positions[0].Offset != 3 {
		t.Errorf("encoded with its own producer: %+v", got)
	}
}

// fetchOne answers the stored batches of partition 0 from an offset on.
func (r running) fetchOne(t *testing.T, topic string, from objectlog.Offset) FetchedPartition {
	t.Helper()
	f := r.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: topic, Start: Start{Kind: StartOffset, Offset: from}}}})[0]
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	return f
}

func header(t *testing.T, b []byte) objectlog.BatchHeader {
	t.Helper()
	h, err := objectlog.ParseBatchHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEncodedBatchesAreStoredAsTheyCameAndPatchedWhenServed(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	a.produce(t, values("orders", 0, "before"))
	b := encoded(t, objectlog.CodecGzip, nobody, -1, "x", "y")
	if r := a.produce(t, encodedBatch("orders", 0, b)); r.Err != nil || len(r.Positions) != 1 || r.Positions[0].Offset != 1 {
		t.Fatalf("result %+v, want base offset 1", r)
	}
	got := a.fetchOne(t, "orders", 1).Batches[0]
	h := header(t, got)
	want(t, "base offset", h.BaseOffset, 1)
	if h.LeaderEpoch < 1 || !bytes.Equal(got[16:], b[16:]) {
		t.Errorf("served with leader epoch %d; bytes behind the two patched fields equal: %v", h.LeaderEpoch, bytes.Equal(got[16:], b[16:]))
	}
}

func TestTopicSettingsDecideTimeAndCompression(t *testing.T) {
	cfg := testConfig()
	cfg.Wall = func() objectlog.Timestamp { return 5000 }
	a := start(t, newStores(), cfg)
	for _, c := range []struct {
		topic, setting, value string
		codec                 objectlog.Codec // of an encoded batch that came with lz4
		recordsCodec          objectlog.Codec
		time                  objectlog.Timestamp
	}{
		{"plain", "compression.type", "producer", objectlog.CodecLZ4, objectlog.CodecSnappy, 1000},
		{"zipped", "compression.type", "zstd", objectlog.CodecZstd, objectlog.CodecZstd, 1000},
		{"bare", "compression.type", "uncompressed", objectlog.CodecNone, objectlog.CodecNone, 1000},
		{"stamped", "message.timestamp.type", "LogAppendTime", objectlog.CodecLZ4, objectlog.CodecSnappy, 5000},
	} {
		a.topic(t, c.topic, 1, c.setting, c.value)
		p := Producer{ID: 9, Epoch: 1}
		first := a.produce(t, encodedBatch(c.topic, 0, encoded(t, objectlog.CodecLZ4, p, 0, "x", "y")))
		second := a.produce(t, values(c.topic, 0, "z"))
		if first.Err != nil || second.Err != nil {
			t.Fatal(first.Err, second.Err)
		}
		f := a.fetchOne(t, c.topic, 0)
		h := header(t, f.Batches[0])
		want(t, c.topic+": codec of encoded", h.Codec, c.codec)
		want(t, c.topic+": time of encoded", h.MaxTimestamp, c.time)
		want(t, c.topic+": producer of encoded", h.ProducerID, 9)
		want(t, c.topic+": codec of records", header(t, f.Batches[1]).Codec, c.recordsCodec)
		want(t, c.topic+": time of arrival of records", header(t, f.Batches[1]).MaxTimestamp, 5000)
		wanted := objectlog.NoTimestamp
		if c.time == 5000 {
			wanted = 5000
		}
		want(t, c.topic+": append time", first.AppendTime, wanted)
		want(t, c.topic+": append time of records", second.AppendTime, wanted)
		decode(t, f)
	}
}

func TestUnknownTopicIsCreatedOnProduceIfAskedFor(t *testing.T) {
	cfg := testConfig()
	cfg.AutoCreate, cfg.AutoPartitions = true, 3
	a := start(t, newStores(), cfg)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if r := a.produce(t, values("new", objectlog.Partition(i%3), "a")); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
	wait.Wait()
	if topic, err := a.Topic(t.Context(), "new"); err != nil || topic.Partitions != 3 {
		t.Errorf("topic %+v, %v", topic, err)
	}
	wantErr(t, "a partition beyond", a.produce(t, values("other", 3, "a")).Err, metadata.ReasonUnknownTopic)
}

func TestConcurrentProducersGetDistinctOffsetsInTheirOwnOrder(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	const producers, each = 8, 50
	var wait sync.WaitGroup
	for n := range producers {
		wait.Go(func() {
			var pending []*Pending
			for i := range each {
				pending = append(pending, a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, fmt.Sprintf("%d:%03d", n, i))}}))
			}
			for _, p := range pending {
				if r := p.Wait(t.Context())[0]; r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	wait.Wait()
	last := make(map[string]string)
	for _, v := range a.read(t, "orders", 0, 0, producers*each) {
		producer, _, _ := strings.Cut(v, ":")
		if v <= last[producer] {
			t.Errorf("%s comes behind %s", v, last[producer])
		}
		last[producer] = v
	}
}

// Rows of the crash table for the two writes of the write path: the segment's PUT and the entry's put, each with and
// without effect, late and twice. Every record is in the log once, and nothing is acknowledged twice.
func TestEveryOutcomeOfTheWritesLeavesOneRecord(t *testing.T) {
	segment := map[string]objmem.Fault{"before": objmem.FailBefore, "after": objmem.FailAfter, "hold": objmem.Hold, "twice": objmem.Twice}
	entry := map[string]metamem.Fault{"before": metamem.FailBefore, "after": metamem.FailAfter, "hold": metamem.Hold, "twice": metamem.Twice, "throttle": metamem.Throttle}
	check := func(t *testing.T, s stores, arm func()) {
		a := start(t, s, testConfig())
		a.topic(t, "orders", 1)
		a.produce(t, values("orders", 0, "first"))
		arm()
		if r := a.produce(t, values("orders", 0, "second")); r.Err != nil || r.Positions[0].Offset != 1 || r.Duplicate {
			t.Errorf("result %+v, want offset 1", r)
		}
		for _, h := range s.bucket.Held() {
			_ = s.bucket.Release(h.N) // refused or repeated, as the store finds it
		}
		for _, h := range s.table.Held() {
			_, _ = s.table.Release(h.N)
		}
		a.stop()
		want(t, "segments in the bucket", len(s.segmentKeys(t)), 2)
		b := start(t, s, testConfig())
		if r := b.produce(t, values("orders", 0, "third")); r.Err != nil || r.Positions[0].Offset != 2 {
			t.Errorf("result after a restart %+v, want offset 2", r)
		}
		got := b.read(t, "orders", 0, 0, 3)
		if !slices.Equal(got, []string{"first", "second", "third"}) {
			t.Errorf("log %q", got)
		}
	}
	for name, f := range segment {
		t.Run("segment "+name, func(t *testing.T) {
			s := newStores()
			var once sync.Once
			armed := make(chan struct{})
			s.failBucket(func(r objmem.Request) (got objmem.Fault) {
				select {
				case <-armed:
					if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") {
						once.Do(func() { got = f })
					}
				default:
				}
				return got
			})
			check(t, s, func() { close(armed) })
		})
	}
	for name, f := range entry {
		t.Run("entry "+name, func(t *testing.T) {
			s := newStores()
			var once sync.Once
			armed := make(chan struct{})
			s.failTable(func(r metamem.Request) (got metamem.Fault) {
				select {
				case <-armed:
					if r.Op == metamem.OpPut && strings.HasPrefix(r.Key.PK, "ring#") {
						once.Do(func() { got = f })
					}
				default:
				}
				return got
			})
			check(t, s, func() { close(armed) })
		})
	}
}

func TestStoreThatStaysAwayMakesTheOutcomeUnknown(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	cfg.ProduceTimeout = 300 * time.Millisecond
	a := start(t, s, cfg)
	a.topic(t, "orders", 1)
	away := make(chan struct{})
	s.failBucket(func(r objmem.Request) objmem.Fault {
		select {
		case <-away:
			return objmem.None
		default:
			return objmem.FailBefore
		}
	})
	r := a.produce(t, values("orders", 0, "a"))
	wantErr(t, "bucket away", r.Err, OutcomeUnknown)
	want(t, "what people read", r.Err.Error(), "produce orders/0: outcome unknown: the store did not confirm the segment: injected fault")
	close(away)
	if r := a.produce(t, values("orders", 0, "b")); r.Err != nil || r.Positions[0].Offset != 0 {
		t.Errorf("bucket back: %+v", r)
	}
}

func TestFlushesByTimeAreDrivenByTheClock(t *testing.T) {
	cfg := testConfig()
	cfg.FlushFreely, cfg.FlushRate, cfg.FlushBurst = false, 50, 1
	a := start(t, newStores(), cfg)
	a.topic(t, "orders", 1)
	began := time.Now()
	for range 5 {
		if r := a.produce(t, values("orders", 0, "a")); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if d := time.Since(began); d < 80*time.Millisecond {
		t.Errorf("5 records one by one took %v, want 4 waits of 20 ms", d)
	}
}

func TestFullBufferAnswersBusyAndTakesAgainWhenThereIsRoom(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	cfg.BufferBytesMax = 1 << 20
	release := make(chan struct{})
	s.failBucket(func(r objmem.Request) objmem.Fault {
		if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") {
			<-release
		}
		return objmem.None
	})
	a := start(t, s, cfg)
	a.topic(t, "orders", 1)
	big := strings.Repeat("x", 400<<10) // the buffer has room for one: half of it is for bodies
	first := a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, big)}})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	busy := a.Submit(ended, ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, big)}}).Wait(t.Context())[0]
	wantErr(t, "full buffer", busy.Err, Busy)
	if e, ok := busy.Err.(*Error); !ok || e.RetryAfter == 0 {
		t.Errorf("error %#v, want advice when to retry", busy.Err)
	}
	undecided := first.Wait(ended)[0]
	wantErr(t, "undecided when ctx ends", undecided.Err, OutcomeUnknown)
	second := make(chan ProduceResult)
	go func() { second <- a.produce(t, values("orders", 0, big)) }()
	close(release)
	if r := first.Wait(t.Context())[0]; r.Err != nil {
		t.Error(r.Err)
	}
	if r := <-second; r.Err != nil {
		t.Error(r.Err)
	}
}

func TestRequestLargerThanTheSmallestBufferFailsForCertain(t *testing.T) {
	cfg := testConfig()
	cfg.BufferBytesMax = 8 << 20 // the least that the program takes; a request has up to 32 MiB at its edge
	a := start(t, newStores(), cfg)
	a.topic(t, "orders", 2)
	value := strings.Repeat("x", 512<<10)
	large := ProduceRequest{Producer: nobody}
	for i := range 63 {
		large.Batches = append(large.Batches, values("orders", objectlog.Partition(i%2), value))
	}
	for _, r := range a.Submit(t.Context(), large).Wait(t.Context()) {
		if !errors.Is(r.Err, objectlog.ErrTooLarge) || errors.Is(r.Err, OutcomeUnknown) || errors.Is(r.Err, Busy) {
			t.Fatalf("error %v, want only too large", r.Err)
		}
	}
	for p := range objectlog.Partition(2) {
		if r := a.produce(t, values("orders", p, value)); r.Err != nil || r.Positions[0].Offset != 0 {
			t.Errorf("a record behind it: %v, %v; want offset 0 of partition %d", r.Positions, r.Err, p)
		}
	}
}

func TestWaitForRoomEndsWithTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		cfg := testConfig()
		cfg.BufferBytesMax = 1 << 20
		a := start(t, s, cfg)
		a.topic(t, "orders", 1)
		s.failBucket(func(objmem.Request) objmem.Fault { return objmem.FailBefore })
		big := values("orders", 0, strings.Repeat("x", 400<<10))
		first := a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{big}})
		second := make(chan ProduceResult, 1)
		go func() { second <- a.produce(t, big) }()
		synctest.Wait()
		a.kill()
		wantErr(t, "waits for room", (<-second).Err, Draining)
		wantErr(t, "has its place", first.Wait(t.Context())[0].Err, OutcomeUnknown)
	})
}

func TestBatchThatIsInTheLogInPartIsUnknownNotFailed(t *testing.T) {
	p := &Pending{topics: []string{"orders"}, results: []ProduceResult{{Positions: unplaced(2, AnyPartition)}}, open: []int{2}, left: 2, done: make(chan struct{})}
	for i, reason := range []metadata.Reason{metadata.ReasonNone, metadata.ReasonUnknownTopic} {
		b := &write.Batch{Partition: objectlog.Partition(i), Records: make([]objectlog.Record, 1), Owner: &share{pending: p, index: []int32{int32(i)}}}
		p.answer(write.Answer{Batch: b, Parts: []write.Part{{Records: 1, Base: 5, Reason: reason}}})
	}
	r := p.Wait(t.Context())[0]
	wantErr(t, "half a batch", r.Err, OutcomeUnknown)
	if want := []Position{{0, 5}, {AnyPartition, objectlog.NoOffset}}; !slices.Equal(r.Positions, want) {
		t.Errorf("positions %v, want %v", r.Positions, want)
	}
}

func TestDrainAcknowledgesWhatWasTaken(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	cfg.FlushFreely, cfg.FlushRate, cfg.FlushBurst = false, 0.01, 1 // only the end of the run flushes
	a := start(t, s, cfg)
	a.topic(t, "orders", 1)
	var pending []*Pending
	for i := range 10 {
		pending = append(pending, a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, fmt.Sprint(i))}}))
	}
	a.stop()
	for i, p := range pending {
		if r := p.Wait(t.Context())[0]; r.Err != nil || r.Positions[0].Offset != objectlog.Offset(i) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	wantErr(t, "after the end", a.produce(t, values("orders", 0, "late")).Err, Draining)
	items, err := s.table.Query(t.Context(), "agents", "", 10)
	if err != nil || len(items) != 1 {
		t.Errorf("agent items %+v, %v; want only the counter", items, err)
	}
}
