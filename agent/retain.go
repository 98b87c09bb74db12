package agent

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// retainEvery is how often leaders look for records to trim. It costs no request where there is none.
	retainEvery = time.Minute
	// producerLife is how long an idle producer is remembered.
	producerLife = 24 * time.Hour
	expireEvery  = time.Hour
	topicsPage   = 256
	// trimsPerProposal keeps a proposal far below the size of an entry.
	trimsPerProposal = 256
)

// retain trims, in every shard that is led here, what is older or larger than its topic's settings allow.
func (a *Agent) retain(ctx context.Context) error {
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	expired := time.Now()
	last := make([]metadata.Seq, len(a.shards))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.retainOnce(ctx)
		if time.Since(expired) >= expireEvery {
			expired = time.Now()
			a.expire(ctx, last)
		}
	}
}

// retire lets every shard forget the boots before this one, where only one process can have the table open: none of them will commit
// again. Each would leave the results of its last commits in the state, and in every snapshot.
func (a *Agent) retire(ctx context.Context) error {
	before := a.presence.info.Ordinal
	if !a.cfg.ExclusiveTable || before == 1 {
		return nil
	}
	for i := range a.shards {
		if _, err := a.propose(ctx, objectlog.Shard(i), metadata.RetireBoots{Below: before}.Command()); err != nil && ctx.Err() == nil {
			slog.Warn("retire earlier boots", "shard", i, "err", err)
		}
	}
	return nil
}

// retainOnce looks through the topics of this agent's catalog.
func (a *Agent) retainOnce(ctx context.Context) {
	now := a.cfg.Wall()
	after := ""
	for ctx.Err() == nil {
		var page []metadata.Topic
		s := a.shards[catalogShard]
		s.log.Read(func(metadata.Seq) { page = s.state.Topics(after, topicsPage) })
		if len(page) == 0 {
			return
		}
		after = page[len(page)-1].Name
		for _, t := range page {
			if t.State == metadata.TopicActive {
				a.retainTopic(ctx, t, now)
			}
		}
	}
}

// retainTopic trims the partitions of one topic, those of a shard together.
func (a *Agent) retainTopic(ctx context.Context, t metadata.Topic, now objectlog.Timestamp) {
	if t.Settings.RetentionMillis() < 0 && t.Settings.RetentionBytes() < 0 {
		return
	}
	for _, shard := range shardsOf(t.ID, 0, t.Partitions, len(a.shards)) {
		s := a.shards[shard]
		if s.log.Status().Role != shardlog.RoleLeading {
			continue
		}
		if len(a.trims(t, shard, now)) == 0 {
			continue
		}
		if err := a.trim(ctx, t, shard, now); err != nil && ctx.Err() == nil {
			slog.Warn("trim by retention", "topic", t.Name, "shard", shard, "err", err)
		}
	}
}

// trim proposes what the settings allow. They are read anew, and currently: the own catalog may lag or stand still, and nothing is removed by a
// setting that was changed since. It proposes to the own replica, not to whoever leads by now: what a leader finds is not its successor's to do.
func (a *Agent) trim(ctx context.Context, t metadata.Topic, shard objectlog.Shard, now objectlog.Timestamp) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
	defer cancel()
	current, err := a.findCurrent(ctx, t.Name, 0)
	if err != nil || current.ID != t.ID {
		return err
	}
	for some := range slices.Chunk(a.trims(current, shard, now), trimsPerProposal) {
		// An unknown outcome is no loss: the next round finds what is left to trim.
		if _, err := own(a.shards[shard].log).Propose(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// trims lists what is older or larger than the topic's settings allow.
func (a *Agent) trims(t metadata.Topic, shard objectlog.Shard, now objectlog.Timestamp) []metadata.Command {
	var trims []metadata.Command
	s := a.shards[shard]
	s.log.Read(func(metadata.Seq) {
		for p := objectlog.Partition(0); int32(p) < t.Partitions; p++ {
			if metadata.ShardOf(t.ID, p, len(a.shards)) != shard {
				continue
			}
			if start, ok := logStartFor(s.state, t, p, now); ok {
				trims = append(trims, metadata.Trim{Topic: t.ID, Partition: p, LogStart: start}.Command())
			}
		}
	})
	return trims
}

// logStartFor answers where the partition's log should start, if that is further up than it does.
func logStartFor(s *metadata.State, t metadata.Topic, p objectlog.Partition, now objectlog.Timestamp) (objectlog.Offset, bool) {
	state, ok := s.Partition(t.ID, p)
	if !ok || state.LogStart == state.HighWatermark {
		return 0, false
	}
	start := state.LogStart
	if ms := t.Settings.RetentionMillis(); ms >= 0 && ms < int64(now) {
		if b, ok := s.BatchAtTime(t.ID, p, now-objectlog.Timestamp(ms)); ok {
			start = max(start, b.Base)
		} else {
			start = state.HighWatermark
		}
	}
	if limit := t.Settings.RetentionBytes(); limit >= 0 && state.StoredBytes > limit {
		// Whole batches go, as many as leave no less than the limit: as in Kafka, the limit is what is kept at least.
		over := state.StoredBytes - limit
		for _, b := range s.Batches(nil, t.ID, p, state.LogStart, over) {
			if over -= int64(b.Row.Bytes); over < 0 {
				break
			}
			start = max(start, b.Base+objectlog.Offset(b.Row.Records))
		}
	}
	return start, start > state.LogStart
}

// expire forgets idle producers and groups in every shard that is led here. A shard without an entry since the last time is
// left alone: forgetting must not keep an idle cluster busy.
func (a *Agent) expire(ctx context.Context, last []metadata.Seq) {
	before := func(life time.Duration) objectlog.Timestamp {
		return a.cfg.Wall() - objectlog.Timestamp(life.Milliseconds())
	}
	commands := []metadata.Command{metadata.ExpireProducers{Before: before(producerLife)}.Command(), groups.Expire{Before: before(a.cfg.GroupLife)}.Command(), queues.Expire{Before: before(a.cfg.GroupLife)}.Command()}
	for i, s := range a.shards {
		status := s.log.Status()
		if status.Role != shardlog.RoleLeading || status.Applied == last[i] {
			continue
		}
		proposing, cancel := context.WithTimeout(ctx, a.cfg.ProduceTimeout)
		receipt, err := own(s.log).Propose(proposing, commands)
		cancel()
		if err != nil {
			slog.Warn("expire producers and groups", "shard", i, "err", err)
			continue
		}
		last[i] = receipt.Seq
	}
}
