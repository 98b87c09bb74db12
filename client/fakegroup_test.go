package client_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// groupBoard keeps the groups of a fake as an agent does: by the real state and the real coordinator. All is under fake.mu.
type groupBoard struct {
	notKnown int // so many positions answer an error
	state    *groups.State
	leader   *groups.Coordinator
	began    time.Time
	seq      metadata.Seq
	sessions context.CancelFunc // ends the ticking; nil: no heartbeat has come
	ticking  sync.WaitGroup
	// loseAnswer says whether to cut the connection of a commit when it is done; nil: never.
	loseAnswer func() bool
	onCommit   func(*splashdamv1.CommitOffsetsRequest) // when set, sees each that comes
	commits    []*splashdamv1.CommitOffsetsRequest     // all that came
	heartbeats []*splashdamv1.HeartbeatRequest         // all that came
}

// fakeCatalog is the topics of a fake, whose lock is held.
type fakeCatalog struct{ f *fake }

func (c fakeCatalog) Topic(name string) (objectlog.UUID, int32, bool) {
	t := c.f.topics[name]
	if t == nil {
		return objectlog.UUID{}, 0, false
	}
	return t.id, t.topic.GetPartitions(), true
}

func (c fakeCatalog) Names(f func(string)) {
	for name := range c.f.topics {
		f(name)
	}
}

func (c fakeCatalog) name(id objectlog.UUID) string {
	for name, t := range c.f.topics {
		if t.id == id {
			return name
		}
	}
	return ""
}

// version is another one after every change of what there is.
func (c fakeCatalog) version() (v uint64) {
	for _, t := range c.f.topics {
		v += uint64(t.id[0])<<32 + uint64(t.id[1])<<24 + uint64(t.topic.GetPartitions())
	}
	return v
}

// startSessions begins the ticking, once. The lock is held.
func (f *fake) startSessions() {
	if f.sessions != nil {
		return
	}
	f.state, f.leader, f.began = groups.NewState(), groups.NewCoordinator(), time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	f.sessions = cancel
	f.ticking.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			f.mu.Lock()
			c := fakeCatalog{f}
			f.apply(f.leader.Tick(time.Since(f.began)+1, 1, f.state, c, c.version()))
			f.mu.Unlock()
		}
	})
}

func (f *fake) stopSessions() {
	f.mu.Lock()
	if f.sessions != nil {
		f.sessions()
	}
	f.mu.Unlock()
	f.ticking.Wait()
}

func (f *fake) apply(commands []metadata.Command) (results []groups.Result) {
	for _, c := range commands {
		f.seq++
		r, err := f.state.Apply(metadata.Position{Seq: f.seq, Epoch: 1, Time: objectlog.Timestamp(time.Now().UnixMilli())}, c)
		if err != nil {
			panic(err)
		}
		results = append(results, r.(groups.Result))
	}
	if len(commands) > 0 {
		f.wake()
	}
	return results
}

// reasonError is an agent's error for a reason.
func reasonError(err error) error {
	reason := map[error]string{
		groups.ReasonUnknownMember: "UNKNOWN_MEMBER_ID", groups.ReasonFencedInstance: "FENCED_INSTANCE_ID", groups.ReasonNotEmpty: "NON_EMPTY_GROUP",
	}[err]
	return failure(connect.CodeFailedPrecondition, detail("failed_precondition", reason, 25, false))
}

func (f *fake) Heartbeat(ctx context.Context, req *splashdamv1.HeartbeatRequest) (*splashdamv1.HeartbeatResponse, error) {
	if err := f.enter("Heartbeat"); err != nil {
		return nil, err
	}
	h := groups.Heartbeat{Group: req.GetGroup(), Generation: req.GetGeneration(), Leaving: req.GetLeave(), Member: groups.Member{
		ID: req.GetMember(), Instance: req.GetInstance(), Session: req.GetSessionTimeout().AsDuration(), Rebalance: req.GetRebalanceTimeout().AsDuration(),
		Subscribed: groups.Subscription{Topics: slices.Sorted(slices.Values(req.GetTopics())), Pattern: req.GetPattern()},
	}}
	for _, t := range req.GetOwned() {
		id, err := objectlog.ParseUUID(t.GetTopicId())
		if err != nil {
			return nil, err
		}
		for _, p := range t.GetPartitions() {
			h.Owned = append(h.Owned, groups.TopicPartition{Topic: id, Partition: objectlog.Partition(p)})
		}
	}
	slices.SortFunc(h.Owned, groups.TopicPartition.Compare)
	f.mu.Lock()
	f.startSessions()
	f.heartbeats = append(f.heartbeats, req)
	commands, err := f.leader.Heartbeat(h, f.state)
	if err == nil {
		for _, r := range f.apply(commands) {
			if r.Reason == groups.ReasonFencedInstance {
				err = r.Reason
			}
		}
	}
	f.mu.Unlock()
	if err != nil {
		return nil, reasonError(err)
	}
	return f.answerHeartbeat(ctx, h, min(req.GetMaxWait().AsDuration(), h.Member.Session/3))
}

