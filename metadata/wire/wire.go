// Package wire is how commands, results and snapshots of the machines of a shard log are written: integers as varints (signed ones
// zigzag), checksums and random numbers as four bytes big-endian, UUIDs as they are, strings behind their length, lists behind their count.
package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// AppendInt writes a number that is not negative. A negative one becomes one that every bound refuses.
func AppendInt[T ~int | ~int16 | ~int32 | ~int64](dst []byte, v T) []byte {
	return binary.AppendUvarint(dst, uint64(v))
}

// AppendUint32 writes four bytes.
func AppendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

// AppendString writes a string behind its length.
func AppendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// Reader reads what the append functions wrote. It is total: the first fault stays in Err, and all later reads answer zero. What is read is named
// in the fault.
type Reader struct {
	B   []byte // not read yet
	Err error
}

// Fail notes a fault, unless there is one.
func (r *Reader) Fail(format string, args ...any) {
	if r.Err == nil {
		r.Err = fmt.Errorf(format, args...)
	}
	r.B = nil
}

// Uvarint reads a number that is not negative.
func (r *Reader) Uvarint(what string) uint64 {
	if len(r.B) > 0 && r.B[0] < 0x80 {
		v := uint64(r.B[0])
		r.B = r.B[1:]
		return v
	}
	v, n := binary.Uvarint(r.B)
	if n <= 0 {
		r.Fail("%s: cut short or too long", what)
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Varint reads a number of either sign.
func (r *Reader) Varint(what string) int64 {
	v := r.Uvarint(what)
	return int64(v>>1) ^ -int64(v&1)
}

// Bounded reads a number of at most limit.
func (r *Reader) Bounded(what string, limit uint64) uint64 {
	v := r.Uvarint(what)
	if v > limit {
		r.Fail("%s: %d is above %d", what, v, limit)
		return 0
	}
	return v
}

// Bytes reads n bytes, which stay part of the input.
func (r *Reader) Bytes(what string, n int) []byte {
	if n < 0 || n > len(r.B) {
		r.Fail("%s: cut short", what)
		return nil
	}
	b := r.B[:n]
	r.B = r.B[n:]
	return b
}

// Byte reads one.
func (r *Reader) Byte(what string) byte {
	if b := r.Bytes(what, 1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// Uint32 reads four bytes.
func (r *Reader) Uint32(what string) uint32 {
	if len(r.B) < 4 {
		r.Fail("%s: cut short", what)
		return 0
	}
	v := binary.BigEndian.Uint32(r.B)
	r.B = r.B[4:]
	return v
}

// UUID reads sixteen bytes.
func (r *Reader) UUID(what string) (u objectlog.UUID) {
	copy(u[:], r.Bytes(what, len(u)))
	return u
}

// String reads a string of at most limit bytes.
func (r *Reader) String(what string, limit int) string {
	return string(r.Bytes(what, int(r.Bounded(what, uint64(limit)))))
}

// Count reads the length of a list whose elements take at least bytesMin bytes each, so that garbage cannot make the caller
// allocate more than a small multiple of what it was given.
func (r *Reader) Count(what string, bytesMin int) int {
	return int(r.Bounded(what, uint64(len(r.B)/bytesMin)))
}

// End answers the first fault; bytes that nobody read are one.
func (r *Reader) End() error {
	if r.Err == nil && len(r.B) > 0 {
		r.Fail("%d bytes too many", len(r.B))
	}
	return r.Err
}
