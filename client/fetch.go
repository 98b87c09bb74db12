package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// job is one fetch, or one search for starts, of some partitions. A partition is in one job at a time, so what arrives of
// it arrives in order.
type job struct {
	ctx     context.Context
	cancel  context.CancelFunc
	claims  []claim
	resolve bool
	wait    time.Duration
	bytes   int
	began   time.Time

	interrupted bool // or about to be
}

// claim is a partition's part in a job, as it was when claimed.
type claim struct {
	cur        *cursor
	generation int
	from       Offset
	start      Start
}

// newsHold is how long a fetch that waits for news is left alone before it is interrupted to take in more partitions.
const newsHold = 25 * time.Millisecond

// catchUp fetches partitions that have more to read, as long as there is room.
func (c *Consumer) catchUp() {
	for {
		j := c.claimBehind()
		if j == nil {
			return
		}
		c.do(j)
	}
}

// awaitNews fetches, waiting, all partitions that are read to their end.
func (c *Consumer) awaitNews() {
	for {
		j := c.claimAtEnd()
		if j == nil {
			return
		}
		c.do(j)
	}
}

// claimBehind waits for partitions with more to read and takes its share of them; nil when the consumer is closed.
func (c *Consumer) claimBehind() *job {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.ctx.Err() == nil {
		free := c.cfg.Fetches - c.busy
		room := c.buffered+c.claimed+2*c.cfg.FetchBytes <= c.cfg.PrefetchBytes // one share stays for awaitNews
		ready := c.ready(func(cur *cursor) bool { return !cur.resolved })
		resolve := len(ready) > 0
		if !resolve && room {
			ready = c.ready(func(cur *cursor) bool { return cur.behind })
		}
		if len(ready) > 0 {
			c.busy++
			share := (len(ready) + free - 1) / free
			if resolve {
				share = len(ready)
			}
			return c.claim(ready[:share], resolve, 0)
		}
		c.changed.Wait()
	}
	return nil
}

// claimAtEnd waits for partitions that are read to their end and takes all.
func (c *Consumer) claimAtEnd() *job {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.ctx.Err() == nil {
		ready := c.atEnd()
		if len(ready) > 0 && c.buffered+c.claimed+c.cfg.FetchBytes <= c.cfg.PrefetchBytes {
			c.waiting = c.claim(ready, false, c.cfg.FetchWait)
			return c.waiting
		}
		c.changed.Wait()
	}
	return nil
}

func (c *Consumer) atEnd() []*cursor {
	return c.ready(func(cur *cursor) bool { return cur.resolved && !cur.behind })
}

func (c *Consumer) someAtEnd() bool {
	now := time.Now()
	return slices.ContainsFunc(c.order, func(cur *cursor) bool { return cur.ready(now) && cur.resolved && !cur.behind })
}

// ready lists the partitions that can be fetched now and that want says yes to, the one fetched longest ago first.
func (c *Consumer) ready(want func(*cursor) bool) []*cursor {
	var list []*cursor
	now := time.Now()
	for _, cur := range c.order {
		if cur.ready(now) && want(cur) {
			list = append(list, cur)
		}
	}
	return list
}

func (cur *cursor) ready(now time.Time) bool {
	return !cur.fetching && !cur.paused && !cur.held && !cur.stopping && cur.err == nil && !now.Before(cur.retryAt)
}

func (c *Consumer) claim(list []*cursor, resolve bool, wait time.Duration) *job {
	j := &job{resolve: resolve, wait: wait, began: time.Now()}
	j.ctx, j.cancel = context.WithTimeout(c.ctx, wait+c.c.cfg.RequestTimeout)
	if !resolve {
		j.bytes = c.cfg.FetchBytes
	}
	c.claimed += j.bytes
	taken := make(map[*cursor]bool, len(list))
	for _, cur := range list {
		cur.fetching, taken[cur] = true, true
		j.claims = append(j.claims, claim{cur, cur.generation, cur.next, cur.start})
	}
	// Those that were taken go to the end, so that the next share is of others.
	rest := make([]*cursor, 0, len(c.order))
	for _, cur := range c.order {
		if !taken[cur] {
			rest = append(rest, cur)
		}
	}
	c.order = append(rest, list...)
	return j
}

