// Package peer is the edge between agents: proto/splashdam/peer/v1, served and called, with the cluster's secret on every call. Wire types
// stop here.
//
// Server and client judge each other by the headers of identity.go before either looks at a message: a call that is not meant for
// this agent is refused by name and has done nothing, and an answer without them comes from something that is no agent. Errors cross by
// the table in errors.go. What a call has done is known only from an answer, or from a connection that was never made; all else leaves
// the outcome of a proposal unknown.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/splashdam/peer/v1/peerv1connect"
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
	// HeartbeatHere takes a heartbeat of a group whose shard this very agent leads.
	HeartbeatHere(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error)
	// Block answers a part of a segment, from the cache or the bucket.
	Block(ctx context.Context, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error)
}

// Config is the edge's settings.
type Config struct {
	// ServerTLS, when set, makes the listener speak TLS; with ClientAuth RequireAndVerifyClientCert it is mutual. ClientTLS is for
	// calls to other agents. Both or none.
	ServerTLS, ClientTLS *tls.Config
}

// Validate reports every problem of the configuration.
func (c Config) Validate() error {
	if (c.ServerTLS == nil) != (c.ClientTLS == nil) {
		return errors.New("TLS between agents is set for one direction only: all agents both listen and call")
	}
	return nil
}

// The limits of one message. An agent reads no body of a call before it has seen the secret, and memory grows only with what arrives.
const (
	// smallBytesMax is above any greeting: a thousand shards with a fault each.
	smallBytesMax = 1 << 20
	// heartbeatBytesMax is above what a member of a hundred thousand partitions says.
	heartbeatBytesMax = 8 << 20
	// proposeBytesMax is above the sections of 64 segments that are full of the smallest batches.
	proposeBytesMax = 256 << 20
	// answerBytesMax is above the results of the largest proposal, above blockBytesMax, and above one message of a stream.
	answerBytesMax = 64 << 20
)

// patience is how long the server waits for another agent.
type patience struct {
	request time.Duration // to arrive as a whole
	answer  time.Duration // of a unary call to be taken, since the call began
	message time.Duration // of a stream to be taken
}

var usual = patience{request: 30 * time.Second, answer: time.Minute, message: 10 * time.Second}

// server implements the service. It keeps nothing between calls.
type server struct {
	engine   Engine
	stopping context.Context // ends streams, which would keep Shutdown waiting for ever
	patience patience
}

// NewServer serves the engine to other agents: HTTP/2, without TLS too. With TLS it is to be started with ServeTLS, and without it answers
// nobody. It panics on a configuration that Validate refuses.
func NewServer(cfg Config, engine Engine) *http.Server { return newServer(cfg, engine, usual) }

func newServer(cfg Config, engine Engine, p patience) *http.Server {
	if err := cfg.Validate(); err != nil {
		panic("peer: " + err.Error())
	}
	stopping, stop := context.WithCancel(context.Background())
	s := &server{engine: engine, stopping: stopping, patience: p}
	_, calls := peerv1connect.NewPeerServiceHandler(s, options())
	var protocols http.Protocols
	protocols.SetHTTP2(cfg.ServerTLS != nil)
	protocols.SetUnencryptedHTTP2(cfg.ServerTLS == nil)
	out := &http.Server{
		Handler:           s.admit(calls),
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       p.request,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      pingEvery,
			PingTimeout:          pingTimeout,
			// A proposal's footers and a block fill a fast network: the defaults bound a stream to 1 MiB per round trip.
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     2 << 20,
		},
	}
	if cfg.ServerTLS != nil {
		out.TLSConfig = cfg.ServerTLS.Clone()
	}
	out.RegisterOnShutdown(stop)
	return out
}

// options are without compression: proposals are small and blocks are compressed already, and there are no bombs.
func options() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCompression("gzip", nil, nil),
		connect.WithReadMaxBytes(smallBytesMax),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			switch spec.Procedure {
			case peerv1connect.PeerServiceProposeProcedure:
				return []connect.HandlerOption{connect.WithReadMaxBytes(proposeBytesMax)}
			case peerv1connect.PeerServiceHeartbeatProcedure:
				return []connect.HandlerOption{connect.WithReadMaxBytes(heartbeatBytesMax)}
			}
			return nil
		}),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
			slog.Error("a call of another agent panicked", "call", spec.Procedure, "panic", p)
			return toWire(fmt.Errorf("%s panicked: %v", spec.Procedure, p))
		}),
	)
}
