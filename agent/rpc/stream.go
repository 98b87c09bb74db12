package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// inFlightMax bounds the requests of one stream that are submitted and not answered. Their bytes are bounded by the
// engine's buffer and the memory of all calls: while one is full the stream isn't read.
const inFlightMax = 256

// streamed is one request of a stream, submitted or refused as a whole.
type streamed struct {
	correlation int64
	submission  *submission
	err         error
	claim       *claim // released when the answer is sent
}

// ProduceStream implements LogService. One goroutine reads and submits in the order of arrival; this one waits and
// answers in the same order. When the client is gone, what was submitted is decided all the same.
func (e *edge) ProduceStream(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	submitted := make(chan streamed, inFlightMax)
	ended, enough := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(submitted)
		ended <- e.receive(ctx, stream, submitted, enough)
	}()
	defer func() {
		cancel()
		// The reader may be waiting for a client that sends nothing: make its read end now, and wait for it.
		interruptRead(ctx)
		for s := range submitted {
			s.claim.release()
		}
	}()
	if err := e.answer(ctx, stream, submitted, enough); err != nil {
		return err
	}
	err := <-ended
	if err != nil && e.draining() {
		return errStreamDrains
	}
	return err
}

// receive reads until the stream ends, or enough is closed, and answers why: nil at the client's own end.
func (e *edge) receive(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse], submitted chan<- streamed, enough <-chan struct{}) error {
	claim := e.claimOf(ctx)
	claim.patience = produceTime // what the stream's earlier messages hold comes back within it
	for {
		select {
		case <-enough:
			return errStreamDrains
		default:
		}
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s := streamed{correlation: message.GetCorrelationId(), claim: claim.detach()}
		s.claim.keep(s.claim.decoded)
		within, cancel := context.WithTimeout(ctx, produceTime) // of waiting for room, or to learn of a topic
		s.submission, s.err = e.submit(within, message.GetRequest())
		cancel()
		select {
		case submitted <- s:
		case <-ctx.Done():
			s.claim.release()
			return ctx.Err()
		}
	}
}

// errStreamDrains sends the client to another agent.
var errStreamDrains = fmt.Errorf("produce stream: %w", agent.Draining)

// answer sends the answers in order until submitted is closed: nil then. When the agent drains it closes enough, so that a client
// that never stops sending is no longer read, and ends the read from one that sends nothing. What is read by then may be on its way to
// the engine, so it is answered before the stream ends: that says that nothing was done.
func (e *edge) answer(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse], submitted <-chan streamed, enough chan<- struct{}) error {
	poll := time.NewTicker(e.poll)
	defer poll.Stop()
	drains := false
	for {
		select {
		case s, ok := <-submitted:
			if !ok {
				return nil
			}
			if err := e.reply(ctx, stream, s); err != nil {
				return err
			}
		case <-poll.C:
			if !drains && e.draining() {
				drains = true
				close(enough)
			}
			if drains && len(submitted) == 0 {
				interruptRead(ctx)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reply sends the answer to one request when it is decided.
func (e *edge) reply(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse], s streamed) error {
	defer s.claim.release()
	response := &v1.ProduceStreamResponse{CorrelationId: s.correlation}
	if s.err != nil {
		response.Outcome = &v1.ProduceStreamResponse_Error{Error: e.detail(s.err)}
	} else {
		response.Outcome = &v1.ProduceStreamResponse_Response{Response: s.submission.wait(ctx)}
	}
	return e.sendWithin(ctx, 0, func() error { return stream.Send(response) })
}

func (e *edge) draining() bool { return errors.Is(e.engine.Ready(), agent.Draining) }
