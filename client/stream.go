package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// stream is one ProduceStream call. All its requests meet one agent in the order in which they are sent, so several
// batches of a partition can be in flight.
type stream struct {
	rpc    *connect.BidiStreamForClientSimple[splashdamv1.ProduceStreamRequest, splashdamv1.ProduceStreamResponse]
	cancel context.CancelFunc
	opened int         // transport.moveCount before it was
	until  time.Time   // when it is replaced, for a load balancer's sake; under Producer.mu
	watch  *time.Timer // cancels the stream when requests wait for RequestTimeout without any answer; under Producer.mu

	flights  []*flight // without answer, oldest first; under Producer.mu
	answered bool      // at least once; under Producer.mu
	closing  bool      // the request side is closed; under Producer.mu
}

// retire says whether the stream takes no more requests, because of its age or because its agent was left, and closes it once everything is
// answered; the agent has so long to end its side.
func (s *stream) retire(now time.Time, moves int, wait time.Duration) bool {
	if now.Before(s.until) && s.opened == moves {
		return false
	}
	if len(s.flights) == 0 && !s.closing {
		s.closing = true
		s.watch.Reset(wait)
		_ = s.rpc.CloseRequest() // only closes a pipe; the receiver sees how the stream ends
	}
	return true
}

// sendOnStream sends the flight on the current stream, or on a new one.
func (p *Producer) sendOnStream(f *flight, req *splashdamv1.ProduceRequest) {
	p.mu.Lock()
	s := p.stream
	p.mu.Unlock()
	if s == nil {
		var err error
		if s, err = p.openStream(); err != nil {
			p.land(f, nil, err)
			return
		}
	}
	p.mu.Lock()
	if p.stream != s { // it broke meanwhile: nothing of this flight went out
		p.mu.Unlock()
		p.putBack(f)
		return
	}
	p.correlation++
	f.correlation = p.correlation
	if len(s.flights) == 0 {
		s.watch.Reset(p.c.cfg.RequestTimeout)
	}
	s.flights = append(s.flights, f)
	p.mu.Unlock()
	if err := s.rpc.Send(&splashdamv1.ProduceStreamRequest{CorrelationId: f.correlation, Request: req}); err != nil {
		// The agent ended the stream: the receiver learns why, and lands the flight. Cancelling would hide the cause.
		_ = s.rpc.CloseRequest()
		p.mu.Lock()
		s.until = time.Time{} // nothing more goes this way
		p.mu.Unlock()
	}
}

// putBack undoes the sending of a flight that did not go out.
func (p *Producer) putBack(f *flight) {
	for _, s := range f.sent {
		p.settle(f, s, answer{verdict: busy, err: &Error{Op: s.q.op(), Message: "stream ended", Retriable: true, definite: true}})
	}
	p.report()
}

// openStream opens a stream with its receiver.
func (p *Producer) openStream() (*stream, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	opened := p.c.transport.moveCount()
	rpc, err := p.c.log.ProduceStream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	// net/http does not notice the end of ctx while it waits for more of the request: end the request, too.
	context.AfterFunc(ctx, func() { _ = rpc.CloseRequest() })
	s := &stream{rpc: rpc, cancel: cancel, opened: opened, until: time.Now().Add(p.c.cfg.ConnectionAge)}
	s.watch = time.AfterFunc(p.c.cfg.RequestTimeout, func() {
		p.c.transport.moveOn() // over the same connection the next stream would meet the same silence
		cancel()
	})
	p.mu.Lock()
	p.stream = s
	p.mu.Unlock()
	p.wg.Go(func() { p.receive(s) })
	return s, nil
}

// receive lands the stream's flights until it ends.
func (p *Producer) receive(s *stream) {
	defer s.cancel()
	for {
		res, err := s.rpc.Receive()
		if err == nil {
			var f *flight
			if f, err = p.pair(s, res); err == nil {
				p.land(f, res.GetResponse(), failureOf(res))
				continue
			}
		}
		_ = s.rpc.CloseRequest()
		_ = s.rpc.CloseResponse()
		p.streamEnded(s, err)
		return
	}
}

// pair finds the flight that the answer belongs to: the oldest.
func (p *Producer) pair(s *stream, res *splashdamv1.ProduceStreamResponse) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(s.flights) == 0 || s.flights[0].correlation != res.GetCorrelationId() {
		return nil, fmt.Errorf("produce stream: answer %d is out of turn", res.GetCorrelationId())
	}
	f := s.flights[0]
	s.flights = s.flights[1:]
	s.answered, p.deadStreams = true, 0
	if len(s.flights) == 0 {
		s.watch.Stop()
	} else {
		s.watch.Reset(p.c.cfg.RequestTimeout)
	}
	return f, nil
}

// failureOf is the error of an answer that refuses the request as a whole.
func failureOf(res *splashdamv1.ProduceStreamResponse) error {
	if d := res.GetError(); d != nil {
		return errorOfDetail("produce", d)
	}
	return nil
}

// streamEnded lands what was not answered and decides whether streams are worth another try.
func (p *Producer) streamEnded(s *stream, err error) {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("produce stream ended by the agent: %w", io.ErrUnexpectedEOF)
	}
	drains := p.c.heed(errorOf("produce", err)).Reason == reasonDraining
	p.mu.Lock()
	s.watch.Stop()
	flights := s.flights
	s.flights = nil
	if p.stream == s {
		p.stream = nil
	}
	if !s.answered && !s.closing && !drains && !neverSent(err) {
		p.deadStreams++
	}
	if errors.Is(err, errNoStreams) || connectCode(err) == connect.CodeUnimplemented || p.deadStreams >= deadStreamsMax {
		p.unaryUntil, p.deadStreams = time.Now().Add(unaryFor), 0
	}
	p.mu.Unlock()
	for _, f := range flights {
		p.land(f, nil, err)
	}
	p.wake.wake()
}
