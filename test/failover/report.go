package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

// Span is a duration, in milliseconds in JSON.
type Span time.Duration

// MarshalJSON implements json.Marshaler.
func (s Span) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.1f", float64(s)/float64(time.Millisecond)), nil
}

func (s Span) String() string {
	return fmt.Sprintf("%.0f ms", float64(s)/float64(time.Millisecond))
}

// Round is what clients saw of one fault.
type Round struct {
	Mode    mode      `json:"mode"`
	Number  int       `json:"number"`
	Shard   int       `json:"shard"` // whose leader it met
	Agent   int       `json:"agent"`
	Leaders []int     `json:"leaders"` // before, by shard
	Began   time.Time `json:"began"`

	Worst   Span         `json:"worst"`             // pause of the partitions that the agent led
	Shards  map[int]Span `json:"shards,omitempty"`  // the same by shard
	All     []Span       `json:"all,omitempty"`     // the same by partition
	Stuck   bool         `json:"stuck,omitempty"`   // it had not ended
	Readers Span         `json:"readers,omitempty"` // until a record sent since was read, in the worst partition
	Others  Span         `json:"others,omitempty"`  // longest time between acknowledgements in partitions that others led
	Quiet   Span         `json:"quiet"`             // the same in all partitions before the fault
	Latency Span         `json:"latency,omitempty"` // longest from sending to acknowledgement
	Stopped Span         `json:"stopped,omitempty"` // how long the stop took
	Serves  Span         `json:"serves,omitempty"`  // from SIGCONT to ready and a record acknowledged in each shard
	Calls   Counts       `json:"calls"`
}

// begin notes the moment of the fault.
func (r *Round) begin() { r.Began = time.Now() }

// pauses notes how long each partition stood still.
func (r *Round) pauses(took []time.Duration, shardOf map[client.Partition]int, partitions []client.Partition) {
	if r.Shards == nil {
		r.Shards = map[int]Span{}
	}
	for i, p := range partitions {
		one := Span(took[i])
		r.All = append(r.All, one)
		r.Worst, r.Shards[shardOf[p]] = max(r.Worst, one), max(r.Shards[shardOf[p]], one)
	}
}

func (r Round) String() string {
	text := fmt.Sprintf("%s %d: agent %d, leaders %v, gap before %v", r.Mode, r.Number, r.Agent, r.Leaders, r.Quiet)
	if len(r.Shards) > 0 {
		text += fmt.Sprintf(", worst %v, by shard %v", r.Worst, r.Shards)
	}
	for _, one := range []struct {
		name string
		span Span
	}{{"readers", r.Readers}, {"other shards", r.Others}, {"slowest acknowledgement", r.Latency}, {"stopped in", r.Stopped}, {"serves again after", r.Serves}} {
		if one.span > 0 {
			text += fmt.Sprintf(", %s %v", one.name, one.span)
		}
	}
	if r.Stuck {
		text += ", STUCK"
	}
	return fmt.Sprintf("%s, failed: %d of the SDK's, %d of %d plain", text, r.Calls.SDKFailed, r.Calls.PlainFailed, r.Calls.Plain)
}

// report is what was measured, and how it ended.
type report struct {
	rounds   []Round
	tally    history.Tally
	findings history.Findings
	counts   Counts
	errors   []string
	logs     string
}

func (r *report) add(one Round) { r.rounds = append(r.rounds, one) }

// finish ends the load, reads everything back through each agent and judges.
func (r *report) finish(ctx context.Context, l *load, c *cluster) {
	l.end()
	fmt.Fprintln(os.Stderr, "read everything back through each agent")
	for _, a := range c.agents {
		l.readBack(context.WithoutCancel(ctx), a)
	}
	r.tally, r.findings, r.counts, r.errors, r.logs = l.h.Tally(), l.h.Check(), l.calls.sum(), l.calls.firstErrors(), c.folder
}

// Line is one row of the table.
type Line struct {
	Mode  mode   `json:"mode"`
	What  string `json:"what"`
	Goal  string `json:"goal,omitempty"`
	Count int    `json:"count"`
	P50   Span   `json:"p50"`
	P99   Span   `json:"p99"`
	Max   Span   `json:"max"`
	Met   bool   `json:"met"`
}

// goal is a limit for a quantity; 0: none.
type goal struct{ p50, p99, max time.Duration }

func (g goal) String() string {
	var words []string
	for _, one := range []struct {
		name  string
		limit time.Duration
	}{{"p50", g.p50}, {"p99", g.p99}, {"max", g.max}} {
		if one.limit > 0 {
			words = append(words, fmt.Sprintf("%s < %v", one.name, one.limit))
		}
	}
	return strings.Join(words, ", ")
}

// quantity is something measured in the rounds of some modes.
type quantity struct {
	what  string
	of    func(Round) []Span
	goals map[mode]goal // those that it is shown for
}

func one(s Span) []Span { return []Span{s} }

