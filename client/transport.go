package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// transport sends every request to the current address, over HTTP/2 where it can.
//
// It stays at one address because a stream and the unary calls beside it then meet the same agent, and moves on when
// that one can't be reached, stops, or can't serve. The whole set of connections is replaced after ConnectionAge: with HTTP/2 one connection
// lasts for ever, and a load balancer in front could not move any load. A replaced set ends when its last call ends.
type transport struct {
	cfg    Config
	scheme string

	mu        sync.Mutex
	addresses []string // in the order in which they are tried: near ones first, then those of the configuration
	near      int      // how many of them are of agents in the client's zone
	current   int      // index of the address in use
	set       *connections
	moved     time.Time // when an agent was last left at its word
	moves     int       // how many times one was
}

// connections is one generation of connections.
type connections struct {
	h1, h2  *http.Transport
	replace time.Time       // under transport.mu
	plain   map[string]bool // by address: probed, and whether it speaks HTTP/1.1 only; under transport.mu
}

const (
	// moveEvery is how long the client stays where an agent that stops has sent it, at least: all calls that were under way there
	// say so, but one move is enough.
	moveEvery = 100 * time.Millisecond
	// avoidEvery is the same where agents are not ready: it may be that none is, and every move costs connections.
	avoidEvery = time.Second
	// refusedEvery is the same where agents can't do what they are asked for, ready or not: it may be one shard that rests at all of them.
	refusedEvery = 10 * time.Second
)

// readyHeader says "false" in every answer of an agent that clients should leave. Over HTTP/2 nobody sees its "Connection: close".
const readyHeader = "Splashdam-Ready"

func saysUnready(answer http.Header) bool { return answer.Get(readyHeader) == "false" }

// errNoStreams is answered to a stream over HTTP/1.1.
var errNoStreams = errors.New("no streams over HTTP/1.1")

func newTransport(cfg Config) *transport {
	t := &transport{cfg: cfg, scheme: "http", addresses: shuffled(cfg.Addresses)}
	if cfg.TLS != nil {
		t.scheme = "https"
	}
	return t
}

// base is the address that requests are made for; RoundTrip puts the current one in its place.
func (t *transport) base() string { return t.scheme + "://splashdam" }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	set, address := t.pick(r.Context())
	res, err := t.send(set, address, r)
	if err != nil && r.Context().Err() == nil {
		t.leave(address, err)
	}
	if err == nil && saysUnready(res.Header) {
		t.avoidAt(set, address)
	}
	return res, err
}

// send sends the request to the address, and takes a page of what is before the agents for an error.
func (t *transport) send(set *connections, address string, r *http.Request) (*http.Response, error) {
	rt, err := t.version(r.Context(), set, address)
	if err == nil && rt == set.h1 && strings.HasSuffix(r.URL.Path, "/ProduceStream") {
		err = errNoStreams
	}
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.URL.Host, r.Host = address, address
	r.Header.Set("User-Agent", t.cfg.UserAgent)
	res, err := rt.RoundTrip(r)
	if err == nil && isGatewayPage(res) {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // so that the connection can be used again
		_ = res.Body.Close()
		return nil, &gatewayError{address: address, status: res.Status}
	}
	return res, err
}

// gatewayError is what a load balancer or proxy says of the agents behind it. The request may have reached one.
type gatewayError struct{ address, status string }

func (e *gatewayError) Error() string {
	return e.address + " answered " + e.status + ", which is not an agent's answer"
}

// isGatewayPage says whether something before the agents answered, for want of one: theirs have a content type of a protocol.
func isGatewayPage(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return !strings.HasPrefix(res.Header.Get("Content-Type"), "application/")
	}
	return false
}

func (t *transport) closeIdle() {
	t.mu.Lock()
	set := t.set
	t.mu.Unlock()
	set.closeIdle()
}

// pick answers the connections and the address for one request. The first one of a generation asks for agents in the zone.
func (t *transport) pick(ctx context.Context) (*connections, string) {
	t.mu.Lock()
	old, now := t.set, time.Now()
	fresh := old == nil || now.After(old.replace)
	if fresh {
		t.set = t.connect(now)
	}
	set, address := t.set, t.addresses[t.current]
	t.mu.Unlock()
	if fresh {
		old.closeIdle()
	}
	if fresh && t.cfg.Zone != "" {
		address = t.lookAround(ctx, set, address)
	}
	return set, address
}

// leave goes on to the next address, unless another request has already done so.
func (t *transport) leave(address string, err error) {
	if errors.Is(err, errNoStreams) || errors.Is(err, context.Canceled) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addresses[t.current] == address {
		t.next(time.Now())
	}
}

// moveOn leaves an agent that is about to stop: by fresh connections, which a load balancer leads to another one, and to the next address.
func (t *transport) moveOn() {
	t.mu.Lock()
	now := time.Now()
	old := t.renew(now, moveEvery)
	if old != nil {
		t.next(now)
	}
	t.mu.Unlock()
	old.closeIdle()
}

