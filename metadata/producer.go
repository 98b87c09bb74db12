package metadata

import (
	"cmp"
	"math"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	// rememberedBatches is how many batches of a producer are known by their offsets (KIP-98: a client has at most five in flight).
	rememberedBatches = 5
	// sequenceWindow bounds how far back a sequence is told from one ahead: half of the 2^31 sequences.
	sequenceWindow = 1 << 30
)

// producer is what is known of one idempotent producer in one partition. It exists from its first committed batch on.
type producer struct {
	id      objectlog.ProducerID
	time    objectlog.Timestamp // entry time of its last committed batch
	seen    int32               // records committed in this epoch without a gap, at most sequenceWindow
	gen     uint32
	epoch   int16
	n       uint8 // of batches, at least 1
	batches [rememberedBatches]sequenced
}

// sequenced is one committed batch of a producer; the oldest comes first.
type sequenced struct {
	base    objectlog.Offset
	first   int32
	records int32
}

// sequenceAfter is the sequence n behind first: behind 2^31-1 comes 0.
func sequenceAfter(first, n int32) int32 { return int32((uint32(first) + uint32(n)) & math.MaxInt32) }

func (p *producer) next() int32 {
	last := p.batches[p.n-1]
	return sequenceAfter(last.first, last.records)
}

// judge answers what the producer's state says of a batch; ok: nothing against appending it. p is nil for an unknown producer.
//
// An unknown producer may start at any sequence: its state may have expired, and refusing would kill a healthy client
// (KIP-360, and what Kafka's brokers have done since). A new epoch of a known producer starts at 0.
func (p *producer) judge(w *objectlog.BatchRow) (b BatchResult, ok bool) {
	if p == nil {
		return b, true
	}
	b.Base = objectlog.NoOffset
	switch {
	case w.ProducerEpoch < p.epoch:
		b.Reason = ReasonFencedProducer
	case w.ProducerEpoch > p.epoch:
		if w.FirstSequence == 0 {
			return b, true
		}
		b.Reason = ReasonSequenceGap
	default:
		for _, known := range p.batches[:p.n] {
			if known.first == w.FirstSequence && known.records == w.Records {
				return BatchResult{Base: known.base, Duplicate: true}, false
			}
		}
		if w.FirstSequence == p.next() {
			return b, true
		}
		b.Reason = ReasonSequenceGap
		if p.forgot(w) {
			b.Reason = ReasonOldSequence
		}
	}
	return b, false
}

// forgot says whether all of the batch's sequences were committed here, before the remembered batches. Clients take
// that answer as success, so a sequence from before the producer was first seen here must not get it.
func (p *producer) forgot(w *objectlog.BatchRow) bool {
	remembered := int64(0)
	for _, known := range p.batches[:p.n] {
		remembered += int64(known.records)
	}
	back := int64(sequenceAfter(p.next(), -w.FirstSequence))
	return back <= int64(p.seen) && back-int64(w.Records) >= remembered
}

// remember takes note of a batch that was just given its offset.
func (p *producer) remember(w *objectlog.BatchRow, base objectlog.Offset, now objectlog.Timestamp) {
	if w.ProducerEpoch != p.epoch {
		p.epoch, p.n, p.seen = w.ProducerEpoch, 0, 0
	}
	if p.n == rememberedBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = sequenced{base, w.FirstSequence, w.Records}
	p.n++
	p.seen = int32(min(int64(p.seen)+int64(w.Records), sequenceWindow))
	p.time = now
}

// producer finds the producer in the partition; nil: unknown.
func (p *partition) producer(id objectlog.ProducerID) *producer {
	if p.content == nil {
		return nil
	}
	if i, ok := p.content.findProducer(id); ok {
		return p.content.producers[i]
	}
	return nil
}

func (c *content) findProducer(id objectlog.ProducerID) (int, bool) {
	// Ids are given out in rising order, so a new producer nearly always belongs at the end.
	if n := len(c.producers); n == 0 || c.producers[n-1].id < id {
		return n, false
	}
	return slices.BinarySearchFunc(c.producers, id, func(p *producer, id objectlog.ProducerID) int { return cmp.Compare(p.id, id) })
}

// ownProducer answers the producer, made if need be, for changing. The partition is the state's own.
func (s *State) ownProducer(c *content, id objectlog.ProducerID) *producer {
	if c.producersGen != s.gen {
		c.producers, c.producersGen = slices.Clone(c.producers), s.gen
	}
	i, ok := c.findProducer(id)
	if !ok {
		c.producers = slices.Insert(c.producers, i, &producer{id: id, gen: s.gen})
		s.producers++
	} else if c.producers[i].gen != s.gen {
		own := *c.producers[i]
		own.gen = s.gen
		c.producers[i] = &own
	}
	return c.producers[i]
}

func (c *ExpireProducers) apply(s *State, _ Position) any {
	idle := func(p *producer) bool { return p.time < c.Before }
	for ti := range s.topics {
		for pi, p := range s.topics[ti].partitions {
			if p.content == nil || !slices.ContainsFunc(p.content.producers, idle) {
				continue
			}
			own := s.ownPartition(ti, pi).content
			live := slices.DeleteFunc(slices.Clone(own.producers), idle)
			s.producers -= len(own.producers) - len(live)
			own.producers, own.producersGen = live, s.gen
		}
	}
	return nil
}
