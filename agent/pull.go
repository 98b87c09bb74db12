package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	pullRecords     = 100
	pullBytes       = 1 << 20
	pullBytesMax    = 64 << 20
	pullLock        = 30 * time.Second
	pullDeliveries  = 5
	deadLetterAfter = "-dlq" // behind a topic's name: that of its dead letters

	// pullRetry is how long a pull waits that got nothing although something was there, and before it asks again what came of an Acquire.
	pullRetry = 50 * time.Millisecond
	// acquiresAtOnce bounds what one pull proposes together.
	acquiresAtOnce = 1024
	// acquireGrace is how long other partitions are waited for when one has given something, whose locks run; or a quarter of the locks' time.
	acquireGrace = time.Second
)

// pulls are what this agent's pulls have in common.
type pulls struct {
	mu    sync.Mutex           // taken within log.Read
	turn  uint32               // of the next pull
	asked map[queues.Key]int64 // records that pulls are about to lock: many that wake together don't all ask for the same
	queueCounts
}

// pull is one Pull under way.
type pull struct {
	PullRequest
	policy queues.Policy
	topic  metadata.Topic
	turn   uint32                                   // where among the partitions it begins
	doubts int                                      // how often it was looked whether the topic is there
	starts map[objectlog.Partition]objectlog.Offset // where the queue begins, where that depends on the moment
	begun  map[objectlog.Partition]bool             // it has, since, or was tried to
}

// Pull locks records and reads them. It proposes to the leaders of the partitions' shards, which may be others; what it locked and can't read it
// gives back. It answers nothing when there was nothing for r.Wait.
func (a *Agent) Pull(ctx context.Context, r PullRequest) ([]Pulled, error) {
	pulled, err := a.pull(ctx, r)
	if err != nil {
		return nil, topicError("pull from", r.Topic, err)
	}
	return pulled, nil
}

func (a *Agent) pull(ctx context.Context, r PullRequest) ([]Pulled, error) {
	p := &pull{PullRequest: r, starts: map[objectlog.Partition]objectlog.Offset{}, begun: map[objectlog.Partition]bool{}}
	if err := p.check(); err != nil {
		return nil, because(InvalidRequest, err)
	}
	var err error
	if p.topic, err = a.find(ctx, r.Topic, AnyPartition); err != nil {
		return nil, err
	}
	p.turn = a.pulls.next()
	wait, cancel := context.WithTimeout(ctx, r.Wait)
	defer cancel()
	for {
		changed := a.changesOf(p.topic)
		pulled, next, err := a.pullOnce(ctx, p)
		if len(pulled) > 0 || err != nil {
			return pulled, err
		}
		if next == afterMoment {
			changed = nil
		}
		if !a.waitToPull(wait, changed, next) {
			break
		}
	}
	if a.leaders == nil || r.Wait >= a.cfg.Lease {
		return nil, nil
	}
	// Who waits for less time than a follower may lag must not miss what another agent acknowledged before.
	for _, s := range shardsOf(p.topic.ID, 0, p.topic.Partitions, len(a.shards)) {
		if err := a.current(ctx, s); err != nil {
			return nil, err
		}
	}
	pulled, _, err := a.pullOnce(ctx, p)
	return pulled, err
}

// check fills in the defaults.
func (p *pull) check() error {
	p.RecordsMax, p.BytesMax, p.Lock = cmp.Or(p.RecordsMax, pullRecords), cmp.Or(p.BytesMax, pullBytes), cmp.Or(p.Lock, pullLock)
	p.policy = queues.Policy{Deliveries: cmp.Or(p.Deliveries, pullDeliveries), DeadLetters: cmp.Or(p.DeadLetters, p.Topic+deadLetterAfter)}
	problems := []error{queues.CheckGroup(p.Group)}
	within := func(name string, value, low, high int64) {
		if value < low || value > high {
			problems = append(problems, fmt.Errorf("%s %d: want %d to %d", name, value, low, high))
		}
	}
	within("records", int64(p.RecordsMax), 1, queues.WindowMax)
	within("bytes", p.BytesMax, 1, pullBytesMax)
	within("lock time in ms", p.Lock.Milliseconds(), 1, queues.WaitMax.Milliseconds())
	within("deliveries", int64(p.policy.Deliveries), 1, queues.DeliveriesMax)
	if err := metadata.CheckTopicName(p.policy.DeadLetters); err != nil {
		problems = append(problems, fmt.Errorf("dead-letter topic: %w", err))
	}
	if p.policy.DeadLetters == p.Topic {
		problems = append(problems, errors.New("the dead-letter topic must be another topic"))
	}
	if p.Start.Kind > StartTail || p.Start.Offset < 0 {
		problems = append(problems, errors.New("start: unknown kind, or a negative offset"))
	}
	return errors.Join(problems...)
}

func (p *pulls) next() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	return p.turn
}

// changesOf answers a channel per shard of the topic that is closed by the next entry.
func (a *Agent) changesOf(t metadata.Topic) []<-chan struct{} {
	var channels []<-chan struct{}
	for _, s := range shardsOf(t.ID, 0, t.Partitions, len(a.shards)) {
		channels = append(channels, a.shards[s].log.Changed())
	}
	return channels
}

