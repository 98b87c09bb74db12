package rpc

import (
	"context"
	"encoding/base64"
	"maps"
	"strconv"
	"strings"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// The bounds of topics and of lists.
const (
	partitionsMax   = 100_000
	pageSizeDefault = 100
	pageSizeMax     = 1_000
)

// CreateTopic implements TopicService.
func (e *edge) CreateTopic(ctx context.Context, r *v1.CreateTopicRequest) (*v1.CreateTopicResponse, error) {
	wanted := r.GetTopic()
	if wanted == nil {
		return nil, invalid("create topic", "topic", "required")
	}
	partitions := wanted.GetPartitions()
	if partitions < 0 || partitions > partitionsMax {
		return nil, invalid("create topic", "topic.partitions", "%d is not in 1 to %d", partitions, partitionsMax)
	}
	if partitions == 0 {
		partitions = 1
	}
	if err := e.authorize(ctx, ActionCreate, Resource{Topic: wanted.GetName()}); err != nil {
		return nil, err
	}
	t, err := e.engine.CreateTopic(ctx, wanted.GetName(), partitions, maps.Clone(wanted.GetSettings()), r.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	return &v1.CreateTopicResponse{Topic: topicOf(t)}, nil
}

// GetTopic implements TopicService.
func (e *edge) GetTopic(ctx context.Context, r *v1.GetTopicRequest) (*v1.GetTopicResponse, error) {
	if err := e.authorize(ctx, ActionDescribe, Resource{Topic: r.GetName()}); err != nil {
		return nil, err
	}
	t, err := e.engine.Topic(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	out := &v1.GetTopicResponse{Topic: topicOf(t)}
	for _, info := range e.engine.DescribePartitions(ctx, t) {
		p := &v1.GetTopicResponse_Partition{Partition: new(int32(info.Partition)), Shard: int32(info.Shard)}
		if info.Err != nil {
			p.Error = e.detail(info.Err)
		} else {
			p.LogStartOffset = new(int64(info.State.LogStart))
			p.HighWatermark = new(int64(info.State.HighWatermark))
			p.StoredBytes = info.State.StoredBytes
		}
		out.Partitions = append(out.Partitions, p)
	}
	return out, nil
}

// ListTopics implements TopicService.
func (e *edge) ListTopics(ctx context.Context, r *v1.ListTopicsRequest) (*v1.ListTopicsResponse, error) {
	const op = "list topics"
	size, err := pageSize(op, r.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := afterToken(op, r.GetPageToken(), metadata.CheckTopicName)
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil {
		return nil, err
	}
	topics, err := e.engine.Topics(ctx, after, size+1) // one more tells whether this is the last page
	if err != nil {
		return nil, err
	}
	out := &v1.ListTopicsResponse{}
	if len(topics) > size {
		topics = topics[:size]
		out.NextPageToken = pageToken(topics[size-1].Name)
	}
	for _, t := range topics {
		out.Topics = append(out.Topics, topicOf(t))
	}
	return out, nil
}

func pageSize(op string, asked int32) (int, error) {
	switch {
	case asked < 0 || asked > pageSizeMax:
		return 0, invalid(op, "page_size", "%d is not in 0 to %d", asked, pageSizeMax)
	case asked == 0:
		return pageSizeDefault, nil
	}
	return int(asked), nil
}

// A page token is the last name of the page before, in base64 behind a mark: opaque, so that it may change.
const pageTokenMark = "1:"

func pageToken(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(pageTokenMark + after))
}

// afterToken reads a token. What it holds must be a name.
func afterToken(op, token string, check func(name string) error) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	after, ok := strings.CutPrefix(string(b), pageTokenMark)
	if err != nil || !ok || check(after) != nil {
		return "", invalid(op, "page_token", "not one that this service gave")
	}
	return after, nil
}

// UpdateTopic implements TopicService.
func (e *edge) UpdateTopic(ctx context.Context, r *v1.UpdateTopicRequest) (*v1.UpdateTopicResponse, error) {
	const op = "update topic"
	wanted := r.GetTopic()
	if wanted == nil {
		return nil, invalid(op, "topic", "required")
	}
	version, err := versionOf(op, "topic.etag", wanted.GetEtag())
	if err != nil {
		return nil, err
	}
	change, err := settingsChange(wanted.GetSettings(), r.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionAlter, Resource{Topic: wanted.GetName()}); err != nil {
		return nil, err
	}
	t, err := e.engine.AlterTopic(ctx, wanted.GetName(), version, change, r.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	return &v1.UpdateTopicResponse{Topic: topicOf(t)}, nil
}

// settingsChange is what the mask's paths make of a topic's settings, given the new ones.
func settingsChange(given map[string]string, paths []string) (func(metadata.Settings) (metadata.Settings, error), error) {
	replace := false
	var single []string
	for _, path := range paths {
		name, one := strings.CutPrefix(path, "settings.")
		switch {
		case path == "settings":
			replace = true
		case one && name != "":
			single = append(single, name)
		default:
			return nil, invalid("update topic", "update_mask", "%q can't be changed: want settings or settings.<name>", path)
		}
	}
	return func(old metadata.Settings) (metadata.Settings, error) {
		if replace {
			return maps.Clone(given), nil
		}
		settings := make(metadata.Settings, len(old)+len(given))
		maps.Copy(settings, old)
		if len(paths) == 0 {
			maps.Copy(settings, given)
		}
		for _, name := range single {
			delete(settings, name)
			if value, ok := given[name]; ok {
				settings[name] = value
			}
		}
		return settings, nil
	}, nil
}

// DeleteTopic implements TopicService.
func (e *edge) DeleteTopic(ctx context.Context, r *v1.DeleteTopicRequest) (*v1.DeleteTopicResponse, error) {
	version, err := versionOf("delete topic", "etag", r.GetEtag())
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDelete, Resource{Topic: r.GetName()}); err != nil {
		return nil, err
	}
	if err := e.engine.DeleteTopic(ctx, r.GetName(), version); err != nil {
		return nil, err
	}
	return &v1.DeleteTopicResponse{}, nil
}

// AddPartitions implements TopicService.
func (e *edge) AddPartitions(ctx context.Context, r *v1.AddPartitionsRequest) (*v1.AddPartitionsResponse, error) {
	if r.GetPartitions() < 1 || r.GetPartitions() > partitionsMax {
		return nil, invalid("add partitions", "partitions", "%d is not in 1 to %d", r.GetPartitions(), partitionsMax)
	}
	if err := e.authorize(ctx, ActionAlter, Resource{Topic: r.GetName()}); err != nil {
		return nil, err
	}
	t, err := e.engine.AddPartitions(ctx, r.GetName(), r.GetPartitions(), r.GetValidateOnly())
	if err != nil {
		return nil, err
	}
	return &v1.AddPartitionsResponse{Topic: topicOf(t)}, nil
}

// TrimPartition implements TopicService.
func (e *edge) TrimPartition(ctx context.Context, r *v1.TrimPartitionRequest) (*v1.TrimPartitionResponse, error) {
	const op = "trim partition"
	if r.Partition == nil || r.LogStartOffset == nil {
		return nil, invalid(op, "partition, log_start_offset", "both are required")
	}
	if r.GetPartition() < 0 {
		return nil, invalid(op, "partition", "%d is negative", r.GetPartition())
	}
	if r.GetLogStartOffset() < 0 {
		return nil, invalid(op, "log_start_offset", "%d is negative", r.GetLogStartOffset())
	}
	if err := e.authorize(ctx, ActionDelete, Resource{Topic: r.GetName()}); err != nil {
		return nil, err
	}
	start, err := e.engine.TrimPartition(ctx, r.GetName(), objectlog.Partition(r.GetPartition()), objectlog.Offset(r.GetLogStartOffset()))
	if err != nil {
		return nil, err
	}
	return &v1.TrimPartitionResponse{LogStartOffset: new(int64(start))}, nil
}

// topicOf converts a topic. Its etag is its version.
func topicOf(t metadata.Topic) *v1.Topic {
	out := &v1.Topic{
		Name:       t.Name,
		Partitions: t.Partitions,
		Settings:   t.Settings,
		State:      topicStates[t.State],
		CreateTime: protoTime(t.Created),
	}
	if !t.ID.IsZero() {
		out.Id = t.ID.String()
	}
	if t.Version != 0 {
		out.Etag = strconv.FormatInt(t.Version, 10)
	}
	return out
}

var topicStates = map[metadata.TopicState]v1.TopicState{
	metadata.TopicCreating: v1.TopicState_TOPIC_STATE_CREATING,
	metadata.TopicActive:   v1.TopicState_TOPIC_STATE_ACTIVE,
	metadata.TopicDeleting: v1.TopicState_TOPIC_STATE_DELETING,
}

// versionOf reads an etag; an empty one is any version.
func versionOf(op, field, etag string) (int64, error) {
	if etag == "" {
		return 0, nil
	}
	version, err := strconv.ParseInt(etag, 10, 64)
	if err != nil || version < 1 {
		return 0, invalid(op, field, "%q is not one that this service gave", etag)
	}
	return version, nil
}
