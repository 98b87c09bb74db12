package hedge_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/hedge"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// TestAtMostOnePutInTwentyIsSentTwice has a store on which every put takes longer than all before it.
func TestAtMostOnePutInTwentyIsSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		puts := 0
		s := &store{script: func(string, int) attempt { return attempt{takes: 100*ms + time.Duration(puts)*10*ms} }}
		b := hedge.New(s, time.Now)
		for puts = 1; puts <= 1000; puts++ {
			key := fmt.Sprintf("k/%d", puts)
			if err := b.Put(t.Context(), key, nil, objectlog.UUID{1}); err != nil {
				t.Fatal(err)
			}
			if n := int(b.Hedged()); n > puts/20 {
				t.Fatalf("%d of %d puts were sent twice, want at most one in twenty", n, puts)
			}
		}
		if n := b.Hedged(); n < 48 {
			t.Errorf("%d of 1000 puts were sent twice, want all that the budget allows", n)
		}
	})
}

// TestOutageIsMetWithTwoHedges has every put hang, after a long time in which all was well.
func TestOutageIsMetWithTwoHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := warm(t, 2000, func(string, int) attempt { return attempt{takes: 10 * time.Second, err: mem.ErrInjected} })
		putAll := func(n int) {
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() {
					if err := b.Put(t.Context(), fmt.Sprintf("k/%d", i), nil, objectlog.UUID{1}); err == nil {
						t.Error("a put succeeded in an outage")
					}
				})
			}
			all.Wait()
		}
		putAll(50)
		s.wantIdle(t)
		if n := b.Hedged(); n != 2 {
			t.Errorf("%d of 50 hanging puts were sent twice, want the 2 that are kept", n)
		}
		for range 10 {
			putAll(10)
		}
		if n := b.Hedged() - 2; n != 5 {
			t.Errorf("%d of 100 more were sent twice, want 5", n)
		}
	})
}

// TestHedgesDoNotPullTheP95Down has one put in 25 hang, which a second attempt wins in 60 ms. The others take 330 to 100 ms, a little less
// in each round, so that none takes longer than the longest before it.
func TestHedgesDoNotPullTheP95Down(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		puts := 0
		s := &store{script: func(_ string, n int) attempt {
			switch {
			case n == 2:
				return attempt{takes: 60 * ms}
			case puts%25 == 24:
				return hangs
			}
			return attempt{takes: time.Duration(330-puts%25*10)*ms - time.Duration(puts)*time.Microsecond}
		}}
		b := hedge.New(s, time.Now)
		for puts = range 2000 {
			key, start := fmt.Sprintf("k/%d", puts), time.Now()
			if err := b.Put(t.Context(), key, nil, objectlog.UUID{1}); err != nil {
				t.Fatal(err)
			}
			at := s.attempts(key, start)
			if len(at) == 1 || puts == 24 { // by then there are 24 samples, and one in twenty may be above the p95
				continue
			}
			if puts%25 != 24 || at[1] < 327*ms || at[1] > 330*ms {
				t.Fatalf("put %d was sent again after %s, want the hanging ones after the longest of the others, 330ms", puts, at[1])
			}
		}
		if n := b.Hedged(); n < 78 {
			t.Errorf("%d puts were sent twice, want nearly all of the 80 that hang", n)
		}
	})
}