func (f *fake) answerHeartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (res *splashdamv1.HeartbeatResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answer := func() (news bool) {
		var a groups.Assignment
		a, news, err = groups.Answer(h, f.state)
		res = &splashdamv1.HeartbeatResponse{Generation: a.Generation, SessionTimeout: durationpb.New(a.Session)}
		for i, p := range a.Partitions {
			if i == 0 || p.Topic != a.Partitions[i-1].Topic {
				res.Assigned = append(res.Assigned, &splashdamv1.TopicPartitions{Topic: fakeCatalog{f}.name(p.Topic), TopicId: p.Topic.String()})
			}
			last := res.Assigned[len(res.Assigned)-1]
			last.Partitions = append(last.Partitions, int32(p.Partition))
		}
		res.Assigned = slices.DeleteFunc(res.Assigned, func(t *splashdamv1.TopicPartitions) bool { return t.Topic == "" })
		return news
	}
	_ = f.until(ctx, answer) // what there is when the wait ends is the answer
	if err != nil {
		return nil, reasonError(err)
	}
	return res, nil
}

func (f *fake) CommitOffsets(_ context.Context, req *splashdamv1.CommitOffsetsRequest) (*splashdamv1.CommitOffsetsResponse, error) {
	if err := f.enter("CommitOffsets"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.startSessions()
	f.commits = append(f.commits, req)
	if f.onCommit != nil {
		f.onCommit(req)
	}
	res := &splashdamv1.CommitOffsetsResponse{}
	c := groups.CommitOffsets{Group: req.GetGroup(), Member: req.GetMember(), Instance: req.GetInstance(), Generation: req.GetGeneration()}
	for _, o := range req.GetOffsets() {
		r := &splashdamv1.CommitOffsetsResponse_Result{Topic: o.GetTopic(), Partition: o.Partition}
		res.Results = append(res.Results, r)
		t := f.topics[o.GetTopic()]
		switch {
		case t == nil || int(o.GetPartition()) >= len(t.partitions):
			r.Error = unknownTopic()
			continue
		case o.GetOffset() > t.partitions[o.GetPartition()].next:
			r.Error = detail("out_of_range", "OFFSET_OUT_OF_RANGE", 1, false)
			continue
		}
		c.Offsets = []groups.Committed{{
			TopicPartition: groups.TopicPartition{Topic: t.id, Partition: objectlog.Partition(o.GetPartition())},
			Offset:         objectlog.Offset(o.GetOffset()), Epoch: -1, Metadata: o.GetMetadata(),
		}}
		switch result := f.apply([]metadata.Command{c.Command()})[0]; {
		case result.Reason != groups.ReasonNone:
			return nil, reasonError(result.Reason)
		case len(result.Refused) > 0:
			r.Error = detail("failed_precondition", "ILLEGAL_GENERATION", 22, false)
		}
	}
	if f.loseAnswer != nil && f.loseAnswer() {
		panic(http.ErrAbortHandler)
	}
	return res, nil
}

func (f *fake) FetchOffsets(_ context.Context, req *splashdamv1.FetchOffsetsRequest) (*splashdamv1.FetchOffsetsResponse, error) {
	if err := f.enter("FetchOffsets"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.startSessions()
	res := &splashdamv1.FetchOffsetsResponse{}
	for _, name := range req.GetTopics() {
		t := f.topics[name]
		if t == nil {
			res.Offsets = append(res.Offsets, &splashdamv1.FetchOffsetsResponse_Offset{Topic: name, Error: unknownTopic()})
			continue
		}
		for p := range int32(len(t.partitions)) {
			o := &splashdamv1.FetchOffsetsResponse_Offset{Topic: name, Partition: &p, Lag: new(int64(0))}
			if f.notKnown > 0 {
				f.notKnown--
				o.Error, o.Lag = detail("unavailable", "NOT_ENOUGH_REPLICAS", 19, true), nil
				res.Offsets = append(res.Offsets, o)
				continue
			}
			if at, metadata, ok := f.committedLocked(req.GetGroup(), name, p); ok {
				o.Offset, o.Metadata = &at, metadata
			}
			res.Offsets = append(res.Offsets, o)
		}
	}
	return res, nil
}

func (f *fake) committedLocked(group, topic string, p int32) (at int64, metadata string, ok bool) {
	t := f.topics[topic]
	if f.state == nil || t == nil {
		return -1, "", false
	}
	g, ok := f.state.Group(group)
	if !ok {
		return -1, "", false
	}
	c, ok := g.Committed(groups.TopicPartition{Topic: t.id, Partition: objectlog.Partition(p)})
	if !ok {
		return -1, "", false
	}
	return int64(c.Offset), c.Metadata, true
}

// committed answers a group's position in matches; -1: none.
func (f *fake) committed(group string, p int32) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, _, _ := f.committedLocked(group, "matches", p)
	return at
}

// members counts the members of a group.
func (f *fake) members(group string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.membersLocked(group)
}

func (f *fake) membersLocked(group string) int {
	if f.state == nil {
		return 0
	}
	g, ok := f.state.Group(group)
	if !ok {
		return 0
	}
	return len(g.Members)
}

// expel ends all sessions of a group.
func (f *fake) expel(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, _ := f.state.Group(group)
	g = new(g.Clone())
	for _, m := range g.Members {
		f.apply([]metadata.Command{groups.Leave{Group: group, Member: m.ID}.Command()})
	}
}
