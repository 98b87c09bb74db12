package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// DeadLetterCount is how many dead letters a topic has.
type DeadLetterCount struct {
	Topic       string
	DeadLetters int64
	Redriving   int64 // of them on their way to another topic
	Err         error // set where they could not be counted
}

// DeadLetterCounts counts the dead letters of topics; without topics, of all that were made for dead letters. The answer is current.
func (c *Client) DeadLetterCounts(ctx context.Context, topics ...string) ([]DeadLetterCount, error) {
	res, err := read(ctx, c, "count dead letters", c.deadLetters.CountDeadLetters, &splashdamv1.CountDeadLettersRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	counts := make([]DeadLetterCount, 0, len(res.GetCounts()))
	for _, m := range res.GetCounts() {
		n := DeadLetterCount{Topic: m.GetTopic(), DeadLetters: m.GetDeadLetters(), Redriving: m.GetRedriving()}
		if d := m.GetError(); d != nil {
			n.Err = errorOfDetail("count dead letters of "+n.Topic, d)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// DeadLetterPosition is where a dead letter is in its dead-letter topic.
type DeadLetterPosition struct {
	Partition Partition
	Offset    Offset
}

func (p DeadLetterPosition) message() *splashdamv1.DeadLetterPosition {
	return &splashdamv1.DeadLetterPosition{Partition: new(int32(p.Partition)), Offset: new(int64(p.Offset))}
}

func deadLetterPositionOf(m *splashdamv1.DeadLetterPosition) DeadLetterPosition {
	return DeadLetterPosition{Partition(m.GetPartition()), Offset(m.GetOffset())}
}

func listDeadLetterPositions(list []DeadLetterPosition) []*splashdamv1.DeadLetterPosition {
	var all []*splashdamv1.DeadLetterPosition
	for _, p := range list {
		all = append(all, p.message())
	}
	return all
}

// DeadLetter is a record of a dead-letter topic that was neither redriven nor discarded. Its Record is as it is there, with the headers that say
// where it was and what went wrong; the fields say the same.
type DeadLetter struct {
	Record
	SourceTopic     string    // empty where the record does not say where it was
	SourcePartition Partition // AnyPartition then
	SourceOffset    Offset    // NoOffset then
	Group           string    // whose consumers failed
	Deliveries      int32     // how often
	FirstFailure    time.Time
	LastFailure     time.Time
	Reason          string // expired, released, rejected or given-up
	Error           string // what the consumer said at last
	Redriving       bool   // on its way to another topic
}

// DeadLetterQuery says which dead letters to list.
type DeadLetterQuery struct {
	Topic     string
	Only      []DeadLetterPosition // at most 1,000; empty: all
	Limit     int                  // of one page; default 100, at most 1,000
	PageToken string               // of the page before; empty: the first
}

// DeadLetterPage is a part of a list.
type DeadLetterPage struct {
	DeadLetters   []DeadLetter
	NextPageToken string // empty: there are no more
}

// DeadLetters lists the dead letters of a topic by partition and offset. The answer is current.
func (c *Client) DeadLetters(ctx context.Context, query DeadLetterQuery) (DeadLetterPage, error) {
	res, err := read(ctx, c, "list dead letters of "+query.Topic, c.deadLetters.ListDeadLetters, &splashdamv1.ListDeadLettersRequest{
		Topic: query.Topic, Only: listDeadLetterPositions(query.Only), PageSize: int32(query.Limit), PageToken: query.PageToken,
	})
	if err != nil {
		return DeadLetterPage{}, err
	}
	page := DeadLetterPage{NextPageToken: res.GetNextPageToken()}
	for _, m := range res.GetDeadLetters() {
		d := DeadLetter{
			SourceTopic: m.GetSourceTopic(), SourcePartition: AnyPartition, SourceOffset: NoOffset, Group: m.GetGroup(), Deliveries: m.GetDeliveries(),
			FirstFailure: timeOf(m.GetFirstFailure()), LastFailure: timeOf(m.GetLastFailure()), Reason: m.GetReason(), Error: m.GetError(),
			Redriving: m.GetRedriving(),
		}
		if m.SourcePartition != nil {
			d.SourcePartition = Partition(m.GetSourcePartition())
		}
		if m.SourceOffset != nil {
			d.SourceOffset = Offset(m.GetSourceOffset())
		}
		if d.Record, err = recordOf(query.Topic, Partition(m.GetPartition()), m.GetRecord()); err != nil {
			return DeadLetterPage{}, err
		}
		page.DeadLetters = append(page.DeadLetters, d)
	}
	return page, nil
}

// RedriveRequest says which dead letters become records again, and where.
type RedriveRequest struct {
	Topic        string
	Only         []DeadLetterPosition // at most 1,000; empty: all, in the order of the log, MaxRecords with one call
	ToTopic      string               // by key; empty: each to the topic and partition that it comes from
	EditedValue  []byte               // in place of the value, if Edited: at most 64 KiB, nil is an empty one; Only must name one dead letter
	Edited       bool
	FailedBefore time.Time // those that failed for the last time at or before this; zero: whenever
	MaxRecords   int       // default 100, at most 1,000
}

// Redriven is what became of a RedriveRequest.
type Redriven struct {
	Redriven  int64 // that have arrived
	Redriving int64 // that are still on their way; they arrive without further calls
	Remaining int64 // that are left for further calls
	Refused   []RefusedDeadLetter
}

// redriveWait is how long an agent waits for records to arrive, by the contract.
const redriveWait = 10 * time.Second

// RefusedDeadLetter is one that could not be redriven.
type RefusedDeadLetter struct {
	DeadLetterPosition
	Err error
}

// Redrive sends dead letters to a topic as records again, each once, and waits up to 10 s for them to arrive. It is repeated while that can help: what was
// begun is finished in any case and not begun again; but the answer of a repeat counts only what it met itself, so that its Redriven may be too low.
func (c *Client) Redrive(ctx context.Context, r RedriveRequest) (Redriven, error) {
	req := &splashdamv1.RedriveDeadLettersRequest{
		Topic: r.Topic, Only: listDeadLetterPositions(r.Only), ToTopic: r.ToTopic, FailedBefore: timestampOf(r.FailedBefore), MaxRecords: int32(r.MaxRecords),
	}
	if r.Edited {
		req.EditedValue = &splashdamv1.Payload{Kind: &splashdamv1.Payload_Data{Data: r.EditedValue}}
	}
	res, err := repeat(ctx, c, c.cfg.RequestTimeout+redriveWait, "redrive dead letters of "+r.Topic, c.deadLetters.RedriveDeadLetters, req)
	if err != nil {
		return Redriven{}, err
	}
	done := Redriven{Redriven: res.GetRedriven(), Redriving: res.GetRedriving(), Remaining: res.GetRemaining()}
	for _, m := range res.GetRefused() {
		p := deadLetterPositionOf(m.GetPosition())
		op := fmt.Sprintf("redrive dead letter %s/%d at %d", r.Topic, p.Partition, p.Offset)
		done.Refused = append(done.Refused, RefusedDeadLetter{p, errorOfDetail(op, m.GetError())})
	}
	return done, nil
}

// DiscardRequest says which dead letters are to count no more.
type DiscardRequest struct {
	Topic        string
	Only         []DeadLetterPosition // at most 1,000; empty: all of FailedBefore
	FailedBefore time.Time            // those that failed for the last time at or before this; required without Only
	MaxRecords   int                  // default 1,000, at most 1,000
}

// Discarded is what became of a DiscardRequest.
type Discarded struct {
	Discarded int64
	Remaining int64                // that are left for further calls
	Refused   []DeadLetterPosition // that are no dead letters any more
}

// Discard makes dead letters count no more. They stay in the topic's log as long as its retention keeps them. It is not repeated behind an unknown
// outcome, whose repeat would refuse, or not count, what was done; a caller may do so.
func (c *Client) Discard(ctx context.Context, r DiscardRequest) (Discarded, error) {
	res, err := change(ctx, c, "discard dead letters of "+r.Topic, c.deadLetters.DiscardDeadLetters, &splashdamv1.DiscardDeadLettersRequest{
		Topic: r.Topic, Only: listDeadLetterPositions(r.Only), FailedBefore: timestampOf(r.FailedBefore), MaxRecords: int32(r.MaxRecords),
	})
	if err != nil {
		return Discarded{}, err
	}
	done := Discarded{Discarded: res.GetDiscarded(), Remaining: res.GetRemaining()}
	for _, m := range res.GetRefused() {
		done.Refused = append(done.Refused, deadLetterPositionOf(m))
	}
	return done, nil
}

// GivenUp is a record of a topic that a group reads in order, and on which it has failed for good.
type GivenUp struct {
	Group           string
	Topic           string
	Partition       Partition
	Offset          Offset
	Committed       Offset // the group's committed position in the partition; NoOffset: it has none
	Attempts        int    // how often it was tried, at least 1
	FirstFailure    time.Time
	Error           string // at most 256 bytes are kept
	DeadLetterTopic string // default Topic with "-dlq" behind it
}

// SendDeadLetter makes a record a dead letter. When it returns nil, that will happen once, whatever becomes of the caller, and the group's position may
// move past the record. It is repeated while that can help: a repeat does nothing.
func (c *Client) SendDeadLetter(ctx context.Context, g GivenUp) error {
	_, err := repeat(ctx, c, c.cfg.RequestTimeout, g.op(), c.deadLetters.SendDeadLetter, g.message())
	return err
}

func (g GivenUp) op() string {
	return fmt.Sprintf("send %s/%d at %d of group %s to its dead letters", g.Topic, g.Partition, g.Offset, g.Group)
}

func (g GivenUp) message() *splashdamv1.SendDeadLetterRequest {
	return &splashdamv1.SendDeadLetterRequest{
		Group: g.Group, Topic: g.Topic, Partition: new(int32(g.Partition)), Offset: new(int64(g.Offset)), Committed: new(int64(g.Committed)),
		Attempts: int32(g.Attempts), FirstFailure: timestampOf(g.FirstFailure), Error: brief(g.Error), DeadLetterTopic: g.DeadLetterTopic,
	}
}

// repeat makes a call with side effects whose repeats do no harm, within a time. When the last of them is refused and an earlier one
// had no answer, the outcome is unknown.
func repeat[Req, Res any](
	ctx context.Context, c *Client, within time.Duration, op string, fn func(context.Context, *Req) (*Res, error), req *Req,
) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	maybe := false
	for attempt := 0; ; attempt++ {
		if err := ctx.Err(); err != nil && attempt == 0 {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		res, err := fn(ctx, req)
		if err == nil {
			return res, nil
		}
		e := c.heed(errorOf(op, err))
		maybe = maybe || !e.definite && !neverSent(err)
		if !again(e) || pause(ctx, c.cfg.delayAfter(attempt, e)) != nil {
			if maybe {
				return nil, unknownOutcome(op, e)
			}
			return nil, e
		}
	}
}

// timestampOf is the reverse of timeOf.
func timestampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
