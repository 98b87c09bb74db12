package main

import (
	"context"
	"errors"
	"fmt"
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
its own and may be stopped or killed at any time. Run as many as you like behind a load balancer: each of them serves every
request, and what one of them led goes on at another within seconds. Make the cluster first: splashdam cluster init.

Agents speak to each other at --peer-listen; --advertise-peer and --advertise-client say how others reach this one where the
machine's own addresses do not do. Both are tried at start.

Credentials come from where the AWS tools look: the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), the shared
credentials file, or the role of the machine or container. --bucket and --table may be embedded (file://, bolt://); a bolt
table serves one agent.

Once its stores are found fit the agent answers before it is ready: GET /readyz says what it waits for. An agent that is ready
serves everything. SIGTERM and SIGINT stop it gracefully: /readyz fails at once, --stop-delay later it takes no more requests,
answers those under way and hands on what it leads. A second signal stops it at once.`,
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
	var others *peers
	if c.usesPeers() {
		if others, err = c.listenToPeers(); err != nil {
			return err
		}
		defer others.listener.Close()
	}

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
	cfg.ClientAddress, cfg.Zone = advertised(c.AdvertiseClient, listener.Addr()), c.Zone
	if others != nil {
		cfg.PeerAddress, cfg.Dial = advertised(c.AdvertisePeer, others.listener.Addr()), others.dial
	}
	engine, err := agent.Open(opening, cfg, stores.bucket, stores.table)
	switch {
	case errors.Is(err, agent.ErrNoCluster):
		return &terminalError{op: "start agent", object: c.Table, cause: agent.ErrNoCluster,
			hint: "make one: splashdam cluster init --bucket ADDRESS --table ADDRESS; or correct --table"}
	case err != nil:
		return err
	}
	var address func(context.Context) error
	if c.AdvertiseClient != "" {
		address = func(ctx context.Context) error {
			return env.checkClientAddress(ctx, c.AdvertiseClient, engine.Identity().Cluster.String())
		}
	}
	return env.serve(ctx, broker{
		peers: others, address: address, stopDelay: c.stopDelay(),
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
