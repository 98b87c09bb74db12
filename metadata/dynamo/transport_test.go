package dynamo

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/splashdam/splashdam/metadata"
)

// earlyHead sends the head of its answer before it reads the request's body, and the rest after it. The SDK by itself then closes the
// body under net/http, which takes that for a failed write and drops a connection whose answer is on its way.
func earlyHead(t *testing.T, received *atomic.Int64) *httptest.Server {
	handler := func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusOK)
		if err := control.Flush(); err != nil {
			t.Error(err)
		}
		n, _ := io.Copy(io.Discard, r.Body)
		received.Store(n)
		io.WriteString(w, applied.body)
	}
	return httptest.NewServer(http.HandlerFunc(handler))
}

func TestAnswerThatBeginsBeforeTheRequestEndsIsTaken(t *testing.T) {
	f := startFake(t)
	var received atomic.Int64
	s := earlyHead(t, &received)
	defer s.Close()
	table := f.open(t, Config{Endpoint: s.URL})
	for rev := range metadata.Rev(50) {
		item := metadata.Item{Key: slotKey, Rev: rev, Value: make([]byte, valueBytesMax)}
		if r := table.Put(t.Context(), item, metadata.If{}); r.Outcome != metadata.Applied {
			t.Fatalf("put %d: %+v, %d bytes were received", rev, r, received.Load())
		}
		if received.Load() < valueBytesMax*4/3 {
			t.Fatalf("%d bytes were received", received.Load())
		}
	}
}

// seen is a transport that looks at requests.
type seen func(r *http.Request) (*http.Response, error)

func (s seen) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func TestRequestCannotBeSentAgainByTheTransport(t *testing.T) {
	f := startFake(t)
	requests := 0
	table := f.open(t, Config{Transport: seen(func(r *http.Request) (*http.Response, error) {
		requests++
		if r.GetBody != nil {
			t.Error("the request has GetBody")
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength || len(body) == 0 {
			t.Errorf("body of %d bytes, length %d, %v", len(body), r.ContentLength, err)
		}
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("accepts %q, want no compression", got)
		}
		own := r.Clone(r.Context())
		own.Body = io.NopCloser(bytes.NewReader(body))
		return http.DefaultTransport.RoundTrip(own)
	})})
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	if r := table.Put(t.Context(), slotItem(1, "x"), metadata.If{}); r.Outcome != metadata.Applied || requests != 1 {
		t.Errorf("%+v, %d requests", r, requests)
	}
}

// A connection that the server closed while it was idle: net/http would send the request again on another one, had it a way to.
func TestConnectionsClosedByTheServerNeverRepeatAPut(t *testing.T) {
	f := startFake(t)
	table := f.open(t, Config{})
	for rev := range metadata.Rev(50) {
		cond := metadata.RevIs(rev - 1)
		if rev == 0 {
			cond = metadata.If{}
		}
		for sent := 0; ; sent++ {
			r := table.Put(t.Context(), slotItem(rev, "x"), cond)
			if r.Outcome == metadata.Applied {
				break
			}
			if r.Outcome != metadata.Unknown || sent > 3 {
				t.Fatalf("put %d: %+v", rev, r)
			}
		}
		f.CloseClientConnections()
	}
}
