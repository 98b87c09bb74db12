// Package write is the write path of an agent as a pure core: it buffers batches, seals them into segments, orders
// their uploads and their commits, and says when a batch may be answered. No goroutine, clock or I/O.
package write

import (
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// undecidedMax bounds the sealed segments that are not decided. State remembers the results of the last 64 commits
// of a boot, so a proposal that is sent again finds its old results.
const undecidedMax = 64

const (
	retryFirst = 50 * time.Millisecond
	retryMax   = time.Second
)

// Config bounds a Core.
type Config struct {
	Shards          int
	BufferBytesMax  int64         // memory of all batches that are not decided
	SegmentBytesMax int64         // stored size at which a segment is sealed
	FlushRate       float64       // seals by time per second, once the burst is used
	FlushBurst      int           // seals by time that need no wait
	FlushFreely     bool          // seal whenever no upload is in flight, instead of by rate
	Timeout         time.Duration // from submission until a batch is answered without a decision
	UploadsMax      int           // in flight together
}

// Core is the state of the write path. Its owner calls Step for everything that happens, one call at a time, with a
// monotonic now, and executes the effects.
type Core struct {
	cfg Config

	open      []*Batch // not sealed, in order of submission
	openBytes int64
	used      int64 // memory of open and undecided batches
	refused   bool  // a submission met a full buffer since the last Room

	tokens   float64       // seals by time that are allowed now
	refilled time.Duration // when tokens was computed
	ratio    float64       // stored bytes per byte of memory, of recent segments
	flush    bool          // Flush was seen: seal without waiting

	counter  uint64     // of the newest segment
	uploads  int        // in flight, those of segments given up included
	segments []*segment // undecided, by counter
	shards   []queue    // by shard

	effects []Effect // of the current step
}

// segment is a sealed segment until every shard it touches has decided, or it is given up.
type segment struct {
	counter   uint64
	batches   []*Batch
	bytes     int64 // memory
	deadline  time.Duration
	encoded   *Encoded // nil until the first upload ended
	uploading bool
	stored    bool
	givenUp   bool
	retryAt   time.Duration // of an upload whose outcome was unknown
	tries     int
	cause     error // why the newest upload's outcome was unknown
	undecided int   // shards
}

// queue holds what is to be committed in one shard.
type queue struct {
	waiting  []*segment // touches this shard, undecided, in counter order: seal order is commit order
	proposed []*segment // the one proposal in flight: a prefix of what waiting was when it was sent
	inFlight bool
	retryAt  time.Duration
	tries    int
}

// NewCore makes an empty core.
func NewCore(cfg Config) *Core {
	return &Core{cfg: cfg, tokens: float64(cfg.FlushBurst), ratio: 1, shards: make([]queue, cfg.Shards)}
}

// Step takes one event at the monotonic time now and answers what is to be done.
func (c *Core) Step(now time.Duration, event Event) []Effect {
	c.effects = nil
	switch e := event.(type) {
	case Submit:
		c.submit(now, e)
	case Uploaded:
		c.uploaded(now, e)
	case Decided:
		c.decided(now, e)
	case Flush:
		c.flush = true
	case Tick:
		c.expire(now)
		for _, s := range c.segments {
			c.upload(now, s)
		}
		for i := range c.shards {
			c.propose(now, objectlog.Shard(i))
		}
	}
	c.seal(now)
	if _, ok := event.(Tick); ok {
		c.wakeForAll()
	}
	return c.effects
}

// Empty says whether nothing is held: everything submitted was answered and no upload is in flight.
func (c *Core) Empty() bool { return len(c.open) == 0 && len(c.segments) == 0 && c.uploads == 0 }

// Storing says whether a segment is still to be stored.
func (c *Core) Storing() bool {
	return slices.ContainsFunc(c.segments, func(s *segment) bool { return !s.stored && !s.givenUp })
}

func (c *Core) do(e Effect) { c.effects = append(c.effects, e) }

func (c *Core) submit(now time.Duration, e Submit) {
	var bytes int64
	for _, b := range e.Batches {
		bytes += b.Bytes
	}
	if limit := c.cfg.BufferBytesMax; bytes > limit { // no wait would help
		err := fmt.Errorf("the request takes %d bytes of memory, the whole buffer has %d: %w", bytes, limit, objectlog.ErrTooLarge)
		for _, b := range e.Batches {
			c.answer(b, err, nil)
		}
		return
	}
	if c.used+bytes > c.cfg.BufferBytesMax {
		c.refused = true
		c.do(Full{})
		return
	}
	for _, b := range e.Batches {
		b.deadline = now + c.cfg.Timeout
	}
	if len(c.open) == 0 && len(e.Batches) > 0 {
		c.do(Wake{At: now + c.cfg.Timeout})
	}
	c.open = append(c.open, e.Batches...)
	c.openBytes += bytes
	c.used += bytes
}

func (c *Core) release(bytes int64) {
	c.used -= bytes
	if c.refused && bytes > 0 {
		c.refused = false
		c.do(Room{})
	}
}

// seal makes segments of what is open, as far as size, time and the bounds allow.
func (c *Core) seal(now time.Duration) {
	for len(c.open) > 0 && c.uploads < c.cfg.UploadsMax && len(c.segments) < undecidedMax {
		bySize := c.storedSize(c.openBytes) >= c.cfg.SegmentBytesMax
		if !bySize && !c.mayFlush(now) {
			return
		}
		c.spendToken(now)
		c.sealOne(now)
	}
}

// storedSize estimates what bytes in memory come to when stored.
func (c *Core) storedSize(bytes int64) int64 { return int64(float64(bytes) * c.ratio) }

// mayFlush says whether a seal by time is allowed now; if not, it asks to be woken when it will be.
func (c *Core) mayFlush(now time.Duration) bool {
	if c.flush {
		return true
	}
	if c.cfg.FlushFreely {
		return c.uploads == 0
	}
	c.refill(now)
	if c.tokens >= 1 {
		return true
	}
	c.do(Wake{At: now + c.untilToken()})
	return false
}

func (c *Core) refill(now time.Duration) {
	c.tokens += (now - c.refilled).Seconds() * c.cfg.FlushRate
	c.tokens = min(c.tokens, float64(c.cfg.FlushBurst))
	c.refilled = now
}

// untilToken is rounded up, so that the token is there when the wait is over.
func (c *Core) untilToken() time.Duration {
	return time.Duration((1-c.tokens)/c.cfg.FlushRate*float64(time.Second)) + time.Microsecond
}

// spendToken is called for every seal: one by size makes the next one by time less urgent.
func (c *Core) spendToken(now time.Duration) {
	c.refill(now)
	c.tokens = max(0, c.tokens-1)
}

// sealOne makes one segment of the oldest open batches, about SegmentBytesMax of them.
func (c *Core) sealOne(now time.Duration) {
	n, bytes := 0, int64(0)
	for n < len(c.open) && (n == 0 || c.storedSize(bytes+c.open[n].Bytes) <= c.cfg.SegmentBytesMax) {
		bytes += c.open[n].Bytes
		n++
	}
	c.counter++
	s := &segment{counter: c.counter, batches: c.open[:n:n], bytes: bytes, deadline: c.open[0].deadline}
	c.open = c.open[n:]
	c.openBytes -= bytes
	if len(c.open) == 0 {
		c.open = nil // the sealed batches' array belongs to the segment
	}
	c.segments = append(c.segments, s)
	for _, b := range s.batches {
		q := &c.shards[b.Shard]
		if k := len(q.waiting); k == 0 || q.waiting[k-1] != s {
			q.waiting = append(q.waiting, s)
			s.undecided++
		}
	}
	c.upload(now, s)
	c.do(Wake{At: s.deadline})
}
