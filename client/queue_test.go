package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func (b *bench) queue(t testing.TB, cfg client.QueueConfig) *client.Queue {
	t.Helper()
	cfg.Group, cfg.Topic = "workers", "matches"
	if cfg.MaxWait == 0 {
		cfg.MaxWait = 50 * time.Millisecond
	}
	q, err := b.client.NewQueue(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// pullN pulls until it has n records.
func pullN(t testing.TB, q *client.Queue, n int) []*client.QueuedRecord {
	t.Helper()
	ctx := within(t)
	var all []*client.QueuedRecord
	for len(all) < n {
		records, err := q.Pull(ctx)
		if err != nil {
			t.Fatalf("Pull behind %d records: %v", len(all), err)
		}
		all = append(all, records...)
	}
	return all
}

// onCall makes a fault happen to the n-th calls of a name, from 1.
func (f *fake) onCall(call string, faults ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, before := 0, f.queueFault
	f.queueFault = func(c string) fault {
		if c == call {
			if n++; n <= len(faults) {
				return faults[n-1]
			}
		}
		if before != nil {
			return before(c)
		}
		return none
	}
}

func TestQueueConfigNamesEveryProblem(t *testing.T) {
	err := client.QueueConfig{
		LockTime: 1, MaxDeliveries: 1001, MaxRecords: 2001, MaxBytes: 1, MaxWait: time.Minute, Handlers: 1001, ReleaseDelay: -1,
	}.Validate()
	for _, want := range []string{"Group", "Topic", "LockTime", "MaxDeliveries", "MaxRecords", "MaxBytes", "MaxWait", "Handlers", "ReleaseDelay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want a word about %s", err, want)
		}
	}
	if err := (client.QueueConfig{Group: "workers", Topic: "matches", DeadLetterTopic: "matches"}).Validate(); err == nil {
		t.Error("a topic may be its own dead-letter topic")
	}
	if err := (client.QueueConfig{Group: "workers", Topic: "matches"}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

func TestPullSendsTheConfigurationAndAnswersWholeRecords(t *testing.T) {
	b := newBench(t, 2)
	b.fill("matches", 1, 1, 1)
	q := b.queue(t, client.QueueConfig{})
	r := pullN(t, q, 1)[0]
	if r.Topic != "matches" || r.Partition != 1 || r.Offset != 0 || string(r.Value) != value(1, 0) || r.Key != nil || r.Deliveries != 1 ||
		r.Timestamp.UnixMilli() != 1000 {
		t.Errorf("got %+v", r)
	}
	req := b.pulls[0]
	if req.GetGroup() != "workers" || req.GetMaxRecords() != 100 || req.GetMaxBytes() != 1<<20 || req.GetLockTime().AsDuration() != 30*time.Second ||
		req.GetMaxDeliveries() != 5 || req.GetDeadLetterTopic() != "matches-dlq" || req.GetStart().GetPoint() != splashdamv1.StartPoint_START_POINT_EARLIEST {
		t.Errorf("sent %v", req)
	}
}

func TestPullIsEmptyWhenThereIsNothing(t *testing.T) {
	b := newBench(t, 1)
	if records, err := b.queue(t, client.QueueConfig{}).Pull(within(t)); len(records) != 0 || err != nil {
		t.Errorf("got %v, %v", records, err)
	}
}

func TestPullIsRepeatedUntilTimeCuresItOrNothingCan(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 3, 3)
	b.onCall("Pull", unavailable, cut, unavailable)
	if records := pullN(t, b.queue(t, client.QueueConfig{}), 3); b.count("Pull") != 4 {
		t.Errorf("%d records by %d calls", len(records), b.count("Pull"))
	}
	b.dropTopic("matches")
	if _, err := b.queue(t, client.QueueConfig{}).Pull(within(t)); !errors.Is(err, client.ErrUnknownTopic) {
		t.Errorf("got %v, want that the topic is not known", err)
	}
}

func TestPullEndsWithItsContextOrTheQueue(t *testing.T) {
	b := newBench(t, 1)
	q := b.queue(t, client.QueueConfig{MaxWait: 10 * time.Second})
	for name, c := range map[string]struct {
		end  func(context.CancelFunc)
		want error
	}{
		"context": {func(cancel context.CancelFunc) { cancel() }, context.Canceled},
		"queue":   {func(context.CancelFunc) { q.Close() }, client.ErrClosed},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		calls := b.count("Pull")
		go func() {
			_ = b.until(within(t), func() bool { return b.calls["Pull"] > calls })
			c.end(cancel)
		}()
		if _, err := q.Pull(ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
		q = b.queue(t, client.QueueConfig{MaxWait: 10 * time.Second})
	}
}

func TestAcceptedRecordsNeverComeAgain(t *testing.T) {
	b := newBench(t, 2)
	b.fillAll(2, 5)
	q := b.queue(t, client.QueueConfig{})
	records := pullN(t, q, 10)
	if err := q.Accept(within(t), records...); err != nil {
		t.Fatal(err)
	}
	if err := q.Accept(within(t), records[3]); !errors.Is(err, client.ErrNotLocked) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("accept again: %v, want that it is not locked", err)
	}
	if again, err := q.Pull(within(t)); len(again) != 0 || err != nil {
		t.Errorf("pulled %v, %v", again, err)
	}
	s, err := b.client.QueueStatus(within(t), "workers", "matches")
	if err != nil || len(s.Partitions) != 2 || s.Partitions[1].Next != 5 || s.Partitions[1].Lag != 0 || s.Partitions[1].HighWatermark != 5 {
		t.Errorf("status %+v, %v", s, err)
	}
	if s, err := b.client.QueueStatus(within(t), "others", "matches"); err != nil || s.Partitions[0].Next != client.NoOffset || s.Partitions[0].Lag != 5 {
		t.Errorf("status of a queue that was never used %+v, %v", s, err)
	}
}

func TestAcknowledgementWhoseRepeatIsRefusedIsUnknownAndNeverSuccess(t *testing.T) {
	ctx := context.Background()
	for name, say := range map[string]func(*client.Queue, *client.QueuedRecord) error{
		"accept":  func(q *client.Queue, r *client.QueuedRecord) error { return q.Accept(ctx, r) },
		"release": func(q *client.Queue, r *client.QueuedRecord) error { return q.Release(ctx, time.Hour, "", r) },
		"reject":  func(q *client.Queue, r *client.QueuedRecord) error { return q.Reject(ctx, "", r) },
	} {
		for _, kind := range []fault{loseReply, undecided} {
			b := newBench(t, 1)
			b.fill("matches", 0, 1, 1)
			b.onCall("Acknowledge", kind)
			q := b.queue(t, client.QueueConfig{})
			err := say(q, pullN(t, q, 1)[0])
			if !errors.Is(err, client.ErrUnknownOutcome) || errors.Is(err, client.ErrNotLocked) {
				t.Errorf("%s, fault %d: %v, want an unknown outcome", name, kind, err)
			}
			if !strings.Contains(err.Error(), name+" matches/0 at 0") {
				t.Errorf("%s: the error does not say of what: %v", name, err)
			}
		}
	}
}

func TestAcknowledgementThatWasNotDoneIsDoneByItsRepeat(t *testing.T) {
	for _, kind := range []fault{cut, unavailable} {
		b := newBench(t, 1)
		b.fill("matches", 0, 1, 1)
		b.onCall("Acknowledge", kind, kind)
		q := b.queue(t, client.QueueConfig{})
		if err := q.Accept(within(t), pullN(t, q, 1)[0]); err != nil || b.accepted("workers") != 1 {
			t.Errorf("fault %d: %v, %d accepted", kind, err, b.accepted("workers"))
		}
	}
}

func TestTimeThatEndsBeforeAnAnswerLeavesTheOutcomeUnknown(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 2, 2)
	q := b.queue(t, client.QueueConfig{})
	records := pullN(t, q, 2)
	b.queueFault = func(string) fault { return undecided }
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	b.tokenFault = func(string) *splashdamv1.ErrorDetail {
		return detail("deadline_exceeded", "REQUEST_TIMED_OUT", 7, true)
	}
	if err := q.Accept(ctx, records...); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	over, end := context.WithCancel(context.Background())
	end()
	if err := q.Accept(over, records...); errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that nothing was sent", err)
	}
}

