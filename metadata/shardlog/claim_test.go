package shardlog

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

func TestSecondSuccessorClaimsALeaseThatNobodyTookUp(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	b.step(Ranked{Rank: 1})
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	a.step(Resign{}) // and the first successor never comes
	resigned := w.now
	w.untilLeading(b)
	if d := w.now - resigned; d < 2*time.Second || d > 8*time.Second {
		t.Errorf("the second successor claimed after %v", d)
	}
}

// requests names the requests to the table by kind, in order.
func (w *world) requests() *[]string {
	var all []string
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		what, key := "get", metadata.Key{}
		switch e := e.(type) {
		case PutItem:
			what, key = "put", e.Item.Key
		case GetItem:
			key = e.Key
		default:
			return nil, false
		}
		if slotKey(key) {
			what += " slot"
		} else {
			what += " lease"
		}
		all = append(all, n.name+" "+what)
		return nil, false
	}
	return &all
}

// pair is a leader and a follower of that rank, which has its stream.
func pair(t *testing.T, rank int) (w *world, a, b *node) {
	w = newWorld(t, 64)
	a = w.start()
	w.untilLeading(a)
	b = w.start()
	b.step(Ranked{Rank: rank})
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	w.pass(2 * time.Second)
	w.follow(a, b)
	b.step(Followed{Leader: a.boot})
	return w, a, b
}

func TestHandOffTakesTwoReadsAndTwoPutsOfTheSuccessor(t *testing.T) {
	for _, rank := range []int{0, 1} {
		w, a, b := pair(t, rank)
		a.must("x")
		w.follow(a, b)
		all := w.requests()
		a.step(Resign{})
		w.settle()
		b.step(HolderGone{Holder: a.boot})
		w.settle()
		want := []string{"n2 get lease", "n2 put lease", "n2 get slot", "n2 put slot"}
		if got := slices.DeleteFunc(*all, func(s string) bool { return strings.HasPrefix(s, "n1") }); !slices.Equal(got, want) || b.status().Role != RoleLeading {
			t.Errorf("rank %d: %q, want %q; %+v", rank, got, want, b.status())
		}
		b.wantItems("x")
	}
}

func TestRankedSuccessorThatWasToldBeforeClaimsOnceItIsRanked(t *testing.T) {
	w, a, b := pair(t, -1)
	a.step(Resign{})
	w.settle()
	b.step(HolderGone{Holder: a.boot})
	w.settle()
	if b.status().Role != RoleFollowing {
		t.Fatalf("claimed without a rank: %+v", b.status())
	}
	b.step(Ranked{Rank: 1})
	w.settle()
	if b.status().Role != RoleLeading {
		t.Errorf("%+v", b.status())
	}
}

// runAll runs what the replica wants done, and nothing of the others.
func (n *node) runAll() {
	for len(n.effects) > 0 {
		e := n.effects[0]
		n.effects = n.effects[1:]
		n.run(e)
	}
}

func TestSuccessorThatIsToldBeforeTheLeaseIsLetGoClaimsAllTheSame(t *testing.T) {
	w, a, b := pair(t, 1)
	var release Effect
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if n == a {
			release = e
		}
		return nil, n == a
	}
	a.step(Resign{})
	w.settle()
	b.step(HolderGone{Holder: a.boot})
	w.settle()
	if b.status().Role != RoleLeading {
		t.Fatalf("%+v", b.status())
	}
	w.fault = nil
	a.run(release)
	w.settle()
	if a.status().Role != RoleFollowing || a.status().Leader != b.boot {
		t.Errorf("%+v", a.status())
	}
}

func TestClaimRefusedByTheLastPutOfTheHolderThatIsGoneIsTriedAgainAtOnce(t *testing.T) {
	for _, last := range []string{"release", "renewal"} {
		w, a, b := pair(t, 1)
		claims := 0
		w.fault = func(n *node, e Effect) ([]Event, bool) {
			if p, ok := e.(PutItem); !ok || n != b || p.Item.Key != leaseKey {
				return nil, false
			}
			if claims++; claims > 1 {
				return nil, false
			}
			if last == "release" {
				a.step(Resign{})
			} else {
				w.now += time.Second
				a.step(Tick{})
			}
			a.runAll()
			return nil, false
		}
		b.step(HolderGone{Holder: a.boot})
		w.settle()
		if claims != 2 || b.status().Role != RoleLeading || b.status().Epoch != 2 {
			t.Errorf("%s: %d claims, %+v", last, claims, b.status())
		}
	}
}

func TestHolderThatWasGoneIsForgottenWithItsTenure(t *testing.T) {
	w, a, b := pair(t, 1)
	b.step(HolderGone{Holder: a.boot}) // wrongly
	w.settle()
	w.until("b leads alone", func() bool { return b.status().Role == RoleLeading && a.status().Role == RoleFollowing })
	a.step(Ranked{Rank: 0})
	b.step(Resign{})
	w.settle()
	b.step(Ranked{Rank: 1})
	w.settle()
	if b.status().Role != RoleFollowing {
		t.Error("the second successor claimed at once, on what it had been told of an earlier tenure")
	}
	w.untilLeading(a)
}
