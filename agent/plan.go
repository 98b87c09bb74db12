package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// plan is what a read of one partition will take from which segments. It is made from applied state alone.
type plan struct {
	state   metadata.PartitionState
	known   bool // the shard has the partition
	batches []metadata.LocatedBatch
	ahead   []metadata.LocatedBatch // what a reader that goes on will want next
	bytes   int64                   // of batches
}

// planRead plans a read of up to bytesMax bytes from an offset inside the log; with some, of one batch even if that is
// larger.
func planRead(s *metadata.State, topic objectlog.UUID, p objectlog.Partition, from objectlog.Offset, bytesMax int64, some bool) plan {
	var pl plan
	if pl.state, pl.known = s.Partition(topic, p); !pl.known || from < pl.state.LogStart || from >= pl.state.HighWatermark || bytesMax <= 0 {
		return pl
	}
	located := s.Batches(nil, topic, p, from, bytesMax+readAheadBytes)
	n := 0
	for n < len(located) && (n == 0 && some || pl.bytes+int64(located[n].Row.Bytes) <= bytesMax) {
		pl.bytes += int64(located[n].Row.Bytes)
		n++
	}
	pl.batches, pl.ahead = located[:n], located[n:]
	return pl
}

// next is the offset behind the plan's last batch.
func (p plan) next(from objectlog.Offset) objectlog.Offset {
	if len(p.batches) == 0 {
		return from
	}
	last := p.batches[len(p.batches)-1]
	return last.Base + objectlog.Offset(last.Row.Records)
}

// before counts the batches in front of the first one of the segment; all, if the plan does not read of it.
func (p plan) before(segment objectlog.SegmentName) int {
	for i, b := range p.batches {
		if b.Segment == segment {
			return i
		}
	}
	return len(p.batches)
}

// names says whether the plan reads of the segment.
func (p plan) names(segment objectlog.SegmentName) bool { return p.before(segment) < len(p.batches) }

// needs answers the blocks that hold the batches, in order, and how much of each.
func needs(batches []metadata.LocatedBatch) (order []block, bytes map[block]int64) {
	bytes = make(map[block]int64)
	for _, b := range batches {
		next := b.Start + int64(b.Row.Bytes)
		for i := b.Start / blockBytes; i*blockBytes < next; i++ {
			k := block{segment: b.Segment, index: i}
			if _, ok := bytes[k]; !ok {
				order = append(order, k)
			}
			bytes[k] = max(bytes[k], min(blockBytes, next-k.start()))
		}
	}
	return order, bytes
}

// bySegment sorts batches of several partitions by where they are; segments stay in the order in which they are first named.
func bySegment(batches []metadata.LocatedBatch) []metadata.LocatedBatch {
	rank := make(map[objectlog.SegmentName]int)
	for _, b := range batches {
		if _, ok := rank[b.Segment]; !ok {
			rank[b.Segment] = len(rank)
		}
	}
	slices.SortStableFunc(batches, func(a, b metadata.LocatedBatch) int {
		return cmp.Or(cmp.Compare(rank[a.Segment], rank[b.Segment]), cmp.Compare(a.Start, b.Start))
	})
	return batches
}

// suspicion is a batch that the bucket does not have as the log says.
type suspicion struct {
	segment objectlog.SegmentName
	err     error
}

func (s *suspicion) Error() string { return s.err.Error() }
func (s *suspicion) Unwrap() error { return s.err }

// load reads the planned batches: verified copies, patched with their offsets, one behind the other in one buffer. A *suspicion is for
// the caller to look into.
func (b *blocks) load(ctx context.Context, batches, ahead []metadata.LocatedBatch, pool chan struct{}) ([][]byte, error) {
	b.startAll(batches, ahead, pool, true)
	order, bytes := needs(batches)
	read := make(map[block][]byte, len(order))
	for _, k := range order {
		data, err := b.read(ctx, k, bytes[k], pool, byOwner)
		if err != nil {
			return nil, suspectIn(k.segment, err)
		}
		read[k] = data
	}
	total := 0
	for _, l := range batches {
		total += int(l.Row.Bytes)
	}
	buffer := make([]byte, 0, total)
	out := make([][]byte, 0, len(batches))
	for _, l := range batches {
		first := len(buffer)
		for at, next := l.Start, l.Start+int64(l.Row.Bytes); at < next; {
			k := block{segment: l.Segment, index: at / blockBytes}
			part := read[k][at-k.start() : min(blockBytes, next-k.start())]
			buffer = append(buffer, part...)
			at += int64(len(part))
		}
		batch := buffer[first:] // its capacity reaches to the end, so that all of them can be sent as one
		if err := verify(batch, l); err != nil {
			b.doubtBatch(l, read)
			return nil, suspectIn(l.Segment, fmt.Errorf("%w: %w", errSuspect, err))
		}
		objectlog.PatchBatch(batch, l.Base, l.Epoch)
		out = append(out, batch)
	}
	return out, nil
}

// verify compares a batch's bytes with their checksum and with what the log says of them.
func verify(batch []byte, l metadata.LocatedBatch) error {
	h, err := objectlog.ParseBatchHeader(batch)
	if err != nil {
		return err
	}
	if h.CRC != l.Row.CRC || h.Bytes != len(batch) || h.LastOffsetDelta+1 != l.Row.Records {
		return fmt.Errorf("batch at %d with %d bytes, %d records, crc %08x; the log has %d, %d, %08x: %w", l.Start,
			h.Bytes, h.LastOffsetDelta+1, h.CRC, l.Row.Bytes, l.Row.Records, l.Row.CRC, objectlog.ErrCorrupt)
	}
	return nil
}

func suspectIn(segment objectlog.SegmentName, err error) error {
	if isSuspect(err) {
		return &suspicion{segment: segment, err: err}
	}
	return err
}

// doubtBatch takes note that the blocks of a batch are wrong, so that the next read asks the bucket.
func (b *blocks) doubtBatch(l metadata.LocatedBatch, read map[block][]byte) {
	for i := l.Start / blockBytes; i*blockBytes < l.Start+int64(l.Row.Bytes); i++ {
		k := block{segment: l.Segment, index: i}
		b.doubt(k, read[k])
	}
}
