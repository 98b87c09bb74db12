package metadata

import (
	"cmp"
	"iter"
	"slices"
	"sort"

	"github.com/splashdam/splashdam/objectlog"
)

// topic is a topic's partitions in this shard. Like everything below with a gen, it is changed in place while gen is the
// state's; otherwise a view may hold it, and it is copied first.
type topic struct {
	id         objectlog.UUID
	number     uint32 // dense, given out by the shard, never reused
	gen        uint32
	partitions []*partition // by number
}

// partition is one partition. An idle one costs this struct and a pointer.
type partition struct {
	number      objectlog.Partition
	gen         uint32
	logStart    objectlog.Offset // may lie inside the first row
	next        objectlog.Offset // high watermark: where the next batch goes
	storedBytes int64            // of all rows
	content     *content         // nil until something is committed
}

// content is the index of a partition and its producers. It belongs to its partition and is copied with it.
//
// Rows cover [log start, next) without a gap. They are never changed: pages, their rows and the tail's rows are only
// appended to and resliced, so that views can share them.
type content struct {
	pages        []*page // full ones
	tail         page
	producers    []*producer // by id
	producersGen uint32      // of the state when the slice became its own
}

const pageRows = 64

// page is up to pageRows rows.
type page struct {
	next    objectlog.Offset // behind the last row
	maxTime objectlog.Timestamp
	rows    []row
}

// row is one batch: 48 bytes.
type row struct {
	base          objectlog.Offset
	maxTime       objectlog.Timestamp
	producer      objectlog.ProducerID
	bytes         int32
	crc           uint32
	segment       uint32 // number in segments
	start         uint32
	sequence      int32
	producerEpoch int16
}

func newRow(w *objectlog.BatchRow, base objectlog.Offset, segment, start uint32) row {
	r := row{base: base, maxTime: w.MaxTimestamp, producer: w.ProducerID, bytes: w.Bytes, crc: w.CRC,
		segment: segment, start: start, sequence: -1, producerEpoch: -1}
	if w.ProducerID != objectlog.NoProducer {
		r.sequence, r.producerEpoch = w.FirstSequence, w.ProducerEpoch
	}
	return r
}

// findTopic answers where the topic with the number is or belongs.
func (s *State) findTopic(number uint32) (int, bool) {
	return slices.BinarySearchFunc(s.topics, number, func(t *topic, n uint32) int { return cmp.Compare(t.number, n) })
}

func (t *topic) find(p objectlog.Partition) (int, bool) {
	return slices.BinarySearchFunc(t.partitions, p, func(p *partition, n objectlog.Partition) int { return cmp.Compare(p.number, n) })
}

// partition finds a partition for reading; nil: this shard does not have it.
func (s *State) partition(id objectlog.UUID, p objectlog.Partition) *partition {
	number, ok := s.numbers[id]
	if !ok {
		return nil
	}
	ti, _ := s.findTopic(number)
	pi, ok := s.topics[ti].find(p)
	if !ok {
		return nil
	}
	return s.topics[ti].partitions[pi]
}

func (s *State) ownTopic(i int) *topic {
	t := s.topics[i]
	if t.gen != s.gen {
		t = &topic{t.id, t.number, s.gen, slices.Clone(t.partitions)}
		s.topics[i] = t
	}
	return t
}

// ownPartition answers the partition, with content, for changing.
func (s *State) ownPartition(ti, pi int) *partition {
	t := s.ownTopic(ti)
	p := t.partitions[pi]
	if p.gen == s.gen && p.content != nil {
		return p
	}
	own := *p
	own.gen, own.content = s.gen, new(content)
	if p.content != nil {
		*own.content = *p.content
	}
	t.partitions[pi] = &own
	return &own
}

func (c *AddPartitions) apply(s *State, _ Position) any {
	if s.wasDropped(c.Topic) {
		return nil
	}
	var fresh []*partition
	number, known := s.numbers[c.Topic]
	ti, _ := s.findTopic(number)
	for n := c.From; n < c.To; n++ {
		p := objectlog.Partition(n)
		if ShardOf(c.Topic, p, s.cfg.Shards) != s.cfg.Shard {
			continue
		}
		if known {
			if _, ok := s.topics[ti].find(p); ok {
				continue
			}
		}
		fresh = append(fresh, &partition{number: p, gen: s.gen})
	}
	if len(fresh) == 0 {
		return nil
	}
	if !known {
		ti = len(s.topics)
		s.topics = append(s.topics, &topic{id: c.Topic, number: s.nextNumber, gen: s.gen})
		s.numbers[c.Topic] = s.nextNumber
		s.nextNumber++
	}
	t := s.ownTopic(ti)
	t.partitions = append(slices.Grow(t.partitions, len(fresh)), fresh...)
	slices.SortFunc(t.partitions, func(a, b *partition) int { return cmp.Compare(a.number, b.number) })
	return nil
}

