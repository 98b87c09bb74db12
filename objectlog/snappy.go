package objectlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/s2"
)

// Kafka's Java client writes snappy in the frame of snappy-java ("xerial"), librdkafka and others a bare block, and
// all of them read both. This reads both and writes the frame: the Java client takes blocks of a frame one at a time.
//
//	 0  82 53 4e 41 50 50 59 00   magic
//	 8  version                   uint32   1
//	12  compatible with           uint32   1
//	16  blocks, to the end: length int32, then a snappy block of so many bytes
const (
	xerialMagic       = "\x82SNAPPY\x00"
	xerialHeaderBytes = 16
	snappyBlockBytes  = 64 << 10 // of body in one block written
)

func maxSnappyLen(bodyBytes int) int {
	blocks := (bodyBytes + snappyBlockBytes - 1) / snappyBlockBytes
	return xerialHeaderBytes + blocks*4 + s2.MaxEncodedLen(bodyBytes) + blocks*(s2.MaxEncodedLen(snappyBlockBytes)-snappyBlockBytes)
}

func appendSnappy(dst, body []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
	for chunk := range slices.Chunk(body, snappyBlockBytes) {
		at := len(dst)
		dst = slices.Grow(dst, 4+s2.MaxEncodedLen(len(chunk)))
		block := s2.EncodeSnappy(dst[at+4:cap(dst)], chunk)
		dst = dst[:at+4+len(block)]
		binary.BigEndian.PutUint32(dst[at:], uint32(len(block)))
	}
	return dst
}

func readSnappy(dst, stored []byte, limit int) ([]byte, error) {
	if len(stored) < xerialHeaderBytes || !bytes.HasPrefix(stored, []byte(xerialMagic)) {
		return readSnappyBlock(dst, stored, limit)
	}
	if oldest := binary.BigEndian.Uint32(stored[12:]); oldest != 1 {
		return dst, fmt.Errorf("snappy: frame for readers of version %d: %w", oldest, ErrInvalid)
	}
	rest := stored[xerialHeaderBytes:]
	for len(rest) > 0 {
		if len(rest) < 4 {
			return dst, fmt.Errorf("snappy: %d bytes behind the last block: %w", len(rest), ErrInvalid)
		}
		n := int64(binary.BigEndian.Uint32(rest))
		if n > int64(len(rest)-4) {
			return dst, fmt.Errorf("snappy: block of %d bytes with %d left: %w", n, len(rest)-4, ErrInvalid)
		}
		var err error
		if dst, err = readSnappyBlock(dst, rest[4:4+n], limit); err != nil {
			return dst, err
		}
		rest = rest[4+n:]
	}
	return dst, nil
}

// readSnappyBlock appends one decompressed block to dst.
func readSnappyBlock(dst, block []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return dst, fmt.Errorf("snappy: %w: %w", ErrInvalid, err)
	case n > limit-len(dst):
		return dst, errDecoded("snappy", limit)
	case n > 22*len(block)+64:
		// A copy makes at most 64 bytes of 3: do not set aside memory for a length that is a lie.
		return dst, fmt.Errorf("snappy: %d bytes cannot become %d: %w", len(block), n, ErrInvalid)
	case !isSnappy(block):
		return dst, fmt.Errorf("snappy: block has S2 extensions or is cut off: %w", ErrInvalid)
	}
	dst = room(dst, n, limit)
	if _, err := s2.Decode(dst[len(dst):len(dst)+n:len(dst)+n], block); err != nil {
		return dst, fmt.Errorf("snappy: %w: %w", ErrInvalid, err)
	}
	return dst[:len(dst)+n], nil
}

// isSnappy tells snappy from S2, which s2's decoder reads as well but Kafka's clients do not: S2 gives a copy of offset
// 0 a meaning. One such batch would stop every consumer of its partition. This walks the tags only, without branches
// that depend on their kinds: those are as good as random, and a missed branch costs more than the rest.
func isSnappy(block []byte) bool {
	_, at := binary.Uvarint(block)
	for at+1 < len(block) {
		tag := uint(block[at])
		if (tag|uint(block[at+1])<<8)&0xffe3 == 0x0001 {
			return false // a copy whose offset of 11 bits is 0
		}
		if tag&0xf3 == 60<<2 { // a literal whose length follows
			n := int(tag>>2) - 59 // bytes of the literal's length
			if n > len(block)-at-1 {
				return false
			}
			var length [4]byte
			copy(length[:], block[at+1:at+1+n])
			at += n + int(binary.LittleEndian.Uint32(length[:])) + 2
			continue
		}
		kind := tag & 3
		literal := (kind - 1) >> (bits.UintSize - 1) // 1 for a literal, 0 for a copy
		at += int(0x05_03_02_00>>(8*kind)&0xff + literal*(tag>>2+2))
	}
	return at == len(block)
}