func TestErrorsOfSingleRecordsAreJoinedAndFailNoOthers(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 4, 4)
	q := b.queue(t, client.QueueConfig{})
	records := pullN(t, q, 4)
	busy := 2
	b.tokenFault = func(token string) *splashdamv1.ErrorDetail {
		switch {
		case token == "lock 2" && busy > 0:
			busy--
			return detail("unavailable", "NOT_LEADER_OR_FOLLOWER", 6, true)
		case token == "lock 3":
			return detail("failed_precondition", "INVALID_RECORD_STATE", 121, false)
		}
		return nil
	}
	err := q.Accept(within(t), records...)
	if !errors.Is(err, client.ErrNotLocked) || errors.Is(err, client.ErrUnknownOutcome) || strings.Contains(err.Error(), "at 1:") {
		t.Errorf("got %v, want one record that is not locked", err)
	}
	if n := b.accepted("workers"); n != 3 || busy != 0 {
		t.Errorf("%d accepted, want 3", n)
	}
}

func TestManyRecordsAreAcknowledgedInAsManyCallsAsTheContractWants(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 12_000, 1000)
	q := b.queue(t, client.QueueConfig{MaxRecords: 2000})
	if err := q.Accept(within(t), pullN(t, q, 12_000)...); err != nil {
		t.Fatal(err)
	}
	if n := len(b.acks[0].GetItems()[0].GetTokens()); len(b.acks) != 2 || n != 10_000 {
		t.Errorf("%d calls, the first of %d", len(b.acks), n)
	}
}

