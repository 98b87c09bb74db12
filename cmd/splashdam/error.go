package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
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

// errUnknownOutcome is the cause of exit code 3.
var errUnknownOutcome = errors.New("the outcome is unknown: it may or may not have happened")

// describe answers the one line that the terminal shows for err, and the exit code.
func describe(err error) (line string, code int) {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	line = "splashdam: " + text
	var u usage
	switch {
	case errors.As(err, &u), strings.HasPrefix(text, "unknown command"):
		return line, exitUsage
	case errors.Is(err, errUnknownOutcome):
		return line, exitUnknown
	case errors.Is(err, context.DeadlineExceeded):
		return line, exitFailed
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
