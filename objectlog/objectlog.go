// Package objectlog holds the bytes at rest: record batches (Kafka's format v2), segments (one immutable
// object with batches of many partitions) and the Bucket that stores them. FORMAT.md specifies every byte.
package objectlog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Offset numbers the records of one partition, from 0, without gaps.
type Offset int64

// NoOffset stands where no offset is given.
const NoOffset Offset = -1

// Epoch counts the leaders of a shard. It is also the partition leader epoch of the batches the leader committed.
type Epoch int32

// Partition numbers the partitions of a topic, from 0.
type Partition int32

// Shard numbers the shards of a cluster, from 0.
type Shard uint16

// Timestamp is in milliseconds since the Unix epoch, as in Kafka. NoTimestamp where there is none.
type Timestamp int64

// NoTimestamp stands where no timestamp is given.
const NoTimestamp Timestamp = -1

// ProducerID identifies an idempotent producer (KIP-98). NoProducer in batches of others.
type ProducerID int64

// NoProducer stands in batches without producer state.
const NoProducer ProducerID = -1

// Extent is a half-open byte range of one object.
type Extent struct {
	Start int64 `json:"start"`
	Next  int64 `json:"next"`
}

// Len is the extent's length in bytes.
func (e Extent) Len() int64 { return e.Next - e.Start }

// UUID identifies topics, boots, rings, clusters and attempts.
type UUID [16]byte

// String is the usual form, 8-4-4-4-12 in lower-case hex.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// IsZero says whether u is the absent UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID reads the form that String writes.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("parse uuid %q: want 8-4-4-4-12 hex digits", s)
	}
	if _, err := hex.Decode(u[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return UUID{}, fmt.Errorf("parse uuid %q: %w", s, err)
	}
	return u, nil
}

// NewUUID makes a random (version 4) UUID of two draws of 64 random bits. The caller supplies their source, so that a seeded
// run repeats.
func NewUUID(random func() uint64) UUID {
	var u UUID
	binary.LittleEndian.PutUint64(u[:8], random())
	binary.LittleEndian.PutUint64(u[8:], random())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
