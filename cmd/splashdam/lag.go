package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newLag(env *environment) *cobra.Command {
	var watch bool
	var queue string
	cmd := &cobra.Command{
		Use:   "lag [GROUP]",
		Short: "Show how far groups are behind the ends of the logs",
		Long: `Lag shows, for each partition of a group, the committed position, the end of the log, the records between the two, and the member that
has it. Without GROUP it shows all groups, a line each; -o json has their partitions too.

A partition of which nothing is committed counts with all that its log holds. A committed position that lies beyond the log is shown as such:
it counts as nothing, and is named below with what to do about it. With --queue TOPIC it shows the queue that the group is on that topic.

With --watch and more than 16 lines those with the most lag are shown. The exit code is 0 also when something is wrong: see "problems"
of the JSON.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("lag: unexpected argument %q (want one GROUP, or none)", args[1])
			}
			if queue != "" && len(args) == 0 {
				return usageError("lag: --queue: want GROUP with it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				ask := func(ctx context.Context) (show func() error, err error) { return env.allLags(ctx, c, watch) }
				if len(args) == 1 {
					ask = func(ctx context.Context) (show func() error, err error) { return env.oneLag(ctx, c, args[0], watch) }
				}
				if queue != "" {
					ask = func(ctx context.Context) (show func() error, err error) {
						return env.askQueue(ctx, c, args[0], queue, watch)
					}
				}
				if watch {
					return env.watch(cmd.Context(), ask)
				}
				show, err := ask(cmd.Context())
				if err != nil {
					return err
				}
				return show()
			})
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every second, until interrupted")
	cmd.Flags().StringVar(&queue, "queue", "", "show the queue of the group on this topic")
	addSettings(cmd, "lag")
	return cmd
}

// groupLag is how far one group is behind, as it is printed.
type groupLag struct {
	Group      string         `json:"group"`
	State      string         `json:"state"`
	Members    int            `json:"members"`
	Lag        int64          `json:"lag"` // of all partitions where it is known
	Partitions []partitionLag `json:"partitions"`
	Problems   []problem      `json:"problems"`
}

type partitionLag struct {
	Topic      string     `json:"topic"`
	Partition  int32      `json:"partition"`
	Committed  *int64     `json:"committed"` // null: nothing is
	Metadata   string     `json:"metadata,omitempty"`
	CommitTime *time.Time `json:"commit_time,omitempty"`
	LogStart   int64      `json:"log_start"`
	End        int64      `json:"end"`
	Lag        *int64     `json:"lag"` // null: the position lies beyond the log, or the log is not known
	Beyond     bool       `json:"beyond_log,omitempty"`
	Member     string     `json:"member,omitempty"`
	Error      string     `json:"error,omitempty"`
}

// lagOfGroup makes of a group's positions what is printed.
func lagOfGroup(g client.GroupSummary, offsets []client.GroupOffset) groupLag {
	l := groupLag{Group: g.Name, State: g.State, Members: int(g.Members), Partitions: []partitionLag{}, Problems: lagProblems(g, offsets)}
	for _, o := range offsets {
		p := partitionLag{Topic: o.Topic, Partition: int32(o.Partition), Metadata: o.Metadata, LogStart: int64(o.LogStart), End: int64(o.HighWatermark), Beyond: o.Beyond, Member: o.Member}
		if o.Offset != client.NoOffset {
			p.Committed, p.CommitTime = new(int64(o.Offset)), &o.Committed
		}
		switch {
		case o.Err != nil:
			p.Error = o.Err.Error()
		case !o.Beyond:
			p.Lag = &o.Lag
			l.Lag += o.Lag
		}
		l.Partitions = append(l.Partitions, p)
	}
	return l
}

// lagProblems says what is wrong with a group's positions and what to do, partitions of one topic together.
func lagProblems(g client.GroupSummary, offsets []client.GroupOffset) []problem {
	found := []problem{}
	for rest := offsets; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(o client.GroupOffset) bool { return o.Topic != rest[0].Topic })
		if n < 0 {
			n = len(rest)
		}
		found = append(found, lagProblemsIn(g, rest[:n])...)
		rest = rest[n:]
	}
	return found
}

// lagProblemsIn is lagProblems for the positions in one topic.
func lagProblemsIn(g client.GroupSummary, offsets []client.GroupOffset) (found []problem) {
	topic := offsets[0].Topic
	var unknown, beyond, lost, alone []client.Partition
	var why error
	var records client.Offset
	for _, o := range offsets {
		switch {
		case o.Err != nil:
			unknown, why = append(unknown, o.Partition), o.Err
		case o.Beyond:
			beyond = append(beyond, o.Partition)
		case o.Offset != client.NoOffset && o.Offset < o.LogStart:
			lost, records = append(lost, o.Partition), records+o.LogStart-o.Offset
		}
		if o.Err == nil && o.Member == "" && o.Lag > 0 && g.State == "stable" {
			alone = append(alone, o.Partition)
		}
	}
	tell := func(what, do string) { found = append(found, problem{What: what, Do: do}) }
	at := func(partitions []client.Partition) string { return topic + "/" + rangesText(partitions) }
	reset := func(partitions []client.Partition) string {
		return fmt.Sprintf("splashdam group reset %s --topic %s --partition %s", g.Name, topic, rangesText(partitions))
	}
	if len(beyond) > 0 {
		tell(fmt.Sprintf("The position of group %s in %s lies beyond the log", g.Name, at(beyond)),
			"nothing is read there until it is moved: "+reset(beyond)+" --to-latest, or where it should be")
	}
	if len(lost) > 0 {
		tell(fmt.Sprintf("%s of %s expired before group %s had processed them", counted(int64(records), "record"), at(lost), g.Name),
			"keep records longer (retention.ms, retention.bytes); consumers that stop at this go on after "+reset(lost)+" --to-earliest")
	}
	if len(alone) > 0 {
		tell(fmt.Sprintf("No member of group %s has %s", g.Name, at(alone)), "start members that ask for the topic, if its records are to be processed")
	}
	if len(unknown) > 0 {
		line, _ := describe(why)
		tell(fmt.Sprintf("The log of %s is not known: %s", at(unknown), strings.TrimPrefix(line, "splashdam: ")), "see splashdam cluster status")
	}
	return found
}

// oneLag asks how far one group is behind.
func (env *environment) oneLag(ctx context.Context, c *client.Client, group string, watched bool) (show func() error, err error) {
	g, err := c.Group(ctx, group)
	if err != nil {
		return nil, groupError("describe", group, err)
	}
	offsets, err := c.GroupOffsets(ctx, group)
	if err != nil {
		return nil, groupError("fetch offsets of", group, err)
	}
	l := lagOfGroup(client.GroupSummary{Name: g.Name, State: g.State, Members: int32(len(g.Members)), Generation: g.Generation}, offsets)
	return func() error { return env.showLag(l, memberNames(g.Members), watched) }, nil
}

// lagCalls is how many groups are asked about together: each answer takes current reads of several logs.
const lagCalls = 8

// allLags asks how far all groups are behind. A group that is gone meanwhile is left out.
func (env *environment) allLags(ctx context.Context, c *client.Client, watched bool) (show func() error, err error) {
	groups, err := c.Groups(ctx)
	if err != nil {
		return nil, err
	}
	offsets, errs := make([][]client.GroupOffset, len(groups)), make([]error, len(groups))
	var asking sync.WaitGroup
	room := make(chan struct{}, lagCalls)
	for i, g := range groups {
		room <- struct{}{}
		if !watched && isTerminal(env.err) && i%lagCalls == 0 {
			fmt.Fprintf(env.err, "\r\x1b[Klooked at %d of %d groups\r", i, len(groups))
		}
		asking.Go(func() {
			offsets[i], errs[i] = c.GroupOffsets(ctx, g.Name)
			<-room
		})
	}
	asking.Wait()
	if !watched && isTerminal(env.err) {
		fmt.Fprint(env.err, "\x1b[K")
	}
	lags := []groupLag{}
	for i, g := range groups {
		var answered *client.Error
		switch {
		case errors.As(errs[i], &answered) && answered.Reason == "GROUP_ID_NOT_FOUND":
		case errs[i] != nil:
			return nil, errs[i]
		default:
			lags = append(lags, lagOfGroup(g, offsets[i]))
		}
	}
	return func() error { return env.showLags(lags, watched) }, nil
}

func (env *environment) showLag(l groupLag, names map[string]string, watched bool) error {
	return env.print(&l, func() {
		fmt.Fprintf(env.out, "group %s (%s): %s, %s, lag %s\n", l.Group, l.State, counted(int64(l.Members), "member"), counted(int64(len(l.Partitions)), "partition"), humanCount(l.Lag))
		var rows [][]string
		var lags []int64
		for _, p := range l.Partitions {
			committed, end, lag := "-", fmt.Sprint(p.End), "-"
			if p.Committed != nil {
				committed = fmt.Sprint(*p.Committed)
			}
			behind := int64(-1)
			switch {
			case p.Lag != nil:
				lag, behind = fmt.Sprint(*p.Lag), *p.Lag
			case p.Beyond:
				lag = "beyond the log"
			default:
				end = "-"
			}
			member := p.Member
			if name, ok := names[member]; ok {
				member = name
			}
			rows, lags = append(rows, []string{p.Topic, fmt.Sprint(p.Partition), committed, end, lag, orNone(member)}), append(lags, behind)
		}
		env.lagTable([]string{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"}, rows, lags, watched, "partition")
		env.showProblems(l.Problems)
	})
}

func (env *environment) showLags(all []groupLag, watched bool) error {
	return env.print(all, func() {
		var rows [][]string
		var lags []int64
		var problems []problem
		for _, l := range all {
			rows = append(rows, []string{l.Group, l.State, fmt.Sprint(l.Members), fmt.Sprint(len(l.Partitions)), fmt.Sprint(l.Lag)})
			lags = append(lags, l.Lag)
			problems = append(problems, l.Problems...)
		}
		env.lagTable([]string{"GROUP", "STATE", "MEMBERS", "PARTITIONS", "LAG"}, rows, lags, watched, "group")
		env.showProblems(problems)
	})
}

// lagTable writes the rows, and, where they are watched, only as many as one screen has: those with the most lag.
func (env *environment) lagTable(heading []string, rows [][]string, lags []int64, watched bool, what string) {
	shown := rows
	if watched && len(rows) > rowsMax {
		order := make([]int, len(rows))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(min(max(lags[b]-lags[a], -1), 1)) })
		order = order[:rowsMax]
		slices.Sort(order)
		shown = nil
		for _, i := range order {
			shown = append(shown, rows[i])
		}
	}
	env.table(heading, shown)
	env.showOthers(len(rows)-len(shown), what)
}
