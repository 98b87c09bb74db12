package agent

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func at(topic string, p objectlog.Partition, o objectlog.Offset) FetchPartition {
	return FetchPartition{Topic: topic, Partition: p, Start: Start{Kind: StartOffset, Offset: o}}
}

// filled is an agent without anything in its cache, and a topic with one batch per value.
func filled(t *testing.T, s stores, texts ...string) running {
	t.Helper()
	a := start(t, s, testConfig())
	a.topic(t, "orders", 2)
	for _, v := range texts {
		if r := a.produce(t, values("orders", 0, v)); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	a.stop()
	return start(t, s, testConfig())
}

func TestLongPollIsWokenByTheCommit(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 2)
	fetched := make(chan FetchedPartition)
	go func() {
		fetched <- a.Fetch(t.Context(), FetchRequest{Wait: 20 * time.Second, Partitions: []FetchPartition{at("orders", 1, 0)}})[0]
	}()
	if r := a.produce(t, values("orders", 1, "a")); r.Err != nil {
		t.Fatal(r.Err)
	}
	if f := <-fetched; f.Err != nil || f.Next != 1 || decode(t, f)[0] != "a" {
		t.Errorf("fetched %+v", f)
	}
}

func TestFetchWaitsForTheLeastBytesAsLongAsItMay(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	a.produce(t, values("orders", 0, "a"))
	began := time.Now()
	f := a.Fetch(t.Context(), FetchRequest{Wait: 100 * time.Millisecond, BytesMin: 1 << 20, Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	if f.Err != nil || f.Next != 1 || time.Since(began) < 100*time.Millisecond {
		t.Errorf("fetched %+v after %v, want what there is after 100 ms", f, time.Since(began))
	}
	f = a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 1)}})[0]
	if f.Err != nil || f.Next != 1 || f.From != 1 || f.HighWatermark != 1 || len(f.Batches) != 0 {
		t.Errorf("at the high watermark: %+v, want an empty answer", f)
	}
}

func TestDrainEndsLongPollsAndFailsReadiness(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	fetched := make(chan FetchedPartition)
	go func() {
		fetched <- a.Fetch(t.Context(), FetchRequest{Wait: time.Hour, Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	}()
	a.Drain()
	if f := <-fetched; f.Err != nil || f.Next != 0 {
		t.Errorf("fetched %+v, want an empty answer with where to go on", f)
	}
	wantErr(t, "ready", a.Ready(), Draining)
	if r := a.produce(t, values("orders", 0, "a")); r.Err != nil {
		t.Errorf("produce while draining: %v", r.Err)
	}
}

func TestWrongPartitionsAreAnsweredEarlyBesideTheOthers(t *testing.T) {
	a := filled(t, newStores(), "a", "b")
	f := a.Fetch(t.Context(), FetchRequest{Wait: time.Hour, Partitions: []FetchPartition{
		at("orders", 0, 3), at("none", 0, 0), at("orders", 2, 0), at("orders", 1, 0)}})
	wantErr(t, "beyond the end", f[0].Err, OutOfRange)
	wantErr(t, "unknown topic", f[1].Err, metadata.ReasonUnknownTopic)
	wantErr(t, "unknown partition", f[2].Err, metadata.ReasonUnknownTopic)
	wantErr(t, "beside them", f[3].Err, nil)
	if e, ok := f[0].Err.(*Error); !ok || e.Details["high_watermark"] != "2" || e.Details["log_start"] != "0" {
		t.Errorf("error %#v, want details of the log", f[0].Err)
	}
	if _, err := a.TrimPartition(t.Context(), "orders", 0, 1); err != nil {
		t.Fatal(err)
	}
	f = a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})
	wantErr(t, "below the log start", f[0].Err, OutOfRange)
}

