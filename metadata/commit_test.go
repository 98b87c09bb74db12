package metadata

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestOffsetsAreContiguousFromZero(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 2)
	want(t, "first", s.commit(1, runOf(1, 0, plain(3), plain(1)), runOf(1, 1, plain(5))), []BatchResult{at(0), at(3), at(0)})
	want(t, "second", s.commit(2, runOf(1, 0, plain(2))), []BatchResult{at(4)})
	p, _ := s.Partition(id(1), 0)
	want(t, "partition", p, PartitionState{HighWatermark: 6, StoredBytes: 103 + 101 + 102})
}

func TestBatchesOfUnknownPartitionsDoNotFailTheirNeighbours(t *testing.T) {
	s := withPartitions(t, Config{}, 3, 2)
	s.do(DropTopic{Topic: id(2)}.Command())
	got := s.commit(1, runOf(1, 0, plain(1)), runOf(1, 7, plain(1)), runOf(2, 0, plain(1)), runOf(3, 1, plain(1)), runOf(9, 0, plain(1), plain(1)))
	unknown := refused(ReasonUnknownTopic)
	want(t, "decisions", got, []BatchResult{at(0), unknown, unknown, at(0), unknown, unknown})
}

func TestRowsPreparedBeforeADropAreRefusedBehindIt(t *testing.T) {
	s := withPartitions(t, Config{}, 2, 1)
	short, err := s.Prepare(commitOf(1, 1, runOf(1, 0, plain(1)), runOf(2, 0, plain(1))))
	if err != nil {
		t.Fatal(err)
	}
	s.do(DropTopic{Topic: id(1)}.Command())
	result, err := s.Apply(s.position(), short)
	want(t, "error", err, nil)
	want(t, "result", result.(CommitResult).Batches, []BatchResult{refused(ReasonUnknownTopic), at(0)})
}

func TestTopicAddedInTheSameEntryIsKnownInBothForms(t *testing.T) {
	for _, rewrite := range []bool{false, true} {
		s := newShard(t, Config{})
		c := commitOf(1, 1, runOf(1, 0, plain(1)))
		if rewrite {
			var err error
			if c, err = s.Prepare(c); err != nil {
				t.Fatal(err)
			}
		}
		s.do(AddPartitions{Topic: id(1), To: 1}.Command())
		result, err := s.Apply(s.position(), c)
		want(t, "error", err, nil)
		want(t, "result", result.(CommitResult).Batches, []BatchResult{at(0)})
	}
}

func TestExpectedOffsetIsComparedWithTheHighWatermark(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	got := s.commit(1, runOf(1, 0, expecting(plain(2), 0), expecting(plain(2), 0), expecting(plain(1), 2), expecting(plain(1), 9)))
	mismatch := func(actual objectlog.Offset) BatchResult {
		return BatchResult{Base: actual, Reason: ReasonOffsetMismatch}
	}
	want(t, "decisions", got, []BatchResult{at(0), mismatch(2), at(2), mismatch(3)})
}

func TestResentCommitGetsItsOldResultAndNoSecondEffect(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	first := commitOf(1, 1, runOf(1, 0, plain(3), produced(7, 0, 0, 1), expecting(plain(1), 99)))
	original := s.do(first)
	s.commit(2, runOf(1, 0, plain(1)))
	before := s.encoded()
	want(t, "the result again", s.do(first), original)
	if !bytes.Equal(s.encoded(), before) {
		t.Error("the re-sent commit changed the state")
	}
}

func TestCommitThatWasSkippedIsUnknown(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.commit(2, runOf(1, 0, plain(1)))
	want(t, "segment 1", s.do(commitOf(1, 1, runOf(1, 0, plain(1)))), any(CommitResult{Unknown: true}))
	p, _ := s.Partition(id(1), 0)
	want(t, "high watermark", p.HighWatermark, 1)
}

func TestSixtyFourResultsAreRemembered(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	for counter := range uint64(65) {
		s.commit(counter+1, runOf(1, 0, plain(1)))
	}
	want(t, "the 65th last", s.do(commitOf(1, 1, runOf(1, 0, plain(1)))), any(CommitResult{Unknown: true}))
	want(t, "the 64th last", s.do(commitOf(1, 2, runOf(1, 0, plain(1)))), any(CommitResult{Batches: []BatchResult{at(1)}}))
}

