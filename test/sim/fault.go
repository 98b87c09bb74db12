package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// fault is one thing that goes wrong, chosen before the history begins so that it can be left out when a failure is minimised.
type fault struct {
	kind   string
	at     time.Duration
	lasts  time.Duration
	place  int
	to     target
	shard  int
	out    bool
	back   bool
	amount float64
}

func (f fault) String() string {
	return fmt.Sprintf("%9.3f ms  %s agent %d (target %d, shard %d, out %t, back %t, amount %.2f) for %v", float64(f.at)/1e6, f.kind, f.place, f.to, f.shard,
		f.out, f.back, f.amount, f.lasts.Round(time.Millisecond))
}

// chooseDamage draws what happens to stored bytes.
func chooseDamage(r *rand.Rand, span time.Duration, shards int) []fault {
	kinds := []string{"damage slot", "damage slot", "damage lease", "damage object", "damage object"}
	damage := make([]fault, 1+r.IntN(3))
	for i := range damage {
		damage[i] = fault{kind: kinds[r.IntN(len(kinds))], at: between(r, span/4, span), shard: r.IntN(shards), amount: r.Float64(), out: r.IntN(3) == 0, back: r.IntN(2) == 0}
	}
	return damage
}

// chooseFaults draws a history's faults: at least ten, of FAULTS.md's classes that concern the cores.
func chooseFaults(r *rand.Rand, span time.Duration, shards int) []fault {
	kinds := []string{"crash", "crash", "vanish", "drain", "drain", "pause", "pause", "garble", "cut", "cut", "part", "part", "refuse", "outage", "level", "loss", "twice", "late", "late",
		"storm", "slow", "clock", "fence", "crash all"}
	faults := make([]fault, 10+r.IntN(8))
	for i := range faults {
		f := &faults[i]
		f.kind = kinds[r.IntN(len(kinds))]
		f.at = between(r, span/20, span*9/10)
		f.lasts = between(r, 50*time.Millisecond, 4*time.Second)
		f.place, f.to, f.shard = r.IntN(places), target(r.IntN(int(targets))), r.IntN(shards)
		f.out, f.back = r.IntN(3) > 0, r.IntN(2) > 0
		f.amount = 0.05 + 0.4*r.Float64()
	}
	return faults
}

// chooseAlone draws the one fault of a history.
func chooseAlone(r *rand.Rand, kind string, span time.Duration) fault {
	return fault{kind: kind, at: between(r, span/3, span/2), lasts: between(r, span/10, span/3)}
}

// strike makes a fault happen, and end.
func (w *world) strike(f fault) {
	w.after(f.at, func() {
		w.trace("fault "+f.kind, f.place, int64(f.to), int64(f.shard))
		w.stats.Faults++
		if w.opt.Alone != "" {
			if n := w.leader(0); n != nil {
				f.place = n.place
			}
			w.watch(claimLeases * w.set.lease)
		}
		undo := w.begin(f)
		if undo != nil {
			w.after(min(f.lasts, w.opt.Span-w.now), undo)
		}
	})
}

// begin makes the fault happen and answers what ends it.
func (w *world) begin(f fault) (undo func()) {
	n := w.at[f.place]
	switch f.kind {
	case "crash", "vanish", "drain", "level":
		return w.stop(f)
	case "crash all":
		for p := range places {
			w.kill(p)
		}
		return func() {
			for p := range agents {
				w.revive((f.place+p)%places, false)
			}
		}
	case "pause":
		if n != nil {
			leases := []time.Duration{1, 3, 20}[int(f.lasts)%3]
			n.pausedUntil = min(w.now+leases*w.set.lease, w.opt.Span)
		}
	case "cut":
		w.links.out[f.place][f.to], w.links.back[f.place][f.to] = f.out, f.back || !f.out
		return func() { w.links.out[f.place][f.to], w.links.back[f.place][f.to] = false, false }
	case "part": // one way, between two agents
		to := int(f.amount*1000) % places
		w.links.out[f.place][to], w.links.back[to][f.place] = true, true
		return func() { w.links.out[f.place][to], w.links.back[to][f.place] = false, false }
	case "refuse":
		to := int(f.amount*1000) % places
		w.links.refused[f.place][to], w.links.refused[to][f.place] = true, f.back
		return func() { w.links.refused[f.place][to], w.links.refused[to][f.place] = false, false }
	case "outage":
		return w.outage()
	case "clock":
		if n != nil {
			n.skew += time.Duration((f.amount - 0.25) * float64(10*time.Hour))
		}
	case "fence":
		w.fence(f)
	case "damage slot", "damage lease", "damage object":
		w.damage(f)
	default:
		return w.disturb(f)
	}
	return nil
}

