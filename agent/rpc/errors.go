package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

// noKafkaCode stands where Kafka has no code for a cause.
const noKafkaCode = -1

// row maps one cause to what clients see.
type row struct {
	cause     error
	code      connect.Code
	reason    string
	kafka     int32
	retriable bool
}

// What only this edge tells from other bad requests.
var (
	errGroup        = errors.New("invalid group id")
	errPattern      = errors.New("invalid pattern")
	errPositionText = errors.New("metadata of an offset too large")
)

// causes is the one table from errors to codes. The first row that the error matches counts: what the agent itself
// found comes before what it may wrap. The agent answers errors of shard logs as faults of its own.
var causes = []row{
	// Before all others: what may be written is never reported as a definite failure.
	{agent.OutcomeUnknown, connect.CodeDeadlineExceeded, "REQUEST_TIMED_OUT", 7, true},

	{agent.Busy, connect.CodeResourceExhausted, "THROTTLING_QUOTA_EXCEEDED", 89, true},
	{agent.Draining, connect.CodeUnavailable, "DRAINING", 15, true},
	{agent.Unavailable, connect.CodeUnavailable, "NOT_ENOUGH_REPLICAS", 19, true},
	{agent.OutOfRange, connect.CodeOutOfRange, "OFFSET_OUT_OF_RANGE", 1, false},
	{agent.InvalidTopic, connect.CodeInvalidArgument, "INVALID_TOPIC_EXCEPTION", 17, false},
	{agent.InvalidSetting, connect.CodeInvalidArgument, "INVALID_CONFIG", 40, false},
	{agent.InvalidRequest, connect.CodeInvalidArgument, "INVALID_REQUEST", 42, false},
	{agent.DataLost, connect.CodeDataLoss, "KAFKA_STORAGE_ERROR", 56, false},

	{metadata.ReasonUnknownTopic, connect.CodeNotFound, "UNKNOWN_TOPIC_OR_PARTITION", 3, false},
	{metadata.ReasonTopicExists, connect.CodeAlreadyExists, "TOPIC_ALREADY_EXISTS", 36, false},
	{metadata.ReasonOffsetMismatch, connect.CodeAborted, "OFFSET_MISMATCH", noKafkaCode, false},
	{metadata.ReasonSequenceGap, connect.CodeFailedPrecondition, "OUT_OF_ORDER_SEQUENCE_NUMBER", 45, false},
	{metadata.ReasonFencedProducer, connect.CodeFailedPrecondition, "PRODUCER_FENCED", 90, false},
	{metadata.ReasonProducerLimit, connect.CodeResourceExhausted, "PRODUCER_LIMIT", noKafkaCode, true},
	{metadata.ReasonTopicChanged, connect.CodeAborted, "TOPIC_CHANGED", noKafkaCode, false},
	{metadata.ReasonInvalid, connect.CodeInvalidArgument, "INVALID_REQUEST", 42, false},
	// The batch is in the log, at an offset that is no longer remembered: Kafka's clients take it as success.
	{metadata.ReasonOldSequence, connect.CodeAlreadyExists, "DUPLICATE_SEQUENCE_NUMBER", 46, false},

	{groups.ReasonUnknownGroup, connect.CodeNotFound, "GROUP_ID_NOT_FOUND", 69, false},
	{groups.ReasonUnknownMember, connect.CodeFailedPrecondition, "UNKNOWN_MEMBER_ID", 25, false},
	{groups.ReasonFencedInstance, connect.CodeFailedPrecondition, "FENCED_INSTANCE_ID", 82, false},
	{groups.ReasonStaleGeneration, connect.CodeFailedPrecondition, "ILLEGAL_GENERATION", 22, false},
	{groups.ReasonNotEmpty, connect.CodeFailedPrecondition, "NON_EMPTY_GROUP", 68, false},
	{groups.ReasonFull, connect.CodeResourceExhausted, "GROUP_MAX_SIZE_REACHED", 81, true},
	{groups.ReasonStaleVersion, connect.CodeAborted, "GROUP_CHANGED", noKafkaCode, true},
	{errGroup, connect.CodeInvalidArgument, "INVALID_GROUP_ID", 24, false},
	{errPattern, connect.CodeInvalidArgument, "INVALID_REGULAR_EXPRESSION", 128, false},
	{errPositionText, connect.CodeInvalidArgument, "OFFSET_METADATA_TOO_LARGE", 12, false},

	// Kafka's code of an acknowledgement that comes too late or twice (KIP-932).
	{queues.ReasonNotLocked, connect.CodeFailedPrecondition, "INVALID_RECORD_STATE", 121, false},
	{queues.ReasonFull, connect.CodeResourceExhausted, "THROTTLING_QUOTA_EXCEEDED", 89, true},
	// What Kafka tells a member whose protocol type is not the group's: the id is a good one, which 24 would deny, and the group is there, which
	// 69 would deny and a client might answer by making it.
	{queues.ReasonOtherMode, connect.CodeFailedPrecondition, "INCONSISTENT_GROUP_PROTOCOL", 23, false},
	{queues.ReasonNoProducer, connect.CodeAborted, "QUEUE_CHANGED", noKafkaCode, true}, // nothing was done, and a repeat finds a producer
	{queues.ReasonNotThere, connect.CodeNotFound, "DEAD_LETTER_NOT_FOUND", noKafkaCode, false},

	{objectlog.ErrCorrupt, connect.CodeInvalidArgument, "CORRUPT_MESSAGE", 2, false},
	{objectlog.ErrInvalid, connect.CodeInvalidArgument, "INVALID_RECORD", 87, false},
	{objectlog.ErrTooLarge, connect.CodeInvalidArgument, "MESSAGE_TOO_LARGE", 10, false},
	{objectlog.ErrVersion, connect.CodeInvalidArgument, "UNSUPPORTED_FOR_MESSAGE_FORMAT", 43, false},
	{objectlog.ErrNotFound, connect.CodeDataLoss, "KAFKA_STORAGE_ERROR", 56, false},
	{objectlog.ErrRange, connect.CodeDataLoss, "KAFKA_STORAGE_ERROR", 56, false},
	{objectlog.ErrExists, connect.CodeDataLoss, "KAFKA_STORAGE_ERROR", 56, false},

	{ErrUnauthenticated, connect.CodeUnauthenticated, "SASL_AUTHENTICATION_FAILED", 58, false},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "REQUEST_TIMED_OUT", 7, true},
	{context.Canceled, connect.CodeCanceled, "CANCELED", noKafkaCode, true},
}

