package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// late is a put of an item that lands when its agent is dead and another leads.
type late struct {
	name  string
	key   string // of the items whose puts are held
	holds int    // puts, one of each shard: an agent has one under way
	laps  bool   // it lands when the ring has gone round
	heir  bool   // the successor is another agent, not the same one again
}

func TestPutsOfADeadAgentLandBehindItsSuccessorWithoutEffect(t *testing.T) {
	t.Parallel()
	for _, late := range []late{
		{name: "F14 entry behind the successor's barrier", key: "ring#", holds: shards, heir: true},
		{name: "F14 entry behind the restarted agent's barrier", key: "ring#", holds: shards},
		{name: "F14 entry behind a full lap", key: "ring#", holds: shards, heir: true, laps: true},
		{name: "F14 entry behind a full lap of the restarted agent", key: "ring#", holds: shards, laps: true},
		{name: "F14 lease behind the successor's claim", key: "shard#", holds: shards, heir: true},
		{name: "F14 lease behind a full lap", key: "shard#", holds: shards, heir: true, laps: true},
	} {
		t.Run(late.name, func(t *testing.T) {
			t.Parallel()
			late.play(t)
		})
	}
}

func (f late) play(t *testing.T) {
	c := newCluster(t, slots)
	first, heir := c.newInstance(t), c.newInstance(t)
	first.start()
	first.awaitReady()
	l := startLoad(t, client.HTTPAuto, first.address, heir.address)
	l.awaitAcks(100)

	// The agent waits for the answer, and so does not decide the slot by sending the same again.
	c.setRules(t, nil, list(faultproxy.Rule{
		Match:  faultproxy.Match{Kind: "PutItem", KeyContains: f.key, Count: f.holds},
		Action: faultproxy.Action{Do: faultproxy.Hold, Hang: true},
	}))
	if !eventually(startTimeout, func() bool { return c.table.Held() == f.holds }) {
		t.Fatalf("%d puts held, want %d", c.table.Held(), f.holds)
	}
	first.crash()
	killed := time.Now()
	next := first
	if f.heir {
		next = heir
	}
	next.start()
	next.awaitReady()
	l.awaitRecovery(killed, recoveryMax)
	if f.laps {
		l.awaitLap(next.address)
	}
	for _, answer := range c.table.ReleaseAll() {
		t.Log(answer)
		if !strings.Contains(answer.Answer, "ConditionalCheckFailed") {
			t.Errorf("a late put was not refused: %v", answer)
		}
	}
	recovery := l.awaitRecovery(time.Now(), recoveryMax)
	played := c.played()
	l.finish()
	l.readAll("the successor", next.address)
	next.kill()
	next.awaitReady()
	l.readAll("the successor behind a kill -9", next.address)
	l.result(f.name, recovery, played)
}

// awaitLap waits until every shard has appended more entries than its ring has slots.
func (l *load) awaitLap(address string) {
	l.t.Helper()
	c := newClient(l.t, client.HTTPAuto, address)
	defer c.Close()
	applied := func() map[int32]int64 {
		seqs := map[int32]int64{}
		if cluster, err := c.Cluster(l.t.Context()); err == nil {
			for _, s := range cluster.Shards {
				seqs[s.Shard] = s.AppliedSeq
			}
		}
		return seqs
	}
	before := applied()
	if len(before) != shards {
		l.t.Fatalf("%d shards, want %d", len(before), shards)
	}
	if !eventually(startTimeout, func() bool {
		for shard, seq := range applied() {
			if seq <= before[shard]+slots {
				return false
			}
		}
		return true
	}) {
		l.t.Fatalf("the logs did not go round: from %v to %v", before, applied())
	}
}
