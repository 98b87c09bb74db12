package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// topic is one topic of the history; all its partitions are in one shard.
type topic struct {
	id         objectlog.UUID
	name       string
	shard      int
	partitions int
}

// log names one partition.
type log struct {
	topic     int
	partition objectlog.Partition
}

// manner is how a producer produces.
type manner uint8

const (
	plain       manner = iota // what is unknown stays unknown
	idempotent                // the same batch again, with the same sequence, until it is decided
	conditional               // append at the offset expected
	manners
)

// producer appends to one partition, one batch after the other, through any agent.
type producer struct {
	w      *world
	id     int
	manner manner
	log    log
	rng    *rand.Rand

	made     int   // values so far
	sequence int32 // of the next idempotent batch
	expect   objectlog.Offset
	op       *op
	done     int
}

// op is one batch on its way, over all its attempts.
type op struct {
	values  []string
	encoded []byte // nil: as records
	row     objectlog.BatchRow
	attempt int
	unknown int // attempts whose outcome is not known
}

const clientTimeout = 2 * time.Second

// someone is an agent that takes clients, as a load balancer picks one; nil: there is none.
func (w *world) someone(rng *rand.Rand) *node {
	var ready [places]*node
	n := 0
	for _, m := range w.at {
		if m != nil && !m.draining {
			ready[n] = m
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return ready[rng.IntN(n)]
}

func (w *world) newProducer(m manner, l log) *producer {
	p := &producer{w: w, id: len(w.who) + 1, manner: m, log: l, rng: rand.New(rand.NewPCG(w.choices.Uint64(), uint64(len(w.who))))}
	w.who = append(w.who, p)
	return p
}

func (p *producer) schedule() {
	p.w.after(between(p.rng, 50*time.Millisecond, p.w.opt.Span/(time.Duration(p.w.opt.Ops/len(p.w.who)+1))*2), func() {
		if p.w.now < p.w.opt.Span {
			p.begin()
		}
	})
}

// begin makes the next batch: one to three records with values that occur once in the history.
func (p *producer) begin() {
	if p.op != nil {
		return
	}
	p.op = &op{}
	var records []objectlog.Record
	for range 1 + p.rng.IntN(3) {
		p.made++
		v := fmt.Sprintf("%d-%d", p.id, p.made)
		p.op.values = append(p.op.values, v)
		records = append(records, objectlog.Record{Value: []byte(v), Timestamp: objectlog.Timestamp(p.w.now / time.Millisecond)})
	}
	p.w.stats.Ops++
	o := objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1}
	if p.manner == idempotent {
		o.ProducerID, o.ProducerEpoch, o.FirstSequence = objectlog.ProducerID(p.id), 0, p.sequence
	}
	if p.manner != plain || p.rng.IntN(2) == 0 {
		encoded, row, err := write.EncodeRecords(records, objectlog.CodecNone, 1<<20, o)
		if err != nil {
			panic(err)
		}
		p.op.encoded, p.op.row = encoded, row
	}
	if p.manner == conditional {
		p.op.row.Expected = p.expect
	}
	p.attempt(records)
}

// attempt submits the batch to some agent.
func (p *producer) attempt(records []objectlog.Record) {
	op := p.op
	op.attempt++
	mine := op.attempt
	n := p.w.someone(p.rng)
	again := func() {
		if p.op == op && op.attempt == mine {
			p.attempt(records)
		}
	}
	if n == nil || n.pausedUntil > p.w.now {
		p.w.after(between(p.rng, 10*time.Millisecond, 200*time.Millisecond), again)
		return
	}
	t := p.w.topic[p.log.topic]
	b := &write.Batch{Shard: objectlog.Shard(t.shard), Topic: t.id, Partition: p.log.partition, Stamp: objectlog.NoTimestamp, Bytes: 200,
		Encoded: op.encoded, Row: op.row}
	if op.encoded == nil {
		b.Records, b.BytesMax = records, 1<<20
	}
	b.Owner = func(a write.Answer) {
		p.w.after(p.w.delay(), func() { // the reply to the client
			if p.op == op && op.attempt == mine {
				p.answered(a, again)
			}
		})
	}
	if !n.write(write.Submit{Batches: []*write.Batch{b}}) {
		p.w.after(between(p.rng, 10*time.Millisecond, 100*time.Millisecond), again)
		return
	}
	p.w.after(clientTimeout, func() {
		if p.op == op && op.attempt == mine {
			p.undecided(again)
		}
	})
}

// answered takes an agent's decision on the attempt under way.
func (p *producer) answered(a write.Answer, again func()) {
	switch {
	case errors.Is(a.Err, write.ErrNotWritten):
		p.refused(again)
	case a.Err != nil:
		p.undecided(again)
	default:
		p.decided(a.Parts, again)
	}
}

func (p *producer) decided(parts []write.Part, again func()) {
	w, op := p.w, p.op
	switch reason := parts[0].Reason; {
	case reason == metadata.ReasonNone:
		for _, part := range parts {
			for i := range part.Records {
				w.check.acked(p.log, part.Base+objectlog.Offset(i), op.values[part.First+i])
			}
		}
		if parts[0].Duplicate {
			w.stats.Duplicates++
			if p.manner != idempotent || op.attempt == 1 {
				w.fail("duplicate", "%s was called a duplicate on attempt %d", op.values[0], op.attempt)
			}
		}
		p.expect = parts[0].Base + objectlog.Offset(len(op.values))
		p.finish(len(op.values))
	case reason == metadata.ReasonOffsetMismatch && p.manner == conditional:
		p.expect = parts[0].Base
		p.refused(nil)
	default:
		w.fail("wrong-error", "%s of a %d producer: %v", op.values[0], p.manner, reason)
	}
}

// undecided: nobody knows whether the attempt is in the log.
func (p *producer) undecided(again func()) {
	p.op.unknown++
	p.w.stats.Unknown++
	if p.manner == idempotent {
		p.w.after(between(p.rng, 0, 300*time.Millisecond), again)
		return
	}
	p.finish(0)
}

// refused: the attempt is not in the log and never will be. An idempotent producer tries again all the same.
func (p *producer) refused(again func()) {
	p.w.stats.Refused++
	if p.manner == idempotent {
		p.w.after(between(p.rng, 10*time.Millisecond, 300*time.Millisecond), again)
		return
	}
	if p.op.unknown == 0 {
		p.w.check.failed(p.op.values)
	}
	p.finish(0)
}

// finish ends the batch; acked records move the sequence on.
func (p *producer) finish(acked int) {
	p.sequence += int32(acked)
	p.op = nil
	p.done++
	p.schedule()
}

// reader reads one partition from where it is, through any agent.
type reader struct {
	w    *world
	log  log
	rng  *rand.Rand
	next objectlog.Offset
}

func (w *world) newReader(l log) *reader {
	return &reader{w: w, log: l, rng: rand.New(rand.NewPCG(w.choices.Uint64(), uint64(l.topic)))}
}

func (r *reader) schedule() {
	r.w.after(between(r.rng, 100*time.Millisecond, time.Second), func() {
		if r.w.now < r.w.opt.Span {
			r.poll()
			r.schedule()
		}
	})
}

// poll makes a current read: what was acknowledged before it began must be there.
func (r *reader) poll() {
	n := r.w.someone(r.rng)
	if n == nil || n.pausedUntil > r.w.now {
		return
	}
	t := r.w.topic[r.log.topic]
	need, from := r.w.check.next[r.log], r.next // another poll may overtake this one
	n.current(t.shard, func(seq metadata.Seq) {
		state := n.replicas[t.shard].state
		p, ok := state.Partition(t.id, r.log.partition)
		switch {
		case !ok:
			r.w.fail("unknown-topic", "agent %d does not know %v at seq %d", n.place, r.log, seq)
		case p.HighWatermark < need:
			r.w.fail("stale-read", "agent %d ends %v at %d by a current read at seq %d, %d was acknowledged before", n.place, r.log, p.HighWatermark, seq, need)
		case p.HighWatermark < from:
			r.w.fail("nonmonotonic-poll", "agent %d ends %v at %d, it was %d", n.place, r.log, p.HighWatermark, from)
		}
		r.w.stats.Reads++
		end, _ := r.w.check.read(n, r.log, from)
		r.next = max(r.next, end)
	}, nil)
}
