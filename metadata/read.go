package metadata

import (
	"sort"

	"github.com/splashdam/splashdam/objectlog"
)

// Topic finds a topic by name, in whatever state; false when there is none. (Shard 0.) Its Settings are shared: not to be changed.
func (s *State) Topic(name string) (Topic, bool) {
	i, ok := s.catalog.find(name)
	if !ok {
		return Topic{}, false
	}
	return *s.catalog.byName[i], true
}

// Topics answers up to limit topics with names greater than after, in name order. (Shard 0.)
func (s *State) Topics(after string, limit int) []Topic {
	first := sort.Search(len(s.catalog.byName), func(i int) bool { return s.catalog.byName[i].Name > after })
	found := s.catalog.byName[first:]
	topics := make([]Topic, min(len(found), max(limit, 0)))
	for i := range topics {
		topics[i] = *found[i]
	}
	return topics
}

// CatalogChanges is a number that is another one after every change of the catalog, as long as this State lives. (Shard 0.)
func (s *State) CatalogChanges() uint64 { return s.catalog.changes }

// Unsettled answers the topics that are Creating, growing or Deleting: work for shard 0's leader.
func (s *State) Unsettled() []Topic {
	var topics []Topic
	for _, t := range s.catalog.byName {
		if t.State != TopicActive || t.Target > t.Partitions {
			topics = append(topics, *t)
		}
	}
	return topics
}

// Partition is the partition's state; false when this shard does not have it.
func (s *State) Partition(topic objectlog.UUID, p objectlog.Partition) (PartitionState, bool) {
	found := s.partition(topic, p)
	if found == nil {
		return PartitionState{}, false
	}
	return PartitionState{LogStart: found.logStart, HighWatermark: found.next, StoredBytes: found.storedBytes}, true
}

// Batches appends to dst the committed batches from the one that holds offset from, as many as fit into bytesMax of
// stored size; at least one if there is any. There is none when from is outside [log start, high watermark).
func (s *State) Batches(dst []LocatedBatch, topic objectlog.UUID, p objectlog.Partition, from objectlog.Offset, bytesMax int64) []LocatedBatch {
	found := s.partition(topic, p)
	if found == nil || found.content == nil || from < found.logStart || from >= found.next {
		return dst
	}
	first := true
	for r, next := range found.content.from(from) {
		if bytesMax -= int64(r.bytes); bytesMax < 0 && !first {
			break
		}
		dst, first = append(dst, s.located(r, next)), false
	}
	return dst
}

// BatchAtTime is the first batch whose max timestamp is at or after t; false when there is none.
func (s *State) BatchAtTime(topic objectlog.UUID, p objectlog.Partition, t objectlog.Timestamp) (LocatedBatch, bool) {
	found := s.partition(topic, p)
	if found == nil || found.content == nil {
		return LocatedBatch{}, false
	}
	r, next, ok := found.content.atTime(t)
	if !ok {
		return LocatedBatch{}, false
	}
	return s.located(r, next), true
}

// located is the row as readers see it. What it expected is not kept.
func (s *State) located(r row, next objectlog.Offset) LocatedBatch {
	segment := s.segments.at(r.segment)
	return LocatedBatch{
		Base: r.base, Epoch: segment.epoch, Segment: segment.name, Start: int64(r.start),
		Row: objectlog.BatchRow{
			Bytes: r.bytes, Records: int32(next - r.base), MaxTimestamp: r.maxTime, CRC: r.crc, ProducerID: r.producer,
			ProducerEpoch: r.producerEpoch, FirstSequence: r.sequence, Expected: objectlog.NoOffset,
		},
	}
}
