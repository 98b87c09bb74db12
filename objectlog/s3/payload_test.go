package s3

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// bodyKeeper is a transport that fails every request with a body after a few bytes of it, and keeps the body.
type bodyKeeper struct {
	mu     sync.Mutex
	bodies []io.Reader
}

func (k *bodyKeeper) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil || req.Method != http.MethodPut {
		body := "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"
		return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader([]byte(body))), Header: http.Header{}, Request: req}, nil
	}
	io.ReadFull(req.Body, make([]byte, 3))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bodies = append(k.bodies, req.Body)
	return nil, errors.New("the network is gone")
}

// stalledStore reads the head of one request and then nothing; it calls stalled when the client's bytes have filled what is between.
func stalledStore(t *testing.T, stalled context.CancelFunc) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			stalled()
		}
		<-end
	})
	t.Cleanup(func() {
		listener.Close()
		close(end)
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

func TestPayloadGoesToTheConnectionWholeAndInOrder(t *testing.T) {
	near, far := net.Pipe()
	data := make([]byte, 3*pieceBytes+17)
	for i := range data {
		data[i] = byte(i) ^ byte(i>>9)
	}
	var got []byte
	var reading sync.WaitGroup
	reading.Go(func() { got, _ = io.ReadAll(far) })
	p := newPayload(data)
	r := &payloadReader{payload: p}
	if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	n, err := storeConn{near, time.Minute}.ReadFrom(&io.LimitedReader{R: r, N: int64(len(data) - 5)})
	if err != nil || n != int64(len(data)-5) {
		t.Errorf("wrote %d bytes, %v; want %d", n, err, len(data)-5)
	}
	near.Close()
	reading.Wait()
	if !bytes.Equal(got, data[5:]) {
		t.Errorf("the other end got %d bytes, not the payload's", len(got))
	}
	p.cut()
	if n, err := p.open().Read(make([]byte, 1)); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("after the cut: %d bytes, %v", n, err)
	}
}

// TestConnectionTakesBodiesByReadFrom holds what the saving rests on: net/http hands the payload itself to the connection.
func TestConnectionTakesBodiesByReadFrom(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ request) { w.Header().Set("Etag", `"e"`) })
	transport := closing(t)
	seen := make(chan int64, 1)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return watchedConn{conn, seen}, err
	}
	b, err := Open(Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "key", make([]byte, 1<<20), newNonce()); err != nil {
		t.Fatal(err)
	}
	if n := <-seen; n < 1<<20-64<<10 {
		t.Errorf("%d bytes of 1 MiB went the direct way", n)
	}
}

type watchedConn struct {
	net.Conn
	seen chan<- int64
}

func (c watchedConn) ReadFrom(r io.Reader) (int64, error) {
	limited := r.(*io.LimitedReader)
	if _, ok := limited.R.(*payloadReader); !ok {
		return 0, errors.New("the body is not the payload itself")
	}
	n, err := c.Conn.(io.ReaderFrom).ReadFrom(r)
	c.seen <- n
	return n, err
}
