package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

const opPull = "pull"

// The bounds of queues.
const (
	pullRecordsDefault = 100
	pullRecordsMax     = 2_000
	pullWaitMax        = 30 * time.Second
	lockMin            = time.Second
	lockDefault        = 30 * time.Second

	// deadLetterSuffix behind a topic's name makes that of its dead-letter topic, where no other is named.
	deadLetterSuffix = "-dlq"
)

// Pull implements QueueService.
func (e *edge) Pull(ctx context.Context, r *v1.PullRequest) (*v1.PullResponse, error) {
	request, err := pullOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.mayConsume(ctx, request.Group, request.Topic, request.DeadLetters); err != nil {
		return nil, err
	}
	claim := e.claimOf(ctx)
	pulled, err := e.pull(ctx, claim, request)
	if err != nil {
		return nil, err
	}
	for _, p := range pulled {
		e.names.learn(p.Topic, request.Topic)
	}
	h := handing{edge: e, topic: request.Topic, left: newBudget(int(request.RecordsMax), storedPulled(pulled), claim)}
	for _, p := range pulled {
		h.partition(p)
	}
	e.giveBack(ctx, request.Group, h.back)
	if h.damage != nil {
		if len(h.out) == 0 {
			return nil, h.damage
		}
		e.cfg.Logger.Error("pulled records can't be read", "err", h.damage)
	}
	e.answerWithin(ctx, claim)
	return &v1.PullResponse{Records: h.out}, nil
}

// pullOf checks the request and fills in the defaults that this edge needs.
func pullOf(r *v1.PullRequest) (agent.PullRequest, error) {
	out := agent.PullRequest{Group: r.GetGroup(), Topic: r.GetTopic(), RecordsMax: r.GetMaxRecords(), Deliveries: r.GetMaxDeliveries(), DeadLetters: r.GetDeadLetterTopic()}
	if err := checkQueue(opPull, out.Group, out.Topic); err != nil {
		return out, err
	}
	if out.RecordsMax < 0 || out.RecordsMax > pullRecordsMax {
		return out, invalid(opPull, "max_records", "%d is not in 0 to %d", out.RecordsMax, pullRecordsMax)
	}
	if out.RecordsMax == 0 {
		out.RecordsMax = pullRecordsDefault
	}
	var err error
	if out.BytesMax, err = bytesMax(opPull, r.GetMaxBytes()); err != nil {
		return out, err
	}
	if out.Wait, err = between(opPull, "max_wait", r.GetMaxWait(), 0, pullWaitMax); err != nil {
		return out, err
	}
	if out.Lock, err = between(opPull, "lock_time", r.GetLockTime(), lockMin, queues.WaitMax); err != nil {
		return out, err
	}
	if out.Deliveries < 0 || out.Deliveries > queues.DeliveriesMax {
		return out, invalid(opPull, "max_deliveries", "%d is not in 0 to %d", out.Deliveries, queues.DeliveriesMax)
	}
	if err := checkDeadLetters(opPull, out.Topic, out.DeadLetters); err != nil {
		return out, err
	}
	out.Start, err = startOf(opPull, "start", r.GetStart())
	return out, err
}

func checkQueue(op, group, topic string) error {
	if err := checkGroup(op, group); err != nil {
		return err
	}
	return checkTopic(op, "topic", topic)
}

func checkTopic(op, field, name string) error {
	if err := metadata.CheckTopicName(name); err != nil {
		return refused(agent.InvalidTopic, op, field, "%v", err)
	}
	return nil
}

// checkDeadLetters checks the name of the dead-letter topic of a topic; empty: it is the topic's own with an ending.
func checkDeadLetters(op, topic, named string) error {
	const field = "dead_letter_topic"
	switch {
	case named == topic:
		return refused(agent.InvalidTopic, op, field, "%s is the topic itself: its dead letters would be its records again", topic)
	case named != "":
		return checkTopic(op, field, named)
	}
	if err := metadata.CheckTopicName(topic + deadLetterSuffix); err != nil {
		return refused(agent.InvalidTopic, op, field, "required, since the topic's name with %s behind it is none: %v", deadLetterSuffix, err)
	}
	return nil
}

// mayConsume asks for permission to work on a topic for a group. Agents write its dead letters; to any topic but the one that is made for them
// they do it only for those who might themselves.
func (e *edge) mayConsume(ctx context.Context, group, topic, deadLetters string) error {
	if err := e.authorize(ctx, ActionRead, Resource{Group: group}); err != nil {
		return err
	}
	if err := e.authorize(ctx, ActionRead, Resource{Topic: topic}); err != nil {
		return err
	}
	if deadLetters == "" || deadLetters == topic+deadLetterSuffix {
		return nil
	}
	return e.authorize(ctx, ActionWrite, Resource{Topic: deadLetters})
}

