package rpc

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// What a request is made of is read, unpacked, weighed and counted here, before the RPC library copies and decodes it: the
// library knows no bound but that of one message, and its own refusals carry no detail.

const (
	// copies is how often a message is in memory until it is decoded: here, in the library's buffer, and decoded.
	copies = 3
	// copiesKept is how often once it is decoded: as a message, and as records.
	copiesKept = 2
	// elementBytes is what a message, list item or JSON value takes beside its bytes.
	elementBytes = 128

	firstBytes = 4 << 10 // of a buffer whose message has an unknown length
	soonBytes  = 1 << 20 // of a message of known length that are taken before they come
	// streamSoonBytes is soonBytes of a stream, which waits for memory while it holds none. With a part of its message in hand it could
	// only give up, and its producer begin again: so this is more than those of our own clients.
	streamSoonBytes = 8 << 20
	// streamAhead is taken with it for the message's elements.
	streamAhead = 128 * elementBytes
	idleBytes   = 64 << 10 // a buffer this large wants the network's progress

	// A body of which less than slowBytes come in slowTime is given up: what it holds others wait for.
	slowBytes = 64 << 10
	slowTime  = 10 * time.Second
)

// body reads a request's body and hands it on message by message, each when it is whole.
type body struct {
	edge    *edge
	ctx     context.Context // of the request, whose body this is
	network io.ReadCloser
	control *control
	claim   *claim

	input     protoreflect.MessageDescriptor // what each message is; nil: nothing that is known
	json      bool
	enveloped bool  // each message has flags and length before it: all but unary Connect
	packed    bool  // with gzip: messages that say so, or the whole body
	single    bool  // one message; more of them is for the library to refuse
	most      int   // bytes of one message, unpacked
	length    int64 // of a body that is one message; -1: unknown

	unpacker *gzip.Reader
	ready    []byte // of a message, not handed on yet
	err      error  // behind ready

	rawLeft int64 // bytes of the network that the message may still take
	netErr  error
	window  int // bytes of the network since opened
	opened  time.Time
	armed   bool // the network must make progress
}

// newBody wraps r's body. It takes the compression away from r, because nothing behind it is compressed.
func (e *edge) newBody(r *http.Request, control *control, c *claim) *body {
	kind := r.Header.Get("Content-Type")
	b := &body{edge: e, ctx: r.Context(), network: r.Body, control: control, claim: c,
		input: inputOf(r.URL.Path), json: strings.Contains(kind, "json"), most: e.cfg.RequestBytesMax, length: r.ContentLength,
		enveloped: strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, "application/connect+"),
		single:    r.URL.Path != splashdamv1connect.LogServiceProduceStreamProcedure}
	encoding := "Content-Encoding"
	switch {
	case strings.HasPrefix(kind, "application/grpc"):
		encoding = "Grpc-Encoding"
	case b.enveloped:
		encoding = "Connect-Content-Encoding"
	}
	if r.Header.Get(encoding) == "gzip" {
		b.packed = true
		r.Header.Del(encoding)
	}
	if b.single {
		b.arm()
	}
	return b
}

// inputOf is the description of what the procedure takes.
func inputOf(path string) protoreflect.MessageDescriptor {
	service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if s, ok := d.(protoreflect.ServiceDescriptor); ok && err == nil {
		if m := s.Methods().ByName(protoreflect.Name(method)); m != nil {
			return m.Input()
		}
	}
	return nil
}

func (b *body) Close() error { return b.network.Close() }

func (b *body) Read(p []byte) (int, error) {
	for len(b.ready) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if b.enveloped {
			b.ready, b.err = b.envelope()
		} else {
			b.ready, b.err = b.whole()
		}
	}
	n := copy(p, b.ready)
	if b.ready = b.ready[n:]; len(b.ready) == 0 {
		b.ready = nil
	}
	return n, nil
}

// whole reads a body that is one message.
func (b *body) whole() ([]byte, error) {
	if b.length > int64(b.most) {
		return nil, b.tooLarge()
	}
	b.rawLeft = int64(b.most)
	message, err := b.message(networkReader{b}, b.packed, b.length, 0)
	if err != nil {
		return nil, err
	}
	b.disarm()
	return message, io.EOF
}

const (
	envelopeBytes  = 5
	envelopePacked = 1 // flag
)

// envelope reads one message with what is before it, and answers it unpacked.
func (b *body) envelope() ([]byte, error) {
	b.rawLeft = envelopeBytes
	var prefix [envelopeBytes]byte
	switch _, err := io.ReadFull(networkReader{b}, prefix[:]); {
	case errors.Is(err, io.EOF):
		b.disarm()
		return nil, io.EOF
	case err != nil:
		return nil, b.unread(err)
	}
	length := int64(binary.BigEndian.Uint32(prefix[1:]))
	if length > int64(b.most) {
		return nil, b.tooLarge()
	}
	b.rawLeft = length
	packed := b.packed && prefix[0]&envelopePacked != 0 && length > 0
	message, err := b.message(io.LimitReader(networkReader{b}, length), packed, length, envelopeBytes)
	if err != nil {
		return nil, err
	}
	if b.rawLeft > 0 {
		return nil, b.unread(io.ErrUnexpectedEOF)
	}
	if packed {
		prefix[0] &^= envelopePacked
	}
	binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)-envelopeBytes))
	copy(message, prefix[:])
	if !b.single {
		b.disarm()
	}
	return message, nil
}

