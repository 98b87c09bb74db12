package client

import (
	"testing"
	"time"
)

func TestLateAnswerOfAnAgentThatWasLeftMovesNothing(t *testing.T) {
	cfg := Config{Addresses: []string{"balancer:1"}}.withDefaults()
	tr := newTransport(cfg)
	tr.addresses, tr.near = []string{"near:1", "next:1", "balancer:1"}, 2
	set, address := tr.pick(t.Context())
	if address != "near:1" {
		t.Fatalf("at %s", address)
	}
	long := func() { tr.moved = tr.moved.Add(-time.Minute) } // ago
	tr.avoidAt(set, address)
	second, at := tr.pick(t.Context())
	if at != "balancer:1" || second == set {
		t.Fatalf("at %s, with the same connections: %v; want the balancer and fresh ones", at, second == set)
	}
	long()
	tr.avoidAt(set, address)
	if got, at := tr.pick(t.Context()); got != second || at != "balancer:1" {
		t.Errorf("at %s, moved by a late answer", at)
	}
	// The balancer stays the place to be, since it may lead to another agent the next time: by fresh connections, though not at once again.
	for range 2 {
		tr.avoid()
	}
	third, at := tr.pick(t.Context())
	if third == second || at != "balancer:1" || tr.moves != 2 {
		t.Errorf("at %s behind %d moves, want the balancer behind 2", at, tr.moves)
	}
	if third.replace.After(set.replace) || time.Until(third.replace) > lookAgain {
		t.Errorf("the zone is looked at again in %v, want %v", time.Until(third.replace), lookAgain)
	}
}

func TestAgentsThatAreNotReadyAreLeftForOneAfterTheOther(t *testing.T) {
	tr := newTransport(Config{Addresses: []string{"a:1", "b:1", "c:1"}}.withDefaults())
	seen := map[string]bool{}
	for range 3 {
		_, at := tr.pick(t.Context())
		seen[at] = true
		tr.moved = time.Time{}
		tr.avoid()
	}
	if len(seen) != 3 {
		t.Errorf("got to %v, want all", seen)
	}
}
