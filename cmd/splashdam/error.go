package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// terminalError is an error as the terminal shows it: operation, object, cause, and what to do about it.
type terminalError struct {
	op, object string
	cause      error
	hint       string // may be empty
}

func (e *terminalError) Error() string {
	var b strings.Builder
	b.WriteString(e.op)
	if e.object != "" {
		b.WriteString(" " + e.object)
	}
	b.WriteString(": " + e.cause.Error())
	if e.hint != "" {
		b.WriteString(" (" + e.hint + ")")
	}
	return b.String()
}

func (e *terminalError) Unwrap() error { return e.cause }

// usage marks what the caller typed wrong.
type usage struct{ error }

func (u usage) Unwrap() error { return u.error }

func usageError(format string, args ...any) error {
	return usage{fmt.Errorf(format, args...)}
}

// describe answers the one line that the terminal shows for err, and the exit code.
func describe(err error) (line string, code int) {
	text := err.Error()
	var (
		u      usage
		agents *client.Error
	)
	if errors.As(err, &agents) && agents.Reason != "" && !errors.Is(err, client.ErrUnknownOutcome) {
		text = agents.Message // an agent's own words are complete: operation, object, cause, what to do
		if !strings.Contains(text, ": ") {
			text = agents.Op + ": " + text // the client's own are the cause alone
		}
	}
	line = "splashdam: " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	switch {
	case errors.As(err, &u), strings.HasPrefix(text, "unknown command"):
		return line, exitUsage
	case errors.Is(err, client.ErrUnknownOutcome):
		return line, exitUnknown
	}
	return line, exitFailed
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s: unexpected argument %q (see %s --help)", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// oneArgument wants exactly one argument, called name in the message.
func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usageError("%s: %s is missing (see %s --help)", cmd.CommandPath(), name, cmd.CommandPath())
		case len(args) > 1:
			return usageError("%s: unexpected argument %q (want one %s)", cmd.CommandPath(), args[1], name)
		}
		return nil
	}
}
