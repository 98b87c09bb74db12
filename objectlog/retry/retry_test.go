package retry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
	"github.com/splashdam/splashdam/objectlog/retry"
)

// policy records its pauses instead of sleeping.
func policy(pauses *[]time.Duration) retry.Policy {
	return retry.Policy{
		Budget: retry.NewBudget(100), Attempts: 5, Base: 8, PauseMax: 20,
		Sleep: func(ctx context.Context, d time.Duration) error {
			if pauses != nil {
				*pauses = append(*pauses, d)
			}
			return ctx.Err()
		},
		Random: func() uint64 { return 0 },
	}
}

// script answers the faults in order, then none.
func script(faults ...mem.Fault) func(mem.Request) mem.Fault {
	return func(r mem.Request) mem.Fault {
		if r.N <= len(faults) {
			return faults[r.N-1]
		}
		return mem.None
	}
}

func always(f mem.Fault) func(mem.Request) mem.Fault {
	return func(mem.Request) mem.Fault { return f }
}

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return retry.New(new(mem.Bucket), policy(nil)) })
}

// TestBucketWithFaultsPassesTheAcceptanceSuite loses the request or its reply every third time.
func TestBucketWithFaultsPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket {
		store := &mem.Bucket{Fault: func(r mem.Request) mem.Fault {
			switch r.N % 6 {
			case 0:
				return mem.FailBefore
			case 3:
				return mem.FailAfter
			}
			return mem.None
		}}
		p := policy(nil)
		p.Budget, p.Attempts = retry.NewBudget(10_000), 50
		return retry.New(store, p)
	})
}

func TestPutWhoseReplyWasLostSucceedsWithOneObject(t *testing.T) {
	ctx := context.Background()
	store := &mem.Bucket{Fault: script(mem.FailAfter, mem.FailBefore)}
	if err := retry.New(store, policy(nil)).Put(ctx, "k", []byte("body"), objectlog.UUID{1}); err != nil {
		t.Error(err)
	}
	if n := store.Count(mem.OpPut); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestAnswersAreNotRetried(t *testing.T) {
	ctx := context.Background()
	store := new(mem.Bucket)
	b := retry.New(store, policy(nil))
	b.Put(ctx, "k", []byte("body"), objectlog.UUID{1})
	exists := b.Put(ctx, "k", []byte("other"), objectlog.UUID{1})
	_, notFound := b.Get(ctx, "absent", objectlog.Extent{})
	_, beyond := b.Get(ctx, "k", objectlog.Extent{Start: 0, Next: 5})
	for want, got := range map[error]error{objectlog.ErrExists: exists, objectlog.ErrNotFound: notFound, objectlog.ErrRange: beyond} {
		if !errors.Is(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if puts, gets := store.Count(mem.OpPut), store.Count(mem.OpGet); puts != 2 || gets != 2 {
		t.Errorf("%d puts and %d gets, want 2 and 2", puts, gets)
	}
}

func TestPausesGrowToTheirBound(t *testing.T) {
	var pauses []time.Duration
	p := policy(&pauses)
	p.Random = func() uint64 { return 1<<64 - 1 }
	store := &mem.Bucket{Fault: always(mem.FailBefore)}
	err := retry.New(store, p).Delete(context.Background(), "k")
	if !errors.Is(err, mem.ErrInjected) || store.Count(mem.OpDelete) != 5 {
		t.Errorf("%v after %d attempts, want the store's error after 5", err, store.Count(mem.OpDelete))
	}
	// The largest random number modulo the bounds 8, 16, 20 and 20.
	if want := []time.Duration{7, 15, 15, 15}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
}

func TestPauseIsDrawnFromTheWholeInterval(t *testing.T) {
	var pauses []time.Duration
	p := policy(&pauses)
	p.Attempts = 2
	next := uint64(0)
	p.Random = func() uint64 { next++; return next - 1 }
	p.Budget = retry.NewBudget(8)
	b := retry.New(&mem.Bucket{Fault: always(mem.FailBefore)}, p)
	for range 8 {
		b.Delete(context.Background(), "k")
	}
	if want := []time.Duration{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(pauses, want) {
		t.Errorf("pauses %v, want %v", pauses, want)
	}
}

func TestSharedBudgetBoundsTheRetriesOfAnOutage(t *testing.T) {
	ctx := context.Background()
	p := policy(nil)
	p.Budget = retry.NewBudget(10)
	down := always(mem.FailBefore)
	one, two := &mem.Bucket{Fault: down}, &mem.Bucket{Fault: down}
	a, b := retry.New(one, p), retry.New(two, p)
	for range 100 {
		a.Stat(ctx, "k")
		b.Stat(ctx, "k")
	}
	if n := one.Count(mem.OpStat) + two.Count(mem.OpStat); n != 210 {
		t.Errorf("200 requests made %d attempts, want the 10 of the budget more", n)
	}
	one.Fault = nil // the store answers again: ten answers buy one retry
	for range 10 {
		a.Stat(ctx, "k")
	}
	before := two.Count(mem.OpStat)
	b.Stat(ctx, "k")
	if n := two.Count(mem.OpStat) - before; n != 2 {
		t.Errorf("%d attempts after ten answers, want 2", n)
	}
}

func TestBudgetIsNeverMoreThanFull(t *testing.T) {
	ctx := context.Background()
	p := policy(nil)
	p.Budget = retry.NewBudget(1)
	store := new(mem.Bucket)
	b := retry.New(store, p)
	for range 100 {
		b.Delete(ctx, "k")
	}
	store.Fault = always(mem.FailBefore)
	b.Stat(ctx, "k")
	if n := store.Count(mem.OpStat); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

func TestEndedContextEndsTheRetries(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := policy(nil)
	p.Sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	store := &mem.Bucket{Fault: always(mem.FailBefore)}
	err := retry.New(store, p).Put(ctx, "k", nil, objectlog.UUID{1})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, mem.ErrInjected) || store.Count(mem.OpPut) != 1 {
		t.Errorf("%v after %d attempts, want both causes after 1", err, store.Count(mem.OpPut))
	}
	store.Fault = func(mem.Request) mem.Fault { return mem.None }
	if err := retry.New(store, p).Put(ctx, "k", nil, objectlog.UUID{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("put with the ended context: %v", err)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := retry.Sleep(ctx, time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %s, want nil after 1s", err, time.Since(start))
		}
		if err := retry.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("%v after %s, want the deadline after 1m", err, time.Since(start))
		}
	})
}

func TestValidateReportsEveryProblem(t *testing.T) {
	if err := policy(nil).Validate(); err != nil {
		t.Error(err)
	}
	err := retry.Policy{PauseMax: -1}.Validate()
	if err == nil {
		t.Fatal("an empty policy is valid")
	}
	for _, want := range []string{"budget", "attempts", "base 0s", "longest pause", "sleep", "random"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not report %q", err, want)
		}
	}
}
