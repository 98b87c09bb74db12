package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// run runs the handler and answers how to end it, which checks that Run answers nil.
func run(t *testing.T, q *client.Queue, fn func(context.Context, *client.QueuedRecord) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, fn) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(end)
	return end
}

// await waits for a condition of the fake, whose lock is held.
func (b *bench) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if err := b.until(within(t), condition); err != nil {
		t.Fatalf("in vain for %s", what)
	}
}

func TestRunWorksOnAThousandRecordsWith64Handlers(t *testing.T) {
	b := newBench(t, 8)
	b.fillAll(8, 125)
	var mu sync.Mutex
	seen := map[string]int{}
	var now atomic.Int64
	full := make(chan struct{})
	end := run(t, b.queue(t, client.QueueConfig{Handlers: 64}), func(_ context.Context, r *client.QueuedRecord) error {
		if now.Add(1) == 64 {
			close(full)
		}
		<-full // nobody goes on before all 64 work
		mu.Lock()
		defer mu.Unlock()
		seen[string(r.Value)]++
		return nil
	})
	b.await(t, "1,000 accepted", func() bool { return b.acceptedLocked("workers") == 1000 })
	end()
	mu.Lock()
	defer mu.Unlock()
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s was handled %d times", v, n)
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1,000 were handled", len(seen))
	}
	if calls := b.count("Acknowledge"); calls > 200 {
		t.Errorf("%d calls acknowledge 1,000 records", calls)
	}
}

func TestRunReleasesFailuresAndRejectsWhatItIsToldTo(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	var mu sync.Mutex
	tries := map[client.Offset]int{}
	run(t, b.queue(t, client.QueueConfig{Handlers: 4, ReleaseDelay: time.Millisecond}), func(_ context.Context, r *client.QueuedRecord) error {
		mu.Lock()
		defer mu.Unlock()
		tries[r.Offset]++
		switch {
		case r.Offset == 3:
			return fmt.Errorf("order %d: %w", r.Offset, client.Rejected(errors.New("no such customer")))
		case r.Offset == 5 && tries[5] < 3:
			return errors.New("come again")
		case r.Offset == 7:
			return errors.New("never")
		}
		return nil
	})
	b.await(t, "8 accepted and 2 dead", func() bool { return b.acceptedLocked("workers") == 8 && len(b.letters) == 2 })
	b.mu.Lock()
	defer b.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	if tries[3] != 1 || tries[5] != 3 || tries[7] != 5 || tries[1] != 1 {
		t.Errorf("tries %v", tries)
	}
	if d := b.letters[0]; d.GetReason() != "rejected" || d.GetError() != "order 3: no such customer" {
		t.Errorf("got %v", d)
	}
	if d := b.letters[1]; d.GetReason() != "released" || d.GetError() != "never" || d.GetDeliveries() != 5 {
		t.Errorf("got %v", d)
	}
}

func TestRunKeepsTheLocksOfASlowHandlerAndOfWhatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.fill("matches", 0, 3, 3)
	b.onCall("Extend", cut, undecided)
	began := make(chan struct{}, 9)
	goOn := make(chan struct{})
	run(t, b.queue(t, client.QueueConfig{LockTime: time.Second}), func(context.Context, *client.QueuedRecord) error {
		began <- struct{}{}
		<-goOn
		return nil
	})
	<-began
	b.await(t, "extensions for longer than the lock", func() bool {
		n := 0
		for _, a := range b.acks {
			if a.GetItems()[0].GetVerdict() == splashdamv1.Verdict_VERDICT_EXTEND && len(a.GetItems()[0].GetTokens()) == 3 {
				n++
			}
		}
		return n >= 4 // some of them repeats
	})
	close(goOn)
	b.await(t, "all accepted", func() bool { return b.acceptedLocked("workers") == 3 })
	if n := len(began); n != 2 {
		t.Errorf("%d more were begun, want 2: a lock has ended", n)
	}
}

func TestRefusedExtensionEndsTheHandlerAndWhatItSays(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.fill("matches", 0, 2, 2)
	b.noExtend = true
	cause := make(chan error, 9)
	run(t, b.queue(t, client.QueueConfig{LockTime: time.Second}), func(ctx context.Context, r *client.QueuedRecord) error {
		if r.Offset == 2 {
			return nil
		}
		<-ctx.Done()
		cause <- fmt.Errorf("%d: %w", r.Offset, context.Cause(ctx))
		return nil
	})
	if err := <-cause; !errors.Is(err, client.ErrNotLocked) {
		t.Errorf("the handler ended for %v", err)
	}
	b.fill("matches", 0, 1, 1)
	b.mu.Lock()
	b.noExtend = false
	b.mu.Unlock()
	b.await(t, "the third record", func() bool { return b.acceptedLocked("workers") == 1 })
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.acks {
		if i := a.GetItems()[0]; i.GetVerdict() != splashdamv1.Verdict_VERDICT_EXTEND && (len(a.GetItems()) != 1 || string(i.GetTokens()[0]) != "lock 3") {
			t.Errorf("lost records are acknowledged: %v", a)
		}
	}
	if len(cause) != 0 {
		t.Error("a record was begun whose lock had ended while it waited")
	}
}