// waitToPull answers false when ctx ends or the agent drains, else true, when it is time to look again.
func (a *Agent) waitToPull(ctx context.Context, changed []<-chan struct{}, next nextPull) bool {
	if next == withChange {
		return a.waitForAny(ctx, changed)
	}
	moment, cancel := context.WithTimeout(ctx, pullRetry)
	defer cancel()
	return a.waitForAny(moment, changed) || ctx.Err() == nil && a.draining.Err() == nil
}

// nextPull says when a pull that got nothing looks again.
type nextPull uint8

const (
	withChange  nextPull = iota // there was nothing
	soon                        // with a change or in a moment: others are about to lock what there was
	afterMoment                 // others had locked it, which the state as it is here may still not show
)

// pullOnce locks and reads what there is at this moment.
func (a *Agent) pullOnce(ctx context.Context, p *pull) (pulled []Pulled, next nextPull, err error) {
	v, err := a.offers(ctx, p)
	switch {
	case err != nil:
		return nil, 0, err
	case len(v.offers) == 0 && v.asked:
		return nil, soon, nil
	case len(v.offers) == 0:
		return nil, withChange, nil
	}
	begun := time.Now()
	got, err := a.acquire(ctx, p, v.offers)
	a.pulls.release(v.offers)
	for _, o := range v.offers {
		p.begun[o.Partition] = true
		if o.limit > 0 {
			next = afterMoment
		}
	}
	if len(got) > 0 {
		// Records whose lock is nearly over before they are read are for another pull.
		reading, over := context.WithDeadlineCause(ctx, begun.Add(p.Lock*3/4), errSlowRead)
		if pulled, err = a.readLocked(reading, p, got); err != nil && errors.Is(context.Cause(reading), errSlowRead) {
			err = because(Unavailable, errSlowRead)
		}
		over()
	}
	if err == nil && ctx.Err() != nil { // nobody is there to have it
		for _, l := range got {
			a.giveBack(l.offer, l.lock, l.ranges())
		}
		return nil, 0, because(Unavailable, ctx.Err())
	}
	for _, d := range pulled {
		for _, r := range d.Acquired {
			a.pulls.acquired.Add(int64(r.To - r.From))
		}
	}
	return pulled, next, err
}

var errSlowRead = errors.New("the bucket did not answer within the time of the lock: look at the bucket, or lock for longer")

// acquire proposes to lock what is offered, and answers what it got, in the order of the offers; at most RecordsMax records. An error is only
// answered when it got nothing.
func (a *Agent) acquire(ctx context.Context, p *pull, offers []offer) ([]locked, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over := time.AfterFunc(a.cfg.ProduceTimeout, cancel)
	defer over.Stop()
	grace := sync.OnceFunc(func() { over.Reset(min(acquireGrace, p.Lock/4)) })
	all, errs := make([]locked, len(offers)), make([]error, len(offers))
	var group errgroup.Group
	group.SetLimit(acquiresAtOnce)
	for i, o := range offers {
		group.Go(func() error {
			if all[i], errs[i] = a.acquireOne(ctx, p, o); len(all[i].acquired) > 0 {
				grace()
			}
			return nil
		})
	}
	_ = group.Wait()
	got, left := all[:0], objectlog.Offset(p.RecordsMax)
	for _, l := range all {
		a.giveBack(l.offer, l.lock, l.keep(left)) // where the queue had begun meanwhile, it gave something
		if left -= l.records(); len(l.acquired) > 0 {
			got = append(got, l)
		}
	}
	if len(got) > 0 {
		return got, nil
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// acquireOne proposes the same command until its outcome is known: a repeat is answered with what was locked. What is only known when nobody waits
// any more is given back.
func (a *Agent) acquireOne(ctx context.Context, p *pull, o offer) (locked, error) {
	l := locked{offer: o, lock: a.cfg.Random()}
	for l.lock == 0 {
		l.lock = a.cfg.Random()
	}
	c := queues.Acquire{Key: o.Key, Lock: l.lock, Wait: p.Lock, Limit: int32(max(1, o.limit)), Window: a.cfg.QueueWindow, Until: o.state.HighWatermark,
		LogStart: o.state.LogStart, Start: o.start, Policy: p.policy}
	if o.limit == 0 {
		c.Until = o.start
	}
	command := c.Command()
	late := func(result any) {
		if r, err := resultOf[queues.Result](result); err == nil {
			l := locked{offer: o, lock: l.lock, acquired: r.Acquired}
			a.giveBack(o, l.lock, l.ranges())
		}
	}
	for {
		var result queues.Result
		call, err := a.committers[o.shard].begin(command)
		if err == nil {
			var answer any
			if answer, err = a.committers[o.shard].wait(ctx, call, late); err == nil {
				result, err = resultOf[queues.Result](answer)
			}
		}
		switch {
		case err == nil && result.Reason != queues.ReasonNone:
			return l, result.Reason
		case err == nil:
			l.acquired = result.Acquired
			return l, nil
		case !errors.Is(err, OutcomeUnknown) || ctx.Err() != nil:
			return l, err
		}
		retry := time.NewTimer(pullRetry)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return l, err
		}
	}
}
