package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// ledger is which records were processed, by partition and offset.
type ledger struct {
	mu        sync.Mutex
	processed map[int32]map[int64]int
	below     map[int32]int64 // all records below are processed
	wrong     []string
}

func (l *ledger) note(r client.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := int32(r.Partition)
	if l.processed[p] == nil {
		l.processed[p] = map[int64]int{}
	}
	l.processed[p][int64(r.Offset)]++
	for l.processed[p][l.below[p]] > 0 {
		l.below[p]++
	}
}

// judge looks at a commit that arrives.
func (l *ledger) judge(req *splashdamv1.CommitOffsetsRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range req.GetOffsets() {
		if o.GetOffset() > l.below[o.GetPartition()] {
			l.wrong = append(l.wrong, fmt.Sprintf("partition %d: commit of %d, processed below %d", o.GetPartition(), o.GetOffset(), l.below[o.GetPartition()]))
		}
	}
}

func TestMembersThatComeAndGoUnderFaultsProcessEveryRecordAndCommitNoOther(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 6))
			b := newBench(t, 5)
			l := &ledger{processed: map[int32]map[int64]int{}, below: map[int32]int64{}}
			refused, lost := rng.IntN(100), 0
			b.mu.Lock()
			b.onCommit = l.judge
			b.refuse = func(call string) error {
				if refused = (refused*31 + 7) % 100; refused < 15 {
					return connect.NewError(connect.CodeUnavailable, errors.New("no agent"))
				}
				return nil
			}
			b.loseAnswer = func() bool { lost++; return lost%3 == 0 }
			b.mu.Unlock()
			var working []func()
			for round := range 15 {
				b.fillAll(5, 20)
				switch rng.IntN(4) {
				case 0:
					if len(working) > 0 {
						working[0]()
						working = working[1:]
					}
				case 1:
					if b.members("readers") > 0 {
						b.expel("readers")
					}
				default:
					working = append(working, l.work(t, b, rng.IntN(2) == 0))
				}
				n := b.count("Heartbeat")
				if err := b.until(within(t), func() bool { return b.calls["Heartbeat"] > n+round%3 || len(working) == 0 }); err != nil {
					t.Fatal(err)
				}
			}
			working = append(working, l.work(t, b, true))
			err := b.until(within(t), func() bool {
				for p := range int32(5) {
					if at, _, _ := b.committedLocked("readers", "matches", p); at != 300 {
						return false
					}
				}
				return true
			})
			for _, end := range working {
				end()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil || len(l.wrong) > 0 {
				t.Errorf("%v, processed below %v, %q", err, l.below, l.wrong)
			}
		})
	}
}

// work runs a consumer, by a handler or by a loop of polls.
func (l *ledger) work(t *testing.T, b *bench, handler bool) (end func()) {
	cfg := grouped()
	cfg.CommitInterval = 50 * time.Millisecond
	c := b.consumer(t, cfg)
	done := make(chan error, 1)
	handle := func(_ context.Context, r client.Record) error {
		l.note(r)
		return nil
	}
	poll := func() error {
		for {
			records, err := c.Poll(context.Background(), 7)
			for _, r := range records {
				l.note(r)
			}
			if err != nil {
				return err
			}
		}
	}
	go func() {
		if handler {
			done <- c.Run(context.Background(), handle)
		} else {
			done <- poll()
		}
	}()
	return func() {
		c.Close()
		if err := <-done; !errors.Is(err, client.ErrClosed) {
			t.Errorf("the work ended: %v", err)
		}
	}
}
