package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newDeadLetters(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look after dead letters: records that consumers could not process",
		Long: `A record that consumers of a queue, or of a group with --retry, could not process is copied to a dead-letter topic: TOPIC-dlq, unless they name
another. There it is a dead letter until it is redriven or discarded. Verbs name a dead letter by its place in that topic, such as 0/17.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "dlq")
	cmd.AddCommand(newDeadLetterCount(env), newDeadLetterList(env), newDeadLetterShow(env), newRedrive(env), newDiscard(env))
	return cmd
}

// deadLetterCountView is a topic's dead letters as they are printed.
type deadLetterCountView struct {
	Topic       string `json:"topic"`
	DeadLetters int64  `json:"dead_letters"`
	Redriving   int64  `json:"redriving"` // of them
	Error       string `json:"error,omitempty"`
}

func newDeadLetterCount(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "count [TOPIC...]",
		Short: "Count dead letters: of these topics, or of all that were made for them",
		Example: `  splashdam dlq count
  splashdam dlq count jobs-dlq -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				counts, err := c.DeadLetterCounts(cmd.Context(), args...)
				if err != nil {
					return err
				}
				views, rows := []deadLetterCountView{}, [][]string{}
				var failed error
				for _, n := range counts {
					v := deadLetterCountView{Topic: n.Topic, DeadLetters: n.DeadLetters, Redriving: n.Redriving}
					row := []string{n.Topic, fmt.Sprint(n.DeadLetters), fmt.Sprint(n.Redriving)}
					if n.Err != nil {
						v.Error, row, failed = reasonOf(n.Err), []string{n.Topic, "-", "-"}, firstError(failed, n.Err)
					}
					views, rows = append(views, v), append(rows, row)
				}
				return firstError(env.print(views, func() { env.table([]string{"TOPIC", "DEAD LETTERS", "REDRIVING"}, rows) }), failed)
			})
		},
	}
}

