// Command splashdam is the broker and its tools in one binary: dev runs a whole broker on this machine, agent one process of
// a cluster, the other verbs speak to a running one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, as the help of the root command documents them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // a flag, argument or setting is wrong; nothing was attempted
	exitUnknown     = 3   // the outcome is unknown: records may or may not be written
	exitInterrupted = 130 // SIGINT or SIGTERM ended a verb that had more to do
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends a verb that waits for what is under way
	env := &environment{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.Environ}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// environment is all that a verb knows of the process it runs in; tests supply their own.
type environment struct {
	in     io.Reader
	out    io.Writer // results
	err    io.Writer // progress and errors
	lookup func() []string

	output string // text or json
	config Config // complete before a verb runs
}

// run executes one command line and answers the exit code.
func run(ctx context.Context, env *environment, args []string) int {
	root := newRoot(env)
	root.SetArgs(args)
	root.SetIn(env.in)
	root.SetOut(env.out)
	root.SetErr(env.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitInterrupted
	}
	line, code := describe(err)
	fmt.Fprintln(env.err, line)
	return code
}

func newRoot(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "splashdam",
		Short: "An event-streaming broker that keeps its records in object storage",
		Long: `Splashdam is an event-streaming broker: topics, partitions, offsets, as in Kafka. Records live in an object
store, order and metadata in one table. "splashdam dev" runs all of it on this machine, "splashdam agent" one process
of a cluster.

Every flag that the configuration table of the README lists can also be set by an environment variable (SPLASHDAM_
and the name in upper case) or in the YAML file named by --config. Flags win over the environment, the environment
over the file.

Exit codes: 0 done, 1 failed, 2 wrong flag, argument or setting, 3 outcome unknown (records may or may not be
written), 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if env.output != "text" && env.output != "json" {
				return usageError("set --output %q: want text or json", env.output)
			}
			return env.config.read(cmd, env.lookup())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError("%w", err) })
	root.PersistentFlags().StringVarP(&env.output, "output", "o", "text", "how results are printed: text or json")
	root.PersistentFlags().String("config", "", "YAML file with settings")
	root.AddCommand(newDev(env), newAgent(env), newCluster(env), newTopic(env), newProduce(env), newConsume(env), newOffsets(env),
		newGroup(env), newLag(env), newQueue(env), newDeadLetters(env), newBench(env), newCost(env), newSegment(env), newShard(env), newVersion(env))
	return root
}
