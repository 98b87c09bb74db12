package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// spoken is what a verb wrote, for a test that waits for some of it while the verb runs.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced by each write
}

func newSpoken() *spoken { return &spoken{more: make(chan struct{})} }

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.more)
	s.more = make(chan struct{})
	return s.text.Write(b)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until what was written is as enough wants it, and answers it.
func (s *spoken) await(t *testing.T, what string, enough func(string) bool) string {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		text, more := s.text.String(), s.more
		s.mu.Unlock()
		if enough(text) {
			return text
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no %s in\n%s", what, text)
		}
	}
}

// consuming is a consume that runs.
type consuming struct {
	out, err  *spoken
	interrupt context.CancelFunc
	code      chan int
}

func consumes(t *testing.T, at string, args ...string) consuming {
	t.Helper()
	ctx, interrupt := context.WithCancel(context.Background())
	c := consuming{out: newSpoken(), err: newSpoken(), interrupt: interrupt, code: make(chan int, 1)}
	env := &environment{in: strings.NewReader(""), out: c.out, err: c.err, lookup: func() []string { return nil }}
	go func() { c.code <- run(ctx, env, append([]string{"consume", "--server", at}, args...)) }()
	t.Cleanup(interrupt)
	return c
}

// end waits until it ended.
func (c consuming) end(t *testing.T, want int) {
	t.Helper()
	select {
	case code := <-c.code:
		if code != want {
			t.Errorf("exit %d, want %d: %s", code, want, c.err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end: %s", c.err)
	}
}

// says waits for a line on stderr.
func (c consuming) says(t *testing.T, line string) {
	t.Helper()
	c.err.await(t, line, func(text string) bool { return slices.Contains(strings.Split(text, "\n"), line) })
}

// prints waits for so many lines on stdout.
func (c consuming) prints(t *testing.T, n int) []string {
	t.Helper()
	text := c.out.await(t, fmt.Sprintf("%d lines", n), func(text string) bool { return strings.Count(text, "\n") >= n })
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// generationOf is that of the first line that begins so.
func generationOf(t *testing.T, text, beginning string) (generation int64) {
	t.Helper()
	lines := strings.Split(text, "\n")
	line := lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, beginning) })]
	if _, err := fmt.Sscanf(line[strings.Index(line, "("):], "(generation %d)", &generation); err != nil {
		t.Errorf("%q: %v", line, err)
	}
	return generation
}

// startFilled is, for a test that runs beside others, an agent with the topic orders of two partitions, in each 10 records.
func startFilled(t *testing.T) (at string) {
	t.Helper()
	t.Parallel()
	one := serveAgent(t, new(mem.Bucket), new(metamem.Table), "")
	one.await(t)
	t.Cleanup(func() {
		one.stop()
		if err := one.end(t); err != nil {
			t.Error(err)
		}
	})
	fillTopic(t, one.address, "orders", 10)
	return one.address
}

func lagAt(t *testing.T, at, group string) (l groupLag) {
	t.Helper()
	printsJSON(t, &l, "lag", group, "--server", at)
	return l
}

func TestMembersOfAGroupShareATopicAndTheLastOneLeavesNothingUncommitted(t *testing.T) {
	at := startFilled(t)
	first := consumes(t, at, "orders", "--group", "email", "-o", "json")
	first.says(t, "assigned orders/0 orders/1 (generation 1)")
	if got := first.prints(t, 20); len(got) != 20 || !strings.HasPrefix(got[0], `{"topic":"orders","partition":`) || !strings.HasSuffix(got[0], `,"generation":1}`) {
		t.Errorf("got %s", got)
	}
	second := consumes(t, at, "orders", "--group", "email")
	first.err.await(t, "revocation", func(text string) bool { return strings.Contains(text, "\nrevoked orders/") })
	second.err.await(t, "assignment", func(text string) bool { return strings.HasPrefix(text, "assigned orders/") })
	if got := second.out.String(); got != "" {
		t.Errorf("the second member got what was committed: %q", got)
	}
	second.interrupt()
	second.end(t, exitInterrupted)
	if text := second.err.String(); !strings.Contains(text, "\nrevoked orders/") {
		t.Errorf("at its end it said %q", text)
	}
	if was, is := generationOf(t, first.err.String(), "revoked "), generationOf(t, second.err.String(), "assigned "); is <= was {
		t.Errorf("a partition went in generation %d, and came in %d", was, is)
	}
	first.err.await(t, "second assignment", func(text string) bool { return strings.Count(text, "assigned ") == 2 })
	first.interrupt()
	first.end(t, exitInterrupted)
	if l := lagAt(t, at, "email"); l.Lag != 0 || l.Members != 0 || len(l.Partitions) != 2 || len(l.Problems) != 0 {
		t.Errorf("afterwards: %+v", l)
	}
	if got := first.prints(t, 20); len(got) != 20 {
		t.Errorf("%d records were printed, 20 are there", len(got))
	}
}

