package localstack_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// toyAgent serves what agents do: unary calls, long polls, streams both ways, readiness.
type toyAgent struct {
	name, address string
	server        *http.Server
	ready         atomic.Bool
	calls         atomic.Int64  // of /call and /hang
	refusals      atomic.Int64  // of /readyz
	held          chan struct{} // gets a value when a call of /poll or /hang has arrived
	release       chan struct{} // closed: what is held is answered

	mu          sync.Mutex
	connections []net.Conn // of clients, under mu
}

func startToyAgent(t *testing.T, name string) *toyAgent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &toyAgent{name: name, address: l.Addr().String(), held: make(chan struct{}, 100), release: make(chan struct{})}
	a.ready.Store(true)
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", a.readyz)
	mux.HandleFunc("/call", a.call)
	mux.HandleFunc("/poll", a.poll)
	mux.HandleFunc("/hang", a.hang)
	mux.HandleFunc("/echo", echo)
	a.server = &http.Server{Handler: mux, Protocols: protocols(true, true), ConnState: a.note}
	served := make(chan struct{})
	go func() {
		defer close(served)
		a.server.Serve(l)
	}()
	t.Cleanup(func() {
		a.server.Close()
		<-served
	})
	return a
}

func protocols(one, two bool) *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(one)
	p.SetUnencryptedHTTP2(two)
	return &p
}

func (a *toyAgent) note(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		a.mu.Lock()
		a.connections = append(a.connections, c)
		a.mu.Unlock()
	}
}

// kill is what its clients see of kill -9.
func (a *toyAgent) kill() {
	a.mu.Lock()
	cut := slices.Clone(a.connections)
	a.mu.Unlock()
	for _, c := range cut {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
	}
	a.server.Close()
}

func (a *toyAgent) readyz(w http.ResponseWriter, _ *http.Request) {
	if !a.ready.Load() {
		a.refusals.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// call answers who was called, with what, over what.
func (a *toyAgent) call(w http.ResponseWriter, r *http.Request) {
	a.calls.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %d %s", a.name, len(body), r.Proto)
}

func (a *toyAgent) poll(w http.ResponseWriter, r *http.Request) {
	a.held <- struct{}{}
	select {
	case <-a.release:
		fmt.Fprint(w, a.name)
	case <-r.Context().Done():
	}
}

// hang takes a call and never answers.
func (a *toyAgent) hang(_ http.ResponseWriter, r *http.Request) {
	a.calls.Add(1)
	io.Copy(io.Discard, r.Body)
	a.held <- struct{}{}
	<-r.Context().Done()
}

// echo sends everything back as it comes.
func echo(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	out.EnableFullDuplex() // HTTP/2 needs it not
	out.Flush()
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buffer)
		w.Write(buffer[:n])
		out.Flush()
		if err != nil {
			return
		}
	}
}

// httpClient speaks one version and has connections of its own.
func httpClient(t *testing.T, two bool) *http.Client {
	transport := &http.Transport{Protocols: protocols(!two, two), MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// onBothVersions runs a test with clients of HTTP/1.1 and of HTTP/2.
func onBothVersions(t *testing.T, test func(t *testing.T, two bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}
