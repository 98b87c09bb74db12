package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// redriveOptions are the flags of dlq redrive.
type redriveOptions struct {
	to, value, file string
	edited          bool // value or file is given
	rate            int
	all             bool
}

func newRedrive(env *environment) *cobra.Command {
	var o redriveOptions
	cmd := &cobra.Command{
		Use:   "redrive TOPIC PARTITION/OFFSET... | --all",
		Short: "Send dead letters where they came from, or to another topic, as records again",
		Long: `Redrive sends dead letters on, each once: those that are named, or with --all those that failed before it began. They lose the headers of a dead
letter, and get splashdam-redriven-from. Each goes to the partition that it came from; with --to it goes to that topic, by key. --value or
--value-file takes the place of the value of one.

What was begun arrives, also when this is interrupted; the same command again goes on with the rest, and sends nothing twice.`,
		Example: `  splashdam dlq redrive jobs-dlq 0/17
  splashdam dlq redrive jobs-dlq 0/17 --value '{"amount": 12}'
  splashdam dlq redrive jobs-dlq --all --rate 100
  splashdam dlq redrive jobs-dlq --all --to jobs-by-hand`,
		RunE: func(cmd *cobra.Command, args []string) error {
			only, err := deadLettersNamed("dlq redrive", args, o.all)
			if err != nil {
				return err
			}
			o.edited = cmd.Flags().Changed("value") || cmd.Flags().Changed("value-file")
			r, err := env.redriveRequest(args[0], only, o)
			if err != nil {
				return err
			}
			return env.redrive(cmd.Context(), r, only, o.rate)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "all that failed before now")
	f.StringVar(&o.to, "to", "", "to this topic, by key, instead of where each comes from")
	f.StringVar(&o.value, "value", "", "send this text instead of the value; of one dead letter")
	f.StringVar(&o.file, "value-file", "", "send what this file holds instead of the value; - is standard input")
	f.IntVar(&o.rate, "rate", 0, "at most so many records a second; 0: no limit")
	return cmd
}

// deadLettersNamed reads the arguments of verbs that want a topic, and places or --all.
func deadLettersNamed(verb string, args []string, all bool) ([]client.DeadLetterPosition, error) {
	switch {
	case len(args) == 0:
		return nil, usageError("%s: TOPIC is missing (see splashdam %s --help)", verb, verb)
	case len(args) == 1 && !all:
		return nil, usageError("%s: want places of dead letters, such as 0/17, or --all (splashdam dlq list %s has them)", verb, args[0])
	case len(args) > 1 && all:
		return nil, usageError("%s: want places or --all, not both", verb)
	}
	return parsePositions(verb, args[1:])
}

// redriveRequest is what the flags ask for, without the places.
func (env *environment) redriveRequest(topic string, only []client.DeadLetterPosition, o redriveOptions) (client.RedriveRequest, error) {
	r := client.RedriveRequest{Topic: topic, ToTopic: o.to, Edited: o.edited, EditedValue: []byte(o.value)}
	switch {
	case o.rate < 0:
		return r, usageError("dlq redrive: --rate %d: want 0 or more", o.rate)
	case o.edited && len(only) != 1:
		return r, usageError("dlq redrive: --value and --value-file: want the place of one dead letter with them")
	case o.value != "" && o.file != "":
		return r, usageError("dlq redrive: --value and --value-file exclude each other")
	case o.file == "":
		return r, nil
	}
	var err error
	if o.file == "-" {
		r.EditedValue, err = io.ReadAll(io.LimitReader(env.in, lineBytesMax))
	} else {
		r.EditedValue, err = os.ReadFile(o.file)
	}
	if err != nil {
		return r, &terminalError{op: "read", object: o.file, cause: unwrapPath(err)}
	}
	return r, nil
}

// redriveView is what was redriven.
type redriveView struct {
	Topic     string              `json:"topic"`
	Redriven  int64               `json:"redriven"`
	Redriving int64               `json:"redriving"` // on their way: they arrive by themselves
	Remaining int64               `json:"remaining"` // in the topic
	Refused   []refusedLetterView `json:"refused"`
	Seconds   float64             `json:"seconds"`
}

type refusedLetterView struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Error     string `json:"error"`
}

// redriving is one run of dlq redrive.
type redriving struct {
	c        *client.Client
	request  client.RedriveRequest
	rate     int
	progress *progress
	refused  []client.RefusedDeadLetter
	errs     map[client.DeadLetterPosition]bool // that are refused
	begun    int64
}

func (env *environment) redrive(ctx context.Context, request client.RedriveRequest, only []client.DeadLetterPosition, rate int) error {
	return env.withClient(func(c *client.Client) error {
		s := &redriving{c: c, request: request, rate: rate, progress: newProgress("redriven"), errs: map[client.DeadLetterPosition]bool{}}
		count, err := s.count(ctx)
		if err != nil {
			return err
		}
		if s.progress.total = int64(len(only)); len(only) == 0 {
			s.progress.total = count.DeadLetters - count.Redriving
		}
		stop := s.progress.show(ctx, env.err)
		if len(only) > 0 {
			err = s.these(ctx, only)
		} else {
			err = s.all(ctx)
		}
		if err == nil {
			err = s.arrive(ctx)
		}
		stop()
		switch {
		case ctx.Err() != nil:
			fmt.Fprintln(env.err, "what was begun arrives by itself; the same command goes on with the rest")
			return ctx.Err()
		case errors.Is(err, client.ErrUnknownTopic) && request.ToTopic != "":
			return &terminalError{op: "redrive", object: "to " + request.ToTopic, cause: errors.New("there is no such topic"), hint: "splashdam topic create " + request.ToTopic}
		case errors.Is(err, client.ErrUnknownOutcome):
			return fmt.Errorf("%w (the same command goes on: nothing is sent twice)", err)
		case err != nil:
			return err
		}
		return env.showRedriven(ctx, s, len(only) == 0)
	})
}

