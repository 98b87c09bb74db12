package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// settle brings topics from what the catalog wants to what every shard has: partitions created before a topic is
// active, removed before it is forgotten. Every step may be repeated, so the leader of shard 0 just goes on with
// what it finds half done. It runs at take-over and behind every change.
func (a *Agent) settle(ctx context.Context) error {
	s := a.shards[catalogShard]
	for {
		changed := s.log.Changed()
		again := false
		if s.log.Status().Role == shardlog.RoleLeading {
			var topics []metadata.Topic
			s.log.Read(func(metadata.Seq) { topics = s.state.Unsettled() })
			again = a.settleAll(ctx, topics)
		}
		if again { // with the next change, or a little later
			wait, cancel := context.WithTimeout(ctx, proposeRetry*20)
			a.waitForAny(wait, []<-chan struct{}{changed})
			cancel()
		} else {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

const (
	settleAtOnce = 16
	// settlePatience is what one topic may take: one that waits for a shard that is stopped must not keep the others.
	settlePatience = 5 * time.Second
)

// settleAll says whether something is left to do.
func (a *Agent) settleAll(ctx context.Context, topics []metadata.Topic) bool {
	var left atomic.Bool
	var group errgroup.Group
	group.SetLimit(settleAtOnce)
	for _, i := range rand.Perm(len(topics)) { // none is always behind those that wait
		group.Go(func() error {
			trying, cancel := context.WithTimeout(ctx, settlePatience)
			defer cancel()
			if err := a.settleTopic(trying, topics[i]); err != nil && ctx.Err() == nil {
				slog.Warn("settle topic", "topic", topics[i].Name, "err", err)
				left.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait()
	return left.Load()
}

func (a *Agent) settleTopic(ctx context.Context, t metadata.Topic) error {
	if t.State == metadata.TopicDeleting {
		for i := range a.shards {
			if _, err := a.propose(ctx, objectlog.Shard(i), metadata.DropTopic{Topic: t.ID}.Command(), groups.DropTopic{Topic: t.ID}.Command(), queues.DropTopic{Topic: t.ID}.Command()); err != nil {
				return err
			}
		}
		_, err := a.changeTopic(ctx, metadata.ForgetTopic{ID: t.ID}.Command())
		return err
	}
	for _, shard := range shardsOf(t.ID, t.Partitions, t.Target, len(a.shards)) {
		c := metadata.AddPartitions{Topic: t.ID, From: t.Partitions, To: t.Target}
		if _, err := a.propose(ctx, shard, c.Command()); err != nil {
			return err
		}
	}
	_, err := a.changeTopic(ctx, metadata.ActivateTopic{ID: t.ID, Partitions: t.Target}.Command())
	return err
}

// shardsOf answers the shards that the partitions [from, to) belong to.
func shardsOf(topic objectlog.UUID, from, to int32, shards int) []objectlog.Shard {
	seen := make([]bool, shards)
	var found []objectlog.Shard
	for p := from; p < to && len(found) < shards; p++ {
		if s := metadata.ShardOf(topic, objectlog.Partition(p), shards); !seen[s] {
			seen[s] = true
			found = append(found, s)
		}
	}
	return found
}
