package lead

import (
	"bytes"
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
)

// Rendezvous answers the peers in the order in which they should have what key names, the first first. Every agent that knows the same
// peers answers the same, and a peer that comes or goes moves only what it gets or had.
func Rendezvous(key string, peers []Peer) []Peer {
	type scored struct {
		Peer
		score uint64
	}
	all := make([]scored, len(peers))
	for i, p := range peers {
		all[i] = scored{p, score(key, p.Name)}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), comparePeers(a.Peer, b.Peer))
	})
	ordered := make([]Peer, len(all))
	for i, s := range all {
		ordered[i] = s.Peer
	}
	return ordered
}

// score is the same in every version: agents of two versions must not disagree. FNV-1a of the key, a zero byte and the name, then the finalizer of
// SplitMix64, since the upper bits of FNV-1a hardly depend on the last bytes.
func score(key, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(name))
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// comparePeers orders by name, then by boot.
func comparePeers(a, b Peer) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.Boot[:], b.Boot[:]))
}
