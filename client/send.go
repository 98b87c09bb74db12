package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

const (
	// requestBytesMax is where no further batch joins a request: large enough that thousands of small batches travel together.
	requestBytesMax = 4 << 20
	// callsMax bounds the unary calls in flight.
	callsMax = 16
	// unaryFor is how long a producer stays with unary calls after streams did not work.
	unaryFor = time.Minute
	// deadStreamsMax is how many streams in a row may end without an answer before that is taken to mean that they do not work.
	deadStreamsMax = 3
)

// flight is one request that was sent, with the batches in it: at most one of each queue.
type flight struct {
	unary       bool
	correlation int64
	sent        []sentBatch
	bytes       int64
}

type sentBatch struct {
	q *sendQueue
	b *batch
}

// run sends what the queues want to be sent until the producer is stopped. It alone takes from queues and opens streams.
func (p *Producer) run() {
	defer p.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p.ctx.Err() == nil {
		f, identify, wake := p.next(time.Now())
		p.report()
		switch {
		case identify != nil:
			p.identify(identify)
			continue
		case f != nil:
			p.send(f)
			continue
		}
		timer.Reset(time.Hour)
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case <-p.wake:
		case <-timer.C:
		case <-p.ctx.Done():
		}
	}
}

// next gathers a request from the queues, or says which of them needs a new identity, or when to look again.
func (p *Producer) next(now time.Time) (f *flight, identify *sendQueue, wake time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	window := p.cfg.InFlightBatches
	if p.unary(now) {
		window = 1
	}
	f = &flight{unary: p.unary(now)}
	if p.cannotSend(now) {
		window = 0 // only expire
	}
	cut := 0
	for i, q := range p.active {
		if window > 0 && (p.inFlight >= p.cfg.InFlightBytes || f.bytes >= requestBytesMax) {
			window, cut = 0, i
		}
		m := q.take(now, window)
		p.finish(q)
		switch {
		case m.send != nil:
			f.sent = append(f.sent, sentBatch{q, m.send})
			f.bytes += int64(m.send.bytes)
			p.inFlight += int64(m.send.bytes)
		case m.identify && identify == nil:
			identify = q
		default:
			wake = earliest(wake, m.wake)
		}
	}
	p.turn(cut)
	if len(f.sent) == 0 {
		return nil, identify, wake
	}
	if f.unary {
		p.calls++
	}
	return f, nil, wake
}

// turn makes the queue at cut the first to be asked next time, so that none waits for ever behind busy ones, and forgets
// the queues without batches.
func (p *Producer) turn(cut int) {
	if cut > 0 {
		p.active = append(p.active[cut:len(p.active):len(p.active)], p.active[:cut]...)
	}
	p.active = slices.DeleteFunc(p.active, func(q *sendQueue) bool { return len(q.batches) == 0 })
}

func (p *Producer) unary(now time.Time) bool { return p.cfg.Unary || now.Before(p.unaryUntil) }

// cannotSend says whether a request would have no way out now.
func (p *Producer) cannotSend(now time.Time) bool {
	if p.unary(now) {
		return p.calls >= callsMax
	}
	return p.stream != nil && p.stream.retire(now, p.c.transport.moveCount(), p.c.cfg.RequestTimeout)
}

