package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// queueConsumeOptions are the flags of queue consume.
type queueConsumeOptions struct {
	queueOptions
	command  string
	parallel int
	delay    time.Duration
	drain    bool
	printing consumeOptions // its count, format and separator
}

func newQueueConsume(env *environment) *cobra.Command {
	var o queueConsumeOptions
	cmd := &cobra.Command{
		Use:   "consume TOPIC --group GROUP",
		Short: "Process the records of a queue: with a command, or by printing them",
		Long: `Consume pulls records and accepts those that are processed, until it is interrupted; with --drain until nothing is left that is not
finished. Any number of these may run for one queue. Without --exec it prints records, and accepts what is printed.

With --exec ` + executeHelp + `
Exit code 0 accepts the record, 65 rejects it, any other releases it to come again behind --delay; the last line of its standard error goes
with it to the dead letters. 126 and 127, which say that there is nothing to run, end the consuming, too. Locks are extended while commands
run. A first Ctrl-C or SIGTERM begins nothing more and gives commands 10 s to end, a second one ends at once.

-o json prints one object a line: records, or with --exec what became of each (the commands' output is on stderr then).`,
		Example: `  splashdam queue consume jobs --group workers --exec ./process.sh --parallel 8
  splashdam queue consume jobs --group workers --exec 'curl -sf --data-binary @- http://localhost:8080/jobs' --max-deliveries 10 --delay 30s
  splashdam queue consume jobs --group workers -n 10`,
		Args: oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if env.output == "json" && !cmd.Flags().Changed("format") {
				o.printing.format = "json"
			}
			cfg, err := o.check(args[0], cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return env.consumeQueue(cmd.Context(), cfg, o)
		},
	}
	f := cmd.Flags()
	o.addFlags(f)
	f.StringVar(&o.command, "exec", "", "run this for each record")
	f.IntVar(&o.parallel, "parallel", 1, "how many commands run together, 1 to 1000; with --exec")
	f.DurationVar(&o.delay, "delay", 0, "what a record on which the command failed waits before it comes again, at most 12h; with --exec")
	f.BoolVar(&o.drain, "drain", false, "end when all records that are there are finished")
	f.Int64VarP(&o.printing.count, "count", "n", 0, "stop after so many records; 0: no limit; without --exec")
	f.StringVar(&o.printing.format, "format", "line", "line, key-value or json; without --exec")
	f.StringVar(&o.printing.separator, "key-separator", ":", "what key-value puts between the two")
	return cmd
}

// check refuses what does not go together, and answers what the rest asks for.
func (o queueConsumeOptions) check(topic string, given func(flag string) bool) (client.QueueConfig, error) {
	const verb = "queue consume"
	cfg, err := o.config(verb, topic)
	if err != nil {
		return cfg, err
	}
	cfg.Handlers, cfg.ReleaseDelay = o.parallel, o.delay
	with, wanted := []string{"count", "format", "key-separator"}, "no --exec"
	if o.command == "" {
		with, wanted = []string{"parallel", "delay"}, "--exec"
	}
	for _, name := range with {
		if given(name) {
			return cfg, usageError("%s: --%s: want %s with it", verb, name, wanted)
		}
	}
	switch {
	case o.parallel < 1:
		return cfg, usageError("%s: --parallel %d: want 1 to 1000", verb, o.parallel)
	case o.printing.count < 0:
		return cfg, usageError("%s: --count %d: want 0 or more", verb, o.printing.count)
	case o.command != "":
		// A command may take long: what waits for it here could be with others.
		cfg.MaxRecords = min(o.parallel, 100)
	}
	return cfg, nil
}

func (env *environment) consumeQueue(ctx context.Context, cfg client.QueueConfig, o queueConsumeOptions) error {
	write, err := o.printing.writer()
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return usageError("queue consume: %w", err)
	}
	return env.withClient(func(c *client.Client) error {
		working, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		var watching sync.WaitGroup
		defer watching.Wait()
		if o.drain {
			watching.Go(func() { stop(awaitDrained(working, c, cfg)) })
		}
		var err error
		if o.command != "" {
			err = env.executeQueue(working, stop, c, cfg, o)
		} else {
			err = env.printQueue(working, c, cfg, o.printing.count, write)
		}
		stop(err)
		switch cause := context.Cause(working); {
		case ctx.Err() != nil:
			return firstError(withoutCanceled(err), ctx.Err())
		case errors.Is(cause, errDrained):
			return withoutCanceled(err)
		default:
			return firstError(withoutCanceled(err), withoutCanceled(cause))
		}
	})
}

// withoutCanceled is nil for the error of a call that ended since it was told to.
func withoutCanceled(err error) error {
	if errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrUnknownOutcome) {
		return nil
	}
	return err
}

var errDrained = errors.New("nothing is left")

// drainedEvery is how often a queue is asked whether something is left.
const drainedEvery = 500 * time.Millisecond

// awaitDrained answers errDrained when all records of the queue are finished.
func awaitDrained(ctx context.Context, c *client.Client, cfg client.QueueConfig) error {
	tick := time.NewTicker(drainedEvery)
	defer tick.Stop()
	for {
		s, err := c.QueueStatus(ctx, cfg.Group, cfg.Topic)
		if err != nil {
			return err
		}
		if viewQueue(cfg.Group, cfg.Topic, s).Lag == 0 {
			return errDrained
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// acceptTimeout is for what is printed and not accepted yet, while the user waits for the end.
const acceptTimeout = 10 * time.Second

// printQueue prints records and accepts them until ctx ends or there are enough; 0: there is no limit.
func (env *environment) printQueue(ctx context.Context, c *client.Client, cfg client.QueueConfig, limit int64, write func(*bufio.Writer, *client.Record, int64) error) error {
	p, stop := env.showConsumed(ctx)
	defer stop()
	out := bufio.NewWriterSize(env.out, 1<<18)
	for {
		if limit > 0 {
			cfg.MaxRecords = int(min(limit, 100))
		}
		q, err := c.NewQueue(cfg)
		if err != nil {
			return err
		}
		records, err := q.Pull(ctx)
		for _, r := range records {
			if err := write(out, &r.Record, 0); err != nil {
				return err
			}
			p.add(1, int64(len(r.Key)+len(r.Value)))
		}
		if err = firstError(err, out.Flush()); err != nil { // only what is printed counts as processed
			return err
		}
		if err := env.acceptPrinted(ctx, q, records); err != nil {
			return err
		}
		if limit -= int64(len(records)); limit == 0 && len(records) > 0 {
			return nil
		}
	}
}

func (env *environment) acceptPrinted(ctx context.Context, q *client.Queue, records []*client.QueuedRecord) error {
	defer q.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), acceptTimeout)
	defer cancel()
	err := q.Accept(ctx, records...)
	late := 0
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range all.Unwrap() {
			if !errors.Is(e, client.ErrNotLocked) {
				return fmt.Errorf("accept what was printed: %w", err)
			}
			late++
		}
	}
	if late > 0 {
		fmt.Fprintf(env.err, "%s printed too late: their locks had ended, so they come again\n", counted(int64(late), "record"))
	}
	return nil
}
