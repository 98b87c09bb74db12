package shardlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	cfg := Config{Shard: testShard, Boot: objectlog.UUID{r.boots}, Lease: 500 * time.Millisecond, Random: rand.Uint64}
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
	deadline := time.After(10 * time.Second)
	for {
		changed := s.Changed()
		if s.Status().Role == role {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("role %v not reached: %+v", role, s.Status())
		}
	}
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
	b := r.run()
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
