package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/splashdam/peer/v1/peerv1connect"
)

// How soon another agent that is gone without a word is noticed. A stream's silence is the follower's own business.
const (
	dialTimeout = time.Second
	pingEvery   = 2 * time.Second // of silence on a connection
	pingTimeout = 2 * time.Second
	takeTimeout = 5 * time.Second // in which the other side must take a byte
)

// The longest that each call may take; ctx may end it sooner.
const (
	greetTimeout     = time.Second      // less than the lease: who does not greet in time is as good as away
	proposeTimeout   = 30 * time.Second // a leader whose table is slow decides later, or never: then the proposal is sent again
	heartbeatTimeout = 5 * time.Second  // beyond what it waits for news; then it is sent again
	handOffTimeout   = 2 * time.Second  // the other agent claims the lease by itself a little later
	blockTimeout     = 10 * time.Second // one GET; then the bucket is asked directly
)

// Client calls other agents; it is the agent.Peers of an agent with that identity.
type Client struct {
	own          agent.Identity
	transport    *http.Transport
	small, large peerv1connect.PeerServiceClient // by what they read
}

var _ agent.Peers = (*Client)(nil)

// NewClient is a client that has connected to nobody yet. It panics on a configuration that Validate refuses.
func NewClient(cfg Config, own agent.Identity) *Client {
	if err := cfg.Validate(); err != nil {
		panic("peer: " + err.Error())
	}
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
		Protocols:              new(http.Protocols),
		// Buffers for what is received are the defaults: a stream may hold 4 MiB that its follower has not read, and
		// does not get in the way of others before there are hundreds of it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingEvery, PingTimeout: pingTimeout, WriteByteTimeout: takeTimeout, MaxReadFrameSize: 256 << 10},
	}
	scheme := "http"
	if cfg.ClientTLS != nil {
		scheme, t.TLSClientConfig = "https", certified(cfg.ClientTLS)
	}
	t.Protocols.SetHTTP2(cfg.ClientTLS != nil)
	t.Protocols.SetUnencryptedHTTP2(cfg.ClientTLS == nil)
	c := &Client{own: own, transport: t}
	calls := func(bytesMax int) peerv1connect.PeerServiceClient {
		return peerv1connect.NewPeerServiceClient(exchange{c}, scheme+"://splashdam", connect.WithAcceptCompression("gzip", nil, nil),
			connect.WithReadMaxBytes(bytesMax))
	}
	c.small, c.large = calls(smallBytesMax), calls(answerBytesMax)
	return c
}

// Close ends connections that no call uses. Calls may go on, and connect anew.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// call is one call under way.
type call struct {
	client  *Client
	what    string
	address string
	meant   objectlog.UUID // zero: whoever is there
	by      told           // the agent that answered; set by exchange
	// uncertified: the address asked for a certificate of authorities that this agent has none of. It is set by a dial.
	uncertified atomic.Bool
}

type callKey struct{}

// begin is a call to whoever is at the address.
func (c *Client) begin(ctx context.Context, what, address string) (context.Context, *call) {
	k := &call{client: c, what: what, address: address}
	return context.WithValue(ctx, callKey{}, k), k
}

// beginTo is a call that is meant for that boot only.
func (c *Client) beginTo(ctx context.Context, what string, to agent.AgentInfo) (context.Context, *call, error) {
	ctx, k := c.begin(ctx, what, to.PeerAddress)
	boot, err := objectlog.ParseUUID(to.Boot)
	if err != nil {
		return ctx, k, k.fail(stranger{err})
	}
	k.meant = boot
	return ctx, k, nil
}

// end judges how the call went.
func (k *call) end(err error) error {
	if err == nil {
		err = k.by.check(k.client.own, k.meant)
	} else {
		err = k.failure(err)
	}
	if err != nil {
		return k.fail(err)
	}
	return nil
}

// failure is what the failed call came to.
func (k *call) failure(err error) error {
	answered := connect.IsWireError(err)
	if err = ofCall(err); k.uncertified.Load() && !answered {
		return fmt.Errorf("it wants a certificate of an authority that this agent has none of: %w", err)
	}
	return err
}

func (k *call) fail(err error) error {
	return fmt.Errorf("%s: agent at %s: %w", k.what, k.address, err)
}

// certified is the configuration with a note, in the call, of an address that asks for a certificate in vain: it ends the connection
// after the handshake, when this side sees no more than that.
func certified(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	if own := cfg.Certificates; cfg.GetClientCertificate == nil {
		cfg.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for i := range own {
				if asked.SupportsCertificate(&own[i]) == nil {
					return &own[i], nil
				}
			}
			if k, ok := asked.Context().Value(callKey{}).(*call); ok {
				k.uncertified.Store(true)
			}
			return new(tls.Certificate), nil // it may do without
		}
	}
	return cfg
}

// exchange sends requests to the address of the call they belong to. It follows no redirects: they do not lead to agents.
type exchange struct{ client *Client }

// Do implements connect.HTTPClient.
func (x exchange) Do(r *http.Request) (*http.Response, error) {
	k := r.Context().Value(callKey{}).(*call)
	r.URL.Host, r.Host = k.address, k.address
	show(r.Header, x.client.own)
	r.Header.Set(secretHeader, secretScheme+x.client.own.Secret)
	answer, err := x.client.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if k.by, err = identified(answer.Header); err != nil {
		_ = answer.Body.Close()
		kind := answer.Header.Get("Content-Type")
		return nil, fmt.Errorf("found %s %s with status %d, not a Splashdam agent", answer.Proto, named(kind), answer.StatusCode)
	}
	return answer, nil
}
