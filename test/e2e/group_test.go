package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// consuming is a process of "consume --group".
type consuming struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stderr *lockedBuffer
	ended  chan error

	mu      sync.Mutex
	printed []printed
}

// printed is one record that a process printed.
type printed struct {
	Partition  int
	Offset     int64
	Generation int64
	Value      string
}

// consumeAs starts a process that consumes as a member of a group.
func (b *broker) consumeAs(name, topic, group string, args ...string) *consuming {
	b.t.Helper()
	c := &consuming{t: b.t, name: name, stderr: &lockedBuffer{}, ended: make(chan error, 1)}
	c.cmd = exec.Command(binary, append([]string{"consume", topic, "--group", group, "-o", "json", "--server", b.address}, args...)...)
	c.cmd.Env, c.cmd.Stderr = cleanEnvironment(), c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.kill)
	go func() {
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var p printed
			if json.Unmarshal(lines.Bytes(), &p) != nil {
				break // cut by its end
			}
			c.mu.Lock()
			c.printed = append(c.printed, p)
			c.mu.Unlock()
		}
		c.ended <- c.cmd.Wait()
	}()
	return c
}

func (c *consuming) records() []printed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.printed)
}

// kill is kill -9.
func (c *consuming) kill() {
	c.cmd.Process.Kill()
	c.wait()
}

// stop is SIGTERM: the process commits, leaves and ends.
func (c *consuming) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.wait()
}

// await waits a little while for what was printed to be read.
func (c *consuming) await(so func() bool) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for late := time.After(5 * time.Second); !so(); {
		select {
		case <-again.C:
		case <-late:
			return // the check says what is missing
		}
	}
}

func (c *consuming) wait() {
	select {
	case err := <-c.ended:
		c.ended <- err
	case <-time.After(startTimeout):
		c.t.Errorf("%s does not end: %s", c.name, c.stderr)
	}
}

// groupShown is what is looked at of group describe.
type groupShown struct {
	State      string
	Generation int64
	Members    []struct {
		Member   string
		Assigned []struct {
			Topic      string
			Partitions []int
		}
	}
}

// holders is how many members have partitions.
func (g groupShown) holders() (n int) {
	for _, m := range g.Members {
		if len(m.Assigned) > 0 {
			n++
		}
	}
	return n
}

// awaitGroup waits until so many members have joined and every partition has come to the member that it is assigned to.
func (b *broker) awaitGroup(group string, members int) (shown groupShown) {
	b.t.Helper()
	b.until(startTimeout, fmt.Sprintf("group %s is stable with %d members", group, members), func() bool {
		r := b.run(nil, "group", "describe", group, "-o", "json")
		shown = groupShown{}
		return r.code == 0 && json.Unmarshal([]byte(r.stdout), &shown) == nil && shown.State == "stable" && len(shown.Members) == members
	})
	return shown
}

// awaitLag waits until the group has processed everything, and its positions say so.
func (b *broker) awaitLag(group string) {
	b.t.Helper()
	b.until(startTimeout, "group "+group+" has no lag", func() bool {
		var shown struct {
			Lag        int64
			Partitions []struct{ Committed *int64 }
		}
		r := b.run(nil, "lag", group, "-o", "json")
		return r.code == 0 && json.Unmarshal([]byte(r.stdout), &shown) == nil && shown.Lag == 0 && len(shown.Partitions) > 0
	})
}

