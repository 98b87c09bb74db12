package objectlog

import "errors"

// Record is one record as producers and consumers see it.
type Record struct {
	Key       []byte // nil: no key
	Value     []byte // nil: a tombstone
	Headers   []Header
	Timestamp Timestamp
}

// Header is a name and value beside a record. Names may repeat; a nil value is null.
type Header struct {
	Key   string
	Value []byte
}

// Codec is a compression of record batches, numbered as in Kafka's attributes field.
type Codec uint8

// The codecs of Kafka's format v2.
const (
	CodecNone Codec = iota
	CodecGzip
	CodecSnappy
	CodecLZ4
	CodecZstd
)

// Limits bound the decoding of batches that came from outside. The zero value of a field is its default.
type Limits struct {
	BatchBytes   int // stored size of one batch; default 1 MiB + 12 (Kafka's max.message.bytes)
	DecodedBytes int // after decompression; default 64 MiB
	Records      int // in one batch; default 1,000,000
	RecordBytes  int // key, value, headers and framing of one record; default 32 MiB
	Headers      int // of one record; default 10,000
}

var (
	// ErrCorrupt: the bytes are not what was written (checksum, length or structure). Kafka: CORRUPT_MESSAGE.
	ErrCorrupt = errors.New("corrupt")
	// ErrInvalid: the checksum holds, but the content breaks a rule of the format. Kafka: INVALID_RECORD.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge: a limit is exceeded. Kafka: MESSAGE_TOO_LARGE.
	ErrTooLarge = errors.New("too large")
	// ErrVersion: written in a format that this program does not know. Kafka: UNSUPPORTED_FOR_MESSAGE_FORMAT.
	ErrVersion = errors.New("unsupported version")
)
