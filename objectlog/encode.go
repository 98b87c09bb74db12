package objectlog

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// BatchOptions say how EncodeBatch encodes. The zero value is an uncompressed batch of producer 0 from 1970: give
// LogAppendTime and ProducerID always.
type BatchOptions struct {
	Codec         Codec
	LogAppendTime Timestamp // when not NoTimestamp: the time of all records, and the attribute bit is set
	ProducerID    ProducerID
	ProducerEpoch int16 // ignored with NoProducer, as is FirstSequence
	FirstSequence int32
}

// EncodeBatch appends one batch with the records, base offset 0, to dst. A codec that would not make it smaller is
// still used: the choice is the caller's. records is not empty. Errors: ErrInvalid for options or timestamps that the
// format has no room for, ErrTooLarge for a batch beyond 2 GiB; then dst comes back as it was.
func EncodeBatch(dst []byte, records []Record, o BatchOptions) ([]byte, error) {
	if err := o.check(records); err != nil {
		return dst, fmt.Errorf("encode record batch: %w", err)
	}
	start := len(dst)
	base := records[0].Timestamp
	if o.LogAppendTime != NoTimestamp {
		base = o.LogAppendTime
	}
	bodyBytes, latest := measureRecords(records, o)
	if bodyBytes > math.MaxInt32-batchHeaderBytes {
		return dst, fmt.Errorf("encode record batch: %d bytes of records: %w", bodyBytes, ErrTooLarge)
	}
	out := slices.Grow(dst, batchHeaderBytes+o.Codec.encodedEstimate(bodyBytes))[:start+batchHeaderBytes]
	if o.Codec == CodecNone {
		out = appendRecords(out, records, o)
	} else {
		scratch := getScratch()
		body := appendRecords(slices.Grow(scratch.b[:0], bodyBytes), records, o)
		out = compress(out, o.Codec, body)
		scratch.put(body)
	}
	if len(out)-start > math.MaxInt32 {
		return dst, fmt.Errorf("encode record batch: %d bytes: %w", len(out)-start, ErrTooLarge)
	}
	o.putHeader(out[start:], len(records), base, latest)
	return out, nil
}

func (o BatchOptions) check(records []Record) error {
	switch {
	case len(records) == 0:
		return fmt.Errorf("no records: %w", ErrInvalid)
	case len(records) > math.MaxInt32:
		return fmt.Errorf("%d records: %w", len(records), ErrTooLarge)
	case o.Codec > CodecZstd:
		return fmt.Errorf("codec %d is unknown: %w", o.Codec, ErrInvalid)
	case o.LogAppendTime < NoTimestamp:
		return fmt.Errorf("append time %d is negative: %w", o.LogAppendTime, ErrInvalid)
	}
	if err := checkProducer(o.ProducerID, o.ProducerEpoch, o.FirstSequence); err != nil {
		return err
	}
	for i := range records {
		if t := records[i].Timestamp; t < NoTimestamp {
			return fmt.Errorf("record %d: timestamp %d is negative: %w", i, t, ErrInvalid)
		}
	}
	return nil
}

// putHeader writes the header of a batch whose records lie behind it already.
func (o BatchOptions) putHeader(batch []byte, records int, base, latest Timestamp) {
	attributes := uint16(o.Codec)
	if o.LogAppendTime != NoTimestamp {
		attributes |= attrLogAppendTime
	}
	epoch, sequence := o.ProducerEpoch, o.FirstSequence
	if o.ProducerID == NoProducer {
		epoch, sequence = -1, -1
	}
	be := binary.BigEndian
	be.PutUint64(batch, 0)
	be.PutUint32(batch[batchLengthAt:], uint32(len(batch)-batchLengthNext))
	be.PutUint32(batch[batchEpochAt:], 0)
	batch[batchMagicAt] = batchMagic
	be.PutUint16(batch[batchAttributes:], attributes)
	be.PutUint32(batch[batchLastDeltaAt:], uint32(records-1))
	be.PutUint64(batch[batchBaseTimeAt:], uint64(base))
	be.PutUint64(batch[batchMaxTimeAt:], uint64(latest))
	be.PutUint64(batch[batchProducerAt:], uint64(o.ProducerID))
	be.PutUint16(batch[batchProdEpochAt:], uint16(epoch))
	be.PutUint32(batch[batchSequenceAt:], uint32(sequence))
	be.PutUint32(batch[batchRecordsAt:], uint32(records))
	sealBatch(batch)
}

// A record inside a batch. Varints are zigzag, of 32 bits unless noted.
//
//	length            varint    bytes behind this field
//	attributes        int8      0
//	timestamp delta   varint64  to the batch's base timestamp
//	offset delta      varint    0, 1, 2, ...
//	key length        varint    -1: no key
//	key
//	value length      varint    -1: a tombstone
//	value
//	headers           varint
//	  key length      varint
//	  key             UTF-8
//	  value length    varint    -1: null
//	  value
func appendRecords(dst []byte, records []Record, o BatchOptions) []byte {
	for i := range records {
		r := &records[i]
		delta := timestampDelta(records, i, o)
		dst = binary.AppendVarint(dst, int64(recordLen(r, i, delta)))
		dst = append(dst, 0)
		dst = binary.AppendVarint(dst, delta)
		dst = binary.AppendVarint(dst, int64(i))
		dst = appendNullable(dst, r.Key)
		dst = appendNullable(dst, r.Value)
		dst = binary.AppendVarint(dst, int64(len(r.Headers)))
		for j := range r.Headers {
			h := &r.Headers[j]
			dst = binary.AppendVarint(dst, int64(len(h.Key)))
			dst = append(dst, h.Key...)
			dst = appendNullable(dst, h.Value)
		}
	}
	return dst
}

// measureRecords answers the bytes that appendRecords will append and the batch's max timestamp.
func measureRecords(records []Record, o BatchOptions) (total int, latest Timestamp) {
	latest = o.LogAppendTime
	for i := range records {
		n := recordLen(&records[i], i, timestampDelta(records, i, o))
		total += varintLen(int64(n)) + n
		if o.LogAppendTime == NoTimestamp {
			latest = max(latest, records[i].Timestamp)
		}
	}
	return total, latest
}

func timestampDelta(records []Record, i int, o BatchOptions) int64 {
	if o.LogAppendTime != NoTimestamp {
		return 0
	}
	return int64(records[i].Timestamp - records[0].Timestamp)
}

// recordLen is what the length field of the record says.
func recordLen(r *Record, i int, delta int64) int {
	n := 1 + varintLen(delta) + varintLen(int64(i)) + nullableLen(r.Key) + nullableLen(r.Value)
	n += varintLen(int64(len(r.Headers)))
	for j := range r.Headers {
		h := &r.Headers[j]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + nullableLen(h.Value)
	}
	return n
}

func nullableLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func appendNullable(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}
