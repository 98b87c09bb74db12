package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

// The bounds of calls about dead letters.
const (
	countedMax      = 1_000               // topics of one call
	countBytes      = 256                 // of an answer
	deadLettersMax  = 1_000               // of one call, by name or by number
	deadLettersStep = pageSizeDefault + 1 // that the engine is asked for at once: a page, and one more to tell whether it is the last
)

// SendDeadLetter implements DeadLetterService.
func (e *edge) SendDeadLetter(ctx context.Context, r *v1.SendDeadLetterRequest) (*v1.SendDeadLetterResponse, error) {
	given, err := givenUpOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.mayConsume(ctx, given.Group, given.Topic, given.DeadLetters); err != nil {
		return nil, err
	}
	if err := e.engine.SendDeadLetter(ctx, given); err != nil {
		return nil, err
	}
	return &v1.SendDeadLetterResponse{}, nil
}

func givenUpOf(r *v1.SendDeadLetterRequest) (agent.GivenUp, error) {
	const op = "send dead letter"
	out := agent.GivenUp{Group: r.GetGroup(), Topic: r.GetTopic(), Partition: objectlog.Partition(r.GetPartition()), Offset: objectlog.Offset(r.GetOffset()),
		Committed: objectlog.Offset(r.GetCommitted()), Attempts: r.GetAttempts(), First: objectlog.NoTimestamp, Error: queues.CutError(r.GetError()), DeadLetters: r.GetDeadLetterTopic()}
	if err := checkQueue(op, out.Group, out.Topic); err != nil {
		return out, err
	}
	if err := checkPosition(op, "", r.Partition, r.Offset); err != nil {
		return out, err
	}
	if r.Committed == nil { // 0 is a position, which would keep what was sent from being forgotten
		return out, invalid(op, "committed", "required: -1 if the group has no position")
	}
	if out.Committed < objectlog.NoOffset {
		return out, invalid(op, "committed", "%d is neither an offset nor -1", out.Committed)
	}
	if out.Attempts < 1 {
		return out, invalid(op, "attempts", "%d: want at least 1", out.Attempts)
	}
	if r.GetFirstFailure() != nil {
		var err error
		if out.First, err = timestampOf(r.GetFirstFailure()); err != nil {
			return out, invalid(op, "first_failure", "%v", err)
		}
	}
	return out, checkDeadLetters(op, out.Topic, out.DeadLetters)
}

// checkPosition checks the place of a record; path is that of the message that has it, with a dot behind it.
func checkPosition(op, path string, partition *int32, offset *int64) error {
	switch {
	case partition == nil:
		return invalid(op, path+"partition", "required")
	case offset == nil:
		return invalid(op, path+"offset", "required")
	case *partition < 0 || *partition >= partitionsMax:
		return invalid(op, path+"partition", "%d is not in 0 to %d", *partition, partitionsMax-1)
	case *offset < 0:
		return invalid(op, path+"offset", "%d is negative", *offset)
	}
	return nil
}

// CountDeadLetters implements DeadLetterService.
func (e *edge) CountDeadLetters(ctx context.Context, r *v1.CountDeadLettersRequest) (*v1.CountDeadLettersResponse, error) {
	const op = "count dead letters"
	if n := len(r.GetTopics()); n > countedMax {
		return nil, invalid(op, "topics", "%d at once, at most %d", n, countedMax)
	}
	if len(r.GetTopics()) == 0 {
		if err := e.authorize(ctx, ActionDescribe, Resource{}); err != nil { // it tells which topics there are, as their list does
			return nil, err
		}
	}
	out := &v1.CountDeadLettersResponse{}
	var topics []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(r.GetTopics()))) {
		err := checkTopic(op, "topics", name)
		if err == nil {
			err = e.authorize(ctx, ActionDescribe, Resource{Topic: name})
		}
		if err != nil {
			out.Counts = append(out.Counts, &v1.CountDeadLettersResponse_Count{Topic: name, Error: e.detail(err)})
			continue
		}
		topics = append(topics, name)
	}
	if len(topics) == 0 && len(r.GetTopics()) > 0 {
		return out, nil
	}
	found, err := e.engine.CountDeadLetters(ctx, topics)
	if err != nil {
		return nil, err
	}
	if err := e.answering(ctx, int64(len(found))*countBytes); err != nil {
		return nil, err
	}
	for _, c := range found {
		count := &v1.CountDeadLettersResponse_Count{Topic: c.Topic, DeadLetters: c.Records, Redriving: c.Redriving}
		if c.Err != nil {
			count = &v1.CountDeadLettersResponse_Count{Topic: c.Topic, Error: e.detail(c.Err)}
		}
		out.Counts = append(out.Counts, count)
	}
	slices.SortStableFunc(out.Counts, func(a, b *v1.CountDeadLettersResponse_Count) int { return strings.Compare(a.Topic, b.Topic) })
	return out, nil
}

