package metadata

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// resultsMax is how many results of a boot are remembered: the segments it may have undecided.
const resultsMax = 64

// boot is what makes the commits of one boot idempotent.
type boot struct {
	ordinal int64
	id      objectlog.UUID // zero until its first commit, when a fence came before
	decided uint64         // highest counter committed
	fenced  uint64         // counters below it are refused
	results []result       // of the last counters committed, ascending; shared with views, so only appended to and resliced
	gen     uint32         // of the state when this struct became its own
}

// result is a remembered CommitResult, encoded: 64 of them for each boot are kept and written into every snapshot.
type result struct {
	counter uint64
	batches []byte
}

func (b *boot) result(counter uint64) (CommitResult, bool) {
	i, ok := slices.BinarySearchFunc(b.results, counter, func(r result, c uint64) int { return cmp.Compare(r.counter, c) })
	if !ok {
		return CommitResult{}, false
	}
	r := newReader(b.results[i].batches)
	return CommitResult{Batches: r.batchResults()}, true
}

func (b *boot) decide(counter uint64, batches []BatchResult) {
	b.decided = counter
	if len(b.results) == resultsMax {
		b.results = b.results[1:]
	}
	b.results = append(b.results, result{counter, appendBatchResults(batches)})
}

// Each result is code = 2·reason + duplicate, and the offset where the code has one.

func appendBatchResults(batches []BatchResult) []byte {
	dst := wire.AppendInt(make([]byte, 0, 5+6*len(batches)), len(batches))
	for _, b := range batches {
		code := byte(b.Reason) << 1
		if b.Duplicate {
			code |= 1
		}
		dst = append(dst, code)
		if b.Base != objectlog.NoOffset {
			dst = wire.AppendInt(dst, b.Base)
		}
	}
	return slices.Clip(dst)
}

func (r *reader) batchResults() []BatchResult {
	batches := make([]BatchResult, r.Count("results", 1))
	for i := range batches {
		code := r.Byte("result")
		b := BatchResult{Base: objectlog.NoOffset, Reason: Reason(code >> 1), Duplicate: code&1 != 0}
		if b.Reason > ReasonOldSequence {
			r.Fail("result: reason %d", b.Reason)
		}
		if b.Reason == ReasonNone || b.Reason == ReasonOffsetMismatch {
			b.Base = objectlog.Offset(r.Bounded("result offset", offsetMax))
		}
		batches[i] = b
	}
	return batches
}

// findBoot answers where the boot with the ordinal is or belongs.
func (s *State) findBoot(ordinal int64) (int, bool) {
	return slices.BinarySearchFunc(s.boots, ordinal, func(b *boot, o int64) int { return cmp.Compare(b.ordinal, o) })
}

// ownBoot answers the boot, made if need be, for changing. nil: it is retired.
func (s *State) ownBoot(ordinal int64) *boot {
	if ordinal < s.retired {
		return nil
	}
	i, ok := s.findBoot(ordinal)
	if !ok {
		s.boots = slices.Insert(s.boots, i, &boot{ordinal: ordinal, gen: s.gen})
	} else if s.boots[i].gen != s.gen {
		own := *s.boots[i]
		own.gen = s.gen
		s.boots[i] = &own
	}
	return s.boots[i]
}

func (c *Fence) apply(s *State, _ Position) any {
	if b := s.ownBoot(c.Ordinal); b != nil {
		b.fenced = max(b.fenced, c.Below)
	}
	return nil
}

func (c *RetireBoots) apply(s *State, _ Position) any {
	if c.Below > s.retired {
		s.retired = c.Below
		i, _ := s.findBoot(c.Below)
		s.boots = slices.Delete(s.boots, 0, i)
	}
	return nil
}

func appendBoots(dst []byte, retired int64, boots []*boot) []byte {
	dst = wire.AppendInt(wire.AppendInt(dst, retired), len(boots))
	last := int64(0)
	for _, b := range boots {
		dst = append(wire.AppendInt(dst, b.ordinal-last), b.id[:]...)
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, b.decided), b.fenced)
		dst = wire.AppendInt(dst, len(b.results))
		for _, r := range b.results {
			dst = binary.AppendUvarint(dst, b.decided-r.counter)
			dst = append(wire.AppendInt(dst, len(r.batches)), r.batches...)
		}
		last = b.ordinal
	}
	return dst
}

func (r *reader) boots() (retired int64, boots []*boot) {
	retired = int64(r.Bounded("retired boots", maxInt63))
	last := int64(0)
	for i := range r.Count("boots", 20) {
		b := &boot{ordinal: last + int64(r.Bounded("ordinal", maxInt63)), id: r.UUID("boot")}
		b.decided, b.fenced = r.Uvarint("decided"), r.Uvarint("fenced")
		if b.ordinal < retired || i > 0 && b.ordinal <= last {
			r.Fail("boot %d: out of order", b.ordinal)
		}
		for range r.Bounded("boot results", resultsMax) {
			b.results = append(b.results, r.bootResult(b))
		}
		if r.Err != nil {
			return 0, nil
		}
		boots, last = append(boots, b), b.ordinal
	}
	return retired, boots
}

func (r *reader) bootResult(b *boot) result {
	n := result{counter: b.decided - r.Bounded("counter", b.decided)}
	if k := len(b.results); k > 0 && n.counter <= b.results[k-1].counter {
		r.Fail("boot %d: results out of order", b.ordinal)
	}
	n.batches = slices.Clone(r.Bytes("results", r.Count("results", 1)))
	inner := newReader(n.batches)
	if inner.batchResults(); inner.End() != nil && r.Err == nil {
		r.Fail("boot %d: segment %d: %w", b.ordinal, n.counter, inner.Err)
	}
	return n
}
