package objectlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A record batch, format v2 (magic 2). All integers are big-endian.
//
//	 0  base offset         int64    patched when the batch is served
//	 8  batch length        int32    bytes behind this field
//	12  leader epoch        int32    patched when the batch is served
//	16  magic               int8     2
//	17  crc                 uint32   CRC32C of everything behind this field
//	21  attributes          int16    bits 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon
//	23  last offset delta   int32    offsets the batch takes, less 1
//	27  base timestamp      int64
//	35  max timestamp       int64
//	43  producer id         int64    -1: none
//	51  producer epoch      int16    -1: none
//	53  first sequence      int32    -1: none
//	57  records             int32
//	61  the records, compressed as a whole by the codec
const (
	batchLengthAt    = 8
	batchLengthNext  = 12
	batchEpochAt     = 12
	batchMagicAt     = 16
	batchCRCAt       = 17
	batchAttributes  = 21
	batchLastDeltaAt = 23
	batchBaseTimeAt  = 27
	batchMaxTimeAt   = 35
	batchProducerAt  = 43
	batchProdEpochAt = 51
	batchSequenceAt  = 53
	batchRecordsAt   = 57
	batchHeaderBytes = 61

	batchMagic = 2

	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc32c(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// BatchHeader is what the header of a record batch (format v2) says.
type BatchHeader struct {
	BaseOffset      Offset
	Bytes           int // of the whole batch: what its length field says, and the 12 bytes up to there
	LeaderEpoch     Epoch
	CRC             uint32 // CRC32C of everything behind the CRC field
	Codec           Codec
	LogAppendTime   bool
	Transactional   bool
	Control         bool
	LastOffsetDelta int32
	FirstTimestamp  Timestamp
	MaxTimestamp    Timestamp
	ProducerID      ProducerID
	ProducerEpoch   int16 // -1 without producer, whatever the batch says, as is FirstSequence
	FirstSequence   int32
	Records         int32
}

// ParseBatchHeader reads the header of the batch at the start of b, which may go on behind the batch. It checks
// magic, length and CRC32C, nothing of the records. Errors: ErrCorrupt, ErrVersion.
func ParseBatchHeader(b []byte) (BatchHeader, error) {
	// The magic comes first: another format may lay out everything behind it differently.
	if len(b) <= batchMagicAt {
		return BatchHeader{}, fmt.Errorf("record batch: %d bytes, the header has %d: %w", len(b), batchHeaderBytes, ErrCorrupt)
	}
	if magic := b[batchMagicAt]; magic != batchMagic {
		return BatchHeader{}, fmt.Errorf("record batch: format %d, this program reads %d: %w", magic, batchMagic, ErrVersion)
	}
	length := int64(int32(binary.BigEndian.Uint32(b[batchLengthAt:])))
	total := length + batchLengthNext
	if total < batchHeaderBytes || total > int64(len(b)) {
		return BatchHeader{}, fmt.Errorf("record batch: its length says %d bytes, %d are there: %w", total, len(b), ErrCorrupt)
	}
	h := readBatchHeader(b, int(total))
	if got := crc32c(b[batchAttributes:total]); got != h.CRC {
		return BatchHeader{}, fmt.Errorf("record batch: CRC32C is %08x, the header says %08x: %w", got, h.CRC, ErrCorrupt)
	}
	return h, nil
}

func readBatchHeader(b []byte, total int) BatchHeader {
	be := binary.BigEndian
	attributes := be.Uint16(b[batchAttributes:])
	h := BatchHeader{
		BaseOffset:      Offset(be.Uint64(b)),
		Bytes:           total,
		LeaderEpoch:     Epoch(be.Uint32(b[batchEpochAt:])),
		CRC:             be.Uint32(b[batchCRCAt:]),
		Codec:           Codec(attributes & attrCodec),
		LogAppendTime:   attributes&attrLogAppendTime != 0,
		Transactional:   attributes&attrTransactional != 0,
		Control:         attributes&attrControl != 0,
		LastOffsetDelta: int32(be.Uint32(b[batchLastDeltaAt:])),
		FirstTimestamp:  Timestamp(be.Uint64(b[batchBaseTimeAt:])),
		MaxTimestamp:    Timestamp(be.Uint64(b[batchMaxTimeAt:])),
		ProducerID:      ProducerID(be.Uint64(b[batchProducerAt:])),
		ProducerEpoch:   int16(be.Uint16(b[batchProdEpochAt:])),
		FirstSequence:   int32(be.Uint32(b[batchSequenceAt:])),
		Records:         int32(be.Uint32(b[batchRecordsAt:])),
	}
	if h.ProducerID == NoProducer {
		h.ProducerEpoch, h.FirstSequence = -1, -1
	}
	return h
}

// PatchBatch writes base offset and leader epoch, which lie outside the checksum, into the batch in place.
func PatchBatch(b []byte, base Offset, epoch Epoch) {
	binary.BigEndian.PutUint64(b, uint64(base))
	binary.BigEndian.PutUint32(b[batchEpochAt:], uint32(epoch))
}

// sealBatch writes the checksum of a batch whose other fields are complete.
func sealBatch(batch []byte) (crc uint32) {
	crc = crc32c(batch[batchAttributes:])
	binary.BigEndian.PutUint32(batch[batchCRCAt:], crc)
	return crc
}
