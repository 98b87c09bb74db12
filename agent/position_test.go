package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

func TestWrongPositionsAreRefusedOneByOne(t *testing.T) {
	a := start(t, newStores(), testConfig())
	a.topic(t, "orders", 5)
	a.fill(t, "orders", 5, 3)
	at := func(topic string, p objectlog.Partition, o objectlog.Offset, metadata string) GroupPosition {
		return GroupPosition{Topic: topic, Partition: p, Offset: o, Metadata: metadata}
	}
	cases := []struct {
		position GroupPosition
		want     error
	}{
		{at("orders", 4, 3, "the end"), nil}, // not in the order of their partitions
		{at("orders", 0, 4, ""), OutOfRange},
		{at("orders", 0, 0, strings.Repeat("m", groups.MetadataBytesMax)), nil},
		{at("orders", 1, -1, ""), InvalidRequest},
		{at("orders", -1, 0, ""), InvalidRequest},
		{at("orders", 5, 0, ""), metadata.ReasonUnknownTopic},
		{at("none", 0, 0, ""), metadata.ReasonUnknownTopic},
		{at("orders", 2, 2, ""), nil},
		{at("orders", 2, 1, ""), InvalidRequest}, // a second time
		{at("orders", 3, 1, strings.Repeat("m", groups.MetadataBytesMax+1)), InvalidRequest},
		{at("orders", 1, 1<<62, ""), OutOfRange},
	}
	c := OffsetCommit{Group: "tool"}
	for _, x := range cases {
		c.Positions = append(c.Positions, x.position)
	}
	errs, err := a.CommitOffsets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range cases {
		if !errors.Is(errs[i], x.want) {
			t.Errorf("%+.40v: got %v, want %v", x.position, errs[i], x.want)
		}
	}
	var beyond *Error
	if !errors.As(errs[1], &beyond) || beyond.Details["high_watermark"] != "3" {
		t.Errorf("beyond the log: %#v, want it to say where that ends", errs[1])
	}
	a.wantPositions(t, "tool", "orders", 0, objectlog.NoOffset, 2, objectlog.NoOffset, 3)
	got, err := a.GroupOffsets(t.Context(), "tool", nil)
	if err != nil || len(got) != 3 || len(got[0].Metadata) != groups.MetadataBytesMax || got[2].Metadata != "the end" || got[2].Time == 0 {
		t.Errorf("positions without topics: %d, %v", len(got), err)
	}
	committed, refused := a.positions.committed.Load(), a.positions.refused.Load()
	if committed != 3 || refused != int64(len(cases))-3 {
		t.Errorf("counted %d committed and %d refused positions of %d", committed, refused, len(cases))
	}
}

func TestCommitsAreRefusedByGroupMemberAndGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 2)
		a.fill(t, "orders", 2, 9)
		one := consume(t, "email", "one", session, orders, a)
		eventually(t, 2*time.Second, "the member has all", func() bool { return shared(2, one) })
		_, early := one.holds()
		two := consume(t, "email", "two", session, orders, a)
		eventually(t, 2*time.Second, "they share", func() bool { return shared(2, one, two) })
		owned, generation := two.holds()
		hers := []GroupPosition{{Topic: "orders", Partition: owned[0].Partition, Offset: 5}}
		for _, x := range []struct {
			what string
			c    OffsetCommit
			want error // of the call
			each error // of the position
		}{
			{"no group's id", OffsetCommit{Member: "two", Generation: generation}, InvalidRequest, nil},
			{"a group that is not there", OffsetCommit{Group: "none", Member: "two", Generation: generation}, groups.ReasonUnknownMember, nil},
			{"a stranger", OffsetCommit{Group: "email", Member: "stranger", Generation: generation}, groups.ReasonUnknownMember, nil},
			{"nobody, though there are members", OffsetCommit{Group: "email"}, groups.ReasonNotEmpty, nil},
			{"another member's partition", OffsetCommit{Group: "email", Member: "one", Generation: generation}, nil, groups.ReasonStaleGeneration},
			{"a time before it had the partition", OffsetCommit{Group: "email", Member: "two", Generation: early}, nil, groups.ReasonStaleGeneration},
			{"a generation to come", OffsetCommit{Group: "email", Member: "two", Generation: generation + 1}, nil, groups.ReasonStaleGeneration},
			{"no generation at all", OffsetCommit{Group: "email", Member: "two", Generation: -1}, InvalidRequest, nil},
			{"an id that is too long", OffsetCommit{Group: "email", Member: strings.Repeat("m", 65)}, InvalidRequest, nil},
		} {
			x.c.Positions = hers
			errs, err := a.CommitOffsets(t.Context(), x.c)
			if !errors.Is(err, x.want) || (x.want == nil) != (err == nil) {
				t.Errorf("%s: got %v, want %v", x.what, err, x.want)
			}
			if x.each != nil && (len(errs) != 1 || !errors.Is(errs[0], x.each)) {
				t.Errorf("%s: got %v, want %v", x.what, errs, x.each)
			}
		}
		a.wantPositions(t, "email", "orders", objectlog.NoOffset, objectlog.NoOffset)
		if err := two.commit("orders", 5); err != nil {
			t.Error(err)
		}
	})
}

