package objectlog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format, in the profile that Kafka's Java client reads: one frame, independent blocks, no dictionary.
// All integers are little-endian.
//
//	0  04 22 4d 18      magic
//	4  flags            bits 6-7 version 01, 5 independent blocks, 4 block checksums, 3 content size, 2 content checksum
//	5  block size       bits 4-6: 4 to 7 for 64 KiB, 256 KiB, 1 MiB, 4 MiB
//	6  content size     uint64, if its flag is set
//	   header checksum  byte 1 of the XXH32 of flags to content size
//	   blocks: length uint32 (bit 31: stored), data, checksum uint32 if its flag is set
//	   end              uint32 0
//	   content checksum XXH32, if its flag is set
//
// lz4's own frame reader also takes legacy, dependent, skipped and concatenated frames, which would be poison to
// Java consumers, and gives the decoded size no bound; hence this one.
const (
	lz4Magic          = 0x184d2204
	lz4HeaderBytes    = 7 // without content size
	lz4BlockBytes     = 64 << 10
	lz4Stored         = 1 << 31
	lz4Independent    = 0x20
	lz4BlockChecksums = 0x10
	lz4ContentSize    = 0x08
	lz4ContentSum     = 0x04
)

// lz4Header begins what is written: 64 KiB blocks, no checksums, which the batch's own makes superfluous.
const lz4Header = "\x04\x22\x4d\x18\x60\x40\x82"

func maxLZ4Len(bodyBytes int) int {
	return len(lz4Header) + bodyBytes + 4*(bodyBytes/lz4BlockBytes+1) + 4
}

var lz4Compressors = sync.Pool{New: func() any { return new(lz4.Compressor) }}

func appendLZ4(dst, body []byte) []byte {
	c := lz4Compressors.Get().(*lz4.Compressor)
	defer lz4Compressors.Put(c)
	dst = append(dst, lz4Header...)
	for chunk := range slices.Chunk(body, lz4BlockBytes) {
		at := len(dst)
		dst = slices.Grow(dst, 4+len(chunk))
		// No result and an error mean the same: the block does not become smaller.
		n, err := c.CompressBlock(chunk, dst[at+4:at+4+len(chunk)])
		length := uint32(n)
		if err != nil || n == 0 {
			n = copy(dst[at+4:at+4+len(chunk)], chunk)
			length = uint32(n) | lz4Stored
		}
		dst = dst[:at+4+n]
		binary.LittleEndian.PutUint32(dst[at:], length)
	}
	return append(dst, 0, 0, 0, 0)
}

func readLZ4(dst, stored []byte, limit int) ([]byte, error) {
	f, err := parseLZ4Header(stored)
	if err != nil {
		return dst, err
	}
	if f.contentSize > uint64(limit) {
		return dst, errDecoded("lz4", limit)
	}
	for {
		length := f.uint32()
		if f.bad {
			return dst, fmt.Errorf("lz4: no end mark: %w", ErrInvalid)
		}
		if length == 0 {
			break
		}
		if dst, err = f.readBlock(dst, length, limit); err != nil {
			return dst, err
		}
	}
	if f.flags&lz4ContentSum != 0 && f.uint32() != xxh32(dst) {
		return dst, fmt.Errorf("lz4: content checksum: %w", ErrInvalid)
	}
	if f.flags&lz4ContentSize != 0 && f.contentSize != uint64(len(dst)) {
		return dst, fmt.Errorf("lz4: content is %d bytes, the frame says %d: %w", len(dst), f.contentSize, ErrInvalid)
	}
	if f.bad || len(f.b) > 0 {
		return dst, fmt.Errorf("lz4: %d bytes behind the frame: %w", len(f.b), ErrInvalid)
	}
	return dst, nil
}

// lz4Frame is a frame whose header has been read; the cursor is behind it.
type lz4Frame struct {
	cursor
	flags       byte
	blockBytes  int
	contentSize uint64
}

