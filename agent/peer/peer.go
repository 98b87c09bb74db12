// Package peer is the edge between agents: proto/splashdam/peer/v1, served and called, with the cluster's secret on every call. Wire types
// stop here.
package peer

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// Engine is what the edge needs of an agent: what other agents may ask of it. Its methods may run together.
type Engine interface {
	Identity() agent.Identity
	// Greet takes another agent's greeting and answers the own one.
	Greet(ctx context.Context, from agent.Greeting) (agent.Greeting, error)
	// ProposeHere appends to a shard that this very agent leads.
	ProposeHere(ctx context.Context, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error)
	// Stream sends what this agent commits as leader of the shard, until ctx ends, send fails, or it leads no more.
	Stream(ctx context.Context, s objectlog.Shard, from metadata.Seq, send func(agent.Signal) error) error
	// TakeOver says that the holder let go of the shard's lease.
	TakeOver(ctx context.Context, s objectlog.Shard, holder objectlog.UUID, epoch objectlog.Epoch) error
	// Block answers a part of a segment, from the cache or the bucket.
	Block(ctx context.Context, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error)
}

// Config is the edge's settings.
type Config struct {
	// ServerTLS, when set, makes the listener speak TLS; with ClientAuth RequireAndVerifyClientCert it is mutual. ClientTLS is for
	// calls to other agents. Both or none.
	ServerTLS, ClientTLS *tls.Config
}

// NewServer serves the engine to other agents: HTTP/2, without TLS too.
func NewServer(cfg Config, engine Engine) *http.Server { panic("peer: NewServer: to be written") }

// Client calls other agents; it is the agent.Peers of an agent with that identity.
type Client struct{}

// NewClient is a client that has connected to nobody yet.
func NewClient(cfg Config, own agent.Identity) *Client { panic("peer: NewClient: to be written") }
