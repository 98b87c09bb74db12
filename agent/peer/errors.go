package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// known is one error that callers can act on, and how it crosses.
type known struct {
	cause uint32 // never reused
	code  connect.Code
	err   error
}

// causes is the table of errors, both ways. What matches several is the first of them: nothing is less than unknown.
func causes() []known {
	return []known{
		{1, connect.CodeDeadlineExceeded, shardlog.ErrUnknown},
		{2, connect.CodeFailedPrecondition, shardlog.ErrNotLeader},
		{3, connect.CodeDataLoss, shardlog.ErrHalted},
		{4, connect.CodeFailedPrecondition, agent.ErrStranger},
		{14, connect.CodeInvalidArgument, agent.InvalidRequest}, // whatever was met underneath
		{5, connect.CodeInvalidArgument, objectlog.ErrTooLarge},
		{6, connect.CodeFailedPrecondition, objectlog.ErrVersion},
		{7, connect.CodeDataLoss, objectlog.ErrCorrupt},
		{8, connect.CodeInvalidArgument, objectlog.ErrInvalid},
		{9, connect.CodeNotFound, objectlog.ErrNotFound},
		{10, connect.CodeOutOfRange, objectlog.ErrRange},
		{11, connect.CodeFailedPrecondition, groups.ReasonUnknownMember},
		{12, connect.CodeFailedPrecondition, groups.ReasonFencedInstance},
		{13, connect.CodeResourceExhausted, groups.ReasonFull},
	}
}

// refusal is an error on its way to another agent.
func refusal(err error) (*peerv1.Refusal, connect.Code) {
	r := &peerv1.Refusal{Message: words(err.Error())}
	for _, k := range causes() {
		if errors.Is(err, k.err) {
			r.Cause = k.cause
			return r, k.code
		}
	}
	return r, connect.CodeInternal
}

// words are a text that protobuf takes.
func words(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// toWire is the error of a whole call; nil stays nil.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	r, code := refusal(err)
	return withDetail(code, r)
}

// refused is a call that is not meant for this agent.
func refused(code connect.Code, err error) error {
	r, _ := refusal(stranger{err})
	return withDetail(code, r)
}

func withDetail(code connect.Code, r *peerv1.Refusal) error {
	e := connect.NewError(code, errors.New(r.GetMessage()))
	if detail, err := connect.NewErrorDetail(r); err == nil { // a Refusal always encodes
		e.AddDetail(detail)
	}
	return e
}

// remote is an error of another agent: its words, and the known error that it is, if any.
type remote struct {
	text string
	is   error
}

func (e *remote) Error() string { return e.text }
func (e *remote) Unwrap() error { return e.is }

// ofRefusal is what refusal sent.
func ofRefusal(r *peerv1.Refusal) error {
	e := &remote{text: r.GetMessage()}
	const textBytesMax = 4 << 10
	if len(e.text) > textBytesMax {
		e.text = e.text[:textBytesMax] + "..."
	}
	for _, k := range causes() {
		if k.cause == r.GetCause() {
			e.is = k.err
		}
	}
	if e.text == "" {
		e.text = "an error without words"
	}
	return e
}

// ofCall is what a failed call came to: the error that the other agent answered, ErrRefused, or what was met instead.
func ofCall(err error) error {
	failed := (*connect.Error)(nil)
	if !errors.As(err, &failed) {
		return met(err)
	}
	if !connect.IsWireError(err) {
		return met(failed.Unwrap())
	}
	for _, detail := range failed.Details() {
		if message, err := detail.Value(); err == nil {
			if r, ok := message.(*peerv1.Refusal); ok {
				return ofRefusal(r)
			}
		}
	}
	return ofRefusal(&peerv1.Refusal{Message: failed.Error()})
}

// met words what a call met instead of an agent's answer. Texts are net/http's, which has no types for these; they choose words only.
func met(err error) error {
	dial := (*net.OpError)(nil)
	plain := tls.RecordHeaderError{}
	switch {
	case errors.As(err, &dial) && dial.Op == "dial" && errors.Is(dial, syscall.ECONNREFUSED):
		return agent.ErrRefused
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", err)
	case errors.As(err, &plain):
		return fmt.Errorf("found no TLS: %w", err)
	case strings.Contains(err.Error(), "looked like an HTTP/1.1 header"):
		return fmt.Errorf("found an HTTP/1.1 server, not a Splashdam agent: %w", err)
	case strings.Contains(err.Error(), "frame too large"):
		return fmt.Errorf("found no HTTP/2, not a Splashdam agent: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(err.Error(), "conn could not be established"):
		return fmt.Errorf("the connection broke before an answer: the agent stopped, or something else is there (HTTP/1.1, or TLS on one side only): %w", err)
	}
	return err
}
