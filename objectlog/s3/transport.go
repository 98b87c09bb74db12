package s3

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// newTransport makes the HTTP client's lower half for one store. stallMax bounds how long a request is neither sent further nor answered.
func newTransport(stallMax time.Duration) *http.Transport {
	dialer := net.Dialer{
		Timeout:   5 * time.Second, // a host that is there answers within a round trip; two lost packets take three seconds
		KeepAlive: 15 * time.Second,
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // S3 speaks nothing else, and 16 bodies at once want 16 connections
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return storeConn{conn, stallMax}, nil
		},
		Protocols:             &protocols,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: stallMax,
		MaxIdleConnsPerHost:   64,               // 16 puts in parallel, and gets, and nobody opens a connection for the next one
		IdleConnTimeout:       20 * time.Second, // stores and balancers close idle ones after a minute or less, and a put may meet that
		DisableCompression:    true,             // objects are compressed already; a length must mean the object's
		WriteBufferSize:       16 << 10,         // room for headers: large bodies pass by both buffers, once these are empty
		ReadBufferSize:        16 << 10,
	}
}

// paced sends each request by a transport that waits for answers as long as its kind may take. What a store says before it has put the parts
// of a large object together is its own affair: Amazon S3 answers at once and goes on, others answer at the end. So this one request has the
// time of the object's size, which Bucket.do gives it, until the first byte of the answer too.
type paced struct{ usual, patient *http.Transport }

func newPaced(stallMax time.Duration) paced {
	p := paced{newTransport(stallMax), newTransport(stallMax)}
	p.patient.ResponseHeaderTimeout = 0
	return p
}

// RoundTrip implements http.RoundTripper.
func (p paced) RoundTrip(req *http.Request) (*http.Response, error) {
	if x := req.Context().Value(exchangeKey{}).(*exchange); x.name == complete.name {
		return p.patient.RoundTrip(req)
	}
	return p.usual.RoundTrip(req)
}

// storeConn writes payloads without copying them, and gives up on a store that takes nothing in.
type storeConn struct {
	net.Conn
	stallMax time.Duration // of one write: of a piece of a body, or of what fits into a buffer of net/http or TLS
}

// Write implements net.Conn.
func (c storeConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.stallMax)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// ReadFrom implements io.ReaderFrom, by which net/http sends bodies. Under TLS it is not called.
func (c storeConn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		if body, ok := limited.R.(*payloadReader); ok {
			n, err := body.writeTo(c, limited.N)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}
