package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// lagging is a log whose entries are committed, but applied here only by a current read.
type lagging struct {
	state  *metadata.State
	groups *groups.State
	queues *queues.State
	behind []metadata.Command
	seq    metadata.Seq
	reads  int // current ones
	role   shardlog.Role

	proposals int
	outcomes  []error // of the proposals in turn; nil and unknown ones are applied, and behind the last all succeed
}

func (l *lagging) Current(context.Context) (metadata.Seq, error) {
	l.reads++
	for _, c := range l.behind {
		if _, err := l.apply(c); err != nil {
			return 0, err
		}
		l.seq++
	}
	l.behind = nil
	return l.seq, nil
}

func (l *lagging) apply(c metadata.Command) (any, error) {
	var machine metadata.Machine = l.state
	switch {
	case c.Kind >= queues.From:
		machine = l.queues
	case c.Kind >= groups.From:
		machine = l.groups
	}
	return machine.Apply(metadata.Position{Seq: l.seq, Epoch: 1, Time: 1}, c)
}

func (l *lagging) Propose(_ context.Context, commands []metadata.Command) (shardlog.Receipt, error) {
	var err error
	if l.proposals < len(l.outcomes) {
		err = l.outcomes[l.proposals]
	}
	l.proposals++
	if errors.Is(err, shardlog.ErrNotLeader) {
		return shardlog.Receipt{}, err
	}
	r := shardlog.Receipt{Seq: l.seq}
	for _, c := range commands {
		result, err := l.apply(c)
		if err != nil {
			return r, err
		}
		r.Results = append(r.Results, result)
	}
	l.seq++
	return r, err
}

func (l *lagging) Read(f func(metadata.Seq)) { f(l.seq) }
func (l *lagging) Changed() <-chan struct{}  { return make(chan struct{}) }
func (l *lagging) Status() shardlog.Status   { return shardlog.Status{Role: l.role, Applied: l.seq - 1} }
func (l *lagging) add(c ...metadata.Command) { l.behind = append(l.behind, c...) }

// follower is an agent that lags behind its only shard.
func follower(t *testing.T) (*Agent, *lagging, stores) {
	t.Helper()
	s := newStores()
	l := &lagging{state: metadata.NewState(metadata.Config{}), groups: groups.NewState(), queues: queues.NewState()}
	a := &Agent{cfg: testConfig().withDefaults(), shards: []shard{{log: l, state: l.state, groups: l.groups}}, draining: t.Context()}
	a.writer = newWriter(a.cfg, a.shards)
	var err error
	if a.blocks, err = newBlocks(s.bucket, a.keys, 1<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.blocks.close)
	return a, l, s
}

// committed puts a segment with one record for partition 0 and answers its commit.
func committed(t *testing.T, s stores, keys objectlog.Keys, topic objectlog.UUID, counter uint64) metadata.Command {
	t.Helper()
	e := write.Encode([]*write.Batch{{Topic: topic, Records: []objectlog.Record{{Value: []byte("v"), Timestamp: 1}}, BytesMax: 1 << 20, Stamp: objectlog.NoTimestamp}})
	name := objectlog.SegmentName{Boot: objectlog.UUID{9}, Counter: counter}
	if err := s.bucket.Put(t.Context(), keys.Segment(name), e.Body, objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	c := metadata.Commit{Ordinal: 1, Segment: name, Section: e.Sections[0].Ref}.Command()
	c.Footer = e.Sections[0].Bytes
	return c
}

func TestClientsAreSentAwayOnlyAfterACurrentRead(t *testing.T) {
	a, l, s := follower(t)
	id := objectlog.UUID{5}
	fetch := func(o objectlog.Offset) FetchedPartition {
		return a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, o)}})[0]
	}

	l.add(metadata.CreateTopic{ID: id, Name: "orders", Partitions: 1}.Command(), metadata.AddPartitions{Topic: id, To: 1}.Command(),
		metadata.ActivateTopic{ID: id, Partitions: 1}.Command())
	if _, err := a.Topic(t.Context(), "orders"); err != nil {
		t.Errorf("topic that is committed, but not applied here: %v", err)
	}

	l.add(committed(t, s, a.keys, id, 1))
	if f := fetch(1); f.Err != nil || f.HighWatermark != 1 {
		t.Errorf("offset that is committed, but not applied here: %+v", f)
	}
	l.add(committed(t, s, a.keys, id, 2))
	if found := a.ListOffsets(t.Context(), []FetchPartition{{Topic: "orders", Start: Start{Kind: StartLatest}}})[0]; found.Offset != 2 {
		t.Errorf("latest offset %+v, want the committed 2", found)
	}

	reads := l.reads
	if f := fetch(0); f.Err != nil || f.Next != 2 {
		t.Errorf("fetch of what is known: %+v", f)
	}
	want(t, "current reads for what is known", l.reads, reads)
	wantErr(t, "beyond the end", fetch(3).Err, OutOfRange)
	if l.reads == reads {
		t.Error("out of range was said without a current read")
	}
}

