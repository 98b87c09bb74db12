package faultproxy

import (
	"fmt"
	"sync"
)

const (
	heldMax      = 1000
	heldBytesMax = 64 << 20 // of the bodies
)

// held keeps requests that land later. Beyond its bounds a request is cut off without landing, and the record says so.
type held struct {
	mu       sync.Mutex
	requests []*request // oldest first; loaded
	bytes    int64      // of bodies in memory, theirs and of what is sent twice just now
}

// load reads the rest of a request into memory, within what is left of it. Who calls it calls unload when the body is not needed any more.
func (h *held) load(req *request) error {
	h.mu.Lock()
	free := heldBytesMax - h.bytes
	h.mu.Unlock()
	if err := req.body.load(free); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := int64(len(req.body.data)); h.bytes+n > heldBytesMax {
		return errTooLong
	}
	h.bytes += int64(len(req.body.data))
	return nil
}

func (h *held) unload(req *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes -= int64(len(req.body.data))
}

// keep reads the rest of a request and keeps it.
func (h *held) keep(req *request) error {
	if err := h.load(req); err != nil {
		return err
	}
	h.mu.Lock()
	full := len(h.requests) == heldMax
	if !full {
		h.requests = append(h.requests, req)
	}
	h.mu.Unlock()
	if full {
		h.unload(req)
		return fmt.Errorf("%d requests are held already", heldMax)
	}
	return nil
}

// take removes the oldest request, whose body stays loaded; nil: none is held.
func (h *held) take() *request {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.requests) == 0 {
		return nil
	}
	req := h.requests[0]
	h.requests[0] = nil
	h.requests = h.requests[1:]
	return req
}

// Held answers how many requests wait to be released. By the time its client is cut off a request is held.
func (p *Proxy) Held() int {
	p.held.mu.Lock()
	defer p.held.mu.Unlock()
	return len(p.held.requests)
}

// Release forwards up to n held requests, in the order in which they were held, each after the answer to the one before, and answers what
// the target said. A request whose answer could not be had is not held any more: it may have landed.
func (p *Proxy) Release(n int) []Fault {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()

	l := link{p: p}
	defer l.close()
	var late []Fault
	for ; n > 0; n-- {
		req := p.held.take()
		if req == nil {
			break
		}
		summary, _ := l.swallow(req, nil)
		p.held.unload(req)
		late = append(late, p.record.fault(req, "released", summary))
	}
	return late
}

// ReleaseAll is Release for all that are held when it is called.
func (p *Proxy) ReleaseAll() []Fault { return p.Release(p.Held()) }
