package agent

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// This file decides whether a batch may enter the buffer. It is work of the caller's goroutine, and what it lets through can no
// longer fail for its content.

// recordMemory is what a record costs beside its bytes.
const recordMemory = 96

// robinsMax bounds the topics whose round robin is remembered.
const robinsMax = 100_000

// rules are a topic's settings as produce needs them.
type rules struct {
	batchBytesMax int
	codec         objectlog.Codec // of records that the agent encodes
	recode        bool            // encoded batches of another codec are recompressed
	appendTime    bool            // LogAppendTime
}

func rulesOf(s metadata.Settings) rules {
	r := rules{batchBytesMax: s.MessageBytesMax(), codec: objectlog.CodecSnappy, appendTime: s.LogAppendTime()}
	if codec, ok := s.Compression(); ok {
		r.codec, r.recode = codec, true
	}
	return r
}

// admit checks one batch and makes the shares of it, one per partition.
func (a *Agent) admit(ctx context.Context, p Producer, b *ProduceBatch, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	shares, err := a.share(ctx, p, b, arrived)
	for i := 0; i < len(shares) && err == nil; i++ {
		err = a.serving(shares[i].Shard)
	}
	return shares, err
}

func (a *Agent) share(ctx context.Context, p Producer, b *ProduceBatch, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	if err := checkShape(p, b); err != nil {
		return nil, err
	}
	topic, err := a.topicForProduce(ctx, b)
	if err != nil {
		return nil, err
	}
	r := rulesOf(topic.Settings)
	if b.Encoded != nil {
		return a.admitEncoded(topic, r, b, arrived)
	}
	if err := a.checkRecords(r, b.Records); err != nil {
		return nil, err
	}
	records := b.Records
	for i := range records {
		if records[i].Timestamp == objectlog.NoTimestamp {
			records = stamped(records, arrived)
			break
		}
	}
	if b.Expected != objectlog.NoOffset || b.FirstSequence >= 0 {
		return a.admitAlone(topic, r, p, b, records, arrived)
	}
	if b.Partition != AnyPartition {
		return a.admitRecords(topic, r, b.Partition, records, nil, arrived)
	}
	return a.spread(topic, r, records, arrived)
}

// checkShape refuses what is wrong whatever the topic is.
func checkShape(p Producer, b *ProduceBatch) error {
	wrong := func(format string, args ...any) error { return because(InvalidRequest, fmt.Errorf(format, args...)) }
	alone := b.Expected != objectlog.NoOffset || b.FirstSequence >= 0
	switch err := metadata.CheckTopicName(b.Topic); {
	case err != nil:
		return because(InvalidTopic, err)
	case (b.Encoded == nil) == (len(b.Records) == 0):
		return wrong("a batch has records or an encoded batch, and not both")
	case b.Partition < 0 && b.Partition != AnyPartition:
		return wrong("partition %d is negative", b.Partition)
	case b.Expected < objectlog.NoOffset:
		return wrong("expected offset %d is negative", b.Expected)
	case b.FirstSequence < -1:
		return wrong("first sequence %d is negative", b.FirstSequence)
	case b.Partition == AnyPartition && b.Encoded != nil:
		return wrong("an encoded batch needs a partition")
	case b.Partition == AnyPartition && alone:
		return wrong("an expected offset or a sequence needs a partition")
	case b.Encoded == nil && b.FirstSequence >= 0 && p.ID == objectlog.NoProducer:
		return wrong("a sequence needs a producer")
	case b.Encoded == nil && b.FirstSequence < 0 && p.ID != objectlog.NoProducer:
		return wrong("records of an idempotent producer need a first sequence")
	}
	return nil
}

// checkRecords refuses records that no batch can hold.
func (a *Agent) checkRecords(r rules, records []objectlog.Record) error {
	for i := range records {
		size := write.RecordBytes(records[i])
		if limit := a.cfg.Limits.RecordBytes; limit > 0 && size > limit {
			return fmt.Errorf("record %d: %d bytes, at most %d: %w", i, size, limit, objectlog.ErrTooLarge)
		}
		if size+write.BatchOverhead > r.batchBytesMax {
			return fmt.Errorf("record %d: %d bytes, a batch has at most %d: %w", i, size+write.BatchOverhead, r.batchBytesMax, objectlog.ErrTooLarge)
		}
		if records[i].Timestamp < objectlog.NoTimestamp {
			return fmt.Errorf("record %d: timestamp %d is negative: %w", i, records[i].Timestamp, objectlog.ErrInvalid)
		}
	}
	return nil
}

// stamped copies the records, with the time of arrival where there is none.
func stamped(records []objectlog.Record, arrived objectlog.Timestamp) []objectlog.Record {
	out := append([]objectlog.Record(nil), records...)
	for i := range out {
		if out[i].Timestamp == objectlog.NoTimestamp {
			out[i].Timestamp = arrived
		}
	}
	return out
}

func (r rules) stamp(arrived objectlog.Timestamp) objectlog.Timestamp {
	if r.appendTime {
		return arrived
	}
	return objectlog.NoTimestamp
}

func (a *Agent) newShare(t metadata.Topic, p objectlog.Partition, index []int32, stamp objectlog.Timestamp) *write.Batch {
	return &write.Batch{Shard: metadata.ShardOf(t.ID, p, len(a.shards)), Topic: t.ID, Partition: p, Stamp: stamp, Owner: &share{index: index}}
}

func (a *Agent) admitRecords(t metadata.Topic, r rules, p objectlog.Partition, records []objectlog.Record, index []int32, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	b := a.newShare(t, p, index, r.stamp(arrived))
	b.Records, b.Codec, b.BytesMax = records, r.codec, r.batchBytesMax
	for i := range records {
		b.Bytes += int64(write.RecordBytes(records[i]) + recordMemory)
	}
	return []*write.Batch{b}, nil
}