// disturb makes all messages fare badly.
func (w *world) disturb(f fault) (undo func()) {
	old := w.noise
	switch f.kind {
	case "loss":
		w.noise.loss = f.amount / 2
		return func() { w.noise.loss = old.loss }
	case "twice":
		w.noise.twice = f.amount
		return func() { w.noise.twice = old.twice }
	case "late":
		w.noise.late = f.amount / 2
		return func() { w.noise.late = old.late }
	case "garble":
		w.noise.garble = f.amount
		return func() { w.noise.garble = old.garble }
	case "storm":
		w.noise.throttle = f.amount
		return func() { w.noise.throttle = old.throttle }
	case "slow":
		w.noise.slow = time.Duration(f.amount * float64(time.Second))
		return func() { w.noise.slow = old.slow }
	}
	panic("sim: no such fault: " + f.kind)
}

// stop ends an agent: at once, with its machine, after it handed on what it leads, or for another version that takes its place.
func (w *world) stop(f fault) (undo func()) {
	n := w.at[f.place]
	back := func() { w.revive(f.place, f.out && f.back) }
	switch {
	case n == nil:
		return nil
	case f.kind == "drain":
		if !n.draining {
			n.drain(back)
		}
		return nil
	case f.kind == "vanish":
		w.dark[f.place] = true
	}
	w.kill(f.place)
	if f.kind != "level" {
		return back
	}
	w.start(f.place, 2)
	return func() {
		if m := w.at[f.place]; m != nil && m.level != 1 {
			w.kill(f.place)
			back()
		}
	}
}

// outage cuts everybody from the table.
func (w *world) outage() (undo func()) {
	set := func(cut bool) {
		for p := range places {
			w.links.out[p][theTable] = cut
		}
	}
	set(true)
	began := w.changes
	return func() {
		set(false)
		if w.opt.Alone != "" {
			w.after(claimLeases*w.set.lease, func() { w.noStorm(w.changes - began) })
		}
	}
}

// revive starts an agent at the place or, as long as there are not enough of them, at a free one.
func (w *world) revive(place int, elsewhere bool) {
	up := 0
	for _, n := range w.at {
		if n != nil {
			up++
		}
	}
	if up >= agents {
		return
	}
	if elsewhere {
		place++
	}
	for w.at[place%places] != nil {
		place++
	}
	w.start(place%places, 1)
}

// fence refuses a boot's older segments in one shard, rightly or wrongly, as a janitor may at any time.
func (w *world) fence(f fault) {
	n, of := w.at[f.place], w.at[(f.place+1)%places]
	if len(w.gone) > 0 && f.out {
		of = w.gone[len(w.gone)-1]
	}
	if n == nil || of == nil {
		return
	}
	below := uint64(1 + 20*f.amount)
	n.propose(f.shard, []metadata.Command{metadata.Fence{Ordinal: of.ordinal, Below: below}.Command()}, nil, func([]any) {})
}

// heal ends every fault that has not ended by itself.
func (w *world) heal() {
	w.links, w.noise, w.dark = links{}, noise{}, [places]bool{}
	for p, n := range w.at {
		if n != nil && (n.draining || n.level != 1) {
			w.kill(p)
		}
	}
	for p := range agents {
		w.revive(p, false)
	}
}

// damage changes stored bytes behind everybody's back: gone (out), cut short (back), or one bit flipped.
func (w *world) damage(f fault) {
	bend := func(b []byte) []byte {
		switch {
		case len(b) == 0 || f.back:
			return b[:len(b)/2]
		default:
			b[int(f.amount*float64(len(b)))] ^= 1 << (len(b) % 8)
			return b
		}
	}
	change := func(i metadata.Item) (metadata.Item, bool) {
		i.Value = bend(i.Value)
		return i, !f.out
	}
	switch f.kind {
	case "damage lease":
		w.table.Edit(metadata.LeaseKey(objectlog.Shard(f.shard)), change)
	case "damage slot":
		if used := w.check.used; len(used) > 0 {
			w.table.Edit(used[len(used)-1-int(f.amount*float64(min(len(used), 2*w.set.slots)))], change)
		}
	case "damage object":
		keys := w.list("")
		if len(keys) == 0 {
			return
		}
		w.bucket.Edit(keys[int(f.amount*float64(len(keys)))], func(b []byte) []byte {
			if f.out {
				return nil
			}
			return bend(b)
		})
	}
}