func TestFencedCommitIsUnknownAndHasNoEffect(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.commit(1, runOf(1, 0, plain(1)))
	s.do(Fence{Ordinal: 1, Below: 5}.Command())
	s.do(Fence{Ordinal: 1, Below: 3}.Command()) // fences only rise
	want(t, "below the fence", s.do(commitOf(1, 4, runOf(1, 0, plain(1)))), any(CommitResult{Unknown: true}))
	want(t, "decided before it", s.do(commitOf(1, 1, runOf(1, 0, plain(1)))), any(CommitResult{Batches: []BatchResult{at(0)}}))
	want(t, "at the fence", s.commit(5, runOf(1, 0, plain(1))), []BatchResult{at(1)})
}

func TestFenceHoldsForABootThatHasNotCommittedYet(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.do(Fence{Ordinal: 4, Below: 2}.Command())
	want(t, "below the fence", s.do(commitOf(4, 1, runOf(1, 0, plain(1)))), any(CommitResult{Unknown: true}))
	want(t, "at the fence", s.do(commitOf(4, 2, runOf(1, 0, plain(1)))), any(CommitResult{Batches: []BatchResult{at(0)}}))
}

func TestRetiredBootIsUnknownForEver(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.commit(1, runOf(1, 0, plain(1)))
	s.do(RetireBoots{Below: 2}.Command())
	s.do(RetireBoots{Below: 1}.Command())
	s.do(Fence{Ordinal: 1, Below: 9}.Command())
	want(t, "boots kept", len(s.boots), 0)
	for _, counter := range []uint64{1, 2, 9} {
		want(t, "commit", s.do(commitOf(1, counter, runOf(1, 0, plain(1)))), any(CommitResult{Unknown: true}))
	}
	want(t, "the next boot", s.do(commitOf(2, 1, runOf(1, 0, plain(1)))), any(CommitResult{Batches: []BatchResult{at(1)}}))
}

// TestRowsTakeAtMost32Bytes holds the budget of an entry. The part of a commit that does not grow with its rows
// (ordinal, boot, counter, random number, count, the first timestamp and start) is not counted.
func TestRowsTakeAtMost32Bytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := objectlog.Timestamp(1_764_000_000_000)
	batch := func(producer bool) objectlog.BatchRow {
		w := objectlog.BatchRow{Bytes: 61 + random.Int32N(1<<20), Records: 1 + random.Int32N(5_000), CRC: random.Uint32(),
			MaxTimestamp: now - objectlog.Timestamp(random.IntN(60_000)), ProducerID: objectlog.NoProducer, Expected: objectlog.NoOffset}
		if producer {
			w.ProducerID, w.ProducerEpoch = objectlog.ProducerID(random.IntN(50_000_000)), int16(random.IntN(100))
			w.FirstSequence = random.Int32()
		}
		return w
	}
	for _, c := range []struct {
		what             string
		topics, runs     int
		rows             int
		producer, expect bool
	}{
		{"256 partitions of one topic", 1, 256, 1, false, false},
		{"256 partitions of one topic, producers", 1, 256, 1, true, false},
		{"10 batches each of 30 partitions, producers", 1, 30, 10, true, false},
		{"one batch for each of 250 of 100,000 topics", 100_000, 250, 1, false, false},
		{"one batch for each of 250 of 100,000 topics, producers", 100_000, 250, 1, true, false},
		{"the same with expected offsets", 100_000, 250, 1, true, true},
	} {
		runs, rows, start := make([]run, 0, c.runs), 0, int64(20)
		numbers := map[objectlog.UUID]uint32{}
		for i := range c.runs {
			n := i * c.topics / c.runs
			r := run{topic: objectlog.UUID{0: 1, 14: byte(n), 13: byte(n >> 8), 12: byte(n >> 16)}, start: start}
			numbers[r.topic] = 1 + uint32(random.IntN(c.topics)) // ids are in order, numbers are not
			r.partition = objectlog.Partition(random.IntN(5_000))
			if c.topics == 1 {
				r.topic, r.partition = id(1), objectlog.Partition(3*i)
				numbers[r.topic] = 1
			}
			for range c.rows {
				w := batch(c.producer)
				if c.expect {
					w.Expected = objectlog.Offset(random.IntN(2_000_000))
				}
				r.rows = append(r.rows, w)
				start += int64(w.Bytes)
				rows++
			}
			runs = append(runs, r)
		}
		body := appendRuns(nil, runs, func(id objectlog.UUID) uint32 { return numbers[id] })
		perRow := float64(len(body)-16) / float64(rows)
		t.Logf("%s: %.1f bytes per row", c.what, perRow)
		if perRow > 32 {
			t.Errorf("%s: %.1f bytes per row, want at most 32", c.what, perRow)
		}
	}
	head := appendCommitHead(nil, 100_000, objectlog.SegmentName{Boot: id(1), Counter: 1_000_000})
	if len(head) > 32 {
		t.Errorf("the fixed part takes %d bytes, want at most 32", len(head))
	}
}
