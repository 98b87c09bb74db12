package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func wantGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s (%v): want\n%s\ngot\n%s\n(go test ./cmd/splashdam -update rewrites the file)", name, err, want, got)
	}
}

// twoAgents are what two agents counted, over different times.
func twoAgents() []agentUsage {
	return []agentUsage{
		{"10.0.0.1:4510", client.AgentUsage{Boot: "a", CountedFor: time.Hour,
			Requests: []client.StoreRequests{
				{Store: "bucket", Kind: "put", Cause: "flush", Requests: 14400, Units: 14400, Bytes: 3 << 30},
				{Store: "bucket", Kind: "get", Cause: "read", Requests: 1000, Units: 1000, Bytes: 1 << 30},
				{Store: "bucket", Kind: "list", Cause: "cluster", Requests: 10, Units: 10},
				{Store: "bucket", Kind: "delete", Cause: "cluster", Requests: 500},
				{Store: "table", Kind: "put_item", Cause: "commit", Requests: 14400, Units: 28800, Bytes: 20 << 20},
				{Store: "table", Kind: "put_item", Cause: "lease", Requests: 3600, Units: 3600, Bytes: 1 << 20},
			},
			Topics: []client.TopicBytes{{Topic: "goals", Produced: 1 << 30, Fetched: 2 << 30}, {Topic: "cards", Produced: 512 << 20}, {Produced: 512 << 20}}}},
		{"10.0.0.2:4510", client.AgentUsage{Boot: "b", CountedFor: 30 * time.Minute,
			Requests: []client.StoreRequests{
				{Store: "bucket", Kind: "get", Cause: "read", Requests: 500, Units: 500, Bytes: 1 << 29},
				{Store: "bucket", Kind: "put", Cause: "snapshot", Requests: 6, Units: 6, Bytes: 6 << 20},
				{Store: "table", Kind: "query", Cause: "read", Requests: 1800, Units: 3600, Bytes: 10 << 20},
			},
			Topics: []client.TopicBytes{{Topic: "cards", Fetched: 1 << 30}}}},
	}
}

func TestCostIsRequestsPerHourTimesPrices(t *testing.T) {
	p, _ := pricesOf("us-east-1")
	report := costOf(twoAgents(), p)
	report.NotAsked = []notAsked{{"c", "10.0.0.3:4510", "connection refused"}, {"d", "", "it advertises no address"}}
	var text, js bytes.Buffer
	env := &environment{out: &text, output: "text"}
	env.showCost(report, 30*time.Second)
	wantGolden(t, "cost.txt", text.String())
	env = &environment{out: &js, output: "json"}
	if err := env.print(report, nil); err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, js.Bytes(), "", "  "); err != nil {
		t.Fatal(err)
	}
	wantGolden(t, "cost.json", indented.String())
	// 14,400 puts at $0.005 and 2,000 gets and 12 puts of snapshots; 28,800 and 3,600 write units; 7,200 read units; 10 lists.
	want := 14400*0.005/1000 + 2000*0.0004/1000 + 12*0.005/1000 + 32400*0.625/1e6 + 7200*0.125/1e6 + 10*0.005/1000
	if d := report.DollarsPerH - want; d > 1e-8 || d < -1e-8 {
		t.Errorf("%g dollars per hour, want %g", report.DollarsPerH, want)
	}
	sum := report.BasePerH
	for _, topic := range report.Topics {
		sum += topic.Dollars
	}
	if d := sum - want; d > 1e-8 || d < -1e-8 {
		t.Errorf("topics and base come to %g dollars, want %g", sum, want)
	}
}

func TestCostWithoutTrafficIsAllBase(t *testing.T) {
	p, _ := pricesOf("us-east-1")
	r := costOf([]agentUsage{{"", client.AgentUsage{CountedFor: time.Hour, Requests: []client.StoreRequests{
		{Store: "bucket", Kind: "get", Cause: "read", Requests: 1000, Units: 1000}, {Store: "table", Kind: "put_item", Cause: "commit", Requests: 1, Units: 1}}}}}, p)
	if r.BasePerH != r.DollarsPerH || r.DollarsPerH == 0 || r.DollarsPerGiB != nil || len(r.Topics) != 0 {
		t.Errorf("report %+v, want everything in the base", r)
	}
}

func costJSON(t *testing.T, args ...string) costReport {
	t.Helper()
	code, stdout, stderr, _ := runFor(t, nil, append([]string{"cost", "-o", "json"}, args...)...)
	var r costReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitDone {
		t.Fatalf("cost %s: exit %d, output %q, error %q", strings.Join(args, " "), code, stdout, stderr)
	}
	return r
}

