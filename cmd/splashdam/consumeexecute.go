package main

import (
	"context"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/client"
)

// executeGrace is what a command has to end when the consuming ends.
const executeGrace = 10 * time.Second

// memberExecutor runs the command for the records that a member of a group reads.
type memberExecutor struct {
	told   executed
	x      *executor
	policy *client.RetryPolicy
	stop   context.CancelCauseFunc

	at       client.Record // the latest; without what it holds
	attempts int32         // at it
}

// executeAsMember runs the command for each record, in the order of each partition, until ctx ends. A record on which it fails is tried again and becomes a
// dead letter as the policy says; without a policy it ends the consuming, and the position stays before it.
func (env *environment) executeAsMember(ctx context.Context, consumer *client.Consumer, command string, policy *client.RetryPolicy) error {
	out := env.out
	if env.output == "json" {
		out = env.err
	}
	x, err := env.newExecutor(command, out)
	if err != nil {
		return err
	}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	m := &memberExecutor{told: executed{env: env, x: x, counts: map[string]int64{}}, x: x, policy: policy, stop: stop}
	// A process that runs when the consuming ends has some time for its own end.
	executing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(running, func() { time.AfterFunc(executeGrace, cancel) })()
	err = consumer.Run(running, func(_ context.Context, r client.Record) error { return m.process(executing, r) })
	if ctx.Err() != nil {
		return err
	}
	return firstError(context.Cause(running), err)
}

// process is the handler.
func (m *memberExecutor) process(ctx context.Context, r client.Record) error {
	if m.attempts++; r.Topic != m.at.Topic || r.Partition != m.at.Partition || r.Offset != m.at.Offset {
		m.at, m.attempts = client.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, 1
	}
	e := m.x.run(ctx, &r, m.attempts)
	last := e.reject || m.policy != nil && int(m.attempts) >= m.policy.Attempts
	verdict := "processed"
	switch {
	case e.notRun:
		verdict = "not run"
		m.stop(m.x.broken(e))
	case e.err != nil && m.policy == nil:
		verdict = "failed"
		m.stop(&terminalError{op: "process", object: fmt.Sprintf("%s/%d at %d", r.Topic, r.Partition, r.Offset), cause: e.err,
			hint: "the group's position stays before it; with --retry it becomes a dead letter, and the rest goes on"})
	case e.err != nil && last:
		verdict = "given up"
	case e.err != nil:
		verdict = "failed"
	}
	m.told.tell(&r, m.attempts, verdict, e)
	return e.answer()
}