func (c *DropTopic) apply(s *State, at Position) any {
	s.bury(c.Topic, at.Time)
	number, ok := s.numbers[c.Topic]
	if !ok {
		return nil
	}
	ti, _ := s.findTopic(number)
	for _, p := range s.topics[ti].partitions {
		if p.content == nil {
			continue
		}
		for r := range p.content.all() {
			s.segments.release(r.segment, s.gen)
		}
		s.producers -= len(p.content.producers)
	}
	s.topics = slices.Delete(s.topics, ti, ti+1)
	delete(s.numbers, c.Topic)
	return nil
}

func (c *Trim) apply(s *State, _ Position) any {
	p := s.partition(c.Topic, c.Partition)
	switch {
	case p == nil:
		return TrimResult{LogStart: objectlog.NoOffset, Reason: ReasonUnknownTopic}
	case c.LogStart > p.next:
		return TrimResult{LogStart: p.logStart, Reason: ReasonInvalid}
	case c.LogStart <= p.logStart:
		return TrimResult{LogStart: p.logStart}
	}
	ti, _ := s.findTopic(s.numbers[c.Topic])
	pi, _ := s.topics[ti].find(c.Partition)
	p = s.ownPartition(ti, pi)
	p.logStart = c.LogStart
	p.content.dropBelow(c.LogStart, func(r row) {
		p.storedBytes -= int64(r.bytes)
		s.segments.release(r.segment, s.gen)
	})
	return TrimResult{LogStart: p.logStart}
}

// append adds a row that ends before next.
func (c *content) append(r row, next objectlog.Offset) {
	t := &c.tail
	if len(t.rows) == 0 || r.maxTime > t.maxTime {
		t.maxTime = r.maxTime
	}
	t.rows, t.next = append(t.rows, r), next
	if len(t.rows) == pageRows {
		full := *t
		c.pages, c.tail = append(c.pages, &full), page{}
	}
}

// dropBelow drops the rows that end at or before the offset, and calls drop for each.
func (c *content) dropBelow(o objectlog.Offset, drop func(row)) {
	n := 0
	for ; n < len(c.pages) && c.pages[n].next <= o; n++ {
		for _, r := range c.pages[n].rows {
			drop(r)
		}
	}
	if c.pages = slices.Clone(c.pages[n:]); len(c.pages) > 0 { // a clone, so that the pages dropped are let go
		c.pages[0] = c.pages[0].dropBelow(o, drop)
	} else {
		c.tail = *c.tail.dropBelow(o, drop)
	}
}

func (p *page) dropBelow(o objectlog.Offset, drop func(row)) *page {
	i := p.find(o)
	if i == 0 {
		return p
	}
	for _, r := range p.rows[:i] {
		drop(r)
	}
	if i == len(p.rows) {
		return new(page)
	}
	rest := &page{next: p.next, rows: slices.Clone(p.rows[i:])}
	rest.maxTime = slices.MaxFunc(rest.rows, func(a, b row) int { return cmp.Compare(a.maxTime, b.maxTime) }).maxTime
	return rest
}

// find is the first row that ends behind the offset.
func (p *page) find(o objectlog.Offset) int {
	return sort.Search(len(p.rows), func(i int) bool { return p.rowNext(i) > o })
}

func (p *page) rowNext(i int) objectlog.Offset {
	if i+1 < len(p.rows) {
		return p.rows[i+1].base
	}
	return p.next
}

func (c *content) page(i int) *page {
	if i < len(c.pages) {
		return c.pages[i]
	}
	return &c.tail
}

// from yields the rows, each with the offset behind it, from the one that holds the offset on.
func (c *content) from(o objectlog.Offset) iter.Seq2[row, objectlog.Offset] {
	return func(yield func(row, objectlog.Offset) bool) {
		first := sort.Search(len(c.pages), func(i int) bool { return c.pages[i].next > o })
		for n := first; n <= len(c.pages); n++ {
			p := c.page(n)
			i := 0
			if n == first {
				i = p.find(o)
			}
			for ; i < len(p.rows); i++ {
				if !yield(p.rows[i], p.rowNext(i)) {
					return
				}
			}
		}
	}
}

func (c *content) all() iter.Seq2[row, objectlog.Offset] { return c.from(0) }

// atTime is the first row whose max timestamp is at or after t. Rows are not in order of time: pages without such a row are skipped.
func (c *content) atTime(t objectlog.Timestamp) (row, objectlog.Offset, bool) {
	for n := 0; n <= len(c.pages); n++ {
		p := c.page(n)
		if len(p.rows) == 0 || p.maxTime < t {
			continue
		}
		for i, r := range p.rows {
			if r.maxTime >= t {
				return r, p.rowNext(i), true
			}
		}
	}
	return row{}, 0, false
}
