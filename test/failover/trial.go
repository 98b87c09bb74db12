package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/splashdam/splashdam/client"
)

// mode is what happens to an agent.
type mode string

const (
	kill    mode = "kill"
	gone    mode = "gone"
	handoff mode = "handoff"
	freeze  mode = "pause"
	rolling mode = "rolling"
)

var modes = []mode{kill, gone, handoff, freeze, rolling}

func (m mode) meaning() string {
	switch m {
	case kill:
		return "kill -9 of a shard's leader"
	case gone:
		return "a shard's leader whose machine is gone"
	case handoff:
		return "SIGTERM to a shard's leader"
	case freeze:
		return "SIGSTOP of a shard's leader for 20 times the lease"
	default:
		return "restarts of all agents, one after the other"
	}
}

const (
	// goneFor is how long a machine stays away.
	goneFor = 10 * time.Second
	// frozenFor is 20 times the lease.
	frozenFor = 20 * lease
	// recoverTimeout is when clients that still wait are given up: what stands then is the pause.
	recoverTimeout = 50 * time.Second
	// settleTimeout is for a busy machine; agents need a few seconds.
	settleTimeout = 60 * time.Second
	// before is the quiet time by which a pause is to be judged.
	before = 2 * time.Second
	// overhead is for the start, the end and reading back.
	overhead = 40 * time.Minute
)

// bound is how long a round may take at most.
func (m mode) bound() time.Duration {
	switch m {
	case gone:
		return recoverTimeout + goneFor + 2*settleTimeout
	case freeze:
		return recoverTimeout + frozenFor + 2*settleTimeout
	case rolling:
		return agents * (stopTimeout + 2*settleTimeout)
	default:
		return recoverTimeout + 2*settleTimeout
	}
}