// do runs the job and gives back what it claimed.
func (c *Consumer) do(j *job) {
	defer j.cancel()
	var err error
	var parts []*splashdamv1.FetchResponse_Partition
	var found []FoundOffset
	if j.resolve {
		found, err = c.find(j)
	} else {
		parts, err = c.fetch(j)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claimed -= j.bytes
	if c.waiting == j {
		c.waiting = nil
	} else {
		c.busy--
	}
	byPlace := make(map[place]claim, len(j.claims))
	for _, cl := range j.claims {
		cl.cur.fetching = false
		if cl.generation == cl.cur.generation {
			byPlace[cl.cur.place] = cl
		}
	}
	switch {
	case err != nil && j.ctx.Err() != nil && !errors.Is(j.ctx.Err(), context.DeadlineExceeded):
		// Interrupted, to take in more partitions or to let go of one. Reads are pure: nothing is lost.
	case err != nil:
		for _, cl := range byPlace {
			c.failed(cl, errorOf("fetch", err))
		}
	}
	for _, f := range found {
		if cl, ok := byPlace[place{f.Topic, f.Partition}]; ok {
			c.found(cl, f)
		}
	}
	for _, p := range parts {
		if cl, ok := byPlace[place{p.GetTopic(), Partition(p.GetPartition())}]; ok {
			c.deliver(cl, p)
			delete(byPlace, cl.cur.place)
		}
	}
	if parts != nil {
		for _, cl := range byPlace { // not mentioned: nothing to read
			cl.cur.behind = false
		}
	}
	c.notify()
}

func (c *Consumer) fetch(j *job) ([]*splashdamv1.FetchResponse_Partition, error) {
	req := &splashdamv1.FetchRequest{MaxBytes: int32(j.bytes), MinBytes: 1, Encoded: true, MaxWait: durationpb.New(j.wait)}
	for _, cl := range j.claims {
		req.Partitions = append(req.Partitions, fetchFrom{cl.cur.place, At(cl.from)}.message())
	}
	res, err := c.c.log.Fetch(j.ctx, req)
	return res.GetPartitions(), err
}

func (c *Consumer) find(j *job) ([]FoundOffset, error) {
	wanted := make([]fetchFrom, 0, len(j.claims))
	for _, cl := range j.claims {
		wanted = append(wanted, fetchFrom{cl.cur.place, cl.start})
	}
	return c.c.offsets(j.ctx, wanted)
}

// found takes the answer to the search for a start.
func (c *Consumer) found(cl claim, f FoundOffset) {
	var e *Error
	switch {
	case errors.As(f.Err, &e):
		c.failed(cl, e)
	default:
		cl.cur.attempt = 0
		cl.cur.resolve(f.Offset)
		cl.cur.behind = f.Offset < f.HighWatermark
	}
}

// deliver takes what a fetch brought of one partition.
func (c *Consumer) deliver(cl claim, p *splashdamv1.FetchResponse_Partition) {
	cur := cl.cur
	if d := p.GetError(); d != nil {
		c.failed(cl, errorOfDetail(fmt.Sprintf("fetch %s/%d at %d", cur.topic, cur.partition, cl.from), d))
		return
	}
	cur.attempt = 0
	next := max(cl.from, Offset(p.GetNextOffset()))
	cur.next, cur.behind = next, next < Offset(p.GetHighWatermark())
	if len(p.GetEncoded()) == 0 {
		return
	}
	c.buffered += len(p.GetEncoded())
	c.chunks = append(c.chunks, &chunk{cur: cur, generation: cl.generation, from: cl.from, encoded: p.GetEncoded()})
	c.news.wake()
}

// failed decides what an error means for a partition: another attempt, or that Poll is told.
func (c *Consumer) failed(cl claim, e *Error) {
	cur := cl.cur
	deleted := c.member != nil && errors.Is(e, ErrUnknownTopic) // then the group takes the partition away
	if c.c.heed(e); e.Retriable || e.Code == "deadline_exceeded" || deleted {
		c.backOff(cur, e, c.c.cfg.delayAfter(cur.attempt, e))
		return
	}
	// It takes its place behind what was fetched before, which is still good.
	cur.retryAt = never
	c.chunks = append(c.chunks, &chunk{cur: cur, generation: cl.generation, err: e})
	c.news.wake()
}

// never is far enough: a partition with an error waits for Seek or Pause, which clear it.
var never = time.Unix(1<<40, 0)

// backOff delays the next fetch of the partition.
func (c *Consumer) backOff(cur *cursor, err error, d time.Duration) {
	c.last = err
	cur.attempt++
	cur.retryAt = time.Now().Add(d)
	time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.notify()
	})
}

