package rpc

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Engine is what the edge needs of an agent; package agent has its contract. Its methods may run together.
type Engine interface {
	Submit(ctx context.Context, r agent.ProduceRequest) Pending
	Fetch(ctx context.Context, r agent.FetchRequest) []agent.FetchedPartition
	ListOffsets(ctx context.Context, partitions []agent.FetchPartition) []agent.FoundOffset
	InitProducer(ctx context.Context, p agent.Producer) (agent.Producer, error)

	CreateTopic(ctx context.Context, name string, partitions int32, s metadata.Settings, validateOnly bool) (metadata.Topic, error)
	Topic(ctx context.Context, name string) (metadata.Topic, error)
	Topics(ctx context.Context, after string, limit int) ([]metadata.Topic, error)
	AlterTopic(ctx context.Context, name string, version int64, change func(metadata.Settings) (metadata.Settings, error), validateOnly bool) (metadata.Topic, error)
	DeleteTopic(ctx context.Context, name string, version int64) error
	AddPartitions(ctx context.Context, name string, partitions int32, validateOnly bool) (metadata.Topic, error)
	TrimPartition(ctx context.Context, name string, p objectlog.Partition, logStart objectlog.Offset) (objectlog.Offset, error)
	DescribePartitions(ctx context.Context, t metadata.Topic) []agent.PartitionInfo
	Cluster(ctx context.Context) (agent.ClusterInfo, error)
	Usage() (boot string, countedFor time.Duration, topics []agent.TopicUsage)

	Heartbeat(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error)
	CommitOffsets(ctx context.Context, c agent.OffsetCommit) ([]error, error)
	GroupOffsets(ctx context.Context, group string, topics []string) ([]agent.GroupOffset, error)
	ResetOffsets(ctx context.Context, r agent.Reset) ([]agent.Moved, error)
	Group(ctx context.Context, group string) (agent.GroupInfo, error)
	Groups(ctx context.Context, after string, limit int) ([]groups.Group, error)
	DeleteGroup(ctx context.Context, group string) error

	Pull(ctx context.Context, r agent.PullRequest) ([]agent.Pulled, error)
	Acknowledge(ctx context.Context, group string, all []agent.Acknowledgement) ([]error, error)
	Queue(ctx context.Context, group, topic string) (agent.QueueInfo, error)
	SendDeadLetter(ctx context.Context, g agent.GivenUp) error
	CountDeadLetters(ctx context.Context, topics []string) ([]agent.DeadLetterCount, error)
	DeadLetters(ctx context.Context, topic string, only []agent.PartitionOffset, after agent.PartitionOffset, limit int) ([]agent.DeadLetter, error)
	RedriveDeadLetters(ctx context.Context, r agent.Redrive) (agent.Redriven, error)
	DiscardDeadLetters(ctx context.Context, d agent.Discard) (agent.Discarded, error)

	// Ready is nil while the agent can serve; an error that matches agent.Draining ends streams.
	Ready() error
}

// Pending is a submitted request; *agent.Pending is one.
type Pending interface {
	// Wait answers when every batch is decided; a batch still undecided when ctx ends is agent.OutcomeUnknown.
	Wait(ctx context.Context) []agent.ProduceResult
}

// FromAgent makes an Engine of an agent.
func FromAgent(a *agent.Agent) Engine { return agentEngine{a} }

// agentEngine differs from the agent only in the type of what Submit answers.
type agentEngine struct{ *agent.Agent }

func (e agentEngine) Submit(ctx context.Context, r agent.ProduceRequest) Pending {
	return e.Agent.Submit(ctx, r)
}