func TestCostAsksEveryAgentAtItsOwnAddress(t *testing.T) {
	addresses := startAgents(t, []string{"a"}, []string{"b"})
	r := costJSON(t, "--server", addresses[0])
	if len(r.Agents) != 2 || r.Agents[0].Boot != "a" || r.Agents[1].Address != addresses[1] || len(r.NotAsked) != 0 {
		t.Errorf("asked %+v, not %+v; want both", r.Agents, r.NotAsked)
	}
	if len(r.Stores) != 1 || r.Stores[0].Requests != 1200 || r.Stores[0].Dollars != 0.006 || *r.DollarsPerGiB != 0.001 {
		t.Errorf("stores %+v, want 1,200 puts per hour for $0.006, $0.001 per GiB", r.Stores)
	}
}

func TestCostOverATimeCountsTheDifference(t *testing.T) {
	addresses := startAgents(t, []string{"a"}, []string{"b", "other"})
	r := costJSON(t, "--server", addresses[0], "--over", "1s")
	if len(r.Stores) != 1 || r.Stores[0].Requests != 200 || r.Topics[0].Produced != 1<<30 {
		t.Errorf("stores %+v, topics %+v; want 600 puts and 3 GiB in 3 hours", r.Stores, r.Topics)
	}
	if len(r.Agents) != 1 || len(r.NotAsked) != 1 || r.NotAsked[0].Boot != "b" || !strings.Contains(r.NotAsked[0].Cause, "restarted") {
		t.Errorf("asked %+v, not %+v; want the restarted agent left out", r.Agents, r.NotAsked)
	}
}

func TestAgentsOutOfReachAreAskedAtTheServerAddressesOrNamed(t *testing.T) {
	addresses := startAgents(t, []string{"a"}, []string{"b"}, []string{"c"})
	r := costJSON(t, "--server", addresses[0])
	if len(r.Agents) != 1 || len(r.NotAsked) != 2 || r.NotAsked[0].Cause != "it advertises no address" || r.NotAsked[1].Cause != "connection refused" {
		t.Errorf("asked %+v, not %+v; want two named with causes", r.Agents, r.NotAsked)
	}
	r = costJSON(t, "--server", strings.Join(addresses, ","))
	if len(r.Agents) != 3 || r.Agents[2].Address != addresses[2] || len(r.NotAsked) != 0 {
		t.Errorf("asked %+v, not %+v; want all", r.Agents, r.NotAsked)
	}
	alone := startAgents(t, []string{"a", "x"}) // the only one is asked at --server, wherever it says it is
	if r = costJSON(t, "--server", alone[0]); len(r.Agents) != 1 || r.Agents[0].Address != alone[0] {
		t.Errorf("asked %+v", r.Agents)
	}
}

func TestCostRefusesWrongTimesAndPrices(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const three = "bucket_write_per_1000: 1\nbucket_read_per_1000: 2\ntable_write_per_1000000: 3\n"
	for _, c := range []struct{ flag, value, want string }{
		{"--over", "10ms", "--over 10ms: want 1s to 24h"},
		{"--over", "-1s", "want 1s to 24h"},
		{"--prices", "mars-1", "read prices mars-1: neither a built-in table nor a file (want us-east-1"},
		{"--prices", dir, "is a directory"},
		{"--prices", file("missing.yaml", three), "table_read_per_1000000: missing"},
		{"--prices", file("negative.yaml", three+"table_read_per_1000000: -1\n"), "table_read_per_1000000: -1: want dollars, 0 or more"},
		{"--prices", file("infinite.yaml", three+"table_read_per_1000000: .inf\n"), "want dollars, 0 or more"},
		{"--prices", file("unknown.yaml", three+"table_read_per_1000000: 4\ntable_read: 1\n"), "table_read not found"},
		{"--prices", file("text.yaml", three+"table_read_per_1000000: cheap\n"), "cheap"},
		{"--prices", file("empty.yaml", ""), "EOF"},
	} {
		code, stdout, stderr, _ := runFor(t, nil, "cost", c.flag, c.value)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("cost %s %s: exit %d, output %q, error %q; want exit %d and %q", c.flag, c.value, code, stdout, stderr, exitUsage, c.want)
		}
	}
	p, err := readPrices(file("whole.yaml", three+"table_read_per_1000000: 4\n"))
	if want := (prices{filepath.Join(dir, "whole.yaml"), 1, 2, 3, 4}); err != nil || p != want {
		t.Errorf("got %+v, %v; want %+v", p, err, want)
	}
}

func TestTheHelpOfCostNamesEveryPriceWithItsBuiltInValue(t *testing.T) {
	_, help, _, _ := runFor(t, nil, "cost", "--help")
	var fields []string
	for line := range strings.Lines(help) {
		if strings.HasPrefix(line, "  bucket_") || strings.HasPrefix(line, "  table_") {
			fields = append(fields, line)
		}
	}
	p, err := parsePrices([]byte(strings.Join(fields, "")))
	if p.Table = "us-east-1"; err != nil {
		t.Fatal(err)
	}
	if want, _ := pricesOf("us-east-1"); p != want {
		t.Errorf("the help says %+v, built in is %+v", p, want)
	}
}
