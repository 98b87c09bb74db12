package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/agent"
)

func newAgent(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run one agent of a cluster",
		Long: `Agent runs one broker process of a cluster whose objects are in --bucket and whose log is in --table. It keeps nothing of
its own and may be stopped or killed at any time. One agent leads; others of the same cluster stand by, not ready, and one of
them takes over when it is gone. Make the cluster first: splashdam cluster init.

Credentials come from where the AWS tools look: the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the shared
credentials file, or the role of the machine or container. --bucket and --table may be embedded (file://, bolt://); a bolt
table serves one agent.

Once its stores are found fit the agent serves before it is ready: GET /readyz says what it waits for. SIGTERM and SIGINT stop it gracefully; a second one
stops it at once.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return env.agent(cmd.Context()) },
	}
	addSettings(cmd, "agent")
	return cmd
}

// openTimeout bounds what an agent does before it runs: a store that does not answer by then is a reason to say so and end.
const openTimeout = time.Minute

// agent serves until ctx ends, then stops gracefully.
func (env *environment) agent(ctx context.Context) error {
	started := time.Now()
	c := env.config
	listener, registry, closeBoth, err := env.open()
	if err != nil {
		return err
	}
	defer closeBoth()

	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	bucket, table, err := env.openStores(opening)
	if err != nil {
		return err
	}
	defer table.close()
	cfg := c.engine()
	if cfg.TableID, err = checkStores(opening, bucket, table); err != nil {
		return err
	}
	stores := decorate(bucket, table, registry)
	cfg.Prefix, cfg.ExclusiveTable, cfg.FlushRate, cfg.JoinOnly = bucket.prefix, table.remote == nil, c.FlushRate, true
	cfg.Host, _ = os.Hostname() // without a name an agent is like any other that has none
	cfg.ClientAddress, cfg.PeerAddress, cfg.Zone = advertised(c.AdvertiseClient, listener.Addr()), advertised(c.AdvertisePeer, listener.Addr()), c.Zone
	engine, err := agent.Open(opening, cfg, stores.bucket, stores.table)
	switch {
	case errors.Is(err, agent.ErrNoCluster):
		return &terminalError{op: "start agent", object: c.Table, cause: agent.ErrNoCluster,
			hint: "make one: splashdam cluster init --bucket ADDRESS --table ADDRESS; or correct --table"}
	case err != nil:
		return err
	}
	return env.serve(ctx, broker{
		listener: listener, engine: engine, server: env.newServer(engine, bucket, table, registry), failure: stores.failure,
		embedded: bucket.remote == nil && table.remote == nil, started: started,
		name: "agent", explain: func(err error) error { return err },
		greet: func(after time.Duration) { env.greetAgent(cfg.ClientAddress, after) },
	})
}

// openStores opens what --bucket and --table name.
func (env *environment) openStores(ctx context.Context) (bucket bucketStore, table tableStore, err error) {
	c := env.config
	if c.Bucket == "" || c.Table == "" {
		return bucket, table, usageError("want --bucket and --table, such as --bucket s3://events --table dynamodb://events (for one process and one folder: splashdam dev)")
	}
	if bucket, err = openBucket(c.Bucket); err != nil {
		return bucket, table, err
	}
	table, err = openTable(ctx, c.Table)
	return bucket, table, err
}

// checkStores finds out whether the stores are fit for a cluster, both at once, and answers the table's own id.
func checkStores(ctx context.Context, bucket bucketStore, table tableStore) (tableID string, err error) {
	var (
		both sync.WaitGroup
		errs [2]error // both are told
	)
	if bucket.remote != nil {
		both.Go(func() { errs[0] = bucket.remote.Check(ctx, bucket.prefix) })
	}
	if table.remote != nil {
		both.Go(func() { tableID, errs[1] = table.remote.Check(ctx) })
	}
	both.Wait()
	return tableID, errors.Join(errs[:]...)
}

// advertised is the address that others are told: as it is set, else that of the listener.
func advertised(set string, listening net.Addr) string {
	if set != "" {
		return set
	}
	host, port, _ := net.SplitHostPort(listening.String())
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return listening.String()
	}
	if name, err := os.Hostname(); err == nil {
		host = name
	}
	return net.JoinHostPort(host, port)
}

// greetAgent says where the agent is.
func (env *environment) greetAgent(address string, after time.Duration) {
	ready := struct {
		Address string  `json:"address"`
		Bucket  string  `json:"bucket"`
		Table   string  `json:"table"`
		PID     int     `json:"pid"`
		Seconds float64 `json:"seconds"` // until ready
	}{address, env.config.Bucket, env.config.Table, os.Getpid(), after.Seconds()}
	_ = env.print(ready, func() {
		fmt.Fprintf(env.out, "Splashdam agent is ready at http://%s after %d ms.\n  bucket %s\n  table  %s\n", address, after.Milliseconds(), env.config.Bucket, env.config.Table)
		env.suggest(address)
	})
}