// pull locks and reads records, and takes the memory for the answer before, in the manner of read.
func (e *edge) pull(ctx context.Context, c *claim, r agent.PullRequest) ([]agent.Pulled, error) {
	c.reading()
	now := r
	now.Wait = 0
	pulled, err := e.pullOnce(ctx, c, now, answerCopies)
	if err != nil || len(pulled) > 0 || r.Wait == 0 {
		return pulled, err
	}
	c.release()
	r.BytesMax = min(r.BytesMax, pollBytes)
	return e.pullOnce(ctx, c, r, 1)
}

func (e *edge) pullOnce(ctx context.Context, c *claim, r agent.PullRequest, weight int64) ([]agent.Pulled, error) {
	var err error
	if r.BytesMax, err = c.takeToRead(ctx, r.BytesMax, weight); err != nil {
		return nil, err
	}
	pulled, err := e.engine.Pull(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := c.takeWhatWasRead(ctx, storedPulled(pulled)); err != nil {
		h := handing{}
		for _, p := range pulled {
			h.returns(p, 0)
		}
		e.giveBack(ctx, r.Group, h.back)
		return nil, err
	}
	return pulled, nil
}

func storedPulled(pulled []agent.Pulled) int {
	size := 0
	for _, p := range pulled {
		for _, b := range p.Batches {
			size += len(b)
		}
	}
	return size
}

// giveBack undoes deliveries. What of it goes wrong costs time, no record: their locks end.
func (e *edge) giveBack(ctx context.Context, group string, back []agent.Acknowledgement) {
	if len(back) == 0 {
		return
	}
	if _, err := e.engine.Acknowledge(ctx, group, back); err != nil {
		e.cfg.Logger.Debug("locks are left to end", "group", group, "records", len(back), "err", err)
	}
}

// handing makes the answer of what was pulled.
type handing struct {
	edge   *edge
	topic  string
	left   *budget
	out    []*v1.PulledRecord
	back   []agent.Acknowledgement // of what the answer has no room for
	damage error                   // the newest one
}

// full: the first record is handed out however large it is, or nothing would ever come behind it.
func (h *handing) full() bool { return len(h.out) > 0 && h.left.spent() }

// partition hands out the records of the acquired ranges. Others in their batches are paid for too, since they are unpacked into the same memory.
func (h *handing) partition(p agent.Pulled) {
	ranges, next := p.Acquired, objectlog.Offset(0)
	for _, batch := range p.Batches {
		if h.full() {
			break
		}
		err := objectlog.DecodeBatch(batch, h.edge.cfg.Limits, func(offset objectlog.Offset, r objectlog.Record) bool {
			if h.full() {
				return false
			}
			h.left.pay(r)
			next = offset + 1
			for len(ranges) > 0 && ranges[0].To <= offset {
				ranges = ranges[1:]
			}
			if len(ranges) > 0 && ranges[0].From <= offset {
				h.add(p, offset, r, ranges[0].Deliveries)
			}
			return true
		})
		if err != nil {
			// Stored batches are verified before they come here: this one is beyond this agent's limits or format. Its records keep their lock, so
			// that this counts as a delivery: given back, they would come again at once, and for ever.
			h.damage = refusal{fmt.Sprintf("%s %s/%d: decode at offset %d: %v", opPull, h.topic, p.Partition, next, err), agent.DataLost}
			if header, err := objectlog.ParseBatchHeader(batch); err == nil {
				next = header.BaseOffset + objectlog.Offset(header.LastOffsetDelta) + 1
			}
		}
	}
	if h.full() {
		h.returns(p, next)
	}
}

func (h *handing) add(p agent.Pulled, offset objectlog.Offset, r objectlog.Record, deliveries int32) {
	h.left.records--
	h.left.bytes -= recordOverhead // of what is around it
	h.out = append(h.out, &v1.PulledRecord{
		Partition:  new(int32(p.Partition)),
		Record:     fetchedRecord(offset, r),
		Token:      deliveryToken{p.Place, offset, p.Lock}.bytes(),
		Deliveries: deliveries,
	})
}

// returns gives back what was acquired from next on.
func (h *handing) returns(p agent.Pulled, next objectlog.Offset) {
	for _, r := range p.Acquired {
		for offset := max(r.From, next); offset < r.To; offset++ {
			h.back = append(h.back, agent.Acknowledgement{Place: p.Place, Offset: offset, Lock: p.Lock, Verdict: queues.Return})
		}
	}
}
