package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// pullOptions are the flags of queue pull.
type pullOptions struct {
	queueOptions
	count int
	wait  time.Duration
}

func newQueuePull(env *environment) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:   "pull TOPIC --group GROUP",
		Short: "Lock the next records of a queue, and print them with their tokens",
		Long: `Pull locks records for --lock-time and prints them. Say what became of them with their tokens, splashdam queue ack; those of which nothing
is said come again when their locks end. -o json prints one object a line, with the whole record; the table cuts what is long.`,
		Example: `  splashdam queue pull jobs --group workers
  splashdam queue pull jobs --group workers -n 10 --wait 20s --lock-time 5m -o json`,
		Args: oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.pull(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	o.addFlags(f)
	f.IntVarP(&o.count, "count", "n", 1, "how many records at most, 1 to 2000")
	f.DurationVar(&o.wait, "wait", 0, "how long to wait for the first, at most 30s")
	return cmd
}

func (env *environment) pull(ctx context.Context, topic string, o pullOptions) error {
	const verb = "queue pull"
	cfg, err := o.config(verb, topic)
	if err != nil {
		return err
	}
	if o.count < 1 {
		return usageError("%s: --count %d: want 1 to 2000", verb, o.count)
	}
	cfg.MaxRecords, cfg.MaxWait = o.count, max(o.wait, time.Millisecond)
	return env.withQueue(verb, cfg, func(_ *client.Client, q *client.Queue) error {
		records, err := q.Pull(ctx)
		if err != nil {
			return err
		}
		return env.showPulled(records)
	})
}

// pulledView is a pulled record as JSON.
type pulledView struct {
	recordView
	Deliveries int32  `json:"deliveries"` // this one included
	Token      string `json:"token"`
}

func (env *environment) showPulled(records []*client.QueuedRecord) error {
	rows := [][]string{}
	for _, r := range records {
		v := pulledView{viewRecord(&r.Record), r.Deliveries, base64.StdEncoding.EncodeToString(r.Token())}
		if env.output == "json" {
			if err := printLine(env.out, v); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{fmt.Sprint(v.Partition), fmt.Sprint(v.Offset), fmt.Sprint(v.Deliveries), cellText(r.Key), cellText(r.Value), v.Token})
	}
	if env.output != "json" {
		env.table([]string{"PARTITION", "OFFSET", "DELIVERIES", "KEY", "VALUE", "TOKEN"}, rows)
	}
	return nil
}

// printLine writes v as one line of JSON.
func printLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
