package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// membership is a consumer's part in its group: it gives the member's core its events and does what the core wants done. What is not told
// otherwise is under Consumer.mu.
type membership struct {
	ctx    context.Context // of calls; ends when the membership has ended, or Close does not wait any longer
	cancel context.CancelFunc
	began  time.Time // of the core's clock
	core   *member.Core
	timer  *time.Timer // of the core's next wake
	life   int
	id     string // of this life

	unsent  context.CancelFunc // gives up the heartbeat under way
	attempt int                // heartbeats in a row that failed
	alive   time.Time          // when the handler of Run last showed that it goes on
	tasks   []*task            // for Poll and Close, oldest first
	letting []*task            // revocations that are not reported yet, those among tasks included
	err     error              // why the membership ended on its own
	ended   chan struct{}      // closed when it has ended
	over    bool               // Close does not wait any longer: nothing begins any more
	// committing holds a value while positions are being committed: an older commit must not arrive behind a newer one. Not under the lock.
	committing chan struct{}
}

// task is one change of the assignment that callbacks are told of.
type task struct {
	kind taskKind
	curs []*cursor
	stop int // of a revocation: the number to report
	// of a revocation: ends when the partitions are lost
	ctx    context.Context
	cancel context.CancelFunc
}

type taskKind uint8

const (
	taskAssigned taskKind = iota
	taskRevoked
	taskLost
)

const (
	// callbackTimeout bounds the context of a callback.
	callbackTimeout = 10 * time.Second
	// closeTimeout bounds Close: it waits for half of that for the record in hand. Whatever is not committed by then comes again.
	closeTimeout = 10 * time.Second
)

