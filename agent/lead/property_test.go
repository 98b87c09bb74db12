package lead

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// history draws events for one Core that a driver could give it, and checks what holds of all its effects.
type history struct {
	*rapid.T
	cores    [2]*Core // of one seed: they answer the same, though the second one looks at everything anew all the time
	now      time.Duration
	pinging  map[objectlog.UUID]bool
	streams  map[objectlog.Shard]objectlog.UUID // the newest that has not ended
	handing  map[objectlog.Shard]bool
	draining bool
}

const drawnShards = 12

func (h *history) boot() objectlog.UUID { return boot(byte(rapid.IntRange(1, 6).Draw(h.T, "boot"))) }

// holder is a boot, or nobody.
func (h *history) holder() objectlog.UUID {
	return boot(byte(rapid.IntRange(0, 6).Draw(h.T, "holder")))
}

// peer: boots 5 and 6 bear names of others.
func (h *history) peer() Peer {
	b := h.boot()
	return Peer{Boot: b, Name: agent(b[0] % 5).Name}
}

func (h *history) shard() objectlog.Shard {
	return objectlog.Shard(rapid.IntRange(0, drawnShards).Draw(h.T, "shard")) // one of them does not exist
}

func (h *history) epoch() objectlog.Epoch {
	return objectlog.Epoch(rapid.IntRange(0, 6).Draw(h.T, "epoch"))
}

func (h *history) event() Event {
	switch rapid.IntRange(0, 13).Draw(h.T, "event") {
	case 0:
		var e Listed
		for range rapid.IntRange(0, 5).Draw(h.T, "listed") {
			e.Peers = append(e.Peers, h.peer())
		}
		return e
	case 1, 2, 3:
		e := Heard{Peer: h.peer(), Unasked: true, Draining: rapid.IntRange(0, 9).Draw(h.T, "draining") == 0}
		if h.pinging[e.Peer.Boot] && rapid.Bool().Draw(h.T, "asked") {
			e.Unasked = false
			delete(h.pinging, e.Peer.Boot)
		}
		for range rapid.IntRange(0, drawnShards+1).Draw(h.T, "reports") {
			e.Reports = append(e.Reports, Report{Leads: rapid.Bool().Draw(h.T, "leads"), Epoch: h.epoch(), Leader: h.holder(), Applied: metadata.Seq(rapid.IntRange(-1, 100).Draw(h.T, "applied")),
				Halted: rapid.IntRange(0, 9).Draw(h.T, "halted") == 0})
		}
		return e
	case 4, 5:
		e := Failed{Boot: h.boot(), Refused: rapid.Bool().Draw(h.T, "refused"), Gone: rapid.IntRange(0, 9).Draw(h.T, "gone") == 0}
		delete(h.pinging, e.Boot)
		return e
	case 6, 7, 8:
		return Moved{Shard: h.shard(), Status: shardlog.Status{Role: shardlog.Role(rapid.IntRange(0, 4).Draw(h.T, "role")), Epoch: h.epoch(), Leader: h.holder()}}
	case 9:
		s := h.shard()
		if b, ok := h.streams[s]; ok {
			delete(h.streams, s)
			return StreamEnded{Shard: s, Boot: b}
		}
		return StreamEnded{Shard: s, Boot: h.boot()}
	case 10:
		return Offered{Shard: h.shard(), Holder: h.boot(), Epoch: h.epoch()}
	case 11:
		s := h.shard()
		if !h.handing[s] {
			return Tick{}
		}
		delete(h.handing, s)
		if rapid.Bool().Draw(h.T, "failed") {
			return HandedOff{Shard: s, Err: errors.New("away")}
		}
		return HandedOff{Shard: s}
	case 12:
		if rapid.IntRange(0, 19).Draw(h.T, "drain") == 0 {
			h.draining = true
			return Drain{}
		}
	}
	return Tick{}
}

