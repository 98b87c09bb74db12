package lead

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestRendezvousAnswersTheSameInEveryVersion(t *testing.T) {
	got := ""
	for s := range 4 {
		for _, p := range Rendezvous(fmt.Sprintf("shard#%d", s), []Peer{agent(0), agent(1), agent(2), agent(3)}) {
			got += fmt.Sprint(p.Boot[0])
		}
		got += " "
	}
	if want := "2310 2031 1302 1320 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRendezvousSpreadsEvenly(t *testing.T) {
	peers := []Peer{agent(0), agent(1), agent(2), agent(3)}
	has := map[Peer]int{}
	for s := range 4000 {
		has[Rendezvous(fmt.Sprintf("shard#%d", s), peers)[0]]++
	}
	for p, n := range has {
		if n < 900 || n > 1100 {
			t.Errorf("%s has %d of 4000", p.Name, n)
		}
	}
}

func TestRendezvousMovesOnlyWhatOneGetsOrHad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.String().Draw(t, "key")
		names := rapid.SliceOfNDistinct(rapid.String(), 1, 12, rapid.ID).Draw(t, "names")
		var peers []Peer
		for i, n := range names {
			peers = append(peers, Peer{Boot: boot(byte(i)), Name: n})
		}
		out := rapid.IntRange(0, len(peers)-1).Draw(t, "out")
		without := append(append([]Peer{}, peers[out+1:]...), peers[:out]...)
		want := []Peer{}
		for _, p := range Rendezvous(key, peers) {
			if p != peers[out] {
				want = append(want, p)
			}
		}
		if got := Rendezvous(key, without); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
