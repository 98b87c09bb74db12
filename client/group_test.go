package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
)

// grouped is the usual configuration of a member in tests: a short session, no commits in between.
func grouped() client.ConsumerConfig {
	return client.ConsumerConfig{
		Topics: []string{"matches"}, Group: "readers", SessionTimeout: time.Second, FetchWait: 20 * time.Millisecond, CommitInterval: time.Hour,
	}
}

// diary is what happened to partitions and records, in order.
type diary struct {
	mu      sync.Mutex
	changed chan struct{}
	lines   []string
}

func newDiary() *diary { return &diary{changed: make(chan struct{})} }

func (d *diary) write(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
	close(d.changed)
	d.changed = make(chan struct{})
}

// until waits for the condition of the lines.
func (d *diary) until(t *testing.T, condition func(lines []string) bool) []string {
	t.Helper()
	ctx := within(t)
	for {
		d.mu.Lock()
		lines, changed := slices.Clone(d.lines), d.changed
		d.mu.Unlock()
		if condition(lines) {
			return lines
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("in vain; the diary says\n%s", strings.Join(lines, "\n"))
		}
	}
}

func count(lines []string, prefix string) (n int) {
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

// kept adds the diary's callbacks to a configuration.
func (d *diary) kept(name string, cfg client.ConsumerConfig) client.ConsumerConfig {
	keep := func(verb string) func(context.Context, []client.TopicPartitions) {
		return func(_ context.Context, list []client.TopicPartitions) {
			for _, t := range list {
				for _, p := range t.Partitions {
					d.write("%s %s %s/%d", name, verb, t.Topic, p)
				}
			}
		}
	}
	cfg.OnAssigned, cfg.OnRevoked, cfg.OnLost = keep("assigned"), keep("revoked"), keep("lost")
	return cfg
}

// work runs a consumer that writes each record into the diary, and answers how to end it.
func (d *diary) work(t *testing.T, name string, c *client.Consumer) (end func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- c.Run(context.Background(), func(_ context.Context, r client.Record) error {
			d.write("%s read %s/%d at %d", name, r.Topic, r.Partition, r.Offset)
			return nil
		})
	}()
	return sync.OnceFunc(func() {
		c.Close()
		if err := <-done; !errors.Is(err, client.ErrClosed) {
			t.Errorf("%s: Run: %v", name, err)
		}
	})
}

// everyRecordOnce checks that n records of each partition were read, each once, in order.
func everyRecordOnce(t *testing.T, lines []string, partitions, n int) {
	t.Helper()
	for p := range partitions {
		next := 0
		for _, l := range lines {
			var who string
			var at int
			if k, _ := fmt.Sscanf(l, fmt.Sprintf("%%s read matches/%d at %%d", p), &who, &at); k == 2 {
				if at != next {
					t.Errorf("partition %d: read %d, want %d", p, at, next)
				}
				next = at + 1
			}
		}
		if next != n {
			t.Errorf("partition %d: read to %d, want %d", p, next, n)
		}
	}
}

func (b *bench) fillAll(partitions, n int) {
	for p := range partitions {
		b.fill("matches", p, n, 3)
	}
}