func (h *history) step(e Event) {
	effects := h.cores[0].Step(h.now, e)
	for _, s := range h.cores[1].shards {
		s.news, s.anew = true, true
	}
	if again := h.cores[1].Step(h.now, e); !reflect.DeepEqual(effects, again) {
		h.Fatalf("%T: %v and, for the same events, %v", e, effects, again)
	}
	h.agree()
	for _, f := range effects {
		switch f := f.(type) {
		case Ping:
			if h.pinging[f.Boot] || f.Boot == boot(1) {
				h.Fatalf("%T: two pings to %v, or one to itself", e, f.Boot)
			}
			h.pinging[f.Boot] = true
		case Follow:
			if b, ok := h.streams[f.Shard]; ok && b == f.Boot || f.Boot == boot(1) {
				h.Fatalf("%T: shard %d is followed from %v twice, or from itself", e, f.Shard, f.Boot)
			}
			h.streams[f.Shard] = f.Boot
		case HandOff:
			if len(h.handing) > 0 && !h.draining || h.handing[f.Shard] || f.To == boot(1) {
				h.Fatalf("%T: %v while %v are handed off", e, f, h.handing)
			}
			h.handing[f.Shard] = true
		case Tell:
			if h.draining && f.Event != (shardlog.Ranked{Rank: -1}) {
				h.Fatalf("%T: %v while draining", e, f)
			}
		}
	}
	if at, ok := h.cores[0].NextWake(); ok && at <= h.now {
		h.Fatalf("%T at %v: woken at %v", e, h.now, at)
	}
}

// agree checks that both cores answer the same.
func (h *history) agree() {
	var seen [2]string
	for i, c := range h.cores {
		at, ok := c.NextWake()
		if i == 1 {
			c.alive = nil
		}
		seen[i] = fmt.Sprint(at, ok, c.Live())
		for s := range objectlog.Shard(drawnShards) {
			boot, epoch := c.Leader(s)
			seen[i] += fmt.Sprint(" ", boot, epoch)
		}
	}
	if seen[0] != seen[1] {
		h.Fatalf("the cores have seen the same, and one answers\n%s\nthe other\n%s", seen[0], seen[1])
	}
}

func TestAnyEventsInAnyOrderKeepTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{T: t, now: time.Second, pinging: map[objectlog.UUID]bool{}, streams: map[objectlog.Shard]objectlog.UUID{}, handing: map[objectlog.Shard]bool{}}
		seed := rapid.Uint64().Draw(t, "seed")
		for i := range h.cores {
			h.cores[i] = New(Config{Self: agent(1), Shards: drawnShards, Random: rand.New(rand.NewPCG(seed, 0)).Uint64})
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			h.step(h.event())
			if at, ok := h.cores[0].NextWake(); ok && rapid.Bool().Draw(t, "wake") {
				h.now = at
				h.step(Tick{})
			} else {
				h.now += time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * ms
			}
		}
		for wakes, until := 0, h.now+30*lease; ; wakes++ { // left alone, it does not spin
			at, ok := h.cores[0].NextWake()
			if !ok || at > until {
				break
			}
			if wakes > 1000 {
				t.Fatal("more than 1000 wakes in 30 leases")
			}
			h.now = at
			h.step(Tick{})
		}
	})
}

func TestAgentsThatSeeTheSameHaveDifferentRanks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		agents := byte(rapid.IntRange(1, 8).Draw(t, "agents"))
		leader := byte(rapid.IntRange(1, 9).Draw(t, "leader"))
		away := map[byte]bool{}
		for range rapid.IntRange(0, 4).Draw(t, "away") {
			away[byte(rapid.IntRange(1, int(agents)).Draw(t, "who"))] = true
		}
		st := shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 1, Leader: boot(leader)}
		told := map[int][]byte{}
		for i := byte(1); i <= agents; i++ {
			if away[i] {
				continue
			}
			c := New(Config{Self: agent(i), Shards: 1, Random: func() uint64 { return 0 }})
			var effects []Effect
			step := func(e Event) { effects = append(effects, c.Step(time.Second, e)...) }
			var list Listed
			for j := byte(1); j <= agents; j++ {
				list.Peers = append(list.Peers, agent(j))
			}
			step(list)
			for j := byte(1); j <= agents; j++ {
				switch h := follows(j, 1, leader); {
				case away[j]:
					step(Failed{Boot: boot(j)})
				case j == leader:
					step(leading(j, 1))
				default:
					step(h)
				}
			}
			if i == leader {
				continue
			}
			step(Moved{Status: st})
			rank := -1
			for _, f := range effects {
				if f, ok := f.(Tell); ok {
					if r, ok := f.Event.(shardlog.Ranked); ok {
						rank = r.Rank
					}
				}
			}
			told[rank] = append(told[rank], i)
		}
		here := int(agents) - len(away)
		if leader <= agents && !away[leader] {
			here--
		}
		want := fmt.Sprint(min(here, 1), min(max(here-1, 0), 1))
		if got := fmt.Sprint(len(told[0]), len(told[1])); got != want {
			t.Fatalf("successors %v, want as many as %s", told, want)
		}
	})
}
