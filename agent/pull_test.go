package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/queues"
)

// held is a record in a consumer's hands.
type held struct {
	Acknowledgement
	deliveries int32
	value      string
}

// String is "partition/offset", and how often it was handed out, unless that is once.
func (h held) String() string {
	if h.deliveries == 1 {
		return fmt.Sprintf("%d/%d", h.Partition, h.Offset)
	}
	return fmt.Sprintf("%d/%d x%d", h.Partition, h.Offset, h.deliveries)
}

// email is a pull of the group email from orders.
func email(records int32, wait, lock time.Duration) PullRequest {
	return PullRequest{Group: "email", Topic: "orders", RecordsMax: records, Wait: wait, Lock: lock}
}

// pulls pulls, and checks that every record that it got is in the batches.
func (r running) pulls(t *testing.T, q PullRequest) []held {
	t.Helper()
	pulled, err := r.Pull(t.Context(), q)
	if err != nil {
		t.Fatalf("pull: %v", err)
	}
	return hands(t, pulled)
}

func hands(t *testing.T, pulled []Pulled) []held {
	t.Helper()
	var all []held
	for _, p := range pulled {
		values := map[objectlog.Offset]string{}
		for _, b := range p.Batches {
			if err := objectlog.DecodeBatch(b, objectlog.Limits{}, func(o objectlog.Offset, r objectlog.Record) bool {
				values[o] = string(r.Value)
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range p.Acquired {
			for o := a.From; o < a.To; o++ {
				v, ok := values[o]
				if !ok {
					t.Fatalf("%d/%d is locked and not in the batches", p.Partition, o)
				}
				all = append(all, held{Acknowledgement{Place: p.Place, Offset: o, Lock: p.Lock}, a.Deliveries, v})
			}
		}
	}
	return all
}

// settle acknowledges records and answers what was refused.
func (r running) settles(t *testing.T, v queues.Verdict, wait time.Duration, records ...held) []error {
	t.Helper()
	var all []Acknowledgement
	for _, h := range records {
		h.Verdict, h.Wait = v, wait
		all = append(all, h.Acknowledgement)
	}
	errs, err := r.Acknowledge(t.Context(), "email", all)
	if err != nil || len(errs) != len(all) {
		t.Fatalf("acknowledge: %d answers of %d, %v", len(errs), len(all), err)
	}
	return errs
}

func (r running) accepts(t *testing.T, records ...held) {
	t.Helper()
	for i, err := range r.settles(t, queues.Accept, 0, records...) {
		if err != nil {
			t.Fatalf("accept %s: %v", records[i], err)
		}
	}
}

func wantHeld(t *testing.T, what string, got []held, want string) {
	t.Helper()
	slices.SortFunc(got, func(a, b held) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	if s := strings.Trim(fmt.Sprint(got), "[]"); s != want {
		t.Errorf("%s: got %s, want %s", what, s, want)
	}
}

// info is the queue as every agent sees it.
func (r running) queue(t *testing.T) QueueInfo {
	t.Helper()
	info, err := r.Queue(t.Context(), "email", "orders")
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestRecordsProducedAtOneAgentArePulledAtAnotherAndAcknowledgedAtTheThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		for round := range 6 {
			producer, consumer, other := all[round%3], all[(round+1)%3], all[(round+2)%3]
			var want []string
			for _, p := range spread {
				for range 3 {
					want = append(want, fmt.Sprintf("%d/%d", p, 3*round+len(want)%3))
				}
				if r := producer.produce(t, values("orders", p, "a", "b", "c")); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			got := consumer.pulls(t, email(0, 0, 0))
			if len(got) == 0 {
				t.Error("nothing of what another agent has acknowledged")
			}
			for more := got; len(more) > 0; got = append(got, more...) {
				more = consumer.pulls(t, email(0, 0, 0))
			}
			wantHeld(t, "pulled at once at another agent", got, strings.Join(want, " "))
			wantHeld(t, "what is locked", other.pulls(t, email(0, 0, 0)), "")
			locked := int64(0)
			for _, p := range other.queue(t).Partitions {
				locked += p.Locked
			}
			if locked != 12 {
				t.Errorf("%d records are locked", locked)
			}
			other.accepts(t, got...)
			for _, p := range all[round%3].queue(t).Partitions {
				if p.Lag != 0 || p.Locked != 0 {
					t.Errorf("%+v, when all is accepted", p)
				}
			}
		}
		info := all[0].queue(t)
		if info.Policy != (queues.Policy{Deliveries: 5, DeadLetters: "orders-dlq"}) || !info.Partitions[0].Known || info.Partitions[0].Next != 18 || info.Partitions[1].Known {
			t.Errorf("queue: %+v, %+v", info.Policy, info.Partitions[:2])
		}
	})
}

func TestConsumersAtAllAgentsShareTheRecordsAndNeverHoldOneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 4)
		all[0].fill(t, "orders", 4, 500)
		var mu sync.Mutex
		owner := map[string]int{}
		last := map[objectlog.Partition]int{}
		var consumers sync.WaitGroup
		for c := range 12 {
			consumers.Go(func() {
				for {
					got := all[c%3].pulls(t, email(17, 500*time.Millisecond, time.Minute))
					if len(got) == 0 {
						return
					}
					mu.Lock()
					for _, h := range got {
						if by, there := owner[h.String()]; there {
							t.Errorf("%s is with consumer %d, and was with %d", h, c, by)
						}
						owner[h.String()] = c
						last[h.Partition]++
					}
					mu.Unlock()
					all[(c+1)%3].accepts(t, got...)
				}
			})
		}
		consumers.Wait()
		want(t, "records handed out", len(owner), 2000)
		for p := range objectlog.Partition(4) {
			want(t, fmt.Sprint("records of partition ", p), last[p], 500)
		}
		for _, p := range all[0].queue(t).Partitions {
			want(t, "lag", p.Lag, 0)
		}
	})
}

