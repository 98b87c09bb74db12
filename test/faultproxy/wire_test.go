package faultproxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// talk sends raw bytes to the proxy and answers a reader of what comes back.
func talk(t *testing.T, p *Proxy, raw string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.Endpoint, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// echo is a target that answers each request with the bytes it received.
func echo(t *testing.T) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				var seen bytes.Buffer
				req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(r, &seen)))
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nx-odd-Case: 1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", seen.Len(), seen.Bytes())
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestRequestsArriveByteForByte(t *testing.T) {
	p, _ := front(t, echo(t))
	for _, raw := range []string{
		"GET //b/a%2Fb/%7e/{x}?prefix=a%20b+c&list-type=2& HTTP/1.1\r\nhost: b.s3.example.com:81\r\nX-amz-date: 1\r\nX-Amz-Meta-a: 1\r\nx-amz-meta-a: 2\r\n\r\n",
		"PUT /b/k? HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
		"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-amz-checksum-crc32c: abc\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: DynamoDB_20120810.GetItem\r\nContent-Length: 2\r\n\r\n{}",
	} {
		_, r := talk(t, p, raw)
		got, err := io.ReadAll(r)
		head, body, _ := strings.Cut(string(got), "\r\n\r\n")
		if err != nil || body != raw {
			t.Errorf("sent %q\narrived %q, %v", raw, body, err)
		}
		if !strings.Contains(head, "\r\nx-odd-Case: 1\r\n") {
			t.Errorf("answer's head: %q", head)
		}
	}
}

func TestAnswersKeepTheirFraming(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			w.Header().Set("Trailer", "X-End")
			io.WriteString(w, "one")
			w.(http.Flusher).Flush()
			io.WriteString(w, "two")
			w.Header().Set("X-End", "yes")
		case "/head":
			w.Header().Set("Content-Length", "1234")
		case "/304":
			w.WriteHeader(304)
		case "/412":
			w.WriteHeader(412)
		case "/204":
			w.WriteHeader(204)
		}
	}))
	t.Cleanup(target.Close)
	p, c := front(t, target.URL)
	for _, test := range []struct {
		method, path, body, trailer string
		status                      int
		length                      int64
	}{
		{"GET", "/chunked", "onetwo", "yes", 200, -1},
		{"HEAD", "/head", "", "", 200, 1234},
		{"GET", "/304", "", "", 304, 0},
		{"PUT", "/412", "", "", 412, 0},
		{"DELETE", "/204", "", "", 204, 0},
	} {
		for range 2 { // the second time on the same connection: nothing of the first is left in it
			req, _ := http.NewRequest(test.method, p.Endpoint+test.path, nil)
			resp, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", test.path, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != test.body || resp.StatusCode != test.status || resp.ContentLength != test.length ||
				resp.Trailer.Get("X-End") != test.trailer {
				t.Errorf("%s: %d %q length %d trailer %v, %v", test.path, resp.StatusCode, body, resp.ContentLength, resp.Trailer, err)
			}
		}
	}
	if n := len(p.Faults()); n != 0 {
		t.Errorf("%d faults without rules", n)
	}
}

// TestTheProxyNeverSendsARequestAgain: net/http's Transport would, for a GET whose reused connection dies without an answer.
func TestTheProxyNeverSendsARequestAgain(t *testing.T) {
	landed := make(chan string, 10)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		landed <- r.URL.Path
		if r.URL.Path == "/b/dies" {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(target.Close)
	p, _ := front(t, target.URL)
	conn, r := talk(t, p, "GET /b/lives HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	io.WriteString(conn, "GET /b/dies HTTP/1.1\r\nHost: h\r\nIdempotency-Key: 1\r\n\r\n")
	if _, err := http.ReadResponse(r, nil); err == nil {
		t.Error("a request whose answer was lost was answered")
	}
	same(t, "landed first", <-landed, "/b/lives")
	same(t, "landed then", <-landed, "/b/dies")
	same(t, "landed more", len(landed), 0)
	same(t, "forwarded", p.Counts()["get"].Forwarded, 2)
}

func TestAConnectionThatTheTargetClosedWhileIdleIsNoFault(t *testing.T) {
	s := newStore(t)
	p, _ := front(t, s.URL)
	l := link{p: p}
	defer l.close()
	send := func() {
		t.Helper()
		req := &request{kind: "get", method: "GET", head: []byte("GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n"), body: body{loaded: true}}
		summary, err := l.swallow(req, nil)
		if err != nil || summary != "200" {
			t.Fatal(summary, err)
		}
	}
	send()
	s.CloseClientConnections()
	l.ready <- <-l.ready // the link knows
	send()
	same(t, "landed", s.saw(), "GET /b/k, GET /b/k")
}

func TestExpectContinueIsAnswered(t *testing.T) {
	s := newStore(t)
	for _, list := range [][]Rule{nil, {{Action: Action{Do: Twice}}}} {
		p, _ := front(t, s.URL, list...)
		conn, r := talk(t, p, "PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		line, err := r.ReadString('\n')
		if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		r.ReadString('\n')
		io.WriteString(conn, "hello")
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 && resp.StatusCode != 412 {
			t.Fatal(resp, err)
		}
		same(t, "stored", string(s.objects["/b/k"]), "hello")
	}
}

func TestARefusalThatComesBeforeTheBodyReachesTheClient(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(412) }))
	t.Cleanup(target.Close)
	p, c := front(t, target.URL)
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/k", strings.Repeat("x", 32<<20)), "412 ")
}

func TestABodyThatItsClientDoesNotFinishDoesNotLand(t *testing.T) {
	s := newStore(t)
	for _, head := range []string{"Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"} {
		for _, action := range []Action{{}, {BytesPerSecond: 1 << 20}, {Do: Twice}, {Do: DropReply}, {Do: Hold}} {
			p, _ := front(t, s.URL, Rule{Action: action})
			conn, r := talk(t, p, "PUT /b/k HTTP/1.1\r\nHost: h\r\n"+head)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, r)
			same(t, "released", len(p.ReleaseAll()), 0)
			same(t, "landed", s.saw(), "")
		}
	}
}

func TestLargeBodiesAreNotKeptInMemory(t *testing.T) {
	const size = 64 << 20
	sums := make(chan []byte, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		io.Copy(sum, r.Body)
		sums <- sum.Sum(nil)
	}))
	t.Cleanup(target.Close)
	for _, rule := range []Rule{{}, {Action: Action{Do: DropReply}}, {Action: Action{Do: Status, Status: 500, Forwarded: true}}} {
		p, c := front(t, target.URL, rule)
		want := sha256.New()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := c.Post(p.Endpoint+"/b/k", "", io.TeeReader(io.LimitReader(zeros{}, size), want)) // chunked: no length is known
		if err == nil {
			resp.Body.Close()
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%+v: %d bytes allocated", rule, used)
		}
		if !bytes.Equal(<-sums, want.Sum(nil)) {
			t.Errorf("%+v: another body arrived", rule)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestGarbageEndsTheConnection(t *testing.T) {
	s := newStore(t)
	p, _ := front(t, s.URL)
	for _, raw := range []string{"\x16\x03\x01 TLS\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "GET " + strings.Repeat("x", bufferBytes) + "\r\n\r\n"} {
		_, r := talk(t, p, raw)
		if b, _ := io.ReadAll(r); len(b) > 0 {
			t.Errorf("%.20q was answered %q", raw, b)
		}
	}
	same(t, "landed", s.saw(), "")
}
