package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// rejectAll makes every record of jobs a dead letter, and waits until they are.
func rejectAll(t *testing.T, at string) {
	t.Helper()
	code, _, stderr := runWith(t, "", queueVerb(at, "consume", "--exec", "read -r v; echo wrong $v >&2; exit 65", "--drain")...)
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, stderr)
	}
}

// lettersAt are the dead letters of jobs-dlq.
func lettersAt(t *testing.T, at string, args ...string) (all []deadLetterView) {
	t.Helper()
	_, stdout, stderr := runWith(t, "", append([]string{"dlq", "list", "jobs-dlq", "-o", "json", "--server", at}, args...)...)
	if stderr != "" {
		t.Errorf("list: %s", stderr)
	}
	for line := range strings.Lines(stdout) {
		var v deadLetterView
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func TestDeadLettersAreListedAndShownWithWhatWentWrong(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3")
	rejectAll(t, at)
	got := lettersAt(t, at)
	if len(got) != 3 || *got[1].Value != "2" || *got[1].Source != (placeView{"jobs", 0, 1}) || got[1].Group != "workers" || got[1].Deliveries != 1 || got[1].Reason != "rejected" ||
		got[1].Error != "wrong 2" || got[1].LastFailure == nil || got[1].Redriving {
		t.Fatalf("got %+v", got)
	}
	_, stdout, _ := runWith(t, "", "dlq", "list", "jobs-dlq", "-n", "2", "--server", at)
	lines := strings.Split(stdout, "\n")
	failed := got[0].LastFailure.Format(time.RFC3339)
	if len(lines) != 5 || strings.Join(strings.Fields(lines[1]), " ") != "0/0 jobs/0/0 workers 1 "+failed+" rejected wrong 1" || lines[3] != "and more: -n 0 shows all" {
		t.Errorf("got\n%s", stdout)
	}
	prints(t, fmt.Sprintf(`dead letter    jobs-dlq/0/2
source         jobs/0/2
group          workers
deliveries     1
first failure  %s
last failure   %s
reason         rejected
error          wrong 3
timestamp      %s
key            c
value          3
`, got[2].FirstFailure.Format(time.RFC3339Nano), got[2].LastFailure.Format(time.RFC3339Nano), got[2].Timestamp.Format(time.RFC3339Nano)), "dlq", "show", "jobs-dlq", "0/2", "--server", at)
	code, stdout, stderr := runWith(t, "", "dlq", "show", "jobs-dlq", "0/1", "0/9", "-o", "json", "--server", at)
	if code != exitFailed || strings.Count(stdout, "\n") != 1 || stderr != "splashdam: show dead letter jobs-dlq/0/9: it is none (it was redriven, discarded or never there: see splashdam dlq list jobs-dlq)\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	var counts []deadLetterCountView
	code, stdout, stderr = runWith(t, "", "dlq", "count", "jobs-dlq", "x", "-o", "json", "--server", at)
	if err := json.Unmarshal([]byte(stdout), &counts); err != nil || code != exitFailed || len(counts) != 2 || counts[0].DeadLetters != 3 || counts[1].Error == "" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

func TestDeadLettersAreRedrivenOnceEach(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3", "d:4", "e:5")
	rejectAll(t, at)
	redrive := func(args ...string) []string {
		return append([]string{"dlq", "redrive", "jobs-dlq", "--server", at}, args...)
	}
	prints(t, "redriven 1 record of jobs-dlq\n", redrive("0/1", "--value", "two")...)
	fails(t, exitFailed, "redrive jobs-dlq/0/1: the record is not there any more", redrive("0/1")...)
	code, stdout, stderr := runWith(t, "three", redrive("0/2", "--value-file", "-")...)
	if code != exitDone || stdout != "redriven 1 record of jobs-dlq\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	fails(t, exitFailed, "redrive to by-hand: there is no such topic (splashdam topic create by-hand)", redrive("0/3", "--to", "by-hand")...)
	prints(t, "topic by-hand has 1 partitions\n", "topic", "create", "by-hand", "--server", at)
	prints(t, "redriven 1 record of jobs-dlq\n", redrive("0/3", "--to", "by-hand")...)
	prints(t, "4\n", "consume", "by-hand", "--server", at)
	var some redriveView
	code, stdout, _ = runWith(t, "", redrive("0/0", "0/1", "-o", "json")...)
	if err := json.Unmarshal([]byte(stdout), &some); err != nil || code != exitFailed || some.Redriven != 1 || some.Remaining != 1 || len(some.Refused) != 1 || some.Refused[0].Offset != 1 {
		t.Errorf("exit %d: %s", code, stdout)
	}
	prints(t, "redriven 1 record of jobs-dlq\n", redrive("--all")...)
	prints(t, "redriven 0 records of jobs-dlq\n", redrive("--all")...)
	prints(t, "two\nthree\n1\n5\n", queueVerb(at, "consume", "--drain")...)
	fails(t, exitFailed, "count dead letters of x: unknown topic or partition", "dlq", "redrive", "x", "--all", "--server", at)
}

func TestDiscardedDeadLettersCountNoMore(t *testing.T) {
	at := startJobs(t, "a:1", "b:2", "c:3")
	rejectAll(t, at)
	discard := func(args ...string) []string {
		return append([]string{"dlq", "discard", "jobs-dlq", "--server", at}, args...)
	}
	prints(t, "discarded 1 dead letter of jobs-dlq\n", discard("0/1")...)
	fails(t, exitFailed, "discard jobs-dlq/0/1: it is no dead letter any more", discard("0/1")...)
	if got := lettersAt(t, at); len(got) != 2 || got[0].Offset != 0 || got[1].Offset != 2 {
		t.Errorf("left: %+v", got)
	}
	prints(t, "{\"topic\":\"jobs-dlq\",\"discarded\":2,\"refused\":[]}\n", discard("--all", "-o", "json")...)
	if got := lettersAt(t, at); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// fakeLetters is a topic of so many dead letters, some of which can't be redriven.
type fakeLetters struct {
	splashdamv1connect.UnimplementedDeadLetterServiceHandler

	mu     sync.Mutex
	left   int64
	stuck  int64 // of those left: they are refused, or nothing is begun with them
	late   int64 // that arrive behind the first looks at them
	refuse bool
	again  int64 // that fail anew while the others are redriven
	calls  []*splashdamv1.RedriveDeadLettersRequest
	begun  func() // called by each
}

func (f *fakeLetters) serve(t *testing.T) string {
	t.Helper()
	_, handler := splashdamv1connect.NewDeadLetterServiceHandler(f)
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func (f *fakeLetters) CountDeadLetters(_ context.Context, r *splashdamv1.CountDeadLettersRequest) (*splashdamv1.CountDeadLettersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	late := f.late
	f.late = max(0, f.late-1)
	count := &splashdamv1.CountDeadLettersResponse_Count{Topic: r.GetTopics()[0], DeadLetters: f.left + late, Redriving: late}
	if len(f.calls) > 0 {
		count.DeadLetters += f.again
	}
	return &splashdamv1.CountDeadLettersResponse{Counts: []*splashdamv1.CountDeadLettersResponse_Count{count}}, nil
}

func (f *fakeLetters) RedriveDeadLetters(_ context.Context, r *splashdamv1.RedriveDeadLettersRequest) (*splashdamv1.RedriveDeadLettersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, r)
	if f.begun != nil {
		f.begun()
	}
	n := min(int64(r.GetMaxRecords()), f.left-f.stuck)
	f.left -= n
	res := &splashdamv1.RedriveDeadLettersResponse{Redriven: n, Remaining: f.left}
	if f.late > 0 {
		res.Redriven, res.Redriving = n-1, 1
	}
	if f.refuse && f.stuck > 0 {
		detail := &splashdamv1.ErrorDetail{Code: "not_found", Reason: "UNKNOWN_TOPIC_OR_PARTITION", Message: "redrive jobs-dlq/0/7: it has nowhere to go"}
		position := &splashdamv1.DeadLetterPosition{Partition: new(int32(0)), Offset: new(int64(7))}
		res.Refused = append(res.Refused, &splashdamv1.RedriveDeadLettersResponse_Refused{Position: position, Error: detail})
	}
	return res, nil
}

func TestRedriveOfAllGoesOnUntilNothingIsLeftOrNothingHelps(t *testing.T) {
	f := &fakeLetters{left: 2500, late: 2}
	prints(t, "redriven 2,500 records of jobs-dlq\n", "dlq", "redrive", "jobs-dlq", "--all", "--server", f.serve(t))
	if len(f.calls) != 3 || f.calls[0].GetMaxRecords() != 1000 || f.calls[0].GetFailedBefore() == nil || !f.calls[2].GetFailedBefore().AsTime().Equal(f.calls[0].GetFailedBefore().AsTime()) {
		t.Errorf("%d calls: %v", len(f.calls), f.calls)
	}
	f = &fakeLetters{left: 10, again: 4}
	prints(t, "redriven 10 records of jobs-dlq\n4 dead letters left: they failed after this began\n", "dlq", "redrive", "jobs-dlq", "--all", "--server", f.serve(t))
	f = &fakeLetters{left: 10, stuck: 3, refuse: true}
	code, stdout, stderr := runWith(t, "", "dlq", "redrive", "jobs-dlq", "--all", "--server", f.serve(t))
	if code != exitFailed || !strings.HasPrefix(stdout, "redriven 7 records of jobs-dlq\n") || stderr != "splashdam: redrive jobs-dlq/0/7: it has nowhere to go\n" || len(f.calls) != 1+callsInVain {
		t.Errorf("exit %d after %d calls: %s%s", code, len(f.calls), stdout, stderr)
	}
}

func TestRedriveKeepsItsRateAndMayBeInterrupted(t *testing.T) {
	f := &fakeLetters{left: 6}
	begin := time.Now()
	prints(t, "redriven 6 records of jobs-dlq\n", "dlq", "redrive", "jobs-dlq", "--all", "--rate", "4", "--server", f.serve(t))
	if took := time.Since(begin); took < time.Second || len(f.calls) != 2 || f.calls[1].GetMaxRecords() != 4 {
		t.Errorf("%d calls in %v", len(f.calls), took)
	}
	f = &fakeLetters{left: 6}
	begin = time.Now()
	prints(t, "redriven 3 records of jobs-dlq\n", "dlq", "redrive", "jobs-dlq", "0/1", "0/2", "0/3", "--rate", "2", "--server", f.serve(t))
	if took := time.Since(begin); took < time.Second || len(f.calls) != 2 || len(f.calls[1].GetOnly()) != 1 {
		t.Errorf("%d calls in %v", len(f.calls), took)
	}
	f = &fakeLetters{left: 1000}
	ctx, interrupt := context.WithCancel(t.Context())
	f.begun = func() { time.AfterFunc(50*time.Millisecond, interrupt) }
	out, errs := newSpoken(), newSpoken()
	env := &environment{in: strings.NewReader(""), out: out, err: errs, lookup: func() []string { return nil }}
	code := run(ctx, env, []string{"dlq", "redrive", "jobs-dlq", "--all", "--rate", "1", "--server", f.serve(t)})
	if code != exitInterrupted || len(f.calls) > 2 || errs.String() != "what was begun arrives by itself; the same command goes on with the rest\n" {
		t.Errorf("exit %d after %d calls: %s%s", code, len(f.calls), out, errs)
	}
}

func TestManyNamedDeadLettersAreRedrivenInSeveralCalls(t *testing.T) {
	f := &fakeLetters{left: 5000}
	args := []string{"dlq", "redrive", "jobs-dlq", "--server", f.serve(t)}
	for i := range 2100 {
		args = append(args, fmt.Sprintf("3/%d", i))
	}
	prints(t, "redriven 2,100 records of jobs-dlq\n", args...)
	var named []int64
	for _, r := range f.calls {
		for _, p := range r.GetOnly() {
			named = append(named, p.GetOffset())
		}
	}
	slices.Sort(named)
	if len(f.calls) != 3 || len(slices.Compact(named)) != 2100 {
		t.Errorf("%d calls with %d places", len(f.calls), len(named))
	}
}

func TestProgressSaysHowFarOfHowManyAndNoBytesThatNobodyCounts(t *testing.T) {
	p := newProgress("redriven")
	p.total = 50000
	if got, want := p.line(12000, 1000, 0, 0), "redriven 12,000 of 50,000 records, 1,000/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := newProgress("consumed").line(5, 5, 2048, 1024), "consumed 5 records, 5/s, 1 KiB/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