func TestRecordsAreHandedOutForTheFirstTimeInTheOrderOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 40)
		next := objectlog.Offset(0)
		for range 5 {
			for _, h := range a.pulls(t, email(8, 0, 0)) {
				if h.Offset != next || h.deliveries != 1 || h.value != fmt.Sprint(next) {
					t.Fatalf("%s (%s), want offset %d", h, h.value, next)
				}
				next++
			}
		}
		want(t, "records", next, 40)
	})
}

func TestAcceptedRecordsNeverComeAgainAlsoWhenTheLeaderChanges(t *testing.T) {
	for what, change := range map[string]func(member){"dies": member.die, "leaves": member.leave, "resigns": func(m member) {
		for _, s := range m.shards {
			_ = s.replica.Resign(m.draining)
		}
	}} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, all := three(t)
				all[0].topic(t, "orders", 1)
				all[0].fill(t, "orders", 1, 10)
				<-time.After(time.Minute)
				leader, others := leaderOf(t, all, metadata.ShardOf(topicID(t, all[0].running, "orders"), 0, 4))
				got := leader.pulls(t, email(10, 0, 5*time.Second))
				others[0].accepts(t, got[2:7]...)
				change(leader)
				changed := time.Now()
				again := others[1].pulls(t, email(0, 20*time.Second, 5*time.Second))
				wantHeld(t, "behind the change", again, "0/0 x2 0/1 x2 0/7 x2 0/8 x2 0/9 x2")
				// The new leader does not know when the locks began.
				if took := time.Since(changed); took < 5*time.Second || took > 12*time.Second {
					t.Errorf("locks of 5 s ended %s after the leader changed", took)
				}
				others[0].accepts(t, again...)
				wantHeld(t, "behind all", others[1].pulls(t, email(0, 10*time.Second, time.Second)), "")
			})
		})
	}
}

func TestRecordComesAgainWhenItsLockEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lock = 3 * time.Second
		_, _, all := three(t)
		all[0].topic(t, "orders", 4)
		all[0].fill(t, "orders", 4, 1)
		<-time.After(time.Minute) // shards are where they belong: a new leader would give the locks their time anew
		mine := all[0].pulls(t, email(0, 0, lock))
		want(t, "records", len(mine), 4)
		for round := range 4 {
			began := time.Now()
			<-time.After(lock - 100*time.Millisecond)
			wantHeld(t, "before the end", all[round%3].pulls(t, email(0, 0, lock)), "")
			var again []held
			for len(again) < 4 {
				more := all[(round+1)%3].pulls(t, email(0, time.Second, lock))
				if len(more) == 0 {
					t.Fatal("nothing came again")
				}
				again = append(again, more...)
			}
			if late := time.Since(began) - lock; late > 500*time.Millisecond {
				t.Errorf("round %d: they came again %s behind the end of the lock", round, late)
			}
			for _, h := range again {
				want(t, "deliveries", h.deliveries, int32(round+2))
			}
			for _, err := range all[0].settles(t, queues.Accept, 0, mine...) {
				wantErr(t, "acknowledgement under the lock that ended", err, queues.ReasonNotLocked)
			}
			mine = again
		}
		all[0].accepts(t, mine...)
	})
}

