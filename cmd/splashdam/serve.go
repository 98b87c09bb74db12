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
	peers    *peers // nil: there can't be any

	// address tries where clients are told that the agent is; nil: nobody is told anything that could be wrong.
	address func(ctx context.Context) error
	// stopDelay is how long requests are still taken when the broker is told to stop.
	stopDelay time.Duration

	name    string                    // of what is served, for errors
	explain func(error) error         // puts an error of the engine into words
	greet   func(after time.Duration) // when it is ready
}

// engine is the engine's part of the settings.
func (c Config) engine() agent.Config {
	return agent.Config{
		Version:         readVersion().Version,
		DrainTimeout:    (c.StopTimeout - c.stopDelay()) / 2, // the rest is for connections, and to spare
		BufferBytesMax:  int64(c.BufferBytesMax),
		SegmentBytesMax: int64(c.SegmentBytesMax),
		BlockCacheBytes: int64(c.BlockCacheBytes),
		AutoCreate:      c.AutoCreate,
		AutoPartitions:  int32(c.AutoPartitions),
		GroupLife:       c.GroupRetention,
	}
}

// stopDelay leaves time for what a stop has to do.
func (c Config) stopDelay() time.Duration { return min(c.StopDelay, c.StopTimeout/2) }

// open takes the port for clients and serves metrics. The port first: a second broker started by mistake must not get as far as the data.
// closeBoth ends both.
func (env *environment) open() (listener net.Listener, registry *prometheus.Registry, closeBoth func(), err error) {
	if listener, err = listen(env.config.Listen, "--listen"); err != nil {
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

// newServer serves the engine, and shows what the stores are asked for, to clients and as metrics, and how its replicas are.
func (env *environment) newServer(engine *agent.Agent, bucket bucketStore, table tableStore, registry *prometheus.Registry) *http.Server {
	charged := chargedBy(bucket, table)
	registry.MustRegister(&usageMetrics{stores: charged, topics: engine.Usage}, replicaMetrics{engine.Replicas}, groupMetrics{engine.GroupUsage},
		queueMetrics{engine.QueueUsage, engine.DeadLetterUsage})
	return rpc.NewServer(rpc.New(rpc.Config{Version: readVersion().Version, MemoryBytesMax: int64(env.config.MemoryBytesMax), Logger: env.newLogger(), Usage: charged}, rpc.FromAgent(engine)))
}

// serve runs engine and server until ctx ends or one of them fails.
func (env *environment) serve(ctx context.Context, b broker) error {
	running, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	engineDone, serverDone := make(chan error, 1), make(chan error, 1+peerFailures)
	if b.peers != nil {
		b.peers.serve(b.engine, serverDone)
		defer b.peers.stop() // behind the engine, which has hand-offs to offer and other agents' proposals to answer
	}
	go func() { engineDone <- b.engine.Run(running) }()
	serve := func() error {
		go func() {
			serverDone <- &terminalError{op: "serve", object: b.listener.Addr().String(), cause: b.server.Serve(b.listener)}
		}()
		return b.checkAddresses(ctx)
	}

	if !b.embedded { // a start may last as long as a store is away: whoever asks learns why
		if err := serve(); err != nil {
			return errors.Join(err, b.stop(0, env.config.StopTimeout, stopEngine, engineDone))
		}
	}
	switch err := b.awaitReady(ctx, engineDone); {
	case err != nil && ctx.Err() != nil:
		return errors.Join(ctx.Err(), b.stop(0, env.config.StopTimeout, stopEngine, engineDone))
	case err != nil:
		stopEngine()
		b.server.Close()
		return b.explain(err)
	}
	if b.embedded {
		if err := serve(); err != nil {
			return errors.Join(err, b.stop(0, env.config.StopTimeout, stopEngine, engineDone))
		}
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
	case failed = <-serverDone:
	}
	return errors.Join(b.stop(b.stopDelay, env.config.StopTimeout, stopEngine, engineDone), ignoreCanceled(failed))
}

// checkAddresses tries what others are told of where this agent is.
func (b broker) checkAddresses(ctx context.Context) error {
	if b.peers != nil {
		if err := b.peers.check(ctx, b.engine); err != nil {
			return err
		}
	}
	if b.address != nil {
		return b.address(ctx)
	}
	return nil
}

// stop lets go in the order that loses nothing: load balancers learn that nothing more should come, and for the delay what comes all the same is
// served; then no new work, what is under way is answered, and the engine flushes and hands on what it holds.
func (b broker) stop(delay, timeout time.Duration, stopEngine func(), engineDone <-chan error) error {
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
	select {
	case <-time.After(delay):
	case <-deadline.Done():
	}
	// A part of the time only: a client that sends its request slowly must not take the engine's.
	answered, cancelAnswered := context.WithTimeout(deadline, (timeout-delay)/3)
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

// listen takes the address that the flag names.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &terminalError{op: "listen on", object: address, cause: errors.New("another process has this port"),
			hint: "stop it, or choose another with " + flag}
	case errors.Is(err, syscall.EACCES):
		return nil, &terminalError{op: "listen on", object: address, cause: errors.New("permission denied"), hint: "ports below 1024 need root"}
	case err != nil:
		return nil, &terminalError{op: "listen on", object: address, cause: err}
	}
	return l, nil
}
