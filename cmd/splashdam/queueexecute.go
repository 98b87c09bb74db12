package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/client"
)

// executedView is what became of one record, as JSON.
type executedView struct {
	Topic      string  `json:"topic"`
	Partition  int32   `json:"partition"`
	Offset     int64   `json:"offset"`
	Deliveries int32   `json:"deliveries"`
	Verdict    string  `json:"verdict"`
	Error      string  `json:"error,omitempty"`
	Seconds    float64 `json:"seconds"`
}

// executed tells what became of records.
type executed struct {
	env    *environment
	x      *executor
	counts map[string]int64 // by verdict; under x.out.mu
}

// executeQueue runs the command for each record until ctx ends. A command that has nothing to run ends it by stop.
func (env *environment) executeQueue(ctx context.Context, stop context.CancelCauseFunc, c *client.Client, cfg client.QueueConfig, o queueConsumeOptions) error {
	q, err := c.NewQueue(cfg)
	if err != nil {
		return err
	}
	defer q.Close()
	out := env.out
	if env.output == "json" {
		out = env.err
	}
	x, err := env.newExecutor(o.command, out)
	if err != nil {
		return err
	}
	told := &executed{env: env, x: x, counts: map[string]int64{}}
	err = q.Run(ctx, func(handling context.Context, r *client.QueuedRecord) error {
		e := x.run(handling, &r.Record, r.Deliveries)
		if e.notRun {
			stop(x.broken(e))
		}
		verdict := e.verdict()
		if errors.Is(context.Cause(handling), client.ErrNotLocked) {
			verdict, e.err = "lost", errors.New("its lock had ended, and it is with another consumer")
		}
		told.tell(&r.Record, r.Deliveries, verdict, e)
		return e.answer()
	})
	if env.output != "json" {
		fmt.Fprintf(env.err, "%s accepted, %s released, %s rejected\n", humanCount(told.counts["accepted"]), humanCount(told.counts["released"]), humanCount(told.counts["rejected"]))
	}
	return err
}

// tell says what became of a record; in text only if something is wrong.
func (t *executed) tell(r *client.Record, attempt int32, verdict string, e execution) {
	v := executedView{Topic: r.Topic, Partition: int32(r.Partition), Offset: int64(r.Offset), Deliveries: attempt, Verdict: verdict, Seconds: e.took.Seconds()}
	if e.err != nil {
		v.Error = e.err.Error()
	}
	t.x.out.mu.Lock()
	defer t.x.out.mu.Unlock()
	t.counts[verdict]++
	switch {
	case t.env.output == "json":
		_ = printLine(t.env.out, v) // who does not read it must not make the record fail
	case v.Error != "":
		fmt.Fprintf(t.env.err, "%s %s/%d at %d (delivery %d): %s\n", verdict, v.Topic, v.Partition, v.Offset, attempt, v.Error)
	}
}
