package faultproxy

import (
	"io"
	"sync"
	"time"
)

// pace is one direction of a slow line that several bodies share.
type pace struct {
	bytesPerSecond int

	mu   sync.Mutex
	free time.Time // guarded by mu; when the line has sent what was given to it
}

// take puts n bytes on the line and answers how long to wait until they have arrived.
func (p *pace) take(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.bytesPerSecond))
	return p.free.Sub(now)
}

// paced writes at the speed of a line, in pieces of a twentieth of a second.
type paced struct {
	w     io.Writer
	flush func() error
	line  *pace
	wait  func(time.Duration) bool
}

func (w *paced) Write(b []byte) (n int, err error) {
	piece := max(1, w.line.bytesPerSecond/20)
	for n < len(b) {
		part := b[n:min(n+piece, len(b))]
		if !w.wait(w.line.take(len(part))) {
			return n, io.ErrClosedPipe
		}
		m, err := w.w.Write(part)
		n += m
		if err == nil {
			err = w.flush()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