// message reads one message, unpacks it if it is packed, and weighs it. before is the room to leave in front of it.
func (b *body) message(from io.Reader, packed bool, length int64, before int) ([]byte, error) {
	if packed {
		length = -1 // of what it unpacks to
		var err error
		if b.unpacker == nil {
			b.unpacker, err = gzip.NewReader(from)
		} else {
			err = b.unpacker.Reset(from)
		}
		if err != nil {
			return nil, b.unread(err)
		}
		from = b.unpacker
	}
	message, err := b.fill(from, length, before)
	if err != nil {
		return nil, err
	}
	count, err := b.count(message[before:])
	if err != nil {
		return nil, b.invalid(err)
	}
	weight := int64(count) * elementBytes
	if err := b.claim.take(b.ctx, weight-b.ahead()); err != nil {
		return nil, b.edge.fail(err)
	}
	b.claim.decoded += weight + copiesKept*int64(len(message))
	return message, nil
}

// ahead is what fill takes for the elements.
func (b *body) ahead() int64 {
	if b.single {
		return 0
	}
	return streamAhead
}

// fill reads until the end. What the buffer takes is taken from the memory before the buffer grows.
func (b *body) fill(from io.Reader, length int64, before int) ([]byte, error) {
	most := b.most + before + 1 // a byte more tells what is too large; without it the end would not be seen
	size := firstBytes
	if length >= 0 {
		soon := int64(soonBytes)
		if !b.single {
			soon = streamSoonBytes
		}
		size = int(min(length, soon)) + before + 1
	}
	var buffer []byte
	filled, ahead := before, b.ahead()
	for {
		if filled == len(buffer) || buffer == nil {
			if buffer != nil {
				size = 2 * size
				if length >= 0 {
					size = min(size, int(length)+before+1)
				}
			}
			size = min(size, most)
			if err := b.claim.take(b.ctx, copies*int64(size-len(buffer))+ahead); err != nil {
				return nil, b.edge.fail(err)
			}
			ahead = 0
			if size > idleBytes {
				b.arm()
			}
			grown := make([]byte, size)
			copy(grown, buffer)
			buffer = grown
		}
		n, err := from.Read(buffer[filled:])
		filled += n
		switch {
		case filled == most:
			return nil, b.tooLarge()
		case errors.Is(err, io.EOF) && b.netErr == nil:
			return buffer[:filled], nil
		case err != nil:
			return nil, b.unread(err)
		}
	}
}

func (b *body) count(message []byte) (int, error) {
	switch {
	case b.json:
		return elementsJSON(message)
	case b.input != nil:
		return elements(message, b.input)
	}
	return 0, nil
}

// networkReader reads the network for a body: bounded, and not slower than it may be.
type networkReader struct{ b *body }

func (r networkReader) Read(p []byte) (int, error) {
	b := r.b
	if !b.enveloped {
		p = p[:min(int64(len(p)), b.rawLeft+1)]
	} else {
		p = p[:min(int64(len(p)), b.rawLeft)]
	}
	n, err := b.network.Read(p)
	if b.rawLeft -= int64(n); b.rawLeft < 0 {
		b.netErr = b.tooLarge()
		return 0, b.netErr
	}
	if b.window += n; b.armed && b.window >= slowBytes && time.Since(b.opened) > slowTime/10 {
		b.open()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.netErr = err
	}
	return n, err
}

// arm wants progress from now on.
func (b *body) arm() {
	if !b.armed {
		b.armed = true
		b.open()
	}
}

func (b *body) open() {
	b.window, b.opened = 0, time.Now()
	b.control.readWithin(b.edge.slow)
}

func (b *body) disarm() {
	if b.armed {
		b.armed = false
		b.control.readWithin(0)
	}
}

func (b *body) tooLarge() error {
	message := fmt.Sprintf("read request: larger than %d bytes: send fewer records at once", b.most)
	return b.edge.fail(refusal{message, objectlog.ErrTooLarge})
}

// unread is why a body couldn't be read: what the network says if it has failed, else what is wrong with the bytes.
func (b *body) unread(err error) error {
	if b.netErr != nil {
		err = b.netErr
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // first: HTTP/1 takes it for the end of the client
		message := fmt.Sprintf("read request: too slow: want at least %d KiB in %v; nothing was done", slowBytes>>10, b.edge.slow)
		return b.edge.fail(refusal{message, agent.Unavailable})
	case b.ctx.Err() != nil:
		return err // nobody hears it
	}
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return err
	}
	return b.invalid(err)
}

func (b *body) invalid(err error) error {
	return b.edge.fail(refusal{fmt.Sprintf("read request: %v", err), agent.InvalidRequest})
}

// getBytesMax is what the message of a GET may unpack to: its URL is bounded to a fraction of it.
const getBytesMax = 1 << 20

// readGet checks, unpacks and weighs the message that a Connect GET has in its URL.
func (e *edge) readGet(r *http.Request, control *control, c *claim) error {
	query := r.URL.Query()
	message := io.Reader(strings.NewReader(query.Get("message")))
	if query.Get("base64") == "1" {
		encoding := base64.RawURLEncoding
		if strings.HasSuffix(query.Get("message"), "=") {
			encoding = base64.URLEncoding
		}
		message = base64.NewDecoder(encoding, message)
	}
	b := &body{edge: e, ctx: r.Context(), network: io.NopCloser(message), control: control, claim: c, input: inputOf(r.URL.Path),
		json: strings.HasPrefix(query.Get("encoding"), "json"), packed: query.Get("compression") == "gzip", most: getBytesMax, length: -1}
	unpacked, err := b.whole()
	if !errors.Is(err, io.EOF) {
		return err
	}
	if b.packed {
		query.Del("compression")
		query.Set("base64", "1")
		query.Set("message", base64.RawURLEncoding.EncodeToString(unpacked))
		r.URL.RawQuery = query.Encode()
	}
	return nil
}
