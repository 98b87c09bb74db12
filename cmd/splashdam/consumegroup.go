package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/splashdam/splashdam/client"
)

// memberOptions are the flags of consume as a member of a group.
type memberOptions struct {
	group, instance, pattern, commit string
	session                          time.Duration
	command, deadLetters             string
	retry                            int
}

func (m *memberOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&m.group, "group", "", "consume as a member of this group")
	f.StringVar(&m.instance, "instance", "", "be the same member after a restart within the session: nothing moves to others meanwhile")
	f.StringVar(&m.pattern, "pattern", "", "consume the topics whose whole names match (RE2), beside TOPIC or instead of it")
	f.StringVar(&m.commit, "commit", "after", "when the group's positions move: after, before or manual")
	f.DurationVar(&m.session, "session-timeout", 10*time.Second, "how long the group waits for a member that is gone, 1s to 30m")
	f.StringVar(&m.command, "exec", "", "run this for each record instead of printing it, one at a time")
	f.IntVar(&m.retry, "retry", -1, "try a record on which the command fails so often again, 0 to 999, then make it a dead letter; -1: stop there")
	f.StringVar(&m.deadLetters, "dead-letter-topic", "", `where dead letters go; made when it is needed (default TOPIC with "-dlq" behind it)`)
}

// commits are the values of --commit.
var commits = map[string]client.Commit{"after": client.CommitAfter, "before": client.CommitBefore, "manual": client.CommitManual}

// checkMember refuses what does not go together.
func (o consumeOptions) checkMember(given func(flag string) bool) error {
	m := o.member
	if m.group == "" {
		for _, name := range []string{"instance", "pattern", "commit", "session-timeout", "exec", "retry", "dead-letter-topic"} {
			if given(name) {
				return usageError("consume: --%s: want --group with it", name)
			}
		}
		return nil
	}
	switch _, known := commits[m.commit]; {
	case !known:
		return usageError("consume: --commit %q: want after, before or manual", m.commit)
	case len(o.partitions) > 0:
		return usageError("consume: --partition with --group: the group says which partitions a member reads")
	case given("retry") && m.command == "":
		return usageError("consume: --retry: want --exec with it")
	case m.retry < -1:
		return usageError("consume: --retry %d: want 0 to 999", m.retry)
	case given("dead-letter-topic") && m.retry < 0:
		return usageError("consume: --dead-letter-topic: want --retry with it")
	case m.retry >= 0 && m.commit == "before":
		return usageError("consume: --retry with --commit before: what is committed can't be tried again")
	}
	for _, name := range []string{"count", "format", "key-separator"} {
		if m.command != "" && given(name) {
			return usageError("consume: --%s: want no --exec with it", name)
		}
	}
	return nil
}

// retryPolicy is what --retry asks for; nil: nothing.
func (m memberOptions) retryPolicy() *client.RetryPolicy {
	if m.retry < 0 {
		return nil
	}
	return &client.RetryPolicy{Attempts: m.retry + 1, DeadLetterTopic: m.deadLetters}
}

// memberConfig is what the flags ask for; told is called when partitions come and go.
func (o consumeOptions) memberConfig(topics []string, told func(what string, partitions []client.TopicPartitions)) (client.ConsumerConfig, error) {
	start, at, err := parseStart(o.from)
	if err == nil && at != client.NoOffset {
		err = fmt.Errorf("%q with --group: want earliest, latest, a time, or -N", o.from)
	}
	if err != nil {
		return client.ConsumerConfig{}, usageError("consume: --from %w", err)
	}
	tell := func(what string) func(context.Context, []client.TopicPartitions) {
		return func(_ context.Context, partitions []client.TopicPartitions) { told(what, partitions) }
	}
	cfg := client.ConsumerConfig{
		Topics: topics, Start: start, Group: o.member.group, Instance: o.member.instance, Pattern: o.member.pattern,
		SessionTimeout: o.member.session, Commit: commits[o.member.commit], Retry: o.member.retryPolicy(),
		OnAssigned: tell("assigned"), OnRevoked: tell("revoked"), OnLost: tell("lost"),
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usageError("consume: %w", err)
	}
	return cfg, nil
}

