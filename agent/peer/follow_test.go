package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

func committed(seq, bytesOfEntry int, footers ...[]byte) shardlog.Committed {
	return shardlog.Committed{Seq: metadata.Seq(seq), Entry: bytes.Repeat([]byte{byte(seq)}, bytesOfEntry), Footers: footers}
}

func TestSignalsAreHeardInTheirOrder(t *testing.T) {
	signals := []agent.Signal{
		{}, // a sign of life
		{Entries: []shardlog.Committed{committed(5, 10, nil, []byte("footer"), nil), committed(6, 70)}},
		{State: shardlog.Fingerprint{Seq: 6, Hash: 1<<64 - 1}},
		{},
		{Entries: []shardlog.Committed{committed(7, 256<<10, bytes.Repeat([]byte("f"), 5<<20))}, State: shardlog.Fingerprint{Seq: 7, Hash: 1}},
	}
	address := start(t, &fake{own: identity(calledBoot), stream: func(_ context.Context, s objectlog.Shard, from metadata.Seq, send func(agent.Signal) error) error {
		if s != 3 || from != 5 {
			return fmt.Errorf("asked for shard %d from %d", s, from)
		}
		for _, signal := range signals {
			if err := send(signal); err != nil {
				return err
			}
		}
		return shardlog.ErrNotLeader
	}})
	var got []agent.Signal
	err := connected(t, identity(callerBoot)).Follow(soon(t), called(address), 3, 5, func(s agent.Signal) error {
		got = append(got, s)
		return nil
	})
	if !errors.Is(err, shardlog.ErrNotLeader) {
		t.Errorf("ended with %v", err)
	}
	if !reflect.DeepEqual(got, signals) {
		t.Errorf("heard %d signals, want %d as they were sent", len(got), len(signals))
	}
}

