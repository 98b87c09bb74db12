package shardlog

import (
	"testing"
	"time"
)

func TestSecondSuccessorClaimsALeaseThatNobodyTookUp(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	b.step(Ranked{Rank: 1})
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	a.step(Resign{}) // and the first successor never comes
	resigned := w.now
	w.untilLeading(b)
	if d := w.now - resigned; d < 2*time.Second || d > 8*time.Second {
		t.Errorf("the second successor claimed after %v", d)
	}
}
