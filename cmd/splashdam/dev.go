package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/agent"
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
	env.config.StopDelay = 0 // nobody balances load before it
	c := env.config
	listener, registry, closeBoth, err := env.open()
	if err != nil {
		return err
	}
	defer closeBoth()
	bucket, table, err := openDataFolder(c.Data)
	if err != nil {
		return explainData(c.Data, err)
	}
	defer table.close()
	stores := decorate(bucket, table, registry)

	cfg := c.engine()
	cfg.ClientAddress, cfg.Shards, cfg.ExclusiveTable, cfg.FlushFreely = listener.Addr().String(), 1, true, true
	engine, err := agent.Open(ctx, cfg, stores.bucket, stores.table)
	if err != nil {
		return explainData(c.Data, err)
	}
	return env.serve(ctx, broker{
		listener: listener, engine: engine, server: env.newServer(engine, bucket, table, registry), failure: stores.failure, embedded: true, started: started,
		name: c.Data, explain: func(err error) error { return explainData(c.Data, err) },
		greet: func(after time.Duration) { env.greetDev(listener.Addr().String(), after) },
	})
}

// greetDev says where the broker is and what to try next.
func (env *environment) greetDev(address string, after time.Duration) {
	ready := struct {
		Address string  `json:"address"`
		Data    string  `json:"data"`
		PID     int     `json:"pid"`
		Seconds float64 `json:"seconds"` // until ready
	}{address, env.config.Data, os.Getpid(), after.Seconds()}
	_ = env.print(ready, func() {
		fmt.Fprintf(env.out, "Splashdam is ready at http://%s after %d ms. Its data is in %s.\n", address, after.Milliseconds(), env.config.Data)
		env.suggest(address)
	})
}