// ListDeadLetters implements DeadLetterService.
func (e *edge) ListDeadLetters(ctx context.Context, r *v1.ListDeadLettersRequest) (*v1.ListDeadLettersResponse, error) {
	const op = "list dead letters"
	if err := checkTopic(op, "topic", r.GetTopic()); err != nil {
		return nil, err
	}
	only, err := positionsOf(op, r.GetOnly())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(op, r.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := afterPlace(op, r.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := e.authorize(ctx, ActionRead, Resource{Topic: r.GetTopic()}); err != nil {
		return nil, err
	}
	claim := e.claimOf(ctx)
	claim.reading()
	if err := claim.take(ctx, answerCopies*moreBytes); err != nil {
		return nil, err
	}
	left := &budget{records: size, bytes: moreBytes, more: decodedBytesMax - moreBytes, claim: claim}
	out := &v1.ListDeadLettersResponse{}
	// The engine may answer fewer than it was asked for, as its own memory wants it: the end is where it answers none.
	for {
		found, err := e.engine.DeadLetters(ctx, r.GetTopic(), only, after, min(size+1-len(out.DeadLetters), deadLettersStep))
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			if len(out.DeadLetters) > 0 && left.spent() {
				out.NextPageToken = placeToken(after)
				break
			}
			out.DeadLetters = append(out.DeadLetters, deadLetterOf(l))
			left.records--
			left.pay(l.Record)
			after = l.PartitionOffset
		}
		if len(found) == 0 || out.NextPageToken != "" {
			e.answerWithin(ctx, claim)
			return out, nil
		}
	}
}

// deadLetterOf converts a dead letter. Its texts are those of headers, which anybody may have written.
func deadLetterOf(l agent.DeadLetter) *v1.DeadLetter {
	text := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	out := &v1.DeadLetter{
		Partition: new(int32(l.Partition)), Record: fetchedRecord(l.Offset, l.Record),
		Group: text(l.Group), Deliveries: l.Attempts, FirstFailure: protoTime(l.First), LastFailure: protoTime(l.Last),
		Reason: text(l.Reason), Error: text(l.Error), Redriving: l.Redriving,
	}
	if l.Source.Offset != objectlog.NoOffset {
		out.SourceTopic, out.SourcePartition, out.SourceOffset = text(l.Topic), new(int32(l.Source.Partition)), new(int64(l.Source.Offset))
	}
	return out
}

// positionsOf reads which dead letters are meant: a set.
func positionsOf(op string, list []*v1.DeadLetterPosition) ([]agent.PartitionOffset, error) {
	if n := len(list); n > deadLettersMax {
		return nil, invalid(op, "only", "%d at once, at most %d", n, deadLettersMax)
	}
	var out []agent.PartitionOffset
	for i, p := range list {
		if p == nil {
			p = &v1.DeadLetterPosition{}
		}
		if err := checkPosition(op, fmt.Sprintf("only[%d].", i), p.Partition, p.Offset); err != nil {
			return nil, err
		}
		out = append(out, agent.PartitionOffset{Partition: objectlog.Partition(*p.Partition), Offset: objectlog.Offset(*p.Offset)})
	}
	slices.SortFunc(out, func(a, b agent.PartitionOffset) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return slices.Compact(out), nil
}

// placeToken is the page token of what lies behind a dead letter.
func placeToken(p agent.PartitionOffset) string {
	return pageToken(strconv.FormatInt(int64(p.Partition), 10) + "/" + strconv.FormatInt(int64(p.Offset), 10))
}

// afterPlace reads a token; without one it is before all.
func afterPlace(op, token string) (agent.PartitionOffset, error) {
	place := agent.PartitionOffset{Offset: objectlog.NoOffset}
	_, err := afterToken(op, token, func(text string) error {
		before, behind, _ := strings.Cut(text, "/")
		partition, errPartition := strconv.ParseUint(before, 10, 31)
		offset, errOffset := strconv.ParseUint(behind, 10, 63)
		place = agent.PartitionOffset{Partition: objectlog.Partition(partition), Offset: objectlog.Offset(offset)}
		return errors.Join(errPartition, errOffset)
	})
	return place, err
}
