package objectlog

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Varints are those of protobuf: seven bits a byte, lowest first, the high bit set on all but the last. Signed values
// are zigzag encoded (0, -1, 1, -2 become 0, 1, 2, 3).

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func varintLen(v int64) int { return uvarintLen(zigzag(v)) }

// cursor reads a byte string from the front. What does not fit sets bad, and everything read from then on is zero: a
// caller checks bad once, before it believes anything.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.b, c.bad = nil, true
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uint32() uint32 {
	if len(c.b) < 4 {
		c.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return v
}

// take answers the next n bytes, never nil unless they are not there.
func (c *cursor) take(n int64) []byte {
	if n < 0 || n > int64(len(c.b)) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := uint64(c.b[0])
		c.b = c.b[1:]
		return v
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// uvarintMax reads a varint that must not exceed limit.
func (c *cursor) uvarintMax(limit uint64) uint64 {
	v := c.uvarint()
	if v > limit {
		c.fail()
		return 0
	}
	return v
}

// varint reads a zigzag varint of 64 bits.
func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// varint32 reads a zigzag varint of 32 bits.
func (c *cursor) varint32() int32 {
	u := c.uvarintMax(math.MaxUint32)
	return int32(uint32(u)>>1) ^ -int32(u&1)
}
