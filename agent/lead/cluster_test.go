package lead

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func cluster(t *testing.T, seed uint64, agents, shards int) *world {
	w := newWorld(t, seed, shards)
	for i := range agents {
		w.start(fmt.Sprintf("agent-%d", i))
		w.run(time.Duration(w.rng.Int64N(int64(100 * ms))))
	}
	return w
}

// quiet checks that nothing but pings happens.
func (w *world) quiet(d time.Duration) {
	w.t.Helper()
	before := len(w.log)
	w.run(d)
	if since := w.log[before:]; len(since) > 0 {
		w.t.Errorf("%d effects while nothing happened, of them\n%s", len(since), strings.Join(since[:min(len(since), 10)], "\n"))
	}
}

func TestColdStartSettlesAndShardsComeToTheirOwners(t *testing.T) {
	for seed := range uint64(20) {
		w := cluster(t, seed, 5, 8)
		w.run(time.Second)
		for s := range w.logs {
			if w.leading(s) == "" {
				t.Errorf("seed %d: nobody leads shard %d a second after the start", seed, s)
			}
		}
		w.run(3 * time.Minute)
		w.wantOwners()
		w.quiet(time.Minute)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestLoneAgentLeadsEverythingWithinMilliseconds(t *testing.T) {
	w := cluster(t, 1, 1, 64)
	w.run(100 * ms)
	for s := range w.logs {
		if w.leading(s) == "" {
			t.Errorf("nobody leads shard %d", s)
		}
	}
	w.quiet(time.Minute)
}

func TestOnlyTheFirstSuccessorIsToldThatADeadLeaderIsGone(t *testing.T) {
	for seed := range uint64(20) {
		w := cluster(t, seed, 3, 6)
		w.run(3 * time.Minute)
		victim := w.nodes[seed%3]
		var living []Peer
		for _, n := range w.nodes {
			if n != victim {
				living = append(living, n.self)
			}
		}
		var led []int
		for s := range w.logs {
			if w.leading(s) == victim.self.Name {
				led = append(led, s)
			}
		}
		w.told = nil
		victim.kill(false)
		w.run(100 * ms)
		for _, s := range led {
			var told []string
			for _, g := range w.told {
				if int(g.shard) == s {
					told = append(told, g.by.self.Name)
				}
			}
			want := Rendezvous(fmt.Sprintf("shard#%d", s), living)[0].Name
			if !slices.Equal(told, []string{want}) || w.leading(s) != want {
				t.Errorf("seed %d: %q were told that the leader of shard %d is gone and %q leads, want %q", seed, told, s, w.leading(s), want)
			}
		}
		if len(w.told) != len(led) {
			t.Errorf("seed %d: %d tells for %d shards", seed, len(w.told), len(led))
		}
		w.run(time.Minute + 10*lease + 20*time.Second)
		w.wantOwners()
		w.quiet(time.Minute)
	}
}
