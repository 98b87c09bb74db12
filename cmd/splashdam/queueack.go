package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// ackOptions are the flags of queue ack.
type ackOptions struct {
	group  string
	given  [4]bool // by verdicts
	delay  time.Duration
	lock   time.Duration
	reason string
}

// verdicts are the flags of which one says what became of the records, and what is printed when it is said.
var verdicts = [4]struct{ flag, done, doc string }{
	{"accept", "accepted", "they are processed, and never come again"},
	{"release", "released", "they are not processed, and come again behind --delay"},
	{"reject", "rejected", "they can't be processed, and go to the dead-letter topic"},
	{"extend", "extended", "they are being processed: their locks end --lock-time from now"},
}

func newQueueAck(env *environment) *cobra.Command {
	var o ackOptions
	cmd := &cobra.Command{
		Use:   "ack TOPIC --group GROUP --accept|--release|--reject|--extend TOKEN...",
		Short: "Say what became of records that were pulled",
		Long: `Ack says what became of records, by the tokens that splashdam queue pull printed with them; - reads tokens from standard input, one a line.
A token counts once, and until the lock of its record ends. Each is judged by itself; when one is refused the exit code is 1.`,
		Example: `  splashdam queue ack jobs --group workers --accept AbcD...
  splashdam queue ack jobs --group workers --release --delay 1m --error "mail server is away" AbcD...
  splashdam queue pull jobs --group workers -n 100 -o json | jq -r .token | splashdam queue ack jobs --group workers --accept -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError("queue ack: %s is missing (see splashdam queue ack --help)", []string{"TOPIC", "TOKEN"}[len(args)])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd.Flags().Changed); err != nil {
				return err
			}
			tokens, err := env.readTokens(args[1:])
			if err != nil {
				return err
			}
			return env.ack(cmd.Context(), args[0], tokens, o)
		},
	}
	f := cmd.Flags()
	addGroupFlag(f, &o.group)
	for i, v := range verdicts {
		f.BoolVar(&o.given[i], v.flag, false, v.doc)
	}
	f.DurationVar(&o.delay, "delay", 0, "what released records wait before they come again, at most 12h")
	f.DurationVar(&o.lock, "lock-time", 30*time.Second, "how long extended locks last from now, 1s to 12h")
	f.StringVar(&o.reason, "error", "", "what went wrong, for the dead letter; with --release and --reject")
	return cmd
}

// check refuses what does not go together.
func (o ackOptions) check(given func(flag string) bool) error {
	n := 0
	for _, yes := range o.given {
		if yes {
			n++
		}
	}
	only := func(flag string, with ...int) error {
		if given(flag) && !slices.ContainsFunc(with, func(i int) bool { return o.given[i] }) {
			return usageError("queue ack: --%s: want --%s with it", flag, verdicts[with[0]].flag)
		}
		return nil
	}
	if o.group == "" {
		return usageError("queue ack: --group is missing")
	}
	if n != 1 {
		return usageError("queue ack: want one of --accept, --release, --reject and --extend")
	}
	return firstError(only("delay", 1), only("lock-time", 3), only("error", 1, 2))
}

// readTokens reads the tokens that the arguments are, or name; one that is there twice counts once.
func (env *environment) readTokens(args []string) (tokens [][]byte, err error) {
	words := args
	if slices.Equal(args, []string{"-"}) {
		lines := bufio.NewScanner(env.in)
		words = nil
		for lines.Scan() {
			if word := strings.TrimSpace(lines.Text()); word != "" {
				words = append(words, word)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, &terminalError{op: "read", object: "tokens", cause: err}
		}
	}
	seen := map[string]bool{}
	for _, word := range words {
		token, err := base64.StdEncoding.DecodeString(word)
		if err != nil {
			return nil, usageError("queue ack: %q is no token: want what splashdam queue pull printed", word)
		}
		if !seen[word] {
			seen[word] = true
			tokens = append(tokens, token)
		}
	}
	return tokens, nil
}

// ackView is what was said.
type ackView struct {
	Verdict string        `json:"verdict"`
	Records int           `json:"records"` // of which it counts
	Refused []refusedView `json:"refused"`
}

type refusedView struct {
	Token string `json:"token"`
	Error string `json:"error"`
}

// ackCalls is how many tokens are shown together: each by itself, so that it is known what became of it, while agents make one write of them.
const ackCalls = 32

func (env *environment) ack(ctx context.Context, topic string, tokens [][]byte, o ackOptions) error {
	verdict := slices.Index(o.given[:], true)
	return env.withQueue("queue ack", client.QueueConfig{Group: o.group, Topic: topic, LockTime: o.lock}, func(_ *client.Client, q *client.Queue) error {
		errs := make([]error, len(tokens))
		room := make(chan struct{}, ackCalls)
		var saying sync.WaitGroup
		for i, token := range tokens {
			room <- struct{}{}
			saying.Go(func() {
				errs[i] = o.say(ctx, q, verdict, q.Locked(token))
				<-room
			})
		}
		saying.Wait()
		return env.showAcks(verdict, tokens, errs)
	})
}

func (o ackOptions) say(ctx context.Context, q *client.Queue, verdict int, r *client.QueuedRecord) error {
	switch verdict {
	case 0:
		return q.Accept(ctx, r)
	case 1:
		return q.Release(ctx, o.delay, o.reason, r)
	case 2:
		return q.Reject(ctx, o.reason, r)
	default:
		return q.Extend(ctx, o.lock, r)
	}
}

func (env *environment) showAcks(verdict int, tokens [][]byte, errs []error) error {
	v := ackView{Verdict: verdicts[verdict].flag, Refused: []refusedView{}}
	var failed error
	for i, err := range errs {
		if err == nil {
			v.Records++
			continue
		}
		token, line := base64.StdEncoding.EncodeToString(tokens[i]), reasonOf(err)
		v.Refused = append(v.Refused, refusedView{token, line})
		if failed == nil || errors.Is(err, client.ErrUnknownOutcome) && !errors.Is(failed, client.ErrUnknownOutcome) {
			failed = err
		}
	}
	if v.Records > 0 || env.output == "json" {
		if err := env.print(&v, func() { fmt.Fprintf(env.out, "%s %s\n", verdicts[verdict].done, counted(int64(v.Records), "record")) }); err != nil {
			return err
		}
	}
	if failed == nil {
		return nil
	}
	e := &terminalError{op: v.Verdict, object: "token " + v.Refused[0].Token, cause: errors.New(v.Refused[0].Error)}
	if n := len(v.Refused); n > 1 {
		e.object, e.hint = fmt.Sprintf("%d of %d tokens", n, len(tokens)), "that is of the first; -o json has all"
	}
	if errors.Is(failed, client.ErrUnknownOutcome) {
		e.cause = fmt.Errorf("%w: %s", client.ErrUnknownOutcome, reasonOf(failed))
	}
	return e
}

// reasonOf is an error's line without the program's name, for a longer line.
func reasonOf(err error) string {
	line, _ := describe(err)
	return strings.TrimPrefix(line, "splashdam: ")
}
