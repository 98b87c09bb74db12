package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// benchRecords makes JSON records of one size that compress about as well as real events do: field names and words
// repeat, numbers do not.
type benchRecords struct {
	size  int
	pool  [][]byte // texts of size bytes, each with room for a number
	next  uint64   // number of the next record
	step  uint64   // from one number to the next
	taken uint64   // so many records
	slab  []byte   // values are cut from it, since a sent value belongs to the sender until it is acknowledged
	keys  int
	place int // of the number inside each text

	noise *rand.PCG // nil: the texts stay as they are
	text  int       // from here on a value is noise
}

const (
	benchPool     = 1024
	benchSlab     = 1 << 20
	benchDigits   = 20
	benchSizeMin  = 64
	benchSizeMax  = 512 << 10
	benchKeyBytes = 8
)

var benchWords = []string{"pass", "shot", "goal", "corner", "offside", "header", "free kick", "left", "right", "centre", "keeper", "wing"}

// newBenchRecords makes records of size bytes, with one of so many keys each; keys 0: without key. Those that are incompressible are
// JSON at their beginning only, and no two of them have anything else in common.
func newBenchRecords(seed uint64, size, keys int, incompressible bool) *benchRecords {
	r := rand.New(rand.NewPCG(seed, 0xbe9c))
	g := &benchRecords{size: size, keys: keys, step: 1}
	head, middle := `{"sequence":"`, `","text":"`
	g.place, g.text = len(head), len(head)+benchDigits+len(middle)
	if incompressible {
		g.noise = rand.NewPCG(seed, 0x0125e)
	}
	for range benchPool {
		b := append(make([]byte, 0, size+64), head...)
		b = append(b, fmt.Sprintf(`%0*d%s`, benchDigits, 0, middle)...)
		for len(b) < size-2 {
			b = append(b, benchWords[r.IntN(len(benchWords))]...)
			b = append(b, ' ')
			b = strconv.AppendUint(b, uint64(r.IntN(1_000_000)), 10)
			b = append(b, ' ')
		}
		g.pool = append(g.pool, append(b[:size-2], `"}`...))
	}
	return g
}

// take is the next record. The value is the caller's.
func (g *benchRecords) take() (key, value []byte) {
	if len(g.slab) < g.size+benchKeyBytes {
		g.slab = make([]byte, max(benchSlab, g.size+benchKeyBytes))
	}
	value, g.slab = g.slab[:g.size:g.size], g.slab[g.size:]
	copy(value, g.pool[g.taken%benchPool])
	digits := value[g.place : g.place+benchDigits]
	for i, n := benchDigits-1, g.next; i >= 0 && n > 0; i, n = i-1, n/10 {
		digits[i] = byte('0' + n%10)
	}
	if g.noise != nil {
		fill(value[g.text:], g.noise)
	}
	if g.keys > 0 {
		key, g.slab = g.slab[:benchKeyBytes:benchKeyBytes], g.slab[benchKeyBytes:]
		// An odd factor spreads the keys without order, so that neighbours do not share a partition for long.
		binary.BigEndian.PutUint64(key, g.next%uint64(g.keys)*0x9e3779b97f4a7c15)
	}
	g.next += g.step
	g.taken++
	return key, value
}

func fill(b []byte, noise *rand.PCG) {
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, noise.Uint64())
	}
	for i := range b {
		b[i] = byte(noise.Uint64())
	}
}
