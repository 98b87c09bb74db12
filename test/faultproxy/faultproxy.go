// Package faultproxy stands in front of an S3-compatible bucket or a DynamoDB-compatible table and does to its requests what networks and
// stores do on bad days: the answer is lost, the request lands late or twice, the store asks to slow down.
//
// It speaks plain HTTP/1.1 and passes heads on byte for byte, so that signatures, which cover host, path and query, still verify at the
// target. Every connection of a client has one connection to the target. No request is ever sent again by the proxy's own decision: what the
// target saw is what the client sent and the rules made of it. (Clients have habits of their own: net/http sends a GET again when a reused
// connection dies.)
package faultproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second // a target on loopback that takes no connection in this time takes none
	acceptPause = 10 * time.Millisecond
)

// Config says what the proxy stands in front of.
type Config struct {
	Target string    // http://host:port
	Listen string    // host:port; empty: a free port on loopback
	Seed   uint64    // of everything that rules leave to chance; the same seed and order of requests give the same faults
	Log    io.Writer // one line per fault, written before the client can see the fault; nil: none
}

// Proxy is a running proxy. Its methods may run together.
type Proxy struct {
	Endpoint string // http://host:port, to be used in place of the target's

	target   string // host:port
	listener net.Listener
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	running  sync.WaitGroup // every goroutine of the proxy

	rules  rules
	record record
	held   held

	mu     sync.Mutex
	closed bool              // guarded by mu; no connection is added any more
	cut    bool              // guarded by mu; no client is let in
	conns  map[net.Conn]side // guarded by mu; every open connection
}

// side says whose connection it is.
type side string

const (
	clientSide side = "client"
	targetSide side = "target"
)

// Start starts a proxy without rules: everything passes.
func Start(cfg Config) (*Proxy, error) {
	target, err := url.Parse(cfg.Target)
	if err != nil || target.Scheme != "http" || target.Port() == "" || target.Path != "" {
		return nil, fmt.Errorf("start fault proxy for %q: want http://host:port", cfg.Target)
	}
	listener, err := net.Listen("tcp", cmp.Or(cfg.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("start fault proxy for %s: %w", cfg.Target, err)
	}
	p := &Proxy{
		Endpoint: "http://" + listener.Addr().String(),
		target:   target.Host,
		listener: listener,
		rules:    rules{seed: cfg.Seed},
		record:   record{start: time.Now(), log: cfg.Log, counts: make(map[string]Count)},
		conns:    make(map[net.Conn]side),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// SetRules replaces the rules; their counting starts anew. No rules: everything passes. Wrong rules change nothing.
func (p *Proxy) SetRules(list ...Rule) error { return p.rules.set(list) }

// Cut is a partition: it resets the connections of all clients and refuses new ones until Mend. What the target has received completely it
// carries out; what is held stays held.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for conn, s := range p.conns {
		if s == clientSide {
			reset(conn)
		}
	}
}

// Mend ends Cut.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Close cuts every connection, forgets what is held and returns when nothing of the proxy runs any more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	err := p.listener.Close()
	for conn := range p.conns {
		reset(conn)
	}
	p.cancel() // after the connections: what this interrupts is not mistaken for an answer
	p.mu.Unlock()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors: some will be free again
			p.record.fault(nil, "accept", err.Error())
			p.wait(acceptPause)
			continue
		}
		if !p.admit(conn, clientSide) {
			continue
		}
		p.running.Go(func() {
			defer p.forget(conn)
			newClient(p, conn).serve()
		})
	}
}

// admit adds a connection to those that Close and Cut know, or resets it.
func (p *Proxy) admit(conn net.Conn, s side) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.cut && s == clientSide {
		reset(conn)
		return false
	}
	p.conns[conn] = s
	return true
}

// forget closes a connection in an orderly way, unless it was reset before.
func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	conn.Close()
}

// wait waits, at most until the proxy is closed; false: it was.
func (p *Proxy) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// reset closes a connection so that the other end notices at once and nothing on the way still arrives.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