// uint32 is little-endian here.
func (f *lz4Frame) uint32() uint32 { return bits.ReverseBytes32(f.cursor.uint32()) }

func parseLZ4Header(stored []byte) (lz4Frame, error) {
	f := lz4Frame{cursor: cursor{b: stored}}
	magic := f.uint32()
	f.flags = f.byte()
	size := f.byte()
	described := 2
	if f.flags&lz4ContentSize != 0 {
		described += 8
		if raw := f.take(8); raw != nil {
			f.contentSize = binary.LittleEndian.Uint64(raw)
		}
	}
	sum := f.byte()
	switch code := size >> 4; {
	case f.bad || magic != lz4Magic:
		return f, fmt.Errorf("lz4: not a frame: %w", ErrInvalid)
	case sum != byte(xxh32(stored[4:4+described])>>8):
		return f, fmt.Errorf("lz4: header checksum: %w", ErrInvalid)
	case f.flags>>6 != 1 || f.flags&0x03 != 0 || size&0x8f != 0 || code < 4:
		return f, fmt.Errorf("lz4: flags %#02x %#02x: dictionary, version or block size that Kafka does not have: %w", f.flags, size, ErrInvalid)
	case f.flags&lz4Independent == 0:
		return f, fmt.Errorf("lz4: blocks that depend on each other, which Kafka's clients do not read: %w", ErrInvalid)
	default:
		f.blockBytes = 1 << (8 + 2*code)
	}
	return f, nil
}

// readBlock appends the next block, of the given length field, to dst.
func (f *lz4Frame) readBlock(dst []byte, length uint32, limit int) ([]byte, error) {
	block := f.take(int64(length &^ lz4Stored))
	if f.bad || len(block) > f.blockBytes {
		return dst, fmt.Errorf("lz4: block of %d bytes: %w", length&^lz4Stored, ErrInvalid)
	}
	if f.flags&lz4BlockChecksums != 0 && f.uint32() != xxh32(block) {
		return dst, fmt.Errorf("lz4: block checksum: %w", ErrInvalid)
	}
	if length&lz4Stored != 0 {
		if len(block) > limit-len(dst) {
			return dst, errDecoded("lz4", limit)
		}
		return append(room(dst, len(block), limit), block...), nil
	}
	// A byte of a block makes at most 255: less room than the frame's block size will often do.
	space := min(f.blockBytes, 255*len(block))
	dst = room(dst, space, limit)
	n, err := lz4.UncompressBlock(block, dst[len(dst):len(dst)+space])
	if err != nil {
		return dst, fmt.Errorf("lz4: %w: %w", ErrInvalid, err)
	}
	if n > limit-len(dst) {
		return dst, errDecoded("lz4", limit)
	}
	return dst[:len(dst)+n], nil
}

// xxh32 is XXH32 with seed 0 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	le := binary.LittleEndian
	h := uint32(p5)
	length := uint32(len(b))
	if len(b) >= 16 {
		lane := [4]uint32{p1, p2, 0, 0}
		lane[0] += p2
		lane[3] -= p1
		for ; len(b) >= 16; b = b[16:] {
			lane[0] = bits.RotateLeft32(lane[0]+le.Uint32(b)*p2, 13) * p1
			lane[1] = bits.RotateLeft32(lane[1]+le.Uint32(b[4:])*p2, 13) * p1
			lane[2] = bits.RotateLeft32(lane[2]+le.Uint32(b[8:])*p2, 13) * p1
			lane[3] = bits.RotateLeft32(lane[3]+le.Uint32(b[12:])*p2, 13) * p1
		}
		h = bits.RotateLeft32(lane[0], 1) + bits.RotateLeft32(lane[1], 7) +
			bits.RotateLeft32(lane[2], 12) + bits.RotateLeft32(lane[3], 18)
	}
	h += length
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+le.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