// avoid leaves an agent that can't do what it was asked for. Other agents of the zone may be cut off by the same, so the given addresses
// are next, among them a load balancer's, which knows who can; the zone is looked at again before long.
func (t *transport) avoid() {
	t.mu.Lock()
	old := t.avoidLocked(refusedEvery)
	t.mu.Unlock()
	old.closeIdle()
}

// avoidAt leaves an agent that is not ready, unless the address has been left since the request was sent: an answer may have waited for long.
func (t *transport) avoidAt(set *connections, address string) {
	var old *connections
	t.mu.Lock()
	if t.set == set && t.addresses[t.current] == address {
		old = t.avoidLocked(avoidEvery)
	}
	t.mu.Unlock()
	old.closeIdle()
}

func (t *transport) avoidLocked(every time.Duration) (old *connections) {
	now := time.Now()
	if old = t.renew(now, every); old == nil {
		return nil
	}
	if t.current < t.near {
		t.set.hasten(now)
		t.current = t.near
	} else {
		t.current = t.near + (t.current-t.near+1)%(len(t.addresses)-t.near)
	}
	return old
}

// renew replaces the connections and answers the old ones, or nil when that was done just now. A look for agents of the zone is not
// put off by it. The lock is held.
func (t *transport) renew(now time.Time, every time.Duration) *connections {
	old := t.set
	if old == nil || now.Sub(t.moved) < every {
		return nil
	}
	t.set = t.connect(now)
	if old.replace.Before(t.set.replace) {
		t.set.replace = old.replace
	}
	t.moved = now
	t.moves++
	return old
}

// moveCount says how often agents were left at their word: a stream that was opened before is at one that was.
func (t *transport) moveCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moves
}

// next makes the next address the current one. Who leaves an agent of the zone looks for others before long. The lock is held.
func (t *transport) next(now time.Time) {
	if t.current < t.near {
		t.set.hasten(now)
	}
	t.current = (t.current + 1) % len(t.addresses)
}

// hasten brings the next generation forward, so that agents of the zone are looked for soon.
func (c *connections) hasten(now time.Time) {
	if soon := now.Add(lookAgain); soon.Before(c.replace) {
		c.replace = soon
	}
}

// version answers the transport for the address: which version it speaks is asked once per generation.
func (t *transport) version(ctx context.Context, set *connections, address string) (*http.Transport, error) {
	if t.cfg.HTTP == HTTP1 {
		return set.h1, nil
	}
	if t.cfg.TLS != nil || t.cfg.HTTP == HTTP2 {
		return set.h2, nil
	}
	t.mu.Lock()
	plain, probed := set.plain[address]
	t.mu.Unlock()
	if !probed {
		var err error
		if plain, err = t.probe(ctx, set, address); err != nil {
			return nil, err
		}
		t.mu.Lock()
		set.plain[address] = plain
		t.mu.Unlock()
	}
	if plain {
		return set.h1, nil
	}
	return set.h2, nil
}

// probe asks for /readyz over HTTP/2 with prior knowledge; any answer will do. Where there is none but HTTP/1.1 gets
// one, the other side is HTTP/1.1 only. A real request can't be the probe: its outcome would be unknown.
func (t *transport) probe(ctx context.Context, set *connections, address string) (plain bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	get := func(rt http.RoundTripper) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return err
		}
		r.Header.Set("User-Agent", t.cfg.UserAgent)
		res, err := rt.RoundTrip(r)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
		return res.Body.Close()
	}
	err = get(set.h2)
	if err == nil {
		return false, nil
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return false, err
	}
	if get(set.h1) != nil {
		return false, err
	}
	return true, nil
}

// connect makes the next generation; nothing is dialled yet.
func (t *transport) connect(now time.Time) *connections {
	age := t.cfg.ConnectionAge*4/5 + rand.N(t.cfg.ConnectionAge*2/5)
	return &connections{h1: t.over(false), h2: t.over(true), replace: now.Add(age), plain: make(map[string]bool)}
}

func (t *transport) over(two bool) *http.Transport {
	tr := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: t.cfg.DialTimeout}).DialContext,
		TLSHandshakeTimeout:   t.cfg.DialTimeout,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		Protocols:             new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// A peer that vanished without a word is found within these two, and not by the kernel's timeout.
			SendPingTimeout:               3 * time.Second,
			PingTimeout:                   5 * time.Second,
			MaxReadFrameSize:              1 << 20,
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     4<<20 - 1,
		},
	}
	if t.cfg.TLS != nil {
		tr.TLSClientConfig = t.cfg.TLS.Clone()
	}
	tr.Protocols.SetHTTP1(!two || t.cfg.TLS != nil && t.cfg.HTTP == HTTPAuto)
	tr.Protocols.SetHTTP2(two && t.cfg.HTTP != HTTP1)
	tr.Protocols.SetUnencryptedHTTP2(two && t.cfg.TLS == nil)
	return tr
}

// closeIdle drops what is idle of c, which may be nil.
func (c *connections) closeIdle() {
	if c == nil {
		return
	}
	c.h1.CloseIdleConnections()
	c.h2.CloseIdleConnections()
}

func shuffled(list []string) []string {
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
