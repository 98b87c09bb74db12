package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// moveTick is how often a mover looks whether what was held up may be tried again, and whether the shard is led here.
	moveTick = time.Second
	// movePause is the least time between two looks at the queues, which cost as much as there are queues.
	movePause = 20 * time.Millisecond
	// movesAtOnce bounds the queues whose records are moved at one time.
	movesAtOnce = 16
	// movePatience is what one round of a queue may take: one that waits for a shard that is stopped must not keep the others.
	movePatience = 10 * time.Second
	// movesOnce and moveBytesOnce bound the records of one round of a queue.
	movesOnce     = 100
	moveBytesOnce = 4 << 20

	// What can't be moved is tried again later and later; what only people can mend, not often.
	moveRetryFirst = 100 * time.Millisecond
	moveRetryMax   = 30 * time.Second
	// stuckBehind is how long something is held up until it counts as stuck, and the log tells of it.
	stuckBehind   = 10 * time.Second
	stuckLogEvery = time.Minute
)

// mover takes the records of the queues of one shard to where they go, while it is led here: those that failed to their dead-letter topic, those that
// are redriven to the topic that was named. What it has to do is in the state, so it may be cut off at any point, or go on when another leads already (the
// table in DESIGN.md). A batch is written only when those before it on its route are known to be there: so whoever writes, this or another agent, what lies in
// the target is always a beginning of the route.
type mover struct {
	number  objectlog.Shard
	shard   shard
	leading func() objectlog.Epoch // as of coordinator
	done    chan struct{}          // holds a value when a round has ended

	written, redriven atomic.Int64 // records that arrived, and were finished here

	mu     sync.Mutex // taken before the shard's state is read
	busy   map[queues.Key]bool
	held   map[hold]*delay
	told   map[queues.Key]time.Time // when the log told of something of a queue that is held up
	looked uint64                   // the changes of the queues at the last look
	anew   bool                     // look although nothing has changed
	next   queues.Key
	epoch  objectlog.Epoch // of the last look
}

// hold names what may be held up: a record of a queue that can't leave; with a Producer, a route; without both, whatever is to leave the queue.
type hold struct {
	queues.Key
	Producer objectlog.ProducerID // NoProducer: not a route
	Offset   objectlog.Offset     // NoOffset: not a record
}

// delay is how long something is held up.
type delay struct {
	since, until time.Time
	tries        int
	stuck        bool // only people can mend it
}

func newMover(number objectlog.Shard, s shard, leading func() objectlog.Epoch) *mover {
	return &mover{number: number, shard: s, leading: leading, done: make(chan struct{}, 1), busy: map[queues.Key]bool{}, held: map[hold]*delay{}, told: map[queues.Key]time.Time{}}
}

// move looks after the queues of a shard until ctx ends.
func (a *Agent) move(ctx context.Context, m *mover) error {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		changed, looked := m.shard.log.Changed(), time.Now()
		for _, k := range m.take(looked) {
			work.Go(func() {
				a.moveQueue(ctx, m, k)
				m.ended(k)
			})
		}
		tick := time.NewTimer(moveTick)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-m.done:
		case <-tick.C:
		}
		tick.Stop()
		if rest := movePause - time.Since(looked); rest > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(rest):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// take answers the queues that a round is to be begun for.
func (m *mover) take(now time.Time) []queues.Key {
	epoch := m.leading()
	m.mu.Lock()
	defer m.mu.Unlock()
	if epoch != m.epoch {
		clear(m.held)
		clear(m.told)
		m.epoch, m.anew = epoch, true
	}
	if epoch == 0 {
		return nil
	}
	maps.DeleteFunc(m.held, func(_ hold, d *delay) bool { return now.Sub(d.until) > moveRetryMax }) // it is gone: else it had been tried
	maps.DeleteFunc(m.told, func(_ queues.Key, at time.Time) bool { return now.Sub(at) >= stuckLogEvery })
	var found []queues.Key
	m.shard.log.Read(func(metadata.Seq) {
		if changes := m.shard.queues.Changes(); changes != m.looked || m.anew || m.due(now) {
			m.looked, m.anew = changes, false
			found = m.look(now)
		}
	})
	return found
}

