package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// clocksShown are those that the agent shows as off, by peer address.
func clocksShown(t *testing.T, m member) map[string]time.Duration {
	t.Helper()
	info, err := m.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	off := map[string]time.Duration{}
	for _, a := range info.Agents {
		if a.ClockAhead != 0 {
			off[a.PeerAddress] = a.ClockAhead
		}
	}
	return off
}

// joinOff starts an agent whose clock is off by so much.
func (w *wire) joinOff(t *testing.T, s stores, place string, by time.Duration) member {
	return w.join(t, s, place, func(cfg *Config) {
		cfg.Wall = func() objectlog.Timestamp { return objectlog.Timestamp(time.Now().Add(by).UnixMilli()) }
	})
}

func TestClockThatIsOffIsShownByEveryAgentAsThatAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		all := []member{w.join(t, s, "one"), w.joinOff(t, s, "two", time.Hour), w.joinOff(t, s, "three", -4*time.Second)}
		<-time.After(time.Minute)
		for _, m := range all {
			want(t, "clocks that are off at agent "+m.place, fmt.Sprint(clocksShown(t, m)), "map[two:1h0m0s]")
		}
	})
}

func TestOfTwoClocksTheOtherOneIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		one, two := w.join(t, s, "one"), w.joinOff(t, s, "two", -6*time.Second)
		<-time.After(time.Minute)
		want(t, "at one", fmt.Sprint(clocksShown(t, one)), "map[two:-6s]")
		want(t, "at two", fmt.Sprint(clocksShown(t, two)), "map[one:6s]")
	})
}

func TestSlowAnswerIsNoClockThatIsOff(t *testing.T) {
	l := &leaders{agents: map[objectlog.UUID]AgentInfo{}, met: map[objectlog.UUID]meeting{}, lease: 3 * time.Second,
		wall: func() objectlog.Timestamp { return 1_000_000 }}
	one := objectlog.UUID{1}
	said := Greeting{Agent: AgentInfo{Boot: one.String()}, Wall: 994_600}
	l.meet(one, said, nil, 0)
	want(t, "met of an agent that is not known", len(l.met), 0)
	l.agents[one] = said.Agent
	l.meet(one, said, nil, 900*time.Millisecond) // said 450 ms ago: 4.95 s behind
	want(t, "within what is not told", len(l.clocks()), 0)
	l.meet(one, said, nil, 0)
	want(t, "beyond it", l.clocks()[one], -5400*time.Millisecond)
	l.meet(one, Greeting{Agent: said.Agent, Wall: 1}, nil, time.Minute) // it stood still, or this one did
	want(t, "behind a standstill", l.clocks()[one], -5400*time.Millisecond)
	l.meet(one, Greeting{}, ErrRefused, 0)
	want(t, "of an agent that is away", len(l.clocks()), 0)
}

// strangerAt refuses by name whoever greets the address, once it is there.
type strangerAt struct {
	Peers
	address string
	there   *atomic.Bool
}

func (p strangerAt) Ping(ctx context.Context, address string, own Greeting) (Greeting, error) {
	if address == p.address && p.there.Load() {
		return Greeting{}, fmt.Errorf("wrong secret: %w", ErrStranger)
	}
	return p.Peers.Ping(ctx, address, own)
}

func TestAgentThatGreetsButDoesNotAnswerIsShownWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, there := newWire(), newStores(), &atomic.Bool{}
		there.Store(true)
		one := w.join(t, s, "one", func(cfg *Config) {
			cfg.Dial = func(own Identity) Peers { return strangerAt{w.dial(own), "two", there} }
		})
		two := w.join(t, s, "two")
		<-time.After(time.Minute)
		for _, m := range []member{one, two} {
			info, err := m.Cluster(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range info.Agents {
				reason := ""
				if m.place == "one" && a.PeerAddress == "two" {
					reason = "wrong secret: " + ErrStranger.Error()
				}
				want(t, "why "+a.PeerAddress+" does not answer "+m.place, a.Unreached, reason)
				if a.Heard < 0 || a.Heard > 3*time.Second {
					t.Errorf("agent %s was heard by %s %s ago", a.PeerAddress, m.place, a.Heard)
				}
			}
		}
	})
}

func TestAgentThatIsAwayIsShownWithTheReasonUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWire(), newStores()
		one, two := w.join(t, s, "one"), w.join(t, s, "two")
		<-time.After(time.Minute)
		unreached := func() string {
			t.Helper()
			info, err := one.Cluster(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range info.Agents {
				if a.Boot == two.identity.Boot.String() {
					return a.Unreached
				}
			}
			return "not listed"
		}
		cut := func(is bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.cut["two"] = is
		}
		cut(true)
		<-time.After(2 * time.Second) // less than the lease
		want(t, "reason within the lease", unreached(), "")
		<-time.After(10 * time.Second)
		if got := unreached(); got == "" || got == "not listed" {
			t.Errorf("an agent that is cut off: %q", got)
		}
		cut(false)
		<-time.After(10 * time.Second)
		want(t, "reason when it answers again", unreached(), "")
	})
}

func TestAgentIsNotReadyWhenALeaderGreetsItButDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, there := newWire(), newStores(), &atomic.Bool{}
		two := w.join(t, s, "two") // leads everything
		one := w.join(t, s, "one", func(cfg *Config) {
			cfg.Dial = func(own Identity) Peers { return strangerAt{w.dial(own), "two", there} }
		})
		there.Store(true)
		if two.leads() == 0 {
			t.Fatal("the first agent leads nothing")
		}
		<-time.After(5 * time.Second)
		wantErr(t, "at first", one.Ready(), nil)
		<-time.After(3 * time.Second)
		wantNotReady(t, one.running, "can't be reached", "the network between the two")
		wantErr(t, "the leader", two.Ready(), nil)
	})
}
