package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// AppendAt appends the records as one batch to the partition if the partition's next offset is next, and answers the first
// record's offset, which is next. If it is another, nothing is appended: the error matches ErrOffsetMismatch and its
// Metadata["actual"] is the offset that was found. It needs no producer.
//
// The call is repeated while that can help: a repetition is harmless, since the condition holds at most once. But when an
// attempt had no answer and its repetition meets a mismatch, the first may have been what moved the log: that, and a
// time-out of ctx or of Config.RequestTimeout without an answer, is ErrUnknownOutcome. Reading from next tells.
func (c *Client) AppendAt(ctx context.Context, topic string, partition Partition, next Offset, records ...Record) (Offset, error) {
	op := fmt.Sprintf("append to %s/%d at %d", topic, partition, next)
	encoded, err := encodeRecords(records)
	if err != nil {
		return NoOffset, fmt.Errorf("%s: %w", op, err)
	}
	part, expected := int32(partition), int64(next)
	req := &splashdamv1.ProduceRequest{Acks: splashdamv1.Acks_ACKS_DURABLE, Batches: []*splashdamv1.ProduceRequest_Batch{{
		Topic: topic, Partition: &part, ExpectedNextOffset: &expected,
		Content: &splashdamv1.ProduceRequest_Batch_Encoded{Encoded: encoded},
	}}}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	maybe := false
	for attempt := 0; ; attempt++ {
		at, failed := c.appendOnce(ctx, op, req)
		if failed == nil {
			return at, nil
		}
		maybe = maybe || !c.heed(failed).definite
		again := !failed.definite || failed.Retriable
		if !again || pause(ctx, c.cfg.delayAfter(attempt, failed)) != nil {
			if maybe {
				return NoOffset, unknownOutcome(op, failed)
			}
			return NoOffset, failed
		}
	}
}

func (c *Client) appendOnce(ctx context.Context, op string, req *splashdamv1.ProduceRequest) (Offset, *Error) {
	res, err := c.log.Produce(ctx, req)
	if err != nil {
		return NoOffset, errorOf(op, err)
	}
	if len(res.GetResults()) != 1 {
		return NoOffset, &Error{Op: op, Message: fmt.Sprintf("%d results for one batch", len(res.GetResults()))}
	}
	r := res.GetResults()[0]
	if d := r.GetError(); d != nil {
		return NoOffset, errorOfDetail(op, d)
	}
	if len(r.GetPositions()) == 0 {
		return NoOffset, &Error{Op: op, Message: "the agent answered neither an offset nor an error"}
	}
	return Offset(r.GetPositions()[0].GetOffset()), nil
}

// encodeRecords makes one batch without producer.
func encodeRecords(records []Record) ([]byte, error) {
	if len(records) == 0 {
		return nil, errors.New("no records")
	}
	now := time.Now()
	list := make([]objectlog.Record, len(records))
	for i := range records {
		list[i] = storedRecord(&records[i], now)
	}
	return objectlog.EncodeBatch(nil, list, objectlog.BatchOptions{
		Codec: objectlog.CodecSnappy, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer,
	})
}

// storedRecord is the record as it is encoded; one without a time gets now.
func storedRecord(r *Record, now time.Time) objectlog.Record {
	if !r.Timestamp.IsZero() {
		now = r.Timestamp
	}
	return objectlog.Record{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: objectlog.Timestamp(now.UnixMilli())}
}