func TestRejectedRecordsAndThoseDeliveredTooOftenAreNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 6)
		q := email(0, 0, time.Second)
		q.Deliveries = 2
		got := a.pulls(t, q)
		for _, err := range a.settles(t, queues.Reject, 0, got[1]) {
			wantErr(t, "reject", err, nil)
		}
		for _, err := range a.settles(t, queues.Release, 0, got[2], got[3]) {
			wantErr(t, "release", err, nil)
		}
		again := a.pulls(t, q)
		wantHeld(t, "released", again, "0/2 x2 0/3 x2")
		for _, err := range a.settles(t, queues.Release, 0, again[0]) {
			wantErr(t, "release", err, nil)
		}
		<-time.After(2 * time.Second)
		wantHeld(t, "behind the end of the locks", a.pulls(t, q), "0/0 x2 0/4 x2 0/5 x2")
		a.moved(t)
		want(t, "dead letters", len(a.records(t, "orders-dlq", 0)), 3)
	})
}

func TestReleasedRecordComesAgainBehindItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 2)
		got := a.pulls(t, email(0, 0, time.Minute))
		began := time.Now()
		wantErr(t, "release", a.settles(t, queues.Release, 10*time.Second, got[0])[0], nil)
		want(t, "delayed", a.queue(t).Partitions[0].Delayed, 1)
		wantHeld(t, "pulled", a.pulls(t, email(0, 20*time.Second, time.Minute)), "0/0 x2")
		if took := time.Since(began); took < 10*time.Second || took > 10500*time.Millisecond {
			t.Errorf("it came again behind %s", took)
		}
	})
}

func TestReturnedRecordComesAgainUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 1)
		for range 7 { // more often than it may be delivered
			got := a.pulls(t, email(0, 0, time.Minute))
			wantHeld(t, "pulled", got, "0/0")
			wantErr(t, "return", a.settles(t, queues.Return, 0, got[0])[0], nil)
		}
	})
}

func TestExtendedLockBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 1)
		got := a.pulls(t, email(0, 0, 2*time.Second))
		for range 5 {
			<-time.After(1900 * time.Millisecond)
			wantErr(t, "extend", a.settles(t, queues.Extend, 2*time.Second, got...)[0], nil)
		}
		wantHeld(t, "meanwhile", a.pulls(t, email(0, 1900*time.Millisecond, time.Second)), "")
		a.accepts(t, got...)
	})
}

func TestNoMoreIsHandedOutThanTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.QueueWindow = 10
		a := start(t, newStores(), cfg)
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 30)
		got := a.pulls(t, email(0, 0, time.Minute))
		want(t, "records with a full window", len(got), 10)
		began := time.Now()
		wantHeld(t, "beyond it", a.pulls(t, email(0, time.Second, time.Minute)), "")
		want(t, "waited", time.Since(began), time.Second)
		a.accepts(t, got[3:6]...)
		wantHeld(t, "when there is room", a.pulls(t, email(0, 0, time.Minute)), "0/10 0/11 0/12")
		wantErr(t, "release", a.settles(t, queues.Release, 0, got[0])[0], nil)
		wantHeld(t, "what was handed out before", a.pulls(t, email(0, 0, time.Minute)), "0/0 x2")
	})
}

// forgetful appends, and says that it does not know.
type forgetful struct {
	shardlog.Log
	forget atomic.Int32
	asked  atomic.Int32
}

func (f *forgetful) Propose(ctx context.Context, commands []metadata.Command) (shardlog.Receipt, error) {
	receipt, err := f.Log.Propose(ctx, commands)
	f.asked.Add(int32(len(commands)))
	if f.forget.Add(-1) >= 0 {
		return shardlog.Receipt{}, shardlog.ErrUnknown
	}
	return receipt, err
}

