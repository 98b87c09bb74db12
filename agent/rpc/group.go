package rpc

import (
	"context"
	"math"
	"slices"
	"strings"
	"unicode"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// The bounds of ids and names.
const (
	memberBytesMax   = 64
	instanceBytesMax = 255
	clientBytesMax   = 255
	generationMax    = 1 << 62
)

// GetGroup implements GroupService.
func (e *edge) GetGroup(ctx context.Context, r *v1.GetGroupRequest) (*v1.GetGroupResponse, error) {
	if err := checkGroup("get group", r.GetGroup()); err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	info, err := e.engine.Group(ctx, r.GetGroup())
	if err != nil {
		return nil, err
	}
	if err := e.answering(ctx, int64(len(info.Slots))*partitionBytes+int64(len(info.Members))*memberBytes); err != nil {
		return nil, err
	}
	places := make([]groups.TopicPartition, len(info.Slots))
	for i, s := range info.Slots {
		places[i] = s.TopicPartition
	}
	names, err := e.named(ctx, places, nil)
	if err != nil {
		return nil, err
	}
	out := &v1.Group{Group: info.ID, State: groupState(&info.Group), Generation: info.Generation, Coordinator: info.Coordinator}
	assigned, stopping := map[string][]groups.TopicPartition{}, map[string][]groups.TopicPartition{}
	for _, s := range info.Slots {
		if s.Owner == s.Target {
			assigned[s.Owner] = append(assigned[s.Owner], s.TopicPartition)
		} else {
			stopping[s.Owner] = append(stopping[s.Owner], s.TopicPartition)
		}
	}
	for _, m := range info.Members {
		member := memberOf(m)
		member.Assigned, _ = names.partitions(assigned[m.ID], true)
		member.Stopping, _ = names.partitions(stopping[m.ID], true)
		out.Members = append(out.Members, member)
	}
	return &v1.GetGroupResponse{Group: out}, nil
}

// memberBytes is about what a member takes in an answer, beside its partitions.
const memberBytes = 1 << 10

func memberOf(m *groups.Member) *v1.Group_Member {
	return &v1.Group_Member{
		Member: m.ID, Instance: m.Instance, Client: m.Client, Host: m.Host, Topics: m.Subscribed.Topics, Pattern: m.Subscribed.Pattern,
		SessionTimeout: durationpb.New(m.Session), JoinTime: protoTime(m.Joined),
	}
}

func groupState(g *groups.Group) v1.GroupState {
	switch {
	case len(g.Members) == 0:
		return v1.GroupState_GROUP_STATE_EMPTY
	case g.Assigned != g.Version:
		return v1.GroupState_GROUP_STATE_ASSIGNING
	case !g.Settled():
		return v1.GroupState_GROUP_STATE_RECONCILING
	}
	return v1.GroupState_GROUP_STATE_STABLE
}

// ListGroups implements GroupService.
func (e *edge) ListGroups(ctx context.Context, r *v1.ListGroupsRequest) (*v1.ListGroupsResponse, error) {
	const op = "list groups"
	size, err := pageSize(op, r.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := afterToken(op, r.GetPageToken(), groups.CheckGroup)
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil {
		return nil, err
	}
	found, err := e.engine.Groups(ctx, after, size+1) // one more tells whether this is the last page
	if err != nil {
		return nil, err
	}
	out := &v1.ListGroupsResponse{}
	if len(found) > size {
		found = found[:size]
		out.NextPageToken = pageToken(found[size-1].ID)
	}
	for i := range found {
		g := &found[i]
		out.Groups = append(out.Groups, &v1.ListGroupsResponse_Listed{Group: g.ID, State: groupState(g), Members: int32(len(g.Members)), Generation: g.Generation})
	}
	return out, nil
}

// DeleteGroup implements GroupService.
func (e *edge) DeleteGroup(ctx context.Context, r *v1.DeleteGroupRequest) (*v1.DeleteGroupResponse, error) {
	if err := checkGroup("delete group", r.GetGroup()); err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDelete, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	if err := e.engine.DeleteGroup(ctx, r.GetGroup()); err != nil {
		return nil, err
	}
	return &v1.DeleteGroupResponse{}, nil
}

// answering takes the memory of an answer of about so many bytes, for a call that holds nothing, and gives the client its time to take it.
func (e *edge) answering(ctx context.Context, bytes int64) error {
	c := e.claimOf(ctx)
	c.reading()
	if err := c.take(ctx, answerCopies*bytes); err != nil {
		return err
	}
	e.answerWithin(ctx, c)
	return nil
}

// topicNames are the names of topics by their ids. An id never has another name.
type topicNames map[objectlog.UUID]string

// named adds to the known names those of the partitions' topics. It reads the catalog, by a current read, only for topics that are not known:
// a member says the names of what it has, so that it costs nothing while nothing moves.
func (e *edge) named(ctx context.Context, partitions []groups.TopicPartition, known topicNames) (topicNames, error) {
	unknown := slices.ContainsFunc(partitions, func(p groups.TopicPartition) bool { return known[p.Topic] == "" })
	if !unknown {
		return known, nil
	}
	topics, err := e.engine.Topics(ctx, "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	names := make(topicNames, len(topics))
	for _, t := range topics {
		names[t.ID] = t.Name
	}
	return names, nil
}

// partitions lists partitions, which are sorted, by name. Those of topics without a name are gone: they cannot be read, and are listed only if
// they are wanted all the same. Whole: nothing is left out.
func (n topicNames) partitions(sorted []groups.TopicPartition, gone bool) (list []*v1.TopicPartitions, whole bool) {
	whole = true
	for i := 0; i < len(sorted); {
		id := sorted[i].Topic
		t := &v1.TopicPartitions{Topic: n[id], TopicId: id.String()}
		for ; i < len(sorted) && sorted[i].Topic == id; i++ {
			t.Partitions = append(t.Partitions, int32(sorted[i].Partition))
		}
		if t.Topic == "" && !gone {
			whole = false
			continue
		}
		list = append(list, t)
	}
	slices.SortStableFunc(list, func(a, b *v1.TopicPartitions) int { return strings.Compare(a.Topic, b.Topic) })
	return list, whole
}

func checkGroup(op, id string) error {
	if err := groups.CheckGroup(id); err != nil {
		return refused(errGroup, op, "group", "%v", err)
	}
	return nil
}

// checkText wants text that can be shown as it is.
func checkText(op, field, s string, least, most int) error {
	if len(s) < least || len(s) > most || strings.ContainsFunc(s, unicode.IsControl) {
		return invalid(op, field, "want %d to %d bytes of text without control characters", least, most)
	}
	return nil
}

func checkGeneration(op string, g int64) error {
	if g < 0 || g > generationMax {
		return invalid(op, "generation", "%d is not one that this service gave", g)
	}
	return nil
}
