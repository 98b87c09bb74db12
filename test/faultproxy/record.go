package faultproxy

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// faultsMax is how many faults are remembered; the log has them all.
const faultsMax = 10_000

// Fault is what the proxy did to one request, or, with action pass, why it could not be passed on.
type Fault struct {
	AtMillis int64  `json:"atMillis"` // since the proxy started
	N        int64  `json:"n"`        // of the request, among all that the proxy saw, from 1
	Kind     string `json:"kind"`
	Key      string `json:"key"`
	Action   string `json:"action"`
	Answer   string `json:"answer"` // of the target, as "412 PreconditionFailed", or why there was none; empty: it was not asked
}

func (f Fault) String() string {
	return fmt.Sprintf("%.3fs #%d %s %q %s: %s", float64(f.AtMillis)/1000, f.N, f.Kind, f.Key, f.Action, f.Answer)
}

// Count is how many requests of one kind there were. A client that has its answer finds it counted, but for the bytes of an answer that
// announces no length: these follow at its end.
type Count struct {
	Seen         int64 `json:"seen"`      // from clients
	Forwarded    int64 `json:"forwarded"` // sent to the target, completely or not: Twice is 2
	RequestBytes int64 `json:"requestBytes"`
	AnswerBytes  int64 `json:"answerBytes"` // of bodies, without framing, to and from the target
}

// record counts requests and remembers faults.
type record struct {
	start time.Time
	log   io.Writer // guarded by mu: a line is written before whoever caused it goes on

	mu     sync.Mutex
	seen   int64
	counts map[string]Count
	faults []Fault // the newest, at most faultsMax
}

// Counts answers by kind what there was since the start.
func (p *Proxy) Counts() map[string]Count {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return maps.Clone(p.record.counts)
}

// Faults answers the newest faults, oldest first.
func (p *Proxy) Faults() []Fault {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	return slices.Clone(p.record.faults)
}

// number gives a request its number.
func (r *record) number(req *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	req.n = r.seen
	c := r.counts[req.kind]
	c.Seen++
	r.counts[req.kind] = c
}

func (r *record) forwarded(kind string, requests, requestBytes, answerBytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts[kind]
	c.Forwarded += requests
	c.RequestBytes += requestBytes
	c.AnswerBytes += answerBytes
	r.counts[kind] = c
}

// fault notes what was done to a request; nil: to a connection.
func (r *record) fault(req *request, action, answer string) Fault {
	f := Fault{AtMillis: time.Since(r.start).Milliseconds(), Action: action, Answer: answer}
	if req != nil {
		f.N, f.Kind, f.Key = req.n, req.kind, req.key
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) == faultsMax {
		r.faults = slices.Delete(r.faults, 0, faultsMax/10)
	}
	r.faults = append(r.faults, f)
	if r.log != nil {
		fmt.Fprintln(r.log, f)
	}
	return f
}
