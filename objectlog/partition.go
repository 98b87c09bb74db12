package objectlog

import "encoding/binary"

// PartitionFor is the partition of a record with this key: murmur2 of the key, without its sign, modulo the number
// of partitions, as Kafka's default partitioner has it.
func PartitionFor(key []byte, partitions int32) Partition {
	return Partition(int32(murmur2(key)&0x7fffffff) % partitions)
}

// murmur2 is Austin Appleby's hash with the seed that Kafka uses (org.apache.kafka.common.utils.Utils.murmur2).
func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
