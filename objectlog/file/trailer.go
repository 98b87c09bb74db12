package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/splashdam/splashdam/objectlog"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	trailerBytes = 40
	trailerMagic = "SplashO1"
)

// trailer is what a file holds after the object's own bytes. All numbers are big-endian.
//
//	byte   0        16         24            28            32       40
//	       | nonce  | bytes    | CRC32C of   | CRC32C of   | magic  |
//	       |        | int64    | the object  | bytes 0–27  |SplashO1|
//
// The last byte of magic is the version.
type trailer struct {
	nonce objectlog.UUID
	bytes int64 // of the object: the file's size less trailerBytes
	crc   uint32
}

func (t trailer) encode() []byte {
	b := make([]byte, 0, trailerBytes)
	b = append(b, t.nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.bytes))
	b = binary.BigEndian.AppendUint32(b, t.crc)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, trailerMagic...)
}

// decodeTrailer reads the trailer of a file of the given size. ok is false if it is none, or not of such a file.
func decodeTrailer(b []byte, fileBytes int64) (t trailer, ok bool) {
	if len(b) != trailerBytes || string(b[32:]) != trailerMagic || binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return t, false
	}
	t.nonce = objectlog.UUID(b[:16])
	t.bytes = int64(binary.BigEndian.Uint64(b[16:]))
	t.crc = binary.BigEndian.Uint32(b[24:])
	return t, t.bytes == fileBytes-trailerBytes
}

// check compares the object's own bytes with what the trailer says about them.
func (t trailer) check(body []byte) error {
	if crc32.Checksum(body, castagnoli) != t.crc {
		return fmt.Errorf("its bytes are not those of its CRC32C: %w", errDamaged)
	}
	return nil
}

// ErrNoTrailer: the file does not end as a put leaves it. It was cut off, or no bucket wrote it.
var ErrNoTrailer = errors.New("no trailer of a bucket's file")

// Body answers the object's own bytes, which point into b, of a whole file that was read without a Bucket, and checks
// them. With an error they are for people to look into: ErrNoTrailer answers all of b, objectlog.ErrCorrupt what lies
// before a trailer that does not fit.
func Body(b []byte) ([]byte, error) {
	at := len(b) - trailerBytes
	if at < 0 || !bytes.HasSuffix(b, []byte(trailerMagic)) {
		return b, ErrNoTrailer
	}
	body := b[:at]
	t, ok := decodeTrailer(b[at:], int64(len(b)))
	if !ok {
		return body, fmt.Errorf("its trailer is not that of a file of %d bytes: %w", len(b), errDamaged)
	}
	return body, t.check(body)
}
