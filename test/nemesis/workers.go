package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	crew    = "crew" // an ordered group
	members = 3
	desk    = "desk" // a queue
	clerks  = 3

	againName      = "nemesis-again" // what is redriven
	deadName       = topicName + "-dlq"
	memberSession  = 3 * time.Second
	memberLife     = 12 * time.Second
	commitEvery    = 300 * time.Millisecond
	lockTime       = 3 * time.Second
	deliveriesMax  = 4
	ackTimeout     = 5 * time.Second
	redriveEvery   = 7 * time.Second
	redriveTimeout = 15 * time.Second
)

// startWork begins the members of the group, the consumers of the queue, and whoever redrives.
func (l *load) startWork(ctx context.Context, admin *client.Client) error {
	if _, err := admin.CreateTopic(ctx, client.Topic{Name: againName, Partitions: shards}); err != nil {
		return fmt.Errorf("start work: %w", err)
	}
	for n := range members {
		l.wg.Go(func() { l.report(l.member(ctx, n)) })
	}
	for n := range clerks {
		l.wg.Go(func() { l.report(l.clerk(ctx, n)) })
	}
	l.wg.Go(func() { l.report(l.redrive(ctx)) })
	return nil
}

// member is one life after the other of a member of the group.
func (l *load) member(ctx context.Context, n int) error {
	chance := rand.New(rand.NewPCG(l.seed, uint64(100+n)))
	for life := 0; ctx.Err() == nil; life++ {
		living, end := context.WithTimeout(ctx, memberLife/2+time.Duration(chance.Int64N(int64(memberLife))))
		err := l.live(living, fmt.Sprintf("member %d, life %d", n, life), l.c.balanced()[0], chance.IntN(2) == 0)
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

// live is one life: the member reads and commits until ctx ends, and then leaves, or is cut off.
func (l *load) live(ctx context.Context, who, address string, cutOff bool) error {
	way, err := newLink(address, nil)
	if err != nil {
		return err
	}
	defer way.close()
	c, err := l.client(way.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	begun := map[client.Partition]int{} // how far the history had come when a partition came, until the first record of it
	ends, committed := map[client.Partition]client.Offset{}, time.Now()
	var consumer *client.Consumer
	gone := func(_ context.Context, all []client.TopicPartitions) {
		for _, t := range all {
			for _, p := range t.Partitions {
				delete(begun, p)
				delete(ends, p)
			}
		}
	}
	consumer, err = c.NewConsumer(client.ConsumerConfig{
		Topics: []string{topicName}, Group: crew, SessionTimeout: memberSession, Commit: client.CommitManual, OutOfRange: client.OutOfRangeEarliest, FetchWait: time.Second,
		OnAssigned: func(_ context.Context, all []client.TopicPartitions) {
			for _, t := range all {
				for _, p := range t.Partitions {
					begun[p] = l.h.Due()
				}
			}
		},
		OnRevoked: func(ctx context.Context, all []client.TopicPartitions) {
			l.commit(ctx, who, consumer, ends)
			gone(ctx, all)
		},
		OnLost: gone,
	})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		polling, end := context.WithTimeout(ctx, commitEvery)
		records, err := consumer.Poll(polling, pollMax)
		if err != nil && polling.Err() == nil {
			l.h.Accuse("stuck-member", "%s: %v", who, err)
			end()
			break
		}
		end()
		l.process(who, consumer, records, begun, ends)
		if time.Since(committed) >= commitEvery {
			l.commit(ctx, who, consumer, ends)
			committed = time.Now()
		}
	}
	if cutOff {
		way.set(anyone, quality{cut: true})
	} else {
		l.commit(context.WithoutCancel(ctx), who, consumer, ends)
	}
	consumer.Close()
	return nil
}

// process takes note of what a member was handed and still owns.
func (l *load) process(who string, consumer *client.Consumer, records []client.Record, begun map[client.Partition]int, ends map[client.Partition]client.Offset) {
	for _, r := range records {
		generation := consumer.Generation(topicName, r.Partition)
		if generation == 0 {
			continue // lost meanwhile: others process it
		}
		if due, ok := begun[r.Partition]; ok {
			l.h.Begin(crew, who, r.Partition, r.Offset, due)
			delete(begun, r.Partition)
		}
		l.h.Process(crew, who, generation, recordOf(r))
		ends[r.Partition] = r.Offset + 1
	}
}

// commit commits what was processed.
func (l *load) commit(ctx context.Context, who string, consumer *client.Consumer, ends map[client.Partition]client.Offset) {
	if len(ends) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	for p, o := range ends {
		l.h.Try(crew, who, p, o)
	}
	if consumer.Commit(ctx) == nil {
		for p, o := range ends {
			l.h.Commit(crew, who, p, o)
		}
	}
	clear(ends)
}

func recordOf(r client.Record) history.Record {
	return history.Record{Partition: r.Partition, Offset: r.Offset, Value: string(r.Value)}
}

func (l *load) newQueue(c *client.Client) (*client.Queue, error) {
	return c.NewQueue(client.QueueConfig{Group: desk, Topic: topicName, LockTime: lockTime, MaxDeliveries: deliveriesMax, MaxRecords: 300, MaxWait: time.Second})
}

// clerk pulls records and says something of most of them.
func (l *load) clerk(ctx context.Context, n int) error {
	addresses := l.c.balanced()
	if n == 0 {
		addresses = l.c.links()
	}
	c, err := l.client(addresses...)
	if err != nil {
		return err
	}
	defer c.Close()
	q, err := l.newQueue(c)
	if err != nil {
		return err
	}
	defer q.Close()
	chance := rand.New(rand.NewPCG(l.seed, uint64(200+n)))
	for ctx.Err() == nil {
		records := l.pull(ctx, q, fmt.Sprintf("clerk %d", n))
		work := time.Duration(chance.Int64N(int64(100 * time.Millisecond)))
		if chance.IntN(30) == 0 {
			work = lockTime + time.Second // too long
		}
		pause(ctx, work)
		some := map[history.Decision][]*client.QueuedRecord{}
		for _, r := range records {
			d := history.Accept
			switch x := chance.IntN(100); {
			case x < 8:
				d = history.Release
			case x < 10:
				d = history.Reject
			case x < 14:
				continue // forgotten
			}
			some[d] = append(some[d], r)
		}
		for _, d := range []history.Decision{history.Accept, history.Release, history.Reject} {
			l.settle(ctx, q, fmt.Sprintf("clerk %d", n), d, some[d])
		}
	}
	return nil
}

// pull takes what the queue has.
func (l *load) pull(ctx context.Context, q *client.Queue, who string) []*client.QueuedRecord {
	due := l.h.Due()
	records, err := q.Pull(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.h.Note("%s: %v", who, err)
			pause(ctx, 100*time.Millisecond)
		}
		return nil
	}
	for _, r := range records {
		l.h.Take(desk, who, due, lockTime, int(r.Deliveries), recordOf(r.Record))
	}
	return records
}

// settle acknowledges records. Where one of them is refused, nothing is known of the others.
func (l *load) settle(ctx context.Context, q *client.Queue, who string, d history.Decision, records []*client.QueuedRecord) {
	if len(records) == 0 {
		return
	}
	for _, r := range records {
		l.h.Settle(desk, who, d, r.Partition, r.Offset)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	var err error
	switch d {
	case history.Accept:
		err = q.Accept(ctx, records...)
	case history.Release:
		err = q.Release(ctx, 100*time.Millisecond, "not now", records...)
	case history.Reject:
		err = q.Reject(ctx, "no good", records...)
	}
	if err != nil {
		return
	}
	for _, r := range records {
		l.h.Settled(desk, who, d, r.Partition, r.Offset)
	}
}

// redrive sends dead letters to another topic now and then.
func (l *load) redrive(ctx context.Context) error {
	c, err := l.client()
	if err != nil {
		return err
	}
	defer c.Close()
	for pause(ctx, redriveEvery) {
		calling, cancel := context.WithTimeout(ctx, redriveTimeout)
		done, err := c.Redrive(calling, client.RedriveRequest{Topic: deadName, ToTopic: againName, MaxRecords: 20})
		cancel()
		l.h.Note("redriven: %+v, %v", done, err)
	}
	return nil
}

// finishWork has a last member and a last consumer process what is left, and looks at what became of dead letters.
func (l *load) finishWork(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*unseenTimeout)
	defer cancel()
	c, err := l.client()
	if err != nil {
		l.report(err)
		return
	}
	defer c.Close()
	due := l.h.Due()
	last, end := context.WithCancel(ctx)
	defer end()
	l.wg.Go(func() { l.report(l.live(last, "last member", l.c.balanced()[0], false)) })
	l.wg.Go(func() { l.report(l.acceptAll(last, c)) })
	if !until(ctx, unseenTimeout, func() bool { return l.groupBehind(ctx, c) == 0 }) {
		l.h.Accuse("stuck-group", "%s does not come to the end: %d records", crew, l.groupBehind(ctx, c))
	}
	if !until(ctx, unseenTimeout, func() bool { return l.queueBehind(ctx, c) == 0 }) {
		l.h.Accuse("stuck-queue", "%s does not come to the end: %d records", desk, l.queueBehind(ctx, c))
	}
	end()
	l.wg.Wait()
	if err := l.buried(ctx, c); err != nil {
		l.h.Accuse("stuck-letters", "%v", err)
	}
	l.h.Drain(crew, due, 0)
	l.h.Drain(desk, due, deliveriesMax)
}

// acceptAll is a consumer that accepts whatever there is.
func (l *load) acceptAll(ctx context.Context, c *client.Client) error {
	q, err := l.newQueue(c)
	if err != nil {
		return err
	}
	defer q.Close()
	for ctx.Err() == nil {
		l.settle(ctx, q, "last clerk", history.Accept, l.pull(ctx, q, "last clerk"))
	}
	return nil
}

// groupBehind is how many records the group has not committed; below zero: nobody says.
func (l *load) groupBehind(ctx context.Context, c *client.Client) (sum int64) {
	offsets, err := c.GroupOffsets(ctx, crew, topicName)
	if err != nil {
		return -1
	}
	for _, o := range offsets {
		if o.Err != nil || o.Lag < 0 {
			return -1
		}
		sum += o.Lag
	}
	return sum
}

// queueBehind is the same of the queue.
func (l *load) queueBehind(ctx context.Context, c *client.Client) (sum int64) {
	status, err := c.QueueStatus(ctx, desk, topicName)
	if err != nil {
		return -1
	}
	for _, p := range status.Partitions {
		sum += p.Lag
	}
	return sum
}

// buried notes all dead letters, and holds what was redriven against them.
func (l *load) buried(ctx context.Context, c *client.Client) error {
	letters, err := readAll(ctx, c, deadName)
	if isMissing(err) {
		return nil // there were none
	}
	if err != nil {
		return err
	}
	for _, r := range letters {
		p, err1 := strconv.Atoi(header(r, "splashdam-dlq-partition"))
		o, err2 := strconv.Atoi(header(r, "splashdam-dlq-offset"))
		n, err3 := strconv.Atoi(header(r, "splashdam-dlq-deliveries"))
		if err := errors.Join(err1, err2, err3); err != nil || header(r, "splashdam-dlq-topic") != topicName || header(r, "splashdam-dlq-group") != desk {
			return fmt.Errorf("dead letter %d/%d: %q: %w", r.Partition, r.Offset, r.Headers, err)
		}
		l.h.Bury(desk, header(r, "splashdam-dlq-reason"), n, history.Record{Partition: client.Partition(p), Offset: client.Offset(o), Value: string(r.Value)})
	}
	for left := int64(1); left > 0; {
		done, err := c.Redrive(ctx, client.RedriveRequest{Topic: deadName, ToTopic: againName, MaxRecords: 1000})
		if err != nil {
			return err
		}
		left = done.Remaining + done.Redriving
	}
	again, err := readAll(ctx, c, againName)
	if err != nil {
		return err
	}
	times := map[string]int{}
	for _, r := range again {
		times[header(r, "splashdam-redriven-from")]++
	}
	for _, r := range letters {
		from := fmt.Sprintf("%s/%d/%d", deadName, r.Partition, r.Offset)
		if times[from] != 1 {
			l.h.Accuse("redriven-wrong", "%s is %d times where it was sent", from, times[from])
		}
		delete(times, from)
	}
	for from, n := range times {
		l.h.Accuse("redriven-wrong", "%q is %d times where nothing of it was sent", from, n)
	}
	return nil
}

func header(r client.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// readAll reads a topic from its beginning to where it ends now.
func readAll(ctx context.Context, c *client.Client, topic string) (all []client.Record, err error) {
	ends, err := c.Offsets(ctx, topic, client.Latest())
	if err != nil {
		return nil, err
	}
	left := map[client.Partition]client.Offset{}
	var cfg client.ConsumerConfig
	for _, end := range ends {
		if end.Err != nil {
			return nil, end.Err
		}
		if end.Offset > end.LogStart {
			left[end.Partition] = end.Offset
			cfg.Partitions = append(cfg.Partitions, client.Assignment{Topic: topic, Partition: end.Partition})
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	consumer, err := c.NewConsumer(cfg)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	for len(left) > 0 {
		records, err := consumer.Poll(ctx, pollMax)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			all = append(all, r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		}
	}
	return all, nil
}
