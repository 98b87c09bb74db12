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

func TestDrainHandsEverythingOff(t *testing.T) {
	for seed := range uint64(10) {
		w := cluster(t, seed, 3, 12)
		w.run(3 * time.Minute)
		n := w.nodes[seed%3]
		n.draining = true
		n.step(Drain{})
		w.run(50 * ms)
		for s := range w.logs {
			if got := w.leading(s); got == "" || got == n.self.Name {
				t.Errorf("seed %d: shard %d is led by %q", seed, s, got)
			}
		}
		w.wantOwners()
		w.quiet(10 * time.Second)
	}
}

func TestDrainingAloneLetsGoForNobody(t *testing.T) {
	w := cluster(t, 1, 1, 4)
	w.run(time.Second)
	w.nodes[0].draining = true
	w.nodes[0].step(Drain{})
	w.run(time.Minute)
	for s, l := range w.logs {
		if l.holder != nil {
			t.Errorf("shard %d is still held", s)
		}
	}
}

func TestSilentMachineIsReplacedWhenItsLeaseRunsOut(t *testing.T) {
	for seed := range uint64(10) {
		w := cluster(t, seed, 3, 6)
		w.run(3 * time.Minute)
		w.nodes[seed%3].kill(true)
		w.run(2 * lease)
		for s := range w.logs {
			if w.leading(s) == "" {
				t.Errorf("seed %d: nobody leads shard %d", seed, s)
			}
		}
		w.run(2 * time.Minute)
		w.wantOwners()
		w.quiet(time.Minute)
	}
}

func TestRestartedAgentLeadsAgainAtOnce(t *testing.T) {
	for _, agents := range []int{1, 3} {
		w := cluster(t, 5, agents, 20)
		w.run(3 * time.Minute)
		old := w.nodes[0]
		old.kill(agents == 1) // nobody is told, or everybody
		w.start(old.self.Name)
		w.run(500 * ms)
		for s := range w.logs {
			if w.leading(s) == "" {
				t.Errorf("%d agents: nobody leads shard %d", agents, s)
			}
		}
		w.run(3 * time.Minute)
		w.wantOwners()
		w.quiet(time.Minute)
	}
}

// changes counts the changes of leader in a time.
func (w *world) changes(d time.Duration) int {
	n := 0
	for _, l := range w.logs {
		n -= int(l.epoch)
	}
	w.run(d)
	for _, l := range w.logs {
		n += int(l.epoch)
	}
	return n
}

func TestAgentsThatRefuseEachOtherDoNotDeposeEachOtherForEver(t *testing.T) {
	for _, both := range []bool{true, false} {
		for seed := range uint64(20) {
			w := cluster(t, seed, 3, 6)
			w.run(3 * time.Minute)
			w.cut[[2]int{0, 1}], w.cut[[2]int{1, 0}] = true, both
			for _, n := range w.nodes {
				for s := range w.logs {
					if l := w.logs[s].holder; w.cut[[2]int{n.id, l.id}] {
						n.endStream(s, l)
					}
				}
			}
			if first := w.changes(2 * time.Minute); first > 3*len(w.logs) {
				t.Errorf("seed %d, both %v: %d changes of leader behind the cut", seed, both, first)
			}
			if later := w.changes(10 * time.Minute); later > 0 {
				t.Errorf("seed %d, both %v: %d changes of leader while nothing happened", seed, both, later)
			}
		}
	}
}

func TestTwoAgentsOfOneNameDoNotDeposeEachOtherForEver(t *testing.T) {
	for seed := range uint64(10) {
		w := cluster(t, seed, 2, 4)
		w.start("agent-0")
		w.run(time.Minute)
		if later := w.changes(10 * time.Minute); later > 0 {
			t.Errorf("seed %d: %d changes of leader while nothing happened", seed, later)
		}
	}
}

func TestTwoAgentsOfOneAddressDoNotDeposeEachOtherForEver(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, seed, 4)
		w.lost[[2]int{0, 1}], w.lost[[2]int{1, 0}], w.lost[[2]int{2, 1}] = true, true, true
		for i := range 3 {
			w.start(fmt.Sprintf("agent-%d", i))
		}
		w.run(3 * time.Minute)
		if later := w.changes(10 * time.Minute); later > 0 {
			t.Errorf("seed %d: %d changes of leader while nothing happened", seed, later)
		}
	}
}

func TestAgentThatCannotReachTheTableIsHandedLessAndLess(t *testing.T) {
	for seed := range uint64(5) {
		w := cluster(t, seed, 3, 6)
		w.run(3 * time.Minute)
		barred := w.nodes[seed%3]
		barred.barred = true
		for s := range w.logs {
			if w.logs[s].holder == barred {
				w.logs[s].moved = w.now
				w.after(lease, func() { barred.move(s, 1) }) // it notices that it cannot renew
			}
		}
		w.run(time.Minute)
		handed := func() (n int) {
			for _, l := range w.log {
				if strings.Contains(l, "HandOff{") && strings.Contains(l, barred.self.Boot.String()) {
					n++
				}
			}
			return n
		}
		before := handed()
		w.run(30 * time.Minute)
		if n := handed() - before; n > 40 {
			t.Errorf("seed %d: %d shards were handed in half an hour to an agent that cannot take them", seed, n)
		}
	}
}
