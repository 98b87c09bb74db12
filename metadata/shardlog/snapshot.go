package shardlog

import (
	"encoding/binary"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// tip is the last applied entry: what a snapshot is a snapshot of.
type tip struct {
	seq   metadata.Seq
	epoch objectlog.Epoch
	hash  hash
	time  objectlog.Timestamp
}

// snapshot is the applied state of a shard at one seq.
type snapshot struct {
	shard    objectlog.Shard
	ring     objectlog.UUID
	tip      tip
	sections []section
}

// section is one machine's part of a snapshot.
type section struct {
	name string
	body []byte
}

const snapshotMagic = "SDLS"

// encode writes the snapshot:
//
//	0    4  magic "SDLS"
//	4    2  format level
//	6    2  shard
//	8   16  ring
//	24   8  seq
//	32   4  epoch of that entry
//	36  16  its chain hash
//	52   8  its time
//	60   v  number of sections
//	         per section: length of the name (varint), name, length of the body (varint), body
//	…    4  CRC32C of everything before it
func (s *snapshot) encode() []byte {
	size := 60 + binary.MaxVarintLen32 + crcBytes
	for _, x := range s.sections {
		size += 2*binary.MaxVarintLen64 + len(x.name) + len(x.body)
	}
	b := appendHead(make([]byte, 0, size), snapshotMagic)
	b = binary.BigEndian.AppendUint16(b, uint16(s.shard))
	b = append(b, s.ring[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.tip.seq))
	b = binary.BigEndian.AppendUint32(b, uint32(s.tip.epoch))
	b = append(b, s.tip.hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.tip.time))
	b = binary.AppendUvarint(b, uint64(len(s.sections)))
	for _, x := range s.sections {
		b = appendBytes(b, x.name)
		b = appendBytes(b, x.body)
	}
	return appendCRC(b, 0)
}

// decodeSnapshot reads what encode wrote; any other bytes are ErrCorrupt or ErrVersion. Bodies point into b.
func decodeSnapshot(b []byte) (snapshot, error) {
	d := openBody(b, snapshotMagic)
	s := snapshot{shard: objectlog.Shard(d.uint16()), ring: d.bytes16(), tip: tip{seq: metadata.Seq(d.uint64()),
		epoch: objectlog.Epoch(d.uint32()), hash: d.bytes16(), time: objectlog.Timestamp(d.uint64())}}
	if d.err == nil && (s.tip.seq < 0 || s.tip.epoch < 0) {
		d.fail("negative seq or epoch")
	}
	for range d.count() {
		x := section{name: string(d.bytes()), body: d.bytes()}
		if d.err != nil {
			break
		}
		s.sections = append(s.sections, x)
	}
	if err := d.close(); err != nil {
		return snapshot{}, fmt.Errorf("decode snapshot: %w", err)
	}
	return s, nil
}

// check says whether the stored bytes b are the snapshot that p points to, and decodes them.
func (p pointer) check(b []byte, ring objectlog.UUID) (snapshot, error) {
	if int64(len(b)) != p.bytes || crc32c(b) != p.crc {
		return snapshot{}, fmt.Errorf("%w: %d bytes with CRC32C %08x, want %d with %08x", objectlog.ErrCorrupt,
			len(b), crc32c(b), p.bytes, p.crc)
	}
	s, err := decodeSnapshot(b)
	if err != nil {
		return snapshot{}, err
	}
	if s.shard != p.name.Shard || s.ring != ring || s.tip.seq != p.seq() || s.tip.hash != p.hash {
		return snapshot{}, fmt.Errorf("%w: it is of shard %d, ring %s, seq %d", objectlog.ErrCorrupt, s.shard, s.ring, s.tip.seq)
	}
	return s, nil
}
