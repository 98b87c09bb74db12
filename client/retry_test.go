package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
)

// retrying is a member that tries three times, at short intervals.
func retrying() client.ConsumerConfig {
	cfg := grouped()
	cfg.Retry = &client.RetryPolicy{Attempts: 3, Backoff: time.Millisecond, BackoffMax: 2 * time.Millisecond}
	return cfg
}

// try runs a consumer that writes each attempt into the diary and fails as fail says.
func (d *diary) try(t *testing.T, name string, c *client.Consumer, fail func(client.Record) error) (end func(want error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(_ context.Context, r client.Record) error {
			d.write("%s try %d/%d", name, r.Partition, r.Offset)
			return fail(r)
		})
	}()
	var once sync.Once
	end = func(want error) {
		once.Do(func() {
			if want == nil { // it is not to end on its own
				cancel()
				want = context.Canceled
			}
			if err := <-done; !errors.Is(err, want) {
				t.Errorf("%s: Run: %v, want %v", name, err, want)
			}
			cancel()
		})
	}
	t.Cleanup(func() {
		cancel()
		end(nil)
	})
	return end
}

var errPoison = errors.New("it is poisoned")

func poison(offsets ...client.Offset) func(client.Record) error {
	return func(r client.Record) error {
		for _, o := range offsets {
			if r.Offset == o {
				return errPoison
			}
		}
		return nil
	}
}

func TestRetryConfigurationNamesEveryProblem(t *testing.T) {
	cfg := client.ConsumerConfig{
		Topics: []string{"matches"}, Group: "readers", Commit: client.CommitBefore,
		Retry: &client.RetryPolicy{Attempts: 1001, Backoff: 1, BackoffMax: 2 * time.Hour},
	}
	err := cfg.Validate()
	for _, want := range []string{"Retry: ", "Retry.Attempts", "Retry.Backoff ", "Retry.BackoffMax"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want a word about %s", err, want)
		}
	}
	cfg = client.ConsumerConfig{Topics: []string{"matches"}, Retry: &client.RetryPolicy{}}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "Group") {
		t.Errorf("without a group: %v", err)
	}
	if cfg.Group = "readers"; cfg.Validate() != nil || cfg.Retry.Attempts != 0 {
		t.Errorf("the defaults: %v", cfg.Validate())
	}
}

func TestRecordThatFailsEveryAttemptBecomesADeadLetterAndTheRestGoesOn(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 6, 3)
	cfg := retrying()
	cfg.Retry.DeadLetterTopic = "lost-and-found"
	cons := b.consumer(t, cfg)
	var at client.Offset
	b.queueFault = func(call string) fault {
		if call == "SendDeadLetter" {
			at = cons.Position("matches", 0)
		}
		return none
	}
	end := d.try(t, "one", cons, poison(2))
	lines := d.until(t, func(lines []string) bool { return count(lines, "one try 0/5") == 1 })
	if n := count(lines, "one try 0/2"); n != 3 || len(lines) != 8 {
		t.Errorf("%d attempts, want 3: %v", n, lines)
	}
	end(nil)
	cons.Close()
	if at != 2 {
		t.Errorf("the position was %d before it was a dead letter, want 2", at)
	}
	if got := b.committed("readers", 0); got != 6 {
		t.Errorf("committed %d, want 6", got)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(b.letters))
	}
	g := b.givenUp[0]
	if g.GetGroup() != "readers" || g.GetTopic() != "matches" || g.GetPartition() != 0 || g.GetOffset() != 2 || g.GetCommitted() != -1 ||
		g.GetAttempts() != 3 || g.GetError() != errPoison.Error() || g.GetDeadLetterTopic() != "lost-and-found" || time.Since(g.GetFirstFailure().AsTime()) > time.Minute {
		t.Errorf("sent %v", g)
	}
}

func TestRecordThatSucceedsAtLastIsNoDeadLetter(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 2, 2)
	tries := 0
	d.try(t, "one", b.consumer(t, retrying()), func(r client.Record) error {
		if tries++; tries < 3 {
			return errPoison
		}
		return nil
	})
	lines := d.until(t, func(lines []string) bool { return count(lines, "one try 0/1") == 1 })
	if count(lines, "one try 0/0") != 3 || b.count("SendDeadLetter") != 0 {
		t.Errorf("%v, %d dead letters", lines, b.count("SendDeadLetter"))
	}
}

func TestRejectedRecordIsNotTriedAgain(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 3, 3)
	cons := b.consumer(t, retrying())
	end := d.try(t, "one", cons, func(r client.Record) error {
		if r.Offset == 1 {
			if err := cons.CommitOffsets(within(t), client.GroupPosition{Topic: "matches", Offset: 1}); err != nil {
				t.Error(err)
			}
			return fmt.Errorf("order: %w", client.Rejected(errPoison))
		}
		return nil
	})
	lines := d.until(t, func(lines []string) bool { return count(lines, "one try 0/2") == 1 })
	end(nil)
	if g := b.givenUp; len(lines) != 3 || len(g) != 1 || g[0].GetAttempts() != 1 || g[0].GetError() != "order: it is poisoned" || g[0].GetCommitted() != 1 {
		t.Errorf("%v, sent %v", lines, g)
	}
	if client.Rejected(nil) != nil || !errors.Is(client.Rejected(errPoison), errPoison) {
		t.Error("Rejected does not keep what it marks")
	}
}

