package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

var oneCommand = []metadata.Command{{Kind: 7, Body: []byte("body")}}

func TestProposalsAndTheirResultsCross(t *testing.T) {
	commands := []metadata.Command{{Kind: 7, Body: []byte("body"), Footer: []byte(strings.Repeat("footer", 1<<19))}, {Kind: 255, Body: []byte{0}}, {Kind: 1, Body: []byte("x")}, {Kind: 2, Body: []byte("y")}}
	refused := fmt.Errorf("command of kind 2: %w", objectlog.ErrInvalid)
	results := []any{metadata.CommitResult{Batches: []metadata.BatchResult{{Base: 5}, {Base: objectlog.NoOffset, Reason: metadata.ReasonSequenceGap}}},
		nil, metadata.TrimResult{LogStart: 4}, refused}
	var shard objectlog.Shard
	var heard []metadata.Command
	address := start(t, &fake{own: identity(calledBoot), propose: func(_ context.Context, s objectlog.Shard, c []metadata.Command) (shardlog.Receipt, error) {
		shard, heard = s, c
		return shardlog.Receipt{Seq: 1 << 40, Results: results}, nil
	}})
	got, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 65535, commands)
	if err != nil || got.Seq != 1<<40 || len(got.Results) != 4 || !reflect.DeepEqual(got.Results[:3], results[:3]) {
		t.Fatalf("got %+v, %v, want %+v", got, err, results)
	}
	if err, ok := got.Results[3].(error); !ok || !errors.Is(err, objectlog.ErrInvalid) || err.Error() != refused.Error() {
		t.Errorf("got %v, want %v", got.Results[3], refused)
	}
	if shard != 65535 || !reflect.DeepEqual(heard, commands) {
		t.Errorf("shard %d heard %d commands, or others than were proposed", shard, len(heard))
	}
}

func TestRefusalsOfCommandsKeepWhatTheyAre(t *testing.T) {
	sentinels := []error{objectlog.ErrInvalid, objectlog.ErrTooLarge, objectlog.ErrCorrupt, objectlog.ErrVersion}
	var results []any
	for _, s := range sentinels {
		results = append(results, fmt.Errorf("prepare: %w: because", s))
	}
	results = append(results, errors.New("none of those"))
	address := start(t, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
		return shardlog.Receipt{Results: results}, nil
	}})
	got, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, make([]metadata.Command, len(results)))
	if err != nil {
		t.Fatal(err)
	}
	for i, sent := range results {
		err, ok := got.Results[i].(error)
		if !ok || err.Error() != sent.(error).Error() {
			t.Errorf("got %v, want %v", got.Results[i], sent)
		}
		for j, s := range sentinels {
			if errors.Is(err, s) != (i == j) {
				t.Errorf("%v is %v: %t", err, s, i != j)
			}
		}
	}
}

func TestErrorsOfProposalsCross(t *testing.T) {
	definite := []error{shardlog.ErrNotLeader, shardlog.ErrHalted, agent.ErrStranger, agent.ErrRefused}
	for _, c := range []struct{ sent, want error }{
		{shardlog.ErrNotLeader, shardlog.ErrNotLeader},
		{shardlog.ErrUnknown, shardlog.ErrUnknown},
		{shardlog.ErrHalted, shardlog.ErrHalted},
		{context.Canceled, shardlog.ErrUnknown},
		{context.DeadlineExceeded, shardlog.ErrUnknown},
		{objectlog.ErrInvalid, shardlog.ErrUnknown},
		{errors.New("the disk is wet"), shardlog.ErrUnknown},
		{errors.Join(shardlog.ErrNotLeader, shardlog.ErrUnknown), shardlog.ErrUnknown},
	} {
		sent := fmt.Errorf("append to shard 0: %w", c.sent)
		address := start(t, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
			return shardlog.Receipt{}, sent
		}})
		_, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, oneCommand)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), sent.Error()) {
			t.Errorf("sent %v, got %v, want %v", sent, err, c.want)
		}
		for _, d := range definite {
			if d != c.want && errors.Is(err, d) {
				t.Errorf("sent %v, got %v, which is %v too", sent, err, d)
			}
		}
	}
}

