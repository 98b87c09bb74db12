package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 0, "run and explain this one seed")
	seedsFlag = flag.Uint64("sim.seeds", 150, "number of seeds")
	firstFlag = flag.Uint64("sim.first", 1, "first seed")
	timeFlag  = flag.Duration("sim.time", 0, "stop after this time, whatever sim.seeds says; 0: no limit")
	linesFlag = flag.Int("sim.lines", 60, "happenings to print of a failing history")
)

// TestHistoriesKeepTheInvariants runs seeds on all processors and explains the first that fails.
func TestHistoriesKeepTheInvariants(t *testing.T) {
	if *seedFlag != 0 {
		fmt.Fprint(os.Stderr, Explain(*seedFlag, Options{}, *linesFlag))
		if r := Run(*seedFlag, Options{}); r.Err != nil {
			t.Fatal(r.Err)
		}
		return
	}
	total, n := runAll(t, Options{}, *seedsFlag)
	if n == 0 || total.Acks == 0 {
		t.Fatal("no history was run")
	}
	if n >= 100 && (total.Accepted == 0 || total.Elapsed == 0 || total.Redriven == 0 || total.Rewritten == 0 || total.TakenBack == 0) {
		t.Fatalf("queues did too little in %d histories", n)
	}
}

// TestDamageStopsButNeverMisleads: bits flip, objects, slots and lease items shrink or vanish. Shards may halt and reads may fail, but no
// client is told anything that is not so (H9).
func TestDamageStopsButNeverMisleads(t *testing.T) {
	total, _ := runAll(t, Options{Damage: true}, *seedsFlag/2+1)
	if total.Stopped == 0 {
		t.Fatal("no damage was noticed")
	}
}

// TestTableOutageEndsWithoutDuels: everybody loses the table for several leases and gets it back at one time.
func TestTableOutageEndsWithoutDuels(t *testing.T) {
	total, n := runAll(t, Options{Alone: "outage"}, *seedsFlag/2+1)
	t.Logf("%d changes of leader in %d histories", total.Storm, n)
}

// TestShardsAreLedAgainInTime: one agent, which leads, dies, stops, or vanishes with its machine, while all else is well.
func TestShardsAreLedAgainInTime(t *testing.T) {
	for _, c := range []struct {
		fault string
		bound time.Duration
	}{
		{"crash", 150 * time.Millisecond}, // its address refuses connections
		{"drain", 50 * time.Millisecond},  // it hands off
		{"vanish", 5 * time.Second},       // its lease, of up to two seconds, runs out
	} {
		total, _ := runAll(t, Options{Alone: c.fault}, *seedsFlag/5+1)
		t.Logf("%s: without a leader for %v at most", c.fault, total.Leaderless)
		if total.Leaderless > c.bound || total.Leaderless == 0 {
			t.Errorf("%s: a shard had no leader for %v, want at most %v", c.fault, total.Leaderless, c.bound)
		}
		if c.fault == "drain" && total.Unknown > 0 {
			t.Errorf("drain: %d writes without an outcome", total.Unknown)
		}
	}
}

// TestPausesOfTheLeaderEndNoSessions: the leader stands still for up to 20 leases, while all else is well. Crashes, hand-offs and outages of the
// table, in the tests above, end none either.
func TestPausesOfTheLeaderEndNoSessions(t *testing.T) {
	runAll(t, Options{Alone: "pause"}, *seedsFlag/2+1)
}

// runAll runs seeds on all processors and explains the first that fails.
func runAll(t *testing.T, opt Options, seeds uint64) (Stats, int) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // histories are short, and little of one lives long
	start := time.Now()
	var next, failed atomic.Uint64
	var mu sync.Mutex
	var total Stats
	n := 0
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() == 0 {
				seed := *firstFlag + next.Add(1) - 1
				if seed >= *firstFlag+seeds || *timeFlag > 0 && time.Since(start) > *timeFlag {
					return
				}
				r := Run(seed, opt)
				if r.Err != nil {
					failed.CompareAndSwap(0, seed)
					return
				}
				mu.Lock()
				total.add(r.Stats)
				n++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if seed := failed.Load(); seed != 0 {
		t.Fatal(Explain(seed, opt, *linesFlag))
	}
	t.Logf("%d histories in %v; per history: %s", n, time.Since(start).Round(time.Millisecond), total.per(n))
	return total, n
}

// TestOneSeedGivesOneHistory is the determinism check: everything else rests on it.
func TestOneSeedGivesOneHistory(t *testing.T) {
	for seed := uint64(1); seed <= min(*seedsFlag, 1000); seed++ {
		a, b := Run(seed, Options{}), Run(seed, Options{})
		if a.Hash != b.Hash {
			t.Fatalf("seed %d: hashes %x and %x", seed, a.Hash, b.Hash)
		}
	}
}

func (s *Stats) add(o Stats) {
	s.Ops += o.Ops
	s.Acks += o.Acks
	s.Reads += o.Reads
	s.Unknown += o.Unknown
	s.Refused += o.Refused
	s.Duplicates += o.Duplicates
	s.Faults += o.Faults
	s.Entries += o.Entries
	s.Applied += o.Applied
	s.Boots += o.Boots
	s.Stopped += o.Stopped
	s.Pings += o.Pings
	s.HandOffs += o.HandOffs
	s.Compared += o.Compared
	s.Changes += o.Changes
	s.Storm += o.Storm
	s.Members += o.Members
	s.Beats += o.Beats
	s.Moves += o.Moves
	s.Processed += o.Processed
	s.Positions += o.Positions
	s.Back += o.Back
	s.Fenced += o.Fenced
	s.Expired += o.Expired
	s.Pulled += o.Pulled
	s.Delivered += o.Delivered
	s.Accepted += o.Accepted
	s.Elapsed += o.Elapsed
	s.Letters += o.Letters
	s.Rewritten += o.Rewritten
	s.Redriven += o.Redriven
	s.TakenBack += o.TakenBack
	s.Leaderless = max(s.Leaderless, o.Leaderless)
}

func (s Stats) per(n int) string {
	n = max(n, 1)
	f := func(x int) float64 { return float64(x) / float64(n) }
	return fmt.Sprintf("%.0f writes, %.0f acknowledged records, %.1f unknown, %.1f refused, %.1f duplicates, %.0f reads, %.1f faults, %.0f entries, %.0f applied, %.1f boots, %.2f stopped, %.0f pings, %.1f hand-offs, %.1f fingerprints compared, %.1f changes of leader; "+
		"%.1f consumers, %.0f heartbeats, %.1f moves of partitions, %.0f processed records, %.1f positions, %.2f back by a late copy, %.2f refused to former owners, %.1f sessions ended; "+
		"%.0f pulls, %.0f deliveries, %.0f accepted, %.1f ended by the clock, %.1f dead letters and redriven ones written, %.1f again, %.1f redriven, %.2f taken back",
		f(s.Ops), f(s.Acks), f(s.Unknown), f(s.Refused), f(s.Duplicates), f(s.Reads), f(s.Faults), f(s.Entries), f(s.Applied), f(s.Boots), f(s.Stopped), f(s.Pings), f(s.HandOffs), f(s.Compared),
		f(s.Changes), f(s.Members), f(s.Beats), f(s.Moves), f(s.Processed), f(s.Positions), f(s.Back), f(s.Fenced), f(s.Expired),
		f(s.Pulled), f(s.Delivered), f(s.Accepted), f(s.Elapsed), f(s.Letters), f(s.Rewritten), f(s.Redriven), f(s.TakenBack))
}
