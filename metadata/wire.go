package metadata

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// Commands and snapshots share one way of writing: integers as varints (signed ones zigzag), checksums and random numbers as
// four bytes big-endian, UUIDs as they are, strings behind their length, lists behind their count.

const (
	nameBytesMax           = 249     // of a topic; Kafka's limit
	partitionsMax          = 100_000 // of one topic: an entry must not make a state of any size
	settingsMax            = 64
	settingBytesMax        = 4096
	positionMax            = math.MaxUint32 // in a segment, so that a row keeps it in four bytes
	offsetMax              = 1 << 62        // nothing the state adds to an offset overflows below it
	maxInt31               = math.MaxInt32
	maxInt63               = math.MaxInt64
	maxInt15               = math.MaxInt16
	maxUint32       uint64 = math.MaxUint32
)

func appendInt[T ~int | ~int16 | ~int32 | ~int64](dst []byte, v T) []byte {
	return binary.AppendUvarint(dst, uint64(v)) // a negative number becomes one that every bound refuses
}

func appendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendSettings(dst []byte, s Settings) []byte {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = appendInt(dst, len(names))
	for _, name := range names {
		dst = appendString(appendString(dst, name), s[name])
	}
	return dst
}

// reader reads what the append functions wrote. It is total: the first fault stays in err, and all later reads answer zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) uvarint(what string) uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := uint64(r.b[0])
		r.b = r.b[1:]
		return v
	}
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("%s: cut short or too long", what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint(what string) int64 {
	v := r.uvarint(what)
	return int64(v>>1) ^ -int64(v&1)
}

func (r *reader) bounded(what string, limit uint64) uint64 {
	v := r.uvarint(what)
	if v > limit {
		r.fail("%s: %d is above %d", what, v, limit)
		return 0
	}
	return v
}

func (r *reader) bytes(what string, n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("%s: cut short", what)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte(what string) byte {
	if b := r.bytes(what, 1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if len(r.b) < 4 {
		r.fail("%s: cut short", what)
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) uuid(what string) (u objectlog.UUID) {
	copy(u[:], r.bytes(what, len(u)))
	return u
}

func (r *reader) string(what string, limit int) string {
	return string(r.bytes(what, int(r.bounded(what, uint64(limit)))))
}

// count reads the length of a list whose elements take at least bytesMin bytes each, so that garbage cannot make the caller
// allocate more than a small multiple of what it was given.
func (r *reader) count(what string, bytesMin int) int {
	return int(r.bounded(what, uint64(len(r.b)/bytesMin)))
}

func (r *reader) settings() Settings {
	n := int(r.bounded("settings", settingsMax))
	if n == 0 {
		return nil
	}
	s := make(Settings, n)
	last := ""
	for i := range n {
		name := r.string("setting", settingBytesMax)
		if i > 0 && name <= last && r.err == nil {
			r.fail("settings: %q is out of order", name)
		}
		s[name], last = r.string("setting", settingBytesMax), name
	}
	return s
}

// end answers the first fault; bytes that nobody read are one.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}
