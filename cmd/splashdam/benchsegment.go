package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// pipeSegment is an encoded segment on its way to the disk.
type pipeSegment struct {
	body    []byte
	records int64
}

// pipeBatchBytes is the size at which a producer seals a batch.
const pipeBatchBytes = 1 << 20

func encodeSegments(ctx context.Context, seed uint64, o pipeOptions, out chan<- pipeSegment) error {
	records := newBenchRecords(seed, o.size, 0, o.incompressible)
	perBatch := 1 // grows until a segment holds a batch of every partition
	for {
		runs := make([]objectlog.SegmentRun, o.partitions)
		var s pipeSegment
		stored := 0
		for i := 0; stored < int(o.segment); i++ {
			batch, row, err := encodePipeBatch(records, perBatch)
			if err != nil {
				return fmt.Errorf("encode batch: %w", err)
			}
			run := &runs[i%o.partitions]
			run.Partition = objectlog.Partition(i % o.partitions)
			run.Batches, run.Rows = append(run.Batches, batch), append(run.Rows, row)
			stored += len(batch)
			s.records += int64(perBatch)
			if i == 0 {
				share := int(o.segment) / o.partitions * o.size * perBatch / len(batch)
				perBatch = max(1, min(share, pipeBatchBytes)/o.size)
			}
		}
		for i := range runs {
			if len(runs[i].Batches) == 0 {
				runs = runs[:i]
				break
			}
		}
		s.body, _ = objectlog.EncodeSegment(runs)
		select {
		case out <- s:
		case <-ctx.Done():
			return nil
		}
	}
}

func encodePipeBatch(records *benchRecords, n int) ([]byte, objectlog.BatchRow, error) {
	list := make([]objectlog.Record, n)
	now := objectlog.Timestamp(time.Now().UnixMilli())
	for i := range list {
		list[i].Key, list[i].Value = records.take()
		list[i].Timestamp = now
	}
	b, err := objectlog.EncodeBatch(nil, list, objectlog.BatchOptions{
		Codec: objectlog.CodecSnappy, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1,
	})
	row := objectlog.BatchRow{
		Bytes: int32(len(b)), Records: int32(n), MaxTimestamp: now, ProducerID: objectlog.NoProducer,
		ProducerEpoch: -1, FirstSequence: -1, CRC: binary.BigEndian.Uint32(b[17:]), Expected: objectlog.NoOffset,
	}
	return b, row, err
}
