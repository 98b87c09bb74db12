package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

// wellCluster is a cluster of two agents and two shards with which nothing is wrong.
func wellCluster() client.Cluster {
	return client.Cluster{
		ID: "c1", FormatLevel: 1, AnsweredBy: "aaaaaaaa-1111",
		Agents: []client.AgentInfo{
			{Boot: "bbbbbbbb-2222", Ordinal: 2, Address: "b:1", PeerAddress: "b:2", Host: "hb", Zone: "z2", Version: "v1", HeardAgo: 400 * time.Millisecond, Applied: []int64{98, 7}},
			{Boot: "aaaaaaaa-1111", Ordinal: 1, Address: "a:1", PeerAddress: "a:2", Host: "ha", Version: "v1", Applied: []int64{100, 7}},
		},
		Shards: []client.ShardInfo{
			{Shard: 0, Leader: "aaaaaaaa-1111", Epoch: 3, AppliedSeq: 100, RingSlots: 64, RingUsed: 16, SnapshotSeq: 90, SnapshotAge: 34 * time.Second},
			{Shard: 1, Leader: "bbbbbbbb-2222", Epoch: 1, AppliedSeq: 7, RingSlots: 64, SnapshotSeq: -1, SnapshotAge: -1},
		},
	}
}

func TestStatusOfAClusterThatIsWell(t *testing.T) {
	var out bytes.Buffer
	env := &environment{out: &out, output: "text"}
	if err := env.showStatus(statusOf(wellCluster())); err != nil {
		t.Fatal(err)
	}
	const want = `Cluster c1, format level 1, as agent aaaaaaaa sees it.

AGENT     STATE  HEARD     ZONE  HOST  CLIENTS AT  AGENTS AT  VERSION
aaaaaaaa  ready  now       -     ha    a:1         a:2        v1
bbbbbbbb  ready  0.4s ago  z2    hb    b:1         b:2        v1

SHARD  LEADER    EPOCH  APPLIED  LAG  RING  SNAPSHOT
0      aaaaaaaa  3      100      2    25 %  90 (34s ago)
1      bbbbbbbb  1      7        0    0 %   -

Nothing is wrong.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestStatusSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(c *client.Cluster)
		want  string // the only problem
	}{
		"never heard": {func(c *client.Cluster) {
			c.Agents[0].HeardAgo, c.Agents[0].Applied, c.Shards[1].Leader = -1, nil, "aaaaaaaa-1111"
		},
			"Agent bbbbbbbb at b:2 was not heard by agent aaaaaaaa yet: if it runs, look at its --advertise-peer"},
		"silent": {func(c *client.Cluster) { c.Agents[0].HeardAgo, c.Shards[1].Leader = 12*time.Second, "aaaaaaaa-1111" },
			"Agent bbbbbbbb at b:2 was last heard 12s ago: if it runs, look at its machine"},
		"not ready": {func(c *client.Cluster) { c.Agents[0].Problem = "heartbeat: the table does not answer" },
			"Agent bbbbbbbb is not ready: heartbeat: the table does not answer: mend what it names"},
		"silent with a reason": {func(c *client.Cluster) {
			c.Agents[0].HeardAgo, c.Agents[0].Unreached, c.Shards[1].Leader = 12*time.Second, "ping: agent at b:2: wrong secret", "aaaaaaaa-1111"
		},
			"Agent bbbbbbbb at b:2 was last heard 12s ago; what is met there: wrong secret: if it runs, look at its machine"},
		"heard but not reached": {func(c *client.Cluster) { c.Agents[0].Unreached = "ping: agent at b:2: no answer in time" },
			"Agent bbbbbbbb at b:2 greets agent aaaaaaaa but does not answer it; what is met there: no answer in time: look at its --advertise-peer"},
		"clock ahead": {func(c *client.Cluster) { c.Agents[0].ClockAhead = time.Hour },
			"The clock of agent bbbbbbbb is 1h0m0s ahead of agent aaaaaaaa's: set it, and keep it set (NTP): records get their time from it"},
		"own clock behind": {func(c *client.Cluster) { c.Agents[1].ClockAhead = -90 * time.Second },
			"The clock of agent aaaaaaaa is 1m30s behind those of the others: set it"},
		"one address for two": {func(c *client.Cluster) { c.Agents[0].PeerAddress = "a:2" },
			"Agents aaaaaaaa and bbbbbbbb have one peer address, a:2: give each an --advertise-peer of its own"},
		"halted":    {func(c *client.Cluster) { c.Shards[0].Fault = "slot 5 is missing" }, "Shard 0 stopped: slot 5 is missing: delete nothing; look at what it names and at splashdam shard log 0"},
		"no leader": {func(c *client.Cluster) { c.Shards[0].Leader = "" }, "Shard 0 has no leader, writes to it wait: an agent takes over within seconds"},
		"gone leader": {func(c *client.Cluster) { c.Shards[0].Leader = "dddddddd-4444" },
			"Shard 0 is led by agent dddddddd, which does not answer: another agent takes over within seconds"},
		"full ring":    {func(c *client.Cluster) { c.Shards[0].RingUsed = 40 }, "The ring of shard 0 is 62 % full, writes slow down at 75 %: snapshots do not keep up"},
		"old snapshot": {func(c *client.Cluster) { c.Shards[0].SnapshotAge = 12 * time.Minute }, "The newest snapshot of shard 0 is of 12m ago, 10 entries ago: look whether the bucket takes puts"},
		"slow follower": {func(c *client.Cluster) { c.Shards[0].AppliedSeq, c.Agents[1].Applied[0] = 5098, 5098 },
			"Agent bbbbbbbb is 5,000 entries behind in shard 0: it reads old state"},
	} {
		cluster := wellCluster()
		c.spoil(&cluster)
		var out bytes.Buffer
		env := &environment{out: &out, output: "text"}
		if err := env.showStatus(statusOf(cluster)); err != nil {
			t.Fatal(err)
		}
		if problems := statusOf(cluster).Problems; len(problems) != 1 || !strings.Contains(out.String(), "\n"+c.want) || strings.Contains(out.String(), "Nothing is wrong") {
			t.Errorf("%s: got %d problems in\n%s\nwant %s", name, len(problems), out.String(), c.want)
		}
	}
}

func TestDrainingAgentIsNoProblem(t *testing.T) {
	cluster := wellCluster()
	cluster.Agents[0].Draining = true
	if s := statusOf(cluster); len(s.Problems) != 0 || s.Agents[1].State != "draining" {
		t.Errorf("got %+v", s)
	}
}

func TestAgentThatWasKilledAndStartedAgainIsNoProblem(t *testing.T) {
	cluster := wellCluster()
	cluster.Agents = append(cluster.Agents, client.AgentInfo{Boot: "cccccccc-0000", Ordinal: 0, PeerAddress: "a:2", Host: "ha", HeardAgo: -1})
	if s := statusOf(cluster); len(s.Problems) != 0 || s.Agents[0].State != "replaced" {
		t.Errorf("got %+v", s)
	}
	cluster = wellCluster()
	cluster.Agents = append(cluster.Agents, client.AgentInfo{Boot: "cccccccc-0000", Ordinal: 0, PeerAddress: "a:2", Host: "another", HeardAgo: -1})
	if s := statusOf(cluster); len(s.Problems) != 1 || s.Agents[0].State != "unknown" {
		t.Errorf("on another machine: got %+v", s)
	}
}

func TestStatusOfALargeClusterIsOneScreen(t *testing.T) {
	cluster := wellCluster()
	for i := range 40 {
		cluster.Agents = append(cluster.Agents, client.AgentInfo{Boot: fmt.Sprintf("aaaaaaaa-%04d", i), PeerAddress: fmt.Sprintf("x%d:1", i)})
		cluster.Shards = append(cluster.Shards, client.ShardInfo{Shard: int32(2 + i), Leader: "aaaaaaaa-1111"})
	}
	for i := range 30 {
		cluster.Agents[5+i].Problem, cluster.Shards[5+i].Fault = "it rests", "damage"
	}
	var out bytes.Buffer
	env := &environment{out: &out, output: "text"}
	if err := env.showStatus(statusOf(cluster)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got > 60 || !strings.Contains(out.String(), "and 26 other agents") || !strings.Contains(out.String(), "and 26 other shards") ||
		!strings.Contains(out.String(), "and 44 more: see -o json") {
		t.Errorf("%d lines:\n%s", got, out.String())
	}
	// Boots that begin alike are told apart.
	names := statusOf(cluster).names
	if names["aaaaaaaa-0001"] == names["aaaaaaaa-0002"] {
		t.Errorf("two agents are called %s", names["aaaaaaaa-0001"])
	}
}

func TestStatusIsAskedOfAnAgentAndPrintedAsJSON(t *testing.T) {
	addresses := startAgents(t, []string{"a"}, []string{"b"})
	code, stdout, stderr, _ := runFor(t, nil, "cluster", "status", "--server", addresses[0], "-o", "json")
	var s clusterStatus
	if err := json.Unmarshal([]byte(stdout), &s); code != exitDone || err != nil || len(s.Agents) != 2 || s.Agents[0].State != "unknown" || len(s.Problems) != 2 || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if code, _, stderr, _ := runFor(t, nil, "cluster", "status", "--server", "127.0.0.1:1"); code != exitFailed || !strings.Contains(stderr, "connection refused") {
		t.Errorf("nobody there: exit %d, %s", code, stderr)
	}
}

// lines signals each write.
type lines struct {
	bytes.Buffer
	wrote func()
}

func (l *lines) Write(b []byte) (int, error) {
	defer l.wrote()
	return l.Buffer.Write(b)
}

func TestWatchedStatusIsShownAgainUntilItIsInterrupted(t *testing.T) {
	addresses := startAgents(t, []string{"a"})
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	out := &lines{}
	out.wrote = func() {
		if n++; n == 2 {
			stop()
		}
	}
	env := &environment{in: strings.NewReader(""), out: out, err: &bytes.Buffer{}, lookup: func() []string { return nil }}
	if code := run(ctx, env, []string{"cluster", "status", "--watch", "-o", "json", "--server", addresses[0]}); code != exitDone || n != 2 || strings.Count(out.String(), `"cluster":`) != 2 {
		t.Errorf("exit %d after %d times: %s", code, n, out.String())
	}
}

func TestStatusOfAnAgentWhoseTableIsAwayIsWhatItSaysOfItself(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			http.Error(w, "unavailable: heartbeat: the table does not answer", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"code":"permission_denied","message":"list agents: no answer in time"}`))
		}
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	code, stdout, stderr, _ := runFor(t, nil, "cluster", "status", "--server", address)
	want := "splashdam: ask for the cluster at " + address + ": the agent is not ready: unavailable: heartbeat: the table does not answer\n"
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit %d, %q %q, want %q", code, stdout, stderr, want)
	}
}
