package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/test/history"
)

// table is the results by fault, in Markdown.
func table(results []result) string {
	slices.SortStableFunc(results, func(a, b result) int { return strings.Compare(a.fault.name, b.fault.name) })
	var text strings.Builder
	text.WriteString("| fault | histories | rounds | operations | acknowledged records checked | worked on | unknown | failed | anomalies | recovery p50 | p99 |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|\n")
	all := results
	for len(results) > 0 {
		n := 1
		for n < len(results) && results[n].fault.name == results[0].fault.name {
			n++
		}
		text.WriteString(line(results[0].fault.name, results[:n]))
		results = results[n:]
	}
	text.WriteString(line("all", all))
	return text.String()
}

func line(name string, results []result) string {
	var sum history.Tally
	var found history.Findings
	var took []time.Duration
	rounds, broken := 0, 0
	for _, r := range results {
		sum.Acked, sum.Unknown, sum.Failed, sum.Read = sum.Acked+r.tally.Acked, sum.Unknown+r.tally.Unknown, sum.Failed+r.tally.Failed, sum.Read+r.tally.Read
		sum.Worked += r.tally.Worked
		found, took, rounds = append(found, r.findings...), append(took, r.recoveries...), rounds+r.played
		if r.err != nil {
			broken++
		}
	}
	anomalies := found.Names()
	if broken > 0 {
		anomalies += fmt.Sprintf(", %d not played", broken)
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d | %s | %s | %s |\n", name, len(results), rounds, sum.Acked+sum.Unknown+sum.Failed+sum.Read+sum.Worked, sum.Acked, sum.Worked,
		sum.Unknown, sum.Failed, anomalies, percentile(took, 0.5), percentile(took, 0.99))
}

func percentile(all []time.Duration, p float64) string {
	if len(all) == 0 {
		return "-"
	}
	slices.Sort(all)
	return fmt.Sprintf("%.2f s", all[min(int(p*float64(len(all))), len(all)-1)].Seconds())
}

// complain says what is wrong with a history and how to play it again. Its timing is not repeated, only what is left to chance.
func (r result) complain(w io.Writer, engine string) {
	if r.ok() {
		return
	}
	fmt.Fprintf(w, "\n%s, seed %d: %s\n", r.fault.name, r.seed, r.findings.Names())
	if r.err != nil {
		fmt.Fprintf(w, "not played to its end: %v\n", r.err)
	}
	fmt.Fprintf(w, "%slogs: %s\nagain: go run ./test/nemesis -fault %q -seed %d -histories 1 -duration %s -agents %d -table %s -keep\n",
		r.findings, r.folder, r.fault.name, r.seed, r.duration, r.agents, engine)
}