func TestPositionsAreCurrentAndOnlyRefusedBehindACurrentRead(t *testing.T) {
	a, l, s := follower(t)
	id := objectlog.UUID{5}
	l.add(metadata.CreateTopic{ID: id, Name: "orders", Partitions: 1}.Command(), metadata.AddPartitions{Topic: id, To: 1}.Command(),
		metadata.ActivateTopic{ID: id, Partitions: 1}.Command(), committed(t, s, a.keys, id, 1))
	place := func(positions ...GroupPosition) []error {
		l.reads = 0
		_, errs := a.place(t.Context(), positions)
		return errs
	}
	wantErr(t, "a topic that is not applied here yet", place(GroupPosition{Topic: "orders", Offset: 1})[0], nil)
	l.add(committed(t, s, a.keys, id, 2))
	wantErr(t, "the end of the log, not applied here yet", place(GroupPosition{Topic: "orders", Offset: 2})[0], nil)
	if errs := place(GroupPosition{Topic: "orders", Offset: 1}); errs[0] != nil || l.reads != 0 {
		t.Errorf("a position that is known to be good: %v after %d current reads", errs[0], l.reads)
	}
	wrong := make([]GroupPosition, 1000)
	for i := range wrong {
		wrong[i] = GroupPosition{Topic: fmt.Sprint("none-", i)}
	}
	wrong[0] = GroupPosition{Topic: "orders", Offset: 3}
	errs := place(wrong...)
	wantErr(t, "beyond the log", errs[0], OutOfRange)
	wantErr(t, "no topic", errs[999], metadata.ReasonUnknownTopic)
	want(t, "current reads for 1,000 that are wrong", l.reads, 1)

	command := groups.CommitOffsets{Group: "tool", Offsets: []groups.Committed{{TopicPartition: groups.TopicPartition{Topic: id}, Offset: 1}}}
	l.add(command.Command())
	running{Agent: a}.wantPositions(t, "tool", "orders", 1)
	command.Group = "other"
	l.add(command.Command())
	list, err := a.Groups(t.Context(), "", 10)
	if err != nil || len(list) != 2 {
		t.Errorf("groups that are committed, not all applied here: %d, %v", len(list), err)
	}
}

// paced is an agent of one shard that paces its proposals.
func paced(t *testing.T, s stores, perSecond float64, burst int) running {
	t.Helper()
	cfg := testConfig()
	cfg.Shards, cfg.FlushFreely, cfg.FlushRate, cfg.FlushBurst = 1, false, perSecond, burst
	a := start(t, s, cfg)
	a.topic(t, "orders", 1)
	a.fill(t, "orders", 1, 9)
	return a
}

func TestCommitsOfManyGroupsAtOnceAreFewEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := paced(t, s, 4, 4)
		<-time.After(time.Minute + time.Second/8) // between the puts of leases and heartbeats
		before, puts := a.applied(0), s.table.Count(metamem.OpPut)
		began := time.Now()
		a.position(t, "lone", "orders", 0, 1)
		if took := time.Since(began); took > 0 {
			t.Errorf("a lone commit took %s of waiting", took)
		}
		want(t, "entries of a lone commit", a.applied(0)-before, 1)
		want(t, "puts of a lone commit", s.table.Count(metamem.OpPut)-puts, 1)
		before = a.applied(0)
		const rounds = 3
		var all sync.WaitGroup
		for i := range 1000 { // each commits every 500 ms
			all.Go(func() {
				<-time.After(time.Duration(i%100) * 5 * time.Millisecond)
				for o := range objectlog.Offset(rounds) {
					a.position(t, fmt.Sprint("group-", i), "orders", 0, o)
					<-time.After(500 * time.Millisecond)
				}
			})
		}
		all.Wait()
		took := time.Since(began)
		if n := a.applied(0) - before; float64(n) > took.Seconds()*4+4 {
			t.Errorf("%d commits in %s are %d entries, want at most one per flush", 1000*rounds, took, n)
		}
		before = a.applied(0)
		for i := range 1000 { // a burst
			all.Go(func() { a.position(t, fmt.Sprint("group-", i), "orders", 0, rounds-1) })
		}
		all.Wait()
		if n := a.applied(0) - before; n > 4 {
			t.Errorf("a burst of 1,000 commits is %d entries", n)
		}
		for _, i := range []int{0, 500, 999} {
			a.wantPositions(t, fmt.Sprint("group-", i), "orders", rounds-1)
		}
	})
}

