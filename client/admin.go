package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Topic describes a topic.
type Topic struct {
	Name       string            // 1 to 249 of [a-zA-Z0-9._-]
	Partitions int32             // 0 on creation: the cluster's default
	Settings   map[string]string // Kafka's names, e.g. retention.ms
	ID         string            // answered only
	State      string            // answered only: creating, active or deleting
	ETag       string            // answered; given back to update or delete only what was read
	Created    time.Time         // answered only
}

// PartitionInfo is one partition of a topic.
type PartitionInfo struct {
	Partition     Partition
	Shard         int32
	LogStart      Offset
	HighWatermark Offset
	StoredBytes   int64
	Err           error // set where the partition can't be served
}

// CreateTopic creates a topic and answers when it is active. With a time-out the outcome is unknown: it may exist.
func (c *Client) CreateTopic(ctx context.Context, t Topic) (Topic, error) {
	res, err := change(ctx, c, "create topic "+t.Name, c.topics.CreateTopic, &splashdamv1.CreateTopicRequest{Topic: messageOf(t)})
	if err != nil {
		return Topic{}, err
	}
	return topicOf(res.GetTopic()), nil
}

// Topic describes a topic and its partitions.
func (c *Client) Topic(ctx context.Context, name string) (Topic, []PartitionInfo, error) {
	res, err := read(ctx, c, "get topic "+name, c.topics.GetTopic, &splashdamv1.GetTopicRequest{Name: name})
	if err != nil {
		return Topic{}, nil, err
	}
	infos := make([]PartitionInfo, 0, len(res.GetPartitions()))
	for _, p := range res.GetPartitions() {
		info := PartitionInfo{
			Partition: Partition(p.GetPartition()), Shard: p.GetShard(), LogStart: Offset(p.GetLogStartOffset()),
			HighWatermark: Offset(p.GetHighWatermark()), StoredBytes: p.GetStoredBytes(),
		}
		if d := p.GetError(); d != nil {
			info.Err = errorOfDetail(fmt.Sprintf("get topic %s/%d", name, p.GetPartition()), d)
		}
		infos = append(infos, info)
	}
	return topicOf(res.GetTopic()), infos, nil
}

