package faultproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
)

const (
	headBytesMax = 256 << 10
	bufferBytes  = 64 << 10 // of each direction of a connection
)

// Lengths of a body that its head does not tell.
const (
	lengthChunked  = -1
	lengthToTheEnd = -2 // of the connection
)

var errTooLong = errors.New("body is longer than the memory that is left for bodies")

// readHead reads the first line and the fields of a message, through the empty line.
func readHead(r *bufio.Reader) ([]byte, error) {
	var head []byte
	for {
		line, err := r.ReadSlice('\n')
		head = append(head, line...)
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if len(head) > headBytesMax {
			return nil, fmt.Errorf("read head: longer than %d bytes", headBytesMax)
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return head, nil
		}
	}
}

// body is what follows a head: still in the connection, or in memory after load.
type body struct {
	r       *bufio.Reader
	conn    net.Conn // under r
	length  int64    // or lengthChunked, lengthToTheEnd
	awaited bool     // the client wants to hear "100 Continue" before it sends; the target's own word on that is not waited for

	loaded  bool
	data    []byte
	trailer []byte // of a chunked body: what follows the last chunk, through the empty line
}

// load reads the body into memory, at most max bytes.
func (b *body) load(max int64) error {
	if b.loaded {
		return nil
	}
	if b.length > max {
		return errTooLong
	}
	if err := b.begin(); err != nil {
		return err
	}
	src := b.stream()
	if b.length == lengthChunked {
		src = io.LimitReader(src, max+1)
	}
	var data bytes.Buffer
	if b.length > 0 {
		data.Grow(int(b.length) + bytes.MinRead) // what ReadFrom wants free at the end
	}
	n, err := data.ReadFrom(src)
	switch {
	case err != nil:
		return err
	case n < b.length:
		return io.ErrUnexpectedEOF
	case n > max:
		return errTooLong
	}
	if b.length == lengthChunked {
		if b.trailer, err = readHead(b.r); err != nil {
			return err
		}
	}
	b.data, b.loaded = data.Bytes(), true
	return nil
}

// send writes the body in the framing that its head announced and flushes. change, unless nil, is put in front of what takes the data, under
// the framing. n is the number of bytes of data.
func (b *body) send(w *bufio.Writer, dst net.Conn, change func(io.Writer) io.Writer) (n int64, err error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	if change == nil && !b.loaded && b.length > int64(b.r.Buffered()) {
		return b.splice(w, dst)
	}
	var data io.Writer = w
	var chunks io.WriteCloser
	if b.length == lengthChunked {
		chunks = httputil.NewChunkedWriter(w)
		data = chunks
	}
	if change != nil {
		data = change(data)
	}
	n, err = io.Copy(struct{ io.Writer }{data}, b.stream())
	if err == nil && n < b.length {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && chunks != nil {
		err = b.endChunks(w, chunks)
	}
	return n, errors.Join(err, w.Flush())
}

// splice hands a body of known length to the kernel: on Linux it does not pass through this process.
func (b *body) splice(w *bufio.Writer, dst net.Conn) (int64, error) {
	n, err := io.CopyN(w, b.r, int64(b.r.Buffered()))
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return n, err
	}
	rest, err := io.CopyN(dst, b.conn, b.length-n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n + rest, err
}

func (b *body) endChunks(w *bufio.Writer, chunks io.Closer) error {
	if err := chunks.Close(); err != nil {
		return err
	}
	trailer := b.trailer
	if !b.loaded {
		var err error
		if trailer, err = readHead(b.r); err != nil {
			return err
		}
	}
	_, err := w.Write(trailer)
	return err
}

// discard reads the body away, its data into w.
func (b *body) discard(w io.Writer) (int64, error) {
	if b.loaded {
		return int64(len(b.data)), nil
	}
	return b.send(bufio.NewWriter(io.Discard), nil, func(io.Writer) io.Writer { return w })
}

// begin tells a client that waits for it to send the body.
func (b *body) begin() error {
	if !b.awaited {
		return nil
	}
	b.awaited = false
	_, err := io.WriteString(b.conn, "HTTP/1.1 100 Continue\r\n\r\n")
	return err
}

// stream reads the data of the body, without its framing.
func (b *body) stream() io.Reader {
	switch {
	case b.loaded:
		return bytes.NewReader(b.data)
	case b.length == lengthChunked:
		return httputil.NewChunkedReader(b.r)
	case b.length == lengthToTheEnd:
		return struct{ io.Reader }{b.r}
	}
	return io.LimitReader(b.r, b.length)
}

// answer is the target's answer to one request, its body still in the connection.
type answer struct {
	status int
	head   []byte // through the empty line, as received
	last   bool   // the target closes the connection behind it
	body   body
}

// readAnswer reads the head of the answer to a request, past any "100 Continue".
func readAnswer(r *bufio.Reader, conn net.Conn, method string) (*answer, error) {
	for {
		head, err := readHead(r)
		if err != nil {
			return nil, err
		}
		parsed, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: method})
		if err != nil {
			return nil, fmt.Errorf("read head of answer: %w", err)
		}
		if parsed.StatusCode < 200 {
			continue
		}
		a := &answer{status: parsed.StatusCode, head: head, last: parsed.Close, body: body{r: r, conn: conn, length: parsed.ContentLength}}
		switch {
		case method == http.MethodHead, a.status == http.StatusNoContent, a.status == http.StatusNotModified:
			a.body.length = 0
		case parsed.ContentLength < 0 && len(parsed.TransferEncoding) == 0:
			a.body.length, a.last = lengthToTheEnd, true
		}
		return a, nil
	}
}
