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

// resetOptions are the flags of group reset.
type resetOptions struct {
	topic, partitions string
	earliest, latest  bool
	offset, shift     int64
	time              string
	duration          time.Duration
	dryRun, force     bool
}

// resetPlaces are the flags of which one says where to.
var resetPlaces = []string{"to-earliest", "to-latest", "to-offset", "to-time", "by-duration", "shift-by"}

func newGroupReset(env *environment) *cobra.Command {
	var o resetOptions
	cmd := &cobra.Command{
		Use:   "reset GROUP --topic TOPIC",
		Short: "Move a group's positions in a topic",
		Long: `Reset moves the committed positions of a group in all partitions of a topic, or in those of --partition, all or none. Where a position
would lie outside the log it is moved to the nearer end. With --dry-run it shows what it would do, and does nothing.

It is refused while the group has members: they go on where they are, and commit that. --force moves the positions all the same; it
is for members that are stuck and about to be stopped.`,
		Example: `  splashdam group reset email --topic orders --to-earliest --dry-run
  splashdam group reset email --topic orders --partition 0,4-7 --to-time 2026-06-11T19:00:00Z
  splashdam group reset email --topic orders --shift-by -100`,
		Args: oneArgument("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var given []string
			for _, name := range resetPlaces {
				if cmd.Flags().Changed(name) {
					given = append(given, "--"+name)
				}
			}
			if len(given) != 1 {
				return usageError("group reset: %d places (%s): want one of --%s", len(given), strings.Join(given, " "), strings.Join(resetPlaces, ", --"))
			}
			r, err := o.reset(given[0])
			if err != nil {
				return err
			}
			r.Group = args[0]
			return env.resetGroup(cmd.Context(), r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.topic, "topic", "", "topic in which positions are moved")
	f.StringVar(&o.partitions, "partition", "", "only these partitions, such as 0,4-7")
	f.BoolVar(&o.earliest, "to-earliest", false, "to the first record that is kept")
	f.BoolVar(&o.latest, "to-latest", false, "behind the last record")
	f.Int64Var(&o.offset, "to-offset", 0, "to this offset")
	f.StringVar(&o.time, "to-time", "", "to the first record at or after this time (RFC 3339)")
	f.DurationVar(&o.duration, "by-duration", 0, "to the first record that is not older than this, such as 90m")
	f.Int64Var(&o.shift, "shift-by", 0, "so many records on from the committed position, or back if negative")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be moved, and move nothing")
	f.BoolVar(&o.force, "force", false, "although the group has members")
	return cmd
}

// reset is what the flags ask for.
func (o resetOptions) reset(place string) (client.GroupReset, error) {
	r := client.GroupReset{Topic: o.topic, ValidateOnly: o.dryRun, Force: o.force}
	if o.topic == "" {
		return r, usageError("group reset: --topic is missing")
	}
	var err error
	if r.Partitions, err = parsePartitions(o.partitions); err != nil {
		return r, usageError("group reset: --partition %w", err)
	}
	switch place {
	case "--to-earliest":
		r.To = client.Earliest()
	case "--to-latest":
		r.To = client.Latest()
	case "--to-offset":
		if o.offset < 0 {
			return r, usageError("group reset: --to-offset %d: want 0 or more (or --shift-by %d)", o.offset, o.offset)
		}
		r.To = client.At(client.Offset(o.offset))
	case "--to-time":
		if r.To, err = parseTime(o.time); err != nil {
			return r, usageError("group reset: --to-time %w", err)
		}
	case "--by-duration":
		if r.Back = o.duration; r.Back <= 0 {
			return r, usageError("group reset: --by-duration %s: want more than 0", o.duration)
		}
	case "--shift-by":
		if r.Shift = o.shift; r.Shift == 0 {
			return r, usageError("group reset: --shift-by 0: want a number of records")
		}
	}
	return r, nil
}

// resetView is what was moved, or would be.
type resetView struct {
	Group   string      `json:"group"`
	Topic   string      `json:"topic"`
	DryRun  bool        `json:"dry_run"`
	Offsets []movedView `json:"offsets"`
}

type movedView struct {
	Partition int32  `json:"partition"`
	From      *int64 `json:"from"` // null: nothing was committed
	To        int64  `json:"to"`
}

func (env *environment) resetGroup(ctx context.Context, r client.GroupReset) error {
	return env.withClient(func(c *client.Client) error {
		moved, err := c.ResetOffsets(ctx, r)
		var refused *client.Error
		switch {
		case errors.As(err, &refused) && refused.Reason == "NON_EMPTY_GROUP":
			return &terminalError{op: "reset", object: "group " + r.Group, cause: errors.New("it has members"),
				hint: fmt.Sprintf(`stop them first, "splashdam group members %s" has them; with --force those that run go on where they are, and commit that`, r.Group)}
		case err != nil:
			return groupError("reset", r.Group, err)
		}
		view, rows := resetView{Group: r.Group, Topic: r.Topic, DryRun: r.ValidateOnly, Offsets: []movedView{}}, [][]string{}
		for _, m := range moved {
			v, from := movedView{Partition: int32(m.Partition), To: int64(m.To)}, "-"
			if m.From != client.NoOffset {
				v.From, from = new(int64(m.From)), fmt.Sprint(m.From)
			}
			view.Offsets = append(view.Offsets, v)
			rows = append(rows, []string{fmt.Sprint(m.Partition), from, fmt.Sprint(m.To)})
		}
		return env.print(&view, func() {
			env.table([]string{"PARTITION", "FROM", "TO"}, rows)
			if r.ValidateOnly {
				fmt.Fprintf(env.out, "nothing was moved: without --dry-run, %s of group %s in %s would be\n", counted(int64(len(moved)), "position"), r.Group, r.Topic)
				return
			}
			fmt.Fprintf(env.out, "moved %s of group %s in %s\n", counted(int64(len(moved)), "position"), r.Group, r.Topic)
		})
	})
}

// partitionsMax is how many partitions a topic may have.
const partitionsMax = 100_000

// parsePartitions reads a list such as 0,4-7.
func parsePartitions(s string) ([]client.Partition, error) {
	if s == "" {
		return nil, nil
	}
	var all []client.Partition
	for word := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(word, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 31)
		last, err2 := strconv.ParseUint(high, 10, 31)
		if err1 != nil || err2 != nil || last < first || last >= partitionsMax {
			return nil, fmt.Errorf("%q: want partitions such as 0,4-7", s)
		}
		for p := first; p <= last; p++ {
			all = append(all, client.Partition(p))
		}
	}
	return all, nil
}
