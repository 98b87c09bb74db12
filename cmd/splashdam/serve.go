package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/agent/rpc"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

// broker is all that serves clients in this process.
type broker struct {
	listener net.Listener
	engine   *agent.Agent
	server   *http.Server
	failure  *readFailure // of the stores
	started  time.Time
	// embedded: both stores are on this machine, and what can't be read there is damage. Else it may be away, and is waited for.
	embedded bool

	name    string                    // of what is served, for errors
	explain func(error) error         // puts an error of the engine into words
	greet   func(after time.Duration) // when it is ready
}

// engine is the engine's part of the settings.
func (c Config) engine() agent.Config {
	return agent.Config{
		Version:         readVersion().Version,
		DrainTimeout:    c.StopTimeout / 2, // the rest is for connections, and to spare
		BufferBytesMax:  int64(c.BufferBytesMax),
		SegmentBytesMax: int64(c.SegmentBytesMax),
		BlockCacheBytes: int64(c.BlockCacheBytes),
		AutoCreate:      c.AutoCreate,
		AutoPartitions:  int32(c.AutoPartitions),
	}
}

// open takes the port for clients and serves metrics. The port first: a second broker started by mistake must not get as far as the data.
// closeBoth ends both.
func (env *environment) open() (listener net.Listener, registry *prometheus.Registry, closeBoth func(), err error) {
	if listener, err = listen(env.config.Listen); err != nil {
		return nil, nil, nil, err
	}
	registry = newRegistry()
	stopMetrics, err := serveMetrics(env.config.MetricsListen, registry)
	if err != nil {
		listener.Close()
		return nil, nil, nil, err
	}
	return listener, registry, func() { stopMetrics(); listener.Close() }, nil
}

// newServer serves the engine, and shows what the stores are asked for, to clients and as metrics.
func (env *environment) newServer(engine *agent.Agent, bucket bucketStore, table tableStore, registry *prometheus.Registry) *http.Server {
	charged := chargedBy(bucket, table)
	registry.MustRegister(&usageMetrics{stores: charged, topics: engine.Usage})
	return rpc.NewServer(rpc.New(rpc.Config{Version: readVersion().Version, MemoryBytesMax: int64(env.config.MemoryBytesMax), Logger: env.newLogger(), Usage: charged}, rpc.FromAgent(engine)))
}

// serve runs engine and server until ctx ends or one of them fails.
func (env *environment) serve(ctx context.Context, b broker) error {
	running, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	engineDone, serverDone := make(chan error, 1), make(chan error, 1)
	go func() { engineDone <- b.engine.Run(running) }()
	serve := func() { serverDone <- b.server.Serve(b.listener) }

	if !b.embedded {
		go serve() // a start may last as long as a store is away: whoever asks learns why
	}
	if err := b.awaitReady(ctx, engineDone); err != nil {
		stopEngine()
		b.server.Close()
		return b.explain(err)
	}
	if b.embedded {
		go serve()
	}
	b.greet(time.Since(b.started))

	var failed error
	select {
	case <-ctx.Done():
		failed = ctx.Err()
	case err := <-engineDone:
		b.server.Close()
		return b.explain(fmt.Errorf("the broker stopped: %w", err))
	case <-b.failure.stopped:
		// Nothing can be committed any more, nor handed on. What is under way ends like the connections: its outcome is unknown.
		b.server.Close()
		return b.explain(fmt.Errorf("the broker stopped: %w", b.failure.latest()))
	case err := <-serverDone:
		failed = &terminalError{op: "serve", object: b.listener.Addr().String(), cause: err}
	}
	return errors.Join(b.stop(env.config.StopTimeout, stopEngine, engineDone), ignoreCanceled(failed))
}

// stop lets go in the order that loses nothing: no new work, what is under way is answered, then the engine flushes and
// hands on what it holds.
func (b broker) stop(timeout time.Duration, stopEngine func(), engineDone <-chan error) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	go func() {
		select {
		case <-again:
			cancel()
		case <-deadline.Done():
		}
	}()

	b.engine.Drain()
	// A part of the time only: a client that sends its request slowly must not take the engine's.
	answered, cancelAnswered := context.WithTimeout(deadline, timeout/3)
	defer cancelAnswered()
	if err := b.server.Shutdown(answered); err != nil {
		b.server.Close()
	}
	stopEngine()
	select {
	case err := <-engineDone:
		if err = ignoreCanceled(err); err != nil {
			return b.explain(fmt.Errorf("stop: %w", err))
		}
		return nil
	case <-deadline.Done():
		return &terminalError{op: "stop", object: b.name, cause: errors.New("not done in time"),
			hint: "nothing acknowledged is lost; what was under way may or may not be written"}
	}
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// startPatience is far more than a start takes whose stores answer.
const startPatience = 2 * time.Second

// awaitReady waits until the engine can serve. A shard that halted on damaged state never will, nor will one whose state
// can't be read from stores of this machine: neither is waited for.
func (b broker) awaitReady(ctx context.Context, engineDone <-chan error) error {
	poll, patience := time.NewTicker(time.Millisecond), time.After(startPatience)
	defer poll.Stop()
	for {
		err := b.engine.Ready()
		if err == nil || errors.Is(err, shardlog.ErrHalted) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-engineDone:
			return fmt.Errorf("start: %w", err)
		case <-patience:
			damage := b.failure.latest()
			if damage != nil && b.embedded {
				return damage
			}
			slog.Warn("not ready yet", "because", err, "last_failed_read", damage)
			patience = time.After(startPatience)
		case <-poll.C:
		}
	}
}

// suggest says what to try next.
func (env *environment) suggest(address string) {
	flag := ""
	if address != settingDefault("server") {
		flag = " --server " + address
	}
	fmt.Fprintf(env.out, "Try, in another terminal:\n")
	fmt.Fprintf(env.out, "  splashdam topic create matches --partitions 3%s\n", flag)
	fmt.Fprintf(env.out, "  echo 'bra-arg:{\"goal\":\"Messi\",\"minute\":23}' | splashdam produce matches --key-separator :%s\n", flag)
}

// listen takes the address for clients.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &terminalError{op: "listen on", object: address, cause: errors.New("another process has this port"),
			hint: "stop it, or choose another with --listen"}
	case errors.Is(err, syscall.EACCES):
		return nil, &terminalError{op: "listen on", object: address, cause: errors.New("permission denied"), hint: "ports below 1024 need root"}
	case err != nil:
		return nil, &terminalError{op: "listen on", object: address, cause: err}
	}
	return l, nil
}