// consumeAsMember prints what the group assigns to it until ctx ends or there are enough records; then it commits and leaves.
func (env *environment) consumeAsMember(ctx context.Context, topics []string, o consumeOptions) error {
	write, err := o.writer()
	if err != nil {
		return err
	}
	var consumer *client.Consumer // set before it polls
	cfg, err := o.memberConfig(topics, func(what string, partitions []client.TopicPartitions) {
		at := partitions[0]
		env.tellPartitions(what, partitions, consumer.Generation(at.Topic, at.Partitions[0]))
	})
	if err != nil {
		return err
	}
	return env.withClient(func(c *client.Client) error {
		if consumer, err = c.NewConsumer(cfg); err != nil {
			return err
		}
		defer consumer.Close()
		if o.member.command != "" {
			return env.endMember(ctx, consumer, o.member, env.executeAsMember(ctx, consumer, o.member.command, cfg.Retry))
		}
		p, stop := env.showConsumed(ctx)
		defer stop()
		out := bufio.NewWriterSize(env.out, 1<<18)
		for limit := o.count; ; {
			records, err := consumer.Poll(ctx, pollMax(limit))
			if err != nil {
				return env.endMember(ctx, consumer, o.member, err)
			}
			// Asked behind Poll it may be a later one; a partition that was lost by then has none.
			generation := consumer.Generation(records[0].Topic, records[0].Partition)
			for i := range records {
				if err := write(out, &records[i], generation); err != nil {
					return err
				}
				p.add(1, int64(len(records[i].Key)+len(records[i].Value)))
			}
			if err := out.Flush(); err != nil { // only what is printed counts as processed
				return err
			}
			if limit -= int64(len(records)); limit == 0 {
				return env.endMember(ctx, consumer, o.member, nil)
			}
		}
	})
}

// pollMax is how many records are printed before their positions may be committed, at most as many as are wanted; 0: there is no limit.
func pollMax(limit int64) int {
	if limit > 0 {
		return int(min(limit, 1000))
	}
	return 1000
}

// leaveTimeout is for the last commit, while other members wait for the partitions.
const leaveTimeout = 10 * time.Second

// endMember commits the positions of all that was printed, and says what ended the consuming. err is Poll's, nil: there are enough records.
func (env *environment) endMember(ctx context.Context, consumer *client.Consumer, m memberOptions, err error) error {
	interrupted := err != nil && ctx.Err() != nil
	if err != nil && !interrupted {
		return pollFailure(m, err)
	}
	if m.commit == "after" {
		committing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if err := consumer.Commit(committing); err != nil {
			return err
		}
	}
	if interrupted {
		return ctx.Err()
	}
	return nil
}

// pollFailure says what to do about what ended the consuming.
func pollFailure(m memberOptions, err error) error {
	e := &terminalError{op: "consume", object: "as a member of group " + m.group}
	line, _ := describe(err)
	e.cause = errors.New(strings.TrimPrefix(line, "splashdam: "))
	switch {
	case errors.Is(err, client.ErrOutOfRange):
		e.hint = fmt.Sprintf(`see "splashdam lag %s"; "splashdam group reset %s" moves the position`, m.group, m.group)
	case errors.Is(err, client.ErrFencedInstance):
		e.hint = fmt.Sprintf("another consumer runs with --instance %s", m.instance)
	default:
		return err
	}
	return e
}

// tellPartitions says in a line which partitions came or went, and in which generation they are this member's; 0: in none.
func (env *environment) tellPartitions(what string, partitions []client.TopicPartitions, generation int64) {
	var line strings.Builder
	if isTerminal(env.err) {
		line.WriteString("\r\x1b[K") // over the progress
	}
	line.WriteString(what)
	for _, t := range partitions {
		for _, p := range t.Partitions {
			fmt.Fprintf(&line, " %s/%d", t.Topic, p)
		}
	}
	if generation != 0 {
		fmt.Fprintf(&line, " (generation %d)", generation)
	}
	fmt.Fprintln(env.err, line.String())
}
