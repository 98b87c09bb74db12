package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newDiscard(env *environment) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "discard TOPIC PARTITION/OFFSET... | --all",
		Short: "Let dead letters count no more",
		Long: `Discard ends dead letters that nobody needs: those that are named, or with --all those that failed before it began. Their records stay in the
topic's log as long as its retention keeps them.`,
		Example: `  splashdam dlq discard jobs-dlq 0/17 0/18
  splashdam dlq discard jobs-dlq --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			only, err := deadLettersNamed("dlq discard", args, all)
			if err != nil {
				return err
			}
			return env.discard(cmd.Context(), args[0], only)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that failed before now")
	return cmd
}

// discardView is what was discarded.
type discardView struct {
	Topic     string              `json:"topic"`
	Discarded int64               `json:"discarded"`
	Refused   []refusedLetterView `json:"refused"`
}

func (env *environment) discard(ctx context.Context, topic string, only []client.DeadLetterPosition) error {
	return env.withClient(func(c *client.Client) error {
		p := newProgress("discarded")
		p.total = int64(len(only))
		stop := p.show(ctx, env.err)
		v, err := discardAll(ctx, c, topic, only, p)
		stop()
		if err != nil {
			return err
		}
		if err := env.print(&v, func() {
			if v.Discarded > 0 || len(v.Refused) == 0 {
				fmt.Fprintf(env.out, "discarded %s of %s\n", counted(v.Discarded, "dead letter"), topic)
			}
		}); err != nil {
			return err
		}
		return refusedError("discard", topic, v.Refused)
	})
}

// discardAll discards those that are named; none: all that failed before now.
func discardAll(ctx context.Context, c *client.Client, topic string, only []client.DeadLetterPosition, p *progress) (discardView, error) {
	v := discardView{Topic: topic, Refused: []refusedLetterView{}}
	r := client.DiscardRequest{Topic: topic, MaxRecords: positionsMax}
	all := len(only) == 0
	if all {
		r.FailedBefore = time.Now()
	}
	for {
		n := min(len(only), positionsMax)
		r.Only, only = only[:n], only[n:]
		done, err := c.Discard(ctx, r)
		if err != nil {
			return v, err
		}
		v.Discarded += done.Discarded
		p.add(done.Discarded, 0)
		for _, at := range done.Refused {
			v.Refused = append(v.Refused, refusedLetterView{int32(at.Partition), int64(at.Offset), "it is no dead letter any more"})
		}
		if all && (done.Remaining == 0 || done.Discarded == 0) || !all && len(only) == 0 {
			return v, nil
		}
	}
}
