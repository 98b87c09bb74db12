package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/objectlog"
)

// Consumer reads assigned partitions in order and without gaps; in a group, those that the group assigns to it. One goroutine at a time polls; the
// other methods may be called at any time.
type Consumer struct {
	c    *Client
	cfg  ConsumerConfig
	ctx  context.Context // ends on Close; not a request's
	stop context.CancelFunc
	wg   sync.WaitGroup
	news signal // something changed for Poll

	mu       sync.Mutex // all below
	changed  *sync.Cond // something changed for the fetchers
	cursors  map[place]*cursor
	order    []*cursor // those of cursors, in the order in which they are served
	chunks   []*chunk  // fetched, oldest first
	buffered int       // bytes in chunks and in the batch being handed out
	claimed  int       // bytes that running fetches may bring
	busy     int       // catch-up fetches running
	waiting  *job      // the fetch that waits for news
	topicErr error     // of the last look at Topics; nil when it went well
	last     error     // the latest error that is being retried
	stuck    int       // cursors with err
	current  handout
	inside   int         // calls of Poll and Run that have not returned
	running  bool        // one of them is Run
	member   *membership // nil: of no group
}

// cursor is where one partition is read. Always processed <= position <= next.
type cursor struct {
	place
	start      Start  // where to begin, until resolved
	resolved   bool   // the three offsets are set
	processed  Offset // records below are processed
	position   Offset // of the next record that Poll hands out
	next       Offset // where the next fetch begins
	fetching   bool
	behind     bool // there is more to read, as far as known
	paused     bool
	generation int // raised when what is under way or fetched is no longer wanted
	seeks      int // raised when the position is moved from outside
	damaged    int // times in a row that what was fetched did not verify
	attempt    int // fetches in a row that failed
	retryAt    time.Time
	err        error // Poll fails with it until Seek or Pause

	// Of a group's partition:
	assigned  member.Place
	committed Offset // NoOffset: none is known to be
	held      bool   // not read yet: the committed position is being looked for, or OnAssigned is due
	announced bool   // OnAssigned was called, or will be before anything is handed out
	stopping  bool   // it goes to another member: nothing more is read or handed out
	gone      bool   // it is not this consumer's any more
}

// chunk is what one fetch brought of one partition.
type chunk struct {
	cur        *cursor
	generation int
	from       Offset // what was asked for; batches may begin below
	encoded    []byte // whole batches
	err        *Error // instead of batches
}

// handout is the decoded batch that Poll is handing out. Only Poll touches records.
type handout struct {
	records    []Record
	cur        *cursor
	generation int // of cur, when decoded
	seeks      int // of cur, when decoded
	bytes      int
}

// NewConsumer starts a consumer. Close it.
func (c *Client) NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new consumer: %w", err)
	}
	cons := &Consumer{c: c, cfg: cfg, news: newSignal(), cursors: make(map[place]*cursor)}
	cons.changed = sync.NewCond(&cons.mu)
	cons.ctx, cons.stop = context.WithCancel(context.Background())
	for _, a := range cfg.Partitions {
		setDefault(&a.Start, cfg.Start)
		cons.assign(place{a.Topic, a.Partition}, a.Start)
	}
	switch {
	case cfg.Group != "":
		cons.join()
	case len(cfg.Topics) > 0:
		cons.wg.Go(cons.watchTopics)
	}
	for range cfg.Fetches {
		cons.wg.Go(cons.catchUp)
	}
	cons.wg.Go(cons.awaitNews)
	return cons, nil
}

// Poll answers the next records of one partition, at least one and at most recordsMax, waiting for them until ctx ends. The slice
// is valid until the next Poll; keys, values and headers stay valid. The records of the Poll before count as processed.
//
// Errors that time can cure are retried inside and only shown in the error of a ctx that ends. An error that it can't
// (the topic is gone, the position out of range, damaged data) is answered again and again until Seek or Pause of that partition.
//
// In a group, the callbacks of ConsumerConfig run within Poll. A consumer that was fenced by another life of its Instance gets ErrFencedInstance.
func (c *Consumer) Poll(ctx context.Context, recordsMax int) ([]Record, error) {
	if recordsMax < 1 {
		return nil, fmt.Errorf("poll at most %d records: want at least 1", recordsMax)
	}
	c.enter()
	defer c.exit()
	c.allProcessed()
	return c.poll(ctx, recordsMax)
}

// allProcessed counts as processed what was handed out.
func (c *Consumer) allProcessed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := &c.current; h.cur != nil && h.cur.seeks == h.seeks {
		h.cur.processed = h.cur.position
	}
}

func (c *Consumer) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside++
}

func (c *Consumer) setRunning(running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = running
}

func (c *Consumer) exit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside--
	c.changed.Broadcast()
}

