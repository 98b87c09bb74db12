package shardlog

import (
	"encoding/binary"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// lease is the value of a shard's lease item. Its revision counts up by one with every put.
type lease struct {
	ring   objectlog.UUID
	slots  int
	holder objectlog.UUID // boot of the leader or claimant; zero: let go, anybody may claim at once
	epoch  objectlog.Epoch
	nonce  uint64 // new with every put: what watchers watch
	cur    pointer
	prev   pointer // entries behind it are in the ring, always
}

// pointer names a snapshot that was read back and decoded before it was pointed to. The zero pointer is the state
// before the first entry.
type pointer struct {
	name  objectlog.SnapshotName // its Epoch is that of the leader who stored it
	hash  hash                   // chain hash at name.Seq
	crc   uint32                 // CRC32C of the whole object
	bytes int64
}

// exists: a stored snapshot is never empty.
func (p pointer) exists() bool { return p.bytes > 0 }

// seq is the last entry that the snapshot covers; -1 for the zero pointer.
func (p pointer) seq() metadata.Seq {
	if !p.exists() {
		return -1
	}
	return metadata.Seq(p.name.Seq)
}

const leaseMagic = "SDLL"

// encode writes the lease item's value:
//
//	0    4  magic "SDLL"
//	4    2  format level
//	6   16  ring
//	22   4  slots
//	26  16  holder
//	42   4  epoch
//	46   8  nonce
//	54  44  newest snapshot: leader's epoch (4), seq (8), random (4), chain hash (16), CRC32C (4), bytes (8); all zero: none
//	98  44  previous snapshot, likewise
//	142  4  CRC32C of everything before it
func (l *lease) encode() []byte {
	b := appendHead(make([]byte, 0, 146), leaseMagic)
	b = append(b, l.ring[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(l.slots))
	b = append(b, l.holder[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(l.epoch))
	b = binary.BigEndian.AppendUint64(b, l.nonce)
	for _, p := range []pointer{l.cur, l.prev} {
		b = binary.BigEndian.AppendUint32(b, uint32(p.name.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(p.name.Seq))
		b = binary.BigEndian.AppendUint32(b, p.name.Random)
		b = append(b, p.hash[:]...)
		b = binary.BigEndian.AppendUint32(b, p.crc)
		b = binary.BigEndian.AppendUint64(b, uint64(p.bytes))
	}
	return appendCRC(b, 0)
}

func (d *decoder) pointer(s objectlog.Shard) pointer {
	p := pointer{name: objectlog.SnapshotName{Epoch: objectlog.Epoch(d.uint32()), Seq: int64(d.uint64()), Random: d.uint32()},
		hash: d.bytes16(), crc: d.uint32(), bytes: int64(d.uint64())}
	if d.err == nil && (p.bytes < 0 || p.name.Seq < 0 || p.name.Epoch < 0 || p.bytes == 0 && p != pointer{}) {
		d.fail("impossible snapshot pointer")
	}
	if p.exists() {
		p.name.Shard = s
	}
	return p
}

// decodeLease reads what encode wrote for the shard; any other bytes are ErrCorrupt or ErrVersion.
func decodeLease(b []byte, s objectlog.Shard) (lease, error) {
	d := openBody(b, leaseMagic)
	l := lease{ring: d.bytes16(), slots: int(d.uint32()), holder: d.bytes16(), epoch: objectlog.Epoch(d.uint32()), nonce: d.uint64()}
	l.cur, l.prev = d.pointer(s), d.pointer(s)
	if d.err == nil && (l.slots < slotsMin || l.epoch < 0 || l.cur.seq() < l.prev.seq()) {
		d.fail("impossible slots, epoch or snapshots")
	}
	if err := d.close(); err != nil {
		return lease{}, fmt.Errorf("decode lease item: %w", err)
	}
	return l, nil
}