// forgets makes what consumers propose at an agent be forgotten.
func forgets(t *testing.T) (running, *forgetful) {
	t.Helper()
	cfg := testConfig()
	cfg.Shards = 1
	a, err := Open(t.Context(), cfg, newStores().bucket, newStores().table)
	if err != nil {
		t.Fatal(err)
	}
	f := &forgetful{Log: a.committers[0].log}
	a.committers[0].log = f
	r := run(t, a)
	r.topic(t, "orders", 1)
	r.fill(t, "orders", 1, 10)
	return r, f
}

func TestPullOfUnknownOutcomeIsRepeatedAndCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := forgets(t)
		f.forget.Store(3)
		wantHeld(t, "pulled", a.pulls(t, email(4, 0, time.Minute)), "0/0 0/1 0/2 0/3")
		want(t, "proposals", f.asked.Load(), 4)
		p := a.queue(t).Partitions[0]
		if p.Locked != 4 || p.Next != 4 {
			t.Errorf("repeats locked more: %+v", p)
		}
	})
}

func TestAcknowledgementOfUnknownOutcomeIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := forgets(t)
		got := a.pulls(t, email(4, 0, time.Minute))
		asked := f.asked.Load()
		f.forget.Store(1)
		for _, err := range a.settles(t, queues.Accept, 0, got...) {
			wantErr(t, "acknowledge", err, OutcomeUnknown)
			if errors.Is(err, Unavailable) || errors.Is(err, queues.ReasonNotLocked) {
				t.Errorf("said to have failed: %v", err)
			}
		}
		want(t, "proposals", f.asked.Load()-asked, 1)
		for _, err := range a.settles(t, queues.Accept, 0, got...) {
			wantErr(t, "when it was done", err, queues.ReasonNotLocked)
		}
	})
}

// slow answers late what was appended at once.
type slow struct {
	shardlog.Log
	by atomic.Int64
}

func (s *slow) Propose(ctx context.Context, commands []metadata.Command) (shardlog.Receipt, error) {
	receipt, err := s.Log.Propose(ctx, commands)
	<-time.After(time.Duration(s.by.Load()))
	return receipt, err
}

func TestWhatWasLockedForACallerThatLeftIsGivenBackUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := forgets(t)
		s := &slow{Log: f}
		s.by.Store(int64(time.Second))
		a.committers[0].mu.Lock()
		a.committers[0].log = s
		a.committers[0].mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := a.Pull(ctx, email(4, 0, time.Hour)); !errors.Is(err, OutcomeUnknown) {
			t.Errorf("got %v, want that the outcome is unknown", err)
		}
		s.by.Store(0)
		<-time.After(2 * time.Second)
		wantHeld(t, "pulled by another", a.pulls(t, email(0, 0, time.Minute)), "0/0 0/1 0/2 0/3 0/4 0/5 0/6 0/7 0/8 0/9")
	})
}

func TestPullGivesBackUncountedWhatHasNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 2)
		for range 5 {
			a.fill(t, "orders", 2, 3)
		}
		small := email(0, 0, time.Minute)
		small.BytesMax = 1 // the first batch comes all the same
		got := a.pulls(t, small)
		want(t, "records of one batch", len(got), 3)
		// What comes again is not measured before it is locked.
		got = append(got, a.pulls(t, email(0, 0, time.Minute))...)
		want(t, "all", len(got), 30)
		for _, err := range a.settles(t, queues.Release, 0, got...) {
			wantErr(t, "release", err, nil)
		}
		counts := map[int32]int{}
		for range 10 {
			some := a.pulls(t, small)
			want(t, "records of one batch", len(some), 3)
			for _, h := range some {
				counts[h.deliveries]++
			}
			synctest.Wait()
		}
		if len(counts) != 1 || counts[2] != 30 {
			t.Errorf("records by deliveries: %v, want 30 that were handed out twice", counts)
		}
	})
}

func TestPullGivesBackUncountedWhatTheBucketDoesNotGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		first := start(t, s, testConfig())
		first.topic(t, "orders", 1)
		first.fill(t, "orders", 1, 3)
		first.stop()
		a := start(t, s, testConfig())
		s.failBucket(func(r objmem.Request) objmem.Fault {
			if r.Op == objmem.OpGet && strings.Contains(r.Key, "/seg/") {
				return objmem.FailBefore
			}
			return objmem.None
		})
		for range 3 {
			if _, err := a.Pull(t.Context(), email(0, 0, time.Minute)); err == nil {
				t.Error("records that can't be read were handed out")
			}
			synctest.Wait()
		}
		s.heal()
		wantHeld(t, "when the bucket is back", a.pulls(t, email(0, 0, time.Minute)), "0/0 0/1 0/2")
	})
}