func (c *Consumer) poll(ctx context.Context, recordsMax int) ([]Record, error) {
	c.tell(member.Polling{})
	defer c.tell(member.Polled{})
	for {
		if ctx.Err() != nil || c.ctx.Err() != nil {
			return nil, c.pollError(ctx)
		}
		if err := c.carryOut(context.WithoutCancel(ctx)); err != nil {
			return nil, err
		}
		if records := c.handOut(recordsMax); len(records) > 0 {
			if records = c.commitBefore(ctx, records); len(records) > 0 {
				return records, nil
			}
			continue
		}
		ch, err := c.nextChunk()
		switch {
		case err != nil:
			return nil, err
		case ch != nil:
			c.open(ch)
			continue
		}
		select {
		case <-c.news:
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
	}
}

// Run hands each record to fn and counts it as processed when fn answers nil. It returns when ctx ends, or with the first error
// of fn or Poll; the record that failed is the next one that is read, or, with CommitBefore, the one behind it. A partition that goes to
// another member of the group is let go of behind the record in hand. With Retry an error of fn ends one attempt on the record, not Run.
func (c *Consumer) Run(ctx context.Context, fn func(context.Context, Record) error) error {
	c.enter()
	defer c.exit()
	c.allProcessed()
	c.setRunning(true)
	defer c.setRunning(false)
	for {
		records, err := c.poll(ctx, 1000)
		if err != nil {
			return err
		}
		for _, r := range records {
			next := r.Offset
			done, err := false, ctx.Err()
			if err == nil {
				if done, err = c.handle(ctx, fn, r); c.cfg.Commit == CommitBefore {
					next++
				}
			}
			if err != nil {
				c.rewind(next)
				return fmt.Errorf("process %s/%d at %d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			if !done || !c.processed(r) {
				break
			}
		}
	}
}

// Position is the offset below which all records of the partition are processed: where a later reader goes on. It is
// NoOffset until the start is found.
func (c *Consumer) Position(topic string, p Partition) Offset {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cur := c.cursors[place{topic, p}]; cur != nil && cur.resolved {
		return cur.processed
	}
	return NoOffset
}

// Seek goes on at another place, and clears the partition's error. A partition that is not assigned is an error.
func (c *Consumer) Seek(topic string, p Partition, to Start) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.cursors[place{topic, p}]
	if cur == nil || cur.stopping {
		return fmt.Errorf("seek %s/%d: not assigned", topic, p)
	}
	setDefault(&to, c.cfg.Start)
	c.reset(cur, to)
	return nil
}

// Pause stops the reading of partitions and drops what was fetched of them; Resume goes on where they were. Partitions
// that are not assigned are ignored.
func (c *Consumer) Pause(topic string, partitions ...Partition) { c.setPaused(topic, partitions, true) }

// Resume undoes Pause.
func (c *Consumer) Resume(topic string, partitions ...Partition) {
	c.setPaused(topic, partitions, false)
}

// Close ends the fetching. A Poll that waits fails with ErrClosed.
//
// In a group it first commits what is processed, unless that is left to CommitManual, and leaves: that takes at most 10 s, and the callbacks run within
// it. It waits for half of that for a Run elsewhere to finish the record in hand. The records of the last Poll count as processed only with another Poll, or
// Commit. A member with an Instance stops and commits, but stays a member until its session ends.
func (c *Consumer) Close() {
	c.stop()
	c.mu.Lock()
	c.changed.Broadcast()
	c.mu.Unlock()
	c.leave()
	c.wg.Wait()
}

func (c *Consumer) setPaused(topic string, partitions []Partition, paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions {
		cur := c.cursors[place{topic, p}]
		if cur == nil || cur.paused == paused {
			continue
		}
		cur.paused = paused
		c.drop(cur)
		c.setError(cur, nil)
		cur.next, cur.behind = cur.position, true
	}
	c.notify()
}

// reset begins anew at a place.
func (c *Consumer) reset(cur *cursor, to Start) {
	c.drop(cur)
	c.setError(cur, nil)
	cur.damaged, cur.attempt = 0, 0
	cur.seeks++
	cur.start, cur.resolved, cur.behind = to, false, true
	if to.kind == startAt {
		cur.resolve(Offset(to.number))
	}
	c.notify()
}

func (cur *cursor) resolve(at Offset) {
	cur.processed, cur.position, cur.next, cur.resolved = at, at, at, true
}

// setError makes Poll fail for the partition, or no longer.
func (c *Consumer) setError(cur *cursor, err error) {
	if cur.err != nil {
		c.stuck--
	}
	if cur.err = err; err != nil {
		c.stuck++
		c.news.wake()
	}
}

// drop forgets what was fetched of a partition, and what is under way.
func (c *Consumer) drop(cur *cursor) {
	cur.generation++
	cur.retryAt = time.Time{}
	c.chunks = slices.DeleteFunc(c.chunks, func(ch *chunk) bool {
		if ch.cur == cur {
			c.buffered -= len(ch.encoded)
		}
		return ch.cur == cur
	})
	if c.waiting != nil && slices.ContainsFunc(c.waiting.claims, func(cl claim) bool { return cl.cur == cur }) {
		c.waiting.cancel()
	}
}

// handOut answers up to recordsMax of the records that are decoded.
func (c *Consumer) handOut(recordsMax int) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.current
	if len(h.records) == 0 || h.cur.generation != h.generation {
		c.buffered -= h.bytes
		*h = handout{}
		c.notify()
		return nil
	}
	out := h.records[:min(recordsMax, len(h.records))]
	h.records = h.records[len(out):]
	h.cur.position = out[len(out)-1].Offset + 1
	return out
}

