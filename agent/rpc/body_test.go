package rpc

import (
	"bytes"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestDamagedRequestsAreInvalidWithDetail(t *testing.T) {
	w := start(t)
	garbage := packed(t, []byte(`{"partitions":[{"topic":"a"}]}`))
	garbage[len(garbage)/2] ^= 0xff
	for name, send := range map[string]func() (*http.Response, error){
		"base64": func() (*http.Response, error) {
			return http.Get(w.url + "/splashdam.v1.LogService/Fetch?connect=v1&encoding=proto&base64=1&message=%21%21%21")
		},
		"gzip in a GET": func() (*http.Response, error) {
			return http.Get(w.url + "/splashdam.v1.LogService/Fetch?connect=v1&encoding=json&base64=1&compression=gzip&message=" + base64.RawURLEncoding.EncodeToString(garbage))
		},
		"gzip": func() (*http.Response, error) { return w.send("application/json", "gzip", garbage) },
		"no gzip": func() (*http.Response, error) {
			return w.send("application/json", "gzip", []byte(`{"partitions":[{"topic":"a"}]}`))
		},
		"half a gzip": func() (*http.Response, error) { return w.send("application/json", "gzip", garbage[:len(garbage)/2]) },
	} {
		response, err := send()
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := w.read(response); status != http.StatusBadRequest || !strings.Contains(answer, `"reason":"INVALID_REQUEST"`) {
			t.Errorf("%s: got %d %s, want invalid_argument with detail", name, status, answer)
		}
	}
}

// send posts to Fetch.
func (w *world) send(kind, encoding string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/splashdam.v1.LogService/Fetch", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Content-Encoding", encoding)
	return http.DefaultClient.Do(request)
}

func TestDamagedEnvelopesAndChunksAreInvalidWithDetail(t *testing.T) {
	w := start(t)
	for name, message := range map[string]string{
		"gzip":      "\x01\x00\x00\x00\x03abc",
		"truncated": "\x00\x00\x00\x00\x09abc",
		"prefix":    "\x00\x00\x00",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/splashdam.v1.LogService/Fetch", strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/grpc")
		request.Header.Set("Grpc-Encoding", "gzip")
		response, err := w.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		w.read(response)
		header := response.Header
		if header.Get("Grpc-Status") == "" {
			header = response.Trailer
		}
		if header.Get("Grpc-Status") != "3" || header.Get("Grpc-Status-Details-Bin") == "" {
			t.Errorf("%s: got %v %v, want invalid_argument with detail", name, response.Header, response.Trailer)
		}
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /splashdam.v1.LogService/Fetch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "400 Bad Request") || !strings.Contains(string(answer), `"reason":"INVALID_REQUEST"`) {
		t.Errorf("got %q, want invalid_argument with detail", answer)
	}
}

func TestCompressedReadsWorkByGet(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "x")
	query := url.Values{"connect": {"v1"}, "encoding": {"json"}, "base64": {"1"}, "compression": {"gzip"},
		"message": {base64.RawURLEncoding.EncodeToString(packed(t, []byte(`{"partitions":[{"topic":"a"}]}`)))}}
	if status, answer := w.get("/splashdam.v1.LogService/Fetch?" + query.Encode()); status != http.StatusOK || !strings.Contains(answer, `"text":"x"`) {
		t.Errorf("got %d %s, want the record", status, answer)
	}
	query.Set("message", base64.RawURLEncoding.EncodeToString(packed(t, bytes.Repeat([]byte(" "), 2*getBytesMax))))
	if status, answer := w.get("/splashdam.v1.LogService/Fetch?" + query.Encode()); status != http.StatusBadRequest || !strings.Contains(answer, `"reason":"MESSAGE_TOO_LARGE"`) {
		t.Errorf("got %d %s, want the bomb refused", status, answer)
	}
}

func TestAnUnaryCallThatDoesNotEndItsBodyIsCutOff(t *testing.T) {
	w := start(t, func(e *edge) { e.slow = 50 * time.Millisecond })
	reader, writer := io.Pipe()
	defer writer.Close()
	go func() { _, _ = writer.Write([]byte{0, 0, 0, 0, 0}) }() // one empty message, and no end behind it
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/splashdam.v1.LogService/Fetch", reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	response, err := w.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	w.read(response)
	if got := response.Header.Get("Grpc-Status") + response.Trailer.Get("Grpc-Status"); got != "14" {
		t.Errorf("got %v %v, want unavailable", response.Header, response.Trailer)
	}
}

func TestAStreamMayPauseBetweenItsMessages(t *testing.T) {
	w := start(t, func(e *edge) { e.slow = 20 * time.Millisecond })
	w.topic("a", 1)
	stream, err := w.logClient(connect.WithGRPC()).ProduceStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, strings.Repeat("x", 200_000))}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
		if err := pause(t.Context(), 60*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

func TestTheRestOfARefusedBodyIsNotTheNextRequest(t *testing.T) {
	w := startWith(t, Config{RequestBytesMax: 1 << 16})
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const head = "POST /splashdam.v1.LogService/Produce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n"
	const inner = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	if _, err := io.WriteString(conn, head+inner+inner); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(conn)
	if text := string(answer); !strings.Contains(text, "400 Bad Request") || strings.Contains(text, "200 OK") {
		t.Errorf("got %q, want one refusal and the end", text)
	}
}
