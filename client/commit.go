package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

const (
	// commitsMax is how many positions the contract takes in one call.
	commitsMax = 10_000
	// commitTimeout bounds one attempt, which an agent answers within a flush or two; another agent may do better.
	commitTimeout = 5 * time.Second
)

var errNoGroup = errors.New("the consumer is of no group")

// Commit commits all that is processed: in a handler of Run the records before the one in hand, else all that Poll has handed out, so call it in the
// goroutine that polls, when the work on them is done. It returns when the group has the positions; an error joins those of the partitions that
// are not committed. One that is not this member's any more is ErrStaleGeneration: its records come again elsewhere.
func (c *Consumer) Commit(ctx context.Context) error {
	if c.member == nil {
		return fmt.Errorf("commit: %w", errNoGroup)
	}
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	if !running {
		c.allProcessed()
	}
	return errors.Join(c.lostUncommitted(), c.commit(ctx, c.toCommit(func(*cursor) bool { return true })))
}

// lostUncommitted is an error for each partition that was lost with records processed and not committed, until OnLost is told.
func (c *Consumer) lostUncommitted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, t := range c.member.tasks {
		for _, cur := range t.curs {
			if t.kind == taskLost && cur.resolved && cur.processed != cur.committed {
				errs = append(errs, staleGeneration(cur.place))
			}
		}
	}
	return errors.Join(errs...)
}

// CommitOffsets commits these positions of partitions that are this member's, whatever is processed. With CommitAfter what is processed is
// committed over them later. Errors are as those of Commit.
func (c *Consumer) CommitOffsets(ctx context.Context, positions ...GroupPosition) error {
	if c.member == nil {
		return fmt.Errorf("commit: %w", errNoGroup)
	}
	var list []*commitment
	var errs []error
	c.mu.Lock()
	for _, p := range positions {
		cur := c.cursors[place{p.Topic, p.Partition}]
		if cur == nil {
			errs = append(errs, staleGeneration(place{p.Topic, p.Partition}))
			continue
		}
		list = append(list, &commitment{cur: cur, offset: p.Offset, metadata: p.Metadata})
	}
	c.mu.Unlock()
	return errors.Join(errors.Join(errs...), c.commit(ctx, list))
}

// commitment is a position on its way to the group.
type commitment struct {
	cur      *cursor
	offset   Offset
	metadata string
	decided  bool
	err      error // of a decided one: why it was not committed
}

func (m *commitment) decide(err error) { m.decided, m.err = true, err }

func staleGeneration(at place) *Error {
	return &Error{
		Op: fmt.Sprintf("commit offset of %s/%d", at.topic, at.partition), Code: "failed_precondition", Reason: reasonStaleGeneration, KafkaCode: 22,
		Message: "the partition is not this member's", definite: true,
	}
}

// toCommit answers what was processed and not committed of the partitions that want says yes to.
func (c *Consumer) toCommit(want func(*cursor) bool) []*commitment {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*commitment
	for _, cur := range c.order {
		if !cur.held && cur.resolved && cur.processed != cur.committed && want(cur) {
			list = append(list, &commitment{cur: cur, offset: cur.processed})
		}
	}
	return list
}

// commitEvery commits what is processed at the interval. What is refused now is tried again then, as long as the partition is this member's.
func (c *Consumer) commitEvery() {
	for pause(c.ctx, c.cfg.CommitInterval) == nil {
		list := c.toCommit(func(cur *cursor) bool { return !cur.stopping })
		if err := c.commit(c.member.ctx, list); err != nil {
			c.mu.Lock()
			c.last = err
			c.mu.Unlock()
		}
	}
}

// commit commits positions until each is decided, or ctx ends. One with an unknown outcome is sent again: a repeat does no harm.
func (c *Consumer) commit(ctx context.Context, list []*commitment) error {
	if len(list) == 0 {
		return nil
	}
	op := "commit offsets of group " + c.cfg.Group
	m := c.member
	select {
	case m.committing <- struct{}{}:
		defer func() { <-m.committing }()
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	for attempt := 0; ; attempt++ {
		req, sent := c.commitRequest(list)
		if len(sent) == 0 {
			break
		}
		e := c.commitOnce(ctx, op, req, sent)
		switch {
		case e == nil:
			attempt = -1
		case !e.Retriable:
			for _, s := range sent {
				s.decide(e)
			}
		case pause(ctx, c.c.cfg.delayAfter(attempt, e)) != nil:
			return unknownOutcome(op, e)
		}
	}
	var errs []error
	for _, one := range list {
		errs = append(errs, one.err)
	}
	return errors.Join(errs...)
}

// commitRequest asks to commit what is not decided. What is lost by now is not sent.
func (c *Consumer) commitRequest(list []*commitment) (req *splashdamv1.CommitOffsetsRequest, sent []*commitment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Partitions that are being stopped are still owned in the generation that was adopted when they were begun, or a later one.
	_, generation := c.member.core.Committing()
	req = &splashdamv1.CommitOffsetsRequest{Group: c.cfg.Group, Member: c.member.id, Instance: c.cfg.Instance, Generation: generation}
	for _, one := range list {
		switch {
		case one.decided || len(sent) == commitsMax:
		case one.cur.gone:
			one.decide(staleGeneration(one.cur.place))
		default:
			sent = append(sent, one)
			req.Offsets = append(req.Offsets, &splashdamv1.CommitOffsetsRequest_Offset{
				Topic: one.cur.topic, Partition: new(int32(one.cur.partition)), Offset: new(int64(one.offset)), Metadata: one.metadata,
			})
		}
	}
	return req, sent
}

// commitOnce makes one attempt; nil: all that was sent is decided. An error that is not Retriable decides the rest.
func (c *Consumer) commitOnce(ctx context.Context, op string, req *splashdamv1.CommitOffsetsRequest, sent []*commitment) *Error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	res, err := c.c.groups.CommitOffsets(ctx, req)
	if err != nil {
		return c.c.heed(errorOf(op, err))
	}
	if got := len(res.GetResults()); got != len(sent) {
		return &Error{Op: op, Code: "internal", Message: fmt.Sprintf("%d results for %d offsets", got, len(sent))}
	}
	var again *Error
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range res.GetResults() {
		one := sent[i]
		switch d := r.GetError(); {
		case d == nil && one.cur.gone: // it may have begun anew already, where it was before
			one.decide(staleGeneration(one.cur.place))
		case d == nil:
			one.decide(nil)
			one.cur.committed = one.offset
		case d.GetRetriable():
			again = errorOfDetail(op, d)
		default:
			one.decide(errorOfDetail(fmt.Sprintf("commit offset of %s/%d", one.cur.topic, one.cur.partition), d))
		}
	}
	return again
}

// commitBefore commits what is about to be handed out, with CommitBefore, and answers what may be.
func (c *Consumer) commitBefore(ctx context.Context, records []Record) []Record {
	if c.member == nil || c.cfg.Commit != CommitBefore {
		return records
	}
	cur := c.current.cur // of this goroutine
	err := c.commit(ctx, []*commitment{{cur: cur, offset: records[len(records)-1].Offset + 1}})
	if err == nil {
		return records
	}
	c.rewind(records[0].Offset)
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := errors.AsType[*Error](err)
	switch {
	case cur.gone || ctx.Err() != nil:
	case !ok || errors.Is(e, ErrStaleGeneration) || e.Retriable || e.unknown: // it will be taken away, or the cluster comes back
		c.backOff(cur, err, c.c.cfg.delay(cur.attempt, 0))
	default:
		c.setError(cur, err)
	}
	return nil
}