// identify gives the queue an identity that it has not used: the producer's, if that has moved on, else its next epoch,
// else a new id. Where no agent answers, the queue waits like after a refusal.
func (p *Producer) identify(q *sendQueue) {
	p.mu.Lock()
	current := p.identity
	p.mu.Unlock()
	var failed *Error
	if !current.set || current == q.id {
		req := &splashdamv1.InitProducerRequest{}
		if current.set {
			req.Producer = &splashdamv1.Producer{Id: int64(current.id), Epoch: int32(current.epoch)}
		}
		// No longer: nothing is sent and nothing given up meanwhile.
		ctx, cancel := context.WithTimeout(p.ctx, p.c.cfg.DialTimeout)
		res, err := p.c.log.InitProducer(ctx, req)
		cancel()
		if err != nil {
			failed = p.c.heed(errorOf("init producer", err))
		} else {
			got := res.GetProducer()
			current = identity{id: objectlog.ProducerID(got.GetId()), epoch: int16(got.GetEpoch()), set: true}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case failed == nil && current != q.id:
		p.identity = current
		q.identify(current)
	case failed == nil:
		failed = &Error{Op: "init producer", Message: "the agent answered the epoch that was to be left"}
		fallthrough
	default:
		if failed.definite && !failed.Retriable {
			p.identity = identity{} // this id can't go on: ask for a new one
		}
		q.last = failed
		q.backOff(q.head(), answer{err: failed, retryAfter: failed.RetryAfter}, time.Now())
	}
}

// send encodes the flight's batches and sends them. Afterwards the batches belong to whoever gets the answer.
func (p *Producer) send(f *flight) {
	req := &splashdamv1.ProduceRequest{Acks: splashdamv1.Acks_ACKS_DURABLE}
	if p.cfg.Acks == AcksNone {
		req.Acks = splashdamv1.Acks_ACKS_NONE
	}
	kept := f.sent[:0]
	for _, s := range f.sent {
		if err := p.encode(s.b); err != nil {
			p.settle(f, s, answer{verdict: refused, err: &Error{Op: s.q.op(), Code: "invalid_argument", Reason: "INVALID_RECORD",
				KafkaCode: 87, definite: true, Message: err.Error(), cause: err}})
			continue
		}
		kept = append(kept, s)
		partition := int32(s.q.partition)
		req.Batches = append(req.Batches, &splashdamv1.ProduceRequest_Batch{
			Topic: s.q.topic, Partition: &partition,
			Content: &splashdamv1.ProduceRequest_Batch_Encoded{Encoded: s.b.encoded},
		})
	}
	f.sent = kept
	if f.unary {
		p.wg.Go(func() { p.call(f, req) })
		return
	}
	if len(f.sent) > 0 {
		p.sendOnStream(f, req)
	}
}

// encode makes the batch's bytes, once per identity and sequence: repeated attempts send the same bytes.
func (p *Producer) encode(b *batch) error {
	if b.encoded != nil {
		return nil
	}
	o := objectlog.BatchOptions{Codec: p.codec, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer}
	if b.sequenced {
		o.ProducerID, o.ProducerEpoch, o.FirstSequence = b.id.id, b.id.epoch, b.first
	}
	encoded, err := objectlog.EncodeBatch(nil, b.records, o)
	if err == nil && o.Codec != objectlog.CodecNone && len(encoded) > b.bytes {
		// Compression made it larger, perhaps too large for the topic.
		o.Codec = objectlog.CodecNone
		encoded, err = objectlog.EncodeBatch(encoded[:0], b.records, o)
	}
	b.encoded = encoded
	return err
}

// call sends the flight as one unary call.
func (p *Producer) call(f *flight, req *splashdamv1.ProduceRequest) {
	ctx, cancel := context.WithTimeout(p.ctx, p.c.cfg.RequestTimeout)
	defer cancel()
	var res *splashdamv1.ProduceResponse
	var err error
	if len(f.sent) > 0 {
		res, err = p.c.log.Produce(ctx, req)
	}
	p.mu.Lock()
	p.calls--
	p.mu.Unlock()
	p.land(f, res, err)
}

// land takes the answer to a flight: a response with one result per batch, or an error for all of it.
func (p *Producer) land(f *flight, res *splashdamv1.ProduceResponse, err error) {
	if err == nil && len(res.GetResults()) != len(f.sent) {
		err = fmt.Errorf("%d results for %d batches", len(res.GetResults()), len(f.sent))
	}
	for i, s := range f.sent {
		if err != nil {
			p.settle(f, s, p.judgeCall(s, err))
			continue
		}
		p.settle(f, s, p.judge(s, res.GetResults()[i]))
	}
	p.report()
	p.wake.wake()
}

// settle gives the answer on one batch to its queue.
func (p *Producer) settle(f *flight, s sentBatch, a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight -= int64(s.b.bytes)
	s.q.answer(s.b, a, time.Now())
	p.finish(s.q)
}

// judgeCall is the verdict on a batch whose whole request failed.
func (p *Producer) judgeCall(s sentBatch, err error) answer {
	of := *p.c.heed(errorOf(s.q.op(), err))
	of.Op = s.q.op()
	e := &of
	if neverSent(err) || errors.Is(err, errNoStreams) {
		return answer{verdict: busy, err: e} // nothing went out
	}
	return judgeError(e)
}

// judge is the verdict of an agent's result.
func (p *Producer) judge(s sentBatch, r *splashdamv1.ProduceResponse_Result) answer {
	if d := r.GetError(); d != nil {
		return judgeError(p.c.heed(errorOfDetail(s.q.op(), d)))
	}
	o := outcome{base: NoOffset, duplicate: r.GetDuplicate(), appendTime: timeOf(r.GetAppendTime())}
	if positions := r.GetPositions(); len(positions) > 0 && positions[0].Offset != nil {
		o.base = Offset(positions[0].GetOffset())
	} else if p.cfg.Acks == AcksDurable {
		return answer{verdict: unknown, err: &Error{Op: s.q.op(), Message: "the agent answered neither an offset nor an error"}}
	}
	return answer{verdict: appended, outcome: o}
}

// Kafka's codes that concern sequences (KIP-98, KIP-360).
const (
	kafkaTooLarge          = 10
	kafkaOutOfOrder        = 45
	kafkaDuplicateSequence = 46
	kafkaUnknownProducer   = 59
)

func judgeError(e *Error) answer {
	a := answer{err: e, retryAfter: e.RetryAfter}
	switch {
	case !e.definite:
		a.verdict = unknown
	case e.KafkaCode == kafkaDuplicateSequence:
		return answer{verdict: appended, outcome: outcome{base: NoOffset, duplicate: true}}
	case e.KafkaCode == kafkaOutOfOrder, e.KafkaCode == kafkaUnknownProducer:
		a.verdict = gap
	case e.KafkaCode == kafkaTooLarge:
		a.verdict = tooLarge
	case e.Retriable:
		a.verdict = busy
	default:
		a.verdict = refused
	}
	return a
}

// finish moves the queue's settled batches to those that are to be reported, and frees their room in the buffer.
func (p *Producer) finish(q *sendQueue) {
	batches := q.pop()
	if len(batches) == 0 {
		return
	}
	for _, b := range batches {
		b.topic, b.partition = q.topic, q.partition
		p.buffered -= int64(b.bytes)
	}
	p.finished = append(p.finished, batches...)
	p.freed()
}

// report calls the callers back, in order. One goroutine at a time does it; what finishes meanwhile is left to that one.
func (p *Producer) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reporting {
		return
	}
	p.reporting = true
	for len(p.finished) > 0 {
		b := p.finished[0]
		p.mu.Unlock()
		b.report()
		p.mu.Lock()
		for _, decided := range b.flushed {
			decided()
		}
		p.spares.give(b)
		p.finished[0] = nil
		p.finished = p.finished[1:]
	}
	p.reporting = false
}

func (b *batch) report() {
	r := Result{
		Topic: b.topic, Partition: b.partition, Offset: NoOffset,
		Duplicate: b.outcome.duplicate, Time: b.outcome.appendTime, Err: b.outcome.err,
	}
	for i, done := range b.done {
		if b.outcome.err == nil && b.outcome.base != NoOffset {
			r.Offset = b.outcome.base + Offset(i)
		}
		if done != nil {
			done(r)
		}
	}
}

// end settles what is left when the producer stops. Receivers and calls end by themselves, as ctx has; their late answers
// find their batches settled.
func (p *Producer) end() {
	p.mu.Lock()
	s := p.stream
	for _, q := range p.active {
		q.abandon()
		p.finish(q)
	}
	p.mu.Unlock()
	if s != nil {
		s.cancel()
	}
	p.report()
}

// connectCode is the Connect code of an error that no agent spoke, or 0.
func connectCode(err error) connect.Code {
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce.Code()
	}
	return 0
}
