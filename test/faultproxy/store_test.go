package faultproxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a target that remembers what it was asked. It stores bodies by path and refuses a second put with 412, as a bucket does for
// If-None-Match.
type store struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // method, request URI, host, body
	objects  map[string][]byte
}

func newStore(t *testing.T) *store {
	s := &store{objects: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away in the middle: nothing lands, and nothing is answered
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, r.Host, body))
	old, found := s.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPut && found:
		w.WriteHeader(http.StatusPreconditionFailed)
		io.WriteString(w, "<Error><Code>PreconditionFailed</Code></Error>")
	case r.Method == http.MethodPut:
		s.objects[r.URL.Path] = body
	case r.Header.Get("If-None-Match") != "":
		w.WriteHeader(http.StatusNotModified)
	case found:
		w.Write(old)
	default:
		fmt.Fprintf(w, "%s", body)
	}
}

// saw answers the requests since the last call, as "METHOD path".
func (s *store) saw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range s.requests {
		words := strings.Fields(r)
		lines = append(lines, words[0]+" "+words[1])
	}
	s.requests = nil
	return strings.Join(lines, ", ")
}

// front starts a proxy before a target, and a client of it that keeps its connections.
func front(t *testing.T, target string, list ...Rule) (*Proxy, *http.Client) {
	t.Helper()
	p, err := Start(Config{Target: target, Seed: 7, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetRules(list...); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return p, &http.Client{Transport: transport}
}

// do sends a request and answers "status body", or "error".
func do(t *testing.T, c *http.Client, method, url, body string, header ...string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Sprintf("%d %s error", resp.StatusCode, b)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

func same[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func putItem(key string) string {
	return fmt.Sprintf(`{"TableName":"t","Item":{"pk":{"S":%q},"sk":{"S":"0"},"v":{"B":"AAAA"}}}`, key)
}

// toTable marks a request as one in DynamoDB's protocol.
func toTable(operation string) []string {
	return []string{"X-Amz-Target", "DynamoDB_20120810." + operation}
}

func newControl(t *testing.T, p *Proxy) (url string) {
	server := httptest.NewServer(p.Control())
	t.Cleanup(server.Close)
	return server.URL
}

// await waits until the proxy has counted what is wanted: only its own count knows that a request has come in and is not answered.
func await(t *testing.T, p *Proxy, kind string, enough func(Count) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !enough(p.Counts()[kind]); {
		select {
		case <-deadline:
			t.Fatalf("counts of %s: %+v", kind, p.Counts()[kind])
		case <-tick.C:
		}
	}
}