// nextChunk answers the oldest chunk, nil when there is none, or the error of a partition that has one.
func (c *Consumer) nextChunk() (*chunk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; c.stuck > 0 && i < len(c.order); i++ {
		if err := c.order[i].err; err != nil {
			return nil, err
		}
	}
	if c.topicErr != nil {
		return nil, c.topicErr
	}
	for len(c.chunks) > 0 { // one signal can stand for several chunks: go on behind one that is settled here
		ch := c.chunks[0]
		c.chunks[0] = nil
		c.chunks = c.chunks[1:]
		switch {
		case ch.err == nil:
			return ch, nil
		case errors.Is(ch.err, ErrOutOfRange) && c.cfg.OutOfRange == OutOfRangeEarliest:
			c.reset(ch.cur, Earliest())
		case errors.Is(ch.err, ErrOutOfRange) && c.cfg.OutOfRange == OutOfRangeLatest:
			c.reset(ch.cur, Latest())
		default:
			c.setError(ch.cur, ch.err)
			return nil, ch.err
		}
	}
	return nil, nil
}

// open decodes the chunk's first batch for handing out and puts the others back in front.
func (c *Consumer) open(ch *chunk) {
	records, next, rest, err := decodeFirst(ch)
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := ch.cur
	if cur.generation != ch.generation {
		c.buffered -= len(ch.encoded)
		return
	}
	if err != nil {
		c.buffered -= len(ch.encoded)
		c.fetchAgain(cur, ch.from, err)
		return
	}
	cur.damaged = 0
	c.current = handout{
		records: records, cur: cur, generation: ch.generation, seeks: cur.seeks, bytes: len(ch.encoded) - len(rest),
	}
	if len(records) == 0 { // nothing to hand out is nothing to process
		cur.position = max(cur.position, next)
	}
	if len(rest) == 0 {
		return
	}
	ch.encoded, ch.from = rest, next
	c.chunks = slices.Insert(c.chunks, 0, ch)
}

// decodeFirst decodes the chunk's first batch, less the records below from; next is where the batches behind it go on. A
// batch that begins above from is an error: offsets have no gaps.
func decodeFirst(ch *chunk) (records []Record, next Offset, rest []byte, err error) {
	h, err := objectlog.ParseBatchHeader(ch.encoded)
	if err != nil {
		return nil, 0, nil, err
	}
	if h.BaseOffset > ch.from {
		return nil, 0, nil, fmt.Errorf("batch at %d, want %d: %w", h.BaseOffset, ch.from, objectlog.ErrCorrupt)
	}
	next = max(ch.from, h.BaseOffset+Offset(h.LastOffsetDelta)+1)
	rest = ch.encoded[h.Bytes:]
	if next == ch.from || h.Control {
		return nil, next, rest, nil
	}
	records = make([]Record, 0, min(int(h.Records), h.Bytes)) // a count can lie, a length was checked
	err = objectlog.DecodeBatch(ch.encoded, objectlog.Limits{}, func(o Offset, r objectlog.Record) bool {
		if o >= ch.from {
			records = append(records, Record{
				Topic: ch.cur.topic, Partition: ch.cur.partition, Offset: o,
				Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: time.UnixMilli(int64(r.Timestamp)),
			})
		}
		return true
	})
	return records, next, rest, err
}

// damagedMax is how often what does not verify is fetched again: bytes may be damaged on the way, too.
const damagedMax = 3

// fetchAgain goes back to what did not verify. It is never skipped.
func (c *Consumer) fetchAgain(cur *cursor, from Offset, err error) {
	err = fmt.Errorf("read %s/%d at %d: %w", cur.topic, cur.partition, from, err)
	c.drop(cur)
	cur.next, cur.behind = from, true
	if cur.damaged++; cur.damaged > damagedMax {
		c.setError(cur, err)
		return
	}
	c.backOff(cur, err, c.c.cfg.delay(cur.attempt, 0))
}

// processed counts one record, and answers whether those that were handed out behind it are still this consumer's.
func (c *Consumer) processed(r Record) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.current
	if h.cur == nil || h.cur.seeks != h.seeks {
		return true
	}
	h.cur.processed = r.Offset + 1
	c.handled()
	if closed := c.member != nil && c.ctx.Err() != nil; closed || h.cur.stopping || h.cur.gone {
		h.cur.position = h.cur.processed
		return false
	}
	return true
}

// rewind makes the record at the offset the next one that is read, unless the partition was moved meanwhile.
func (c *Consumer) rewind(to Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := &c.current; h.cur != nil && h.cur.seeks == h.seeks {
		c.reset(h.cur, At(to))
	}
}

func (c *Consumer) pollError(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return closedOr(ctx, "poll", c.last)
}
