package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

// logged collects the lines of the log until the test ends.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// take answers the lines so far that hold text, and forgets all.
func (l *logged) take(text string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	l.b.Reset()
	return lines
}

func captureLog(t *testing.T) *logged {
	l := &logged{}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(l, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return l
}

func wantNotReady(t *testing.T, a running, parts ...string) {
	t.Helper()
	err := a.Ready()
	wantErr(t, "ready", err, Unavailable)
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("not ready: %v, want it to say %q", err, p)
		}
	}
}

func TestReadinessAndLogTellOfUploadsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := captureLog(t)
		s := newStores()
		cfg := testConfig()
		cfg.ProduceTimeout = 10 * time.Minute
		a := start(t, s, cfg)
		a.topic(t, "orders", 1)
		s.failBucket(func(r objmem.Request) objmem.Fault {
			if strings.Contains(r.Key, "/seg/") {
				return objmem.FailBefore
			}
			return objmem.None
		})
		p := a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}})
		<-time.After(4 * time.Second)
		wantErr(t, "ready after 4 s", a.Ready(), nil)
		<-time.After(2 * time.Second)
		wantNotReady(t, a, "segments cannot be stored since", "injected fault")
		<-time.After(5 * time.Minute)
		wantNotReady(t, a, "segments cannot be stored since", "injected fault")
		lines := log.take("put object")
		if len(lines) != 6 || !strings.Contains(lines[0], "failures=1 ") || !strings.Contains(lines[5], "injected fault") {
			t.Errorf("log of 5 minutes: %q, want 6 lines", lines)
		}
		s.heal()
		if r := p.Wait(t.Context())[0]; r.Err != nil {
			t.Error(r.Err)
		}
		wantErr(t, "ready when one succeeded", a.Ready(), nil)
		if lines := log.take("objects can be put again"); len(lines) != 1 {
			t.Errorf("log of the recovery: %q", lines)
		}
	})
}

func TestAgentThatGaveUpItsSegmentsIsReadyWhenTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := captureLog(t)
		s := newStores()
		a := start(t, s, testConfig())
		a.topic(t, "orders", 1)
		var probes atomic.Int64
		answer := func(f objmem.Fault) {
			s.failBucket(func(r objmem.Request) objmem.Fault {
				if r.Op == objmem.OpPut && strings.Contains(r.Key, "/probe/") {
					probes.Add(1)
				}
				return f
			})
		}
		answer(objmem.None)
		<-time.After(time.Hour)
		want(t, "probes without an outage", probes.Load(), 0)
		answer(objmem.FailBefore)
		for _, patience := range []time.Duration{7 * time.Second, time.Second} { // the second time it is known at once
			p := a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}})
			<-time.After(patience)
			wantNotReady(t, a, "segments cannot be stored")
			wantErr(t, "given up", p.Wait(t.Context())[0].Err, OutcomeUnknown)
			<-time.After(time.Minute)
			wantNotReady(t, a, "segments cannot be stored")
		}
		if lines := log.take("put object"); len(lines) < 2 || len(lines) > 4 {
			t.Errorf("log of three minutes: %q, want one line a minute", lines)
		}
		answer(objmem.None)
		<-time.After(2 * probeEvery)
		wantErr(t, "ready again, though nothing was sent", a.Ready(), nil)
		if left, err := s.bucket.List(t.Context(), "", "", 1000); err != nil || slices.ContainsFunc(left, func(o objectlog.ObjectInfo) bool { return strings.Contains(o.Key, "/probe/") }) {
			t.Errorf("%v, %v: a probe is left", left, err)
		}
		if lines := log.take("objects can be put again"); len(lines) != 1 {
			t.Errorf("log of the recovery: %q", lines)
		}
		probes.Store(0)
		<-time.After(time.Hour)
		want(t, "probes after the outage", probes.Load(), 0)
	})
}

func TestReadinessTellsOfAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		cfg := testConfig()
		cfg.ProduceTimeout = time.Minute
		hung := make(chan struct{})
		a, err := Open(t.Context(), cfg, hangingBucket{s.bucket, hung}, s.table)
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, a)
		r.topic(t, "orders", 1)
		p := r.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}})
		<-time.After(silencePatience - time.Second)
		wantErr(t, "ready at first", r.Ready(), nil)
		<-time.After(2 * time.Second)
		wantNotReady(t, r, "no answer yet")
		close(hung)
		if r := p.Wait(t.Context())[0]; r.Err != nil {
			t.Error(r.Err)
		}
		wantErr(t, "ready again", r.Ready(), nil)
	})
}

// hangingBucket takes segments in when the channel is closed.
type hangingBucket struct {
	objectlog.Bucket
	until <-chan struct{}
}

func (b hangingBucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	if objectlog.Folder(key) == "seg" {
		select {
		case <-b.until:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.Bucket.Put(ctx, key, body, nonce)
}

// TestStopHandsOnThoughTheBucketHangs: what is held back by one store must not keep the other from being told.
func TestStopHandsOnThoughTheBucketHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		cfg := testConfig()
		cfg.ProduceTimeout = time.Minute
		a, err := Open(t.Context(), cfg, hangingBucket{s.bucket, nil}, s.table)
		if err != nil {
			t.Fatal(err)
		}
		r := run(t, a)
		r.topic(t, "orders", 1)
		r.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}})
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("stopped after %s", took)
		}
		for i := range a.shards {
			item, ok, err := s.table.Get(t.Context(), metadata.LeaseKey(objectlog.Shard(i)))
			if err != nil || !ok || bytes.Contains(item.Value, a.writer.boot[:]) {
				t.Errorf("shard %d: the lease still names the agent that stopped: %v, %v", i, ok, err)
			}
		}
		if items, err := a.agentItems(t.Context()); err != nil || len(items) != 0 {
			t.Errorf("agents left: %v, %v", items, err)
		}
	})
}

func TestCauseShownToClientsIsWhatTheStoreSaidAndShort(t *testing.T) {
	full := fmt.Errorf("put seg/00: %w", &fs.PathError{Op: "write", Path: "/srv/bucket/seg/00", Err: syscall.ENOSPC})
	want(t, "a full disk", shortened(full).Error(), syscall.ENOSPC.Error())
	throttled := fmt.Errorf("put seg/00: %w: %w", objectlog.ErrThrottled, errors.New("HTTP 503 SlowDown"))
	want(t, "a kind and its cause", shortened(throttled).Error(), "HTTP 503 SlowDown")
	want(t, "two attempts", shortened(fmt.Errorf("put: %w; and %w", full, errors.New("other"))).Error(), syscall.ENOSPC.Error())
	want(t, "a long answer", len(shortened(errors.New(strings.Repeat("x", 5000))).Error()), causeBytesMax+3)
}

func TestReadinessTellsOfATableThatDoesNotAnswerAndRecoversByItself(t *testing.T) {
	for name, prefix := range map[string]string{"appends": "ring#", "lease": "shard#"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := captureLog(t)
				s := newStores()
				a := start(t, s, testConfig())
				a.topic(t, "orders", 1)
				s.failTable(func(r metamem.Request) metamem.Fault {
					if r.Op == metamem.OpPut && strings.HasPrefix(r.Key.PK, prefix) {
						return metamem.Throttle
					}
					return metamem.None
				})
				p := a.Submit(t.Context(), ProduceRequest{Producer: nobody, Batches: []ProduceBatch{values("orders", 0, "a")}})
				<-time.After(1900 * time.Millisecond)
				wantErr(t, "ready before the lease time", a.Ready(), nil)
				<-time.After(5 * time.Second)
				wantNotReady(t, a, "shard", "since 20", "throttled")
				if lines := log.take("shard log alarm"); len(lines) == 0 || len(lines) > 2 {
					t.Errorf("alarms %q, want one per shard that waits", lines)
				}
				s.heal()
				if r := p.Wait(t.Context())[0]; r.Err != nil {
					t.Error(r.Err)
				}
				<-time.After(time.Second)
				wantErr(t, "ready again", a.Ready(), nil)
			})
		})
	}
}