func (b *broker) until(within time.Duration, what string, so func() bool) {
	b.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for begin := time.Now(); !so(); <-again.C {
		if time.Since(begin) > within {
			b.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// events sends numbered records, keyed by match.
func (b *broker) events(topic string, first, next int) {
	b.t.Helper()
	var lines strings.Builder
	for i := first; i < next; i++ {
		fmt.Fprintf(&lines, "match-%d:%d\n", i%20, i)
	}
	if r := b.run(strings.NewReader(lines.String()), "produce", topic, "--key-separator", ":"); r.code != 0 {
		b.t.Errorf("produce events %d to %d: exit %d: %s", first, next, r.code, r.stderr)
	}
}

// seen counts how often each of the events was printed by all of the processes.
func seen(all []*consuming) map[string]int {
	counts := map[string]int{}
	for _, c := range all {
		for _, p := range c.records() {
			counts[p.Value]++
		}
	}
	return counts
}

// TestWorldCupIsSharedByAGroupAndOutlivesAConsumer is the README's story: three partitions and five consumers of one group, of which two are idle until one that is not is killed;
// and a second group that gets everything.
func TestWorldCupIsSharedByAGroupAndOutlivesAConsumer(t *testing.T) {
	onEachStack(t, func(t *testing.T, s stack) {
		b := s.start(t, "")
		b.mustRun(nil, "topic", "create", "worldcup", "--partitions", "3")
		var board []*consuming
		for i := range 5 {
			board = append(board, b.consumeAs(fmt.Sprint("board ", i), "worldcup", "board", "--session-timeout", "3s"))
		}
		archive := b.consumeAs("archive", "worldcup", "archive")
		if shown := b.awaitGroup("board", 5); shown.holders() != 3 {
			t.Errorf("%d of five members have partitions, want 3: %+v", shown.holders(), shown)
		}
		b.awaitGroup("archive", 1)
		b.events("worldcup", 0, 3000)
		b.awaitLag("board")
		board[0].await(func() bool { return len(seen(board)) >= 3000 })
		for value, n := range seen(board) {
			if n != 1 {
				t.Errorf("before any fault, event %s was processed %d times", value, n)
			}
		}
		victim := slices.IndexFunc(board, func(c *consuming) bool { return len(c.records()) > 0 })
		killed := time.Now()
		board[victim].kill()
		b.events("worldcup", 3000, 6000)
		if shown := b.awaitGroup("board", 4); shown.holders() != 3 {
			t.Errorf("%d of four members have partitions, want 3: %+v", shown.holders(), shown)
		}
		t.Logf("the partition moved within %v", time.Since(killed).Round(time.Millisecond))
		b.awaitLag("board")
		b.awaitLag("archive")
		checkEvents(t, board, 6000)
		checkEvents(t, []*consuming{archive}, 6000)
	})
}

// checkEvents: all were processed, each by one member, and no partition by two in one generation. All that was printed before the kill was committed, so nothing comes twice.
func checkEvents(t *testing.T, all []*consuming, events int) {
	t.Helper()
	// What is committed was printed, but may not have been read here yet.
	all[0].await(func() bool { return len(seen(all)) >= events })
	counts := seen(all)
	for i := range events {
		if n := counts[fmt.Sprint(i)]; n != 1 {
			t.Errorf("event %d was processed %d times", i, n)
		}
	}
	type tenure struct {
		partition  int
		generation int64
	}
	owners := map[tenure]string{}
	for _, c := range all {
		for _, p := range c.records() {
			at := tenure{p.Partition, p.Generation}
			if owner := owners[at]; p.Generation == 0 || owner != "" && owner != c.name {
				t.Errorf("partition %d in generation %d: processed by %s and by %s", p.Partition, p.Generation, owner, c.name)
				return
			}
			owners[at] = c.name
		}
	}
	next := map[int]int64{} // by partition: resumed where the one before ended, in order
	var records []printed
	for _, c := range all {
		last := map[int]int64{}
		for _, p := range c.records() {
			if o, ok := last[p.Partition]; ok && p.Offset <= o {
				t.Errorf("%s: partition %d: offset %d behind %d", c.name, p.Partition, p.Offset, o)
			}
			last[p.Partition] = p.Offset
		}
		records = append(records, c.records()...)
	}
	slices.SortFunc(records, func(a, b printed) int { return int(a.Offset - b.Offset) })
	for _, p := range records {
		if p.Offset != next[p.Partition] {
			t.Errorf("partition %d: offset %d, want %d", p.Partition, p.Offset, next[p.Partition])
			return
		}
		next[p.Partition]++
	}
}

// TestRollingRestartOfAGroupLosesAndDoublesNoOrder is the README's other story: three groups get every order; the instances of one share them, and are restarted one by one.
func TestRollingRestartOfAGroupLosesAndDoublesNoOrder(t *testing.T) {
	t.Parallel()
	agents, b := realStack(t).startSeveral(t)
	b.mustRun(nil, "topic", "create", "orders", "--partitions", "6")
	lives := 0
	start := func(group string, i int, args ...string) *consuming {
		lives++
		args = append(args, "--session-timeout", "20s")
		// At any of the agents: one group, wherever its members are.
		return agents[i%several].consumeAs(fmt.Sprintf("%s %d, life %d", group, i, lives), "orders", group, args...)
	}
	var email []*consuming
	running := make([]*consuming, 3)
	for i := range running {
		running[i] = start("email", i)
		email = append(email, running[i])
	}
	inventory, analytics := []*consuming{start("inventory", 0), start("inventory", 1)}, []*consuming{start("analytics", 2)}
	b.awaitGroup("email", 3)
	b.awaitGroup("inventory", 2)
	b.awaitGroup("analytics", 1)
	sent := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for ; ; n += 50 {
			select {
			case <-stop:
				sent <- n
				return
			default:
				b.events("orders", n, n+50)
			}
		}
	}()
	for i := range running {
		running[i].stop()
		running[i] = start("email", i)
		email = append(email, running[i])
		b.awaitGroup("email", 3)
	}
	close(stop)
	orders := <-sent
	for group, members := range map[string][]*consuming{"email": email, "inventory": inventory, "analytics": analytics} {
		b.awaitLag(group)
		checkEvents(t, members, orders)
	}
	t.Logf("%d orders", orders)
}
