package objectlog

import (
	"encoding/binary"
	"fmt"
)

// CheckBatch validates one batch that a client encoded, all of it: header, CRC, decompression within limits, record
// count, contiguous offset deltas, timestamps, sequence fields; control and transactional bits are refused. b must hold
// exactly one batch. Errors: ErrCorrupt, ErrInvalid, ErrTooLarge, ErrVersion.
//
// The rules are those of Kafka's broker (LogValidator). As there, LogAppendTime is not a client's to set, and a max
// timestamp that is not the latest of the records (Sarama writes none) is put right, in b and with a new CRC. The
// header answered is that of b as CheckBatch leaves it.
func CheckBatch(b []byte, limits Limits) (BatchHeader, error) {
	limits = limits.withDefaults()
	if len(b) > limits.BatchBytes {
		return BatchHeader{}, fmt.Errorf("record batch: %d bytes, the limit is %d: %w", len(b), limits.BatchBytes, ErrTooLarge)
	}
	h, err := ParseBatchHeader(b)
	if err != nil {
		return BatchHeader{}, err
	}
	if h.Bytes != len(b) {
		return BatchHeader{}, fmt.Errorf("record batch: %d bytes behind its end: %w", len(b)-h.Bytes, ErrInvalid)
	}
	if err := checkHeader(h, binary.BigEndian.Uint16(b[batchAttributes:]), limits); err != nil {
		return BatchHeader{}, fmt.Errorf("record batch: %w", err)
	}
	check := checkCompressed
	if h.Codec == CodecNone {
		check = checkRecords
	}
	latest, err := check(b[batchHeaderBytes:], h, limits)
	if err != nil {
		return BatchHeader{}, fmt.Errorf("record batch: %w", err)
	}
	if latest != h.MaxTimestamp {
		binary.BigEndian.PutUint64(b[batchMaxTimeAt:], uint64(latest))
		h.MaxTimestamp, h.CRC = latest, sealBatch(b)
	}
	return h, nil
}

// checkHeader judges the header's fields by themselves.
func checkHeader(h BatchHeader, attributes uint16, limits Limits) error {
	const known = attrCodec | attrLogAppendTime | attrTransactional | attrControl
	switch {
	case h.Control:
		return fmt.Errorf("control bit set by a client: %w", ErrInvalid)
	case h.Transactional:
		return fmt.Errorf("transactional bit set: %w", ErrInvalid)
	case h.LogAppendTime:
		return fmt.Errorf("LogAppendTime bit set by a client: %w", ErrInvalid)
	case attributes&^known != 0:
		return fmt.Errorf("unknown attribute bits %#04x: %w", attributes&^known, ErrInvalid)
	case h.FirstTimestamp < NoTimestamp:
		return fmt.Errorf("base timestamp %d is negative: %w", h.FirstTimestamp, ErrInvalid)
	}
	if err := checkCount(h, limits); err != nil {
		return err
	}
	return checkProducer(h.ProducerID, h.ProducerEpoch, h.FirstSequence)
}

func checkCount(h BatchHeader, limits Limits) error {
	switch {
	case h.Records <= 0:
		return fmt.Errorf("%d records: %w", h.Records, ErrInvalid)
	case h.LastOffsetDelta != h.Records-1:
		return fmt.Errorf("last offset delta %d with %d records: %w", h.LastOffsetDelta, h.Records, ErrInvalid)
	case int(h.Records) > limits.Records:
		return fmt.Errorf("%d records, the limit is %d: %w", h.Records, limits.Records, ErrTooLarge)
	}
	return nil
}

// checkProducer wants epoch and sequence of a producer. Without one they mean nothing, and clients write -1 or 0.
func checkProducer(id ProducerID, epoch int16, sequence int32) error {
	if id == NoProducer || id >= 0 && epoch >= 0 && sequence >= 0 {
		return nil
	}
	return fmt.Errorf("producer id %d with epoch %d and sequence %d: %w", id, epoch, sequence, ErrInvalid)
}

func checkCompressed(stored []byte, h BatchHeader, limits Limits) (latest Timestamp, err error) {
	scratch := getScratch()
	body, err := decompress(scratch.b[:0], h.Codec, stored, limits.DecodedBytes)
	if err == nil && h.Codec == CodecSnappy {
		err = checkSnappy(stored)
	}
	if err == nil {
		latest, err = checkRecords(body, h, limits)
	}
	scratch.put(body)
	return latest, err
}

// checkRecords walks all records of a batch without keeping any, and answers the latest timestamp.
func checkRecords(body []byte, h BatchHeader, limits Limits) (latest Timestamp, err error) {
	c := cursor{b: body}
	var r recordView
	latest = NoTimestamp
	for i := range h.Records {
		if err := r.read(&c, i, limits); err != nil {
			return latest, fmt.Errorf("record %d: %w", i, err)
		}
		at := h.FirstTimestamp + Timestamp(r.timestampDelta)
		if at < NoTimestamp {
			return latest, fmt.Errorf("record %d: timestamp delta %d from %d: %w", i, r.timestampDelta, h.FirstTimestamp, ErrInvalid)
		}
		latest = max(latest, at)
	}
	if len(c.b) > 0 {
		return latest, fmt.Errorf("%d bytes behind the last record: %w", len(c.b), ErrInvalid)
	}
	return latest, nil
}

func (l Limits) withDefaults() Limits {
	fill := func(field *int, byDefault int) {
		if *field == 0 {
			*field = byDefault
		}
	}
	fill(&l.BatchBytes, 1<<20+batchLengthNext)
	fill(&l.DecodedBytes, 64<<20)
	fill(&l.Records, 1_000_000)
	fill(&l.RecordBytes, 32<<20)
	fill(&l.Headers, 10_000)
	return l
}
