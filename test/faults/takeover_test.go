package faults

import (
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

func TestFollowerTakesOverFromAKilledLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, slots)
	leader, follower := c.newInstance(t), c.newInstance(t)
	leader.start()
	leader.awaitReady()
	l := startLoad(t, client.HTTPAuto, leader.address, follower.address)
	l.awaitAcks(100)
	follower.start()
	follower.awaitFollowing()
	l.awaitAcks(l.h.Tally().Acked + 100)
	l.readAll("the follower", follower.address)

	leader.crash()
	killed := time.Now()
	recovery := l.awaitRecovery(killed, recoveryMax)
	l.awaitAcks(l.h.Tally().Acked + 100)

	// The former leader comes back and follows, and takes over in its turn.
	leader.start()
	leader.awaitFollowing()
	l.readAll("the former leader", leader.address)
	follower.crash()
	recovery = max(recovery, l.awaitRecovery(time.Now(), recoveryMax))
	l.finish()
	l.readAll("the second successor", leader.address)
	l.result("F02 two agents, kill -9 of the leader, twice", recovery, 2)
}
