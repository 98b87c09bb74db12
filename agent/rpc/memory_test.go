package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestSmallCallsFindMemoryThatLargeOnesDoNot(t *testing.T) {
	m := newMemory(64 << 20)
	large, larger := m.claim(), m.claim()
	larger.patience = time.Millisecond
	if err := large.take(t.Context(), 56<<20); err != nil {
		t.Fatal(err)
	}
	if err := larger.take(t.Context(), 10<<20); !errors.Is(err, agent.Busy) {
		t.Errorf("got %v, want busy: an eighth is for small calls", err)
	}
	if err := m.claim().take(t.Context(), 1<<20); err != nil {
		t.Errorf("a small call: %v", err)
	}
}

func TestReadsAndWritesLeaveMemoryToEachOther(t *testing.T) {
	m := newMemory(64 << 20)
	writes := m.claim()
	if err := writes.take(t.Context(), 100<<20); err != nil { // all that it may
		t.Fatal(err)
	}
	reads := func() *claim {
		c := m.claim()
		c.reading()
		return c
	}
	if large := reads(); !large.tryTake(4<<20) || large.tryTake(1) {
		t.Error("want large writes to leave a sixteenth to reads, and those as much to small writes")
	}
	if !m.claim().tryTake(1 << 20) {
		t.Error("a small write found no memory")
	}
	writes.release()
	if read := reads(); !read.tryTake(20<<20) || read.tryTake(1) {
		t.Error("want no more than half of the memory for all reads, and an eighth of it for small ones")
	}
	if !reads().tryTake(1 << 20) {
		t.Error("a small read found no memory")
	}
	if !writes.tryTake(20 << 20) {
		t.Error("a large write did not find what reads may not have")
	}
}

func TestAStreamOfSmallMessagesIsNotASmallCall(t *testing.T) {
	m := newMemory(64 << 20)
	stream := m.claim()
	var messages []*claim
	for stream.tryTake(500 << 10) {
		messages = append(messages, stream.detach())
	}
	if m.free < 8<<20 {
		t.Errorf("got %d bytes left to small calls, want an eighth", m.free)
	}
	for _, c := range messages {
		c.release()
	}
	if m.free != m.max || *stream.whole != 0 {
		t.Errorf("got %d of %d free, %d held by the stream", m.free, m.max, *stream.whole)
	}
}

func TestOneCallOfThoseThatHoldMemoryWaitsForMore(t *testing.T) {
	m := newMemory(8 << 20)
	first, second := m.claim(), m.claim()
	for _, c := range []*claim{first, second} {
		if err := c.take(t.Context(), 3<<20); err != nil {
			t.Fatal(err)
		}
	}
	waits := make(chan error, 1)
	go func() { waits <- first.take(context.Background(), 4<<20) }()
	for ctx, stuck := t.Context(), false; !stuck; {
		m.mu.Lock()
		stuck = m.stuck
		m.mu.Unlock()
		if pause(ctx, time.Millisecond) != nil {
			t.Fatal("the first did not wait")
		}
	}
	if err := second.take(t.Context(), 4<<20); !errors.Is(err, agent.Busy) {
		t.Errorf("got %v, want the second refused at once", err)
	}
	second.release()
	if err := <-waits; err != nil || m.free != 1<<20 {
		t.Errorf("got %v, %d free; want the first to go on", err, m.free)
	}
}

func TestTheLargestCallIsPossibleAlone(t *testing.T) {
	m := newMemory(8 << 20)
	c := m.claim()
	if err := c.take(t.Context(), 100<<20); err != nil || m.free != 1<<20 {
		t.Errorf("got %v, %d free; want all but the part of small calls", err, m.free)
	}
}

// tight is an edge with memory for a few large requests.
func tight(t *testing.T, change ...func(*edge)) *world {
	t.Helper()
	w := startWith(t, Config{RequestBytesMax: 1 << 20, MemoryBytesMax: 8 << 20}, change...)
	w.topic("a", 1)
	return w
}

