// Package rpc is the agent's public edge: proto/splashdam/v1 over Connect, gRPC and gRPC-Web, in protobuf and JSON, with
// health, reflection and a plain HTTP tail, on one handler. Wire types stop here.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/grpc/health/v1/healthv1connect"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// Config is the edge's settings. Zero values are the defaults named here.
type Config struct {
	Version         string           // of the program, shown by GetCluster
	RequestBytesMax int              // of one message, also after decompression; default 32 MiB, 64 KiB to 1 GiB
	MemoryBytesMax  int64            // of all requests in flight and answers to reads, as they weigh in memory; default 256 MiB, RequestBytesMax to 1 TiB
	Limits          objectlog.Limits // of batches; the engine's
	TailAge         time.Duration    // at which a Tail ends on purpose; default 15 min, 1 s to 24 h
	RequestTimeout  time.Duration    // of a unary call, body and answer included; default 2 min, at least 1 min
	AllowedOrigins  []string         // of browsers, scheme://host[:port] or "*"; default none
	Logger          *slog.Logger     // default slog.Default()

	// Usage answers what was asked of the stores that charge for it, shown by GetUsage; nil: none does.
	Usage func() []StoreUsage

	// Authorize decides every call, and each topic of a call on its own; nil allows all, which is right only while
	// nothing tells one caller from another. ErrUnauthenticated is answered as such, any other error as denied.
	Authorize func(ctx context.Context, action Action, resource Resource) error
}

// Validate reports every problem of the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.RequestBytesMax != 0 && (c.RequestBytesMax < 64<<10 || c.RequestBytesMax > 1<<30) {
		errs = append(errs, fmt.Errorf("request bytes max %d: want 64 KiB to 1 GiB", c.RequestBytesMax))
	}
	if least := int64(c.withDefaults().RequestBytesMax); c.MemoryBytesMax != 0 && (c.MemoryBytesMax < least || c.MemoryBytesMax > 1<<40) {
		errs = append(errs, fmt.Errorf("memory bytes max %d: want %d, one request, to 1 TiB", c.MemoryBytesMax, least))
	}
	if c.TailAge != 0 && (c.TailAge < time.Second || c.TailAge > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("tail age %v: want 1 s to 24 h", c.TailAge))
	}
	if c.RequestTimeout != 0 && c.RequestTimeout < time.Minute {
		errs = append(errs, fmt.Errorf("request timeout %v: want at least 1 min, calls may wait for 30 s", c.RequestTimeout))
	}
	for _, origin := range c.AllowedOrigins {
		if origin == "" {
			errs = append(errs, errors.New("allowed origins: an empty origin"))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.RequestBytesMax == 0 {
		c.RequestBytesMax = 32 << 20
	}
	if c.MemoryBytesMax == 0 {
		c.MemoryBytesMax = max(256<<20, int64(c.RequestBytesMax))
	}
	if c.TailAge == 0 {
		c.TailAge = 15 * time.Minute
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 2 * time.Minute
	}
	if c.Limits.BatchBytes == 0 {
		c.Limits.BatchBytes = 1<<20 + 12
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

const (
	heartbeatEvery = 10 * time.Second // of a Tail with nothing to say
	pollEvery      = time.Second      // how often a stream that waits for a client asks whether the agent drains
	sendTimeout    = 30 * time.Second // in which a client must take one message of a stream
)

// edge implements the services. It keeps nothing of a call behind its end, but for names that topics have for ever.
type edge struct {
	cfg    Config
	engine Engine
	memory *memory
	names  nameCache

	readiness readiness

	heartbeat, poll, send, slow time.Duration // the constants; shorter in tests
	taken                       int64         // takenAtLeast; more in tests
}

// New serves engine. It panics on a configuration that Validate refuses.
func New(cfg Config, engine Engine) http.Handler {
	return newEdge(cfg, engine).handler()
}

func newEdge(cfg Config, engine Engine) *edge {
	if err := cfg.Validate(); err != nil {
		panic("rpc: " + err.Error())
	}
	cfg = cfg.withDefaults()
	return &edge{cfg: cfg, engine: engine, memory: newMemory(cfg.MemoryBytesMax),
		heartbeat: heartbeatEvery, poll: pollEvery, send: sendTimeout, slow: slowTime, taken: takenAtLeast}
}

func (e *edge) handler() http.Handler {
	mux := http.NewServeMux()
	options := e.options()
	mux.Handle(splashdamv1connect.NewTopicServiceHandler(e, options))
	mux.Handle(splashdamv1connect.NewLogServiceHandler(e, options))
	mux.Handle(splashdamv1connect.NewGroupServiceHandler(e, options))
	mux.Handle(splashdamv1connect.NewQueueServiceHandler(e, options))
	mux.Handle(splashdamv1connect.NewDeadLetterServiceHandler(e, options))
	mux.Handle(splashdamv1connect.NewClusterServiceHandler(e, options))
	mux.Handle(healthv1connect.NewHealthHandler(health{e}, options))
	reflector := grpcreflect.NewStaticReflector(append(services(), healthv1connect.HealthName)...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, connect.WithReadMaxBytes(1<<16)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, connect.WithReadMaxBytes(1<<16)))
	mux.HandleFunc("GET /readyz", e.readyz)
	mux.HandleFunc("GET /livez", livez)
	mux.HandleFunc("GET /v1/topics/{topic}/tail", e.tailHTTP)
	return e.around(mux)
}

func services() []string {
	return []string{
		splashdamv1connect.TopicServiceName,
		splashdamv1connect.LogServiceName,
		splashdamv1connect.GroupServiceName,
		splashdamv1connect.QueueServiceName,
		splashdamv1connect.DeadLetterServiceName,
		splashdamv1connect.ClusterServiceName,
	}
}

func (e *edge) options() connect.HandlerOption {
	return connect.WithHandlerOptions(
		connect.WithCodec(binaryCodec{}),
		connect.WithCodec(jsonCodec{name: "json"}),
		connect.WithCodec(jsonCodec{name: "json; charset=utf-8"}),
		connect.WithReadMaxBytes(e.cfg.RequestBytesMax),
		connect.WithInterceptors(&boundary{e}),
		connect.WithRecover(func(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
			return fmt.Errorf("%s panicked: %v", spec.Procedure, p)
		}),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			switch spec.Procedure {
			case splashdamv1connect.LogServiceFetchProcedure, splashdamv1connect.LogServiceTailProcedure,
				splashdamv1connect.QueueServicePullProcedure, splashdamv1connect.DeadLetterServiceListDeadLettersProcedure:
				// Batches come compressed by their producer: a second compression costs time and wins nothing. Records one by one go the
				// same way, so that a compressor never stands between a reader and a full network.
				return []connect.HandlerOption{connect.WithCompressMinBytes(math.MaxInt)}
			}
			return nil
		}),
	)
}

// NewServer is the HTTP server for handler: HTTP/1.1 and HTTP/2 with and without TLS on one listener, bounded against
// clients that send headers slowly, idle, vanish or open streams without end. The handler bounds bodies and answers.
func NewServer(handler http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // a Connect GET carries its request in the URL
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			// Large enough that one producer fills a fast network: the defaults bound a stream to 1 MiB per round trip.
			MaxReceiveBufferPerConnection: 4<<20 - 1,
			MaxReceiveBufferPerStream:     2 << 20,
		},
	}
}
