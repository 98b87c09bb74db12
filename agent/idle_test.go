package agent

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func TestIdleClusterCostsOnlyLeasesAndHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.topic(t, "orders", 100)
		a.produce(t, values("orders", 0, "a"))
		<-time.After(2 * time.Hour) // of the bubble's clock: what follows the last entry is over, such as snapshots and expiry
		var mu sync.Mutex
		counts := make(map[string]int)
		count := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			counts[what]++
		}
		s.failTable(func(r metamem.Request) metamem.Fault {
			switch {
			case strings.HasPrefix(r.Key.PK, "shard#") && r.Op == metamem.OpPut:
				count("lease")
			case r.Key.PK == "agents" && r.Op == metamem.OpPut:
				count("heartbeat")
			case r.Key.PK == "agents" && r.Op == metamem.OpQuery:
				count("sweep")
			default:
				count("other: " + r.Op.String() + " " + r.Key.PK)
			}
			return metamem.None
		})
		s.failBucket(func(r objmem.Request) objmem.Fault {
			count("other: " + r.Op.String() + " " + r.Key)
			return objmem.None
		})
		<-time.After(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		// Per hour: a lease renewal a second for each of two shards, a heartbeat every 10 s, a sweep a minute.
		if l := counts["lease"]; l < 7000 || l > 7400 || counts["heartbeat"] > 361 || counts["sweep"] > 61 || len(counts) > 3 {
			t.Errorf("requests of an idle hour: %v", counts)
		}
		s.heal()
	})
}

func TestProducersExpireOnlyInShardsThatAreLedAndMoved(t *testing.T) {
	a, l, _ := follower(t)
	last := []metadata.Seq{0}
	expire := func(proposals int) {
		t.Helper()
		l.proposals = 0
		a.expire(t.Context(), last)
		want(t, "proposals", l.proposals, proposals)
	}
	l.seq = 5
	expire(0)
	l.role = shardlog.RoleLeading
	expire(1)
	expire(0)
	l.seq += 3
	expire(1)
}

func TestErrorsNameOperationObjectAndCause(t *testing.T) {
	e := &Error{Op: "produce", Object: "orders/3", Cause: because(Unavailable, shardlog.ErrHalted)}
	want(t, "text", e.Error(), "produce orders/3: unavailable: shard halted")
	wantErr(t, "cause", e, Unavailable)
	wantErr(t, "cause underneath", e, shardlog.ErrHalted)
	for f := Busy; f <= DataLost; f++ {
		if strings.HasPrefix(f.Error(), "fault") {
			t.Errorf("fault %d has no name", f)
		}
	}
}
