package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"connectrpc.com/connect"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Causes that a caller can act on. An *Error matches them with errors.Is.
var (
	// ErrUnknownTopic: there is no such topic or partition.
	ErrUnknownTopic = errors.New("unknown topic or partition")
	// ErrTopicExists: the name is taken.
	ErrTopicExists = errors.New("topic exists")
	// ErrOffsetMismatch: the log's next offset is not the expected one; Metadata["actual"] has it.
	ErrOffsetMismatch = errors.New("offset mismatch")
	// ErrOutOfRange: the offset is outside the log; Metadata has log_start and high_watermark.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrFenced: a newer epoch of the same producer has written.
	ErrFenced = errors.New("producer fenced")
	// ErrTooLarge: the record does not fit into the topic's max.message.bytes, or into the buffer.
	ErrTooLarge = errors.New("too large")
	// ErrStaleGeneration: the partition is not this member's any more; the position was not committed.
	ErrStaleGeneration = errors.New("stale generation")
	// ErrFencedInstance: another consumer with the same Instance took this one's place in the group.
	ErrFencedInstance = errors.New("instance fenced")
	// ErrNotLocked: the lock of a queue's record has ended, or the record was acknowledged before.
	ErrNotLocked = errors.New("not locked")
	// ErrUnknownOutcome: the change may or may not have been made, or may still be made.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// Error is what went wrong with one call, batch or partition.
type Error struct {
	Op         string // operation and object, e.g. "produce orders/3"
	Code       string // name of the Connect code, e.g. "not_found"
	Reason     string // upper-case cause, e.g. "UNKNOWN_TOPIC_OR_PARTITION"; empty when no agent gave one
	Message    string
	KafkaCode  int32
	Retriable  bool          // the same call can succeed later
	RetryAfter time.Duration // the agent's advice; 0: none
	Metadata   map[string]string

	definite bool // an agent said that nothing was done
	unknown  bool // matches ErrUnknownOutcome, and nothing else
	cause    error
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s: %s", e.Op, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Op, e.Reason, e.Message)
}

// Is matches the sentinels of this package. An unknown outcome matches only ErrUnknownOutcome: whatever was seen on the
// way to it is in the message, so that no caller takes it for a definite failure.
func (e *Error) Is(target error) bool {
	if e.unknown {
		return target == ErrUnknownOutcome
	}
	switch e.Reason {
	case "UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID":
		return target == ErrUnknownTopic
	case "TOPIC_ALREADY_EXISTS":
		return target == ErrTopicExists
	case "OFFSET_MISMATCH":
		return target == ErrOffsetMismatch
	case "OFFSET_OUT_OF_RANGE":
		return target == ErrOutOfRange
	case "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH":
		return target == ErrFenced
	case reasonStaleGeneration, reasonUnknownMember:
		return target == ErrStaleGeneration
	case reasonFencedInstance:
		return target == ErrFencedInstance
	case reasonNotLocked:
		return target == ErrNotLocked
	case "MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE":
		return target == ErrTooLarge
	}
	return false
}

// Unwrap gives the error of the connection or context, where there is one.
func (e *Error) Unwrap() error { return e.cause }

// errorOf makes an Error of what a call returned. Only an ErrorDetail shows that an agent spoke: the same codes also
// come from load balancers and from this side of the connection, where they decide nothing.
func errorOf(op string, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return &Error{Op: op, Code: "unavailable", Message: err.Error(), Retriable: true, cause: err}
	}
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		if detail, ok := v.(*splashdamv1.ErrorDetail); ok {
			return errorOfDetail(op, detail)
		}
	}
	e := &Error{Op: op, Code: ce.Code().String(), Message: ce.Message(), KafkaCode: -1, cause: err}
	switch ce.Code() {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeAborted,
		connect.CodeDeadlineExceeded, connect.CodeResourceExhausted, connect.CodeCanceled:
		e.Retriable = true
	}
	return e
}

// errorOfDetail makes an Error of an agent's word.
func errorOfDetail(op string, d *splashdamv1.ErrorDetail) *Error {
	e := &Error{
		Op: op, Code: d.GetCode(), Reason: d.GetReason(), Message: d.GetMessage(), KafkaCode: d.GetKafkaCode(),
		Retriable: d.GetRetriable(), RetryAfter: d.GetRetryAfter().AsDuration(), Metadata: maps.Clone(d.GetMetadata()),
	}
	e.definite = definiteCode(d)
	return e
}

// definiteCode says whether the detail tells that nothing was done. Codes that are not listed tell nothing.
func definiteCode(d *splashdamv1.ErrorDetail) bool {
	if d.GetKafkaCode() == kafkaTimedOut || d.GetReason() == reasonTimedOut {
		return false
	}
	switch d.GetCode() {
	case "invalid_argument", "not_found", "already_exists", "out_of_range", "aborted", "failed_precondition",
		"resource_exhausted", "unavailable", "unauthenticated", "permission_denied", "unimplemented":
		return true
	}
	return false
}

const (
	kafkaTimedOut  = 7
	reasonTimedOut = "REQUEST_TIMED_OUT"
	reasonDraining = "DRAINING" // the agent is about to stop, and did nothing

	reasonStaleGeneration = "ILLEGAL_GENERATION"
	reasonUnknownMember   = "UNKNOWN_MEMBER_ID"
	reasonFencedInstance  = "FENCED_INSTANCE_ID"
	reasonNotLocked       = "INVALID_RECORD_STATE"

	codeUnavailable = "unavailable" // said by an agent: it, or what it needs, is not there at the moment
)

// heed answers e, and leaves an agent that says that it is about to stop, or that it can't serve.
func (c *Client) heed(e *Error) *Error {
	switch {
	case e.Reason == reasonDraining:
		c.transport.moveOn()
	case e.definite && e.Code == codeUnavailable:
		c.transport.avoid()
	}
	return e
}

// unknownOutcome reports that op may or may not have happened; last is what the last attempt met.
func unknownOutcome(op string, last *Error) *Error {
	e := &Error{
		Op: op, Code: "deadline_exceeded", Reason: reasonTimedOut, KafkaCode: kafkaTimedOut, unknown: true,
		Message: "outcome unknown, it may or may not have been done",
	}
	if last != nil {
		e.Message += "; last attempt: " + last.Error()
		e.Metadata = last.Metadata
	}
	return e
}

// notSent reports that op was given up before anything reached an agent, or after agents had refused every attempt.
func notSent(op string, last *Error) *Error {
	e := &Error{Op: op, Code: "unavailable", Reason: "DELIVERY_TIMEOUT", KafkaCode: -1, Retriable: true, definite: true,
		Message: "not written within the delivery timeout"}
	if last != nil {
		e.Message += "; last attempt: " + last.Error()
	}
	return e
}

// closedOr tells a caller whose ctx ended, or whose producer or consumer was closed, which of the two it was.
func closedOr(ctx context.Context, op string, last error) error {
	err := ctx.Err()
	if err == nil {
		err = ErrClosed
	}
	if last != nil {
		return fmt.Errorf("%s: %w (%v)", op, err, last)
	}
	return fmt.Errorf("%s: %w", op, err)
}
