package metadata

import (
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

func TestLeaderClockCountsOnlyConfirmedTimeInTicksThatCome(t *testing.T) {
	const ms = time.Millisecond
	var c LeaderClock
	for i, tick := range []struct {
		now   time.Duration
		epoch objectlog.Epoch
		lived time.Duration
		anew  bool
	}{
		{5 * time.Hour, 0, 0, false}, // not led here
		{5*time.Hour + 100*ms, 3, 0, true},
		{5*time.Hour + 200*ms, 3, 100 * ms, false},
		{5*time.Hour + 450*ms, 3, 350 * ms, false},
		{6 * time.Hour, 3, 350*ms + TickMax, false},        // it stood still
		{6*time.Hour + 100*ms, 0, 350*ms + TickMax, false}, // the lease is not confirmed
		{7 * time.Hour, 3, 350*ms + TickMax, false},        // it is again: the same leadership goes on
		{7*time.Hour + 50*ms, 3, 400*ms + TickMax, false},
		{7*time.Hour + 100*ms, 9, 400*ms + TickMax, true}, // another one was between
		{7*time.Hour + 200*ms, 9, 500*ms + TickMax, false},
		{7*time.Hour + 200*ms, 9, 500*ms + TickMax, false},
	} {
		if lived, anew := c.Tick(tick.now, tick.epoch); lived != tick.lived || anew != tick.anew || c.Lived() != lived {
			t.Errorf("tick %d: lived %v, anew %v, want %v, %v", i, lived, anew, tick.lived, tick.anew)
		}
	}
}
