package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Group describes a consumer group.
type Group struct {
	Name        string
	State       string // empty, assigning, reconciling or stable
	Generation  int64
	Coordinator string // boot of the agent that keeps its sessions; empty: none is known
	Members     []GroupMember
}

// GroupMember is one member of a group, in one of its lives.
type GroupMember struct {
	Member         string
	Instance       string // of a static member
	Client         string // what it calls itself
	Host           string
	Topics         []string // that it asks for
	Pattern        string   // RE2 of topics that it asks for
	SessionTimeout time.Duration
	Joined         time.Time
	Assigned       []TopicPartitions
	Stopping       []TopicPartitions // that it was told to stop, and has not yet stopped
}

// TopicPartitions are partitions of one topic, ascending.
type TopicPartitions struct {
	Topic      string
	TopicID    string // a topic that was deleted and made anew has another one
	Partitions []Partition
}

// GroupSummary is a group in a list.
type GroupSummary struct {
	Name       string
	State      string // as in Group
	Members    int32
	Generation int64
}

// Groups lists all groups, by name.
func (c *Client) Groups(ctx context.Context) ([]GroupSummary, error) {
	var all []GroupSummary
	req := &splashdamv1.ListGroupsRequest{PageSize: 1000}
	for {
		res, err := read(ctx, c, "list groups", c.groups.ListGroups, req)
		if err != nil {
			return nil, err
		}
		for _, g := range res.GetGroups() {
			all = append(all, GroupSummary{Name: g.GetGroup(), State: stateOf(g.GetState()), Members: g.GetMembers(), Generation: g.GetGeneration()})
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// Group describes a group and its members. The answer is current.
func (c *Client) Group(ctx context.Context, name string) (Group, error) {
	res, err := read(ctx, c, "get group "+name, c.groups.GetGroup, &splashdamv1.GetGroupRequest{Group: name})
	if err != nil {
		return Group{}, err
	}
	m := res.GetGroup()
	g := Group{Name: m.GetGroup(), State: stateOf(m.GetState()), Generation: m.GetGeneration(), Coordinator: m.GetCoordinator()}
	for _, m := range m.GetMembers() {
		g.Members = append(g.Members, GroupMember{
			Member: m.GetMember(), Instance: m.GetInstance(), Client: m.GetClient(), Host: m.GetHost(), Topics: m.GetTopics(), Pattern: m.GetPattern(),
			SessionTimeout: m.GetSessionTimeout().AsDuration(), Joined: timeOf(m.GetJoinTime()),
			Assigned: topicPartitionsOf(m.GetAssigned()), Stopping: topicPartitionsOf(m.GetStopping()),
		})
	}
	return g, nil
}

// GroupOffset is a group's position in one partition, and where the log is.
type GroupOffset struct {
	Topic         string
	Partition     Partition // AnyPartition with the Err of an unknown topic
	Offset        Offset    // of the next record to process; NoOffset: nothing is committed
	Metadata      string    // that was committed with it
	Committed     time.Time
	LogStart      Offset
	HighWatermark Offset
	Lag           int64  // records that are not processed; without a position, or with one below the log start, all that the log holds
	Beyond        bool   // Offset lies beyond the log, where consuming does not lead; Lag says nothing
	Member        string // that has the partition; empty: none
	Err           error  // set where the log is not known; of the rest only what is committed is
}

// GroupOffsets answers a group's positions in all partitions of the topics, or, without topics, in all of which it has a position or a
// member. The answer is current.
func (c *Client) GroupOffsets(ctx context.Context, group string, topics ...string) ([]GroupOffset, error) {
	res, err := read(ctx, c, "fetch offsets of group "+group, c.groups.FetchOffsets, &splashdamv1.FetchOffsetsRequest{Group: group, Topics: topics})
	if err != nil {
		return nil, err
	}
	found := make([]GroupOffset, 0, len(res.GetOffsets()))
	for _, m := range res.GetOffsets() {
		o := GroupOffset{
			Topic: m.GetTopic(), Partition: AnyPartition, Offset: NoOffset, Metadata: m.GetMetadata(), Committed: timeOf(m.GetCommitTime()),
			LogStart: Offset(m.GetLogStartOffset()), HighWatermark: Offset(m.GetHighWatermark()), Lag: m.GetLag(), Member: m.GetMember(),
		}
		op := "fetch offset of " + o.Topic
		if m.Partition != nil {
			o.Partition = Partition(m.GetPartition())
			op = fmt.Sprintf("%s/%d", op, o.Partition)
		}
		if m.Offset != nil {
			o.Offset = Offset(m.GetOffset())
		}
		if d := m.GetError(); d != nil {
			o.Err = errorOfDetail(op, d)
		} else {
			o.Beyond = m.Lag == nil
		}
		found = append(found, o)
	}
	return found, nil
}

// GroupPosition is a position to be committed.
type GroupPosition struct {
	Topic     string
	Partition Partition
	Offset    Offset // of the next record to process
	Metadata  string // at most 4 KiB, answered by GroupOffsets
}

// CommitOffsets moves positions of a group that has no members, as tools do: consumers of a group commit their own. The error joins those
// of the positions that were refused; the others are committed.
func (c *Client) CommitOffsets(ctx context.Context, group string, positions ...GroupPosition) error {
	req := &splashdamv1.CommitOffsetsRequest{Group: group}
	for _, p := range positions {
		req.Offsets = append(req.Offsets, &splashdamv1.CommitOffsetsRequest_Offset{
			Topic: p.Topic, Partition: new(int32(p.Partition)), Offset: new(int64(p.Offset)), Metadata: p.Metadata,
		})
	}
	op := "commit offsets of group " + group
	res, err := change(ctx, c, op, c.groups.CommitOffsets, req)
	if err != nil {
		return err
	}
	if got := len(res.GetResults()); got != len(positions) {
		return unknownOutcome(op, &Error{Op: op, Message: fmt.Sprintf("%d results for %d offsets", got, len(positions))})
	}
	var errs []error
	for i, r := range res.GetResults() {
		if d := r.GetError(); d != nil {
			errs = append(errs, errorOfDetail(fmt.Sprintf("commit offset of %s/%d", positions[i].Topic, positions[i].Partition), d))
		}
	}
	return errors.Join(errs...)
}

// GroupReset is where ResetOffsets moves a group's positions in a topic. Exactly one of To, Back and Shift is set.
type GroupReset struct {
	Group        string
	Topic        string
	Partitions   []Partition   // empty: all
	To           Start         // in each partition
	Back         time.Duration // to the first record that is not older
	Shift        int64         // records on, or back if negative, from the committed position
	ValidateOnly bool          // answer what it would do
	Force        bool          // although the group has members: they go on where they are, and commit that
}

// MovedOffset is one position that was moved, or would be.
type MovedOffset struct {
	Partition Partition
	From      Offset // NoOffset: none was committed
	To        Offset // within the log
}

// ResetOffsets moves a group's positions in a topic, and answers them. It is refused while the group has members, unless forced.
func (c *Client) ResetOffsets(ctx context.Context, r GroupReset) ([]MovedOffset, error) {
	op := "reset offsets of group " + r.Group
	req := &splashdamv1.ResetOffsetsRequest{Group: r.Group, Topic: r.Topic, ValidateOnly: r.ValidateOnly, Force: r.Force}
	for _, p := range r.Partitions {
		req.Partitions = append(req.Partitions, int32(p))
	}
	set := 0
	if r.To.kind != startUnset {
		req.To, set = &splashdamv1.ResetOffsetsRequest_Start{Start: r.To.message()}, set+1
	}
	if r.Back != 0 {
		req.To, set = &splashdamv1.ResetOffsetsRequest_ByDuration{ByDuration: durationpb.New(r.Back)}, set+1
	}
	if r.Shift != 0 {
		req.To, set = &splashdamv1.ResetOffsetsRequest_Shift{Shift: r.Shift}, set+1
	}
	if set != 1 {
		return nil, fmt.Errorf("%s: %d of To, Back and Shift are set, want one", op, set)
	}
	res, err := change(ctx, c, op, c.groups.ResetOffsets, req)
	if err != nil {
		return nil, err
	}
	moved := make([]MovedOffset, 0, len(res.GetOffsets()))
	for _, m := range res.GetOffsets() {
		o := MovedOffset{Partition: Partition(m.GetPartition()), From: NoOffset, To: Offset(m.GetTo())}
		if m.From != nil {
			o.From = Offset(m.GetFrom())
		}
		moved = append(moved, o)
	}
	return moved, nil
}

// DeleteGroup forgets a group without members, and its positions.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	_, err := change(ctx, c, "delete group "+name, c.groups.DeleteGroup, &splashdamv1.DeleteGroupRequest{Group: name})
	return err
}

func stateOf(s splashdamv1.GroupState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "GROUP_STATE_"))
}

func topicPartitionsOf(list []*splashdamv1.TopicPartitions) []TopicPartitions {
	var all []TopicPartitions
	for _, m := range list {
		t := TopicPartitions{Topic: m.GetTopic(), TopicID: m.GetTopicId()}
		for _, p := range m.GetPartitions() {
			t.Partitions = append(t.Partitions, Partition(p))
		}
		all = append(all, t)
	}
	return all
}