func TestReleasedRecordsComeAgainAndBecomeDeadLettersInTheEnd(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 1, 1)
	q := b.queue(t, client.QueueConfig{MaxDeliveries: 3})
	began := time.Now()
	for n := range int32(3) {
		r := pullN(t, q, 1)[0]
		if r.Deliveries != n+1 {
			t.Fatalf("delivery %d is counted as %d", n+1, r.Deliveries)
		}
		if err := q.Release(within(t), 30*time.Millisecond, "the e-mail server says no", r); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("two delays took %v", took)
	}
	page, err := b.client.DeadLetters(within(t), client.DeadLetterQuery{Topic: "matches-dlq"})
	if err != nil || len(page.DeadLetters) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	d := page.DeadLetters[0]
	if d.Reason != "released" || d.Error != "the e-mail server says no" || d.Deliveries != 3 || string(d.Value) != value(0, 0) {
		t.Errorf("got %+v", d)
	}
}

func TestRejectedRecordsBecomeDeadLettersAtOnce(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 1, 1)
	q := b.queue(t, client.QueueConfig{DeadLetterTopic: "lost-and-found"})
	if err := q.Reject(within(t), "no such customer", pullN(t, q, 1)[0]); err != nil {
		t.Fatal(err)
	}
	page, err := b.client.DeadLetters(within(t), client.DeadLetterQuery{Topic: "lost-and-found"})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].Error != "no such customer" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestWhatWentWrongIsSentAsShortValidText(t *testing.T) {
	b := newBench(t, 1)
	whys := []string{"bytes \xff\xfe of a record", strings.Repeat("ä", 1000), "x" + strings.Repeat("ä", 1000), strings.Repeat("\xff", 10_000), ""}
	b.fill("matches", 0, len(whys), 1)
	q := b.queue(t, client.QueueConfig{})
	for i, r := range pullN(t, q, len(whys)) {
		if err := q.Reject(within(t), whys[i], r); err != nil {
			t.Errorf("%.20q: %v", whys[i], err)
		}
	}
	for i, req := range b.acks {
		if got := req.GetItems()[0].GetError(); !utf8.ValidString(got) || len(got) > 256 || whys[i] != "" && got == "" {
			t.Errorf("%.20q became %q", whys[i], got)
		}
	}
}

func TestExtendedLocksGoOn(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 1, 1)
	b.onCall("Extend", loseReply, undecided) // an extension that is repeated is an extension
	q := b.queue(t, client.QueueConfig{LockTime: time.Second})
	r := pullN(t, q, 1)[0]
	if err := q.Extend(within(t), time.Hour, r); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(b.locks["lock 1"].until); left < 50*time.Minute {
		t.Errorf("the lock ends in %v", left)
	}
	if err := q.Extend(within(t), 0, r); err != nil || time.Until(b.locks["lock 1"].until) > time.Second {
		t.Errorf("%v, want LockTime by default", err)
	}
	if err := q.Accept(within(t), r); err != nil {
		t.Fatal(err)
	}
	b.onCall("Extend", cut)
	if err := q.Extend(within(t), 0, r); !errors.Is(err, client.ErrNotLocked) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v, want that it is not locked", err)
	}
}

func TestARecordPulledByAnotherProcessIsAcknowledgedByItsToken(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 1, 1)
	token := pullN(t, b.queue(t, client.QueueConfig{}), 1)[0].Token()
	q := b.queue(t, client.QueueConfig{})
	if err := q.Accept(within(t), q.Locked(token)); err != nil {
		t.Error(err)
	}
	if err := q.Accept(within(t), q.Locked(token)); !errors.Is(err, client.ErrNotLocked) || !strings.Contains(err.Error(), "a record of matches") {
		t.Errorf("got %v, want that it is not locked", err)
	}
}

func TestConsumersOfAQueueShareItsRecords(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 40, 10)
	var mu sync.Mutex
	var got []client.Offset
	var wg sync.WaitGroup
	for range 4 {
		q := b.queue(t, client.QueueConfig{MaxRecords: 3})
		wg.Go(func() {
			for {
				records, err := q.Pull(within(t))
				if err != nil || len(records) == 0 {
					return
				}
				if err := q.Accept(within(t), records...); err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, r := range records {
					got = append(got, r.Offset)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != 40 || len(got) != 40 {
		t.Errorf("got %v, want each of 40 once", got)
	}
}