func TestStartsAreFound(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 1)
	for i := range 5 {
		b := values("orders", 0, fmt.Sprint(2*i), fmt.Sprint(2*i+1))
		b.Records[0].Timestamp, b.Records[1].Timestamp = objectlog.Timestamp(100*i), objectlog.Timestamp(100*i+50)
		if r := a.produce(t, b); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, c := range []struct {
		start Start
		from  objectlog.Offset
		time  objectlog.Timestamp
	}{
		{Start{Kind: StartEarliest}, 0, -1},
		{Start{Kind: StartLatest}, 10, -1},
		{Start{Kind: StartOffset, Offset: 4}, 4, -1},
		{Start{Kind: StartTail, Tail: 3}, 7, -1},
		{Start{Kind: StartTail, Tail: 300}, 0, -1},
		{Start{Kind: StartTime, Time: 0}, 0, 0},
		{Start{Kind: StartTime, Time: 201}, 5, 250},
		{Start{Kind: StartTime, Time: 300}, 6, 300},
		{Start{Kind: StartTime, Time: 451}, 10, -1},
	} {
		p := FetchPartition{Topic: "orders", Start: c.start}
		found := a.ListOffsets(t.Context(), []FetchPartition{p})[0]
		if found.Err != nil || found.Offset != c.from || found.Timestamp != c.time || found.HighWatermark != 10 {
			t.Errorf("offset of %+v: %+v, want %d at %d", c.start, found, c.from, c.time)
		}
		f := a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{p}})[0]
		if f.Err != nil || f.From != c.from || f.Next != 10 {
			t.Errorf("fetch from %+v: %+v, want [%d, 10)", c.start, f, c.from)
		}
		decode(t, f)
	}
	if _, err := a.TrimPartition(t.Context(), "orders", 0, 9); err != nil {
		t.Fatal(err)
	}
	found := a.ListOffsets(t.Context(), []FetchPartition{{Topic: "orders", Partition: AnyPartition, Start: Start{Kind: StartTime, Time: 0}}})
	if len(found) != 1 || found[0].Offset != 9 || found[0].Timestamp != 450 || found[0].LogStart != 9 {
		t.Errorf("found %+v, want the first record that is not trimmed", found)
	}
	out := a.ListOffsets(t.Context(), []FetchPartition{at("orders", 0, 3)})
	wantErr(t, "offset below the log start", out[0].Err, OutOfRange)
}

func TestFetchKeepsToItsBytesButAlwaysBringsOneBatch(t *testing.T) {
	var texts []string
	for range 10 {
		texts = append(texts, strings.Repeat("v", 100))
	}
	a := filled(t, newStores(), texts...)
	one := a.Fetch(t.Context(), FetchRequest{BytesMax: 1, Partitions: []FetchPartition{at("orders", 0, 2)}})[0]
	if len(one.Batches) != 1 || one.Next != 3 {
		t.Errorf("fetched %+v, want one batch", one)
	}
	size := int64(len(one.Batches[0]))
	f := a.Fetch(t.Context(), FetchRequest{BytesMax: 3*size + 1, Partitions: []FetchPartition{at("orders", 0, 2), at("orders", 0, 0)}})
	if len(f[0].Batches) != 3 || len(f[1].Batches) != 0 || f[1].Next != 0 {
		t.Fatalf("fetched %d and %d batches, want 3 and none", len(f[0].Batches), len(f[1].Batches))
	}
	if first, second := f[0].Batches[0], f[0].Batches[1]; &first[:size+1][size] != &second[0] {
		t.Error("batches of one read do not lie together")
	}
}

// segmentKeys answers the keys of all segments.
func (s stores) segmentKeys(t *testing.T) []string {
	t.Helper()
	objects, err := s.bucket.List(t.Context(), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range objects {
		if strings.Contains(o.Key, "/seg/") {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

func TestMissingOrDamagedSegmentIsDataLostAndNeverSkipped(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"deleted":   func([]byte) []byte { return nil },
		"truncated": func(b []byte) []byte { return b[:40] },
		"bit flipped": func(b []byte) []byte {
			b = slices.Clone(b)
			for i := range b {
				b[i] ^= 4
			}
			return b
		},
		"another one's content": func(b []byte) []byte { return []byte(strings.Repeat("other", len(b))) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStores()
			a := filled(t, s, "a")
			s.bucket.Edit(s.segmentKeys(t)[0], change)
			if r := a.produce(t, values("orders", 0, "b")); r.Err != nil {
				t.Fatal(r.Err)
			}
			f := a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
			wantErr(t, "fetch of the damaged batch", f.Err, DataLost)
			if len(f.Batches) != 0 {
				t.Errorf("%d batches were served", len(f.Batches))
			}
			if f := a.fetchOne(t, "orders", 1); decode(t, f)[0] != "b" {
				t.Error("the batch behind it is not served")
			}
		})
	}
}

func TestRecordsBeforeADamagedSegmentAreServed(t *testing.T) {
	s := newStores()
	a := filled(t, s, "a")
	before := s.segmentKeys(t)
	if r := a.produce(t, values("orders", 0, "b")); r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, key := range s.segmentKeys(t) {
		if !slices.Contains(before, key) {
			s.bucket.Edit(key, func([]byte) []byte { return nil })
		}
	}
	a.stop()
	a = start(t, s, testConfig()) // with an empty cache
	f := a.fetchOne(t, "orders", 0)
	if got := decode(t, f); len(got) != 1 || got[0] != "a" || f.Next != 1 {
		t.Errorf("got %v, next %d, want the record before the damage", got, f.Next)
	}
	lost := a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 1)}})[0]
	wantErr(t, "fetch from the damage on", lost.Err, DataLost)
}