func TestMembersShareAndHandOverWithoutLossOrDoubles(t *testing.T) {
	b, d := newBench(t, 4), newDiary()
	b.fillAll(4, 50)
	one := d.work(t, "one", b.consumer(t, d.kept("one", grouped())))
	defer one()
	d.until(t, func(lines []string) bool { return count(lines, "one read") == 200 })
	two := d.work(t, "two", b.consumer(t, d.kept("two", grouped())))
	defer two()
	lines := d.until(t, func(lines []string) bool { return count(lines, "two assigned") == 2 })
	if count(lines, "one assigned") != 4 || count(lines, "one revoked") != 2 || count(lines, "one lost") != 0 {
		t.Errorf("one partition after the other: %v", lines)
	}
	b.fillAll(4, 50)
	lines = d.until(t, func(lines []string) bool { return count(lines, "one read")+count(lines, "two read") == 400 })
	if count(lines, "two read") != 100 {
		t.Errorf("the second member read %d, want 100", count(lines, "two read"))
	}
	two()
	d.until(t, func(lines []string) bool { return count(lines, "one assigned") == 6 })
	b.fillAll(4, 50)
	lines = d.until(t, func(lines []string) bool { return count(lines, "one read")+count(lines, "two read") == 600 })
	everyRecordOnce(t, lines, 4, 150)
	one()
	if got := b.members("readers"); got != 0 {
		t.Errorf("%d members are left", got)
	}
	for p := range int32(4) {
		if got := b.committed("readers", p); got != 150 {
			t.Errorf("partition %d: committed %d, want 150", p, got)
		}
	}
}

