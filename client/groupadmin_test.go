package client_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// groupDesk answers calls about groups with what it was told to, and keeps what was asked.
type groupDesk struct {
	splashdamv1connect.UnimplementedGroupServiceHandler
	mu     sync.Mutex // over asked
	asked  []proto.Message
	pages  map[string]*splashdamv1.ListGroupsResponse // by token
	answer proto.Message
	fail   error // instead of the answer
	failed int   // so many times; 0: always
}

func startGroupDesk(t *testing.T) (*groupDesk, *client.Client) {
	t.Helper()
	d := &groupDesk{}
	_, handler := splashdamv1connect.NewGroupServiceHandler(d)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := client.New(client.Config{
		Addresses: []string{server.Listener.Addr().String()}, HTTP: client.HTTP1,
		RequestTimeout: 5 * time.Second, RetryDelayMin: time.Millisecond, RetryDelayMax: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return d, c
}

func answerOf[T proto.Message](d *groupDesk, req proto.Message) (T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, proto.Clone(req))
	var none T
	if d.fail != nil && (d.failed == 0 || len(d.asked) <= d.failed) {
		return none, d.fail
	}
	return d.answer.(T), nil
}

func (d *groupDesk) ListGroups(_ context.Context, r *splashdamv1.ListGroupsRequest) (*splashdamv1.ListGroupsResponse, error) {
	return d.pages[r.GetPageToken()], nil
}

func (d *groupDesk) GetGroup(_ context.Context, r *splashdamv1.GetGroupRequest) (*splashdamv1.GetGroupResponse, error) {
	return answerOf[*splashdamv1.GetGroupResponse](d, r)
}

func (d *groupDesk) FetchOffsets(_ context.Context, r *splashdamv1.FetchOffsetsRequest) (*splashdamv1.FetchOffsetsResponse, error) {
	return answerOf[*splashdamv1.FetchOffsetsResponse](d, r)
}

func (d *groupDesk) CommitOffsets(_ context.Context, r *splashdamv1.CommitOffsetsRequest) (*splashdamv1.CommitOffsetsResponse, error) {
	return answerOf[*splashdamv1.CommitOffsetsResponse](d, r)
}

func (d *groupDesk) ResetOffsets(_ context.Context, r *splashdamv1.ResetOffsetsRequest) (*splashdamv1.ResetOffsetsResponse, error) {
	return answerOf[*splashdamv1.ResetOffsetsResponse](d, r)
}

func (d *groupDesk) DeleteGroup(_ context.Context, r *splashdamv1.DeleteGroupRequest) (*splashdamv1.DeleteGroupResponse, error) {
	return answerOf[*splashdamv1.DeleteGroupResponse](d, r)
}

// calls counts what was asked.
func (d *groupDesk) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

// onlyAsked checks what was asked, once.
func (d *groupDesk) onlyAsked(t *testing.T, want proto.Message) {
	t.Helper()
	if d.calls() != 1 || !proto.Equal(d.asked[0], want) {
		t.Errorf("asked %v, want %v", d.asked, want)
	}
	d.asked = nil
}

func TestGroupsAreListedFromAllPages(t *testing.T) {
	d, c := startGroupDesk(t)
	d.pages = map[string]*splashdamv1.ListGroupsResponse{
		"": {Groups: []*splashdamv1.ListGroupsResponse_Listed{{Group: "analytics", State: splashdamv1.GroupState_GROUP_STATE_EMPTY}}, NextPageToken: "2"},
		"2": {Groups: []*splashdamv1.ListGroupsResponse_Listed{
			{Group: "email", State: splashdamv1.GroupState_GROUP_STATE_RECONCILING, Members: 3, Generation: 7}}},
	}
	got, err := c.Groups(within(t))
	want := []client.GroupSummary{{Name: "analytics", State: "empty"}, {Name: "email", State: "reconciling", Members: 3, Generation: 7}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestGroupIsDescribedWithWhatIsStillToStop(t *testing.T) {
	d, c := startGroupDesk(t)
	joined := time.Date(2026, 6, 11, 19, 0, 0, 0, time.UTC)
	d.answer = &splashdamv1.GetGroupResponse{Group: &splashdamv1.Group{
		Group: "email", State: splashdamv1.GroupState_GROUP_STATE_RECONCILING, Generation: 7, Coordinator: "boot",
		Members: []*splashdamv1.Group_Member{{
			Member: "m1", Instance: "i1", Client: "mailer", Host: "h", Topics: []string{"orders"}, Pattern: "goals-.*",
			SessionTimeout: durationpb.New(10 * time.Second), JoinTime: timestamppb.New(joined),
			Assigned: []*splashdamv1.TopicPartitions{{Topic: "orders", TopicId: "t", Partitions: []int32{0, 2}}},
			Stopping: []*splashdamv1.TopicPartitions{{Topic: "orders", TopicId: "t", Partitions: []int32{1}}},
		}},
	}}
	d.fail, d.failed = failure(connect.CodeUnavailable, detail("unavailable", "BROKER_NOT_AVAILABLE", 8, true)), 1 // a read is repeated
	got, err := c.Group(within(t), "email")
	want := client.Group{Name: "email", State: "reconciling", Generation: 7, Coordinator: "boot", Members: []client.GroupMember{{
		Member: "m1", Instance: "i1", Client: "mailer", Host: "h", Topics: []string{"orders"}, Pattern: "goals-.*", SessionTimeout: 10 * time.Second, Joined: joined,
		Assigned: []client.TopicPartitions{{Topic: "orders", TopicID: "t", Partitions: []client.Partition{0, 2}}},
		Stopping: []client.TopicPartitions{{Topic: "orders", TopicID: "t", Partitions: []client.Partition{1}}},
	}}}
	if err != nil || !reflect.DeepEqual(got, want) || d.calls() != 2 {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestGroupOffsetsTellNoneFromZeroAndBeyondFromNoLag(t *testing.T) {
	d, c := startGroupDesk(t)
	d.answer = &splashdamv1.FetchOffsetsResponse{Offsets: []*splashdamv1.FetchOffsetsResponse_Offset{
		{Topic: "orders", Partition: new(int32(0)), Offset: new(int64(0)), Metadata: "x", CommitTime: timestamppb.New(time.Unix(9, 0)), HighWatermark: new(int64(5)), LogStartOffset: new(int64(0)), Lag: new(int64(5)), Member: "m1"},
		{Topic: "orders", Partition: new(int32(1)), HighWatermark: new(int64(4)), LogStartOffset: new(int64(4)), Lag: new(int64(0))},
		{Topic: "orders", Partition: new(int32(2)), Offset: new(int64(9)), HighWatermark: new(int64(4)), LogStartOffset: new(int64(0))},
		{Topic: "orders", Partition: new(int32(3)), Error: detail("unavailable", "NOT_LEADER_OR_FOLLOWER", 6, true)},
		{Topic: "gone", Error: detail("not_found", "UNKNOWN_TOPIC_OR_PARTITION", 3, false)},
	}}
	got, err := c.GroupOffsets(within(t), "email", "orders", "gone")
	if err != nil || len(got) != 5 {
		t.Fatalf("got %+v, %v", got, err)
	}
	d.onlyAsked(t, &splashdamv1.FetchOffsetsRequest{Group: "email", Topics: []string{"orders", "gone"}})
	if !errors.Is(got[4].Err, client.ErrUnknownTopic) || got[4].Partition != client.AnyPartition || !strings.HasPrefix(got[4].Err.Error(), "fetch offset of gone: ") {
		t.Errorf("unknown topic: got %+v", got[4])
	}
	if got[3].Err == nil || got[3].Beyond || got[3].Partition != 3 || !strings.HasPrefix(got[3].Err.Error(), "fetch offset of orders/3: ") {
		t.Errorf("unknown log: got %+v", got[3])
	}
	want := []client.GroupOffset{
		{Topic: "orders", Metadata: "x", Committed: time.Unix(9, 0).UTC(), HighWatermark: 5, Lag: 5, Member: "m1"},
		{Topic: "orders", Partition: 1, Offset: client.NoOffset, LogStart: 4, HighWatermark: 4},
		{Topic: "orders", Partition: 2, Offset: 9, HighWatermark: 4, Beyond: true},
	}
	if !reflect.DeepEqual(got[:3], want) {
		t.Errorf("got %+v, want %+v", got[:3], want)
	}
}

func TestCommitByAToolNamesWhatWasRefused(t *testing.T) {
	d, c := startGroupDesk(t)
	d.answer = &splashdamv1.CommitOffsetsResponse{Results: []*splashdamv1.CommitOffsetsResponse_Result{
		{}, {Error: detail("out_of_range", "OFFSET_OUT_OF_RANGE", 1, false)}}}
	positions := []client.GroupPosition{{Topic: "orders", Partition: 0, Offset: 0}, {Topic: "orders", Partition: 1, Offset: 9, Metadata: "x"}}
	err := c.CommitOffsets(within(t), "email", positions...)
	if !errors.Is(err, client.ErrOutOfRange) || !strings.HasPrefix(err.Error(), "commit offset of orders/1: ") {
		t.Errorf("got %v", err)
	}
	d.onlyAsked(t, &splashdamv1.CommitOffsetsRequest{Group: "email", Offsets: []*splashdamv1.CommitOffsetsRequest_Offset{
		{Topic: "orders", Partition: new(int32(0)), Offset: new(int64(0))}, {Topic: "orders", Partition: new(int32(1)), Offset: new(int64(9)), Metadata: "x"}}})

	d.answer = &splashdamv1.CommitOffsetsResponse{Results: []*splashdamv1.CommitOffsetsResponse_Result{{}, {}}}
	if err := c.CommitOffsets(within(t), "email", positions...); err != nil {
		t.Errorf("all committed: got %v", err)
	}
	if err := c.CommitOffsets(within(t), "email", positions[0]); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("an answer that does not fit: got %v, want an unknown outcome", err)
	}
}

func TestChangeOfAGroupWhoseAnswerIsLostIsUnknownAndNotRepeated(t *testing.T) {
	d, c := startGroupDesk(t)
	d.fail = connect.NewError(connect.CodeUnavailable, errors.New("cut"))
	for name, change := range map[string]func(context.Context) error{
		"delete": func(ctx context.Context) error { return c.DeleteGroup(ctx, "email") },
		"commit": func(ctx context.Context) error {
			return c.CommitOffsets(ctx, "email", client.GroupPosition{Topic: "orders"})
		},
		"reset": func(ctx context.Context) error {
			_, err := c.ResetOffsets(ctx, client.GroupReset{Group: "email", Topic: "orders", To: client.Latest()})
			return err
		},
	} {
		d.asked = nil
		if err := change(within(t)); !errors.Is(err, client.ErrUnknownOutcome) || d.calls() != 1 {
			t.Errorf("%s: got %v after %d calls", name, err, d.calls())
		}
	}
}

func TestResetAsksForOnePlaceAndAnswersBothOffsets(t *testing.T) {
	d, c := startGroupDesk(t)
	d.answer = &splashdamv1.ResetOffsetsResponse{Offsets: []*splashdamv1.ResetOffsetsResponse_Offset{
		{Partition: new(int32(0)), From: new(int64(0)), To: new(int64(7))}, {Partition: new(int32(2)), To: new(int64(0))}}}
	want := []client.MovedOffset{{Partition: 0, From: 0, To: 7}, {Partition: 2, From: client.NoOffset, To: 0}}
	for _, x := range []struct {
		reset client.GroupReset
		asks  *splashdamv1.ResetOffsetsRequest
	}{
		{client.GroupReset{To: client.At(0), Partitions: []client.Partition{0, 2}},
			&splashdamv1.ResetOffsetsRequest{Partitions: []int32{0, 2}, To: &splashdamv1.ResetOffsetsRequest_Start{Start: &splashdamv1.Start{At: &splashdamv1.Start_Offset{}}}}},
		{client.GroupReset{Back: time.Hour, ValidateOnly: true},
			&splashdamv1.ResetOffsetsRequest{ValidateOnly: true, To: &splashdamv1.ResetOffsetsRequest_ByDuration{ByDuration: durationpb.New(time.Hour)}}},
		{client.GroupReset{Shift: -5, Force: true},
			&splashdamv1.ResetOffsetsRequest{Force: true, To: &splashdamv1.ResetOffsetsRequest_Shift{Shift: -5}}},
	} {
		x.reset.Group, x.reset.Topic, x.asks.Group, x.asks.Topic = "email", "orders", "email", "orders"
		got, err := c.ResetOffsets(within(t), x.reset)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: got %+v, %v; want %+v", x.reset, got, err, want)
		}
		d.onlyAsked(t, x.asks)
	}
	for _, r := range []client.GroupReset{{}, {To: client.Earliest(), Shift: 1}, {Back: 1, Shift: 1}} {
		if _, err := c.ResetOffsets(within(t), r); err == nil || d.calls() > 0 {
			t.Errorf("%+v: got %v, asked %v", r, err, d.asked)
		}
	}
}
