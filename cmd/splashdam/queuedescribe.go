package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newQueueDescribe(env *environment) *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use:   "describe TOPIC --group GROUP",
		Short: "Show how far a queue is, and what is in whose hands",
		Long: `Describe shows, for each partition, the offset below which nothing is handed out for the first time, the end of the log, and the records
that are not finished:

  lag       all of them, handed out or not
  locked    handed out, and neither acknowledged nor over time
  delayed   to be handed out again behind a delay
  released  to be handed out again
  failed    on their way to the dead-letter topic

"splashdam lag GROUP --queue TOPIC --watch" shows it again every second.`,
		Example: `  splashdam queue describe jobs --group workers`,
		Args:    oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if group == "" {
				return usageError("queue describe: --group is missing")
			}
			return env.withClient(func(c *client.Client) error {
				show, err := env.askQueue(cmd.Context(), c, group, args[0], false)
				if err != nil {
					return err
				}
				return show()
			})
		},
	}
	addGroupFlag(cmd.Flags(), &group)
	return cmd
}

// queueView is a queue as it is printed.
type queueView struct {
	Group           string               `json:"group"`
	Topic           string               `json:"topic"`
	MaxDeliveries   int                  `json:"max_deliveries"` // as the newest pull said; 0: there was none
	DeadLetterTopic string               `json:"dead_letter_topic"`
	Lag             int64                `json:"lag"`
	Locked          int64                `json:"locked"`
	Delayed         int64                `json:"delayed"`
	Released        int64                `json:"released"`
	Failed          int64                `json:"failed"`
	Partitions      []queuePartitionView `json:"partitions"`
	Problems        []problem            `json:"problems"`
}

type queuePartitionView struct {
	Partition int32      `json:"partition"`
	Next      *int64     `json:"next"` // null: the queue has had nothing of the partition
	End       int64      `json:"end"`
	Lag       int64      `json:"lag"`
	Locked    int64      `json:"locked"`
	Delayed   int64      `json:"delayed"`
	Released  int64      `json:"released"`
	Failed    int64      `json:"failed"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// askQueue asks how far a queue is.
func (env *environment) askQueue(ctx context.Context, c *client.Client, group, topic string, watched bool) (show func() error, err error) {
	s, err := c.QueueStatus(ctx, group, topic)
	if err != nil {
		return nil, err
	}
	v := viewQueue(group, topic, s)
	return func() error { return env.showQueue(v, watched) }, nil
}

func viewQueue(group, topic string, s client.QueueStatus) queueView {
	v := queueView{Group: group, Topic: topic, MaxDeliveries: s.MaxDeliveries, DeadLetterTopic: s.DeadLetterTopic, Partitions: []queuePartitionView{}}
	for _, p := range s.Partitions {
		view := queuePartitionView{Partition: int32(p.Partition), End: int64(p.HighWatermark), Lag: p.Lag, Locked: p.Locked, Delayed: p.Delayed, Released: p.Released, Failed: p.Failed}
		if p.Next != client.NoOffset {
			view.Next, view.LastUsed = new(int64(p.Next)), &p.LastUsed
		}
		v.Lag, v.Locked, v.Delayed, v.Released, v.Failed = v.Lag+p.Lag, v.Locked+p.Locked, v.Delayed+p.Delayed, v.Released+p.Released, v.Failed+p.Failed
		v.Partitions = append(v.Partitions, view)
	}
	v.Problems = v.problems()
	return v
}

// problems says what keeps a queue from getting on, and what to do.
func (v queueView) problems() []problem {
	found := []problem{}
	tell := func(what, do string) { found = append(found, problem{What: what, Do: do}) }
	switch {
	case v.MaxDeliveries == 0:
		tell(fmt.Sprintf("Nothing was pulled yet by group %s from %s", v.Group, v.Topic), "a queue begins with its first consumer, such as splashdam queue consume; or group and topic are spelled otherwise")
	case v.Lag > 0 && v.Locked == 0 && v.Failed < v.Lag:
		tell("Nobody works on it", "no record is locked: start consumers, if its records are to be processed now")
	}
	if v.Failed > 0 {
		tell(counted(v.Failed, "record")+" on the way to "+v.DeadLetterTopic, "they arrive within seconds; if they do not, see that the topic is there and takes them (splashdam topic list), and splashdam cluster status")
	}
	return found
}

func (env *environment) showQueue(v queueView, watched bool) error {
	return env.print(&v, func() {
		fmt.Fprintf(env.out, "queue %s on %s: lag %s, %s locked, %s to come again, %s failed\n", v.Group, v.Topic,
			humanCount(v.Lag), humanCount(v.Locked), humanCount(v.Delayed+v.Released), humanCount(v.Failed))
		if v.MaxDeliveries > 0 {
			fmt.Fprintf(env.out, "a record goes to %s when delivery %d fails\n", v.DeadLetterTopic, v.MaxDeliveries)
		}
		var rows [][]string
		var lags []int64
		for _, p := range v.Partitions {
			next, used := "-", "-"
			if p.Next != nil {
				next, used = fmt.Sprint(*p.Next), p.LastUsed.UTC().Format(time.RFC3339)
			}
			rows = append(rows, []string{fmt.Sprint(p.Partition), next, fmt.Sprint(p.End), fmt.Sprint(p.Lag), fmt.Sprint(p.Locked), fmt.Sprint(p.Delayed),
				fmt.Sprint(p.Released), fmt.Sprint(p.Failed), used})
			lags = append(lags, p.Lag)
		}
		env.lagTable([]string{"PARTITION", "NEXT", "END", "LAG", "LOCKED", "DELAYED", "RELEASED", "FAILED", "LAST USED"}, rows, lags, watched, "partition")
		env.showProblems(v.Problems)
	})
}