// due says whether something that was held up may be tried again.
func (m *mover) due(now time.Time) bool {
	for _, d := range m.held {
		if !now.Before(d.until) {
			return true
		}
	}
	return false
}

// look finds queues with something to do, as many as there is room for, each in its turn.
func (m *mover) look(now time.Time) []queues.Key {
	var found []queues.Key
	begin := m.next
	visit := func(q *queues.Queue) bool {
		if m.busy[q.Key] || !m.wants(q, now) {
			return true
		}
		if len(m.busy) == movesAtOnce { // the end of a round begins another look
			m.next = q.Key
			return false
		}
		m.busy[q.Key] = true
		found = append(found, q.Key)
		return true
	}
	whole := true
	m.shard.queues.Queues(begin, func(q *queues.Queue) bool { whole = visit(q); return whole })
	if whole {
		m.next = queues.Key{}
		m.shard.queues.Queues(queues.Key{}, func(q *queues.Queue) bool { return q.Key.Compare(begin) < 0 && visit(q) })
	}
	return found
}

// wants says whether there is something to do for a queue.
func (m *mover) wants(q *queues.Queue, now time.Time) bool {
	for _, p := range q.Pieces {
		if p.Phase == queues.Moving && !m.waits(hold{q.Key, p.Move.Producer, objectlog.NoOffset}, now) {
			return true
		}
	}
	return len(m.departing(q, 1, now)) > 0
}

func (m *mover) departing(q *queues.Queue, limit int, now time.Time) []objectlog.Offset {
	if m.waits(hold{q.Key, objectlog.NoProducer, objectlog.NoOffset}, now) {
		return nil
	}
	return q.Departing(limit, func(o objectlog.Offset) bool { return m.waits(hold{q.Key, objectlog.NoProducer, o}, now) })
}

func (m *mover) waits(h hold, now time.Time) bool {
	d, ok := m.held[h]
	return ok && now.Before(d.until)
}

// ended lets the queue be looked at again.
func (m *mover) ended(k queues.Key) {
	m.mu.Lock()
	delete(m.busy, k)
	m.anew = true
	m.mu.Unlock()
	select {
	case m.done <- struct{}{}:
	default:
	}
}

// hold takes note that something can't be moved now. What is wrong for longer is told in the log, once in a while for each
// queue: a window full of records may be held up for one reason.
func (m *mover) hold(h hold, object string, err error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.held[h]
	if d == nil {
		d = &delay{since: now}
		m.held[h] = d
	}
	wait := min(moveRetryMax, moveRetryFirst<<min(d.tries, 10))
	if lasting(err) {
		wait, d.stuck = moveRetryMax, true
	}
	d.until = now.Add(wait)
	d.tries++
	if (!lasting(err) && now.Sub(d.since) < stuckBehind) || now.Sub(m.told[h.Key]) < stuckLogEvery {
		return
	}
	m.told[h.Key] = now
	slog.Warn("record of a queue can't be moved: it is kept", "record", object, "group", h.Group, "since", d.since.UTC().Format(time.RFC3339), "err", err, "hint", hintOf(err))
}

// release takes note that something is held up no more.
func (m *mover) release(h hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, h)
}

// lasting: trying again does not help before somebody has done something.
func lasting(err error) bool {
	return errors.Is(err, objectlog.ErrTooLarge) || errors.Is(err, DataLost) || errors.Is(err, InvalidRequest)
}

func hintOf(err error) string {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// stuck counts what is held up for longer: records, and routes with all that is on their way.
func (m *mover) stuck(now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, d := range m.held {
		if d.stuck || now.Sub(d.since) >= stuckBehind {
			n++
		}
	}
	return n
}
