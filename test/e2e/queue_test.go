package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var queueBlock = regexp.MustCompile("(?s)<!-- run with queues -->\n```sh\n(.*?)```")

// TestPoisonedJobOfTheReadmeIsMovedFixedAndPaid is the README's story of dead letters.
func TestPoisonedJobOfTheReadmeIsMovedFixedAndPaid(t *testing.T) {
	onEachStack(t, func(t *testing.T, s stack) {
		text, err := os.ReadFile(filepath.Join(repository, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		block := queueBlock.FindStringSubmatch(string(text))
		if block == nil {
			t.Fatal("README.md has no block with queues that is marked to be run")
		}
		b := s.start(t, "")
		out := runShell(t, b, t.TempDir(), block[1])
		first, second, redriven := strings.Cut(out, "redriven 1 record of jobs-dlq\n")
		if !redriven {
			t.Fatalf("nothing was redriven:\n%s", out)
		}
		for _, want := range []string{"paid 12 to ann\n", "paid 7 to eve\n", "released jobs/0 at 1 (delivery 1): no amount: a dozen\n", "released jobs/0 at 1 (delivery 3): ",
			"2 accepted, 3 released, 0 rejected\n", "jobs/0/1  payments  3 ", "released  no amount: a dozen\n", "source         jobs/0/1\n", "value          a dozen\n"} {
			if strings.Count(first, want) != 1 {
				t.Errorf("before redriving, want once %q in:\n%s", want, first)
			}
		}
		if want := "paid 12 to ben\n1 accepted, 0 released, 0 rejected\n"; second != want {
			t.Errorf("afterwards: got %q, want %q", second, want)
		}
		if got, want := b.mustRun(nil, "dlq", "count"), "TOPIC     DEAD LETTERS  REDRIVING\njobs-dlq  0             0\n"; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// execute starts a process that runs until it is stopped; what its commands print is in out.
func (b *broker) execute(args ...string) (cmd *exec.Cmd, out *lockedBuffer) {
	b.t.Helper()
	out = &lockedBuffer{}
	cmd = exec.Command(binary, append(args, "--server", b.address)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = cleanEnvironment(), out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd, out
}

// ends sends SIGTERM and waits for the end, which must be that of an interrupted verb.
func ends(t *testing.T, cmd *exec.Cmd, out *lockedBuffer) {
	t.Helper()
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit %d, want 130: %s", code, out)
	}
}

// TestOrderedGroupPassesAPoisonedOrderAndKeepsTheOrderOfTheRest: the order is tried as often as --retry says, becomes one dead letter, and is processed
// behind the others when it is redriven.
func TestOrderedGroupPassesAPoisonedOrderAndKeepsTheOrderOfTheRest(t *testing.T) {
	onEachStack(t, func(t *testing.T, s stack) {
		b := s.start(t, "")
		b.mustRun(nil, "topic", "create", "orders", "--partitions", "1")
		var lines strings.Builder
		for i := range 20 {
			order := fmt.Sprint(i)
			if i == 7 {
				order = "seven"
			}
			fmt.Fprintf(&lines, "%s\n", order)
		}
		b.mustRun(strings.NewReader(lines.String()), "produce", "orders")
		const command = `read -r n; case $n in *[!0-9]*) echo "no number: $n" >&2; exit 1 ;; esac; echo "order $n, $SPLASHDAM_DELIVERIES"`
		cmd, out := b.execute("consume", "orders", "--group", "invoices", "--exec", command, "--retry", "2")
		says := func(line string) func() bool { return func() bool { return strings.Contains(out.String(), line) } }
		b.until(startTimeout, "the orders behind the poisoned one are processed", says("order 19, 1\n"))
		var letters struct {
			Source     struct{ Offset int64 }
			Group      string
			Deliveries int
			Reason     string
			Error      string
		}
		b.until(startTimeout, "there is a dead letter", func() bool {
			r := b.run(nil, "dlq", "list", "orders-dlq", "-o", "json")
			return r.code == 0 && strings.Count(r.stdout, "\n") == 1 && json.Unmarshal([]byte(r.stdout), &letters) == nil
		})
		if letters.Source.Offset != 7 || letters.Group != "invoices" || letters.Deliveries != 3 || letters.Reason != "given-up" || letters.Error != "no number: seven" {
			t.Errorf("got %+v", letters)
		}
		b.mustRun(nil, "dlq", "redrive", "orders-dlq", "0/0", "--value", "7")
		b.until(startTimeout, "the redriven order is processed", says("order 7, 1\n"))
		ends(t, cmd, out)
		b.awaitLag("invoices")
		var want []string
		for i := range 20 {
			if i != 7 {
				want = append(want, fmt.Sprintf("order %d, 1", i))
			}
		}
		want = append(want, "order 7, 1")
		var got []string
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "order ") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("processed %v, want %v:\n%s", got, want, out)
		}
		if r := b.run(nil, "dlq", "count", "orders-dlq", "-o", "json"); !strings.Contains(r.stdout, `"dead_letters":0,`) {
			t.Errorf("dead letters afterwards: %s%s", r.stdout, r.stderr)
		}
	})
}

// TestJobsOfAKilledConsumerComeToAnotherOne: more consumers than partitions, and kill -9 of one that holds records.
func TestJobsOfAKilledConsumerComeToAnotherOne(t *testing.T) {
	onEachStack(t, func(t *testing.T, s stack) {
		b := s.start(t, "")
		b.mustRun(nil, "topic", "create", "jobs", "--partitions", "1")
		const jobs = 60
		b.mustRun(strings.NewReader(strings.Repeat("job\n", jobs)), "produce", "jobs")
		const command = `echo "job $SPLASHDAM_OFFSET"; sleep 0.1`
		args := []string{"queue", "consume", "jobs", "--group", "workers", "--exec", command, "--lock-time", "1s"}
		var cmds []*exec.Cmd
		var outs []*lockedBuffer
		for range 3 {
			cmd, out := b.execute(args...)
			cmds, outs = append(cmds, cmd), append(outs, out)
		}
		b.until(startTimeout, "every consumer has jobs", func() bool {
			return !slices.ContainsFunc(outs, func(o *lockedBuffer) bool { return !strings.Contains(o.String(), "job ") })
		})
		cmds[0].Process.Kill()
		cmds[0].Wait()
		b.until(startTimeout, "all jobs are done", func() bool {
			r := b.run(nil, "queue", "describe", "jobs", "--group", "workers", "-o", "json")
			var shown struct{ Lag int64 }
			return r.code == 0 && json.Unmarshal([]byte(r.stdout), &shown) == nil && shown.Lag == 0
		})
		ends(t, cmds[1], outs[1])
		ends(t, cmds[2], outs[2])
		done := map[string]int{}
		for _, out := range outs {
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "job ") {
					done[line]++
				}
			}
		}
		twice := 0
		for _, n := range done {
			twice += n - 1
		}
		// The one that was killed had two at most: one in hand, and one waiting.
		if len(done) != jobs || twice > 2 {
			t.Errorf("%d different jobs were done, and %d again; want %d, and 2 at most", len(done), twice, jobs)
		}
		if got := b.mustRun(nil, "dlq", "count", "-o", "json"); got != "[]\n" {
			t.Errorf("dead letters: %s", got)
		}
	})
}
