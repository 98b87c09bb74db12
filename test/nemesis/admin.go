package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/client"
)

const (
	adminEvery   = 400 * time.Millisecond
	adminTimeout = 10 * time.Second
	// keep is how much of the trimmed partition stays: a reader of it is never outrun by more.
	keep = 50
)

// administer changes and describes topics until ctx ends. Whoever was told that something is so must find it so through any agent.
func (l *load) administer(ctx context.Context) error {
	all, err := l.client()
	if err != nil {
		return err
	}
	defer all.Close()
	chance := rand.New(rand.NewPCG(l.seed, producers+1))
	for n := 0; pause(ctx, adminEvery); n++ {
		calling, cancel := context.WithTimeout(ctx, adminTimeout)
		one, err := l.client(l.c.agents[chance.IntN(len(l.c.agents))].address)
		if err != nil {
			cancel()
			return err
		}
		switch n % 3 {
		case 0:
			l.tryTopic(calling, all, one, fmt.Sprintf("admin-%d", n))
		case 1:
			l.tryTrim(calling, all)
		case 2:
			l.tryOffsets(calling, one)
		}
		one.Close()
		cancel()
	}
	return nil
}

// tryTopic gives a topic a short life, and asks one agent of it at every step. An error of the asked agent that says that the topic is not
// there, or still there, is an anomaly; one that says that the agent cannot answer is not.
func (l *load) tryTopic(ctx context.Context, all, one *client.Client, name string) {
	if _, err := all.CreateTopic(ctx, client.Topic{Name: name, Partitions: 1}); err != nil {
		return
	}
	if t, _, err := one.Topic(ctx, name); isMissing(err) || err == nil && t.Partitions != 1 {
		l.h.Accuse("stale-topic", "%s was created with 1 partition, and an agent says %d, %v", name, t.Partitions, err)
	}
	if _, err := all.AddPartitions(ctx, name, 3); err != nil {
		return
	}
	if t, _, err := one.Topic(ctx, name); isMissing(err) || err == nil && t.Partitions != 3 {
		l.h.Accuse("stale-topic", "%s was given 3 partitions, and an agent says %d, %v", name, t.Partitions, err)
	}
	if found, err := one.Offsets(ctx, name, client.Latest()); isMissing(err) || err == nil && len(found) != 3 {
		l.h.Accuse("stale-topic", "%s was given 3 partitions, and an agent has offsets of %d, %v", name, len(found), err)
	}
	if err := all.DeleteTopic(ctx, name, ""); err != nil {
		return
	}
	if t, _, err := one.Topic(ctx, name); err == nil && t.State == "active" {
		l.h.Accuse("stale-topic", "%s was deleted, and an agent says %s", name, t.State)
	}
}

func isMissing(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Code == "not_found"
}

// tryTrim removes all but the newest of one partition.
func (l *load) tryTrim(ctx context.Context, all *client.Client) {
	below := client.Offset(l.floors[len(used)-1].Load()) - keep
	if below <= 0 {
		return
	}
	l.h.Trim("admin", trimmed, below)
	start, err := all.Trim(ctx, topicName, trimmed, below)
	if err == nil && start < below {
		l.h.Accuse("lost-trim", "partition %d was trimmed to %d, and begins at %d", trimmed, below, start)
	}
}

// tryOffsets compares where an agent says that logs end with what was acknowledged before it was asked.
func (l *load) tryOffsets(ctx context.Context, one *client.Client) {
	floors := make(map[client.Partition]client.Offset, len(used))
	for i, p := range used {
		floors[p] = client.Offset(l.floors[i].Load())
	}
	found, err := one.Offsets(ctx, topicName, client.Latest(), used...)
	if err != nil {
		return
	}
	for _, f := range found {
		if f.Err == nil && f.Offset < floors[f.Partition] {
			l.h.Accuse("stale-offset", "partition %d ended at %d, and an agent says %d", f.Partition, floors[f.Partition], f.Offset)
		}
	}
}