var quantities = []quantity{
	{"pause of a shard's partitions, the worst of each round", func(r Round) []Span { return one(r.Worst) }, map[mode]goal{
		kill: {p50: time.Second, p99: 3 * time.Second}, gone: {p50: 4 * time.Second, p99: 6 * time.Second}, handoff: {p99: 300 * time.Millisecond}, freeze: {}}},
	{"pause by shard", func(r Round) (all []Span) {
		for _, s := range r.Shards {
			all = append(all, s)
		}
		return all
	}, map[mode]goal{kill: {}, gone: {}, handoff: {}, freeze: {}}},
	{"pause by partition", func(r Round) []Span { return r.All }, map[mode]goal{kill: {}, gone: {}, handoff: {}, freeze: {}}},
	{"gap in partitions of other shards", func(r Round) []Span { return one(r.Others) },
		map[mode]goal{kill: {p99: 500 * time.Millisecond}, gone: {}, handoff: {}, freeze: {}}},
	{"until readers go on", func(r Round) []Span { return one(r.Readers) }, map[mode]goal{kill: {}, gone: {}, handoff: {}, freeze: {}}},
	{"longest acknowledgement", func(r Round) []Span { return one(r.Latency) }, map[mode]goal{handoff: {}, rolling: {}}},
	{"time of the stop, or of all restarts", func(r Round) []Span { return one(r.Stopped) }, map[mode]goal{handoff: {}, rolling: {}}},
	{"serves again after", func(r Round) []Span { return one(r.Serves) }, map[mode]goal{freeze: {max: 5 * time.Second}}},
	{"gap before the fault, all partitions", func(r Round) []Span { return one(r.Quiet) }, map[mode]goal{kill: {}, gone: {}, handoff: {}, freeze: {}, rolling: {}}},
}

func (r *report) lines() (lines []Line) {
	for _, m := range modes {
		for _, q := range quantities {
			g, shown := q.goals[m]
			var all []Span
			for _, one := range r.rounds {
				if one.Mode == m {
					all = append(all, q.of(one)...)
				}
			}
			if len(all) == 0 || !shown {
				continue
			}
			slices.Sort(all)
			l := Line{Mode: m, What: q.what, Goal: g.String(), Count: len(all), P50: quantile(all, 50), P99: quantile(all, 99), Max: all[len(all)-1]}
			l.Met = within(l.P50, g.p50) && within(l.P99, g.p99) && within(l.Max, g.max)
			lines = append(lines, l)
		}
	}
	return lines
}

func within(s Span, limit time.Duration) bool { return limit == 0 || s < Span(limit) }

// quantile answers the value that so many percent of the sorted values do not exceed.
func quantile(sorted []Span, percent int) Span { return sorted[(len(sorted)*percent+99)/100-1] }

// failed counts the failed calls of rounds in which none may fail.
func (r *report) failed() (n int) {
	for _, one := range r.rounds {
		if one.Mode == handoff || one.Mode == rolling {
			n += one.Calls.SDKFailed + one.Calls.PlainFailed
		}
	}
	return n
}

// ok says whether every goal was met and nothing was lost or doubled.
func (r *report) ok() bool {
	for _, l := range r.lines() {
		if !l.Met {
			return false
		}
	}
	return len(r.rounds) > 0 && len(r.findings) == 0 && r.failed() == 0
}

func (r *report) print(w io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			OK        bool     `json:"ok"`
			Lines     []Line   `json:"lines"`
			Calls     Counts   `json:"calls"`
			Acked     int      `json:"acked"`
			Unknown   int      `json:"unknown"`
			Failed    int      `json:"failed"`
			Read      int      `json:"read"`
			Anomalies string   `json:"anomalies"`
			Errors    []string `json:"errors,omitempty"`
			Logs      string   `json:"logs"`
			Rounds    []Round  `json:"rounds"`
		}{r.ok(), r.lines(), r.counts, r.tally.Acked, r.tally.Unknown, r.tally.Failed, r.tally.Read, r.findings.Names(), r.errors, r.logs, r.rounds})
	}
	var text strings.Builder
	text.WriteString("| fault | what | goal | n | p50 | p99 | max | met |\n|---|---|---|---:|---:|---:|---:|---|\n")
	for _, l := range r.lines() {
		met := map[bool]string{true: "yes", false: "NO"}[l.Met]
		if l.Goal == "" {
			met = ""
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %d | %v | %v | %v | %s |\n", l.Mode, l.What, l.Goal, l.Count, l.P50, l.P99, l.Max, met)
	}
	fmt.Fprintf(&text, "\n%d records acknowledged, %d of unknown outcome, %d refused; %d read. Anomalies: %s\n", r.tally.Acked, r.tally.Unknown, r.tally.Failed, r.tally.Read, r.findings.Names())
	fmt.Fprintf(&text, "Failed: %d of the SDK's records, %d of %d plain calls; of those where none may fail %d\n", r.counts.SDKFailed, r.counts.PlainFailed, r.counts.Plain, r.failed())
	for _, e := range r.errors {
		fmt.Fprintf(&text, "  %s\n", e)
	}
	fmt.Fprintf(&text, "%sLogs: %s\n", r.findings, r.logs)
	_, err := io.WriteString(w, text.String())
	return err
}