// admitAlone encodes records with a condition or a sequence at once: they are one stored batch or none.
func (a *Agent) admitAlone(t metadata.Topic, r rules, p Producer, b *ProduceBatch, records []objectlog.Record, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	o := objectlog.BatchOptions{LogAppendTime: r.stamp(arrived), ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1}
	if b.FirstSequence >= 0 {
		o.ProducerID, o.ProducerEpoch, o.FirstSequence = p.ID, p.Epoch, b.FirstSequence
	}
	encoded, row, err := write.EncodeRecords(records, r.codec, r.batchBytesMax, o)
	if err != nil {
		return nil, err
	}
	row.Expected = b.Expected
	s := a.newShare(t, b.Partition, nil, o.LogAppendTime)
	s.Encoded, s.Row, s.Bytes = encoded, row, int64(len(encoded)+recordMemory)
	return []*write.Batch{s}, nil
}

// admitEncoded checks a batch that a client encoded. It is stored byte for byte, unless the topic's settings ask
// for another codec or for the time of arrival, which lies inside the checksum.
func (a *Agent) admitEncoded(t metadata.Topic, r rules, b *ProduceBatch, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	limits := a.cfg.Limits
	limits.BatchBytes = r.batchBytesMax
	h, err := objectlog.CheckBatch(b.Encoded, limits)
	if err != nil {
		return nil, err
	}
	encoded, row := b.Encoded, write.RowOf(h)
	if r.appendTime || r.recode && h.Codec != r.codec {
		if encoded, row, err = recode(b.Encoded, h, r, limits, arrived); err != nil {
			return nil, err
		}
	}
	row.Expected = b.Expected
	s := a.newShare(t, b.Partition, nil, r.stamp(arrived))
	s.Encoded, s.Row, s.Bytes = encoded, row, int64(len(encoded)+recordMemory)
	return []*write.Batch{s}, nil
}

// recode decodes a checked batch and encodes it as the topic wants it, of the same producer.
func recode(encoded []byte, h objectlog.BatchHeader, r rules, limits objectlog.Limits, arrived objectlog.Timestamp) ([]byte, objectlog.BatchRow, error) {
	records := make([]objectlog.Record, 0, min(h.Records, math.MaxInt16))
	err := objectlog.DecodeBatch(encoded, limits, func(_ objectlog.Offset, record objectlog.Record) bool {
		records = append(records, record)
		return true
	})
	if err != nil {
		return nil, objectlog.BatchRow{}, err
	}
	codec := h.Codec
	if r.recode {
		codec = r.codec
	}
	return write.EncodeRecords(records, codec, r.batchBytesMax, objectlog.BatchOptions{LogAppendTime: r.stamp(arrived),
		ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, FirstSequence: h.FirstSequence})
}

// spread chooses a partition for each record: by key, and one for all records without key, another one for each
// batch.
func (a *Agent) spread(t metadata.Topic, r rules, records []objectlog.Record, arrived objectlog.Timestamp) ([]*write.Batch, error) {
	keyless := AnyPartition
	index := make(map[objectlog.Partition][]int32)
	var order []objectlog.Partition
	for i := range records {
		var p objectlog.Partition
		switch {
		case records[i].Key != nil:
			p = objectlog.PartitionFor(records[i].Key, t.Partitions)
		case keyless == AnyPartition:
			keyless = a.nextPartition(t)
			fallthrough
		default:
			p = keyless
		}
		if _, ok := index[p]; !ok {
			order = append(order, p)
		}
		index[p] = append(index[p], int32(i))
	}
	if len(order) == 1 {
		return a.admitRecords(t, r, order[0], records, nil, arrived)
	}
	var shares []*write.Batch
	for _, p := range order {
		own := make([]objectlog.Record, len(index[p]))
		for k, i := range index[p] {
			own[k] = records[i]
		}
		s, err := a.admitRecords(t, r, p, own, index[p], arrived)
		if err != nil {
			return nil, err
		}
		shares = append(shares, s...)
	}
	return shares, nil
}

// nextPartition is the round robin of records without key.
func (a *Agent) nextPartition(t metadata.Topic) objectlog.Partition {
	a.robinMu.Lock()
	defer a.robinMu.Unlock()
	if len(a.robin) > robinsMax {
		clear(a.robin) // deleted topics are never taken out otherwise
	}
	next := a.robin[t.ID]
	a.robin[t.ID] = next + 1
	return objectlog.Partition(next % uint32(t.Partitions))
}

// topicForProduce finds the topic, and with AutoCreate makes it.
func (a *Agent) topicForProduce(ctx context.Context, b *ProduceBatch) (metadata.Topic, error) {
	t, err := a.find(ctx, b.Topic, b.Partition)
	if errors.Is(err, metadata.ReasonUnknownTopic) && a.cfg.AutoCreate && int32(b.Partition) < a.cfg.AutoPartitions {
		_, err = a.CreateTopic(ctx, b.Topic, a.cfg.AutoPartitions, nil, false)
		if errors.Is(err, metadata.ReasonTopicExists) { // others create it at the same moment: it may not be active yet
			settled, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
			err = a.waitCatalog(settled, func(s *metadata.State) bool { t, ok := s.Topic(b.Topic); return !ok || t.State == metadata.TopicActive })
			cancel()
		}
		if err == nil {
			t, err = a.find(ctx, b.Topic, b.Partition)
		}
	}
	return t, err
}

// serving refuses what would only wait for a shard that has stopped.
func (a *Agent) serving(n objectlog.Shard) error {
	if status := a.shards[n].log.Status(); status.Role == shardlog.RoleHalted {
		return because(Unavailable, status.Fault)
	}
	return nil
}
