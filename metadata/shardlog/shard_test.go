package shardlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/metadata"
	tablemem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	bucketmem "github.com/splashdam/splashdam/objectlog/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig runs Shards against stores in memory.
type rig struct {
	t      testing.TB
	table  *tablemem.Table
	bucket *bucketmem.Bucket
	boots  byte
}

func newRig(t testing.TB, slots int) *rig {
	r := &rig{t: t, table: &tablemem.Table{}, bucket: &bucketmem.Bucket{}}
	if err := Create(t.Context(), r.table, testShard, slots, rand.Uint64); err != nil {
		t.Fatal(err)
	}
	return r
}

type running struct {
	*Shard
	list *list
	stop func() error
}

func (r *rig) run(change ...func(*Config)) running {
	r.boots++
	cfg := Config{Shard: testShard, Boot: objectlog.UUID{r.boots}, Lease: 5 * time.Second, Random: rand.Uint64} // as long as a busy machine may stand still
	for _, f := range change {
		f(&cfg)
	}
	l := &list{}
	s := Open(cfg, objectlog.Keys{}, r.table, r.bucket, []Registration{{Name: "list", From: 1, To: 64, Machine: l}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	r.t.Cleanup(func() { _ = stop() })
	return running{s, l, stop}
}

func (s running) await(t testing.TB, role Role) {
	t.Helper()
	s.awaitStatus(t, func(s Status) bool { return s.Role == role })
}

// awaitStatus looks only when Changed says so.
func (s running) awaitStatus(t testing.TB, want func(Status) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		changed := s.Changed()
		if want(s.Status()) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not reached: %+v", s.Status())
		}
	}
}