func TestWhatWasCommittedIsUnknownWhenItsAnswerCannotCross(t *testing.T) {
	for what, receipt := range map[string]shardlog.Receipt{
		"a result of no known type": {Results: []any{struct{}{}}},
		"too few results":           {},
		"too many results":          {Results: []any{nil, nil}},
	} {
		address := start(t, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
			return receipt, nil
		}})
		_, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, oneCommand)
		if !errors.Is(err, shardlog.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAPanicLeavesTheOutcomeUnknown(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot), propose: func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error) {
		panic("on purpose")
	}})
	if _, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, oneCommand); !errors.Is(err, shardlog.ErrUnknown) {
		t.Error(err)
	}
}

func TestOnlyARefusedDialIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for call, err := range everyCall(soon(t), connected(t, identity(callerBoot)), called(address)) {
		if !errors.Is(err, agent.ErrRefused) || errors.Is(err, shardlog.ErrUnknown) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// The server goes down while it has the proposal: nobody knows what came of it. The next call finds nobody.
func TestAServerKilledInACallLeavesTheOutcomeUnknown(t *testing.T) {
	asked := make(chan struct{})
	s := NewServer(Config{}, &fake{own: identity(calledBoot), propose: func(ctx context.Context, _ objectlog.Shard, _ []metadata.Command) (shardlog.Receipt, error) {
		close(asked)
		<-ctx.Done()
		return shardlog.Receipt{}, ctx.Err()
	}})
	address := run(t, s)
	c := connected(t, identity(callerBoot))
	go func() {
		<-asked
		_ = s.Close()
	}()
	if _, err := c.Propose(soon(t), called(address), 0, oneCommand); !errors.Is(err, shardlog.ErrUnknown) || errors.Is(err, agent.ErrRefused) {
		t.Errorf("in the call: %v", err)
	}
	if _, err := c.Propose(soon(t), called(address), 0, oneCommand); !errors.Is(err, agent.ErrRefused) || errors.Is(err, shardlog.ErrUnknown) {
		t.Errorf("after it: %v", err)
	}
}

func TestAnEndedContextLeavesTheOutcomeUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(soon(t))
	address := start(t, &fake{own: identity(calledBoot), propose: func(ctx context.Context, _ objectlog.Shard, _ []metadata.Command) (shardlog.Receipt, error) {
		cancel()
		<-ctx.Done()
		return shardlog.Receipt{}, ctx.Err()
	}})
	_, err := connected(t, identity(callerBoot)).Propose(ctx, called(address), 0, oneCommand)
	if !errors.Is(err, shardlog.ErrUnknown) {
		t.Error(err)
	}
}

// A success of somebody who should have refused says nothing about what was done.
func TestASuccessOfAnotherAgentLeavesTheOutcomeUnknown(t *testing.T) {
	for _, other := range []agent.Identity{
		{Cluster: uuid(101), FormatLevel: 1, Boot: uuid(calledBoot)}, {Cluster: uuid(100), FormatLevel: 2, Boot: uuid(calledBoot)}, {Cluster: uuid(100), FormatLevel: 1, Boot: uuid(3)},
	} {
		address := h2c(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			show(w.Header(), other)
			w.Header().Set("Content-Type", "application/proto")
			_, _ = w.Write([]byte{0x08, 0x01, 0x12, 0x03, 0x0a, 0x01, 0x00}) // seq 1, one result: nil
		})
		_, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, oneCommand)
		if !errors.Is(err, shardlog.ErrUnknown) || errors.Is(err, agent.ErrStranger) {
			t.Errorf("%+v: %v", other, err)
		}
	}
}

func TestAProposalBeyondTheLimitIsNotSent(t *testing.T) {
	commands := make([]metadata.Command, 17)
	footer := make([]byte, 16<<20)
	for i := range commands {
		commands[i].Footer = footer
	}
	address := start(t, &fake{own: identity(calledBoot)})
	_, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, commands)
	if !errors.Is(err, objectlog.ErrTooLarge) {
		t.Error(err)
	}
}