func TestWholeBatchOfAnotherOffsetIsDataLost(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	a.topic(t, "orders", 1)
	a.produce(t, values("orders", 0, "a"))
	first := s.segmentKeys(t)[0]
	a.produce(t, values("orders", 0, "b"))
	for _, key := range s.segmentKeys(t) {
		if key != first {
			other, err := s.bucket.Get(t.Context(), key, objectlog.Extent{})
			if err != nil {
				t.Fatal(err)
			}
			s.bucket.Edit(first, func([]byte) []byte { return other })
		}
	}
	a.stop()
	f := start(t, s, testConfig()).Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	wantErr(t, "fetch of a batch that was replaced by another", f.Err, DataLost)
}

func TestReadThatFailsOnceIsRepairedByLookingAgain(t *testing.T) {
	for _, fault := range []objmem.Fault{objmem.NotFound, objmem.Corrupt} {
		s := newStores()
		a := filled(t, s, "a")
		var once sync.Once
		s.failBucket(func(r objmem.Request) (f objmem.Fault) {
			if r.Op == objmem.OpGet && strings.Contains(r.Key, "/seg/") {
				once.Do(func() { f = fault })
			}
			return f
		})
		if f := a.fetchOne(t, "orders", 0); decode(t, f)[0] != "a" {
			t.Errorf("%v: fetched %+v", fault, f)
		}
	}
}

func TestStoreThatIsAwayIsUnavailableNotLost(t *testing.T) {
	s := newStores()
	a := filled(t, s, "a")
	s.failBucket(func(r objmem.Request) objmem.Fault {
		if r.Op == objmem.OpGet {
			return objmem.FailBefore
		}
		return objmem.None
	})
	f := a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	wantErr(t, "fetch", f.Err, Unavailable)
}

func TestManyReadersOfASegmentCostOneGet(t *testing.T) {
	s := newStores()
	a := filled(t, s, "a")
	before := s.bucket.Count(objmem.OpGet)
	release := make(chan struct{})
	s.failBucket(func(r objmem.Request) objmem.Fault {
		<-release
		return objmem.None
	})
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() { a.read(t, "orders", 0, 0, 1) })
	}
	close(release)
	wait.Wait()
	want(t, "gets", s.bucket.Count(objmem.OpGet)-before, 1)
}

func TestReplayOfOldDataDoesNotHoldUpTailReaders(t *testing.T) {
	a := filled(t, newStores(), "old", "new")
	for range catchUpReads {
		a.blocks.catchUp <- struct{}{} // as many GETs of old data as may be in flight
	}
	old := make(chan FetchedPartition)
	go func() {
		old <- a.Fetch(t.Context(), FetchRequest{BytesMax: 1, Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	}()
	want(t, "read at the tail", decode(t, a.fetchOne(t, "orders", 1))[0], "new")
	select {
	case f := <-old:
		t.Errorf("a read of old data did not wait for its pool: %+v", f)
	default:
	}
	<-a.blocks.catchUp
	want(t, "old data", decode(t, <-old)[0], "old")
	for range catchUpReads - 1 {
		<-a.blocks.catchUp
	}
}

func TestReadersOfManyPartitionsOfASegmentCostFewRequests(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	a.topic(t, "wide", 64)
	r := ProduceRequest{Producer: nobody}
	for p := range 64 {
		r.Batches = append(r.Batches, values("wide", objectlog.Partition(p), fmt.Sprint(p)))
	}
	a.Submit(t.Context(), r).Wait(t.Context())
	a.stop()
	a = start(t, s, testConfig())
	gets, stats := s.bucket.Count(objmem.OpGet), s.bucket.Count(objmem.OpStat)
	for p := range 64 {
		want(t, "value", a.read(t, "wide", objectlog.Partition(p), 0, 1)[0], fmt.Sprint(p))
	}
	if g, st := s.bucket.Count(objmem.OpGet)-gets, s.bucket.Count(objmem.OpStat)-stats; g > 2 || st > 1 {
		t.Errorf("%d gets and %d stats for 64 partitions read one by one, want 2 and 1", g, st)
	}
	f := start(t, s, testConfig()).Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: "wide", Partition: AnyPartition}}})
	want(t, "partitions", len(f), 64)
	for _, one := range f {
		want(t, "value", decode(t, one)[0], fmt.Sprint(one.Partition))
	}
}

