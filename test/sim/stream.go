package sim

import (
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// stream is the follower's end of one stream.
type stream struct {
	boot  objectlog.UUID // whom it comes from
	ended bool
	heard time.Duration
}

// sub is the leader's end.
type sub struct {
	to     *node
	of     *stream
	from   metadata.Seq
	told   shardlog.Fingerprint
	arrive time.Duration // when the newest message arrives: none overtakes another
	broken bool          // a message was lost, and with it all behind it
}

// signal is one message of a stream.
type signal struct {
	entries []shardlog.Committed
	state   shardlog.Fingerprint
	end     bool // the agent leads no more
	garbled bool // one of the entries is not the log's
}

// follow follows a shard from a boot, in place of whom it was followed from before.
func (n *node) follow(s int, boot objectlog.UUID) {
	n.lead.streams[s] = nil
	m := n.w.known[boot]
	if m == nil {
		return
	}
	st := &stream{boot: boot, heard: n.mono()}
	n.lead.streams[s] = st
	from := n.replicas[s].core.Status(n.mono()).Applied + 1
	n.listen(s, st)
	n.call(m.place, n.w.set.lease, func(m *node, reply func(func())) {
		b := &sub{to: n, of: st, from: from}
		reply(func() {}) // signals follow
		if m.boot != boot {
			m.send(s, b, signal{end: true})
			return
		}
		m.replicas[s].subs = append(m.replicas[s].subs, b)
		m.pump(s, true)
		m.alive(s)
	}, func(o outcome) {
		if o != unheard { // else the silence tells
			n.endStream(s, st)
		}
	})
}

// listen ends the stream when it was silent for the lease time.
func (n *node) listen(s int, st *stream) {
	left := st.heard + n.w.set.lease - n.mono()
	if left <= 0 {
		n.endStream(s, st)
		return
	}
	n.w.to(n, time.Duration(float64(left)/n.rate)+time.Microsecond, func() {
		if n.lead.streams[s] == st && !st.ended {
			n.listen(s, st)
		}
	})
}

func (n *node) endStream(s int, st *stream) {
	if n.lead.streams[s] == st && !st.ended {
		st.ended = true
		n.learn(lead.StreamEnded{Shard: objectlog.Shard(s), Boot: st.boot})
	}
}

// pump sends followers what was committed since, and signs of life.
func (n *node) pump(s int, alive bool) {
	r := n.replicas[s]
	if len(r.subs) == 0 {
		return
	}
	status := r.core.Status(n.mono())
	kept := r.subs[:0]
	for _, b := range r.subs {
		if b.broken || b.to.dead || b.of.ended || b.to.lead.streams[s] != b.of {
			continue
		}
		if status.Role != shardlog.RoleLeading {
			n.send(s, b, signal{end: true})
			continue
		}
		kept = append(kept, b)
		sig := signal{entries: r.committed(b.from, status.Applied)}
		if len(sig.entries) == 0 && !alive {
			continue
		}
		if r.print != b.told {
			sig.state, b.told = r.print, r.print
		}
		n.send(s, b, sig)
		if len(sig.entries) > 0 {
			b.from = status.Applied + 1
		}
	}
	clear(r.subs[len(kept):])
	r.subs = kept
}

// alive sends signs of life for as long as somebody follows.
func (n *node) alive(s int) {
	r := n.replicas[s]
	if r.living || len(r.subs) == 0 {
		return
	}
	r.living = true
	n.w.to(n, n.w.set.lease/6, func() {
		r.living = false
		n.pump(s, true)
		n.alive(s)
	})
}

// send puts one message on its way. Messages of a stream stay in order; when one is lost, the stream breaks, which its follower may notice only
// by the silence. What arrives a second time arrives at any time.
func (n *node) send(s int, b *sub, sig signal) {
	w, to := n.w, b.to
	cut, gone, twice, late := w.links.out[n.place][to.place], w.chance(w.noise.loss), w.chance(w.noise.twice), w.chance(w.noise.late)
	if w.noise.garble > 0 && w.chance(w.noise.garble) {
		n.garble(s, &sig)
	}
	if b.broken || cut {
		b.broken = true
		return
	}
	if gone {
		b.broken = true
		if w.chance(0.5) {
			w.to(to, w.delay(), func() { to.endStream(s, b.of) })
		}
		return
	}
	at := w.now + w.delay()
	if late {
		at += between(w.fate, 0, lateMax)
	}
	b.arrive = max(b.arrive, at)
	w.to(to, b.arrive-w.now, func() {
		if to.lead.streams[s] == b.of && !b.of.ended {
			to.take(s, b.of, sig)
		}
	})
	if twice {
		w.to(to, b.arrive-w.now+between(w.fate, 0, lateMax), func() { to.take(s, b.of, sig) })
	}
}

// garble puts something else in an entry's place: the newest entry of another shard, which is whole, or the entry with a bit turned.
func (n *node) garble(s int, sig *signal) {
	if len(sig.entries) == 0 {
		return
	}
	sig.garbled, sig.entries = true, slices.Clone(sig.entries)
	e := &sig.entries[n.w.fate.IntN(len(sig.entries))]
	other := n.replicas[(s+1)%len(n.replicas)].tail
	if len(other) > 0 && n.w.chance(0.5) {
		e.Entry, e.Footers = other[len(other)-1].Entry, other[len(other)-1].Footers
		return
	}
	e.Entry = slices.Clone(e.Entry)
	e.Entry[n.w.fate.IntN(len(e.Entry))] ^= 1
}

// take gives the replica what a stream brings.
func (n *node) take(s int, st *stream, sig signal) {
	if sig.end {
		n.endStream(s, st)
		return
	}
	st.heard = n.mono()
	r := n.replicas[s]
	before := r.applied
	n.step(s, shardlog.Followed{Leader: st.boot, Entries: sig.entries})
	for _, e := range sig.entries {
		if before < e.Seq && e.Seq <= r.applied && !sig.garbled {
			r.keep(e, n.w.set.tailMax)
		}
	}
	if sig.state != (shardlog.Fingerprint{}) {
		n.w.stats.Compared++
		n.step(s, shardlog.Compared{Leader: sig.state})
	}
}

// keep adds an applied entry to the tail.
func (r *replica) keep(e shardlog.Committed, most int) {
	if k := len(r.tail); k > 0 && r.tail[k-1].Seq+1 != e.Seq {
		r.tail = nil
	}
	r.tail = append(r.tail, e)
	r.tail = r.tail[max(0, len(r.tail)-most):]
}

// committed are the entries from a seq on, or the newest alone when the first of them is not kept.
func (r *replica) committed(from, applied metadata.Seq) []shardlog.Committed {
	tail := r.tail
	if k := len(tail); k == 0 || tail[k-1].Seq != applied {
		return nil
	}
	first := tail[0].Seq
	if from < first {
		from = applied
	}
	return tail[min(from-first, metadata.Seq(len(tail))):]
}
