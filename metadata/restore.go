package metadata

import (
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// Restore implements Machine. What it does not accept leaves the state as it was.
func (s *State) Restore(b []byte) error {
	r := newReader(b)
	version := r.Byte("version")
	if r.Err == nil && version != snapshotVersion && version != snapshotVersionDropped {
		return fmt.Errorf("restore state: version %d, this program knows %d and %d", version, snapshotVersion, snapshotVersionDropped)
	}
	fresh := NewState(s.cfg)
	if shard, shards := r.Uvarint("shard"), r.Uvarint("shards"); r.Err == nil &&
		(shard != uint64(s.cfg.Shard) || shards != uint64(s.cfg.Shards)) {
		return fmt.Errorf("restore state: snapshot of shard %d of %d, this is shard %d of %d", shard, shards, s.cfg.Shard, s.cfg.Shards)
	}
	r.catalog(&fresh.catalog)
	partitions := restoration{reader: &r, state: fresh}
	partitions.topics()
	fresh.retired, fresh.boots = r.boots()
	if version == snapshotVersionDropped {
		fresh.dropped = r.dropped()
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	fresh.catalog.changes = s.catalog.changes + 1
	*s = *fresh
	return nil
}

func (r *reader) catalog(c *catalog) {
	last := ""
	for range r.Count("catalog", 24) {
		t := new(r.topic())
		if _, twice := c.byID[t.ID]; twice || t.Name <= last || t.State < TopicCreating || t.State > TopicDeleting {
			r.Fail("catalog: topic %q (%s) in state %d: twice, out of order or in no such state", t.Name, t.ID, t.State)
		}
		if r.Err != nil {
			return
		}
		c.byName, c.byID[t.ID], last = append(c.byName, t), t, t.Name
	}
}

// topic reads what appendTopic wrote.
func (r *reader) topic() Topic {
	t := Topic{ID: r.UUID("topic"), Name: r.String("name", nameBytesMax)}
	t.Partitions, t.Target, t.Settings = r.partitionCount("partitions"), r.partitionCount("target"), r.settings()
	t.State, t.Version = TopicState(r.Byte("topic state")), int64(r.Bounded("version", maxInt63))
	t.Created = objectlog.Timestamp(r.Varint("created"))
	return t
}

// restoration reads what rowWriter and its callers wrote.
type restoration struct {
	*reader
	state *State
	boots []objectlog.UUID
}

func (r *restoration) topics() {
	s := r.state
	s.nextNumber = uint32(r.Bounded("next topic number", maxUint32))
	last := uint64(0)
	for range r.Count("topics", 18) {
		number := last + r.Bounded("topic number", maxUint32)
		t := &topic{number: uint32(number), id: r.UUID("topic")}
		if _, twice := s.numbers[t.id]; twice || number <= last || number >= uint64(s.nextNumber) {
			r.Fail("topic %s: number %d is out of order, or the topic is there twice", t.id, number)
		}
		r.partitions(t)
		if r.Err != nil {
			return
		}
		s.topics, s.numbers[t.id], last = append(s.topics, t), t.number, number
	}
}

func (r *restoration) partitions(t *topic) {
	n := r.Count("partitions", 4)
	t.partitions = make([]*partition, 0, n)
	last := uint64(0)
	for i := range n {
		number := last + r.Bounded("partition", partitionsMax)
		if number >= partitionsMax || i > 0 && number <= last {
			r.Fail("topic %s: partition %d: out of order", t.id, number)
		}
		p := &partition{number: objectlog.Partition(number), logStart: objectlog.Offset(r.Bounded("log start", offsetMax))}
		if p.next = p.logStart; len(r.B) >= 2 && r.B[0] == 0 && r.B[1] == 0 {
			r.B = r.B[2:] // idle
		} else {
			p.content = new(content)
			r.rows(p)
			r.producers(p.content)
		}
		if r.Err != nil {
			r.Err = fmt.Errorf("topic %s, partition %d: %w", t.id, number, r.Err)
			return
		}
		t.partitions, last = append(t.partitions, p), number
	}
}

func (r *restoration) rows(p *partition) {
	n := r.Count("rows", 10)
	if n == 0 {
		return
	}
	base := p.logStart - objectlog.Offset(r.Bounded("first offset", uint64(p.logStart)))
	last := objectlog.Timestamp(0)
	for i := range n {
		w := objectlog.BatchRow{ProducerID: objectlog.NoProducer, Expected: objectlog.NoOffset}
		segment := r.segment()
		start := r.Bounded("start", positionMax)
		w.Records, w.Bytes = int32(r.Bounded("records", maxInt31)), int32(r.Bounded("bytes", maxInt31))
		last += objectlog.Timestamp(r.Varint("time"))
		w.MaxTimestamp, w.CRC = last, r.Uint32("crc")
		if id := r.Bounded("producer", maxInt63+1); id > 0 {
			w.ProducerID = objectlog.ProducerID(id - 1)
			w.ProducerEpoch, w.FirstSequence = int16(r.Bounded("epoch", maxInt15)), int32(r.Bounded("sequence", maxInt31))
		}
		next := base + objectlog.Offset(w.Records)
		if r.Err == nil && (checkRow(&w) != nil || next > offsetMax || i == 0 && next <= p.logStart) {
			r.Fail("row at offset %d: %d records in %d bytes, log start %d", base, w.Records, w.Bytes, p.logStart)
		}
		if r.Err != nil {
			return
		}
		if len(p.content.tail.rows) == 0 {
			p.content.tail.rows = make([]row, 0, min(n-i, pageRows))
		}
		p.content.append(newRow(&w, base, segment, uint32(start)), next)
		p.storedBytes += int64(w.Bytes)
		r.state.segments.at(segment).rows++
		base = next
	}
	p.next = base
}

func (r *restoration) segment() uint32 {
	s := &r.state.segments
	n := uint32(r.Bounded("segment", uint64(s.next)))
	if n < s.next || r.Err != nil {
		return n
	}
	boot := r.Bounded("boot", uint64(len(r.boots)))
	if boot == uint64(len(r.boots)) {
		r.boots = append(r.boots, r.UUID("boot"))
	}
	name := objectlog.SegmentName{Boot: r.boots[boot], Counter: r.Uvarint("counter"), Random: r.Uint32("random")}
	return s.add(name, objectlog.Epoch(r.Varint("epoch")), 0)
}

func (r *restoration) producers(c *content) {
	last := uint64(0)
	n := r.Count("producers", 8)
	if n > 0 {
		c.producers = make([]*producer, 0, n)
	}
	for i := range n {
		id := last + r.Bounded("producer", maxInt63)
		p := &producer{id: objectlog.ProducerID(id), epoch: int16(r.Bounded("producer epoch", maxInt15))}
		p.time, p.seen = objectlog.Timestamp(r.Varint("producer time")), int32(r.Bounded("seen", sequenceWindow))
		p.n = r.Byte("batches")
		if id > maxInt63 || i > 0 && id <= last || p.n < 1 || p.n > rememberedBatches {
			r.Fail("producer %d: out of order, or remembers %d batches", id, p.n)
		}
		if r.Err != nil {
			return
		}
		for j := range p.batches[:p.n] {
			b := &p.batches[j]
			b.base, b.first = objectlog.Offset(r.Bounded("offset", offsetMax)), int32(r.Bounded("sequence", maxInt31))
			b.records = int32(r.Bounded("records", maxInt31))
		}
		c.producers, last = append(c.producers, p), id
		r.state.producers++
	}
}