func TestBatchesAcrossBlockBordersAreWhole(t *testing.T) {
	s := newStores()
	cfg := testConfig()
	a := start(t, s, cfg)
	a.topic(t, "orders", 1, "max.message.bytes", "4000000", "compression.type", "uncompressed")
	var texts []string
	b := values("orders", 0)
	for i := range 60 {
		texts = append(texts, strings.Repeat(fmt.Sprintf("%04d", i), 30_000))
	}
	b.Records = values("", 0, texts...).Records
	if r := a.produce(t, b); r.Err != nil {
		t.Fatal(r.Err)
	}
	check := func(a running) {
		t.Helper()
		got := a.read(t, "orders", 0, 0, 60)
		for i := range texts {
			if got[i] != texts[i] {
				t.Fatalf("record %d differs", i)
			}
		}
	}
	check(a)
	a.stop()
	check(start(t, s, cfg))
}

func TestIdlePartitionsCostNoRequestsAndNoGoroutines(t *testing.T) {
	s := newStores()
	tr := record(s)
	a := start(t, s, testConfig())
	a.topic(t, "small", 1)
	goroutines := runtime.NumGoroutine()
	for i := range 10 {
		a.topic(t, fmt.Sprintf("idle-%d", i), 10_000)
	}
	tr.take()
	a.retainOnce(t.Context())
	for range 3 {
		if r := a.produce(t, values("small", 0, "a")); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if n := strings.Count(tr.take(), "\n"); n != 6 {
		t.Errorf("%d requests for 3 records beside 100,000 idle partitions, want 6", n)
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines, %d before the idle partitions", n, goroutines)
	}
}

func TestRetentionTrimsByTimeAndByBytes(t *testing.T) {
	cfg := testConfig()
	now := objectlog.Timestamp(1_000_000)
	cfg.Wall = func() objectlog.Timestamp { return now }
	a := start(t, newStores(), cfg)
	a.topic(t, "timed", 1, "retention.ms", "1000")
	a.topic(t, "sized", 1, "retention.bytes", "250")
	a.topic(t, "kept", 1, "retention.ms", "-1")
	for i := range 5 {
		for _, name := range []string{"timed", "sized", "kept"} {
			b := values(name, 0, strings.Repeat("x", 20))
			b.Records[0].Timestamp = now - objectlog.Timestamp(400*(4-i))
			if r := a.produce(t, b); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	a.retainOnce(t.Context())
	starts := make(map[string]objectlog.Offset)
	for _, name := range []string{"timed", "sized", "kept"} {
		starts[name] = a.ListOffsets(t.Context(), []FetchPartition{{Topic: name}})[0].LogStart
	}
	if starts["timed"] != 2 || starts["kept"] != 0 {
		t.Errorf("log starts %v, want 2 of timed (1000 ms of 400 ms steps) and 0 of kept", starts)
	}
	size := int64(len(a.fetchOne(t, "sized", 4).Batches[0]))
	if kept := 5 - int64(starts["sized"]); kept*size < 250 || (kept-1)*size >= 250 {
		t.Errorf("%d batches of %d bytes are kept, want as many as hold 250 bytes", kept, size)
	}
}

func TestReadOfWholeTopicsIsBounded(t *testing.T) {
	s := newStores()
	a := start(t, s, testConfig())
	a.topic(t, "large", partitionsMax)
	whole := FetchPartition{Topic: "large", Partition: AnyPartition}
	found := a.ListOffsets(t.Context(), []FetchPartition{whole, whole, whole})
	want(t, "partitions", len(found), targetsMax+1)
	wantErr(t, "the last that fits", found[targetsMax-1].Err, nil)
	wantErr(t, "one topic too many", found[targetsMax].Err, InvalidRequest)
}