func TestPullGivesBackWhatItCannotReadWithinTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		first := start(t, s, testConfig())
		first.topic(t, "orders", 1)
		first.fill(t, "orders", 1, 3)
		first.stop()
		opened, err := Open(t.Context(), testConfig(), silentBucket{s.bucket}, s.table)
		if err != nil {
			t.Fatal(err)
		}
		a := run(t, opened)
		begun := time.Now()
		_, err = a.Pull(t.Context(), email(0, 0, 4*time.Second))
		if took := time.Since(begun); !errors.Is(err, Unavailable) || took != 3*time.Second {
			t.Errorf("got %v after %s, want the records given back before their lock is over", err, took)
		}
		synctest.Wait()
		info, err := a.Queue(t.Context(), "email", "orders")
		if err != nil || info.Partitions[0].Released != 3 {
			t.Errorf("got %+v, %v, want 3 records to be handed out again", info.Partitions, err)
		}
	})
}

// silentBucket never answers who reads a segment.
type silentBucket struct{ objectlog.Bucket }

func (b silentBucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	if objectlog.Folder(key) == "seg" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b.Bucket.Get(ctx, key, extent)
}

func TestPullSkipsWhatIsNotInTheLogAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		for range 3 {
			a.fill(t, "orders", 1, 4)
		}
		got := a.pulls(t, email(6, 0, time.Minute))
		for _, err := range a.settles(t, queues.Release, 0, got[:3]...) {
			wantErr(t, "release", err, nil)
		}
		if _, err := a.TrimPartition(t.Context(), "orders", 0, 2); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, "released and still there", a.pulls(t, email(1, 0, time.Minute)), "0/2 x2")
		if _, err := a.TrimPartition(t.Context(), "orders", 0, 9); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, "beyond what nobody had", a.pulls(t, email(0, 0, time.Minute)), "0/9 0/10 0/11")
		a.accepts(t, got[3:]...) // whoever has it may finish it
		if _, err := a.TrimPartition(t.Context(), "orders", 0, 12); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, "of an empty log", a.pulls(t, email(0, time.Second, time.Minute)), "")
		want(t, "lag", a.queue(t).Partitions[0].Lag, 0)
	})
}

func TestQueueBeginsWhereItsFirstPullSays(t *testing.T) {
	for _, c := range []struct {
		start        Start
		first, later string
	}{
		{Start{Kind: StartEarliest}, "0/0 0/1 0/2 1/0 1/1 1/2", "0/3 1/3"},
		{Start{Kind: StartLatest}, "", "0/3 1/3"},
		{Start{Kind: StartTail, Tail: 1}, "0/2 1/2", "0/3 1/3"},
		{Start{Kind: StartOffset, Offset: 1}, "0/1 0/2 1/1 1/2", "0/3 1/3"},
		{Start{Kind: StartOffset, Offset: 4}, "", "0/4 1/4"},
		{Start{Kind: StartTime, Time: 1 << 50}, "", "0/3 1/3"},
		{Start{Kind: StartTime, Time: 1}, "0/0 0/1 0/2 1/0 1/1 1/2", "0/3 1/3"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := start(t, newStores(), testConfig())
			a.topic(t, "orders", 2)
			a.fill(t, "orders", 2, 3)
			q := email(0, 0, time.Minute)
			q.Start = c.start
			what := fmt.Sprintf("start %+v", c.start)
			wantHeld(t, what, a.pulls(t, q), c.first)
			a.fill(t, "orders", 2, 1)
			if c.start.Offset == 4 {
				wantHeld(t, what+" before it", a.pulls(t, q), "")
				a.fill(t, "orders", 2, 1)
			}
			wantHeld(t, what+" later", a.pulls(t, q), c.later)
		})
	}
}

