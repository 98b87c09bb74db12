package rpc

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestProduceStreamAnswersInOrderWithResultsAndErrors(t *testing.T) {
	for _, name := range []string{"connect", "connect json", "grpc"} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.topic("a", 1)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			stream, err := w.logClient(protocols[name]...).ProduceStream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			const requests = 2*inFlightMax + 10
			sent := make(chan error, 1)
			go func() {
				for i := range requests {
					request := &v1.ProduceRequest{}
					if i%3 != 0 { // every third is wrong as a whole
						request.Batches = []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}
					}
					if err := stream.Send(&v1.ProduceStreamRequest{CorrelationId: int64(i), Request: request}); err != nil {
						sent <- err
						return
					}
				}
				sent <- stream.CloseRequest()
			}()
			next := int64(0)
			for i := range requests {
				answer, err := stream.Receive()
				if err != nil {
					t.Fatal(err)
				}
				if answer.CorrelationId != int64(i) {
					t.Fatalf("got the answer to %d, want %d", answer.CorrelationId, i)
				}
				if i%3 == 0 {
					if answer.GetError().GetReason() != "INVALID_REQUEST" {
						t.Errorf("got %v, want an error", answer)
					}
					continue
				}
				if got := answer.GetResponse().GetResults()[0].GetPositions()[0].GetOffset(); got != next {
					t.Errorf("got offset %d, want %d", got, next)
				}
				next++
			}
			if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v, want the end", err)
			}
			if err := errors.Join(<-sent, stream.CloseResponse()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProduceStreamBoundsWhatIsInFlight(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	hold := make(chan struct{})
	w.fake.hold = hold
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const requests = 3 * inFlightMax
	for i := range requests {
		if err := stream.Send(&v1.ProduceStreamRequest{CorrelationId: int64(i), Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		w.fake.mu.Lock()
		defer w.fake.mu.Unlock()
		return w.fake.submitted
	}
	const most = inFlightMax + 2 // one being waited for, one waiting for room
	for count() < most {
		if pause(ctx, time.Millisecond) != nil {
			t.Fatalf("got %d submitted, want %d", count(), most)
		}
	}
	if pause(ctx, 20*time.Millisecond) != nil || count() != most {
		t.Errorf("got %d submitted, want no more than %d", count(), most)
	}
	close(hold)
	for range requests {
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(stream.CloseRequest(), stream.CloseResponse()); err != nil {
		t.Error(err)
	}
}

func TestProduceStreamEndsWhenTheAgentDrainsWithEverythingAnswered(t *testing.T) {
	w := start(t, func(e *edge) { e.poll = time.Microsecond })
	w.topic("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hold := make(chan struct{})
	w.fake.hold = hold
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const requests = 20
	for i := range requests {
		if err := stream.Send(&v1.ProduceStreamRequest{CorrelationId: int64(i), Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}); err != nil {
			t.Fatal(err)
		}
	}
	for submitted := 0; submitted < requests; {
		if err := pause(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		w.fake.mu.Lock()
		submitted = w.fake.submitted
		w.fake.mu.Unlock()
	}
	w.fake.drain()
	if err := pause(ctx, 20*time.Millisecond); err != nil { // several polls, so that one is due at each answer
		t.Fatal(err)
	}
	close(hold)
	for i := range requests {
		if answer, err := stream.Receive(); err != nil || answer.CorrelationId != int64(i) || answer.GetResponse().GetResults()[0].GetError() != nil {
			t.Fatalf("got %v, %v, want the answer to %d", answer, err, i)
		}
	}
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeUnavailable || detailOf(t, err).Reason != "DRAINING" {
		t.Errorf("got %v, want draining", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestProduceStreamAnswersWhatIsBeingSubmittedWhenTheAgentDrains(t *testing.T) {
	w := start(t, func(e *edge) { e.poll = time.Microsecond })
	w.topic("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	admit := make(chan struct{})
	w.fake.admit = admit
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&v1.ProduceStreamRequest{CorrelationId: 7, Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}); err != nil {
		t.Fatal(err)
	}
	for submitted := 0; submitted == 0; {
		if err := pause(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		w.fake.mu.Lock()
		submitted = w.fake.submitted
		w.fake.mu.Unlock()
	}
	w.fake.drain()
	if err := pause(ctx, 20*time.Millisecond); err != nil { // several polls
		t.Fatal(err)
	}
	close(admit) // the record is appended
	if answer, err := stream.Receive(); err != nil || answer.GetCorrelationId() != 7 || answer.GetResponse() == nil {
		t.Errorf("got %v, %v; want the answer: that the agent drains means that nothing was done", answer, err)
	}
	if _, err := stream.Receive(); detailOf(t, err).Reason != "DRAINING" {
		t.Errorf("got %v, want that the agent drains", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestProduceStreamOfAClientThatNeverPausesEndsWhenTheAgentDrains(t *testing.T) {
	w := start(t, func(e *edge) { e.poll = time.Millisecond })
	w.topic("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	hold := make(chan struct{})
	w.fake.hold = hold
	paced := make(chan struct{})
	go func() { // slower than the client sends
		defer close(paced)
		for pause(ctx, 100*time.Microsecond) == nil {
			select {
			case hold <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		message := &v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}
		for err := error(nil); err == nil; message.CorrelationId++ {
			err = stream.Send(message)
		}
	}()
	for next := int64(0); ; next++ {
		answer, err := stream.Receive()
		if err != nil {
			if connect.CodeOf(err) != connect.CodeUnavailable || detailOf(t, err).Reason != "DRAINING" {
				t.Errorf("got %v, want draining", err)
			}
			break
		}
		if answer.CorrelationId != next || answer.GetResponse().GetResults()[0].GetError() != nil {
			t.Fatalf("got %v, want the answer to %d", answer, next)
		}
		if next == 100 {
			w.fake.drain()
		}
	}
	<-done
	cancel()
	<-paced
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestProduceStreamEndsWithItsClient(t *testing.T) {
	w := start(t) // goleak and the server's Close see what stays
	w.topic("a", 1)
	w.fake.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("got %v, want canceled", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestAnUnreadableMessageEndsTheStreamBehindItsAnswers(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	broken := &v1.ProduceStreamRequest{CorrelationId: 1}
	broken.ProtoReflect().SetUnknown([]byte{0x12, 0x01, 0xff}) // request, a message that is cut off
	for _, m := range []*v1.ProduceStreamRequest{{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}, broken} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := stream.Receive(); err != nil || answer.GetResponse() == nil {
		t.Errorf("got %v, %v, want the first answer", answer, err)
	}
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeInvalidArgument || detailOf(t, err).Reason != "INVALID_REQUEST" {
		t.Errorf("got %v, want the message refused", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}
