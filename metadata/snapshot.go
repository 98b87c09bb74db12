package metadata

import (
	"encoding/binary"

	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// A snapshot is a version byte, the shard and number of shards, then
//
//	catalog     topics by name: id, name, partitions, target, settings, state, version, created
//	partitions  next topic number; topics by number: number, id, partitions: number, log start, rows, producers
//	boots       retired watermark; boots by ordinal: ordinal, id, decided, fenced, results: counter, decisions
//	dropped     version 2 only, at least one: topic id, time
//
// in the writing of package wire, differences where an order is given. Segments and boots are numbered in the order in which
// rows refer to them first, so neither the numbers nor anything else depends on how the state came about.
//
// Rows begin at or before the log start and have no gaps, so bases are not written but the first, nor is the high watermark.
const (
	snapshotVersion        = 1
	snapshotVersionDropped = 2
)

// view is the State at one moment. Nothing in it is changed.
type view struct {
	shard      objectlog.Shard
	shards     int
	catalog    []*Topic
	topics     []*topic
	nextNumber uint32
	segments   segments
	boots      []*boot
	retired    int64
	dropped    []dropped
}

// Encode implements View.
func (v *view) Encode(dst []byte) []byte {
	version := byte(snapshotVersion)
	if len(v.dropped) > 0 {
		version = snapshotVersionDropped
	}
	dst = append(dst, version)
	dst = wire.AppendInt(wire.AppendInt(dst, int(v.shard)), v.shards)
	dst = appendCatalog(dst, v.catalog)

	w := rowWriter{view: v, segments: make([]uint32, v.segments.next), boots: map[objectlog.UUID]int{}}
	dst = wire.AppendInt(wire.AppendInt(dst, int64(v.nextNumber)), len(v.topics))
	last := uint32(0)
	for _, t := range v.topics {
		dst = append(wire.AppendInt(dst, int64(t.number-last)), t.id[:]...)
		dst = w.appendPartitions(dst, t.partitions)
		last = t.number
	}
	dst = appendBoots(dst, v.retired, v.boots)
	if version == snapshotVersionDropped {
		dst = appendDropped(dst, v.dropped)
	}
	return dst
}

func appendCatalog(dst []byte, topics []*Topic) []byte {
	dst = wire.AppendInt(dst, len(topics))
	for _, t := range topics {
		dst = appendTopic(dst, t)
	}
	return dst
}

func appendTopic(dst []byte, t *Topic) []byte {
	dst = wire.AppendString(append(dst, t.ID[:]...), t.Name)
	dst = appendSettings(wire.AppendInt(wire.AppendInt(dst, t.Partitions), t.Target), t.Settings)
	dst = wire.AppendInt(append(dst, byte(t.State)), t.Version)
	return binary.AppendVarint(dst, int64(t.Created))
}

// rowWriter writes partitions. It numbers segments and boots as it meets them.
type rowWriter struct {
	view     *view
	segments []uint32 // by number in the state: number in the snapshot + 1, 0 before it is met
	met      uint32
	boots    map[objectlog.UUID]int
}

func (w *rowWriter) appendPartitions(dst []byte, partitions []*partition) []byte {
	dst = wire.AppendInt(dst, len(partitions))
	last := objectlog.Partition(0)
	for _, p := range partitions {
		dst = wire.AppendInt(wire.AppendInt(dst, p.number-last), p.logStart)
		last = p.number
		if p.content == nil {
			dst = append(dst, 0, 0)
			continue
		}
		dst = w.appendRows(dst, p)
		dst = appendProducers(dst, p.content.producers)
	}
	return dst
}

// Per row: segment, start, records, bytes, max timestamp, crc, and producer id + 1 with epoch and sequence where there is one.
func (w *rowWriter) appendRows(dst []byte, p *partition) []byte {
	n := len(p.content.tail.rows)
	for _, page := range p.content.pages {
		n += len(page.rows)
	}
	dst = wire.AppendInt(dst, n)
	var last row
	first := true
	for r, next := range p.content.all() {
		if first {
			dst = wire.AppendInt(dst, p.logStart-r.base)
			first = false
		}
		dst = binary.AppendUvarint(w.appendSegment(dst, r.segment), uint64(r.start))
		dst = wire.AppendInt(wire.AppendInt(dst, next-r.base), r.bytes)
		dst = binary.AppendVarint(dst, int64(r.maxTime-last.maxTime))
		dst = binary.AppendUvarint(wire.AppendUint32(dst, r.crc), uint64(r.producer)+1)
		if r.producer != objectlog.NoProducer {
			dst = wire.AppendInt(wire.AppendInt(dst, r.producerEpoch), r.sequence)
		}
		last = r
	}
	return dst
}

// appendSegment writes the segment's number, and at its first mention what it is: boot (likewise), counter, random, epoch.
func (w *rowWriter) appendSegment(dst []byte, number uint32) []byte {
	if n := w.segments[number]; n > 0 {
		return binary.AppendUvarint(dst, uint64(n-1))
	}
	dst = binary.AppendUvarint(dst, uint64(w.met))
	w.met++
	w.segments[number] = w.met
	s := w.view.segments.at(number)
	boot, ok := w.boots[s.name.Boot]
	if !ok {
		boot = len(w.boots)
		w.boots[s.name.Boot] = boot
	}
	dst = wire.AppendInt(dst, boot)
	if !ok {
		dst = append(dst, s.name.Boot[:]...)
	}
	dst = wire.AppendUint32(binary.AppendUvarint(dst, s.name.Counter), s.name.Random)
	return binary.AppendVarint(dst, int64(s.epoch))
}

func appendProducers(dst []byte, producers []*producer) []byte {
	dst = wire.AppendInt(dst, len(producers))
	last := objectlog.ProducerID(0)
	for _, p := range producers {
		dst = wire.AppendInt(wire.AppendInt(dst, p.id-last), p.epoch)
		dst = wire.AppendInt(binary.AppendVarint(dst, int64(p.time)), p.seen)
		dst = append(dst, p.n)
		for _, b := range p.batches[:p.n] {
			dst = wire.AppendInt(wire.AppendInt(wire.AppendInt(dst, b.base), b.first), b.records)
		}
		last = p.id
	}
	return dst
}
