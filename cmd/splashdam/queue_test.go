package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// startJobs is, for a test that runs beside others, an agent with the topic jobs of one partition, and one record a line.
func startJobs(t *testing.T, lines ...string) (at string) {
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
	if code, _, stderr := runWith(t, strings.Join(lines, "\n"), "produce", "jobs", "--key-separator", ":", "--server", one.address); code != exitDone {
		t.Fatal(stderr)
	}
	return one.address
}

// runWith runs a verb on an input, for half a minute at most.
func runWith(t *testing.T, in string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, errs := newSpoken(), newSpoken()
	env := &environment{in: strings.NewReader(in), out: out, err: errs, lookup: func() []string { return nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code = run(ctx, env, args)
	return code, out.String(), errs.String()
}

// queueVerb is the command line of a verb on the queue workers on jobs.
func queueVerb(at, verb string, args ...string) []string {
	return append([]string{"queue", verb, "jobs", "--group", "workers", "--server", at}, args...)
}

// pulls runs queue pull and answers what it printed.
func pulls(t *testing.T, at string, args ...string) (all []pulledView) {
	t.Helper()
	code, stdout, stderr := runWith(t, "", queueVerb(at, "pull", append(args, "-o", "json")...)...)
	if code != exitDone || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for line := range strings.Lines(stdout) {
		var v pulledView
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func queueAt(t *testing.T, at string) (v queueView) {
	t.Helper()
	printsJSON(t, &v, queueVerb(at, "describe")...)
	return v
}

func TestPulledRecordsAreAcknowledgedByTheirTokensOnceEach(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3", "d:4")
	got := pulls(t, at, "-n", "3")
	if len(got) != 3 || *got[0].Key != "a" || *got[2].Value != "3" || got[2].Offset != 2 || got[0].Deliveries != 1 {
		t.Fatalf("got %+v", got)
	}
	prints(t, "extended 1 record\n", queueVerb(at, "ack", "--extend", "--lock-time", "10m", got[0].Token)...)
	prints(t, "accepted 1 record\n", queueVerb(at, "ack", "--accept", got[0].Token, got[0].Token)...)
	prints(t, "released 1 record\n", queueVerb(at, "ack", "--release", "--delay", "12h", got[1].Token)...)
	code, stdout, stderr := runWith(t, got[2].Token+"\n\n", queueVerb(at, "ack", "--reject", "--error", "torn", "-")...)
	if code != exitDone || stdout != "rejected 1 record\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	const late = "acknowledge for group workers: not locked under this token: the lock ended, or the record was acknowledged before"
	fails(t, exitFailed, "accept token "+got[0].Token+": "+late, queueVerb(at, "ack", "--accept", got[0].Token)...)
	fails(t, exitFailed, "accept 2 of 2 tokens: "+late+" (that is of the first; -o json has all)", queueVerb(at, "ack", "--accept", got[0].Token, got[1].Token)...)
	var refused ackView
	code, stdout, _ = runWith(t, "", queueVerb(at, "ack", "--accept", "AQID", "-o", "json")...)
	if err := json.Unmarshal([]byte(stdout), &refused); err != nil || code != exitFailed || len(refused.Refused) != 1 || refused.Refused[0].Token != "AQID" || refused.Records != 0 {
		t.Errorf("a forged token: exit %d, %s", code, stdout)
	}
	if again := pulls(t, at, "-n", "9"); len(again) != 1 || *again[0].Value != "4" {
		t.Errorf("what is left: %+v", again)
	}
	if v := queueAt(t, at); v.Lag-v.Failed != 2 || v.Locked != 1 || v.Delayed != 1 || v.MaxDeliveries != 5 || v.DeadLetterTopic != "jobs-dlq" || *v.Partitions[0].Next != 4 {
		t.Errorf("got %+v", v)
	}
}

func TestPulledRecordsAreATableOfWhatFitsOnALine(t *testing.T) {
	at := startJobs(t, "a:1", "b:"+strings.Repeat("ü", 100), "c:two\twords")
	code, stdout, stderr := runWith(t, "", queueVerb(at, "pull", "-n", "3")...)
	want := regexp.MustCompile(`^PARTITION  OFFSET  DELIVERIES  KEY  VALUE +TOKEN\n0          0       1           a    1  +\S+\n` +
		`0          1       1           b    ü{60}…  \S+\n0          2       1           c    "two\\twords" +\S+\n$`)
	if code != exitDone || stderr != "" || !want.MatchString(stdout) {
		t.Errorf("exit %d, error %q, got\n%s", code, stderr, stdout)
	}
	prints(t, "PARTITION  OFFSET  DELIVERIES  KEY  VALUE  TOKEN\n", queueVerb(at, "pull", "--wait", "1ms")...)
}

func TestQueueIsDescribedWithWhatKeepsItFromGettingOn(t *testing.T) {
	at := startJobs(t, "a:1", "b:2")
	prints(t, `queue workers on jobs: lag 2, 0 locked, 0 to come again, 0 failed
PARTITION  NEXT  END  LAG  LOCKED  DELAYED  RELEASED  FAILED  LAST USED
0          -     2    2    0       0        0         0       -
Nothing was pulled yet by group workers from jobs: a queue begins with its first consumer, such as splashdam queue consume; or group and topic are spelled otherwise
`, queueVerb(at, "describe")...)
	prints(t, "released 1 record\n", queueVerb(at, "ack", "--release", pulls(t, at)[0].Token)...)
	if v := queueAt(t, at); v.Released != 1 || v.Lag != 2 || len(v.Problems) != 1 || v.Problems[0].What != "Nobody works on it" {
		t.Errorf("got %+v", v)
	}
	if out := watches(t, 2, "lag", "workers", "--queue", "jobs", "--watch", "-o", "json", "--server", at); strings.Count(out, `"lag":2,"locked":0,"delayed":0,"released":1,"failed":0,"partitions"`) != 2 {
		t.Errorf("watched: %s", out)
	}
	fails(t, exitFailed, "get queue of x: unknown topic or partition", "queue", "describe", "x", "--group", "workers", "--server", at)
}

func TestQueueIsPrintedAndWhatIsPrintedIsAccepted(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3")
	prints(t, "1\n2\n", queueVerb(at, "consume", "-n", "2")...)
	prints(t, "c=3\n", queueVerb(at, "consume", "--drain", "--format", "key-value", "--key-separator", "=")...)
	if v := queueAt(t, at); v.Lag != 0 || len(v.Problems) != 0 {
		t.Errorf("got %+v", v)
	}
	errs := newSpoken()
	env := &environment{in: strings.NewReader(""), out: brokenPipe{}, err: errs, lookup: func() []string { return nil }}
	code := run(t.Context(), env, []string{"queue", "consume", "jobs", "--group", "others", "-n", "1", "--server", at})
	var v queueView
	printsJSON(t, &v, "queue", "describe", "jobs", "--group", "others", "--server", at)
	if code != exitFailed || !strings.Contains(errs.String(), "broken pipe") || v.Lag != 3 || v.Locked != 1 {
		t.Errorf("what can't be printed: exit %d, %s, %+v", code, errs, v)
	}
}

func TestExitCodeOfTheCommandSaysWhatBecomesOfARecord(t *testing.T) {
	at := startJobs(t, "a:0", "b:65", "c:1", "d:0")
	code, stdout, stderr := runWith(t, "", queueVerb(at, "consume", "--exec", `read code; echo "said $code" >&2; echo " " >&2; exit $code`, "--drain", "--max-deliveries", "2", "-o", "json")...)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got []string
	for line := range strings.Lines(stdout) {
		var v executedView
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d/%d %s %s", v.Offset, v.Deliveries, v.Verdict, v.Error))
	}
	all := strings.Join(got, ", ")
	for _, want := range []string{"0/1 accepted ", "1/1 rejected said 65", "2/1 released said 1", "2/2 released said 1", "3/1 accepted "} {
		if strings.Count(all, want) != 1 {
			t.Errorf("want %q once in %s", want, all)
		}
	}
	if len(got) != 5 || strings.Count(stderr, "said ") != 5 {
		t.Errorf("got %s, and on stderr %s", all, stderr)
	}
	prints(t, "TOPIC     DEAD LETTERS  REDRIVING\njobs-dlq  2             0\n", "dlq", "count", "--server", at)
}

func TestCommandThatIsNotThereEndsTheConsumingAndSpoilsNoRecord(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3")
	code, stdout, stderr := runWith(t, "", queueVerb(at, "consume", "--exec", "./nothing", "--max-deliveries", "1000")...)
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "splashdam: run ./nothing: ") || strings.Count(stderr, "\nreleased ") != 1 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	v := queueAt(t, at)
	for end := time.Now().Add(30 * time.Second); v.Locked != 0 && time.Now().Before(end); v = queueAt(t, at) {
		runtime.Gosched() // what was locked for a pull that was given up is given back behind it
	}
	if v.Lag != 3 || v.Locked != 0 {
		t.Errorf("got %+v", v)
	}
	code, stdout, stderr = runWith(t, "", "consume", "jobs", "--group", "ordered", "--exec", "./nothing", "--retry", "0", "--server", at)
	if l := lagAt(t, at, "ordered"); code != exitFailed || !strings.Contains(stderr, "splashdam: run ./nothing: ") || l.Lag != 3 {
		t.Errorf("exit %d, lag %d: %s%s", code, l.Lag, stdout, stderr)
	}
	prints(t, "TOPIC  DEAD LETTERS  REDRIVING\n", "dlq", "count", "--server", at)
}

// begins starts a verb that runs until it is interrupted.
func begins(t *testing.T, args ...string) consuming {
	t.Helper()
	ctx, interrupt := context.WithCancel(context.Background())
	c := consuming{out: newSpoken(), err: newSpoken(), interrupt: interrupt, code: make(chan int, 1)}
	env := &environment{in: strings.NewReader(""), out: c.out, err: c.err, lookup: func() []string { return nil }}
	go func() { c.code <- run(ctx, env, args) }()
	t.Cleanup(interrupt)
	return c
}

func TestCommandsThatRunWhenConsumingIsInterruptedComeToTheirEnd(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3", "d:4")
	const command = `echo begun; sleep 0.5; echo done`
	c := begins(t, queueVerb(at, "consume", "--exec", command, "--parallel", "2")...)
	c.prints(t, 2)
	c.interrupt()
	c.end(t, exitInterrupted)
	if got := c.out.String(); got != "begun\nbegun\ndone\ndone\n" {
		t.Errorf("printed %q", got)
	}
	if v := queueAt(t, at); v.Lag != 2 || v.Locked != 0 {
		t.Errorf("got %+v", v)
	}
	c = begins(t, "consume", "jobs", "--group", "ordered", "--exec", command, "--retry", "3", "--server", at)
	c.prints(t, 1)
	c.interrupt()
	c.end(t, exitInterrupted)
	if l := lagAt(t, at, "ordered"); c.out.String() != "begun\ndone\n" || l.Lag != 3 {
		t.Errorf("printed %q, lag %d", c.out.String(), l.Lag)
	}
}

func TestOrderedGroupTriesAgainThenGoesOnWithoutTheRecord(t *testing.T) {
	at := startJobs(t, "a:1", "b:x", "c:3", "d:65", "e:5")
	const command = `read -r n; case $n in x) echo no number >&2; exit 7 ;; 65) exit 65 ;; esac; echo $n`
	member := []string{"consume", "jobs", "--group", "ordered", "--server", at, "--exec", command}
	code, stdout, stderr := runWith(t, "", member...)
	const stopped = "splashdam: process jobs/0 at 1: no number (the group's position stays before it; with --retry it becomes a dead letter, and the rest goes on)\n"
	if code != exitFailed || stdout != "1\n" || !strings.HasSuffix(stderr, stopped) {
		t.Errorf("without --retry: exit %d, %q, %s", code, stdout, stderr)
	}
	c := begins(t, append(member, "--retry", "1", "--dead-letter-topic", "bad")...)
	c.prints(t, 2)
	c.interrupt()
	c.end(t, exitInterrupted)
	for _, line := range []string{"failed jobs/0 at 1 (delivery 1): no number", "given up jobs/0 at 1 (delivery 2): no number", "given up jobs/0 at 3 (delivery 1): exit status 65"} {
		if strings.Count(c.err.String(), line+"\n") != 1 {
			t.Errorf("want once %q in\n%s", line, c.err)
		}
	}
	if l := lagAt(t, at, "ordered"); c.out.String() != "3\n5\n" || l.Lag != 0 {
		t.Errorf("printed %q, lag %d", c.out, l.Lag)
	}
}

func TestFlagsOfQueuesThatDoNotGoTogetherAreRefused(t *testing.T) {
	for flags, want := range map[string]string{
		"queue pull jobs":                                             "--group is missing",
		"queue pull --group g":                                        "TOPIC is missing",
		"queue pull jobs --group g -n 0":                              "--count 0: want 1 to 2000",
		"queue pull jobs --group g -n 2001":                           "MaxRecords 2001",
		"queue pull jobs --group g --wait 31s":                        "MaxWait 31s",
		"queue pull jobs --group g --from 5":                          "want earliest, latest, a time, or -N",
		"queue pull jobs --group g --max-deliveries 1001":             "MaxDeliveries 1001",
		"queue pull jobs --group g --dead-letter-topic jobs":          "is the Topic itself",
		"queue describe jobs":                                         "--group is missing",
		"queue ack jobs --group g --accept":                           "TOKEN is missing",
		"queue ack jobs --group g AQID":                               "want one of --accept",
		"queue ack jobs --group g --accept --reject AQID":             "want one of --accept",
		"queue ack jobs --accept AQID":                                "--group is missing",
		"queue ack jobs --group g --accept a-b":                       `"a-b" is no token`,
		"queue ack jobs --group g --accept --error x AQID":            "--error: want --release with it",
		"queue ack jobs --group g --reject --delay 1s AQID":           "--delay: want --release with it",
		"queue ack jobs --group g --release --lock-time 1m AQID":      "--lock-time: want --extend with it",
		"queue consume jobs --group g --parallel 2":                   "--parallel: want --exec with it",
		"queue consume jobs --group g --exec cat -n 2":                "--count: want no --exec with it",
		"queue consume jobs --group g --exec cat --parallel 0":        "--parallel 0: want 1 to 1000",
		"queue consume jobs --group g --exec cat --parallel 1001":     "Handlers 1001",
		"queue consume jobs --group g --format xml":                   "want line, key-value or json",
		"lag --queue jobs":                                            "want GROUP with it",
		"consume jobs --exec cat":                                     "--exec: want --group with it",
		"consume jobs --group g --retry 3":                            "--retry: want --exec with it",
		"consume jobs --group g --exec cat --retry -2":                "--retry -2: want 0 to 999",
		"consume jobs --group g --exec cat --retry 1000":              "Attempts 1001",
		"consume jobs --group g --exec cat --dead-letter-topic x":     "--dead-letter-topic: want --retry with it",
		"consume jobs --group g --exec cat --retry 1 --commit before": "what is committed can't be tried again",
		"consume jobs --group g --exec cat -n 1":                      "--count: want no --exec with it",
		"dlq list":                                                    "TOPIC is missing",
		"dlq list x -n -1":                                            "want 0 or more",
		"dlq show x":                                                  "PARTITION/OFFSET is missing",
		"dlq show x 5":                                                "want the place of a dead letter, such as 0/17",
		"dlq redrive x":                                               "or --all",
		"dlq redrive x 0/1 --all":                                     "not both",
		"dlq redrive x --all --value y":                               "want the place of one dead letter",
		"dlq redrive x 0/1 0/2 --value y":                             "want the place of one dead letter",
		"dlq redrive x 0/1 --value y --value-file z":                  "exclude each other",
		"dlq redrive x 0/1 --rate -1":                                 "--rate -1: want 0 or more",
		"dlq discard x":                                               "or --all",
		"dlq discard x 0/-1":                                          "want the place of a dead letter",
	} {
		code, stdout, stderr, _ := runFor(t, nil, append(strings.Fields(flags), "--server", "127.0.0.1:1")...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, output %q, error %q; want %q", flags, code, stdout, stderr, want)
		}
	}
}
