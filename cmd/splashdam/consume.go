package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
)

// consumeOptions are the flags of consume.
type consumeOptions struct {
	from       string
	partitions []int32
	follow     bool
	count      int64
	format     string
	separator  string
	member     memberOptions
}

func newConsume(env *environment) *cobra.Command {
	var o consumeOptions
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print the records of a topic",
		Long: `Consume prints records: those that are there when it starts, or with --follow also those that come. Order is kept
within a partition. It moves no position: reading changes nothing.

--from is earliest, latest, an offset, a time (RFC 3339), or -N for the last N records of each partition.
--format is line (the value), key-value, or json: one object a line; key and value are text, or base64 under
key_base64 and value_base64 when they are not; a null is left out. -o json means --format json.

With --group it is a member of a consumer group: it shares the partitions with the other members, begins at the group's positions (at --from
where there is none), and goes on until it is interrupted, or has printed as many records as -n says. What comes and goes is told on stderr:
"assigned orders/0 orders/2 (generation 7)", "revoked ..." when another member gets them, "lost ..." when the session was over; JSON has the
generation, too. When it ends it leaves, and others go on where it was. --commit says when the group's positions move:

  after   when records are printed, every 5 seconds and at the end: after a crash some are printed again (at least once)
  before  before records are printed: after a crash some are not printed (at most once)
  manual  never; see splashdam group reset

With --exec ` + executeHelp + `
A record is processed when it exits with 0, and partitions keep their order. When it fails, --retry tries it again so many times, each time
later, and then makes it a dead letter (see splashdam dlq) and goes on; exit code 65 does so at once. Without --retry the consuming ends, and
the position stays. A first Ctrl-C or SIGTERM gives the command 10 s to end, a second one ends at once.`,
		Example: `  splashdam consume matches
  splashdam consume matches --follow --from latest -o json
  splashdam consume matches --from 2026-06-11T19:45:00Z -n 10
  splashdam consume orders --group email
  splashdam consume --pattern 'orders-.*' --group analytics --instance host-1 --commit before
  splashdam consume orders --group invoices --exec ./invoice.sh --retry 3`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.member.pattern != "" && len(args) == 0 {
				return nil
			}
			return oneArgument("TOPIC")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if env.output == "json" && !cmd.Flags().Changed("format") {
				o.format = "json"
			}
			if err := o.checkMember(cmd.Flags().Changed); err != nil {
				return err
			}
			if o.member.group != "" {
				return env.consumeAsMember(cmd.Context(), args, o)
			}
			return env.consume(cmd.Context(), args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "earliest", "where to begin: earliest, latest, an offset, a time, or -N")
	f.Int32SliceVar(&o.partitions, "partition", nil, "read these partitions only")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with records that come later")
	f.Int64VarP(&o.count, "count", "n", 0, "stop after so many records; 0: no limit")
	f.StringVar(&o.format, "format", "line", "line, key-value or json")
	f.StringVar(&o.separator, "key-separator", ":", "what key-value puts between the two")
	o.member.addFlags(f)
	addSettings(cmd, "consume")
	return cmd
}

func (env *environment) consume(ctx context.Context, topic string, o consumeOptions) error {
	write, err := o.writer()
	if err != nil {
		return err
	}
	start, offset, err := parseStart(o.from)
	if err != nil {
		return usageError("consume: --from %w", err)
	}
	c, err := env.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	spans, err := findSpans(ctx, c, topic, start, offset, o.partitions)
	if err != nil {
		return err
	}
	p, stop := env.showConsumed(ctx)
	defer stop()
	out := bufio.NewWriterSize(env.out, 1<<18)
	limit := o.count
	err = readSpans(ctx, c, topic, spans, o.follow, env.config.Timeout, func(records []client.Record) (more bool, err error) {
		for i := range records {
			if err := write(out, &records[i], 0); err != nil {
				return false, err
			}
			p.add(1, int64(len(records[i].Key)+len(records[i].Value)))
			if limit--; limit == 0 {
				return false, out.Flush()
			}
		}
		return true, out.Flush()
	})
	return firstError(err, out.Flush())
}

// showConsumed counts what is consumed, and shows it unless the records themselves are on the terminal.
func (env *environment) showConsumed(ctx context.Context) (p *progress, stop func()) {
	p = newProgress("consumed")
	if isTerminal(env.out) {
		return p, func() {}
	}
	return p, p.show(ctx, env.err)
}

// span is what is to be read of one partition, [next, end).
type span struct {
	next, end client.Offset
}