func TestHalfSentBodiesAreBoundedTogetherAndCutOff(t *testing.T) {
	w := tight(t, func(e *edge) { e.slow = 2 * time.Second })
	var conns []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		const head = "POST /splashdam.v1.LogService/Produce HTTP/1.1\r\nHost: x\r\nContent-Type: application/proto\r\nContent-Length: 900000\r\n\r\n"
		if _, err := io.WriteString(conn, head+strings.Repeat("x", 100_000)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	w.want("LogService/Produce", `{"batches":[{"topic":"a","records":{"records":[{"value":{"text":"small"}}]}}]}`, `{"results":[{"positions":[{"partition":0,"offset":"0"}]}]}`)
	answers := make(chan string, len(conns))
	for _, conn := range conns {
		go func() {
			answer, err := io.ReadAll(conn)
			answers <- fmt.Sprint(string(answer), " ", err)
		}()
	}
	refused, slow := 0, 0
	for range conns {
		switch text := <-answers; {
		case strings.Contains(text, "429 ") && strings.Contains(text, `"retryAfter":"1s"`):
			refused++
		case strings.Contains(text, "503 ") && strings.Contains(text, "too slow"):
			slow++
		default:
			t.Errorf("got %q", text)
		}
	}
	if refused < 10 || slow == 0 || w.fake.submitted != 1 {
		t.Errorf("got %d refused and %d cut off, %d at the engine; want some of each, and one", refused, slow, w.fake.submitted)
	}
	w.wantFree(8 << 20)
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUndecidedRequestsAreBoundedByWhatTheyUnpackTo(t *testing.T) {
	for name, options := range map[string][]connect.ClientOption{"connect": {connect.WithSendGzip()}, "grpc": {connect.WithSendGzip(), connect.WithGRPC()}} {
		t.Run(name, func(t *testing.T) {
			w := tight(t)
			hold := make(chan struct{})
			w.fake.hold = hold
			client := w.logClient(options...)
			answers := make(chan error, 12)
			for range cap(answers) {
				go func() {
					_, err := client.Produce(context.Background(), &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, strings.Repeat("x", 900_000))}})
					answers <- err
				}()
			}
			d := detailOf(t, <-answers) // nothing is decided, so the first answer is a refusal
			if d.Code != "resource_exhausted" || d.RetryAfter.AsDuration() != time.Second || !d.Retriable {
				t.Errorf("got %v, want busy", d)
			}
			for range 7 {
				detailOf(t, <-answers)
			}
			close(hold)
			decided := 0
			for range 4 {
				if err := <-answers; err == nil {
					decided++
				}
			}
			if decided == 0 {
				t.Error("no request went through")
			}
		})
	}
}

func TestRequestsWeighWhatTheirElementsTake(t *testing.T) {
	w := tight(t)
	w.fake.hold = make(chan struct{})
	done := make(chan int, 1)
	go func() {
		status, _ := w.post("LogService/Produce", `{"batches":[{"topic":"a","records":{"records":[`+strings.Repeat("{},", 30_000)+`{}]}}]}`)
		done <- status
	}()
	const weight = 30_004 * elementBytes
	for ctx, held := t.Context(), int64(0); held < weight; {
		w.fake.mu.Lock()
		submitted := w.fake.submitted
		w.fake.mu.Unlock()
		w.edge.memory.mu.Lock()
		held = w.edge.memory.max - w.edge.memory.free
		w.edge.memory.mu.Unlock()
		if submitted == 1 && held < weight {
			t.Fatalf("got %d bytes held, want at least %d", held, weight)
		}
		if pause(ctx, time.Millisecond) != nil {
			t.Fatal("nothing was held")
		}
	}
	close(w.fake.hold)
	if status := <-done; status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}

func TestAStreamHoldsMemoryUntilItsAnswers(t *testing.T) {
	w := tight(t)
	w.fake.hold = make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := w.logClient().ProduceStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const messages = 12 // more than fit: the stream waits for its own answers
	go func() {
		for range messages {
			if stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, strings.Repeat("x", 900_000))}}}) != nil {
				return
			}
		}
	}()
	for waits := 0; waits == 0; {
		w.edge.memory.mu.Lock()
		waits = w.edge.memory.waits
		w.edge.memory.mu.Unlock()
		if pause(ctx, time.Millisecond) != nil {
			t.Fatal("the stream did not wait")
		}
	}
	close(w.fake.hold)
	for i := range messages {
		if answer, err := stream.Receive(); err != nil || answer.GetResponse() == nil {
			t.Fatalf("message %d: got %v, %v", i, answer, err)
		}
	}
	w.wantFree(8 << 20)
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestStreamsWaitForEachOthersMemory(t *testing.T) {
	w := startWith(t, Config{MemoryBytesMax: 64 << 20})
	w.topic("a", 1)
	hold := make(chan struct{})
	w.fake.hold = hold
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var part []*v1.ProduceRequest_Batch
	for range 5 {
		part = append(part, textBatch("a", 0, strings.Repeat("x", 900_000)))
	}
	const streams, messages = 4, 4 // twice of what fits
	ended := make(chan error, streams)
	for range streams {
		stream, err := w.logClient().ProduceStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range messages {
				_ = stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: part}})
			}
		}()
		go func() {
			var err error
			for n := 0; n < messages && err == nil; n++ {
				_, err = stream.Receive()
			}
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
			ended <- err
		}()
	}
	if err := pause(ctx, 300*time.Millisecond); err != nil { // all of them wait
		t.Fatal(err)
	}
	close(hold)
	for range streams {
		if err := <-ended; err != nil {
			t.Errorf("got %v, want every message answered", err)
		}
	}
}

