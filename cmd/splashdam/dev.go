package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/agent/rpc"
	"github.com/splashdam/splashdam/metadata/shardlog"
)

func newDev(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole broker on this machine, its data in one folder",
		Long: `Dev runs a whole broker in one process: the same engine as in a cluster, on a folder instead of an object store and
a table. What it has acknowledged survives restarts and kill -9. It listens on loopback and knows no users: who can
reach the address can read and write.

SIGTERM and SIGINT stop it gracefully; a second one stops it at once.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return env.dev(cmd.Context()) },
	}
	addSettings(cmd, "dev")
	return cmd
}

// dev serves until ctx ends, then stops gracefully.
func (env *environment) dev(ctx context.Context) error {
	started := time.Now()
	c := env.config
	// The port first: a second broker started by mistake must not get as far as the data.
	listener, err := listen(c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	registry := newRegistry()
	stopMetrics, err := serveMetrics(c.MetricsListen, registry)
	if err != nil {
		return err
	}
	defer stopMetrics()
	stores, err := openStores(c.Data, registry)
	if err != nil {
		return err
	}
	defer stores.close()

	engine, err := agent.Open(ctx, agent.Config{
		Version:         readVersion().Version,
		ClientAddress:   listener.Addr().String(),
		Shards:          1,
		ExclusiveTable:  true,
		FlushFreely:     true,
		BufferBytesMax:  int64(c.BufferBytesMax),
		SegmentBytesMax: int64(c.SegmentBytesMax),
		BlockCacheBytes: int64(c.BlockCacheBytes),
		AutoCreate:      c.AutoCreate,
		AutoPartitions:  int32(c.AutoPartitions),
	}, stores.bucket, stores.table)
	if err != nil {
		return explainData(c.Data, err)
	}
	server := rpc.NewServer(rpc.New(rpc.Config{Version: readVersion().Version, MemoryBytesMax: int64(c.MemoryBytesMax), Logger: env.newLogger()}, rpc.FromAgent(engine)))
	return env.serve(ctx, listener, engine, server, stores.failure, started)
}

// serve runs engine and server until ctx ends or one of them fails.
func (env *environment) serve(ctx context.Context, listener net.Listener, engine *agent.Agent, server *http.Server, failure *readFailure, started time.Time) error {
	running, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	engineDone, serverDone := make(chan error, 1), make(chan error, 1)
	go func() { engineDone <- engine.Run(running) }()

	if err := awaitReady(ctx, engine, engineDone, failure); err != nil {
		stopEngine()
		return explainData(env.config.Data, err)
	}
	go func() { serverDone <- server.Serve(listener) }()
	env.greet(listener.Addr().String(), time.Since(started))

	var failed error
	select {
	case <-ctx.Done():
		failed = ctx.Err()
	case err := <-engineDone:
		server.Close()
		return explainData(env.config.Data, fmt.Errorf("the broker stopped: %w", err))
	case <-failure.stopped:
		// Nothing can be committed any more, nor handed on. What is under way ends like the connections: its outcome is unknown.
		server.Close()
		return explainData(env.config.Data, fmt.Errorf("the broker stopped: %w", failure.latest()))
	case err := <-serverDone:
		failed = &terminalError{op: "serve", object: listener.Addr().String(), cause: err}
	}
	return errors.Join(env.stop(engine, server, stopEngine, engineDone), ignoreCanceled(failed))
}

// stop lets go in the order that loses nothing: no new work, what is under way is answered, then the engine flushes and
// hands on what it holds.
func (env *environment) stop(engine *agent.Agent, server *http.Server, stopEngine func(), engineDone <-chan error) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	deadline, cancel := context.WithTimeout(context.Background(), env.config.StopTimeout)
	defer cancel()
	go func() {
		select {
		case <-again:
			cancel()
		case <-deadline.Done():
		}
	}()

	engine.Drain()
	// Half of the time at most: a client that sends its request slowly must not take the engine's part.
	answered, cancelAnswered := context.WithTimeout(deadline, env.config.StopTimeout/2)
	defer cancelAnswered()
	if err := server.Shutdown(answered); err != nil {
		server.Close()
	}
	stopEngine()
	select {
	case err := <-engineDone:
		if err = ignoreCanceled(err); err != nil {
			return explainData(env.config.Data, fmt.Errorf("stop: %w", err))
		}
		return nil
	case <-deadline.Done():
		return &terminalError{op: "stop", object: env.config.Data, cause: errors.New("not done in time"),
			hint: "nothing acknowledged is lost; what was under way may or may not be written"}
	}
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// awaitReady waits until the engine can serve. A shard that halted on damaged state never will, nor will one whose state
// can't be read: neither is waited for.
func awaitReady(ctx context.Context, engine *agent.Agent, engineDone <-chan error, failure *readFailure) error {
	poll, patience := time.NewTicker(time.Millisecond), time.After(startPatience)
	defer poll.Stop()
	for {
		err := engine.Ready()
		if err == nil || errors.Is(err, shardlog.ErrHalted) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-engineDone:
			return fmt.Errorf("start: %w", err)
		case <-patience:
			if damage := failure.latest(); damage != nil {
				return damage
			}
			patience = time.After(startPatience)
		case <-poll.C:
		}
	}
}

// startPatience is far more than a start takes.
const startPatience = 2 * time.Second

// greet says where the broker is and what to try next.
func (env *environment) greet(address string, after time.Duration) {
	ready := struct {
		Address string  `json:"address"`
		Data    string  `json:"data"`
		PID     int     `json:"pid"`
		Seconds float64 `json:"seconds"` // until ready
	}{address, env.config.Data, os.Getpid(), after.Seconds()}
	_ = env.print(ready, func() {
		flag := ""
		if address != settingDefault("server") {
			flag = " --server " + address
		}
		fmt.Fprintf(env.out, "Splashdam is ready at http://%s after %d ms. Its data is in %s.\n", address, after.Milliseconds(), env.config.Data)
		fmt.Fprintf(env.out, "Try, in another terminal:\n")
		fmt.Fprintf(env.out, "  splashdam topic create matches --partitions 3%s\n", flag)
		fmt.Fprintf(env.out, "  echo 'bra-arg:{\"goal\":\"Messi\",\"minute\":23}' | splashdam produce matches --key-separator :%s\n", flag)
	})
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