func (s *redriving) count(ctx context.Context) (client.DeadLetterCount, error) {
	counts, err := s.c.DeadLetterCounts(ctx, s.request.Topic)
	if err != nil {
		return client.DeadLetterCount{}, err
	}
	if len(counts) != 1 {
		return client.DeadLetterCount{}, fmt.Errorf("count dead letters of %s: %d answers", s.request.Topic, len(counts))
	}
	return counts[0], counts[0].Err
}

// batch is how many are sent with one call.
func (s *redriving) batch() int {
	if s.rate > 0 {
		return min(s.rate, positionsMax)
	}
	return positionsMax
}

// these sends the dead letters that are named.
func (s *redriving) these(ctx context.Context, only []client.DeadLetterPosition) error {
	for n := s.batch(); len(only) > 0; only = only[n:] {
		n = min(n, len(only))
		r := s.request
		r.Only, r.MaxRecords = only[:n], n
		if _, err := s.send(ctx, r, n == len(only)); err != nil {
			return err
		}
	}
	return nil
}

// callsInVain is how many calls that begin nothing are made while there is something left.
const callsInVain = 3

// all sends those that failed before now: one that fails again is not sent again.
func (s *redriving) all(ctx context.Context) error {
	r := s.request
	r.FailedBefore, r.MaxRecords = time.Now(), s.batch()
	for vain := 0; vain < callsInVain; {
		done, err := s.send(ctx, r, false)
		if err != nil || done.Remaining == 0 {
			return err
		}
		if vain++; done.Redriven+done.Redriving > 0 {
			vain = 0
		}
	}
	return nil // what keeps them is among the refused, or is told as what remains
}

// send makes one call and, unless it is the last, waits as long as the rate wants before the next.
func (s *redriving) send(ctx context.Context, r client.RedriveRequest, last bool) (client.Redriven, error) {
	begin := time.Now()
	done, err := s.c.Redrive(ctx, r)
	if err != nil {
		return done, err
	}
	n := done.Redriven + done.Redriving
	s.begun += n
	s.progress.add(n, 0)
	for _, refused := range done.Refused {
		if !s.errs[refused.DeadLetterPosition] {
			s.errs[refused.DeadLetterPosition] = true
			s.refused = append(s.refused, refused)
		}
	}
	if s.rate > 0 && !last && (len(r.Only) > 0 || done.Remaining > 0) {
		return done, sleepUntil(ctx, begin.Add(time.Duration(n)*time.Second/time.Duration(s.rate)))
	}
	return done, nil
}

const (
	// arriveEvery is how often it is asked what is still on its way, and arrivePatience how long when nothing arrives.
	arriveEvery    = 500 * time.Millisecond
	arrivePatience = 30 * time.Second
)

// arrive waits for what is on its way, as long as some of it arrives.
func (s *redriving) arrive(ctx context.Context) error {
	for before, since := int64(-1), time.Now(); ; {
		n, err := s.count(ctx)
		if err != nil || n.Redriving == 0 || time.Since(since) > arrivePatience {
			return err
		}
		if n.Redriving != before {
			before, since = n.Redriving, time.Now()
		}
		if err := sleepUntil(ctx, time.Now().Add(arriveEvery)); err != nil {
			return err
		}
	}
}

func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (env *environment) showRedriven(ctx context.Context, s *redriving, all bool) error {
	left, err := s.count(ctx)
	if err != nil {
		return err
	}
	v := redriveView{Topic: s.request.Topic, Redriving: min(left.Redriving, s.begun), Remaining: left.DeadLetters - left.Redriving, Refused: []refusedLetterView{}, Seconds: time.Since(s.progress.started).Seconds()}
	v.Redriven = s.begun - v.Redriving
	for _, r := range s.refused {
		v.Refused = append(v.Refused, refusedLetterView{int32(r.Partition), int64(r.Offset), reasonOf(r.Err)})
	}
	if err := env.print(&v, func() {
		if s.begun > 0 || len(v.Refused) == 0 {
			fmt.Fprintf(env.out, "redriven %s of %s\n", counted(v.Redriven, "record"), v.Topic)
		}
		if v.Redriving > 0 {
			fmt.Fprintf(env.out, "%s on the way: they arrive by themselves, once the topic that they go to takes them\n", counted(v.Redriving, "record"))
		}
		if all && v.Remaining > int64(len(v.Refused)) {
			fmt.Fprintf(env.out, "%s left: they failed after this began\n", counted(v.Remaining-int64(len(v.Refused)), "dead letter"))
		}
	}); err != nil {
		return err
	}
	return refusedError("redrive", v.Topic, v.Refused)
}

// refusedError is the line for dead letters that nothing could be done with; nil: there are none.
func refusedError(op, topic string, refused []refusedLetterView) error {
	if len(refused) == 0 {
		return nil
	}
	first := refused[0]
	e := &terminalError{op: op, object: fmt.Sprintf("%s/%d/%d", topic, first.Partition, first.Offset)}
	e.cause = errors.New(strings.TrimPrefix(first.Error, op+" "+e.object+": ")) // an agent says it itself
	if n := len(refused); n > 1 {
		e.hint = fmt.Sprintf("and %d more: -o json has them", n-1)
	}
	return e
}
