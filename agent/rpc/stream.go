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
// engine's buffer: when it is full Submit waits, and the stream isn't read.
const inFlightMax = 256

// streamed is one request of a stream, submitted or refused as a whole.
type streamed struct {
	correlation int64
	submission  *submission
	err         error
}

// ProduceStream implements LogService. One goroutine reads and submits in the order of arrival; this one waits and
// answers in the same order. When the client is gone, what was submitted is decided all the same.
func (e *edge) ProduceStream(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	submitted := make(chan streamed, inFlightMax)
	ended := make(chan error, 1)
	go func() {
		defer close(submitted)
		ended <- e.receive(ctx, stream, submitted)
	}()
	err := e.answer(ctx, stream, submitted)
	cancel()
	if err != nil {
		// The reader may be waiting for a client that sends nothing: make its read end now, and wait for it.
		interruptRead(ctx)
		for range submitted {
		}
		return err
	}
	return <-ended
}

// receive reads until the stream ends, and answers why: nil at the client's own end.
func (e *edge) receive(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse], submitted chan<- streamed) error {
	for {
		message, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s := streamed{correlation: message.GetCorrelationId()}
		s.submission, s.err = e.submit(ctx, message.GetRequest())
		select {
		case submitted <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answer sends the answers in order until submitted is closed: nil then. It gives up when the agent drains and
// everything submitted is answered.
func (e *edge) answer(ctx context.Context, stream *connect.BidiStream[v1.ProduceStreamRequest, v1.ProduceStreamResponse], submitted <-chan streamed) error {
	poll := time.NewTicker(e.poll)
	defer poll.Stop()
	for {
		select {
		case s, ok := <-submitted:
			if !ok {
				return nil
			}
			response := &v1.ProduceStreamResponse{CorrelationId: s.correlation}
			if s.err != nil {
				response.Outcome = &v1.ProduceStreamResponse_Error{Error: e.detail(s.err)}
			} else {
				response.Outcome = &v1.ProduceStreamResponse_Response{Response: s.submission.wait(ctx)}
			}
			if err := e.sendWithin(ctx, func() error { return stream.Send(response) }); err != nil {
				return err
			}
		case <-poll.C:
			if len(submitted) == 0 && e.draining() {
				return fmt.Errorf("produce stream: %w", agent.Draining)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *edge) draining() bool { return errors.Is(e.engine.Ready(), agent.Draining) }