func TestAStreamThatPanicsHoldsNothing(t *testing.T) {
	w := tight(t)
	hold := make(chan struct{})
	w.fake.hold, w.fake.panics = hold, true
	stream, err := w.logClient().ProduceStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const messages = 10
	for range messages {
		if err := stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, strings.Repeat("x", 1000))}}}); err != nil {
			t.Fatal(err)
		}
	}
	for submitted := 0; submitted < messages; {
		if err := pause(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		w.fake.mu.Lock()
		submitted = w.fake.submitted
		w.fake.mu.Unlock()
	}
	close(hold)
	if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeInternal {
		t.Errorf("got %v, want an internal error", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
	w.wantFree(8 << 20)
}

func TestALargeAnswerHasTimeForASlowClient(t *testing.T) {
	w := start(t, func(e *edge) { e.send = 50 * time.Millisecond })
	w.topic("a", 1)
	for range 8 {
		w.produce("a", 0, strings.Repeat("x", 1_000_000))
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := errors.Join(conn.SetDeadline(time.Now().Add(10*time.Second)), conn.(*net.TCPConn).SetReadBuffer(16<<10)); err != nil {
		t.Fatal(err)
	}
	const body = `{"maxBytes":10000000,"partitions":[{"topic":"a"}]}`
	if _, err := fmt.Fprintf(conn, "POST /splashdam.v1.LogService/Fetch HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	if err := pause(t.Context(), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || len(answer) < 8_000_000 {
		t.Errorf("got %d bytes, %v; want all eight million", len(answer), err)
	}
}

func TestOneReadLeavesMemoryToOthers(t *testing.T) {
	w := startWith(t, Config{})
	w.topic("a", 1)
	w.produce("a", 0, "x")
	if status, answer := w.post("LogService/Fetch", `{"maxBytes":67108864,"partitions":[{"topic":"a"}]}`); status != http.StatusOK {
		t.Errorf("got %d %s", status, answer)
	}
	if got := answerCopies * w.fake.fetches[0].BytesMax; got > w.edge.memory.max/readShare || got < 8<<20 {
		t.Errorf("got a read that weighs %d bytes, want a part of the memory", got)
	}
}

func TestReadsAskForLessWhereMemoryIsShort(t *testing.T) {
	w := tight(t)
	w.produce("a", 0, "x")
	other := w.edge.memory.claim()
	defer other.release()
	other.reading()
	if err := other.take(t.Context(), 2500<<10); err != nil {
		t.Fatal(err)
	}
	const body = `{"maxBytes":1048576,"partitions":[{"topic":"a"}]}`
	if status, answer := w.post("LogService/Fetch", body); status != http.StatusOK || !strings.Contains(answer, `"text":"x"`) {
		t.Errorf("got %d %s, want the record", status, answer)
	}
	if got := w.fake.fetches[len(w.fake.fetches)-1].BytesMax; got < leastRead || got > 572<<10/answerCopies {
		t.Errorf("got a read of %d bytes, want a part of what was asked for", got)
	}
	if err := other.take(t.Context(), 1<<20); err != nil { // all that large reads may have
		t.Fatal(err)
	}
	if status, answer := w.post("LogService/Fetch", body); status != http.StatusTooManyRequests || !strings.Contains(answer, `"retryAfter":"1s"`) {
		t.Errorf("got %d %s, want busy", status, answer)
	}
}