func (s running) tell(t testing.TB, e Event) {
	t.Helper()
	if err := s.Tell(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func (s running) propose(t testing.TB, body string) Receipt {
	t.Helper()
	r, err := s.Propose(t.Context(), item(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func item(s string) []metadata.Command {
	return []metadata.Command{{Kind: kindItem, Body: []byte(s)}}
}

func TestShardCommitsConcurrentProposalsAndSurvivesRestart(t *testing.T) {
	r := newRig(t, 64)
	s := r.run(func(c *Config) { c.ClaimAtOnce = true })
	s.await(t, RoleLeading)
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 50 {
				if _, err := s.Propose(t.Context(), item(fmt.Sprint(g, "/", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if at, err := s.Current(t.Context()); err != nil || at != s.Status().Applied {
		t.Errorf("current read: %d, %v", at, err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, err := s.Propose(t.Context(), item("late")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("propose after the end: %v", err)
	}
	b := r.run(func(c *Config) { c.ClaimAtOnce = true })
	start := time.Now()
	b.await(t, RoleLeading)
	t.Logf("leads %v after start", time.Since(start))
	b.Read(func(metadata.Seq) {
		if len(b.list.items) != 400 {
			t.Errorf("%d items after restart", len(b.list.items))
		}
	})
}

func TestShardHandsOffAndStreamsToFollowers(t *testing.T) {
	r := newRig(t, 64)
	a := r.run()
	a.await(t, RoleLeading)
	b := r.run()
	b.await(t, RoleFollowing)
	receipt, err := a.Propose(t.Context(), item("x"))
	if err != nil {
		t.Fatal(err)
	}
	entries, ok := a.Committed(receipt.Seq)
	if !ok || len(entries) != 1 {
		t.Fatalf("committed from %d: %d entries, %v", receipt.Seq, len(entries), ok)
	}
	if err := b.Tell(t.Context(), Followed{Entries: entries}); err != nil {
		t.Fatal(err)
	}
	if at, err := b.Current(t.Context()); err != nil || at != receipt.Seq {
		t.Errorf("the follower is at %d, %v", at, err)
	}
	if err := a.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := b.Tell(t.Context(), HolderGone{Holder: objectlog.UUID{1}}); err != nil {
		t.Fatal(err)
	}
	b.await(t, RoleLeading)
	t.Logf("hand-off took %v", time.Since(start))
	if _, err := a.Propose(t.Context(), item("y")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("propose to the resigned leader: %v", err)
	}
	if _, err := b.Propose(t.Context(), item("y")); err != nil {
		t.Error(err)
	}
}

func TestShardKeepsOnlyNamedSnapshots(t *testing.T) {
	r := newRig(t, 32)
	a := r.run()
	a.await(t, RoleLeading)
	for i := range 200 {
		if _, err := a.Propose(t.Context(), item(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.stop()
	b := r.run(func(c *Config) { c.ClaimAtOnce = true })
	b.await(t, RoleLeading)
	b.Read(func(metadata.Seq) {
		if len(b.list.items) != 200 {
			t.Errorf("%d items", len(b.list.items))
		}
	})
	_ = b.stop() // its deletions are over
	objects, err := r.bucket.List(t.Context(), objectlog.Keys{}.SnapshotPrefix(testShard), "", 1000)
	if err != nil || len(objects) > 4 {
		t.Errorf("%d snapshots left, %v", len(objects), err)
	}
}

func TestProposalWhoseContextEndsIsUnknown(t *testing.T) {
	r := newRig(t, 64)
	var down atomic.Bool
	r.table.Fault = func(q tablemem.Request) tablemem.Fault {
		if q.Op == tablemem.OpPut && down.Load() {
			return tablemem.FailBefore
		}
		return tablemem.None
	}
	a := r.run()
	a.await(t, RoleLeading)
	down.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Propose(ctx, item("x")); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestChangedTellsWhenTheLeaseLapsesAndIsRenewed(t *testing.T) {
	r := newRig(t, 64)
	var down atomic.Bool
	r.table.Fault = func(q tablemem.Request) tablemem.Fault {
		if q.Op == tablemem.OpPut && down.Load() {
			return tablemem.FailBefore
		}
		return tablemem.None
	}
	a := r.run(func(c *Config) { c.Lease = 200 * time.Millisecond })
	a.await(t, RoleLeading)
	down.Store(true)
	a.awaitStatus(t, func(s Status) bool { return s.Role == RoleLeading && !s.Renewed })
	down.Store(false)
	a.awaitStatus(t, func(s Status) bool { return s.Renewed })
}

func TestStatusDiffersInWhatOthersWaitFor(t *testing.T) {
	base := Status{Role: RoleFollowing, SnapshotAge: time.Second}
	for _, x := range []struct {
		name   string
		change func(*Status)
		want   bool
	}{
		{"role", func(s *Status) { s.Role = RoleLeading }, true},
		{"leader", func(s *Status) { s.Leader[3]++ }, true},
		{"epoch", func(s *Status) { s.Epoch++ }, true},
		{"applied", func(s *Status) { s.Applied++ }, true},
		{"renewed", func(s *Status) { s.Renewed = true }, true},
		{"fault", func(s *Status) { s.Fault = ErrHalted }, true},
		{"nothing", func(*Status) {}, false},
		{"time", func(s *Status) { s.SnapshotAge, s.Away = 2*time.Second, errors.New("since then") }, false},
	} {
		s := base
		if x.change(&s); s.differs(base) != x.want {
			t.Errorf("%s: %v", x.name, !x.want)
		}
	}
}

func TestNewLeaderStreamsWhatItFollowedBefore(t *testing.T) {
	r := newRig(t, 64)
	a := r.run()
	a.await(t, RoleLeading)
	b := r.run()
	b.await(t, RoleFollowing)
	for i := range 10 {
		a.propose(t, fmt.Sprint(i))
	}
	entries, ok := a.Committed(3)
	if !ok || len(entries) != 8 {
		t.Fatalf("%d entries, %v", len(entries), ok)
	}
	all, _ := a.Committed(0)
	b.tell(t, Followed{Leader: objectlog.UUID{1}, Entries: all})
	if err := a.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.tell(t, HolderGone{Holder: objectlog.UUID{1}})
	b.await(t, RoleLeading)
	last := b.propose(t, "b's").Seq
	first := metadata.Seq(0)
	for _, ok := b.Committed(first); !ok; _, ok = b.Committed(first) {
		if first++; first > 1 { // the barrier may have been there when b came
			t.Fatal("what was followed is gone")
		}
	}
	for from := first; from < last+3; from++ {
		got, ok := b.Committed(from)
		if want := max(last-from+1, 0); !ok || len(got) != int(want) || want > 0 && got[0].Seq != from {
			t.Errorf("from %d to %d: %d entries, %v", from, last, len(got), ok)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b.Committed(first) }); n != 0 {
		t.Errorf("%v allocations per call: every follower makes some per entry", n)
	}
	kept, _ := b.Committed(first)
	sum := crc32c(kept[2].Entry)
	for i := range 100 {
		b.propose(t, fmt.Sprint("more ", i))
	}
	if kept[2].Seq != first+2 || crc32c(kept[2].Entry) != sum {
		t.Error("what was handed out changed")
	}
}

func TestTailHoldsNoMoreThanItsBytesAndWhatFollowersRead(t *testing.T) {
	const entry, kept, room = 10_000, 8, 100
	s := &Shard{core: New(Config{Random: rand.Uint64, TailBytes: kept * entry}, nil)}
	var alive atomic.Int64 // entries of the large ones
	next := metadata.Seq(0)
	keep := func(e []byte) {
		s.keep(Committed{Seq: next, Entry: e})
		s.core.tip.seq = next
		next++
	}
	for cap(s.tail)-len(s.tail) < room {
		keep(make([]byte, 10))
	}
	for range room { // into the same array
		e := make([]byte, entry)
		alive.Add(1)
		runtime.AddCleanup(&e[0], func(int) { alive.Add(-1) }, 0)
		keep(e)
	}
	first := next - kept
	got, ok := s.Committed(first)
	if !ok || len(got) != kept {
		t.Errorf("%d entries, %v; want %d", len(got), ok, kept)
	}
	over := time.After(10 * time.Second)
	for runtime.GC(); alive.Load() > kept*3/2+1; runtime.GC() {
		select {
		case <-over:
			t.Fatalf("%d entries are held for a tail of %d", alive.Load(), kept)
		default:
		}
	}
	for range 100 {
		keep(make([]byte, entry))
	}
	if got[0].Seq != first || got[kept-1].Seq != first+kept-1 || len(got[0].Entry) != entry {
		t.Error("what a follower reads changed")
	}
}

func TestFollowerBehindTheTailIsSentToTheRing(t *testing.T) {
	s := &Shard{core: New(Config{Random: rand.Uint64}, nil)}
	tailBytesMax := s.core.cfg.TailBytes
	for n := range metadata.Seq(100) {
		s.keep(Committed{Seq: n, Entry: make([]byte, tailBytesMax/10-1)})
		s.core.tip.seq = n
	}
	if got, ok := s.Committed(90); !ok || len(got) != 10 {
		t.Errorf("%d entries, %v", len(got), ok)
	}
	if got, ok := s.Committed(89); ok || got != nil {
		t.Errorf("%d entries that are behind the bound, %v", len(got), ok)
	}
	s.core.tip.seq = 200 // by a snapshot
	for _, from := range []metadata.Seq{95, 150, 195} {
		if got, ok := s.Committed(from); ok || got != nil {
			t.Errorf("from %d: %d entries before a snapshot, %v", from, len(got), ok)
		}
	}
	if got, ok := s.Committed(201); !ok || len(got) != 0 {
		t.Errorf("%d entries for one that is up to date, %v", len(got), ok)
	}
	s.keep(Committed{Seq: 201})
	s.core.tip.seq = 201
	if got, ok := s.Committed(201); !ok || len(got) != 1 || s.size != 0 {
		t.Errorf("%d entries behind the gap, %v, %d bytes", len(got), ok, s.size)
	}
}

func TestShardWhoseStateDiffersHaltsAndTheOthersGoOn(t *testing.T) {
	r := newRig(t, 64)
	if err := Create(t.Context(), r.table, testShard+1, 64, rand.Uint64); err != nil {
		t.Fatal(err)
	}
	a := r.run()
	other := r.run(func(c *Config) { c.Shard++ })
	a.await(t, RoleLeading)
	other.await(t, RoleLeading)
	b := r.run()
	b.tell(t, Ranked{Rank: -1})
	b.await(t, RoleFollowing)
	if a.Fingerprint() != (Fingerprint{}) {
		t.Errorf("%+v", a.Fingerprint())
	}
	for i := 0; i < 70 || a.Fingerprint().Seq != 64; i++ {
		entries, ok := a.Committed(a.propose(t, fmt.Sprint(i)).Seq)
		if !ok {
			t.Fatal("not kept")
		}
		b.tell(t, Followed{Leader: objectlog.UUID{1}, Entries: entries})
	}
	b.tell(t, Compared{Leader: a.Fingerprint()})
	for deadline := time.Now().Add(20 * time.Second); b.Fingerprint() != a.Fingerprint(); {
		if at, err := b.Current(t.Context()); err != nil || at != a.Status().Applied || time.Now().After(deadline) {
			t.Fatalf("%d, %v, %+v", at, err, b.Fingerprint())
		}
	}
	wrong := a.Fingerprint()
	wrong.Hash++
	b.tell(t, Compared{Leader: wrong})
	b.await(t, RoleHalted)
	a.propose(t, "on")
	other.propose(t, "on")
	if err := b.stop(); !errors.Is(err, ErrHalted) {
		t.Errorf("ended with %v", err)
	}
}

// BenchmarkAppend is the overhead of one committed proposal, one at a time, without stores' time.
func BenchmarkAppend(b *testing.B) {
	r := newRig(b, 4096)
	s := r.run()
	s.await(b, RoleLeading)
	for b.Loop() {
		if _, err := s.Propose(b.Context(), item("x")); err != nil {
			b.Fatal(err)
		}
		s.Read(func(metadata.Seq) { s.list.items = s.list.items[:0] })
	}
}

// BenchmarkRestart is from Open to leading, with as many entries behind the snapshot as there can be before the next one, of 8 KiB each.
func BenchmarkRestart(b *testing.B) {
	r := newRig(b, 4096)
	s := r.run(func(c *Config) { c.ClaimAtOnce = true })
	s.await(b, RoleLeading)
	body := string(make([]byte, 8<<10))
	for range 510 {
		if _, err := s.Propose(b.Context(), item(body)); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.stop()
	for b.Loop() {
		s := r.run(func(c *Config) { c.ClaimAtOnce = true })
		s.await(b, RoleLeading)
		_ = s.stop()
	}
}
