package s3

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// newTransport makes the HTTP client's lower half for one store.
func newTransport() *http.Transport {
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
			return storeConn{conn}, nil
		},
		Protocols:             &protocols,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: answerMax,
		MaxIdleConnsPerHost:   64,               // 16 puts in parallel, and gets, and nobody opens a connection for the next one
		IdleConnTimeout:       20 * time.Second, // stores and balancers close idle ones after a minute or less, and a put may meet that
		DisableCompression:    true,             // objects are compressed already; a length must mean the object's
		WriteBufferSize:       16 << 10,         // room for headers: large bodies pass by both buffers, once these are empty
		ReadBufferSize:        16 << 10,
	}
}

// storeConn writes payloads without copying them.
type storeConn struct{ net.Conn }

// ReadFrom implements io.ReaderFrom, by which net/http sends bodies. Under TLS it is not called.
func (c storeConn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		if body, ok := limited.R.(*payloadReader); ok {
			n, err := body.writeTo(c.Conn, limited.N)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