// Topics lists all topics, by name.
func (c *Client) Topics(ctx context.Context) ([]Topic, error) {
	var all []Topic
	req := &splashdamv1.ListTopicsRequest{PageSize: 1000}
	for {
		res, err := read(ctx, c, "list topics", c.topics.ListTopics, req)
		if err != nil {
			return nil, err
		}
		for _, t := range res.GetTopics() {
			all = append(all, topicOf(t))
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// UpdateTopic changes the settings named; one that is named but absent from t.Settings goes back to its default. With no
// names, every setting in t.Settings is changed and the others stay. t.ETag, when set, must be the current one.
func (c *Client) UpdateTopic(ctx context.Context, t Topic, names ...string) (Topic, error) {
	req := &splashdamv1.UpdateTopicRequest{Topic: messageOf(t)}
	if len(names) > 0 {
		req.UpdateMask = &fieldmaskpb.FieldMask{}
		for _, n := range names {
			req.UpdateMask.Paths = append(req.UpdateMask.Paths, "settings."+n)
		}
	}
	res, err := change(ctx, c, "update topic "+t.Name, c.topics.UpdateTopic, req)
	if err != nil {
		return Topic{}, err
	}
	return topicOf(res.GetTopic()), nil
}

// DeleteTopic makes the topic and its records unreachable. etag, when not empty, must be the current one.
func (c *Client) DeleteTopic(ctx context.Context, name, etag string) error {
	_, err := change(ctx, c, "delete topic "+name, c.topics.DeleteTopic, &splashdamv1.DeleteTopicRequest{Name: name, Etag: etag})
	return err
}

// AddPartitions raises the number of partitions to total. Keys move: see HashKey.
func (c *Client) AddPartitions(ctx context.Context, name string, total int32) (Topic, error) {
	res, err := change(ctx, c, "add partitions to "+name, c.topics.AddPartitions,
		&splashdamv1.AddPartitionsRequest{Name: name, Partitions: total})
	if err != nil {
		return Topic{}, err
	}
	return topicOf(res.GetTopic()), nil
}

// Trim moves the log start up to offset, at most the high watermark, and answers the new one. Records below are gone.
func (c *Client) Trim(ctx context.Context, name string, p Partition, offset Offset) (Offset, error) {
	part, start := int32(p), int64(offset)
	res, err := change(ctx, c, fmt.Sprintf("trim %s/%d", name, p), c.topics.TrimPartition,
		&splashdamv1.TrimPartitionRequest{Name: name, Partition: &part, LogStartOffset: &start})
	if err != nil {
		return NoOffset, err
	}
	return Offset(res.GetLogStartOffset()), nil
}

// FoundOffset is the answer of Offsets for one partition.
type FoundOffset struct {
	Topic         string
	Partition     Partition
	Offset        Offset    // for a time with no later record, the high watermark
	Timestamp     time.Time // of the record found by time; else zero
	LogStart      Offset
	HighWatermark Offset
	Err           error
}

// Offsets finds where the start lies in each partition of the topic, or in those given. The answers are current.
func (c *Client) Offsets(ctx context.Context, topic string, start Start, partitions ...Partition) ([]FoundOffset, error) {
	wanted := make([]fetchFrom, 0, max(1, len(partitions)))
	for _, p := range partitions {
		wanted = append(wanted, fetchFrom{place{topic, p}, start})
	}
	if len(partitions) == 0 {
		wanted = append(wanted, fetchFrom{place{topic, AnyPartition}, start})
	}
	return c.offsets(ctx, wanted)
}

// offsets is Offsets for any places.
func (c *Client) offsets(ctx context.Context, wanted []fetchFrom) ([]FoundOffset, error) {
	req := &splashdamv1.ListOffsetsRequest{}
	for _, w := range wanted {
		req.Partitions = append(req.Partitions, w.message())
	}
	res, err := read(ctx, c, "list offsets", c.log.ListOffsets, req)
	if err != nil {
		return nil, err
	}
	found := make([]FoundOffset, 0, len(res.GetPartitions()))
	for _, p := range res.GetPartitions() {
		f := FoundOffset{
			Topic: p.GetTopic(), Partition: Partition(p.GetPartition()), Offset: Offset(p.GetOffset()), Timestamp: timeOf(p.GetTimestamp()),
			LogStart: Offset(p.GetLogStartOffset()), HighWatermark: Offset(p.GetHighWatermark()),
		}
		if d := p.GetError(); d != nil {
			f.Offset, f.Err = NoOffset, errorOfDetail(fmt.Sprintf("list offsets of %s/%d", f.Topic, f.Partition), d)
		}
		found = append(found, f)
	}
	return found, nil
}

// AgentUsage is what one agent asked of its stores, and did for topics, since it started.
type AgentUsage struct {
	Boot       string
	CountedFor time.Duration   // how long it has been counting
	Requests   []StoreRequests // empty where the stores charge nothing
	Topics     []TopicBytes    // those with the most bytes; the others are one without a name
}

// StoreRequests counts requests to one store of one kind, for one cause.
type StoreRequests struct {
	Store    string // bucket or table
	Kind     string // in the words of the store: put, get, put_item and so on
	Cause    string // flush, commit, lease, snapshot, read or cluster
	Requests int64  // that were sent, whatever came of them
	Units    int64  // that the store charges: requests of a bucket, read or write units of a table
	Bytes    int64  // of bodies and values, sent or answered
}

// TopicBytes counts bytes of record batches as they are stored.
type TopicBytes struct {
	Topic    string
	Produced int64
	Fetched  int64
}

// AgentUsage asks the agent that answers; each counts for itself, so a client of many addresses can't know which it was but by its boot.
func (c *Client) AgentUsage(ctx context.Context) (AgentUsage, error) {
	res, err := read(ctx, c, "get usage", c.cluster.GetUsage, &splashdamv1.GetUsageRequest{})
	if err != nil {
		return AgentUsage{}, err
	}
	out := AgentUsage{Boot: res.GetBootId(), CountedFor: res.GetCountedFor().AsDuration()}
	for _, r := range res.GetRequests() {
		out.Requests = append(out.Requests, StoreRequests{
			Store: r.GetStore(), Kind: r.GetKind(), Cause: r.GetCause(), Requests: r.GetRequests(), Units: r.GetUnits(), Bytes: r.GetBytes(),
		})
	}
	for _, t := range res.GetTopics() {
		out.Topics = append(out.Topics, TopicBytes{Topic: t.GetTopic(), Produced: t.GetProducedBytes(), Fetched: t.GetFetchedBytes()})
	}
	return out, nil
}

func messageOf(t Topic) *splashdamv1.Topic {
	return &splashdamv1.Topic{Name: t.Name, Partitions: t.Partitions, Settings: t.Settings, Etag: t.ETag}
}

func topicOf(t *splashdamv1.Topic) Topic {
	return Topic{
		Name: t.GetName(), Partitions: t.GetPartitions(), Settings: t.GetSettings(), ID: t.GetId(),
		State: strings.ToLower(strings.TrimPrefix(t.GetState().String(), "TOPIC_STATE_")), ETag: t.GetEtag(), Created: timeOf(t.GetCreateTime()),
	}
}

// timeOf is the time of a message's field: the zero time when it is absent.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