func TestDeadLetterIsSentUntilItIsDecidedAndOnlyThenPassed(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 3, 3)
	b.onCall("SendDeadLetter", unavailable, cut, loseReply, undecided)
	d.try(t, "one", b.consumer(t, retrying()), poison(0))
	d.until(t, func(lines []string) bool { return count(lines, "one try 0/1") == 1 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.calls["SendDeadLetter"]; len(b.letters) != 1 || n != 5 {
		t.Errorf("%d dead letters by %d calls", len(b.letters), n)
	}
}

func TestRefusedDeadLetterEndsRunAndTheRecordComesAgain(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 3, 3)
	denied := detail("invalid_argument", "INVALID_TOPIC_EXCEPTION", 17, false)
	b.refuse = func(call string) error {
		if call == "SendDeadLetter" {
			return failure(connect.CodeInvalidArgument, denied)
		}
		return nil
	}
	cons := b.consumer(t, retrying())
	d.try(t, "one", cons, poison(1))(errPoison)
	if at := cons.Position("matches", 0); at != 1 {
		t.Errorf("the position is %d, want 1", at)
	}
	end := d.try(t, "two", cons, poison())
	d.until(t, func(lines []string) bool { return count(lines, "two try 0/2") == 1 && count(lines, "two try 0/1") == 1 })
	end(nil)
}

func TestLostPartitionEndsTheAttempts(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 2, 2)
	cfg := d.kept("one", retrying())
	cfg.Retry.Attempts, cfg.Retry.Backoff, cfg.Retry.BackoffMax = 1000, time.Hour, time.Hour
	d.try(t, "one", b.consumer(t, cfg), poison(0))
	d.until(t, func(lines []string) bool { return count(lines, "one try") == 1 })
	b.expel("readers")
	lines := d.until(t, func(lines []string) bool { return count(lines, "one try") == 2 }) // it begins anew
	if want := "[one assigned matches/0 one try 0/0 one lost matches/0 one assigned matches/0 one try 0/0]"; fmt.Sprint(lines) != want {
		t.Errorf("got %v, want %s", lines, want)
	}
}

func TestPartitionsAreHandedOverBetweenTwoAttempts(t *testing.T) {
	for failing := range 2 { // it is the one that goes, or that stays
		t.Run(fmt.Sprint(failing), func(t *testing.T) {
			b, d := newBench(t, 2), newDiary()
			b.fill("matches", failing, 1, 1)
			cfg := d.kept("one", retrying())
			cfg.Retry.Attempts, cfg.Retry.Backoff, cfg.Retry.BackoffMax = 1000, time.Hour, time.Hour
			d.try(t, "one", b.consumer(t, cfg), poison(0))
			d.until(t, func(lines []string) bool { return count(lines, "one try") == 1 })
			d.try(t, "two", b.consumer(t, d.kept("two", grouped())), poison())
			lines := d.until(t, func(lines []string) bool { return count(lines, "two assigned") == 1 })
			if count(lines, "one revoked") != 1 {
				t.Errorf("got %v", lines)
			}
		})
	}
}

func TestEachAttemptHasItsOwnTimeAndWaitsHaveNone(t *testing.T) {
	t.Parallel()
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 2, 2)
	cfg := d.kept("one", retrying())
	cfg.MaxPollInterval = time.Second
	cfg.Retry.Backoff, cfg.Retry.BackoffMax = 1200*time.Millisecond, 1200*time.Millisecond
	cfg.Retry.Attempts = 2
	d.try(t, "one", b.consumer(t, cfg), poison(0))
	lines := d.until(t, func(lines []string) bool { return count(lines, "one try 0/1") == 1 })
	if count(lines, "one lost") != 0 || count(lines, "one try 0/0") != 2 {
		t.Errorf("a wait cost the session: %v", lines)
	}
}

func TestRunThatEndsDuringAttemptsSendsNoDeadLetter(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 2, 2)
	cfg := retrying()
	cfg.Retry.Attempts = 1
	cons := b.consumer(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	err := cons.Run(ctx, func(ctx context.Context, r client.Record) error {
		cancel()
		return client.Rejected(ctx.Err()) // it could not even try
	})
	if !errors.Is(err, context.Canceled) || b.count("SendDeadLetter") != 0 {
		t.Errorf("got %v and %d dead letters", err, b.count("SendDeadLetter"))
	}
	cfg.Group, cfg.Retry.Attempts, cfg.Retry.Backoff, cfg.Retry.BackoffMax = "others", 2, time.Hour, time.Hour
	cons = b.consumer(t, cfg)
	end := d.try(t, "one", cons, poison(0))
	d.until(t, func(lines []string) bool { return count(lines, "one try") == 1 })
	began := time.Now()
	cons.Close()
	if end(client.ErrClosed); time.Since(began) > 2*time.Second {
		t.Errorf("Close waited %v for a wait", time.Since(began))
	}
}
