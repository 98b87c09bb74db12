package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	// recoveryMax is within which every partition takes records again once the fault is over (I8).
	recoveryMax = 10 * time.Second
	// warmUp is how many records are acknowledged before the first fault.
	warmUp = 100
	// spanMax is how long a fault lasts, give or take.
	spanMax = 6 * time.Second
	// sendEvery is the time between the records of one producer.
	sendEvery = 100 * time.Millisecond
)

// plan is one history to be.
type plan struct {
	fault    fault
	seed     uint64
	duration time.Duration
	agents   int
	rate     time.Duration
}

// result is what one history showed.
type result struct {
	plan
	tally      history.Tally
	findings   history.Findings
	recoveries []time.Duration
	played     int // rounds of the fault
	requests   int // that proxies did something to
	folder     string
	err        error // why there was no history
}

// ok says that there was a history without anomaly.
func (r result) ok() bool { return r.err == nil && len(r.findings) == 0 }

// play runs one history, from a new cluster to the verdict. Logs and history are in a folder of their own, which goes away if all is well
// unless it is to be kept.
func (p plan) play(ctx context.Context, s *stores, out string, keep bool) result {
	name := fmt.Sprintf("nemesis-%x-%d", time.Now().UnixMicro(), p.seed)
	res := result{plan: p, folder: filepath.Join(out, name)}
	h := history.New()
	res.err = p.run(ctx, s, h, name, &res)
	res.tally, res.findings = h.Tally(), h.Check()
	if errors.Is(res.err, errSlow) {
		res.findings = append(res.findings, history.Finding{Name: "slow-recovery", Text: res.err.Error()})
		res.err = nil
	}
	if res.ok() && !keep {
		os.RemoveAll(res.folder)
		return res
	}
	if err := write(filepath.Join(res.folder, "history.jsonl"), h); err != nil && res.err == nil {
		res.err = err
	}
	return res
}

func write(path string, h *history.History) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = h.WriteTo(f)
	return errors.Join(err, f.Close())
}

var errSlow = errors.New("not every partition took a record in time")

func (p plan) run(ctx context.Context, s *stores, h *history.History, name string, res *result) error {
	slots := p.fault.slots
	if slots == 0 {
		slots = slotsMany
	}
	c, err := newCluster(ctx, s, name, res.folder, p.agents, slots, p.seed)
	if err != nil {
		return err
	}
	defer c.close()
	l, err := startLoad(ctx, c, h, p.seed, p.rate)
	if err != nil {
		return err
	}
	defer l.end()
	if !until(ctx, startTimeout, func() bool { return h.Tally().Acked >= warmUp }) {
		return fmt.Errorf("only %d records were acknowledged before any fault", h.Tally().Acked)
	}

	marks := p.rounds(ctx, c, h, res)
	c.heal()
	healed := time.Now()
	h.Note("healed for good")
	slow := awaitRecovery(ctx, h, healed)
	marks = append(marks, mark{healed, time.Now().Add(recoveryMax)})
	res.requests = c.played()
	l.stop()
	l.wg.Wait()
	until(ctx, unseenTimeout, func() bool { return l.tail.Behind() == 0 })
	l.read()
	l.reads.Wait()
	l.tail.End(h.Due())
	l.readThroughEach(ctx)
	l.finishWork(ctx)
	c.examine(ctx, h)
	for _, m := range marks {
		if took, ok := h.Recovered(m.since, len(used)); ok && took <= m.until.Sub(m.since) {
			res.recoveries = append(res.recoveries, took)
		}
	}
	return errors.Join(ctx.Err(), slow)
}

// awaitRecovery waits until every partition takes records again, longer than it may last, since how long it takes is worth knowing.
func awaitRecovery(ctx context.Context, h *history.History, healed time.Time) error {
	var took time.Duration
	ok := until(ctx, recoveryMax+unseenTimeout, func() (ok bool) { took, ok = h.Recovered(healed, len(used)); return ok })
	switch {
	case !ok:
		return fmt.Errorf("%w: not after %s", errSlow, time.Since(healed).Round(time.Second))
	case took > recoveryMax:
		return fmt.Errorf("%w: after %s", errSlow, took.Round(time.Millisecond))
	}
	return nil
}

// mark is a time from which recovery is measured, if it comes before something else happens.
type mark struct{ since, until time.Time }

// rounds plays the fault again and again, a quarter of the time or more quiet.
func (p plan) rounds(ctx context.Context, c *cluster, h *history.History, res *result) (marks []mark) {
	ctx, cancel := context.WithTimeout(ctx, p.duration)
	defer cancel()
	chance := rand.New(rand.NewPCG(p.seed, 0))
	for pause(ctx, min(time.Second, p.duration/10)) {
		r := &round{cluster: c, h: h, ctx: ctx, chance: chance, span: min(spanMax, p.duration/3)}
		began := time.Now()
		p.fault.play(r)
		c.heal()
		h.Note("healed")
		res.played++
		if r.since.IsZero() {
			r.since = time.Now()
		}
		pause(ctx, min(spanMax, max(time.Since(began)/3, time.Second)))
		if ctx.Err() == nil {
			marks = append(marks, mark{r.since, time.Now()})
		}
	}
	return marks
}

// readThroughEach reads the log to its end through each agent by itself, so that all of them are held to one truth.
func (l *load) readThroughEach(ctx context.Context) {
	for _, a := range l.c.agents {
		r, due := l.h.Reader(fmt.Sprintf("reader through agent %d", a.index)), l.h.Due()
		if err := l.readToEnd(ctx, r, a.address); err != nil {
			r.Stuck(err)
			continue
		}
		r.End(due)
	}
}

// examine looks for what agents found wrong with themselves: a shard that one has stopped, a panic.
func (c *cluster) examine(ctx context.Context, h *history.History) {
	for _, a := range c.agents {
		if text, err := os.ReadFile(a.log.Name()); err != nil || bytes.Contains(text, []byte("\npanic: ")) || bytes.Contains(text, []byte("\nfatal error: ")) {
			h.Accuse("panic", "agent %d: see %s, %v", a.index, a.log.Name(), err)
		}
		var info client.Cluster
		if !until(ctx, recoveryMax, func() (ok bool) { info, ok = a.describe(ctx); return ok }) {
			h.Accuse("broken-agent", "agent %d does not describe the cluster", a.index)
		}
		for _, s := range info.Shards {
			if s.Fault != "" {
				h.Accuse("halted-shard", "agent %d stopped shard %d: %s", a.index, s.Shard, s.Fault)
			}
		}
	}
}
