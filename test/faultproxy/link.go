package faultproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
)

// link is the connection to the target that belongs to one client's connection. One request is on it at a time.
type link struct {
	p    *Proxy
	conn net.Conn // nil: none yet, or closed
	r    *bufio.Reader
	w    *bufio.Writer
	// ready gets one value as soon as the target says something or closes the connection. While a request is out that is its answer;
	// before, it means that the connection is of no use any more. Reading r is allowed only after that.
	ready chan error
}

// forward sends the request, once, and reads the head of the answer. Who calls it reads the body and then calls done.
func (l *link) forward(req *request, line *pace) (*answer, error) {
	if err := l.connect(); err != nil {
		return nil, fmt.Errorf("connect to target: %w", err)
	}
	n, sendErr := l.send(req, line)
	l.p.record.forwarded(req.kind, 1, n, 0)
	if sendErr != nil {
		// The client went away, or the target answered without taking the body. Either way it gets no more of it.
		l.conn.(*net.TCPConn).CloseWrite()
	}
	a, err := l.await(req)
	if err != nil {
		l.close()
		if sendErr != nil {
			return nil, fmt.Errorf("send to target: %w", sendErr)
		}
		return nil, fmt.Errorf("read target's answer: %w", err)
	}
	if sendErr != nil {
		a.last, req.last = true, true
	}
	// Counted before the client can have it, so that whoever has the answer finds it counted.
	l.p.record.forwarded(req.kind, 0, 0, max(0, a.body.length))
	return a, nil
}

func (l *link) connect() error {
	if l.conn != nil {
		select {
		case <-l.ready:
			l.close()
		default:
			return nil
		}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(l.p.ctx, "tcp", l.p.target)
	if err != nil {
		return err
	}
	if !l.p.admit(conn, targetSide) {
		return net.ErrClosed
	}
	l.conn, l.r, l.w = conn, bufio.NewReaderSize(conn, bufferBytes), bufio.NewWriterSize(conn, bufferBytes)
	l.watch()
	return nil
}

// watch makes ready for the next thing that the target says.
func (l *link) watch() {
	r, ready := l.r, make(chan error, 1)
	l.ready = ready
	l.p.running.Go(func() {
		_, err := r.Peek(1)
		ready <- err
	})
}

func (l *link) send(req *request, line *pace) (int64, error) {
	if _, err := l.w.Write(req.head); err != nil {
		return 0, err
	}
	if line == nil {
		return req.body.send(l.w, l.conn, nil)
	}
	return req.body.send(l.w, l.conn, func(w io.Writer) io.Writer {
		return &paced{w: w, flush: l.w.Flush, line: line, wait: l.p.wait}
	})
}

func (l *link) await(req *request) (*answer, error) {
	if err := <-l.ready; err != nil {
		return nil, err
	}
	return readAnswer(l.r, l.conn, req.method)
}

// done says that the answer has been read, n bytes of it.
func (l *link) done(req *request, a *answer, n int64, err error) {
	if a.body.length < 0 {
		l.p.record.forwarded(req.kind, 0, 0, n)
	}
	if err != nil || a.last {
		l.close()
		return
	}
	l.watch()
}

// swallow forwards a request and reads the whole answer, of which it tells what the fault's record needs.
func (l *link) swallow(req *request, line *pace) (summary string, err error) {
	a, err := l.forward(req, line)
	if err != nil {
		return err.Error(), err
	}
	start := prefix{max: 1 << 10}
	n, err := a.body.discard(&start)
	l.done(req, a, n, err)
	return summarize(a.status, start.data), err
}

func (l *link) close() {
	if l.conn != nil {
		l.p.forget(l.conn)
		l.conn = nil
	}
}

// prefix keeps the first bytes of what is written to it.
type prefix struct {
	max  int
	data []byte
}

func (p *prefix) Write(b []byte) (int, error) {
	p.data = append(p.data, b[:min(len(b), p.max-len(p.data))]...)
	return len(b), nil
}

var errorName = regexp.MustCompile(`<Code>(\w+)</Code>|"__type"\s*:\s*"(?:[^"]*#)?(\w+)"`)

// summarize names an answer: its status and what the store calls the error.
func summarize(status int, body []byte) string {
	m := errorName.FindSubmatch(body)
	if status < 400 || m == nil {
		return fmt.Sprint(status)
	}
	return fmt.Sprintf("%d %s", status, bytes.Join(m[1:], nil))
}
