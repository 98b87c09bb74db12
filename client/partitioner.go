package client

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/splashdam/splashdam/objectlog"
)

// AnyPartition is a Partitioner's answer for a record that may go anywhere. Such records stick to one partition until
// its batch is sent, then go on to the next partition: fewer, larger batches than one record here, one there.
const AnyPartition Partition = -1

// Partitioner picks the partition of a record among the topic's partitions, 0 to partitions-1, or AnyPartition. It is
// called in the order of Produce, from many goroutines when Produce is, and must not keep the record.
type Partitioner func(r *Record, partitions int32) Partition

// HashKey is the default: records with a key go by its murmur2 hash, as with Kafka's default partitioner, so that records of
// one key keep their order and meet those of Kafka's clients; records without a key may go anywhere. When partitions are
// added, keys move: the order of one key holds on either side of the change only.
func HashKey(r *Record, partitions int32) Partition {
	if r.Key == nil {
		return AnyPartition
	}
	return objectlog.PartitionFor(r.Key, partitions)
}

// Manual takes Record.Partition.
func Manual(r *Record, _ int32) Partition { return r.Partition }

// Salted spreads each key for which hot answers true (nil: every key) over n partitions, in turn: HashKey's partition
// and those behind it. It is the remedy for a key that is too much for one partition.
//
// It gives up the order of the records of a salted key: only each n-th record is in order with those before it. Readers
// that gather by key must combine the partitions that SaltedPartitions lists. Other keys keep HashKey's place and order.
func Salted(n int32, hot func(key []byte) bool) Partitioner {
	var salt atomic.Uint32
	return func(r *Record, partitions int32) Partition {
		p := HashKey(r, partitions)
		if p == AnyPartition || n <= 1 || hot != nil && !hot(r.Key) {
			return p
		}
		step := int32((salt.Add(1) - 1) % uint32(min(n, partitions)))
		return Partition((int64(p) + int64(step)) % int64(partitions))
	}
}

// SaltedPartitions lists where Salted(n) puts the records of a salted key.
func SaltedPartitions(key []byte, n, partitions int32) []Partition {
	first := objectlog.PartitionFor(key, partitions)
	list := make([]Partition, max(1, min(n, partitions)))
	for i := range list {
		list[i] = Partition((int64(first) + int64(i)) % int64(partitions))
	}
	return list
}

// CompoundKey joins fields to one key, each behind its length, so that no two lists of fields give the same key. A hot
// key made finer, say customer and order instead of customer, spreads by itself.
//
// It gives up the order between records that share only some of the fields: those of one customer, here. Records with
// all fields equal keep their order.
func CompoundKey(fields ...[]byte) []byte {
	n := 0
	for _, f := range fields {
		n += binary.MaxVarintLen64 + len(f)
	}
	key := make([]byte, 0, n)
	for _, f := range fields {
		key = binary.AppendUvarint(key, uint64(len(f)))
		key = append(key, f...)
	}
	return key
}
