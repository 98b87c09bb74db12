package client

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

const (
	// acksMax is how many tokens the contract takes in one call.
	acksMax = 10_000
	// ackTimeout bounds one attempt, which an agent answers within a flush or two; another agent may do better.
	ackTimeout = 5 * time.Second
	// whyMax is what agents keep of an error.
	whyMax = 256
)

// ruling is what is said of a record.
type ruling struct {
	verdict     splashdamv1.Verdict
	delay, lock time.Duration
	why         string
}

func (r ruling) item() *splashdamv1.AcknowledgeRequest_Item {
	m := &splashdamv1.AcknowledgeRequest_Item{Verdict: r.verdict, Error: r.why}
	if r.delay != 0 {
		m.Delay = durationpb.New(r.delay)
	}
	if r.lock != 0 {
		m.LockTime = durationpb.New(r.lock)
	}
	return m
}

// locked names a record under one of its locks.
type locked struct {
	place
	offset Offset
	token  []byte // no two locks have the same
}

// ack is a ruling on its way to the queue.
type ack struct {
	locked
	ruling
	maybe   bool // an attempt had no answer: it may be done
	decided bool
	err     error // of a decided one: why it was not done, or is not known to be
}

func (a *ack) op() string {
	verb := strings.ToLower(strings.TrimPrefix(a.verdict.String(), "VERDICT_"))
	if a.offset == NoOffset { // of another process
		return fmt.Sprintf("%s a record of %s", verb, a.topic)
	}
	return fmt.Sprintf("%s %s/%d at %d", verb, a.topic, a.partition, a.offset)
}

// refuse decides that it was not done now. It may have been done before: only of an extension, which is of the lock that is refused, that does not matter.
func (a *ack) refuse(e *Error) {
	a.decided, a.err = true, e
	if a.maybe && a.verdict != splashdamv1.Verdict_VERDICT_EXTEND {
		a.err = unknownOutcome(a.op(), e)
	}
}

// settle says what is ruled until the queue has decided on each, or ctx ends. One with an unknown outcome is said again: it counts once, under its lock.
func (q *Queue) settle(ctx context.Context, list []*ack) {
	op := fmt.Sprintf("acknowledge of queue %s on %s", q.cfg.Group, q.cfg.Topic)
	for attempt := 0; ; attempt++ {
		req, sent := q.acknowledgeRequest(list)
		if len(sent) == 0 {
			return
		}
		e := &Error{Op: op, Code: "canceled", Message: "given up", cause: ctx.Err()}
		if ctx.Err() == nil {
			e = q.settleOnce(ctx, op, req, sent)
		}
		if e == nil {
			attempt = -1
			continue
		}
		if ctx.Err() != nil || pause(ctx, q.c.cfg.delayAfter(attempt, e)) != nil {
			for _, a := range list {
				if !a.decided {
					a.refuse(e)
				}
			}
			return
		}
	}
}

// acknowledgeRequest asks for what is not decided.
func (q *Queue) acknowledgeRequest(list []*ack) (req *splashdamv1.AcknowledgeRequest, sent []*ack) {
	req = &splashdamv1.AcknowledgeRequest{Group: q.cfg.Group, Topic: q.cfg.Topic}
	items := make(map[ruling]*splashdamv1.AcknowledgeRequest_Item)
	for _, a := range list {
		if a.decided {
			continue
		}
		if len(sent) == acksMax {
			break
		}
		item := items[a.ruling]
		if item == nil {
			item = a.item()
			items[a.ruling] = item
			req.Items = append(req.Items, item)
		}
		item.Tokens = append(item.Tokens, a.token)
		sent = append(sent, a)
	}
	return req, sent
}

// settleOnce makes one attempt; nil: all that was sent is decided. Any other error is worth another attempt for what is not.
func (q *Queue) settleOnce(ctx context.Context, op string, req *splashdamv1.AcknowledgeRequest, sent []*ack) *Error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	res, err := q.c.queues.Acknowledge(ctx, req)
	if err != nil {
		e := q.c.heed(errorOf(op, err))
		known := e.definite || neverSent(err)
		for _, a := range sent {
			a.maybe = a.maybe || !known
			if !again(e) {
				a.refuse(e)
			}
		}
		if !again(e) {
			return nil
		}
		return e
	}
	refused := make(map[string]*splashdamv1.ErrorDetail, len(res.GetRefused()))
	for _, r := range res.GetRefused() {
		refused[string(r.GetToken())] = r.GetError()
	}
	var repeat *Error
	for _, a := range sent {
		d, ok := refused[string(a.token)]
		if !ok {
			a.decided = true
			continue
		}
		switch e := errorOfDetail(a.op(), d); {
		case again(e):
			a.maybe = a.maybe || !e.definite
			repeat = e
		default:
			a.refuse(e)
		}
	}
	return repeat
}

// brief is what goes with an acknowledgement of what went wrong: text, and no more than is kept.
func brief(why string) string {
	why = strings.ToValidUTF8(why[:min(len(why), 4*whyMax)], "\uFFFD")
	if len(why) <= whyMax {
		return why
	}
	cut := whyMax
	for cut > 0 && !utf8.RuneStart(why[cut]) {
		cut--
	}
	return why[:cut]
}