func TestALargeSignalIsSplitBetweenEntries(t *testing.T) {
	sent := agent.Signal{State: shardlog.Fingerprint{Seq: 39, Hash: 9}}
	for i := range 40 {
		sent.Entries = append(sent.Entries, committed(i, 200<<10))
	}
	var messages []*peerv1.FollowResponse
	if err := toSignal(sent, func(m *peerv1.FollowResponse) error {
		messages = append(messages, m)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var got []shardlog.Committed
	for i, m := range messages {
		if size := proto.Size(m); size > messageBytes+1024 {
			t.Errorf("message %d has %d bytes", i, size)
		}
		s, err := ofSignal(m)
		if err != nil {
			t.Fatal(err)
		}
		if last := i == len(messages)-1; last != (s.State == sent.State) {
			t.Errorf("message %d has state %v", i, s.State)
		}
		got = append(got, s.Entries...)
	}
	if len(messages) != 8 || !reflect.DeepEqual(got, sent.Entries) {
		t.Errorf("%d messages, %d entries", len(messages), len(got))
	}
}

func TestFootersThatAreTooManyAreLeftToTheBucket(t *testing.T) {
	footer := make([]byte, 12<<20)
	e := committed(1, 100, footer, footer, footer, []byte("small"))
	m, _ := toEntry(e)
	got, err := ofEntry(m)
	want := committed(1, 100, footer, footer, nil, []byte("small"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %d footers, %v", len(got.Footers), err)
	}
	if size := proto.Size(m); size > answerBytesMax {
		t.Errorf("%d bytes", size)
	}
}

func TestEntriesThatCannotBeAreRefused(t *testing.T) {
	for what, e := range map[string]*peerv1.FollowResponse_Entry{
		"more commands than bytes":     {Entry: make([]byte, 100), Commands: 51},
		"a footer behind the last":     {Entry: make([]byte, 100), Commands: 3, Footers: []*peerv1.FollowResponse_Footer{{Command: 3}}},
		"a seq before the first":       {Seq: -1, Entry: make([]byte, 100)},
		"all the commands of a uint32": {Entry: make([]byte, 100), Commands: 1<<32 - 1},
	} {
		if got, err := ofSignal(&peerv1.FollowResponse{Entries: []*peerv1.FollowResponse_Entry{e}}); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

func TestAStreamEndsWithWhatEndsIt(t *testing.T) {
	endless := func(ctx context.Context, _ objectlog.Shard, _ metadata.Seq, send func(agent.Signal) error) error {
		for {
			if err := send(agent.Signal{}); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	ended := make(chan error, 1)
	address := start(t, &fake{own: identity(calledBoot), stream: func(ctx context.Context, s objectlog.Shard, from metadata.Seq, send func(agent.Signal) error) error {
		err := endless(ctx, s, from, send)
		ended <- err
		return err
	}})
	c := connected(t, identity(callerBoot))
	enough := errors.New("enough")
	if err := c.Follow(soon(t), called(address), 0, 0, func(agent.Signal) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("heard's error: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the leader's side ended well")
	}
	ctx, cancel := context.WithCancel(soon(t))
	if err := c.Follow(ctx, called(address), 0, 0, func(agent.Signal) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("context: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the leader's side ended well")
	}
}

func TestAStreamThatEndsWellIsNoError(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot), stream: func(context.Context, objectlog.Shard, metadata.Seq, func(agent.Signal) error) error { return nil }})
	if err := connected(t, identity(callerBoot)).Follow(soon(t), called(address), 0, 0, func(agent.Signal) error { return nil }); err != nil {
		t.Error(err)
	}
}

// One follower does not read. Its stream ends, and neither another follower nor another call of the same agent waits for it.
func TestAFollowerThatDoesNotReadIsGivenUp(t *testing.T) {
	ended := make(chan error, 1)
	signal := agent.Signal{Entries: []shardlog.Committed{committed(1, 200<<10, make([]byte, 1<<20))}}
	s := newServer(Config{}, &fake{own: identity(calledBoot),
		greet: func(context.Context, agent.Greeting) (agent.Greeting, error) { return greetingOf(calledBoot), nil },
		stream: func(_ context.Context, s objectlog.Shard, _ metadata.Seq, send func(agent.Signal) error) error {
			for n := 0; s == 0 || n < 100; n++ {
				if err := send(signal); err != nil {
					ended <- err
					return err
				}
			}
			return nil
		}}, patience{request: time.Second, answer: time.Second, message: time.Second})
	address := run(t, s)
	c := connected(t, identity(callerBoot))
	reading := make(chan struct{})
	stuck := make(chan struct{})
	over := make(chan error, 1)
	following, stop := context.WithCancel(context.Background()) // by nothing but the leader's side
	defer stop()
	go func() {
		first := true
		over <- c.Follow(following, called(address), 0, 0, func(agent.Signal) error {
			if first {
				first = false
				close(reading)
				<-stuck
			}
			return nil
		})
	}()
	<-reading
	heard := 0
	if err := c.Follow(soon(t), called(address), 1, 0, func(agent.Signal) error { heard++; return nil }); err != nil || heard != 100 {
		t.Errorf("the other follower heard %d, %v", heard, err)
	}
	if _, err := c.Ping(soon(t), address, greetingOf(callerBoot)); err != nil {
		t.Errorf("ping: %v", err)
	}
	select {
	case err := <-ended:
		t.Logf("the leader's side: %v", err)
	case <-soon(t).Done():
		t.Error("the leader's side waits for ever")
		stop()
	}
	close(stuck)
	if err := <-over; err == nil {
		t.Error("the slow follower heard the end as a good one")
	}
}

// The times of a call are over long before the stream is.
func TestAStreamOutlivesTheTimesOfACall(t *testing.T) {
	const short = 100 * time.Millisecond
	s := newServer(Config{}, &fake{own: identity(calledBoot), stream: func(_ context.Context, _ objectlog.Shard, _ metadata.Seq, send func(agent.Signal) error) error {
		tick := time.NewTicker(short)
		defer tick.Stop()
		for range 5 {
			if err := send(agent.Signal{}); err != nil {
				return err
			}
			<-tick.C
		}
		return nil
	}}, patience{request: short, answer: short, message: short})
	heard := 0
	err := connected(t, identity(callerBoot)).Follow(soon(t), called(run(t, s)), 0, 0, func(agent.Signal) error { heard++; return nil })
	if err != nil || heard != 5 {
		t.Errorf("heard %d, %v", heard, err)
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	s := NewServer(Config{}, &fake{own: identity(calledBoot), stream: func(ctx context.Context, _ objectlog.Shard, _ metadata.Seq, send func(agent.Signal) error) error {
		if err := send(agent.Signal{}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}})
	address := run(t, s)
	down := make(chan error, 1)
	err := connected(t, identity(callerBoot)).Follow(soon(t), called(address), 0, 0, func(agent.Signal) error {
		go func() { down <- s.Shutdown(soon(t)) }()
		return nil
	})
	if err == nil {
		t.Error("the stream ended well")
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// FuzzSignal: no message panics or makes the follower allocate out of proportion.
func FuzzSignal(f *testing.F) {
	for _, m := range []*peerv1.FollowResponse{
		{},
		{StateSeq: 4, StateHash: 9},
		{Entries: []*peerv1.FollowResponse_Entry{{Seq: 5, Entry: []byte("entry"), Commands: 2, Footers: []*peerv1.FollowResponse_Footer{{Command: 1, Footer: []byte("f")}}}}},
		{Entries: []*peerv1.FollowResponse_Entry{{Seq: -5, Commands: 1<<32 - 1, Footers: []*peerv1.FollowResponse_Footer{{Command: 1<<32 - 1}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m peerv1.FollowResponse
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		s, err := ofSignal(&m)
		if err != nil {
			return
		}
		footers := 0
		for _, e := range s.Entries {
			footers += len(e.Footers)
		}
		if footers > len(b) {
			t.Fatalf("%d footers out of %d bytes", footers, len(b))
		}
	})
}
