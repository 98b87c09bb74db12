package client_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
)

func TestConfigNamesEveryProblem(t *testing.T) {
	_, err := client.New(client.Config{
		Addresses: []string{"nowhere"}, HTTP: 9, DialTimeout: 1, RequestTimeout: time.Hour, ConnectionAge: 1, RetryDelayMin: time.Hour,
	})
	for _, field := range []string{"Addresses[0]", "HTTP", "DialTimeout", "RequestTimeout", "ConnectionAge", "RetryDelayMin"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

func TestTopicsAreCreatedDescribedAndRefused(t *testing.T) {
	b := newBench(t, 2)
	ctx := within(t)
	if _, err := b.client.CreateTopic(ctx, client.Topic{Name: "goals", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.CreateTopic(ctx, client.Topic{Name: "goals"}); !errors.Is(err, client.ErrTopicExists) {
		t.Errorf("again: %v", err)
	}
	b.fill("goals", 2, 7, 7)
	topic, partitions, err := b.client.Topic(ctx, "goals")
	if err != nil || topic.State != "active" || len(partitions) != 3 || partitions[2].HighWatermark != 7 {
		t.Errorf("%+v %+v %v", topic, partitions, err)
	}
	_, _, err = b.client.Topic(ctx, "corners")
	var e *client.Error
	if !errors.Is(err, client.ErrUnknownTopic) || !errors.As(err, &e) || e.Code != "not_found" || e.KafkaCode != 3 {
		t.Errorf("unknown: %v", err)
	}
	found, err := b.client.Offsets(ctx, "goals", client.Tail(2), 2)
	if err != nil || len(found) != 1 || found[0].Offset != 5 {
		t.Errorf("offsets: %+v %v", found, err)
	}
}

func TestReadsAreRepeatedAndChangesOnlyWhenNothingWasDone(t *testing.T) {
	b := newBench(t, 1)
	n := 0
	b.refuse = func(string) error {
		if n++; n == 1 {
			return connect.NewError(connect.CodeUnavailable, errors.New("no agent"))
		}
		return nil
	}
	if _, _, err := b.client.Topic(within(t), "matches"); err != nil {
		t.Errorf("read: %v", err)
	}
	n = 0
	if _, err := b.client.CreateTopic(within(t), client.Topic{Name: "a"}); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("change without a word from an agent: %v", err)
	}
	b.refuse = func(string) error {
		if n++; n == 2 {
			return failure(connect.CodeUnavailable, detail("unavailable", "NOT_LEADER_OR_FOLLOWER", 6, true))
		}
		return nil
	}
	n = 1
	if _, err := b.client.CreateTopic(within(t), client.Topic{Name: "b"}); err != nil {
		t.Errorf("change that was refused first: %v", err)
	}
}

func TestAppendAtTakesTheOffsetOrTellsTheActualOne(t *testing.T) {
	b := newBench(t, 1)
	ctx := within(t)
	if at, err := b.client.AppendAt(ctx, "matches", 0, 0, to(0, 0), to(0, 1)); err != nil || at != 0 {
		t.Fatalf("%d %v", at, err)
	}
	_, err := b.client.AppendAt(ctx, "matches", 0, 0, to(0, 2))
	var e *client.Error
	if !errors.Is(err, client.ErrOffsetMismatch) || !errors.As(err, &e) || e.Metadata["actual"] != "2" {
		t.Fatalf("got %v", err)
	}
}

func TestAppendAtRepeatsUnknownOutcomesWithoutAppendingTwice(t *testing.T) {
	for f, want := range map[fault]error{
		unavailable: nil, undecidedNot: nil, cut: nil, undecided: client.ErrUnknownOutcome, loseReply: client.ErrUnknownOutcome,
	} {
		b := newBench(t, 1)
		b.faults = func(_ string, _ int32, n int) fault {
			if n == 1 {
				return f
			}
			return none
		}
		_, err := b.client.AppendAt(within(t), "matches", 0, 0, to(0, 0))
		if !errors.Is(err, want) || errors.Is(err, client.ErrOffsetMismatch) {
			t.Errorf("fault %d: got %v, want %v", f, err, want)
		}
		if got := b.values("matches", 0); len(got) != 1 {
			t.Errorf("fault %d: log has %v", f, got)
		}
	}
}

func TestPartitionersFollowKafkaAndSpreadHotKeys(t *testing.T) {
	brazil := &client.Record{Key: []byte("bra-arg")}
	home := client.HashKey(brazil, 12)
	if got := client.HashKey(&client.Record{Key: []byte("foobar")}, 1000); got != 166 { // murmur2 -790332482, of Kafka's own tests
		t.Errorf("foobar goes to %d", got)
	}
	salted := client.Salted(4, func(key []byte) bool { return bytes.Equal(key, brazil.Key) })
	var got []client.Partition
	for range 8 {
		got = append(got, salted(brazil, 12))
	}
	want := client.SaltedPartitions(brazil.Key, 4, 12)
	if !slices.Equal(got[:4], want) || !slices.Equal(got[4:], want) || want[0] != home {
		t.Errorf("salted to %v, want %v twice, from %d", got, want, home)
	}
	cold := &client.Record{Key: []byte("cold")}
	if salted(cold, 12) != client.HashKey(cold, 12) {
		t.Error("a cold key was salted")
	}
	if bytes.Equal(client.CompoundKey([]byte("ab"), []byte("c")), client.CompoundKey([]byte("a"), []byte("bc"))) {
		t.Error("two lists of fields make one key")
	}
}

func TestErrorsOfALoadBalancerDecideNothing(t *testing.T) {
	b := newBench(t, 1)
	b.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
	})
	_, err := b.client.CreateTopic(within(t), client.Topic{Name: "a"})
	if !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
}

func TestCancelledContextEndsAChangeBeforeItBegins(t *testing.T) {
	b := newBench(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.client.CreateTopic(ctx, client.Topic{Name: "a"}); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
}
