package objectlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
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
	err := snappyBlocks(stored, limit-len(dst), func(block []byte, n int) error {
		dst = room(dst, n, limit)
		if _, err := s2.Decode(dst[len(dst):len(dst)+n:len(dst)+n], block); err != nil {
			return fmt.Errorf("snappy: %w: %w", ErrInvalid, err)
		}
		dst = dst[:len(dst)+n]
		return nil
	})
	return dst, err
}

// snappyDecodedLen is what the blocks say that they decompress to, as far as that can be.
func snappyDecodedLen(stored []byte, limit int) (total int, err error) {
	err = snappyBlocks(stored, limit, func(_ []byte, n int) error {
		total += n
		return nil
	})
	return total, err
}

// snappyBlocks yields every block and the length that it has decompressed, until yield answers an error. Together they do not
// exceed limit.
func snappyBlocks(stored []byte, limit int, yield func(block []byte, n int) error) error {
	bound := limit
	one := func(block []byte) error {
		n, err := s2.DecodedLen(block)
		switch {
		case err != nil:
			return fmt.Errorf("snappy: %w: %w", ErrInvalid, err)
		case n > limit:
			return errDecoded("snappy", bound)
		case n > 22*len(block)+64:
			// A copy makes at most 64 bytes of 3: do not set aside memory for a length that is a lie.
			return fmt.Errorf("snappy: %d bytes cannot become %d: %w", len(block), n, ErrInvalid)
		}
		limit -= n
		return yield(block, n)
	}
	if len(stored) < xerialHeaderBytes || !bytes.HasPrefix(stored, []byte(xerialMagic)) {
		return one(stored)
	}
	if oldest := binary.BigEndian.Uint32(stored[12:]); oldest != 1 {
		return fmt.Errorf("snappy: frame for readers of version %d: %w", oldest, ErrInvalid)
	}
	rest := stored[xerialHeaderBytes:]
	for len(rest) > 0 {
		if len(rest) < 4 {
			return fmt.Errorf("snappy: %d bytes behind the last block: %w", len(rest), ErrInvalid)
		}
		n := int64(binary.BigEndian.Uint32(rest))
		if n > int64(len(rest)-4) {
			return fmt.Errorf("snappy: block of %d bytes with %d left: %w", n, len(rest)-4, ErrInvalid)
		}
		if err := one(rest[4 : 4+n]); err != nil {
			return err
		}
		rest = rest[4+n:]
	}
	return nil
}

// checkSnappy tells snappy from S2, which s2's decoder reads as well but Kafka's clients do not: S2 gives a copy of offset
// 0 a meaning. One such batch would stop every consumer of its partition, so a client's batch must not have it; readers need not
// look again. stored has been decompressed: its frame is whole.
func checkSnappy(stored []byte) error {
	plain := false
	if bytes.HasPrefix(stored, []byte(xerialMagic)) {
		plain = isSnappyFrame(stored[xerialHeaderBytes:])
	} else {
		plain = isSnappy(stored, blockStart(stored))
	}
	if !plain {
		return fmt.Errorf("snappy: block has S2 extensions or is cut off: %w", ErrInvalid)
	}
	return nil
}

// isSnappyFrame checks four blocks at a time. A lane without a new block walks an old one again: that costs less than to walk the
// others one by one.
func isSnappyFrame(blocks []byte) bool {
	var lanes [4][]byte
	for n := 0; len(blocks) > 0; n++ {
		next := 4 + binary.BigEndian.Uint32(blocks)
		block := blocks[4:next]
		if blocks = blocks[next:]; n == 0 {
			lanes = [4][]byte{block, block, block, block}
		}
		lanes[n%4] = block
		if (n%4 == 3 || len(blocks) == 0) && !areSnappy(lanes[0], lanes[1], lanes[2], lanes[3]) {
			return false
		}
	}
	return true
}

// areSnappy walks the tags of four blocks at once, as far as the shortest goes. Where the next tag is depends on this one: in one
// block there is nothing to do but wait for it.
func areSnappy(a, b, c, d []byte) bool {
	i, j, k, l := blockStart(a), blockStart(b), blockStart(c), blockStart(d)
	for i+1 < len(a) && j+1 < len(b) && k+1 < len(c) && l+1 < len(d) {
		s, t, u, v := binary.LittleEndian.Uint16(a[i:]), binary.LittleEndian.Uint16(b[j:]), binary.LittleEndian.Uint16(c[k:]), binary.LittleEndian.Uint16(d[l:])
		if extends(s) || extends(t) || extends(u) || extends(v) {
			return false
		}
		i += tagBytes(s, a, i)
		j += tagBytes(t, b, j)
		k += tagBytes(u, c, k)
		l += tagBytes(v, d, l)
	}
	return isSnappy(a, i) && isSnappy(b, j) && isSnappy(c, k) && isSnappy(d, l)
}

// isSnappy walks the tags of a block from one of them on.
func isSnappy(block []byte, at int) bool {
	for at+1 < len(block) {
		tag := binary.LittleEndian.Uint16(block[at:])
		if extends(tag) {
			return false
		}
		at += tagBytes(tag, block, at)
	}
	return at == len(block)
}

// blockStart is where the first tag is, behind the length.
func blockStart(block []byte) int {
	_, n := binary.Uvarint(block)
	return n
}

// extends says whether a tag and the byte behind it are a copy whose offset of 11 bits is 0.
func extends(tag uint16) bool { return tag&0xffe3 == 0x0001 }

// tagSteps is how far the next tag is, by the tag's first byte; 0: a literal whose length follows. A table, because branches on
// the kind of a tag are as good as random: a missed one costs more than the rest.
var tagSteps = func() (steps [256]uint8) {
	for tag := range steps {
		steps[tag] = [...]uint8{0, 2, 3, 5}[tag&3]
		if tag&3 == 0 && tag>>2 < 60 {
			steps[tag] = uint8(tag>>2) + 2
		}
	}
	return steps
}()

func tagBytes(tag uint16, block []byte, at int) int {
	if n := int(tagSteps[tag&0xff]); n > 0 {
		return n
	}
	return longLiteralBytes(block, at)
}

//go:noinline
func longLiteralBytes(block []byte, at int) int {
	n := int(block[at]>>2) - 59 // bytes of the length
	if n >= len(block)-at {
		return len(block) + 1 // cut off
	}
	var length [4]byte
	copy(length[:], block[at+1:at+1+n])
	return n + int(binary.LittleEndian.Uint32(length[:])) + 2
}
