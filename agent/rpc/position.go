package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// The bounds of one commit. All of it is one command of one entry of the group's shard log.
const (
	commitOffsetsMax   = 10_000
	commitMetadataMax  = 128 << 10
	topicsOfOffsetsMax = 1_000
	positionBytes      = 256 // of an answer
)

// CommitOffsets implements GroupService.
func (e *edge) CommitOffsets(ctx context.Context, r *v1.CommitOffsetsRequest) (*v1.CommitOffsetsResponse, error) {
	commit, err := commitOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionRead, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	out := &v1.CommitOffsetsResponse{Results: make([]*v1.CommitOffsetsResponse_Result, len(r.GetOffsets()))}
	var places []int // in the results, of the engine's positions
	for i, o := range r.GetOffsets() {
		result := &v1.CommitOffsetsResponse_Result{Topic: o.GetTopic(), Partition: o.Partition}
		out.Results[i] = result
		p, err := positionOf(fmt.Sprintf("offsets[%d]", i), o)
		if err == nil {
			err = e.authorize(ctx, ActionRead, Resource{Topic: o.GetTopic()})
		}
		if err != nil {
			result.Error = e.detail(err)
			continue
		}
		commit.Positions = append(commit.Positions, p)
		places = append(places, i)
	}
	if len(places) == 0 {
		return out, nil
	}
	errs, err := e.engine.CommitOffsets(ctx, commit)
	if err != nil {
		return nil, err
	}
	for i, err := range errs {
		if err != nil {
			out.Results[places[i]].Error = e.detail(err)
		}
	}
	return out, nil
}

// commitOf checks the request as a whole.
func commitOf(r *v1.CommitOffsetsRequest) (agent.OffsetCommit, error) {
	const op = "commit offsets"
	out := agent.OffsetCommit{Group: r.GetGroup(), Member: r.GetMember(), Instance: r.GetInstance(), Generation: r.GetGeneration()}
	if err := checkGroup(op, out.Group); err != nil {
		return out, err
	}
	if err := checkText(op, "member", out.Member, 0, memberBytesMax); err != nil {
		return out, err
	}
	if err := checkText(op, "instance", out.Instance, 0, instanceBytesMax); err != nil {
		return out, err
	}
	if err := checkGeneration(op, out.Generation); err != nil {
		return out, err
	}
	if out.Member == "" && (out.Instance != "" || out.Generation != 0) {
		return out, invalid(op, "member", "required with instance and generation")
	}
	if n := len(r.GetOffsets()); n == 0 || n > commitOffsetsMax {
		return out, invalid(op, "offsets", "%d offsets: want 1 to %d", n, commitOffsetsMax)
	}
	size := 0
	for _, o := range r.GetOffsets() {
		if n := len(o.GetMetadata()); n <= groups.MetadataBytesMax { // any more is refused with its offset
			size += n
		}
	}
	if size > commitMetadataMax {
		return out, refused(errPositionText, op, "offsets", "%d bytes of metadata in all, at most %d: commit fewer at once", size, commitMetadataMax)
	}
	return out, nil
}

// positionOf converts one offset.
func positionOf(path string, o *v1.CommitOffsetsRequest_Offset) (agent.GroupPosition, error) {
	const op = "commit offsets"
	out := agent.GroupPosition{Topic: o.GetTopic(), Partition: objectlog.Partition(o.GetPartition()), Offset: objectlog.Offset(o.GetOffset()), Metadata: o.GetMetadata()}
	if o.GetTopic() == "" {
		return out, refused(agent.InvalidTopic, op, path+".topic", "required")
	}
	if o == nil || o.Partition == nil || o.Offset == nil {
		return out, invalid(op, path, "partition and offset are both required")
	}
	if out.Partition < 0 {
		return out, invalid(op, path+".partition", "%d is negative", out.Partition)
	}
	if out.Offset < 0 {
		return out, invalid(op, path+".offset", "%d is negative", out.Offset)
	}
	if n := len(out.Metadata); n > groups.MetadataBytesMax {
		return out, refused(errPositionText, op, path+".metadata", "%d bytes, at most %d", n, groups.MetadataBytesMax)
	}
	return out, nil
}

