package shardlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/splashdam/splashdam/objectlog"
)

// formatLevel is written into every entry, lease item and snapshot. A program meets a later level with a specific error
// before it looks at anything else.
const formatLevel = 1

// The head and tail that entries, lease items and snapshots share; integers are big-endian:
//
//	0   4  magic
//	4   2  format level
//	6   …  fields of the kind
//	…   4  CRC32C of everything before it
const (
	magicBytes = 4
	headBytes  = magicBytes + 2
	crcBytes   = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func appendHead(dst []byte, magic string) []byte {
	dst = append(dst, magic...)
	return binary.BigEndian.AppendUint16(dst, formatLevel)
}

func appendCRC(dst []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(dst, crc32c(dst[start:]))
}

func appendBytes[B []byte | string](dst []byte, b B) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// decoder reads fields front to back. After the first error every read answers zero and err stays.
type decoder struct {
	rest []byte
	err  error
}

// openBody checks magic, level and CRC, in this order, and answers a decoder of the fields between.
func openBody(b []byte, magic string) *decoder {
	switch {
	case len(b) < headBytes || string(b[:magicBytes]) != magic:
		return &decoder{err: fmt.Errorf("%w: no magic %q", objectlog.ErrCorrupt, magic)}
	case binary.BigEndian.Uint16(b[magicBytes:]) != formatLevel:
		return &decoder{err: fmt.Errorf("%w: format level %d, this program knows %d", objectlog.ErrVersion,
			binary.BigEndian.Uint16(b[magicBytes:]), formatLevel)}
	case len(b) < headBytes+crcBytes:
		return &decoder{err: fmt.Errorf("%w: %d bytes", objectlog.ErrCorrupt, len(b))}
	}
	body := b[:len(b)-crcBytes]
	if got, want := crc32c(body), binary.BigEndian.Uint32(b[len(body):]); got != want {
		return &decoder{err: fmt.Errorf("%w: CRC32C %08x, want %08x", objectlog.ErrCorrupt, got, want)}
	}
	return &decoder{rest: body[headBytes:]}
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", objectlog.ErrCorrupt, what)
	}
	d.rest = nil
}

// take answers the next n bytes, which stay part of the input.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.fail("cut short")
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) bytes16() (b [16]byte) {
	copy(b[:], d.take(16))
	return b
}

// uvarint reads the shortest form only, so that equal values have equal bytes.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.fail("bad varint")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number of things that take at least one byte each.
func (d *decoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.rest)) {
		d.fail("count beyond the end")
		return 0
	}
	return int(v)
}

func (d *decoder) bytes() []byte { return d.take(d.count()) }

// close answers the first error, or one if anything is left over.
func (d *decoder) close() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.rest)))
	}
	return d.err
}
