package metadata

import (
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// TickMax is what a tick of a LeaderClock counts for at most: a leader that stood still has not observed anybody's silence. It is far below the
// shortest time that is counted with it, and several ticks.
const TickMax = 300 * time.Millisecond

// LeaderClock counts the time in which a leader could have heard of others. It runs only while leadership is confirmed and ticks come in time, so
// neither an outage of the table nor a leader that stood still ends anybody's time.
type LeaderClock struct {
	epoch objectlog.Epoch
	last  time.Duration // of the last tick that counted; 0: none
	lived time.Duration
}

// Tick is called several times a second with a monotonic clock that is never 0 and the epoch in which the shard is led here; 0: it is not, or the lease
// is not confirmed. Anew: this leadership has just begun, and nobody was heard in it yet.
func (c *LeaderClock) Tick(now time.Duration, epoch objectlog.Epoch) (lived time.Duration, anew bool) {
	if epoch == 0 {
		c.last = 0
		return c.lived, false
	}
	if anew = epoch != c.epoch; anew {
		c.epoch, c.last = epoch, 0
	}
	if c.last != 0 {
		c.lived += min(now-c.last, TickMax)
	}
	c.last = now
	return c.lived, anew
}

// Lived is what the last Tick answered.
func (c *LeaderClock) Lived() time.Duration { return c.lived }
