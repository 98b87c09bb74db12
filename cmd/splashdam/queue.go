package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/splashdam/splashdam/client"
)

func newQueue(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Work on the records of a topic one by one: any number of consumers, retries, dead letters",
		Long: `A queue is a group whose consumers share the records of a topic themselves, not its partitions: any number of them works in parallel. A
record is locked when it is handed out, and finished when it is accepted. When its lock ends, or it is released, it is handed out again;
behind the last delivery, or when it is rejected, it goes to the dead-letter topic, see splashdam dlq. A queue begins with its first pull.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "queue")
	cmd.AddCommand(newQueueConsume(env), newQueuePull(env), newQueueAck(env), newQueueDescribe(env))
	return cmd
}

// queueOptions are the flags of the verbs that pull.
type queueOptions struct {
	group, from, deadLetters string
	lock                     time.Duration
	deliveries               int
}

// addGroupFlag adds the flag that names the queue of a topic.
func addGroupFlag(f *pflag.FlagSet, group *string) {
	f.StringVar(group, "group", "", "the queue's group; required")
}

func (o *queueOptions) addFlags(f *pflag.FlagSet) {
	addGroupFlag(f, &o.group)
	f.StringVar(&o.from, "from", "earliest", "where the queue begins in partitions that it has had nothing of: earliest, latest, a time, or -N")
	f.DurationVar(&o.lock, "lock-time", 30*time.Second, "how long a record is this consumer's, 1s to 12h")
	f.IntVar(&o.deliveries, "max-deliveries", 5, "how often a record is handed out before it is a dead letter, 1 to 1000")
	f.StringVar(&o.deadLetters, "dead-letter-topic", "", `where dead letters go; made when it is needed (default TOPIC with "-dlq" behind it)`)
}

// config is what the flags ask for.
func (o queueOptions) config(verb, topic string) (client.QueueConfig, error) {
	if o.group == "" {
		return client.QueueConfig{}, usageError("%s: --group is missing", verb)
	}
	start, at, err := parseStart(o.from)
	if err == nil && at != client.NoOffset {
		err = fmt.Errorf("%q: want earliest, latest, a time, or -N", o.from)
	}
	if err != nil {
		return client.QueueConfig{}, usageError("%s: --from %w", verb, err)
	}
	return client.QueueConfig{Group: o.group, Topic: topic, Start: start, LockTime: o.lock, MaxDeliveries: o.deliveries, DeadLetterTopic: o.deadLetters}, nil
}

// withQueue runs f with a consumer of a queue that is closed afterwards.
func (env *environment) withQueue(verb string, cfg client.QueueConfig, f func(*client.Client, *client.Queue) error) error {
	if err := cfg.Validate(); err != nil {
		return usageError("%s: %w", verb, err)
	}
	return env.withClient(func(c *client.Client) error {
		q, err := c.NewQueue(cfg)
		if err != nil {
			return err
		}
		defer q.Close()
		return f(c, q)
	})
}

// cellRunes is how much of a key or value a table shows.
const cellRunes = 60

// cellText is a key or value in a table: on one line, and cut.
func cellText(b []byte) string {
	switch {
	case b == nil:
		return "-"
	case !utf8.Valid(b) || strings.ContainsFunc(string(b), unicode.IsControl):
		b = strconv.AppendQuote(nil, string(b[:min(len(b), utf8.UTFMax*cellRunes)]))
	}
	runes := []rune(string(b[:min(len(b), utf8.UTFMax*(cellRunes+1))]))
	if len(runes) > cellRunes {
		return string(runes[:cellRunes]) + "…"
	}
	return string(runes)
}