// findSpans finds where reading begins, at start or at a given offset, and where the log ends now.
func findSpans(ctx context.Context, c *client.Client, topic string, start client.Start, at client.Offset, only []int32) (map[client.Partition]*span, error) {
	var partitions []client.Partition
	for _, p := range only {
		partitions = append(partitions, client.Partition(p))
	}
	found, err := c.Offsets(ctx, topic, start, partitions...)
	if err != nil {
		return nil, err
	}
	spans := map[client.Partition]*span{}
	for _, f := range found {
		if f.Err != nil {
			return nil, f.Err
		}
		next := f.Offset
		if at != client.NoOffset {
			next = at
		}
		if next < f.LogStart || next > f.HighWatermark {
			return nil, &terminalError{op: "consume", object: fmt.Sprintf("%s/%d", topic, f.Partition),
				cause: fmt.Errorf("offset %d is outside the log", next),
				hint:  fmt.Sprintf("it holds %d to %d", f.LogStart, f.HighWatermark)}
		}
		spans[f.Partition] = &span{next: next, end: f.HighWatermark}
	}
	return spans, nil
}

// readSpans hands out records until every span is read, or for ever with follow. It gives up when nothing arrives for
// the time of one call, except with follow.
func readSpans(ctx context.Context, c *client.Client, topic string, spans map[client.Partition]*span, follow bool, patience time.Duration, yield func([]client.Record) (more bool, err error)) error {
	var config client.ConsumerConfig
	left := 0
	for p, s := range spans {
		if follow || s.next < s.end {
			config.Partitions = append(config.Partitions, client.Assignment{Topic: topic, Partition: p, Start: client.At(s.next)})
			left++
		}
	}
	if left == 0 {
		return nil
	}
	consumer, err := c.NewConsumer(config)
	if err != nil {
		return err
	}
	defer consumer.Close()
	for left > 0 {
		polling, cancel := ctx, context.CancelFunc(func() {})
		if !follow {
			polling, cancel = context.WithTimeout(ctx, patience)
		}
		records, err := consumer.Poll(polling, 1000)
		cancel()
		if err != nil {
			return firstError(ctx.Err(), err)
		}
		s := spans[records[0].Partition]
		if !follow {
			records = slices.DeleteFunc(records, func(r client.Record) bool { return r.Offset >= s.end })
			if len(records) == 0 {
				continue
			}
		}
		more, err := yield(records)
		if err != nil || !more {
			return err
		}
		if s.next = records[len(records)-1].Offset + 1; !follow && s.next >= s.end {
			left--
			consumer.Pause(topic, records[0].Partition)
		}
	}
	return nil
}

// parseStart reads the value of --from: a place that the agent finds, or an offset.
func parseStart(s string) (start client.Start, at client.Offset, err error) {
	switch s {
	case "earliest":
		return client.Earliest(), client.NoOffset, nil
	case "latest":
		return client.Latest(), client.NoOffset, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return client.Tail(-n), client.NoOffset, nil
		}
		return client.Earliest(), client.Offset(n), nil
	}
	if start, err = parseTime(s); err != nil {
		err = fmt.Errorf("%q: want earliest, latest, an offset, -N, or a time such as 2026-06-11T19:00:00Z", s)
	}
	return start, client.NoOffset, err
}

func parseTime(s string) (client.Start, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return client.Start{}, fmt.Errorf("%q: want a time such as 2026-06-11T19:00:00Z", s)
	}
	return client.Since(t), nil
}

// writer answers how one record is printed, which a member of a group read in a generation; 0: in none.
func (o consumeOptions) writer() (func(w *bufio.Writer, r *client.Record, generation int64) error, error) {
	switch o.format {
	case "line":
		return func(w *bufio.Writer, r *client.Record, _ int64) error {
			w.Write(r.Value)
			return w.WriteByte('\n')
		}, nil
	case "key-value":
		return func(w *bufio.Writer, r *client.Record, _ int64) error {
			w.Write(r.Key)
			w.WriteString(o.separator)
			w.Write(r.Value)
			return w.WriteByte('\n')
		}, nil
	case "json":
		return func(w *bufio.Writer, r *client.Record, generation int64) error {
			encoder := json.NewEncoder(w)
			encoder.SetEscapeHTML(false)
			view := viewRecord(r)
			view.Generation = generation
			return encoder.Encode(view)
		}, nil
	}
	return nil, usageError("consume: --format %q: want line, key-value or json", o.format)
}

// recordView is a record as JSON.
type recordView struct {
	Topic       string       `json:"topic"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   time.Time    `json:"timestamp"`
	Key         *string      `json:"key,omitempty"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *string      `json:"value,omitempty"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []headerView `json:"headers,omitempty"`
	Generation  int64        `json:"generation,omitempty"` // of the group, in which the partition is this member's
}

type headerView struct {
	Name        string  `json:"name"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
}

func viewRecord(r *client.Record) recordView {
	v := recordView{Topic: r.Topic, Partition: int32(r.Partition), Offset: int64(r.Offset), Timestamp: r.Timestamp.UTC()}
	v.Key, v.KeyBase64 = objectlog.Readable(r.Key)
	v.Value, v.ValueBase64 = objectlog.Readable(r.Value)
	for _, h := range r.Headers {
		view := headerView{Name: h.Key}
		view.Value, view.ValueBase64 = objectlog.Readable(h.Value)
		v.Headers = append(v.Headers, view)
	}
	return v
}