// A plan that is too old names a segment that is gone; the current one does not.
func TestObjectThatIsGoneIsNoAlarmWhenTheCurrentPlanDoesNotNameIt(t *testing.T) {
	a, l, s := follower(t)
	id := objectlog.UUID{5}
	l.add(metadata.CreateTopic{ID: id, Name: "orders", Partitions: 1}.Command(), metadata.AddPartitions{Topic: id, To: 1}.Command(),
		metadata.ActivateTopic{ID: id, Partitions: 1}.Command(), committed(t, s, a.keys, id, 1), committed(t, s, a.keys, id, 2))
	if err := a.current(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	l.add(metadata.Trim{Topic: id, LogStart: 1}.Command())
	s.bucket.Edit(a.keys.Segment(objectlog.SegmentName{Boot: objectlog.UUID{9}, Counter: 1}), func([]byte) []byte { return nil })
	f := a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	if f.Err != nil || len(f.Batches) != 0 || f.Next != 0 {
		t.Errorf("fetched %+v, want nothing, to be asked again", f)
	}
	f = a.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{at("orders", 0, 0)}})[0]
	wantErr(t, "asked again", f.Err, OutOfRange)
}

func TestCommandsOfUnknownOutcomeAreProposedAgainUnlessTheyWouldCountTwice(t *testing.T) {
	a, l, _ := follower(t)
	id := objectlog.UUID{5}
	l.add(metadata.CreateTopic{ID: id, Name: "orders", Partitions: 1}.Command(), metadata.AddPartitions{Topic: id, To: 1}.Command(),
		metadata.ActivateTopic{ID: id, Partitions: 1}.Command())
	set := func(s metadata.Settings) (metadata.Settings, error) { s["retention.ms"] = "5"; return s, nil }

	l.proposals, l.outcomes = 0, []error{shardlog.ErrNotLeader, shardlog.ErrUnknown}
	if got, err := a.TrimPartition(t.Context(), "orders", 0, 0); err != nil || got != 0 || l.proposals != 3 {
		t.Errorf("trim: %d, %v after %d proposals, want success with the third", got, err, l.proposals)
	}
	l.proposals, l.outcomes = 0, []error{shardlog.ErrNotLeader, shardlog.ErrUnknown}
	_, err := a.AlterTopic(t.Context(), "orders", 0, set, false)
	wantErr(t, "alter", err, OutcomeUnknown)
	want(t, "proposals of alter", l.proposals, 2)

	l.proposals, l.outcomes = 0, nil
	for range 1000 {
		l.outcomes = append(l.outcomes, shardlog.ErrNotLeader)
	}
	a.cfg.ProduceTimeout = 150 * time.Millisecond
	wantErr(t, "delete without a leader", a.DeleteTopic(t.Context(), "orders", 0), Unavailable)
	l.outcomes[l.proposals] = shardlog.ErrUnknown
	wantErr(t, "delete, perhaps appended, then without a leader", a.DeleteTopic(t.Context(), "orders", 0), OutcomeUnknown)
}

func TestCommandInFlightWhenItsShardHaltsHasAnUnknownOutcome(t *testing.T) {
	for _, c := range []struct {
		answer error
		want   Fault
	}{{shardlog.ErrNotLeader, Unavailable}, {shardlog.ErrUnknown, OutcomeUnknown}} {
		a, l, _ := follower(t)
		id := objectlog.UUID{5}
		l.add(metadata.CreateTopic{ID: id, Name: "orders", Partitions: 1}.Command(), metadata.AddPartitions{Topic: id, To: 1}.Command(),
			metadata.ActivateTopic{ID: id, Partitions: 1}.Command())
		l.outcomes = []error{errors.Join(c.answer, shardlog.ErrHalted)}
		wantErr(t, c.answer.Error(), a.DeleteTopic(t.Context(), "orders", 0), c.want)
		want(t, "proposals", l.proposals, 1)
	}
}