// FetchOffsets implements GroupService.
func (e *edge) FetchOffsets(ctx context.Context, r *v1.FetchOffsetsRequest) (*v1.FetchOffsetsResponse, error) {
	const op = "fetch offsets"
	if err := checkGroup(op, r.GetGroup()); err != nil {
		return nil, err
	}
	if n := len(r.GetTopics()); n > topicsOfOffsetsMax {
		return nil, invalid(op, "topics", "%d at once, at most %d", n, topicsOfOffsetsMax)
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	out := &v1.FetchOffsetsResponse{}
	var topics []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.GetTopics()))) {
		if err := e.authorize(ctx, ActionDescribe, Resource{Topic: name}); err != nil {
			out.Offsets = append(out.Offsets, &v1.FetchOffsetsResponse_Offset{Topic: name, Error: e.detail(err)})
			continue
		}
		topics = append(topics, name)
	}
	if len(topics) == 0 && len(r.GetTopics()) > 0 {
		return out, nil
	}
	found, err := e.engine.GroupOffsets(ctx, r.GetGroup(), topics)
	if err != nil {
		return nil, err
	}
	if err := e.answering(ctx, int64(len(found))*positionBytes); err != nil {
		return nil, err
	}
	hidden := map[string]bool{} // what the group reads and its describer may not see
	for _, o := range found {
		hides, asked := hidden[o.Topic]
		if !asked && len(topics) == 0 {
			hides = e.authorize(ctx, ActionDescribe, Resource{Topic: o.Topic}) != nil
			hidden[o.Topic] = hides
		}
		if !hides {
			out.Offsets = append(out.Offsets, e.groupOffset(o))
		}
	}
	slices.SortStableFunc(out.Offsets, byTopicAndPartition)
	return out, nil
}

func byTopicAndPartition(a, b *v1.FetchOffsetsResponse_Offset) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.GetPartition(), b.GetPartition()))
}

func (e *edge) groupOffset(o agent.GroupOffset) *v1.FetchOffsetsResponse_Offset {
	out := &v1.FetchOffsetsResponse_Offset{Topic: o.Topic}
	if o.Partition >= 0 {
		out.Partition = new(int32(o.Partition))
	}
	if o.Err != nil {
		out.Error = e.detail(o.Err)
		return out
	}
	if o.Committed {
		out.Offset, out.Metadata, out.CommitTime = new(int64(o.Offset)), o.Metadata, protoTime(o.Time)
	}
	out.HighWatermark, out.LogStartOffset, out.Member = new(int64(o.HighWatermark)), new(int64(o.LogStart)), o.Member
	if lag, ok := o.Lag(); ok {
		out.Lag = new(lag)
	}
	return out
}

// ResetOffsets implements GroupService.
func (e *edge) ResetOffsets(ctx context.Context, r *v1.ResetOffsetsRequest) (*v1.ResetOffsetsResponse, error) {
	reset, err := resetOf(r, time.Now())
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionAlter, Resource{Group: r.GetGroup()}); err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionRead, Resource{Topic: r.GetTopic()}); err != nil {
		return nil, err
	}
	moved, err := e.engine.ResetOffsets(ctx, reset)
	if err != nil {
		return nil, err
	}
	out := &v1.ResetOffsetsResponse{}
	for _, m := range moved {
		o := &v1.ResetOffsetsResponse_Offset{Partition: new(int32(m.Partition)), To: new(int64(m.To))}
		if m.From != objectlog.NoOffset {
			o.From = new(int64(m.From))
		}
		out.Offsets = append(out.Offsets, o)
	}
	return out, nil
}

func resetOf(r *v1.ResetOffsetsRequest, now time.Time) (agent.Reset, error) {
	const op = "reset offsets"
	out := agent.Reset{Group: r.GetGroup(), Topic: r.GetTopic(), ValidateOnly: r.GetValidateOnly(), Force: r.GetForce()}
	if err := checkGroup(op, out.Group); err != nil {
		return out, err
	}
	if out.Topic == "" {
		return out, refused(agent.InvalidTopic, op, "topic", "required")
	}
	if n := len(r.GetPartitions()); n > commitOffsetsMax {
		return out, invalid(op, "partitions", "%d at once, at most %d", n, commitOffsetsMax)
	}
	for i, p := range r.GetPartitions() {
		if p < 0 {
			return out, invalid(op, fmt.Sprintf("partitions[%d]", i), "%d is negative", p)
		}
		out.Partitions = append(out.Partitions, objectlog.Partition(p))
	}
	slices.Sort(out.Partitions)
	out.Partitions = slices.Compact(out.Partitions)
	var err error
	switch to := r.GetTo().(type) {
	case *v1.ResetOffsetsRequest_Start:
		if to.Start.GetAt() == nil { // which is the earliest elsewhere, and here may be a slip
			return out, invalid(op, "start", "want offset, timestamp, point or tail_records")
		}
		out.To, err = startOf(op, "start", to.Start)
	case *v1.ResetOffsetsRequest_ByDuration:
		by := to.ByDuration.AsDuration()
		if to.ByDuration.CheckValid() != nil || by < 0 {
			return out, invalid(op, "by_duration", "%v is not a time to go back", by)
		}
		out.To = agent.Start{Kind: agent.StartTime, Time: objectlog.Timestamp(max(0, now.Add(-by).UnixMilli()))}
	case *v1.ResetOffsetsRequest_Shift:
		out.Shifts, out.Shift = true, to.Shift
	default:
		return out, invalid(op, "to", "want start, by_duration or shift")
	}
	return out, err
}
