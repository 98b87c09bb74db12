package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// HTTPVersion says which HTTP a client speaks.
type HTTPVersion uint8

// The choices of HTTP.
const (
	// HTTPAuto: HTTP/2 where the other side speaks it (by ALPN with TLS, found by one GET /readyz without), else
	// HTTP/1.1, over which a producer uses unary calls instead of a stream.
	HTTPAuto HTTPVersion = iota
	HTTP2
	HTTP1
)

// Config is the settings of a Client. Zero values are the defaults named here.
type Config struct {
	// Addresses are host:port of agents or of a load balancer before them; default 127.0.0.1:4510. A client stays at one
	// address, the first at random, and goes on to the next when a call finds it unreachable, or the agent there about to stop or not
	// able to serve.
	Addresses []string
	// Zone is where this client runs, in the words of the agents' setting zone. When set, agents of that zone that can be reached at their
	// own client addresses and are ready are used first, found out anew with each generation of connections; Addresses come behind them. At
	// most 64 characters.
	Zone string
	// TLS, when set, is used for https; nil: plain http. NextProtos is filled in.
	TLS *tls.Config
	// HTTP is the version; default HTTPAuto.
	HTTP HTTPVersion
	// UserAgent of every request; default "splashdam-go".
	UserAgent string
	// DialTimeout bounds the opening of one connection, TLS included; default 5 s, 10 ms to 5 min.
	DialTimeout time.Duration
	// RequestTimeout bounds one call with all its repetitions, and the wait for the answer to one produce request;
	// default 40 s (above the 30 s after which an agent calls an outcome unknown), 100 ms to 10 min. A long poll adds its own wait.
	RequestTimeout time.Duration
	// ConnectionAge is how long connections are used before fresh ones replace them, give or take a fifth, so that a load
	// balancer can spread clients over agents that came later; default 10 min, 1 s to 24 h.
	ConnectionAge time.Duration
	// RetryDelayMin and RetryDelayMax bound the exponential delay between attempts; default 20 ms and 2 s, 1 ms to 1 min.
	RetryDelayMin time.Duration
	RetryDelayMax time.Duration
}

func (c Config) withDefaults() Config {
	if len(c.Addresses) == 0 {
		c.Addresses = []string{"127.0.0.1:4510"}
	}
	setDefault(&c.UserAgent, "splashdam-go")
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.RequestTimeout, 40*time.Second)
	setDefault(&c.ConnectionAge, 10*time.Minute)
	setDefault(&c.RetryDelayMin, 20*time.Millisecond)
	setDefault(&c.RetryDelayMax, 2*time.Second)
	return c
}

// Validate reports every problem of the configuration; zero values stand for their defaults.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	for i, a := range c.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("Addresses[%d] %q: want host:port", i, a))
		}
	}
	if len(c.Zone) > 64 {
		errs = append(errs, fmt.Errorf("Zone %q: want at most 64 characters", c.Zone))
	}
	if c.HTTP > HTTP1 {
		errs = append(errs, fmt.Errorf("HTTP %d: want HTTPAuto, HTTP2 or HTTP1", c.HTTP))
	}
	errs = append(errs,
		within("DialTimeout", c.DialTimeout, 10*time.Millisecond, 5*time.Minute),
		within("RequestTimeout", c.RequestTimeout, 100*time.Millisecond, 10*time.Minute),
		within("ConnectionAge", c.ConnectionAge, time.Second, 24*time.Hour),
		within("RetryDelayMin", c.RetryDelayMin, time.Millisecond, time.Minute),
		within("RetryDelayMax", c.RetryDelayMax, c.RetryDelayMin, time.Minute),
	)
	return errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func within[T int | int32 | int64 | time.Duration](name string, got, low, high T) error {
	if got < low || got > high {
		return fmt.Errorf("%s %v: want %v to %v", name, got, low, high)
	}
	return nil
}