// classify finds the error's row; false when nobody foresaw it.
func classify(err error) (row, bool) {
	for _, r := range causes {
		if errors.Is(err, r.cause) {
			return r, true
		}
	}
	if d, ok := errors.AsType[denied](err); ok {
		switch {
		case d.resource.Topic != "":
			return row{d, connect.CodePermissionDenied, "TOPIC_AUTHORIZATION_FAILED", 29, false}, true
		case d.resource.Group != "":
			return row{d, connect.CodePermissionDenied, "GROUP_AUTHORIZATION_FAILED", 30, false}, true
		}
		return row{d, connect.CodePermissionDenied, "CLUSTER_AUTHORIZATION_FAILED", 31, false}, true
	}
	return row{err, connect.CodeInternal, "UNKNOWN_SERVER_ERROR", noKafkaCode, false}, false
}

// detail is what a client is shown of err. An unforeseen error is logged, and shown as a number to find it by.
func (e *edge) detail(err error) *v1.ErrorDetail {
	r, known := classify(err)
	d := &v1.ErrorDetail{Code: r.code.String(), Reason: r.reason, KafkaCode: r.kafka, Retriable: r.retriable}
	if !known {
		id := fmt.Sprintf("%016x", rand.Uint64())
		e.cfg.Logger.Error("internal error", "id", id, "err", err)
		d.Message = "internal error " + id + ": the agent's log has the cause"
		return d
	}
	d.Message = strings.ToValidUTF8(err.Error(), "\uFFFD")
	if full, ok := errors.AsType[*agent.Error](err); ok {
		if full.Hint != "" && !strings.Contains(d.Message, full.Hint) {
			d.Message += "; " + full.Hint
		}
		d.Metadata = maps.Clone(full.Details)
		if full.RetryAfter > 0 {
			d.RetryAfter = durationpb.New(full.RetryAfter)
		}
	}
	if d.RetryAfter == nil && r.code == connect.CodeResourceExhausted {
		d.RetryAfter = durationpb.New(time.Second)
	}
	return d
}

// fail makes a whole request's error, with its detail. Errors that connect made itself stay as they are.
func (e *edge) fail(err error) error {
	if _, ok := errors.AsType[*connect.Error](err); ok {
		return err
	}
	return detailed(e.detail(err))
}

// detailed is the Connect error that carries d.
func detailed(d *v1.ErrorDetail) *connect.Error {
	var code connect.Code
	if err := code.UnmarshalText([]byte(d.Code)); err != nil {
		code = connect.CodeInternal
	}
	failure := connect.NewError(code, errors.New(d.Message))
	if packed, err := connect.NewErrorDetail(d); err == nil {
		failure.AddDetail(packed)
	}
	return failure
}

// invalid is a request that breaks a rule of the contract. field is its path in the request.
func invalid(op, field, format string, args ...any) error {
	return refused(agent.InvalidRequest, op, field, format, args...)
}

// refused is invalid with a cause of its own.
func refused(cause error, op, field, format string, args ...any) error {
	return refusal{fmt.Sprintf("%s: %s: %s", op, field, fmt.Sprintf(format, args...)), cause}
}

// refusal is an error with words of its own whose cause is one of the table.
type refusal struct {
	message string
	cause   error
}

func (r refusal) Error() string { return r.message }

func (r refusal) Unwrap() error { return r.cause }
