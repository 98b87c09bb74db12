package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/agent"
)

func newCluster(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Make a cluster in a bucket and a table, or see how one is",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClusterInit(env), newClusterStatus(env))
	return cmd
}

// clusterInit is what init makes.
type clusterInit struct {
	shards, slots int
	createBucket  bool
}

func newClusterInit(env *environment) *cobra.Command {
	var init clusterInit
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a cluster; one that is there already is left as it is",
		Long: `Init makes a cluster whose objects are in --bucket and whose log is in --table. The table is made if it is absent: on
demand, with deletion protection and point-in-time recovery where the engine has them. The bucket must be there, unless
--create-bucket is given. Bucket and table are tested first.

It may be repeated: what was cut off is gone on with, and a cluster that is complete is left as it is (exit code 0). A
bucket and a table that do not belong together are refused, and so is a second cluster in one prefix of a bucket.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := agent.Config{Shards: init.shards, Slots: init.slots}
			if err := cfg.Validate(); err != nil || init.shards < 1 || init.slots < 64 {
				return usageError("cluster init: --shards %d, --slots %d: want 1 to 1024 and 64 to 65536", init.shards, init.slots)
			}
			// What was not asked for is as the cluster has it, if it is there already.
			if !cmd.Flags().Changed("shards") {
				cfg.Shards = 0
			}
			if !cmd.Flags().Changed("slots") {
				cfg.Slots = 0
			}
			return env.initCluster(cmd.Context(), cfg, init.createBucket)
		},
	}
	addSettings(cmd, "cluster")
	cmd.Flags().IntVar(&init.shards, "shards", 4, "shards of the cluster, 1 to 1024, for good: each has a leader; 16 for a GiB/s")
	cmd.Flags().IntVar(&init.slots, "slots", 4096, "log entries that a shard keeps in the table, 64 to 65536, for good")
	cmd.Flags().BoolVar(&init.createBucket, "create-bucket", false, "make the bucket if it is absent")
	return cmd
}

// initTimeout is for 1,024 shards on a table that takes 4,000 units a second, and throttles all the while.
const initTimeout = time.Hour

func (env *environment) initCluster(ctx context.Context, cfg agent.Config, createBucket bool) error {
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	bucket, table, err := env.openStores(ctx)
	if err != nil {
		return err
	}
	defer table.close()
	if createBucket && bucket.remote != nil {
		if err := bucket.remote.Create(ctx); err != nil {
			return err
		}
	}
	var warnings []string
	if table.remote != nil {
		if warnings, err = table.remote.Create(ctx); err != nil {
			return err
		}
	}
	if cfg.TableID, err = checkStores(ctx, bucket, table); err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintf(env.err, "splashdam: warning: %s\n", w)
	}
	stores := decorate(bucket, table, newRegistry())
	cfg.Prefix = bucket.prefix
	id, made, err := agent.Create(ctx, cfg, stores.bucket, stores.table)
	if err != nil {
		return err
	}
	return env.print(struct {
		Cluster  string   `json:"cluster"`
		Made     bool     `json:"made"` // false: it was there
		Warnings []string `json:"warnings,omitempty"`
	}{id.String(), made, warnings}, func() {
		if made {
			fmt.Fprintf(env.out, "Made cluster %s.\n", id)
			return
		}
		fmt.Fprintf(env.out, "Cluster %s is there already.\n", id)
	})
}