func TestCommitsThatWaitAreDecidedBeforeTheAgentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := paced(t, s, 0.01, 1)
		<-time.After(time.Minute)
		a.position(t, "first", "orders", 0, 1)
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() { a.position(t, fmt.Sprint("held-", i), "orders", 0, 2) })
		}
		<-time.After(time.Second) // it would be a minute and more
		began := time.Now()
		a.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %s", took)
		}
		all.Wait()
		_, err := a.CommitOffsets(t.Context(), OffsetCommit{Group: "late", Positions: []GroupPosition{{Topic: "orders"}}})
		wantErr(t, "a commit behind the end", err, Draining)
		cfg := testConfig()
		cfg.Shards = 1
		next := start(t, s, cfg)
		for i := range 10 {
			next.wantPositions(t, fmt.Sprint("held-", i), "orders", 2)
		}
	})
}

func TestCommitThatMayBeAppendedIsUnknownAndOneThatIsNotIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := paced(t, s, 4, 4)
		<-time.After(time.Minute)
		a.position(t, "one", "orders", 0, 1)
		commit := func(group string, within time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			_, err := a.CommitOffsets(ctx, OffsetCommit{Group: group, Positions: []GroupPosition{{Topic: "orders", Offset: 3}}})
			return err
		}
		s.failTable(func(r metamem.Request) metamem.Fault {
			if strings.HasPrefix(r.Key.PK, "ring#") {
				return metamem.FailAfter // stored, and nobody learns of it
			}
			return metamem.None
		})
		first := make(chan error, 1)
		go func() { first <- commit("one", 2*time.Second) }()
		<-time.After(time.Second)
		second := commit("two", 100*time.Millisecond) // the first one is under way
		wantErr(t, "a commit that was not proposed", second, Unavailable)
		err := <-first
		if wantErr(t, "a commit without an answer", err, OutcomeUnknown); errors.Is(err, Unavailable) {
			t.Errorf("it is said to have failed: %v", err)
		}
		s.heal()
		a.position(t, "three", "orders", 0, 4) // behind the first
		a.wantPositions(t, "one", "orders", 3)
		a.wantPositions(t, "two", "orders", objectlog.NoOffset) // nor later: its caller may have moved on
	})
}

func TestCommitIsProposedUntilALeaderIsMetAndThenOnlyOnce(t *testing.T) {
	for _, c := range []struct {
		outcomes  []error
		want      error
		proposals int
	}{
		{nil, nil, 1},
		{[]error{shardlog.ErrNotLeader, shardlog.ErrNotLeader}, nil, 3},
		{[]error{shardlog.ErrUnknown}, OutcomeUnknown, 1},
		{[]error{shardlog.ErrNotLeader, shardlog.ErrUnknown}, OutcomeUnknown, 2},
		{[]error{shardlog.ErrHalted}, OutcomeUnknown, 1},
		{[]error{errors.Join(shardlog.ErrNotLeader, shardlog.ErrHalted)}, Unavailable, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &lagging{groups: groups.NewState(), outcomes: c.outcomes}
			committer := newCommitter(testConfig().withDefaults(), l)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { _ = committer.run(ctx) }()
			_, err := committer.commit(t.Context(), groups.CommitOffsets{Group: "tool"}.Command())
			what := fmt.Sprint("outcomes ", c.outcomes)
			wantErr(t, what, err, c.want)
			if c.want == OutcomeUnknown && errors.Is(err, Unavailable) {
				t.Errorf("%s: said to have failed: %v", what, err)
			}
			want(t, "proposals with "+what, l.proposals, c.proposals)
		})
	}
}

func TestCommitsBeyondWhatCanWaitAreRefusedAsBusy(t *testing.T) {
	c := newCommitter(testConfig().withDefaults(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range commitsMax {
		_, err := c.commit(ctx, metadata.Command{})
		wantErr(t, "a commit that waits", err, Unavailable)
	}
	_, err := c.commit(ctx, metadata.Command{})
	wantErr(t, "one more", err, Busy)
	want(t, "commits to propose, of callers that are gone", len(c.take()), 0)
	_, err = c.commit(ctx, metadata.Command{})
	wantErr(t, "behind them", err, Unavailable)
}

func TestDeletedTopicIsForgottenByEveryGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		a := all[0]
		a.topic(t, "orders", 2)
		a.topic(t, "kept", 1)
		a.fill(t, "orders", 2, 3)
		for shard := range objectlog.Shard(4) {
			group := groupIn(shard, 4)
			a.position(t, group, "orders", 1, 2)
			a.position(t, group, "kept", 0, 0)
		}
		if err := all[1].DeleteTopic(t.Context(), "orders", 0); err != nil {
			t.Fatal(err)
		}
		all[2].topic(t, "orders", 2)
		for shard := range objectlog.Shard(4) {
			group := groupIn(shard, 4)
			for _, m := range all {
				m.wantPositions(t, group, "orders", objectlog.NoOffset, objectlog.NoOffset)
				m.wantPositions(t, group, "kept", 0)
				g, err := m.Group(t.Context(), group)
				if err != nil || len(g.Offsets) != 1 {
					t.Errorf("group %s holds %d positions, %v", group, len(g.Offsets), err)
				}
			}
		}
	})
}
