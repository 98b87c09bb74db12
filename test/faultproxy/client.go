package faultproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// lingerTime is how long a client that is still sending may take to read an answer that came early: closing at once would destroy it.
const lingerTime = 500 * time.Millisecond

// How the connection of a client ends.
var (
	errCut  = errors.New("cut")          // reset
	errLast = errors.New("last request") // closed in an orderly way
)

// client is one connection of a client.
type client struct {
	p    *Proxy
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	link link
}

func newClient(p *Proxy, conn net.Conn) *client {
	return &client{
		p: p, conn: conn, link: link{p: p},
		r: bufio.NewReaderSize(conn, bufferBytes), w: bufio.NewWriterSize(conn, bufferBytes),
	}
}

// serve handles one request after the other until the connection ends.
func (c *client) serve() {
	defer c.link.close()
	for {
		req, err := readRequest(c.r, c.conn)
		if err != nil {
			if err != io.EOF { // the end between two requests
				reset(c.conn)
			}
			return
		}
		c.p.record.number(req)
		err = c.exchange(req)
		if err == nil && !req.last {
			continue
		}
		if err == nil || err == errLast {
			c.linger()
		} else {
			reset(c.conn)
		}
		return
	}
}

// exchange does with a request what the rules say. An error ends the connection.
func (c *client) exchange(req *request) error {
	if c.p.rules.any() {
		if err := req.findKey(); err != nil {
			return err
		}
	}
	d, found := c.p.rules.decide(req.kind, req.key)
	if d.delay > 0 && !c.p.wait(d.delay) {
		return errCut
	}
	switch d.Do {
	case DropBefore:
		return c.cut(req, d, "")
	case DropReply:
		summary, _ := c.link.swallow(req, d.up)
		return c.cut(req, d, summary)
	case Hold:
		return c.hold(req, d)
	case Twice:
		return c.twice(req, d)
	case Status:
		return c.fail(req, d)
	case Blackhole:
		c.p.record.fault(req, d.String(), "")
		return c.ignore()
	case HTML:
		return c.instead(req, d, loginPage())
	case Unprocessed:
		text, err := req.unprocessed()
		if err != nil {
			return c.cut(req, d, err.Error())
		}
		return c.instead(req, d, reply{status: 200, contentType: tableContent, body: text})
	}
	return c.pass(req, d, found && d != (decision{draw: d.draw}), "")
}

// cut notes the fault and ends the connection.
func (c *client) cut(req *request, d decision, summary string) error {
	c.p.record.fault(req, d.String(), summary)
	return errCut
}

// ignore reads whatever comes until the client gives up.
func (c *client) ignore() error {
	io.Copy(io.Discard, c.r)
	return errCut
}

func (c *client) hold(req *request, d decision) error {
	if err := c.p.held.keep(req); err != nil {
		return c.cut(req, d, "not kept: "+err.Error())
	}
	c.p.record.fault(req, d.String(), "")
	if d.Hang {
		return c.ignore()
	}
	return errCut
}

func (c *client) twice(req *request, d decision) error {
	if err := c.p.held.load(req); err != nil {
		return c.cut(req, d, "not sent twice: "+err.Error())
	}
	defer c.p.held.unload(req)
	first, err := c.link.swallow(req, d.up)
	if err != nil {
		return c.cut(req, d, first)
	}
	return c.pass(req, d, true, first+", then ")
}

// fail answers with an error, after the request has landed or without.
func (c *client) fail(req *request, d decision) error {
	r, err := d.reply(req)
	if err != nil {
		return err
	}
	if !d.Forwarded {
		return c.instead(req, d, r)
	}
	summary, err := c.link.swallow(req, d.up)
	if err != nil {
		return c.cut(req, d, summary)
	}
	c.p.record.fault(req, d.String(), summary)
	return c.write(req, r)
}

// instead answers a request that the target does not get.
func (c *client) instead(req *request, d decision, r reply) error {
	if _, err := req.body.discard(io.Discard); err != nil {
		return err
	}
	c.p.record.fault(req, d.String(), "")
	return c.write(req, r)
}

func (c *client) write(req *request, r reply) error {
	r.writeTo(c.w, req)
	return c.w.Flush()
}

// pass forwards a request and gives the client the answer, changed where the decision says so. With note it is a fault, and before says what
// became of the request earlier.
func (c *client) pass(req *request, d decision, note bool, before string) error {
	a, err := c.link.forward(req, d.up)
	if err != nil {
		return c.cut(req, d, before+err.Error())
	}
	if note {
		c.p.record.fault(req, d.String(), fmt.Sprint(before, a.status))
	}
	if _, err := c.w.Write(a.head); err != nil {
		return err
	}
	n, err := a.body.send(c.w, c.conn, c.change(d, a))
	c.link.done(req, a, n, err)
	if err == nil && a.last {
		return errLast
	}
	return err
}

// change is what happens to an answer's body on the way; nil: nothing.
func (c *client) change(d decision, a *answer) func(io.Writer) io.Writer {
	damaged := (d.Do == Truncate || d.Do == FlipBit) && a.body.length != 0
	if !damaged && d.down == nil {
		return nil
	}
	return func(w io.Writer) io.Writer {
		if d.down != nil {
			w = &paced{w: w, flush: c.w.Flush, line: d.down, wait: c.p.wait}
		}
		switch {
		case damaged && d.Do == Truncate:
			return &truncated{w: w, left: a.body.length / 2}
		case damaged:
			return newFlipped(w, a.body.length, d.draw)
		}
		return w
	}
}

// linger closes the sending side and lets a client that is not done sending read what it was sent.
func (c *client) linger() {
	c.conn.(*net.TCPConn).CloseWrite()
	c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, c.r)
}

// truncated takes the first bytes and then ends the connection.
type truncated struct {
	w    io.Writer
	left int64 // below 0: not known how many there are, half of the first piece is let through
}

func (t *truncated) Write(b []byte) (int, error) {
	if t.left < 0 {
		t.left = int64(len(b) / 2)
	}
	if int64(len(b)) <= t.left {
		t.left -= int64(len(b))
		return t.w.Write(b)
	}
	n, err := t.w.Write(b[:t.left])
	if err == nil {
		err = errLast
	}
	return n, err
}

// flipped turns one bit over.
type flipped struct {
	w   io.Writer
	at  int64 // bytes to go until the one with the bit
	bit uint64
}

func newFlipped(w io.Writer, length int64, draw uint64) *flipped {
	f := &flipped{w: w, bit: draw % 8}
	if length > 0 {
		f.at = int64(draw / 8 % uint64(length))
	}
	return f
}

func (f *flipped) Write(b []byte) (int, error) {
	if f.at >= 0 && f.at < int64(len(b)) {
		b = slices.Clone(b)
		b[f.at] ^= 1 << f.bit
	}
	f.at -= int64(len(b)) // below 0: done
	return f.w.Write(b)
}