func newChance(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// trial is one run of the program.
type trial struct {
	settings settings
	c        *cluster
	l        *load
	chance   *rand.Rand
	report   report
}

func (t *trial) play(ctx context.Context) error {
	if !pause(ctx, before) { // the producers find their topic
		return ctx.Err()
	}
	for _, m := range modes {
		for n := range *t.settings.rounds[m] {
			if err := t.round(ctx, m, n); err != nil {
				return fmt.Errorf("%s %d: %w", m, n+1, err)
			}
		}
	}
	return nil
}

// round plays one fault and reports what clients saw of it.
func (t *trial) round(ctx context.Context, m mode, n int) error {
	lead, err := t.settled(ctx)
	if err != nil {
		return err
	}
	victim := t.c.agents[lead[n%shards]]
	r := Round{Mode: m, Number: n + 1, Shard: n % shards, Agent: victim.index, Leaders: lead, Began: time.Now()}
	led, others := t.partitions(lead, victim.index)
	counts := t.l.calls.sum()
	r.Quiet = Span(t.l.acked.gap(r.Began.Add(-before), r.Began, t.l.used))
	switch m {
	case kill, gone:
		err = t.strike(ctx, &r, victim, led, others)
	case handoff:
		err = t.handOff(ctx, &r, victim, led, others)
	case freeze:
		err = t.freeze(ctx, &r, victim, led, others)
	case rolling:
		err = t.restartAll(ctx, &r)
	}
	if err != nil {
		return err
	}
	now := t.l.calls.sum()
	r.Calls = Counts{SDKFailed: now.SDKFailed - counts.SDKFailed, Plain: now.Plain - counts.Plain, PlainFailed: now.PlainFailed - counts.PlainFailed}
	t.report.add(r)
	fmt.Fprintf(os.Stderr, "%s %v\n", time.Now().Format("15:04:05"), r)
	return nil
}

// settled waits until all agents are ready, know each other and agree who leads, and a moment more.
func (t *trial) settled(ctx context.Context) (lead []int, err error) {
	err = until(ctx, settleTimeout, func() error {
		lead, err = t.c.leaders(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agents do not settle: %w", err)
	}
	if !pause(ctx, before+time.Duration(t.chance.Int64N(int64(time.Second)))) {
		return nil, ctx.Err()
	}
	// Meanwhile a shard may have moved.
	err = until(ctx, settleTimeout, func() error {
		lead, err = t.c.leaders(ctx)
		return err
	})
	t.l.acked.forget(time.Now().Add(-2 * before))
	t.l.read.forget(time.Now().Add(-2 * before))
	return lead, err
}

// partitions are those of the shards that the agent leads, and the others.
func (t *trial) partitions(lead []int, agent int) (led, others []client.Partition) {
	for _, p := range t.l.used {
		if lead[t.l.shardOf[p]] == agent {
			led = append(led, p)
		} else {
			others = append(others, p)
		}
	}
	return led, others
}

// strike takes the agent away without a word, and brings another run of it back later.
func (t *trial) strike(ctx context.Context, r *Round, victim *agent, led, others []client.Partition) error {
	away := 2*time.Second + time.Duration(t.chance.Int64N(int64(2*time.Second)))
	if r.Mode == gone {
		away = goneFor
	}
	if err := t.takeAway(ctx, r, victim); err != nil {
		return err
	}
	recovered := t.awaitRecovery(ctx, r, led, away)
	if !pause(ctx, time.Until(r.Began.Add(away))) {
		return ctx.Err()
	}
	r.Others = Span(t.l.acked.gap(r.Began, time.Now(), others))
	if r.Mode == gone {
		victim.server.Kill()
		if t.c.network != nil {
			if err := t.c.network.plugIn(ctx, victim.index); err != nil {
				return err
			}
		}
	}
	if err := victim.start(ctx); err != nil {
		return err
	}
	r.Stuck = !recovered && !t.awaitRecovery(ctx, r, led, recoverTimeout)
	return nil
}

func (t *trial) takeAway(ctx context.Context, r *Round, victim *agent) error {
	r.begin()
	switch {
	case r.Mode == kill:
		victim.server.Kill()
		return nil
	case t.c.network != nil:
		return t.c.network.unplug(ctx, victim.index)
	default:
		return victim.suspend()
	}
}

// awaitRecovery waits until every partition that the agent led has a record acknowledged, and read, that was sent since. What has not happened
// in time counts as long as it was waited for.
func (t *trial) awaitRecovery(ctx context.Context, r *Round, led []client.Partition, within time.Duration) bool {
	err := until(ctx, within, func() error {
		took, ok := t.l.acked.first(r.Began, led)
		read, okRead := t.l.read.first(r.Began, led)
		if !ok || !okRead {
			return errors.New("not yet")
		}
		r.Worst = 0 // what was waited for in vain
		r.pauses(took, t.l.shardOf, led)
		r.Readers = Span(slices.Max(read))
		return nil
	})
	if err != nil {
		r.Worst, r.Readers = Span(time.Since(r.Began)), Span(time.Since(r.Began))
	}
	return err == nil
}

// handOff lets the agent stop by itself, and starts it again.
func (t *trial) handOff(ctx context.Context, r *Round, victim *agent, led, others []client.Partition) error {
	r.begin()
	if err := victim.server.Stop(); err != nil {
		return err
	}
	r.Stopped = Span(time.Since(r.Began))
	if !pause(ctx, time.Second) {
		return ctx.Err()
	}
	now := time.Now()
	for _, p := range led {
		r.pauses([]time.Duration{t.l.acked.gap(r.Began, now, []client.Partition{p})}, t.l.shardOf, []client.Partition{p})
	}
	r.Others, r.Readers = Span(t.l.acked.gap(r.Began, now, others)), Span(t.l.read.gap(r.Began, now, led))
	r.Latency = Span(longest(t.l.acked.latencies(r.Began, now)))
	return victim.start(ctx)
}

// freeze stops the agent for long, and measures how soon it serves again.
func (t *trial) freeze(ctx context.Context, r *Round, victim *agent, led, others []client.Partition) error {
	r.begin()
	if err := victim.suspend(); err != nil {
		return err
	}
	defer victim.resume()
	r.Stuck = !t.awaitRecovery(ctx, r, led, recoverTimeout)
	if !pause(ctx, time.Until(r.Began.Add(frozenFor))) {
		return ctx.Err()
	}
	r.Others = Span(t.l.acked.gap(r.Began, time.Now(), others))
	thawed := time.Now()
	victim.resume()
	err := until(ctx, recoverTimeout, func() error {
		if err := victim.readyz(); err != nil {
			return err
		}
		return t.l.through(ctx, victim)
	})
	if r.Serves = Span(time.Since(thawed)); err != nil {
		return fmt.Errorf("agent %d does not serve again: %w", victim.index, err)
	}
	return nil
}

// restartAll stops and starts one agent after the other.
func (t *trial) restartAll(ctx context.Context, r *Round) error {
	r.begin()
	for _, a := range t.c.agents {
		stopped := time.Now()
		if err := a.server.Stop(); err != nil {
			return err
		}
		if err := a.start(ctx); err != nil {
			return err
		}
		r.Latency = max(r.Latency, Span(longest(t.l.acked.latencies(stopped, time.Now()))))
		if _, err := t.settled(ctx); err != nil {
			return err
		}
	}
	r.Stopped = Span(time.Since(r.Began))
	return nil
}

// through produces a record in each shard through one agent, with calls that nobody repeats.
func (l *load) through(ctx context.Context, a *agent) error {
	c, err := l.client(a.address)
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual, Unary: true})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	var records []client.Record
	for i := range shards {
		records = append(records, client.Record{Topic: topicName, Partition: client.Partition(i*block + block - 2), Value: []byte("served")})
	}
	_, err = p.ProduceSync(ctx, records...)
	return err
}

func longest(all []time.Duration) (d time.Duration) {
	for _, one := range all {
		d = max(d, one)
	}
	return d
}