func TestMemberThatHasPrintedEnoughGoesOnThereTheNextTime(t *testing.T) {
	at := startFilled(t)
	var all []string
	for range 4 {
		c := consumes(t, at, "--pattern", "ord.*", "--group", "email", "-n", "5", "-o", "json")
		c.end(t, exitDone)
		all = append(all, c.prints(t, 5)...)
	}
	slices.Sort(all)
	if got := len(slices.Compact(all)); got != 20 {
		t.Errorf("4 times 5 records: got %d different ones, want 20", got)
	}
	if l := lagAt(t, at, "email"); l.Lag != 0 {
		t.Errorf("lag %d, want 0", l.Lag)
	}
}

func TestPositionsMoveBeforePrintingOrNeverAsAskedFor(t *testing.T) {
	at := startFilled(t)
	for how, want := range map[string]int64{"before": 5, "manual": 0} {
		c := consumes(t, at, "orders", "--group", how, "--commit", how, "-n", "5")
		c.end(t, exitDone)
		var committed int64
		for _, p := range lagAt(t, at, how).Partitions {
			committed += *p.Committed
		}
		if committed != want {
			t.Errorf("--commit %s: %d records are committed, want %d", how, committed, want)
		}
	}
}

// brokenPipe is a standard output that nobody reads.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestRecordsThatCanNotBePrintedAreNotCommitted(t *testing.T) {
	at := startFilled(t)
	errs := newSpoken()
	env := &environment{in: strings.NewReader(""), out: brokenPipe{}, err: errs, lookup: func() []string { return nil }}
	if code := run(t.Context(), env, []string{"consume", "orders", "--group", "email", "--server", at}); code != exitFailed || !strings.Contains(errs.String(), "broken pipe") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if l := lagAt(t, at, "email"); l.Lag != 20 || l.Members != 0 {
		t.Errorf("afterwards: %+v", l)
	}
}

func TestGroupWithoutAPositionBeginsAtFrom(t *testing.T) {
	at := startFilled(t)
	c := consumes(t, at, "orders", "--group", "email", "--from", "-2", "-n", "4")
	c.end(t, exitDone)
	if l := lagAt(t, at, "email"); l.Lag != 0 {
		t.Errorf("lag %d, want 0", l.Lag)
	}
}

func TestFlagsOfAMemberThatDoNotGoTogetherAreRefused(t *testing.T) {
	for flags, want := range map[string]string{
		"orders --commit before":                                  "--commit: want --group",
		"orders --instance i":                                     "--instance: want --group",
		"orders --session-timeout 3s":                             "--session-timeout: want --group",
		"--pattern ord.*":                                         "--pattern: want --group",
		"--group g":                                               "TOPIC is missing",
		"orders --group g --commit never":                         "want after, before or manual",
		"orders --group g --partition 1":                          "the group says which partitions",
		"orders --group g --from 5":                               "want earliest, latest, a time, or -N",
		"--group g --pattern (":                                   "Pattern: ",
		"orders --group g --session-timeout 1ms":                  "SessionTimeout 1ms: want 1s to 30m0s",
		"orders --group g --format xml":                           "want line, key-value or json",
		"orders orders2 --group g":                                `unexpected argument "orders2"`,
		"orders --group g --instance " + strings.Repeat("x", 256): "Instance 256",
	} {
		code, stdout, stderr, _ := runFor(t, nil, append([]string{"consume", "--server", "127.0.0.1:1"}, strings.Fields(flags)...)...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, output %q, error %q; want %q", flags, code, stdout, stderr, want)
		}
	}
}

func TestEndOfConsumingSaysWhatToDo(t *testing.T) {
	m := memberOptions{group: "email", instance: "i"}
	for want, err := range map[string]error{
		`consume as a member of group email: poll: told (see "splashdam lag email"; "splashdam group reset email" moves the position)`: &client.Error{Op: "poll", Reason: "OFFSET_OUT_OF_RANGE", Message: "told"},
		`consume as a member of group email: poll: told (another consumer runs with --instance i)`:                                     &client.Error{Op: "poll", Reason: "FENCED_INSTANCE_ID", Message: "told"},
	} {
		if got := pollFailure(m, err).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
