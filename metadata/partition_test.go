package metadata

import (
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// filled has one partition with n batches of two records each, in segments of ten.
func filled(t testing.TB, n int) *shard {
	s := withPartitions(t, Config{}, 1, 1)
	for counter := uint64(1); n > 0; counter++ {
		var rows []objectlog.BatchRow
		for range min(n, 10) {
			rows = append(rows, plain(2))
			n--
		}
		s.commit(counter, runOf(1, 0, rows...))
	}
	return s
}

func bases(batches []LocatedBatch) []objectlog.Offset {
	var o []objectlog.Offset
	for _, b := range batches {
		o = append(o, b.Base)
	}
	return o
}

func TestBatchSaysWhereItLies(t *testing.T) {
	s := withPartitions(t, Config{}, 2, 1)
	s.commit(1, runOf(1, 0, plain(2)), runOf(2, 0, plain(3), produced(7, 1, 5, 4)))
	c := commitOf(1, 1, runOf(1, 0, plain(2)), runOf(2, 0, plain(3), produced(7, 1, 5, 4)))
	ref, _, _ := s.Reference(c)
	section, err := objectlog.DecodeSection(c.Footer, ref.Section)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range section {
		got := s.Batches(nil, r.Topic, r.Partition, 0, 1<<20)
		start, base := r.Start, objectlog.Offset(0)
		for i, w := range r.Rows {
			if w.ProducerID == objectlog.NoProducer {
				w.ProducerEpoch, w.FirstSequence = -1, -1
			}
			want(t, "batch", got[i], LocatedBatch{Base: base, Epoch: 3, Segment: ref.Segment, Start: start, Row: w})
			start, base = start+int64(w.Bytes), base+objectlog.Offset(w.Records)
		}
	}
}

func TestBatchesBeginWithTheOneThatHoldsTheOffset(t *testing.T) {
	s := filled(t, 200)
	for _, from := range []objectlog.Offset{0, 1, 2, 126, 127, 128, 129, 255, 256, 398, 399} {
		got := s.Batches(nil, id(1), 0, from, 1)
		want(t, "batches", bases(got), []objectlog.Offset{from &^ 1})
	}
	for _, from := range []objectlog.Offset{-1, 400, 401} {
		want(t, "batches outside the log", bases(s.Batches(nil, id(1), 0, from, 1<<20)), nil)
	}
}

func TestBatchesStopBeforeTheirSizeExceedsTheLimit(t *testing.T) {
	s := filled(t, 200) // 102 bytes each
	for limit, n := range map[int64]int{0: 1, 1: 1, 102: 1, 203: 1, 204: 2, 1020: 10, 1 << 40: 137} {
		if got := s.Batches(nil, id(1), 0, 126, limit); len(got) != n {
			t.Errorf("limit %d: %d batches, want %d", limit, len(got), n)
		}
	}
}

func TestBatchAtTimeIsTheFirstWithALaterRecord(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	timed := func(ms objectlog.Timestamp) objectlog.BatchRow {
		w := plain(1)
		w.MaxTimestamp = ms
		return w
	}
	counter := uint64(0)
	for _, ms := range []objectlog.Timestamp{10, 50, 30, objectlog.NoTimestamp, 70} {
		for range 50 {
			counter++
			s.commit(counter, runOf(1, 0, timed(ms)))
		}
	}
	s.do(Trim{Topic: id(1), LogStart: 20}.Command())
	for ms, base := range map[objectlog.Timestamp]objectlog.Offset{-1: 20, 0: 20, 10: 20, 11: 50, 30: 50, 50: 50, 51: 200, 70: 200} {
		got, ok := s.BatchAtTime(id(1), 0, ms)
		if !ok || got.Base != base {
			t.Errorf("at %d: offset %d, %v; want %d", ms, got.Base, ok, base)
		}
	}
	if b, ok := s.BatchAtTime(id(1), 0, 71); ok {
		t.Errorf("behind the newest record: %+v", b)
	}
	s.do(Trim{Topic: id(1), LogStart: 210}.Command())
	if got, _ := s.BatchAtTime(id(1), 0, 0); got.Base != 210 {
		t.Errorf("after the trim: offset %d", got.Base)
	}
}

func TestTrimDropsTheRowsThatEndBelowTheLogStart(t *testing.T) {
	for _, start := range []objectlog.Offset{1, 2, 3, 127, 128, 129, 130, 257, 399, 400} {
		s := filled(t, 200)
		want(t, "trim", s.do(Trim{Topic: id(1), LogStart: start}.Command()), any(TrimResult{LogStart: start}))
		rows := int(200 - start/2)
		p, _ := s.Partition(id(1), 0)
		want(t, "partition", p, PartitionState{LogStart: start, HighWatermark: 400, StoredBytes: int64(rows) * 102})
		got := s.Batches(nil, id(1), 0, start, 1<<40)
		if len(got) != rows || rows > 0 && got[0].Base != start&^1 {
			t.Errorf("trimmed to %d: %d batches, want %d", start, len(got), rows)
		}
		want(t, "next offset", s.commit(100, runOf(1, 0, plain(1))), []BatchResult{at(400)})
	}
}

func TestTrimNeitherFallsNorPassesTheHighWatermark(t *testing.T) {
	s := filled(t, 5)
	s.do(Trim{Topic: id(1), LogStart: 4}.Command())
	want(t, "lower", s.do(Trim{Topic: id(1), LogStart: 3}.Command()), any(TrimResult{LogStart: 4}))
	want(t, "higher", s.do(Trim{Topic: id(1), LogStart: 11}.Command()), any(TrimResult{LogStart: 4, Reason: ReasonInvalid}))
	want(t, "unknown", s.do(Trim{Topic: id(1), Partition: 1}.Command()), any(TrimResult{LogStart: -1, Reason: ReasonUnknownTopic}))
}

func TestSegmentsWithoutRowsAreForgotten(t *testing.T) {
	s := filled(t, 200)
	s.do(AddPartitions{Topic: id(2), To: 1}.Command())
	s.commit(100, runOf(2, 0, plain(1)))
	s.do(Trim{Topic: id(1), LogStart: 219}.Command())
	want(t, "segments in use", int(s.segments.next)-len(s.segments.free), 11)
	s.do(DropTopic{Topic: id(1)}.Command())
	want(t, "segments in use", int(s.segments.next)-len(s.segments.free), 1)
	want(t, "refused", s.do(commitOf(1, 101, runOf(1, 0, plain(1)))).(CommitResult).Batches, []BatchResult{refused(ReasonUnknownTopic)})
	want(t, "segments in use", int(s.segments.next)-len(s.segments.free), 1)
}

func TestTopicNumbersAreNotReused(t *testing.T) {
	s := withPartitions(t, Config{}, 2, 1)
	s.do(DropTopic{Topic: id(2)}.Command())
	s.do(DropTopic{Topic: id(2)}.Command())
	s.do(AddPartitions{Topic: id(3), To: 1}.Command())
	want(t, "number", s.numbers[id(3)], 3)
	restored := NewState(Config{})
	if err := restored.Restore(s.encoded()); err != nil {
		t.Fatal(err)
	}
	want(t, "next number", restored.nextNumber, 4)
}

func TestAddingPartitionsAgainDoesNothing(t *testing.T) {
	s := filled(t, 5)
	s.do(AddPartitions{Topic: id(1), From: 2, To: 4}.Command())
	s.do(AddPartitions{Topic: id(1), To: 5}.Command())
	s.do(AddPartitions{Topic: id(1), To: 5}.Command())
	want(t, "partitions", len(s.topics[0].partitions), 5)
	p, _ := s.Partition(id(1), 0)
	want(t, "high watermark", p.HighWatermark, 10)
}
