package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

// RedriveDeadLetters implements DeadLetterService.
func (e *edge) RedriveDeadLetters(ctx context.Context, r *v1.RedriveDeadLettersRequest) (*v1.RedriveDeadLettersResponse, error) {
	redrive, err := redriveOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionRead, Resource{Topic: redrive.Topic}); err != nil {
		return nil, err
	}
	// Without a topic they go where their headers say, and whoever wrote those may not choose what the caller writes to.
	if err := e.authorize(ctx, ActionWrite, Resource{Topic: redrive.To}); err != nil {
		return nil, err
	}
	// Before anything is begun, as for acknowledgements.
	if err := e.claimOf(ctx).take(ctx, deadLettersMax*refusedBytes); err != nil {
		return nil, err
	}
	done, err := e.engine.RedriveDeadLetters(ctx, redrive)
	if err != nil {
		return nil, err
	}
	out := &v1.RedriveDeadLettersResponse{Redriven: done.Arrived, Redriving: done.Redriving, Remaining: done.Remaining}
	for _, l := range done.Refused {
		out.Refused = append(out.Refused, &v1.RedriveDeadLettersResponse_Refused{Position: positionMessage(l.PartitionOffset), Error: e.detail(l.Err)})
	}
	return out, nil
}

func redriveOf(r *v1.RedriveDeadLettersRequest) (agent.Redrive, error) {
	const op = "redrive dead letters"
	out := agent.Redrive{Topic: r.GetTopic(), To: r.GetToTopic(), RecordsMax: int(r.GetMaxRecords())}
	if err := checkTopic(op, "topic", out.Topic); err != nil {
		return out, err
	}
	var err error
	if out.Only, err = positionsOf(op, r.GetOnly()); err != nil {
		return out, err
	}
	switch {
	case out.To == out.Topic:
		return out, refused(agent.InvalidTopic, op, "to_topic", "%s is the topic that they are in", out.To)
	case out.To != "":
		if err := checkTopic(op, "to_topic", out.To); err != nil {
			return out, err
		}
	}
	if r.GetEditedValue() != nil {
		if len(out.Only) != 1 {
			return out, invalid(op, "edited_value", "only must name one dead letter, and names %d", len(out.Only))
		}
		if out.Edited, err = payloadBytes(r.GetEditedValue()); err != nil {
			return out, invalid(op, "edited_value", "%v", err)
		}
		if n := len(out.Edited); n > queues.EditedBytesMax {
			return out, refused(objectlog.ErrTooLarge, op, "edited_value", "%d bytes, at most %d", n, queues.EditedBytesMax)
		}
		out.HasEdited = true
	}
	if out.FailedBefore, err = failedBefore(op, r.GetFailedBefore()); err != nil {
		return out, err
	}
	return out, checkDeadLettersMax(op, r.GetMaxRecords())
}

// DiscardDeadLetters implements DeadLetterService.
func (e *edge) DiscardDeadLetters(ctx context.Context, r *v1.DiscardDeadLettersRequest) (*v1.DiscardDeadLettersResponse, error) {
	discard, err := discardOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionDelete, Resource{Topic: discard.Topic}); err != nil {
		return nil, err
	}
	if err := e.claimOf(ctx).take(ctx, deadLettersMax*partitionBytes); err != nil {
		return nil, err
	}
	done, err := e.engine.DiscardDeadLetters(ctx, discard)
	if err != nil {
		return nil, err
	}
	out := &v1.DiscardDeadLettersResponse{Discarded: done.Records, Remaining: done.Remaining}
	for _, p := range done.Refused {
		out.Refused = append(out.Refused, positionMessage(p))
	}
	return out, nil
}

func discardOf(r *v1.DiscardDeadLettersRequest) (agent.Discard, error) {
	const op = "discard dead letters"
	out := agent.Discard{Topic: r.GetTopic(), RecordsMax: int(r.GetMaxRecords())}
	if err := checkTopic(op, "topic", out.Topic); err != nil {
		return out, err
	}
	var err error
	if out.Only, err = positionsOf(op, r.GetOnly()); err != nil {
		return out, err
	}
	if out.FailedBefore, err = failedBefore(op, r.GetFailedBefore()); err != nil {
		return out, err
	}
	if len(out.Only) == 0 && out.FailedBefore == objectlog.NoTimestamp { // all of them is too easily said by saying nothing
		return out, invalid(op, "failed_before", "required where only names none")
	}
	return out, checkDeadLettersMax(op, r.GetMaxRecords())
}

func checkDeadLettersMax(op string, asked int32) error {
	if asked < 0 || asked > deadLettersMax {
		return invalid(op, "max_records", "%d is not in 0 to %d", asked, deadLettersMax)
	}
	return nil
}

// failedBefore reads a time; NoTimestamp: none is given.
func failedBefore(op string, t *timestamppb.Timestamp) (objectlog.Timestamp, error) {
	if t == nil {
		return objectlog.NoTimestamp, nil
	}
	at, err := timestampOf(t)
	if err != nil {
		return at, invalid(op, "failed_before", "%v", err)
	}
	return at, nil
}

func positionMessage(p agent.PartitionOffset) *v1.DeadLetterPosition {
	return &v1.DeadLetterPosition{Partition: new(int32(p.Partition)), Offset: new(int64(p.Offset))}
}