func TestRunTakesLostAcknowledgementsForNoFailure(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 20, 20)
	b.onCall("Acknowledge", loseReply, cut, undecided, unavailable, loseReply)
	var handled atomic.Int64
	run(t, b.queue(t, client.QueueConfig{MaxRecords: 4}), func(context.Context, *client.QueuedRecord) error {
		handled.Add(1)
		return nil
	})
	b.await(t, "20 accepted", func() bool { return b.acceptedLocked("workers") == 20 })
	if n := handled.Load(); n != 20 {
		t.Errorf("%d were handled", n)
	}
}

func TestRunPullsAheadWithinItsBound(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.fill("matches", 0, 500, 50)
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	run(t, b.queue(t, client.QueueConfig{MaxRecords: 20, Handlers: 12, LockTime: time.Second}), func(context.Context, *client.QueuedRecord) error {
		<-goOn
		return nil
	})
	t.Cleanup(release)
	b.await(t, "half of a lock, in which all could be pulled", func() bool { return b.calls["Extend"] > 0 })
	b.mu.Lock()
	if b.most != 32 {
		t.Errorf("%d are locked at once, want 12 in hand and 20 that wait", b.most)
	}
	b.mu.Unlock()
	release()
	b.await(t, "500 accepted", func() bool { return b.acceptedLocked("workers") == 500 })
}

func TestRunThatIsToEndFinishesWhatIsBegunAndGivesBackTheRest(t *testing.T) {
	for name, end := range map[string]func(*client.Queue, context.CancelFunc){
		"context": func(_ *client.Queue, cancel context.CancelFunc) { cancel() },
		"Close":   func(q *client.Queue, _ context.CancelFunc) { go q.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			b.fill("matches", 0, 10, 10)
			q := b.queue(t, client.QueueConfig{Handlers: 2})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ending, began := make(chan struct{}), make(chan struct{}, 10)
			done := make(chan error, 1)
			go func() {
				done <- q.Run(ctx, func(ctx context.Context, _ *client.QueuedRecord) error {
					began <- struct{}{}
					<-ending
					return ctx.Err() // a handler goes on although Run is to end
				})
			}()
			<-began
			<-began
			end(q, cancel)
			select {
			case <-ctx.Done():
			case <-q.Closing():
			}
			close(ending)
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			said := map[splashdamv1.Verdict]int{}
			for _, a := range b.acks {
				for _, i := range a.GetItems() {
					said[i.GetVerdict()] += len(i.GetTokens())
				}
			}
			accepted, returned := said[splashdamv1.Verdict_VERDICT_ACCEPT], said[splashdamv1.Verdict_VERDICT_RETURN]
			// The end of a context is seen at once by all, that of a queue a moment later.
			if accepted < 2 || accepted > 2 && name == "context" || accepted+returned != 10 {
				t.Errorf("accepted %d and returned %d, want the 2 that were begun and the rest", accepted, returned)
			}
		})
	}
}

func TestHandlersThatTakeLongerThanTheGraceAreEnded(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 1, 1)
	q := b.queue(t, client.QueueConfig{})
	q.SetGrace(30 * time.Millisecond)
	began := make(chan struct{})
	end := run(t, q, func(ctx context.Context, _ *client.QueuedRecord) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	<-began
	end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.queues[fakeSpot{"workers", "matches", 0}].waiting; len(w) != 1 {
		t.Errorf("%d wait to be handed out again, want that of the handler", len(w))
	}
}

func TestRunEndsWithAnErrorThatTimeCannotCure(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 3, 3)
	q := b.queue(t, client.QueueConfig{})
	err := q.Run(within(t), func(_ context.Context, r *client.QueuedRecord) error {
		if r.Offset == 2 {
			b.dropTopic("matches")
		}
		return nil
	})
	if !errors.Is(err, client.ErrUnknownTopic) {
		t.Errorf("got %v", err)
	}
	b = newBench(t, 1)
	b.fill("matches", 0, 3, 3)
	b.tokenFault = func(string) *splashdamv1.ErrorDetail {
		return detail("permission_denied", "TOPIC_AUTHORIZATION_FAILED", 29, false)
	}
	err = b.queue(t, client.QueueConfig{}).Run(within(t), func(context.Context, *client.QueuedRecord) error { return nil })
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "permission_denied" {
		t.Errorf("got %v", err)
	}
	q = b.queue(t, client.QueueConfig{})
	q.Close()
	if err := q.Run(within(t), nil); err != nil {
		t.Errorf("Run of a closed queue: %v", err)
	}
}

func TestTwoRunsShareAQueueUnderFaultsAndAcceptEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.fillAll(4, 100)
	calls := 0
	b.queueFault = func(string) fault {
		calls++
		return []fault{none, none, cut, none, loseReply, unavailable, none, undecided}[calls%8]
	}
	var mu sync.Mutex
	var seen []string
	for range 2 {
		run(t, b.queue(t, client.QueueConfig{Handlers: 8, LockTime: time.Second, MaxDeliveries: 1000}), func(_ context.Context, r *client.QueuedRecord) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, string(r.Value))
			return nil
		})
	}
	b.await(t, "400 accepted", func() bool { return b.acceptedLocked("workers") == 400 })
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(seen)
	if n := len(slices.Compact(seen)); n != 400 {
		t.Errorf("%d of 400 were handled", n)
	}
}