// stopping waits for a member that has a partition to stop: it asks for an answer, not for news.
func (b *bench) stopping(t *testing.T) {
	t.Helper()
	err := b.until(within(t), func() bool {
		last := b.heartbeats[len(b.heartbeats)-1]
		return last.GetMaxWait().AsDuration() == 0 && last.GetGeneration() > 0
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRevokedPartitionIsLetGoOfBehindTheRecordInHand(t *testing.T) {
	b, d := newBench(t, 2), newDiary()
	b.fill("matches", 1, 100, 100)
	inHand, goOn := make(chan struct{}), make(chan struct{})
	one := b.consumer(t, d.kept("one", grouped()))
	ran := make(chan error, 1)
	go func() {
		ran <- one.Run(context.Background(), func(_ context.Context, r client.Record) error {
			d.write("one read matches/%d at %d", r.Partition, r.Offset)
			if r.Offset == 4 {
				close(inHand)
				<-goOn
			}
			return nil
		})
	}()
	<-inHand
	two := d.work(t, "two", b.consumer(t, d.kept("two", grouped())))
	defer two()
	b.stopping(t)
	if err := one.Seek("matches", 1, client.At(0)); err == nil {
		t.Error("a partition that goes away was moved")
	}
	close(goOn)
	lines := d.until(t, func(lines []string) bool { return count(lines, "two read") == 95 })
	if n := count(lines, "one read"); n != 5 || b.committed("readers", 1) != 5 {
		t.Errorf("the first read %d and committed %d, want 5", n, b.committed("readers", 1))
	}
	first := slices.Index(lines, "two read matches/1 at 5")
	if revoked := slices.Index(lines, "one revoked matches/1"); revoked < 0 || first < revoked {
		t.Errorf("the second began at %d, before the first was told at %d", first, revoked)
	}
	one.Close()
	if err := <-ran; !errors.Is(err, client.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

func TestCloseCommitsWhatRunHasProcessedAndNoMore(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 20_000, 5000)
	c := b.consumer(t, d.kept("one", grouped()))
	closed := make(chan struct{})
	n := 0
	err := c.Run(context.Background(), func(_ context.Context, r client.Record) error {
		if n++; n == 1500 {
			go func() { c.Close(); close(closed) }()
		}
		return nil
	})
	if !errors.Is(err, client.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	<-closed
	if got := b.committed("readers", 0); got != int64(n) {
		t.Errorf("committed %d, processed %d", got, n)
	}
	lines := d.until(t, func([]string) bool { return true })
	if want := []string{"one assigned matches/0", "one revoked matches/0"}; !slices.Equal(lines, want) {
		t.Errorf("callbacks %v, want %v", lines, want)
	}
	c.Close() // again does nothing
}

func TestRecordsOfTheLastPollComeAgainUnlessTheyWereCommitted(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	poll := func(n int, want client.Offset) *client.Consumer {
		t.Helper()
		c := b.consumer(t, grouped())
		records, err := c.Poll(within(t), n)
		if err != nil || len(records) != n || records[0].Offset != want {
			t.Fatalf("got %v %v, want %d records from %d", records, err, n, want)
		}
		return c
	}
	poll(4, 0).Close()
	c := poll(4, 0)
	if _, err := c.Poll(within(t), 2); err != nil { // the first four are processed
		t.Fatal(err)
	}
	c.Close()
	c = poll(3, 4)
	if err := c.Commit(within(t)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	poll(3, 7).Close()
}

func TestPositionThatCanNotBeToldIsAskedForAgain(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	c := b.consumer(t, grouped())
	if records, err := c.Poll(within(t), 4); err != nil || len(records) != 4 {
		t.Fatalf("%v %v", records, err)
	}
	if err := c.Commit(within(t)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.mu.Lock()
	b.notKnown = 2
	b.mu.Unlock()
	cfg := grouped()
	cfg.Start = client.Latest() // who took the error for "none" would skip what was never processed
	if records, err := b.consumer(t, cfg).Poll(within(t), 10); err != nil || records[0].Offset != 4 {
		t.Errorf("goes on at %v (%v), want 4", records, err)
	}
}

func TestManualCommitIsTheOnlyOne(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	cfg := grouped()
	cfg.Commit, cfg.CommitInterval = client.CommitManual, 10*time.Millisecond
	c := b.consumer(t, cfg)
	for range 2 {
		if _, err := c.Poll(within(t), 3); err != nil {
			t.Fatal(err)
		}
	}
	n := b.count("Heartbeat") // one takes many intervals
	if err := b.until(within(t), func() bool { return b.calls["Heartbeat"] > n }); err != nil || b.count("CommitOffsets") != 0 {
		t.Errorf("%v, %d commits on its own", err, b.count("CommitOffsets"))
	}
	if err := c.CommitOffsets(within(t), client.GroupPosition{Topic: "matches", Offset: 2, Metadata: "two"}); err != nil {
		t.Fatal(err)
	}
	if err := c.CommitOffsets(within(t), client.GroupPosition{Topic: "matches", Offset: 11}); !errors.Is(err, client.ErrOutOfRange) {
		t.Errorf("beyond the log: %v", err)
	}
	if err := c.CommitOffsets(within(t), client.GroupPosition{Topic: "matches", Partition: 7}); !errors.Is(err, client.ErrStaleGeneration) {
		t.Errorf("not assigned: %v", err)
	}
	c.Close()
	if got := b.committed("readers", 0); got != 2 {
		t.Errorf("committed %d, want 2", got)
	}
	found, err := b.client.GroupOffsets(within(t), "readers", "matches")
	if err != nil || found[0].Metadata != "two" {
		t.Errorf("%+v %v", found, err)
	}
}

func TestCommitInAHandlerLeavesTheRecordInHand(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	cfg := grouped()
	cfg.Commit = client.CommitManual
	c := b.consumer(t, cfg)
	enough := errors.New("enough")
	err := c.Run(within(t), func(ctx context.Context, r client.Record) error {
		if r.Offset < 6 {
			return nil
		}
		if err := c.Commit(ctx); err != nil {
			t.Error(err)
		}
		return enough
	})
	if got := b.committed("readers", 0); !errors.Is(err, enough) || got != 6 {
		t.Errorf("%v, committed %d, want 6", err, got)
	}
}

func TestPartitionLostBeforeItWasToldOfIsNotToldAsLost(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	c := b.consumer(t, d.kept("one", grouped()))
	if err := b.until(within(t), func() bool { return b.calls["FetchOffsets"] == 1 }); err != nil {
		t.Fatal(err)
	}
	b.expel("readers")
	if err := b.until(within(t), func() bool { return b.calls["FetchOffsets"] == 2 }); err != nil {
		t.Fatal(err)
	}
	b.fill("matches", 0, 1, 1)
	read(t, c, map[client.Partition]client.Offset{}, 1, 1)
	if lines := d.until(t, func([]string) bool { return true }); !slices.Equal(lines, []string{"one assigned matches/0"}) {
		t.Errorf("callbacks %v", lines)
	}
}

func TestAutomaticCommitKeepsToTheInterval(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 10, 10)
	cfg := grouped()
	cfg.CommitInterval = 20 * time.Millisecond
	defer d.work(t, "one", b.consumer(t, cfg))()
	err := b.until(within(t), func() bool { at, _, _ := b.committedLocked("readers", "matches", 0); return at == 10 })
	if err != nil {
		t.Fatalf("committed %d", b.committed("readers", 0))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.commits); n > 2 { // what is committed is not committed again
		t.Errorf("%d commits", n)
	}
}

func TestCommitBeforeHandsOutWhatIsCommittedAndNeverTwice(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 10, 10)
	cfg := grouped()
	cfg.Commit = client.CommitBefore
	c := b.consumer(t, cfg)
	if _, err := c.Poll(within(t), 4); err != nil || b.committed("readers", 0) != 4 {
		t.Fatalf("%v, committed %d, want 4", err, b.committed("readers", 0))
	}
	b.expel("readers") // as if it had crashed
	c.Close()
	c = b.consumer(t, cfg)
	broken := errors.New("broken")
	var got []client.Offset
	read := func(_ context.Context, r client.Record) error {
		got = append(got, r.Offset)
		switch r.Offset {
		case 6:
			return broken
		case 9:
			return context.Canceled
		}
		return nil
	}
	if err := c.Run(within(t), read); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if err := c.Run(within(t), read); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if want := []client.Offset{4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func TestSlowHandlerKeepsItsSessionUntilTheLimit(t *testing.T) {
	t.Parallel()
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 2, 1)
	cfg := d.kept("one", grouped())
	cfg.MaxPollInterval = 3 * time.Second
	c := b.consumer(t, cfg)
	if _, err := c.Poll(within(t), 1); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	// The handler works on: heartbeats go on in the background, three times as long as the session.
	if err := b.until(within(t), func() bool { return b.membersLocked("readers") == 0 }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 2900*time.Millisecond {
		t.Errorf("the member was gone after %v", took)
	}
	if err := c.Commit(within(t)); !errors.Is(err, client.ErrStaleGeneration) {
		t.Errorf("commit of a record whose partition is lost: %v", err)
	}
	records, err := c.Poll(within(t), 1)
	if err != nil || records[0].Offset != 0 {
		t.Fatalf("%v %v: what was lost comes again", records, err)
	}
	if err := c.Commit(within(t)); err != nil || b.committed("readers", 0) != 1 {
		t.Errorf("commit of what came again: %v", err)
	}
	want := []string{"one assigned matches/0", "one lost matches/0", "one assigned matches/0"}
	if lines := d.until(t, func([]string) bool { return true }); !slices.Equal(lines, want) {
		t.Errorf("callbacks %v, want %v", lines, want)
	}
}

func TestEachRecordOfRunHasItsOwnTime(t *testing.T) {
	t.Parallel()
	b, d := newBench(t, 1), newDiary()
	b.fill("matches", 0, 5, 5)
	cfg := d.kept("one", grouped())
	cfg.MaxPollInterval = time.Second
	enough := errors.New("enough")
	err := b.consumer(t, cfg).Run(within(t), func(ctx context.Context, r client.Record) error {
		if r.Offset == 4 {
			return enough
		}
		n := b.count("Heartbeat") // one every quarter of a session
		return b.until(ctx, func() bool { return b.calls["Heartbeat"] == n+2 })
	})
	if lines := d.until(t, func([]string) bool { return true }); !errors.Is(err, enough) || count(lines, "one lost") != 0 {
		t.Errorf("%v: %v", err, lines)
	}
}

func TestOutageLosesPartitionsWithTheSessionAndNotBefore(t *testing.T) {
	t.Parallel()
	b, d := newBench(t, 1), newDiary()
	cfg := d.kept("one", grouped())
	cfg.SessionTimeout = 2 * time.Second
	end := d.work(t, "one", b.consumer(t, cfg))
	defer end()
	d.until(t, func(lines []string) bool { return count(lines, "one assigned") == 1 })
	b.mu.Lock()
	b.refuse = func(call string) error {
		if call == "Heartbeat" {
			return connect.NewError(connect.CodeUnavailable, errors.New("no agent"))
		}
		return nil
	}
	begun := b.calls["Heartbeat"]
	b.mu.Unlock()
	// The last good heartbeat is a wait, a quarter of the session, old when its successor fails.
	if err := b.until(within(t), func() bool { return b.calls["Heartbeat"] > begun+10 }); err != nil {
		t.Fatal(err)
	}
	failing := time.Now()
	b.fill("matches", 0, 1, 1)
	lines := d.until(t, func(lines []string) bool { return count(lines, "one read") == 1 })
	if count(lines, "one lost") != 0 {
		t.Errorf("lost within the session: %v", lines)
	}
	d.until(t, func(lines []string) bool { return count(lines, "one lost") == 1 })
	if took := time.Since(failing); took < time.Second || took > 2*time.Second {
		t.Errorf("lost %v into the outage", took)
	}
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	d.until(t, func(lines []string) bool { return count(lines, "one assigned") == 2 })
}

func TestCommitWithAnUnknownOutcomeIsRepeated(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 5, 5)
	c := b.consumer(t, grouped())
	if _, err := c.Poll(within(t), 5); err != nil {
		t.Fatal(err)
	}
	lost := 0
	b.mu.Lock()
	b.loseAnswer = func() bool { lost++; return lost < 4 }
	b.mu.Unlock()
	if err := c.Commit(within(t)); err != nil || b.committed("readers", 0) != 5 || lost != 4 {
		t.Errorf("%v, committed %d after %d answers", err, b.committed("readers", 0), lost)
	}
}

func TestRefusedCommitIsDroppedWithThePartition(t *testing.T) {
	b, d := newBench(t, 2), newDiary()
	b.fillAll(2, 5)
	c := b.consumer(t, d.kept("one", grouped()))
	if _, err := c.Poll(within(t), 5); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.refuse = func(call string) error { // the member does not hear of its end
		if call == "Heartbeat" {
			return connect.NewError(connect.CodeUnavailable, errors.New("no agent"))
		}
		return nil
	}
	b.mu.Unlock()
	b.expel("readers")
	if err := c.Commit(within(t)); !errors.Is(err, client.ErrStaleGeneration) {
		t.Errorf("commit of a member that is none any more: %v", err)
	}
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	for count(d.until(t, func([]string) bool { return true }), "one lost") < 2 {
		if _, err := c.Poll(within(t), 5); err != nil { // goes on, and what was not committed comes again
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	first, last := b.heartbeats[0].GetMember(), b.heartbeats[len(b.heartbeats)-1].GetMember()
	if first == last {
		t.Error("the member joined anew with the id of a life that is over")
	}
}

func TestSecondLifeOfAnInstanceTakesOverAndFencesTheFirst(t *testing.T) {
	b, d := newBench(t, 2), newDiary()
	b.fillAll(2, 5)
	cfg := d.kept("one", grouped())
	cfg.Instance, cfg.SessionTimeout = "a", 10*time.Second
	one := b.consumer(t, cfg)
	end := d.work(t, "one", one)
	d.until(t, func(lines []string) bool { return count(lines, "one read") == 10 })
	end()
	if b.members("readers") != 1 {
		t.Error("a static member left")
	}
	b.fillAll(2, 5)
	two := b.consumer(t, cfg)
	read(t, two, map[client.Partition]client.Offset{0: 5, 1: 5}, 10, 3)
	three := b.consumer(t, cfg)
	read(t, three, map[client.Partition]client.Offset{0: 5, 1: 5}, 10, 3)
	if _, err := two.Poll(within(t), 1); !errors.Is(err, client.ErrFencedInstance) {
		t.Errorf("the former life: %v", err)
	}
	if _, err := two.Poll(within(t), 1); !errors.Is(err, client.ErrFencedInstance) {
		t.Errorf("the former life, again: %v", err)
	}
	lines := d.until(t, func([]string) bool { return true })
	if count(lines, "one lost") != 2 {
		t.Errorf("the former life was not told: %v", lines)
	}
}

func TestPauseResumeAndSeekWorkInAGroup(t *testing.T) {
	b := newBench(t, 2)
	b.fillAll(2, 5)
	cfg := grouped()
	assigned := make(chan *client.Consumer, 1)
	cfg.OnAssigned = func(context.Context, []client.TopicPartitions) {
		c := <-assigned
		if err := c.Seek("matches", 0, client.At(3)); err != nil {
			t.Error(err)
		}
		c.Pause("matches", 1)
	}
	c := b.consumer(t, cfg)
	assigned <- c
	read(t, c, map[client.Partition]client.Offset{0: 3}, 2, 10)
	c.Resume("matches", 1)
	read(t, c, map[client.Partition]client.Offset{}, 5, 10)
	if err := c.Seek("matches", 5, client.At(0)); err == nil {
		t.Error("a partition that is not assigned was moved")
	}
}

func TestPatternFindsTopicsThatComeLater(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	cfg := d.kept("one", grouped())
	cfg.Topics, cfg.Pattern = nil, "match.*"
	defer d.work(t, "one", b.consumer(t, cfg))()
	d.until(t, func(lines []string) bool { return count(lines, "one assigned matches/0") == 1 })
	b.addTopic("matches-of-today", 2)
	b.addTopic("goals", 1)
	b.addTopic("matches", 2)
	b.fill("matches-of-today", 1, 1, 1)
	lines := d.until(t, func(lines []string) bool {
		return count(lines, "one read matches-of-today/1 at 0") == 1 && count(lines, "one assigned") == 4
	})
	if count(lines, "one assigned goals") != 0 || count(lines, "one revoked") != 0 {
		t.Errorf("%v", lines)
	}
	b.dropTopic("matches-of-today")
	d.until(t, func(lines []string) bool { return count(lines, "one revoked matches-of-today") == 2 })
	b.addTopic("matches-of-today", 1)
	b.fill("matches-of-today", 0, 1, 1)
	d.until(t, func(lines []string) bool { return count(lines, "one read matches-of-today/0 at 0") == 1 })
}

func TestGroupConfigNamesEveryProblem(t *testing.T) {
	for want, cfg := range map[string]client.ConsumerConfig{
		"Topics, Pattern: both": {Group: "g"},
		"Partitions: a group":   {Group: "g", Partitions: []client.Assignment{{Topic: "a"}}},
		"Pattern: ":             {Group: "g", Pattern: "("},
		"want a Group":          {Topics: []string{"a"}, Instance: "i"},
		"Commit 9":              {Group: "g", Commit: 9},
		"bytes of Group":        {Group: strings.Repeat("g", 256)},
		"bytes of Instance":     {Group: "g", Instance: strings.Repeat("g", 256)},
		"bytes of Pattern":      {Group: "g", Pattern: strings.Repeat("g", 1025)},
		"SessionTimeout":        {Group: "g", SessionTimeout: time.Millisecond},
		"MaxPollInterval":       {Group: "g", MaxPollInterval: 2 * time.Hour},
		"CommitInterval":        {Group: "g", CommitInterval: 1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
	b := newBench(t, 1)
	if err := b.consumer(t, client.ConsumerConfig{}).Commit(within(t)); err == nil {
		t.Error("a consumer of no group committed")
	}
}
