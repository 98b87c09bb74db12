package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/queues"
)

func TestQueueUsageOfAllAgentsCountsEveryRecordOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 256)
		for _, p := range spread {
			if r := all[0].produce(t, values("orders", p, "a", "b", "c")); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		var got []held
		for i := 0; len(got) < 12; i++ {
			got = append(got, all[i%3].pulls(t, email(0, time.Second, 5*time.Second))...)
		}
		all[1].accepts(t, got[:4]...)
		for _, err := range append(all[2].settles(t, queues.Release, time.Hour, got[4:6]...), all[0].settles(t, queues.Reject, 0, got[6])...) {
			wantErr(t, "acknowledge", err, nil)
		}
		<-time.After(6 * time.Second)
		all[0].pulls(t, email(2, 0, time.Hour))
		var sum QueueUsage
		var size QueueSize
		for _, m := range all {
			u := m.QueueUsage()
			sum.Acquired += u.Acquired
			sum.Accepted += u.Accepted
			sum.Released += u.Released
			sum.Rejected += u.Rejected
			sum.Expired += u.Expired
			for _, s := range u.Largest {
				want(t, "queue", s.Group+" on "+s.Topic, "email on orders")
				size.Lag += s.Lag
				size.Locked += s.Locked
				size.Dying += s.Dying
			}
		}
		if sum.Acquired != 14 || sum.Accepted != 4 || sum.Released != 2 || sum.Rejected != 1 || sum.Expired != 5 {
			t.Errorf("together %+v", sum)
		}
		if size.Locked != 2 || size.Lag < 7 || size.Lag > 8 || size.Lag-size.Dying != 7 { // the rejected one may be a dead letter by now
			t.Errorf("queue %+v", size)
		}
	})
}
