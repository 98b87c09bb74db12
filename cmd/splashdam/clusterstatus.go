package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newClusterStatus(env *environment) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show agents, shards and what is wrong, with what to do",
		Long: `Status asks one agent at --server what it knows of all agents and shards, and says in a sentence what is wrong and what to do
about it. Agents tell each other how they are about twice a second; HEARD is how long ago the agent that answers heard of the other.
An agent that was killed is listed for up to two minutes: as replaced once another runs in its place, as unknown until then.

  LAG       entries of the shard's log that the agent furthest behind has not applied yet, as far as was heard
  RING      how much of the log's place in the table holds entries behind the previous snapshot; agents slow down above 75 %
  SNAPSHOT  the last entry that the newest snapshot of the shard covers, and its age

With more than 16 agents or shards only those with problems are shown. -o json has all of them. The exit code is 0 whenever an agent
answered, also when something is wrong: see "problems" of the JSON.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.withClient(func(c *client.Client) error {
				if watch {
					return env.watchStatus(cmd.Context(), c)
				}
				cluster, err := env.askStatus(cmd.Context(), c, statusTimeout)
				if err != nil {
					return err
				}
				return env.showStatus(statusOf(cluster))
			})
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every second, until interrupted")
	addSettings(cmd, "status")
	return cmd
}

// statusTimeout is for an agent whose table answers slowly.
const statusTimeout = 10 * time.Second

// askStatus asks an agent for the cluster. One that can't answer, since its table is away, still says what is wrong with itself.
func (env *environment) askStatus(ctx context.Context, c *client.Client, timeout time.Duration) (client.Cluster, error) {
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cluster, err := c.Cluster(asking)
	if err == nil || ctx.Err() != nil {
		return cluster, err
	}
	for _, address := range strings.Split(env.config.Server, ",") {
		if why := notReady(ctx, address); why != "" {
			return cluster, &terminalError{op: "ask for the cluster at", object: address, cause: errors.New("the agent is not ready: " + why)}
		}
	}
	return cluster, err
}

// notReady is why an agent says that it is not ready; empty: it does not.
func notReady(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return ""
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<14))
	if err != nil || res.StatusCode != http.StatusServiceUnavailable || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// clusterStatus is what is printed.
type clusterStatus struct {
	Cluster     string        `json:"cluster"`
	FormatLevel int32         `json:"format_level"`
	AnsweredBy  string        `json:"answered_by"` // boot of an agent
	Agents      []agentStatus `json:"agents"`
	Shards      []shardStatus `json:"shards"`
	Problems    []problem     `json:"problems"`

	names map[string]string // short ones, by boot
}

type agentStatus struct {
	Boot     string   `json:"boot"`
	Ordinal  int64    `json:"ordinal"`
	State    string   `json:"state"` // ready, not ready, draining, replaced or unknown
	HeardAgo *float64 `json:"heard_ago_seconds,omitempty"`
	Zone     string   `json:"zone"`
	Host     string   `json:"host"`
	Address  string   `json:"client_address"`
	Peer     string   `json:"peer_address"`
	Version  string   `json:"version"`
	Applied  []int64  `json:"applied_seqs,omitempty"`

	Unreached  string  `json:"unreached,omitempty"` // why it does not answer the agent that answers
	ClockAhead float64 `json:"clock_ahead_seconds,omitempty"`
}

type shardStatus struct {
	Shard       int32    `json:"shard"`
	Leader      string   `json:"leader"`
	Epoch       int64    `json:"epoch"`
	AppliedSeq  int64    `json:"applied_seq"`
	LagMax      int64    `json:"lag_max"` // of the agents that were heard
	RingFill    float64  `json:"ring_fill"`
	SnapshotSeq int64    `json:"snapshot_seq"`
	SnapshotAge *float64 `json:"snapshot_age_seconds,omitempty"`
	Fault       string   `json:"fault,omitempty"`
}

// statusOf makes of a description what is printed.
func statusOf(c client.Cluster) clusterStatus {
	s := clusterStatus{Cluster: c.ID, FormatLevel: c.FormatLevel, AnsweredBy: c.AnsweredBy, Agents: []agentStatus{}, Shards: []shardStatus{}, names: shortNames(c)}
	slices.SortFunc(c.Agents, func(a, b client.AgentInfo) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	for _, a := range c.Agents {
		one := agentStatus{Boot: a.Boot, Ordinal: a.Ordinal, State: "ready", Zone: a.Zone, Host: a.Host, Address: a.Address, Peer: a.PeerAddress, Version: a.Version, Applied: a.Applied,
			Unreached: a.Unreached, ClockAhead: a.ClockAhead.Seconds()}
		switch {
		case replaced(a, c.Agents):
			one.State = "replaced"
		case !isHeard(a):
			one.State = "unknown"
		case a.Draining:
			one.State = "draining"
		case a.Problem != "":
			one.State = "not ready"
		}
		one.HeardAgo = secondsOf(a.HeardAgo)
		s.Agents = append(s.Agents, one)
	}
	for _, h := range c.Shards {
		one := shardStatus{Shard: h.Shard, Leader: h.Leader, Epoch: h.Epoch, AppliedSeq: h.AppliedSeq, SnapshotSeq: h.SnapshotSeq, SnapshotAge: secondsOf(h.SnapshotAge), Fault: h.Fault}
		if h.RingSlots > 0 {
			one.RingFill = float64(h.RingUsed) / float64(h.RingSlots)
		}
		for _, a := range c.Agents {
			if lag, ok := lagOf(a, h); ok {
				one.LagMax = max(one.LagMax, lag)
			}
		}
		s.Shards = append(s.Shards, one)
	}
	s.Problems = problemsOf(c, s.names)
	return s
}

// lagOf is how many entries of the shard an agent is behind; false: nothing was heard of it lately.
func lagOf(a client.AgentInfo, h client.ShardInfo) (int64, bool) {
	if !isHeard(a) || int(h.Shard) >= len(a.Applied) {
		return 0, false
	}
	return max(0, h.AppliedSeq-a.Applied[h.Shard]), true
}

// secondsOf is a time that was told; nil: it was not.
func secondsOf(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	return new(d.Seconds())
}

// shortNames are the beginnings of boots, as long as it takes to tell them apart.
func shortNames(c client.Cluster) map[string]string {
	var boots []string
	for _, a := range c.Agents {
		boots = append(boots, a.Boot)
	}
	for _, h := range c.Shards {
		boots = append(boots, h.Leader)
	}
	return shortened(boots)
}

// shortened are the beginnings of ids, as long as it takes to tell them apart.
func shortened(ids []string) map[string]string {
	names := make(map[string]string)
	for n := 8; ; n += 4 {
		taken := make(map[string]string)
		for _, id := range ids {
			short := id[:min(n, len(id))]
			if other, ok := taken[short]; ok && other != id {
				taken = nil
				break
			}
			taken[short] = id
		}
		for short, id := range taken {
			names[id] = short
		}
		if taken != nil {
			return names
		}
	}
}

// rowsMax is how many agents, and how many shards, are shown on one screen.
const rowsMax = 16

func (env *environment) showStatus(s clusterStatus) error {
	return env.print(&s, func() {
		fmt.Fprintf(env.out, "Cluster %s, format level %d, as agent %s sees it.\n\n", s.Cluster, s.FormatLevel, s.names[s.AnsweredBy])
		var rows [][]string
		for _, a := range s.Agents {
			if len(s.Agents) > rowsMax && (a.State == "ready" || len(rows) >= rowsMax) {
				continue
			}
			rows = append(rows, []string{s.names[a.Boot], a.State, agoText(a.HeardAgo), orNone(a.Zone), orNone(a.Host), orNone(a.Address), orNone(a.Peer), a.Version})
		}
		env.table([]string{"AGENT", "STATE", "HEARD", "ZONE", "HOST", "CLIENTS AT", "AGENTS AT", "VERSION"}, rows)
		env.showOthers(len(s.Agents)-len(rows), "agent")
		fmt.Fprintln(env.out)
		rows = nil
		for _, h := range s.Shards {
			if len(s.Shards) > rowsMax && (!s.troubled(h.Shard) || len(rows) >= rowsMax) {
				continue
			}
			snapshot := "-"
			switch {
			case h.SnapshotSeq >= 0 && h.SnapshotAge != nil:
				snapshot = fmt.Sprintf("%d (%s)", h.SnapshotSeq, agoText(h.SnapshotAge))
			case h.SnapshotSeq >= 0:
				snapshot = fmt.Sprint(h.SnapshotSeq)
			}
			rows = append(rows, []string{fmt.Sprint(h.Shard), orNone(s.names[h.Leader]), fmt.Sprint(h.Epoch), fmt.Sprint(h.AppliedSeq), fmt.Sprint(h.LagMax),
				fmt.Sprintf("%.0f %%", 100*h.RingFill), snapshot})
		}
		env.table([]string{"SHARD", "LEADER", "EPOCH", "APPLIED", "LAG", "RING", "SNAPSHOT"}, rows)
		env.showOthers(len(s.Shards)-len(rows), "shard")
		fmt.Fprintln(env.out)
		env.showProblems(s.Problems)
		if len(s.Problems) == 0 {
			fmt.Fprintln(env.out, "Nothing is wrong.")
		}
	})
}

func (env *environment) showProblems(problems []problem) {
	for i, p := range problems {
		if i == rowsMax {
			fmt.Fprintf(env.out, "and %d more: see -o json\n", len(problems)-i)
			break
		}
		fmt.Fprintf(env.out, "%s: %s\n", p.What, p.Do)
	}
}

func (env *environment) showOthers(n int, what string) {
	if n > 0 {
		fmt.Fprintf(env.out, "and %s\n", counted(int64(n), "other "+what))
	}
}

// troubled says whether a problem is about the shard.
func (s clusterStatus) troubled(shard int32) bool {
	return slices.ContainsFunc(s.Problems, func(p problem) bool { return p.Shard != nil && *p.Shard == shard })
}

func orNone(s string) string { return cmp.Or(s, "-") }

// agoText is a time ago as a person reads it.
func agoText(seconds *float64) string {
	switch {
	case seconds == nil:
		return "-"
	case *seconds < 0.1:
		return "now"
	}
	d := time.Duration(*seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs ago", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0fs ago", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0fm ago", d.Minutes())
	}
	return fmt.Sprintf("%.0fh ago", d.Hours())
}

// watchEvery is how often what is watched is asked for.
const watchEvery = time.Second

// clearScreen moves to the top left of a terminal and empties it.
const clearScreen = "\x1b[H\x1b[2J"

// watchStatus shows the status again and again.
func (env *environment) watchStatus(ctx context.Context, c *client.Client) error {
	return env.watch(ctx, func(ctx context.Context) (show func() error, err error) {
		cluster, err := env.askStatus(ctx, c, 3*watchEvery)
		return func() error { return env.showStatus(statusOf(cluster)) }, err
	})
}

// watch shows again and again what ask answers. That no agent answers is shown like anything else: who watches an outage wants to see its end.
func (env *environment) watch(ctx context.Context, ask func(context.Context) (show func() error, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		show, err := ask(ctx)
		var worded *terminalError // says itself who was asked for what
		if ctx.Err() != nil {
			return nil
		}
		if env.output != "json" && isTerminal(env.out) {
			fmt.Fprint(env.out, clearScreen)
		}
		switch {
		case err == nil:
			err = show()
		case env.output == "json":
			err = env.print(struct {
				Error string `json:"error"`
			}{err.Error()}, nil)
		case errors.As(err, &worded):
			_, err = fmt.Fprintln(env.out, worded)
		default:
			_, err = fmt.Fprintf(env.out, "No answer at %s: %s\n", env.config.Server, strings.TrimSpace(err.Error()))
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
