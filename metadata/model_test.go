package metadata

import (
	"maps"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// model is the rules of commits, trims and producers, written the slow way: it keeps everything and searches it.
type model struct {
	topics       map[objectlog.UUID]map[objectlog.Partition]*modelPartition
	boots        map[int64]*modelBoot
	retired      int64
	producersMax int
	dropped      map[objectlog.UUID]objectlog.Timestamp
}

type modelPartition struct {
	logStart  objectlog.Offset
	batches   []LocatedBatch // all that were ever committed
	producers map[objectlog.ProducerID]*modelProducer
}

type modelProducer struct {
	epoch   int16
	batches []sequenced // all of the epoch
	time    objectlog.Timestamp
}

type modelBoot struct {
	decided uint64
	fenced  uint64
	results map[uint64][]BatchResult
}

func newModel(producersMax int) *model {
	return &model{topics: map[objectlog.UUID]map[objectlog.Partition]*modelPartition{}, boots: map[int64]*modelBoot{}, producersMax: producersMax,
		dropped: map[objectlog.UUID]objectlog.Timestamp{}}
}

func (m *model) drop(topic objectlog.UUID, now objectlog.Timestamp) {
	delete(m.topics, topic)
	if _, twice := m.dropped[topic]; twice {
		return
	}
	for id, at := range m.dropped {
		if now-at > droppedLife {
			delete(m.dropped, id)
		}
	}
	m.dropped[topic] = now
}

func (m *model) addPartitions(c AddPartitions) {
	if _, dropped := m.dropped[c.Topic]; dropped {
		return
	}
	if m.topics[c.Topic] == nil {
		m.topics[c.Topic] = map[objectlog.Partition]*modelPartition{}
	}
	for p := objectlog.Partition(c.From); p < objectlog.Partition(c.To); p++ {
		if m.topics[c.Topic][p] == nil {
			m.topics[c.Topic][p] = &modelPartition{producers: map[objectlog.ProducerID]*modelProducer{}}
		}
	}
}

func (m *model) boot(ordinal int64) *modelBoot {
	if m.boots[ordinal] == nil {
		m.boots[ordinal] = &modelBoot{results: map[uint64][]BatchResult{}}
	}
	return m.boots[ordinal]
}

func (m *model) fence(c Fence) {
	b := m.boot(c.Ordinal)
	b.fenced = max(b.fenced, c.Below)
}

func (m *model) commit(at Position, ordinal int64, name objectlog.SegmentName, section []objectlog.Run) CommitResult {
	b := m.boot(ordinal)
	if ordinal < m.retired {
		return CommitResult{Unknown: true}
	}
	if old, ok := b.results[name.Counter]; ok {
		newer := 0
		for counter := range b.results {
			if counter > name.Counter {
				newer++
			}
		}
		if newer < 64 {
			return CommitResult{Batches: old}
		}
	}
	if name.Counter <= b.decided || name.Counter < b.fenced {
		return CommitResult{Unknown: true}
	}
	b.decided = name.Counter
	results := []BatchResult{}
	for _, r := range section {
		start := r.Start
		for _, w := range r.Rows {
			result := refused(ReasonUnknownTopic)
			if p := m.topics[r.Topic][r.Partition]; p != nil {
				batch := LocatedBatch{Epoch: at.Epoch, Segment: name, Start: start, Row: w}
				result = m.batch(p, batch, at.Time)
			}
			results = append(results, result)
			start += int64(w.Bytes)
		}
	}
	b.results[name.Counter] = results
	return CommitResult{Batches: results}
}

func (m *model) batch(p *modelPartition, b LocatedBatch, now objectlog.Timestamp) BatchResult {
	w := b.Row
	known := p.producers[w.ProducerID]
	if w.ProducerID != objectlog.NoProducer {
		if known != nil {
			if result := known.judge(w); result != nil {
				return *result
			}
		} else if m.producers() >= m.producersMax {
			return refused(ReasonProducerLimit)
		}
	}
	next := p.next()
	if w.Expected != objectlog.NoOffset && w.Expected != next {
		return BatchResult{Base: next, Reason: ReasonOffsetMismatch}
	}
	b.Base, b.Row.Expected = next, objectlog.NoOffset
	if w.ProducerID == objectlog.NoProducer {
		b.Row.ProducerEpoch, b.Row.FirstSequence = -1, -1
	} else {
		if known == nil || known.epoch != w.ProducerEpoch {
			known = &modelProducer{epoch: w.ProducerEpoch}
			p.producers[w.ProducerID] = known
		}
		known.batches, known.time = append(known.batches, sequenced{next, w.FirstSequence, w.Records}), now
	}
	p.batches = append(p.batches, b)
	return BatchResult{Base: next}
}

func (p *modelProducer) judge(w objectlog.BatchRow) *BatchResult {
	answer := func(r Reason) *BatchResult { return &BatchResult{Base: objectlog.NoOffset, Reason: r} }
	if w.ProducerEpoch < p.epoch {
		return answer(ReasonFencedProducer)
	}
	if w.ProducerEpoch > p.epoch {
		if w.FirstSequence != 0 {
			return answer(ReasonSequenceGap)
		}
		return nil
	}
	remembered := p.batches[max(0, len(p.batches)-5):]
	for _, b := range remembered {
		if b.first == w.FirstSequence && b.records == w.Records {
			return &BatchResult{Base: b.base, Duplicate: true}
		}
	}
	old := map[int64]bool{} // sequences committed before those remembered
	due := int64(0)
	for i, b := range p.batches {
		for n := range int64(b.records) {
			sequence := (int64(b.first) + n) % (1 << 31)
			if i < len(p.batches)-len(remembered) {
				old[sequence] = true
			}
			due = (sequence + 1) % (1 << 31)
		}
	}
	if int64(w.FirstSequence) == due {
		return nil
	}
	for n := range int64(w.Records) {
		if !old[(int64(w.FirstSequence)+n)%(1<<31)] {
			return answer(ReasonSequenceGap)
		}
	}
	return answer(ReasonOldSequence)
}

func (p *modelPartition) next() objectlog.Offset {
	if n := len(p.batches); n > 0 {
		return p.batches[n-1].Base + objectlog.Offset(p.batches[n-1].Row.Records)
	}
	return 0
}

// kept is the batches that end behind the log start.
func (p *modelPartition) kept() []LocatedBatch {
	return slices.DeleteFunc(slices.Clone(p.batches), func(b LocatedBatch) bool {
		return b.Base+objectlog.Offset(b.Row.Records) <= p.logStart
	})
}

func (p *modelPartition) state() PartitionState {
	s := PartitionState{LogStart: p.logStart, HighWatermark: p.next()}
	for _, b := range p.kept() {
		s.StoredBytes += int64(b.Row.Bytes)
	}
	return s
}

func (m *model) producers() int {
	n := 0
	for _, topic := range m.topics {
		for _, p := range topic {
			n += len(p.producers)
		}
	}
	return n
}

func (m *model) trim(c Trim) TrimResult {
	p := m.topics[c.Topic][c.Partition]
	if p == nil {
		return TrimResult{LogStart: objectlog.NoOffset, Reason: ReasonUnknownTopic}
	}
	if c.LogStart > p.next() {
		return TrimResult{LogStart: p.logStart, Reason: ReasonInvalid}
	}
	p.logStart = max(p.logStart, c.LogStart)
	return TrimResult{LogStart: p.logStart}
}

func (m *model) expire(before objectlog.Timestamp) {
	for _, topic := range m.topics {
		for _, p := range topic {
			maps.DeleteFunc(p.producers, func(_ objectlog.ProducerID, k *modelProducer) bool { return k.time < before })
		}
	}
}
