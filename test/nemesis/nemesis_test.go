package main

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/test/history"
)

var (
	faultTime = flag.Duration("nemesis.time", 4*time.Second, "how long the faults of each history last")
	firstSeed = flag.Uint64("nemesis.seed", 1, "of the first history")
	onTable   = flag.String("nemesis.table", string(localstack.Ministack), "the table server: ministack, dynalite or dynoxide")
	faultName = flag.String("nemesis.fault", "F02 kill -9 of a leader;F09 agent and agent, both;F30", "those whose name begins so, several with ; between, or all")
	registers = flag.Int("nemesis.registers", 64, "histories of one partition each")
)

// parallelHistories may run at once, though they are more than the processors: they wait most of the time.
const parallelHistories = 3

func testSettings(t *testing.T) settings {
	return settings{seed: *firstSeed, duration: *faultTime, agents: 3, engine: *onTable, parallel: parallelHistories, fault: "all", out: t.TempDir()}
}

func sharedStores(t *testing.T, s settings) *stores {
	t.Helper()
	localstacktest.Installed(t, localstack.MinIO)
	localstacktest.Installed(t, localstack.Engine(s.engine))
	stores, err := startStores(t.Context(), s.engine, s.binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stores.close(); err != nil {
			t.Error(err)
		}
	})
	return stores
}

// output is the log of a test.
type output struct{ t *testing.T }

func (o output) Write(b []byte) (int, error) {
	o.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func TestSeveralAgentsKeepEveryPromiseUnderFaults(t *testing.T) {
	s := testSettings(t)
	stores := sharedStores(t, s)
	s.fault = *faultName
	results := s.play(t.Context(), stores, s.chosen(), output{t})
	t.Log("\n" + table(results))
	for _, r := range results {
		switch {
		case !r.ok():
			t.Errorf("%s, seed %d: %s, %v", r.fault.name, r.seed, r.findings.Names(), r.err)
		case r.tally.Acked < warmUp || r.played == 0:
			t.Errorf("%s, seed %d: %d acknowledged, %d rounds", r.fault.name, r.seed, r.tally.Acked, r.played)
		}
	}
	s.fault, s.histories = "all", *registers
	if ok, err := s.registers(t.Context(), stores, output{t}); err != nil || !ok {
		t.Errorf("not every history of one partition is linearizable: %v", err)
	}
}

func TestMatrixHasEveryFault(t *testing.T) {
	names := map[string]bool{}
	for _, f := range faults() {
		if names[f.name] || f.play == nil {
			t.Errorf("%s is there twice, or does nothing", f.name)
		}
		names[f.name] = true
	}
	for _, number := range []string{"F02", "F03", "F06", "F07", "F08", "F09", "F10", "F11", "F12", "F13", "F14", "F15", "F16", "F17", "F21", "F22", "F23", "F24", "F30"} {
		if len((settings{fault: number}).chosen()) == 0 {
			t.Errorf("no fault %s", number)
		}
	}
	if got := (settings{fault: "F99"}).chosen(); got != nil {
		t.Errorf("got %d faults of a number that is not there", len(got))
	}
}

func TestTableSumsUpHistoriesOfAFault(t *testing.T) {
	a, b := fault{name: "A"}, fault{name: "B"}
	got := table([]result{
		{plan: plan{fault: b}, tally: history.Tally{Acked: 1, Read: 2, Worked: 4}, played: 1},
		{plan: plan{fault: a}, tally: history.Tally{Acked: 10, Unknown: 1, Failed: 2, Read: 20}, recoveries: []time.Duration{2 * time.Second, time.Second}, played: 3},
		{plan: plan{fault: a}, findings: history.Findings{{Name: "lost-write"}}, err: errors.New("broken")},
	})
	for _, want := range []string{
		"| A | 2 | 3 | 33 | 10 | 0 | 1 | 2 | lost-write 1, 1 not played | 2.00 s | 2.00 s |\n",
		"| B | 1 | 1 | 7 | 1 | 4 | 0 | 0 | none | - | - |\n",
		"| all | 3 | 4 | 40 | 11 | 4 | 1 | 2 | lost-write 1, 1 not played | 2.00 s | 2.00 s |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in:\n%s", want, got)
		}
	}
}

func TestFailedHistorySaysHowToPlayItAgain(t *testing.T) {
	var text strings.Builder
	r := result{plan: plan{fault: fault{name: "F24 rolling restart"}, seed: 7, duration: time.Minute, agents: 3}, folder: "logs",
		findings: history.Findings{{Name: "G1a", Text: "1-1 was read"}}}
	r.complain(&text, "dynoxide")
	for _, want := range []string{"seed 7: G1a 1", "1-1 was read", "logs: logs", `-fault "F24 rolling restart" -seed 7 -histories 1 -duration 1m0s -agents 3 -table dynoxide`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, text.String())
		}
	}
	r.findings = nil
	text.Reset()
	if r.complain(&text, "dynoxide"); text.Len() > 0 {
		t.Errorf("a good history complains: %s", text.String())
	}
}

func TestUntilEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if until(ctx, time.Hour, func() bool { return false }) {
		t.Error("what never comes has come")
	}
}

func TestClusterThatDoesNotStartLeavesNothing(t *testing.T) {
	nowhere := &localstack.Server{Endpoint: "http://127.0.0.1:1"}
	c, err := newCluster(t.Context(), &stores{objects: nowhere, table: nowhere, binary: "/nowhere/splashdam"}, "nemesis", t.TempDir(), 3, slotsFew, 1)
	if c != nil || err == nil {
		t.Errorf("got %v, %v; want an error", c, err)
	}
}