// deadLetterView is a dead letter as JSON.
type deadLetterView struct {
	recordView
	Source       *placeView `json:"source,omitempty"` // absent: the record does not say it
	Group        string     `json:"group,omitempty"`
	Deliveries   int32      `json:"deliveries"`
	FirstFailure *time.Time `json:"first_failure,omitempty"`
	LastFailure  *time.Time `json:"last_failure,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	Error        string     `json:"error,omitempty"`
	Redriving    bool       `json:"redriving"`
}

type placeView struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

func viewDeadLetter(d *client.DeadLetter) deadLetterView {
	v := deadLetterView{recordView: viewRecord(&d.Record), Group: d.Group, Deliveries: d.Deliveries, Reason: d.Reason, Error: d.Error, Redriving: d.Redriving}
	if d.SourceTopic != "" {
		v.Source = &placeView{d.SourceTopic, int32(d.SourcePartition), int64(d.SourceOffset)}
	}
	for at, t := range map[**time.Time]time.Time{&v.FirstFailure: d.FirstFailure, &v.LastFailure: d.LastFailure} {
		if !t.IsZero() {
			*at = new(t.UTC())
		}
	}
	return v
}

// sourceText is where it was: jobs/0/17.
func (v deadLetterView) sourceText() string {
	if v.Source == nil {
		return "-"
	}
	return fmt.Sprintf("%s/%d/%d", v.Source.Topic, v.Source.Partition, v.Source.Offset)
}

func timeText(t *time.Time, layout string) string {
	if t == nil {
		return "-"
	}
	return t.Format(layout)
}

func newDeadLetterList(env *environment) *cobra.Command {
	var count int64
	cmd := &cobra.Command{
		Use:   "list TOPIC",
		Short: "List the dead letters of a topic: where they were, and what went wrong",
		Long: `List shows dead letters by partition and offset. REASON is expired (nobody acknowledged the record in time), released, rejected, or given-up (by
a group with --retry); ERROR is what the consumer said at last. -o json prints one object a line, with the whole record.`,
		Example: `  splashdam dlq list jobs-dlq
  splashdam dlq list jobs-dlq -n 0 -o json | jq -r .error | sort | uniq -c`,
		Args: oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return usageError("dlq list: --count %d: want 0 or more", count)
			}
			return env.listDeadLetters(cmd.Context(), args[0], count)
		},
	}
	cmd.Flags().Int64VarP(&count, "count", "n", 100, "how many at most; 0: all")
	return cmd
}

func (env *environment) listDeadLetters(ctx context.Context, topic string, limit int64) error {
	return env.withClient(func(c *client.Client) error {
		var rows [][]string
		more := false
		query := client.DeadLetterQuery{Topic: topic, Limit: 1000}
		for left := limit; ; {
			if limit > 0 {
				query.Limit = int(min(left, 1000))
			}
			page, err := c.DeadLetters(ctx, query)
			if err != nil {
				return err
			}
			for i := range page.DeadLetters {
				v := viewDeadLetter(&page.DeadLetters[i])
				if env.output == "json" {
					if err := printLine(env.out, v); err != nil {
						return err
					}
					continue
				}
				said := cellText([]byte(v.Error))
				if v.Redriving {
					said = "on its way to another topic"
				}
				rows = append(rows, []string{fmt.Sprintf("%d/%d", v.Partition, v.Offset), v.sourceText(), orNone(v.Group), fmt.Sprint(v.Deliveries),
					timeText(v.LastFailure, time.RFC3339), orNone(v.Reason), orNone(said)})
			}
			query.PageToken = page.NextPageToken
			left -= int64(len(page.DeadLetters))
			if more = query.PageToken != ""; !more || limit > 0 && left <= 0 {
				break
			}
		}
		if env.output == "json" {
			return nil
		}
		env.table([]string{"PLACE", "SOURCE", "GROUP", "DELIVERIES", "LAST FAILURE", "REASON", "ERROR"}, rows)
		if more {
			fmt.Fprintln(env.out, "and more: -n 0 shows all")
		}
		return nil
	})
}

func newDeadLetterShow(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "show TOPIC PARTITION/OFFSET...",
		Short:   "Show dead letters whole: the record, where it was, what went wrong",
		Example: `  splashdam dlq show jobs-dlq 0/17`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError("dlq show: %s is missing (see splashdam dlq show --help)", []string{"TOPIC", "PARTITION/OFFSET"}[len(args)])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			only, err := parsePositions("dlq show", args[1:])
			if err != nil {
				return err
			}
			return env.showDeadLetters(cmd.Context(), args[0], only)
		},
	}
}

// positionsMax is how many places an agent takes with one call.
const positionsMax = 1000

func (env *environment) showDeadLetters(ctx context.Context, topic string, only []client.DeadLetterPosition) error {
	if len(only) > positionsMax {
		return usageError("dlq show: %d places: want %d at most", len(only), positionsMax)
	}
	return env.withClient(func(c *client.Client) error {
		missing := map[client.DeadLetterPosition]bool{}
		for _, p := range only {
			missing[p] = true
		}
		for query := (client.DeadLetterQuery{Topic: topic, Only: only, Limit: positionsMax}); ; {
			page, err := c.DeadLetters(ctx, query)
			if err != nil {
				return err
			}
			for i := range page.DeadLetters {
				d := &page.DeadLetters[i]
				delete(missing, client.DeadLetterPosition{Partition: d.Partition, Offset: d.Offset})
				if err := env.showDeadLetter(viewDeadLetter(d)); err != nil {
					return err
				}
			}
			if query.PageToken = page.NextPageToken; query.PageToken == "" {
				break
			}
		}
		for _, p := range only {
			if missing[p] {
				return &terminalError{op: "show dead letter", object: fmt.Sprintf("%s/%d/%d", topic, p.Partition, p.Offset),
					cause: errors.New("it is none"), hint: "it was redriven, discarded or never there: see splashdam dlq list " + topic}
			}
		}
		return nil
	})
}

func (env *environment) showDeadLetter(v deadLetterView) error {
	if env.output == "json" {
		return printLine(env.out, v)
	}
	show := func(name, value string) { fmt.Fprintf(env.out, "%-15s%s\n", name, value) }
	place := fmt.Sprintf("%s/%d/%d", v.Topic, v.Partition, v.Offset)
	if v.Redriving {
		place += " (on its way to another topic)"
	}
	show("dead letter", place)
	show("source", v.sourceText())
	show("group", orNone(v.Group))
	show("deliveries", fmt.Sprint(v.Deliveries))
	show("first failure", timeText(v.FirstFailure, time.RFC3339Nano))
	show("last failure", timeText(v.LastFailure, time.RFC3339Nano))
	show("reason", orNone(v.Reason))
	show("error", orNone(v.Error))
	show("timestamp", v.Timestamp.Format(time.RFC3339Nano))
	for _, h := range v.Headers {
		if !strings.HasPrefix(h.Name, "splashdam-dlq-") { // the lines above are these
			show("header", h.Name+" = "+textOr(h.Value, h.ValueBase64))
		}
	}
	show("key", textOr(v.Key, v.KeyBase64))
	show("value", textOr(v.Value, v.ValueBase64))
	return nil
}

// textOr is what a record holds as text, else in base64; - for a null.
func textOr(text *string, raw []byte) string {
	switch {
	case text != nil:
		return *text
	case raw != nil:
		return fmt.Sprintf("%d bytes that are not text: -o json has them", len(raw))
	}
	return "-"
}

// parsePositions reads places such as 0/17; one that is there twice counts once.
func parsePositions(verb string, args []string) ([]client.DeadLetterPosition, error) {
	var all []client.DeadLetterPosition
	seen := map[client.DeadLetterPosition]bool{}
	for _, arg := range args {
		partition, offset, ok := strings.Cut(arg, "/")
		p, err1 := strconv.ParseInt(partition, 10, 32)
		o, err2 := strconv.ParseInt(offset, 10, 64)
		if !ok || err1 != nil || err2 != nil || p < 0 || o < 0 {
			return nil, usageError("%s: %q: want the place of a dead letter, such as 0/17", verb, arg)
		}
		at := client.DeadLetterPosition{Partition: client.Partition(p), Offset: client.Offset(o)}
		if !seen[at] {
			seen[at] = true
			all = append(all, at)
		}
	}
	return all, nil
}
