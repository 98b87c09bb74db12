package peer

import (
	"context"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// commitOf is the commit of a segment with one batch for each of so many partitions.
func commitOf(rows int) metadata.Command {
	runs := make([]objectlog.SegmentRun, rows)
	batch := make([]byte, 1000)
	for i := range runs {
		row := objectlog.BatchRow{Bytes: int32(len(batch)), Records: 10, ProducerID: objectlog.NoProducer, Expected: objectlog.NoOffset}
		runs[i] = objectlog.SegmentRun{Topic: uuid(50), Partition: objectlog.Partition(i), Batches: [][]byte{batch}, Rows: []objectlog.BatchRow{row}}
	}
	_, sections := objectlog.EncodeSegment(runs)
	c := metadata.Commit{Ordinal: 3, Segment: objectlog.SegmentName{Boot: uuid(callerBoot), Counter: 9, Random: 7}, Section: sections[0].Ref}.Command()
	c.Footer = sections[0].Bytes
	return c
}

// BenchmarkPropose: one commit of 256 batches per call, over loopback; the leader answers at once.
func BenchmarkPropose(b *testing.B) {
	const rows = 256
	result := metadata.CommitResult{}
	for i := range objectlog.Offset(rows) {
		result.Batches = append(result.Batches, metadata.BatchResult{Base: 1<<30 + 1000*i})
	}
	address := start(b, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
		return shardlog.Receipt{Seq: 1 << 20, Results: []any{result}}, nil
	}})
	c := connected(b, identity(callerBoot))
	commands := []metadata.Command{commitOf(rows)}
	b.Logf("a footer of %d bytes", len(commands[0].Footer))
	propose := func() {
		if _, err := c.Propose(context.Background(), called(address), 0, commands); err != nil {
			b.Error(err)
		}
	}
	b.Run("one by one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			propose()
		}
	})
	b.Run("together", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				propose()
			}
		})
	})
}

// BenchmarkReadBlock: 4 MiB, as much as agents ask for at once.
func BenchmarkReadBlock(b *testing.B) {
	data := make([]byte, 4<<20)
	address := start(b, &fake{own: identity(calledBoot), block: func(context.Context, objectlog.SegmentName, objectlog.Extent) ([]byte, error) { return data, nil }})
	c := connected(b, identity(callerBoot))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ReadBlock(context.Background(), called(address), objectlog.SegmentName{}, objectlog.Extent{Next: int64(len(data))}); err != nil {
			b.Fatal(err)
		}
	}
}
