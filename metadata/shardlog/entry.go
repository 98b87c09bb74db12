package shardlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// hash is the first half of the SHA-256 of an encoded entry: what the next entry carries as prevHash, so that one entry
// vouches for the whole log before it. Zero: before the first entry.
type hash [16]byte

func hashOf(encoded []byte) hash {
	sum := sha256.Sum256(encoded)
	return hash(sum[:16])
}

func (h hash) String() string { return fmt.Sprintf("%x", h[:]) }

// entry is one entry of a shard log, the value of a ring slot. An entry without commands is a barrier.
type entry struct {
	ring     objectlog.UUID
	seq      metadata.Seq
	epoch    objectlog.Epoch
	nonce    uint64 // tells this append from any other at the same seq
	prevHash hash
	time     objectlog.Timestamp // never below the previous entry's
	commands []metadata.Command  // Footer is not encoded
}

const entryMagic = "SDLE"

// entryOverheadMax bounds what an entry takes beside its commands; commandOverheadMax the same for one command beside its body.
const (
	entryOverheadMax   = 66 + binary.MaxVarintLen32 + crcBytes
	commandOverheadMax = 1 + binary.MaxVarintLen32
)

// encode writes the entry:
//
//	0    4  magic "SDLE"
//	4    2  format level
//	6   16  ring
//	22   8  seq
//	30   4  epoch
//	34   8  nonce
//	42  16  hash of the previous encoded entry
//	58   8  time, ms since the Unix epoch
//	66   v  number of commands
//	         per command: kind (1), length of the body (varint), body
//	…    4  CRC32C of everything before it
func (e *entry) encode() []byte {
	size := entryOverheadMax
	for _, c := range e.commands {
		size += commandOverheadMax + len(c.Body)
	}
	b := appendHead(make([]byte, 0, size), entryMagic)
	b = append(b, e.ring[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.seq))
	b = binary.BigEndian.AppendUint32(b, uint32(e.epoch))
	b = binary.BigEndian.AppendUint64(b, e.nonce)
	b = append(b, e.prevHash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.time))
	b = binary.AppendUvarint(b, uint64(len(e.commands)))
	for _, c := range e.commands {
		b = append(b, byte(c.Kind))
		b = appendBytes(b, c.Body)
	}
	return appendCRC(b, 0)
}

// decodeEntry reads what encode wrote, and nothing else: any other bytes are ErrCorrupt or ErrVersion. Bodies point into b.
func decodeEntry(b []byte) (entry, error) {
	d := openBody(b, entryMagic)
	e := entry{ring: d.bytes16(), seq: metadata.Seq(d.uint64()), epoch: objectlog.Epoch(d.uint32()), nonce: d.uint64(),
		prevHash: d.bytes16(), time: objectlog.Timestamp(d.uint64())}
	if d.err == nil && (e.seq < 0 || e.epoch < 0) {
		d.fail("negative seq or epoch")
	}
	n := d.count()
	if n > 0 {
		e.commands = make([]metadata.Command, 0, min(n, len(d.rest)/2+1))
	}
	for range n {
		kind := metadata.Kind(d.uint8())
		body := d.bytes()
		if d.err != nil {
			break
		}
		e.commands = append(e.commands, metadata.Command{Kind: kind, Body: body})
	}
	if err := d.close(); err != nil {
		return entry{}, fmt.Errorf("decode entry: %w", err)
	}
	return e, nil
}