func TestWaitingPullEndsWithARecordAtAnotherAgentAndWithDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		wait := func(m member, q PullRequest) chan []held {
			answered := make(chan []held, 1)
			go func() { answered <- m.pulls(t, q) }()
			synctest.Wait()
			return answered
		}
		for i, p := range spread {
			first := email(0, 25*time.Second, time.Minute)
			first.Start = Start{Kind: StartLatest}
			answered := wait(all[(i+1)%3], first)
			<-time.After(10 * time.Second)
			produced := time.Now()
			if r := all[i%3].produce(t, values("orders", p, "v")); r.Err != nil {
				t.Fatal(r.Err)
			}
			wantHeld(t, "what is waited for", <-answered, fmt.Sprintf("%d/0", p))
			if took := time.Since(produced); took > 10*time.Millisecond {
				t.Errorf("it came %s behind the record", took)
			}
		}
		answered, began := wait(all[1], email(0, 25*time.Second, time.Minute)), time.Now()
		all[1].Drain()
		wantHeld(t, "when the agent drains", <-answered, "")
		want(t, "waited", time.Since(began), 0)
	})
}

func TestOneRecordWakesManyPullsAndIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f := forgets(t)
		a.accepts(t, a.pulls(t, email(0, 0, time.Minute))...)
		asked := f.asked.Load()
		var got atomic.Int32
		var waiting sync.WaitGroup
		for range 64 {
			waiting.Go(func() { got.Add(int32(len(a.pulls(t, email(0, 20*time.Second, time.Minute))))) })
		}
		for range 10 {
			<-time.After(time.Second)
			a.fill(t, "orders", 1, 1)
		}
		waiting.Wait()
		want(t, "records", got.Load(), 10)
		if n := f.asked.Load() - asked; n > 30 {
			t.Errorf("10 records for 64 pulls took %d proposals", n)
		}
	})
}

func TestWrongPullsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		for what, c := range map[string]struct {
			change func(*PullRequest)
			want   error
		}{
			"no group":           {func(q *PullRequest) { q.Group = "" }, InvalidRequest},
			"a group of lines":   {func(q *PullRequest) { q.Group = "a\nb" }, InvalidRequest},
			"no such topic":      {func(q *PullRequest) { q.Topic = "none" }, metadata.ReasonUnknownTopic},
			"negative records":   {func(q *PullRequest) { q.RecordsMax = -1 }, InvalidRequest},
			"too many records":   {func(q *PullRequest) { q.RecordsMax = queues.WindowMax + 1 }, InvalidRequest},
			"too many bytes":     {func(q *PullRequest) { q.BytesMax = pullBytesMax + 1 }, InvalidRequest},
			"a lock of a day":    {func(q *PullRequest) { q.Lock = 24 * time.Hour }, InvalidRequest},
			"a lock of no time":  {func(q *PullRequest) { q.Lock = time.Microsecond }, InvalidRequest},
			"deliveries":         {func(q *PullRequest) { q.Deliveries = queues.DeliveriesMax + 1 }, InvalidRequest},
			"a bad dead letter":  {func(q *PullRequest) { q.DeadLetters = "a/b" }, InvalidRequest},
			"itself as such":     {func(q *PullRequest) { q.DeadLetters = "orders" }, InvalidRequest},
			"a negative start":   {func(q *PullRequest) { q.Start = Start{Kind: StartOffset, Offset: -1} }, InvalidRequest},
			"a start of no kind": {func(q *PullRequest) { q.Start = Start{Kind: 99} }, InvalidRequest},
		} {
			q := email(0, 0, 0)
			c.change(&q)
			got, err := a.Pull(t.Context(), q)
			if wantErr(t, what, err, c.want); err == nil || len(got) > 0 {
				t.Errorf("%s: answered %v", what, got)
			}
		}
	})
}

func TestWhatCantGoToItsDeadLetterTopicGoesToTheOneThatANewerPullNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.QueueWindow = 3
		a := start(t, newStores(), cfg)
		a.topic(t, "orders", 1)
		a.topic(t, "small", 1, "max.message.bytes", "70", "compression.type", "uncompressed")
		a.fill(t, "orders", 1, 5)
		q := email(0, 0, time.Minute)
		q.DeadLetters = "small"
		for _, err := range a.settles(t, queues.Reject, 0, a.pulls(t, q)...) {
			wantErr(t, "reject", err, nil)
		}
		<-time.After(time.Minute)
		wantHeld(t, "behind a window full of what can't leave", a.pulls(t, q), "")
		want(t, "failed", a.queue(t).Partitions[0].Dying, 3)
		q.DeadLetters, q.Wait = "large", time.Minute
		wantHeld(t, "when it can", a.pulls(t, q), "0/3 0/4")
		want(t, "dead letters", len(a.records(t, "large", 0)), 3)
	})
}
