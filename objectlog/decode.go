package objectlog

import (
	"bytes"
	"fmt"
)

// DecodeBatch calls yield for every record of the one batch at the start of b, with its offset; key, value and header
// bytes may point into b or into a buffer that is not reused. It checks the CRC first and stops, without error, when
// yield answers false. Records before a damaged one have been yielded when the error is answered. BatchBytes is not
// looked at: b is in memory already. Errors: ErrCorrupt, ErrInvalid, ErrTooLarge, ErrVersion.
func DecodeBatch(b []byte, limits Limits, yield func(Offset, Record) bool) error {
	limits = limits.withDefaults()
	h, err := ParseBatchHeader(b)
	if err != nil {
		return err
	}
	if err := checkCount(h, limits); err != nil {
		return fmt.Errorf("record batch: %w", err)
	}
	body := b[batchHeaderBytes:h.Bytes]
	if h.Codec != CodecNone {
		if body, err = decompressOwned(h.Codec, body, limits.DecodedBytes); err != nil {
			return fmt.Errorf("record batch: %w", err)
		}
	}
	if err := yieldRecords(body, h, limits, yield); err != nil {
		return fmt.Errorf("record batch: %w", err)
	}
	return nil
}

// decompressOwned decompresses into a buffer of just the right size that belongs to the caller. Snappy tells the size before. For
// most codecs it is not known, and a copy is cheaper than a buffer that grew to twice of what is kept.
func decompressOwned(codec Codec, stored []byte, limit int) ([]byte, error) {
	if codec == CodecSnappy {
		n, err := snappyDecodedLen(stored, limit)
		if err != nil {
			return nil, err
		}
		return readSnappy(make([]byte, 0, n), stored, limit)
	}
	scratch := getScratch()
	body, err := decompress(scratch.b[:0], codec, stored, limit)
	owned := bytes.Clone(body)
	scratch.put(body)
	return owned, err
}

func yieldRecords(body []byte, h BatchHeader, limits Limits, yield func(Offset, Record) bool) error {
	c := cursor{b: body}
	var view recordView
	for i := range h.Records {
		if err := view.read(&c, i, limits); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		r := Record{Key: view.key, Value: view.value, Headers: view.headerList(), Timestamp: h.MaxTimestamp}
		if !h.LogAppendTime {
			r.Timestamp = h.FirstTimestamp + Timestamp(view.timestampDelta)
		}
		if !yield(h.BaseOffset+Offset(i), r) {
			return nil
		}
	}
	if len(c.b) > 0 {
		return fmt.Errorf("%d bytes behind the last record: %w", len(c.b), ErrInvalid)
	}
	return nil
}

// recordView is one record as it lies in the batch. Its slices point there.
type recordView struct {
	timestampDelta int64
	key, value     []byte
	headers        []byte // encoded, already checked
	headerCount    int
}

// read takes record i of the batch from c.
func (r *recordView) read(c *cursor, i int32, limits Limits) error {
	length := int64(c.varint32())
	if c.bad || length < 0 || length > int64(len(c.b)) {
		return fmt.Errorf("length %d with %d bytes left: %w", length, len(c.b), ErrInvalid)
	}
	if length > int64(limits.RecordBytes) {
		return fmt.Errorf("%d bytes, the limit is %d: %w", length, limits.RecordBytes, ErrTooLarge)
	}
	in := cursor{b: c.take(length)}
	in.byte() // attributes: Kafka defines none and ignores them
	r.timestampDelta = in.varint()
	offsetDelta := in.varint32()
	r.key = in.nullable()
	r.value = in.nullable()
	count := in.varint32()
	if in.bad || count < 0 {
		return fmt.Errorf("a field goes beyond its %d bytes: %w", length, ErrInvalid)
	}
	if offsetDelta != i {
		return fmt.Errorf("offset delta %d: %w", offsetDelta, ErrInvalid)
	}
	if int(count) > limits.Headers {
		return fmt.Errorf("%d headers, the limit is %d: %w", count, limits.Headers, ErrTooLarge)
	}
	r.headers, r.headerCount = in.b, int(count)
	for range count {
		in.take(int64(in.varint32()))
		in.nullable()
		if in.bad {
			return fmt.Errorf("its %d headers go beyond its %d bytes: %w", count, length, ErrInvalid)
		}
	}
	if len(in.b) > 0 {
		return fmt.Errorf("%d of its %d bytes are not used: %w", len(in.b), length, ErrInvalid)
	}
	return nil
}

func (r *recordView) headerList() []Header {
	if r.headerCount == 0 {
		return nil
	}
	c := cursor{b: r.headers}
	list := make([]Header, r.headerCount)
	for i := range list {
		list[i] = Header{Key: string(c.take(int64(c.varint32()))), Value: c.nullable()}
	}
	return list
}

// nullable reads a length and as many bytes; nil for length -1.
func (c *cursor) nullable() []byte {
	n := c.varint32()
	if n == -1 {
		return nil
	}
	return c.take(int64(n))
}
