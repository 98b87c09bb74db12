package metadata

import (
	"math"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// step is one batch, committed on its own, and the decision that is due.
type step struct {
	batch objectlog.BatchRow
	want  BatchResult
}

func judged(t *testing.T, s *shard, steps ...step) {
	t.Helper()
	counter := uint64(1)
	if i, ok := s.findBoot(1); ok {
		counter = s.boots[i].decided + 1
	}
	for i, step := range steps {
		got := s.commit(counter+uint64(i), runOf(1, 0, step.batch))
		if got[0] != step.want {
			t.Errorf("step %d: epoch %d, sequence %d, %d records: got %+v, want %+v",
				i, step.batch.ProducerEpoch, step.batch.FirstSequence, step.batch.Records, got[0], step.want)
		}
	}
}

func duplicate(base objectlog.Offset) BatchResult { return BatchResult{Base: base, Duplicate: true} }

func TestDuplicateGetsItsOriginalOffset(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{produced(7, 0, 0, 3), at(0)},
		step{plain(2), at(3)},
		step{produced(7, 0, 3, 2), at(5)},
		step{produced(7, 0, 0, 3), duplicate(0)},
		step{produced(7, 0, 3, 2), duplicate(5)},
		step{produced(8, 0, 0, 3), at(7)}, // another producer's
	)
}

func TestDuplicatesInOneCommitAreKnown(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	got := s.commit(1, runOf(1, 0, produced(7, 0, 0, 3), produced(7, 0, 0, 3), produced(7, 0, 3, 1)))
	want(t, "decisions", got, []BatchResult{at(0), duplicate(0), at(3)})
}

func TestDuplicateIsKnownBeforeItsExpectedOffsetIsLookedAt(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{expecting(produced(7, 0, 0, 3), 0), at(0)},
		step{expecting(produced(7, 0, 0, 3), 0), duplicate(0)},
	)
}

func TestSequenceBehindTheLastFiveBatchesIsOld(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	for i := range int32(6) {
		judged(t, s, step{produced(7, 0, 10*i, 10), at(objectlog.Offset(10 * i))})
	}
	judged(t, s,
		step{produced(7, 0, 10, 10), duplicate(10)},
		step{produced(7, 0, 0, 10), refused(ReasonOldSequence)},
		step{produced(7, 0, 5, 5), refused(ReasonOldSequence)},
		step{produced(7, 0, 5, 10), refused(ReasonSequenceGap)},  // partly remembered: neither new nor the same
		step{produced(7, 0, 10, 9), refused(ReasonSequenceGap)},  // the same start, another end
		step{produced(7, 0, 61, 10), refused(ReasonSequenceGap)}, // ahead
	)
}

func TestSequenceFromBeforeTheProducerWasSeenIsNotCalledADuplicate(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	for i := range int32(7) {
		judged(t, s, step{produced(7, 0, 100+i, 1), at(objectlog.Offset(i))})
	}
	judged(t, s,
		step{produced(7, 0, 100, 1), refused(ReasonOldSequence)},
		step{produced(7, 0, 99, 1), refused(ReasonSequenceGap)}, // may never have been committed
		step{produced(7, 0, 99, 2), refused(ReasonSequenceGap)},
		step{produced(7, 0, 0, 1), refused(ReasonSequenceGap)},
	)
}

func TestUnknownProducerMayStartAnywhere(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{produced(7, 3, 41, 2), at(0)},
		step{produced(7, 3, 43, 2), at(2)},
	)
}

func TestSequencesWrapAround(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{produced(7, 0, math.MaxInt32-1, 1), at(0)},
		step{produced(7, 0, math.MaxInt32, 3), at(1)}, // the last sequence, 0 and 1
		step{produced(7, 0, 1, 1), refused(ReasonSequenceGap)},
		step{produced(7, 0, 2, 1), at(4)},
		step{produced(7, 0, math.MaxInt32, 3), duplicate(1)},
		step{produced(7, 0, math.MaxInt32-1, 1), duplicate(0)},
		step{produced(7, 0, math.MaxInt32-2, 1), refused(ReasonSequenceGap)},
		step{produced(7, 0, 3, 4), at(5)},
		step{produced(7, 0, 7, 1), at(9)},
		step{produced(7, 0, 8, 1), at(10)},
		step{produced(7, 0, 9, 1), at(11)},
		step{produced(7, 0, math.MaxInt32, 3), refused(ReasonOldSequence)},
	)
}

func TestZeroFollowsTheLastSequence(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{produced(7, 0, math.MaxInt32, 1), at(0)},
		step{produced(7, 0, 0, 1), at(1)},
	)
}

func TestNewEpochStartsAtZeroAndForgetsTheOldOne(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{produced(7, 1, 0, 3), at(0)},
		step{produced(7, 2, 3, 1), refused(ReasonSequenceGap)},
		step{produced(7, 1, 3, 1), at(3)}, // the refused one changed nothing
		step{produced(7, 2, 0, 3), at(4)},
		step{produced(7, 2, 0, 3), duplicate(4)}, // not offset 0: that was another epoch's
		step{produced(7, 1, 4, 1), refused(ReasonFencedProducer)},
		step{produced(7, 1, 0, 3), refused(ReasonFencedProducer)},
		step{produced(7, 2, 1, 1), refused(ReasonSequenceGap)},
	)
}

func TestBatchRefusedForItsOffsetLeavesNoTraceOfItsProducer(t *testing.T) {
	judged(t, withPartitions(t, Config{}, 1, 1),
		step{expecting(produced(7, 0, 0, 3), 9), BatchResult{Base: 0, Reason: ReasonOffsetMismatch}},
		step{produced(7, 0, 5, 1), at(0)}, // unknown still
	)
}

func TestProducersBeyondTheLimitAreRefusedAndNoneIsEvicted(t *testing.T) {
	s := withPartitions(t, Config{ProducersMax: 2}, 1, 1)
	judged(t, s,
		step{produced(7, 0, 0, 1), at(0)},
		step{produced(8, 0, 0, 1), at(1)},
		step{produced(9, 0, 0, 1), refused(ReasonProducerLimit)},
		step{plain(1), at(2)},
		step{produced(7, 0, 1, 1), at(3)},
		step{produced(7, 0, 0, 1), duplicate(0)},
	)
	s.do(ExpireProducers{Before: s.now - 1}.Command()) // all but 7, whose last batch is not the duplicate
	judged(t, s,
		step{produced(9, 0, 0, 1), at(4)},
		step{produced(8, 0, 0, 1), refused(ReasonProducerLimit)},
	)
	s.do(DropTopic{Topic: id(1)}.Command())
	want(t, "producers of a dropped topic", s.producers, 0)
}

func TestProducersExpireByEntryTime(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.now = 10_000
	judged(t, s, step{produced(7, 0, 0, 1), at(0)}) // committed at 10,001
	s.do(ExpireProducers{Before: 10_001}.Command())
	judged(t, s, step{produced(7, 0, 0, 1), duplicate(0)})
	s.do(ExpireProducers{Before: 10_002}.Command())
	want(t, "producers", s.producers, 0)
	judged(t, s, step{produced(7, 0, 0, 1), at(1)})
}
