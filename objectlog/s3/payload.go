package s3

import (
	"errors"
	"io"
	"net"
	"sync"
)

// payload is the body of requests. The bytes are the caller's and are only lent: net/http may go on reading a body when RoundTrip has
// returned, so that a Put which has failed would read memory that already holds something else. cut ends that.
type payload struct {
	mu   sync.Mutex // held while data is read
	data []byte     // nil when cut
	size int
}

var errCut = errors.New("the request that this body belongs to has ended")

func newPayload(data []byte) *payload { return &payload{data: data, size: len(data)} }

// cut takes the bytes back: when it returns, nobody reads them, and nobody will.
func (p *payload) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = nil
}

// open answers a reader from the start.
func (p *payload) open() io.ReadCloser { return &payloadReader{payload: p} }

type payloadReader struct {
	*payload
	at int
}

func (r *payloadReader) Read(b []byte) (int, error) {
	if r.at == r.size {
		return 0, io.EOF
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return 0, errCut
	}
	n := copy(b, r.data[r.at:])
	r.at += n
	return n, nil
}

func (r *payloadReader) Close() error { return nil }

// pieceBytes is how much of a payload is written at once, and has to be taken in within answerMax: half a megabit a second. net/http's own
// copies of 32 KiB cost a third more CPU time, pieces of 256 KiB a tenth. The lock is held meanwhile. That a store takes no more bytes does not keep cut waiting: net/http closes the connection of a request
// that has ended before its time.
const pieceBytes = 512 << 10

// writeTo writes at most limit bytes to the connection, from where they are: net/http would copy them first, in portions of 32 KiB.
func (r *payloadReader) writeTo(conn net.Conn, limit int64) (int64, error) {
	var sum int64
	for sum < limit && r.at < r.size {
		n, err := r.writePiece(conn, limit-sum)
		sum += int64(n)
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (r *payloadReader) writePiece(conn net.Conn, limit int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.data == nil {
		return 0, errCut
	}
	piece := r.data[r.at:min(r.size, r.at+pieceBytes)]
	n, err := conn.Write(piece[:min(int64(len(piece)), limit)])
	r.at += n
	return n, err
}
