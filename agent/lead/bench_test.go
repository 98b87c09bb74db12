package lead

import (
	"fmt"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// BenchmarkHeard is one greeting at an agent of a cluster, the usual event.
func BenchmarkHeard(b *testing.B) {
	for _, agents := range []byte{3, 100} {
		b.Run(fmt.Sprintf("agents=%d/shards=64", agents), func(b *testing.B) {
			c := New(Config{Self: agent(1), Shards: 64, Random: func() uint64 { return 0 }})
			var heard []Heard
			list := Listed{}
			for n := byte(2); n <= agents; n++ {
				h := Heard{Peer: agent(n), Reports: make([]Report, 64)}
				for s := range h.Reports {
					leader := byte(s)%agents + 1
					h.Reports[s] = Report{Leads: leader == n, Epoch: 1, Leader: boot(leader)}
				}
				heard, list.Peers = append(heard, h), append(list.Peers, agent(n))
			}
			c.Step(time.Second, list)
			for s := range objectlog.Shard(64) {
				c.Step(time.Second, Moved{Shard: s, Status: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 1, Leader: heard[0].Peer.Boot}})
			}
			now := time.Second
			for i := 0; b.Loop(); i++ {
				now += ms
				h := heard[i%len(heard)]
				h.Reports[i%64].Applied++
				c.Step(now, h)
			}
		})
	}
}