// notify wakes the fetchers, and interrupts the fetch that waits for news when there are partitions that should be in it.
func (c *Consumer) notify() {
	c.changed.Broadcast()
	j := c.waiting
	if j == nil || j.interrupted || !c.someAtEnd() {
		return
	}
	j.interrupted = true
	time.AfterFunc(newsHold-time.Since(j.began), j.cancel)
}

// assign adds a partition, if it is not there.
func (c *Consumer) assign(at place, start Start) {
	if c.cursors[at] == nil {
		c.add(&cursor{place: at, behind: true}, start)
	}
}

func (c *Consumer) add(cur *cursor, start Start) {
	cur.start = start
	if start.kind == startAt {
		cur.resolve(Offset(start.number))
	}
	c.cursors[cur.place] = cur
	c.order = append(c.order, cur)
}

// remove forgets a partition and all that was fetched of it.
func (c *Consumer) remove(cur *cursor) {
	c.drop(cur)
	c.setError(cur, nil)
	cur.gone = true
	delete(c.cursors, cur.place)
	c.order = slices.DeleteFunc(c.order, func(other *cursor) bool { return other == cur })
}

// watchTopics assigns the partitions of Topics, and those that come later.
func (c *Consumer) watchTopics() {
	known := make(map[string]bool)
	for attempt := 0; ; attempt++ {
		var failed error
		for _, name := range c.cfg.Topics {
			t, _, err := c.c.Topic(c.ctx, name)
			if err != nil {
				failed = err
				continue
			}
			c.assignTopic(t, known[name])
			known[name] = true
		}
		wait := c.cfg.MetadataAge
		if len(known) < len(c.cfg.Topics) {
			wait = min(wait, c.c.cfg.delay(attempt, 0))
		}
		c.topicsSeen(failed, len(known) == len(c.cfg.Topics))
		if pause(c.ctx, wait) != nil {
			return
		}
	}
}

// assignTopic assigns the partitions that are not yet. Those of a topic seen before are new and read from their beginning:
// the records that came before they were found count, too.
func (c *Consumer) assignTopic(t Topic, known bool) {
	start := c.cfg.Start
	if known {
		start = Earliest()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range Partition(t.Partitions) {
		c.assign(place{t.Name, p}, start)
	}
	c.notify()
}

// topicsSeen notes how a look at Topics went. Poll fails while a topic that was never seen can't be found; what becomes of
// one that was seen is told by its partitions.
func (c *Consumer) topicsSeen(failed error, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topicErr = nil
	if failed == nil {
		return
	}
	c.last = failed
	var e *Error
	if !all && errors.As(failed, &e) && !e.Retriable {
		c.topicErr = failed
		c.news.wake()
	}
}