// join makes the consumer a member of its group.
func (c *Consumer) join() {
	m := &membership{
		began: time.Now(), ended: make(chan struct{}), committing: make(chan struct{}, 1), unsent: func() {},
		core: member.New(member.Config{Session: c.cfg.SessionTimeout, PollMax: c.cfg.MaxPollInterval, Static: c.cfg.Instance != ""}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.member = m
	m.timer = time.AfterFunc(time.Hour, func() { c.tell(member.Tick{}) })
	c.step(member.Begin{})
	if c.cfg.Commit == CommitAfter {
		c.wg.Go(c.commitEvery)
	}
}

// tell gives the member's core an event, if there is one.
func (c *Consumer) tell(e member.Event) {
	if c.cfg.Group == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(e)
}

// step is tell with the lock held.
func (c *Consumer) step(e member.Event) {
	m := c.member
	m.timer.Stop()
	if m.over {
		return
	}
	for _, effect := range m.core.Step(time.Since(m.began), e) {
		switch f := effect.(type) {
		case member.Send:
			c.send(f)
		case member.Stop:
			if f.Lost {
				c.lose(f.Places)
			} else {
				c.revoke(f)
			}
		case member.Start:
			c.begin(f.Places)
		case member.NextWake:
			m.timer.Reset(f.At - time.Since(m.began))
		case member.End:
			m.err = f.Err
			m.cancel()
			close(m.ended)
			c.news.wake()
		}
	}
}

// handled tells the core that a record is processed, now and then: often enough that each record has its own time.
func (c *Consumer) handled() {
	m := c.member
	if m == nil || time.Since(m.alive) < c.cfg.MaxPollInterval/100 {
		return
	}
	m.alive = time.Now()
	c.step(member.Polled{})
}

// send sends a heartbeat in place of the one under way.
func (c *Consumer) send(s member.Send) {
	m := c.member
	m.unsent()
	if s.Life != m.life {
		m.life, m.id = s.Life, objectlog.NewUUID(rand.Uint64).String()
	}
	ctx, cancel := context.WithCancel(m.ctx)
	m.unsent = cancel
	req := &splashdamv1.HeartbeatRequest{
		Group: c.cfg.Group, Member: m.id, Instance: c.cfg.Instance, Client: c.c.cfg.UserAgent, Generation: s.Generation, Leave: s.Leave,
		Topics: c.cfg.Topics, Pattern: c.cfg.Pattern, Owned: listPlaces(s.Owned),
		SessionTimeout: durationpb.New(c.cfg.SessionTimeout), RebalanceTimeout: durationpb.New(c.cfg.MaxPollInterval), MaxWait: durationpb.New(s.Wait),
	}
	c.wg.Go(func() {
		defer cancel()
		if s.Elsewhere {
			c.c.transport.moveOn()
		}
		res, err := c.c.groups.Heartbeat(ctx, req)
		c.mu.Lock()
		defer c.mu.Unlock()
		if ctx.Err() != nil {
			return // given up
		}
		if err != nil {
			c.step(c.failure(s.Request, errorOf("heartbeat in group "+c.cfg.Group, err)))
			return
		}
		m.attempt = 0
		c.step(member.Answered{Request: s.Request, Generation: res.GetGeneration(), Assigned: placesOf(res.GetAssigned()), Session: res.GetSessionTimeout().AsDuration()})
	})
}

// failure says what an error means for the member. One of a heartbeat that was given up means nothing.
func (c *Consumer) failure(request int, e *Error) member.Failed {
	m := c.member
	f := member.Failed{Request: request, Kind: member.Retry, Err: fmt.Errorf("be a member of group %s: %w", c.cfg.Group, e)}
	switch {
	case e.Reason == reasonUnknownMember:
		f.Kind = member.UnknownMember
	case e.Reason == reasonFencedInstance:
		f.Kind = member.Fenced
	case e.Retriable:
		c.last = c.c.heed(e)
	default:
		f.Kind = member.Fatal
	}
	f.After = c.c.cfg.delayAfter(m.attempt, e)
	m.attempt++
	return f
}

// begin takes up partitions: their positions are looked for, then OnAssigned is told, then they are read.
func (c *Consumer) begin(places []member.Place) {
	curs := make([]*cursor, 0, len(places))
	for _, p := range places {
		cur := &cursor{place: place{p.Topic, p.Partition}, behind: true, assigned: p, committed: NoOffset, held: true}
		if former := c.cursors[cur.place]; former != nil { // it can't be: the core stops one life of a topic before the next begins
			c.remove(former)
		}
		c.add(cur, c.cfg.Start)
		curs = append(curs, cur)
	}
	c.wg.Go(func() { c.findCommitted(curs) })
}

// findCommitted looks for the group's positions until all are found.
func (c *Consumer) findCommitted(wanted []*cursor) {
	for attempt := 0; ; attempt++ {
		var topics []string
		if wanted, topics = c.stillWanted(wanted); len(wanted) == 0 {
			return
		}
		offsets, err := c.c.GroupOffsets(c.member.ctx, c.cfg.Group, topics...)
		if c.member.ctx.Err() != nil {
			return
		}
		found := make(map[place]Offset, len(offsets))
		for _, o := range offsets {
			if o.Err == nil { // an error is not the word that nothing is committed
				found[place{o.Topic, o.Partition}] = o.Offset
			}
		}
		if wanted = c.foundCommitted(wanted, found, err); len(wanted) == 0 || pause(c.member.ctx, c.c.cfg.delay(attempt, 0)) != nil {
			return
		}
	}
}

// stillWanted leaves out what went away, and answers the topics of the rest.
func (c *Consumer) stillWanted(curs []*cursor) (wanted []*cursor, topics []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cur := range curs {
		if !cur.stopping && !cur.gone {
			wanted, topics = append(wanted, cur), append(topics, cur.topic)
		}
	}
	slices.Sort(topics)
	return wanted, slices.Compact(topics)
}

// foundCommitted takes the positions that were found, and answers the partitions for which none was.
func (c *Consumer) foundCommitted(wanted []*cursor, found map[place]Offset, failed error) (missing []*cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topicErr = nil
	if failed != nil {
		c.last = failed
		if e, ok := errors.AsType[*Error](failed); ok && !e.Retriable {
			c.topicErr = failed
			c.news.wake()
		}
		return wanted
	}
	t := &task{kind: taskAssigned}
	for _, cur := range wanted {
		at, ok := found[cur.place]
		switch {
		case cur.stopping || cur.gone:
			continue
		case !ok: // not of a topic that is known here
			missing = append(missing, cur)
			continue
		case at != NoOffset:
			cur.committed = at
			c.reset(cur, At(at))
		}
		t.curs = append(t.curs, cur)
	}
	switch {
	case len(t.curs) == 0:
	case c.cfg.OnAssigned == nil: // nobody to wait for
		c.release(t)
	default:
		c.member.tasks = append(c.member.tasks, t)
		c.news.wake()
	}
	return missing
}

// release lets the partitions of an assignment be read.
func (c *Consumer) release(t *task) {
	for _, cur := range t.curs {
		cur.held, cur.announced = false, !cur.stopping && !cur.gone
	}
	c.notify()
}

// revoke lets go of partitions as soon as nobody works on their records: with the next Poll.
func (c *Consumer) revoke(s member.Stop) {
	t := &task{kind: taskRevoked, stop: s.Stop, curs: c.cursorsOf(s.Places)}
	t.ctx, t.cancel = context.WithCancel(c.member.ctx)
	for _, cur := range t.curs {
		cur.stopping = true
		c.drop(cur)
		c.setError(cur, nil)
	}
	c.member.tasks = append(c.member.tasks, t)
	c.member.letting = append(c.member.letting, t)
	c.news.wake()
	c.notify()
}

// lose drops partitions as of now.
func (c *Consumer) lose(places []member.Place) {
	m := c.member
	t := &task{kind: taskLost, curs: c.cursorsOf(places)}
	for _, cur := range t.curs {
		c.remove(cur)
	}
	// All earlier tasks are of partitions that are lost with these.
	for _, void := range m.letting {
		void.cancel()
	}
	m.letting = nil
	m.tasks = slices.DeleteFunc(m.tasks, func(void *task) bool { return void.kind != taskLost })
	m.tasks = append(m.tasks, t)
	c.news.wake()
	c.notify()
}

func (c *Consumer) cursorsOf(places []member.Place) []*cursor {
	var curs []*cursor
	for _, p := range places {
		if cur := c.cursors[place{p.Topic, p.Partition}]; cur != nil && cur.assigned == p {
			curs = append(curs, cur)
		}
	}
	return curs
}

// carryOut does what is to be done between two batches of records. It answers why the membership ended.
func (c *Consumer) carryOut(ctx context.Context) error {
	m := c.member
	if m == nil {
		return nil
	}
	for {
		t, told, err := c.nextTask()
		if t == nil {
			return err
		}
		switch t.kind {
		case taskAssigned:
			c.call(ctx, c.cfg.OnAssigned, told)
		case taskRevoked:
			revoking, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(t.ctx, cancel)
			c.call(revoking, c.cfg.OnRevoked, told)
			stop()
			cancel()
		case taskLost:
			c.call(ctx, c.cfg.OnLost, told)
		}
		c.mu.Lock()
		switch {
		case t.kind == taskAssigned:
			c.release(t)
		case t.kind == taskRevoked && !m.over:
			c.wg.Go(func() { c.finish(t) })
		}
		c.mu.Unlock()
	}
}

// nextTask takes the oldest task, and answers the partitions that its callback is told of: only those go away that were said to have come.
func (c *Consumer) nextTask() (t *task, told []*cursor, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.member
	if len(m.tasks) == 0 {
		return nil, nil, m.err
	}
	t = m.tasks[0]
	m.tasks = m.tasks[1:]
	for _, cur := range t.curs {
		if came := t.kind == taskAssigned; came && !cur.stopping && !cur.gone || !came && cur.announced {
			cur.announced = came
			told = append(told, cur)
		}
	}
	return t, told, nil
}

// call calls a callback, which a Poll that ends soon does not hurry.
func (c *Consumer) call(ctx context.Context, fn func(context.Context, []TopicPartitions), curs []*cursor) {
	if fn == nil || len(curs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	places := make([]member.Place, 0, len(curs))
	for _, cur := range curs {
		places = append(places, cur.assigned)
	}
	slices.SortFunc(places, member.Place.Compare)
	fn(ctx, topicPartitionsOf(listPlaces(places)))
}

// finish commits what was processed of revoked partitions, and lets the group give them to others. Records of other partitions are handed out
// meanwhile.
func (c *Consumer) finish(t *task) {
	defer t.cancel()
	if c.cfg.Commit == CommitAfter {
		// What is refused is somebody else's by now, or of a topic that is gone: it is let go of in any case.
		_ = c.commit(t.ctx, c.toCommit(func(cur *cursor) bool { return slices.Contains(t.curs, cur) }))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.ctx.Err() != nil {
		return // lost
	}
	for _, cur := range t.curs {
		c.remove(cur)
	}
	c.member.letting = slices.DeleteFunc(c.member.letting, func(other *task) bool { return other == t })
	c.step(member.Stopped{Stop: t.stop})
	c.news.wake()
}

// leave ends the membership within closeTimeout.
func (c *Consumer) leave() {
	m := c.member
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	c.awaitRecordInHand(closeTimeout / 2)
	c.tell(member.Leave{})
	for running := true; running; {
		_ = c.carryOut(ctx)
		select {
		case <-m.ended:
			running = false
		case <-ctx.Done():
			running = false
		case <-c.news:
		}
	}
	_ = c.carryOut(ctx) // what was lost meanwhile
	c.mu.Lock()
	defer c.mu.Unlock()
	m.over = true
	m.timer.Stop()
	m.cancel()
}

// awaitRecordInHand waits for Poll and Run to return: they do so behind the record in hand.
func (c *Consumer) awaitRecordInHand(patience time.Duration) {
	until := time.Now().Add(patience)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	}).Stop()
	for c.inside > 0 && time.Now().Before(until) {
		c.changed.Wait()
	}
}

func listPlaces(sorted []member.Place) []*splashdamv1.TopicPartitions {
	var list []*splashdamv1.TopicPartitions
	for i, p := range sorted {
		if i == 0 || p.TopicID != sorted[i-1].TopicID {
			list = append(list, &splashdamv1.TopicPartitions{Topic: p.Topic, TopicId: p.TopicID})
		}
		last := list[len(list)-1]
		last.Partitions = append(last.Partitions, int32(p.Partition))
	}
	return list
}

func placesOf(list []*splashdamv1.TopicPartitions) []member.Place {
	var places []member.Place
	for _, t := range list {
		for _, p := range t.GetPartitions() {
			places = append(places, member.Place{Topic: t.GetTopic(), TopicID: t.GetTopicId(), Partition: Partition(p)})
		}
	}
	return places
}
