package sim

import (
	"bytes"
	"context"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// checker knows what clients were told, and compares.
type checker struct {
	w      *world
	values map[log][]string // by offset, as acknowledged or read; "" where neither
	where  map[string]place // of every value acknowledged or read
	never  map[string]bool  // values of definitely failed batches
	next   map[log]objectlog.Offset
	acks   int

	states map[stateAt]uint64
	slots  map[slotAt][]byte // what every seq of every ring holds
	used   []metadata.Key    // slots, in the order of their puts

	tags    [][]fate // of proposals, by shard
	results map[commit]metadata.CommitResult
	prints  map[stateAt]uint64
	groups  *groupChecks
	queues  *queueChecks
}

// place is where a value is.
type place struct {
	log    log
	offset objectlog.Offset
}

type stateAt struct {
	shard int
	seq   metadata.Seq
}

type slotAt struct {
	pk  string
	sk  string
	rev metadata.Rev
}

func newChecker(w *world) *checker {
	return &checker{w: w, groups: newGroupChecks(w), queues: newQueueChecks(w), values: map[log][]string{}, where: map[string]place{}, never: map[string]bool{}, next: map[log]objectlog.Offset{},
		states: map[stateAt]uint64{}, slots: map[slotAt][]byte{}, results: map[commit]metadata.CommitResult{}, prints: map[stateAt]uint64{}}
}

// put watches the table: one seq never holds two entries (I5).
func (c *checker) put(item metadata.Item, r metadata.PutResult) {
	if r.Outcome != metadata.Applied || item.Key.SK == "lease" {
		return
	}
	at := slotAt{item.Key.PK, item.Key.SK, item.Rev}
	if old, ok := c.slots[at]; ok && !bytes.Equal(old, item.Value) {
		c.w.fail("agreement", "slot %s holds two entries at seq %d", item.Key.SK, item.Rev)
	}
	c.slots[at] = item.Value
	c.used = append(c.used, item.Key)
}

// state compares replicas: equal seq, equal state, whether applied, followed, replayed or restored (I6).
func (c *checker) state(shard int, seq metadata.Seq, hash uint64) {
	at := stateAt{shard, seq}
	if old, ok := c.states[at]; ok && old != hash {
		c.w.fail("state-divergence", "shard %d at seq %d", shard, seq)
	}
	c.states[at] = hash
}

// commit names one segment's commit to one shard.
type commit struct {
	ordinal int64
	shard   int
	counter uint64
}

// same: a commit is decided once. However often it is sent, the answer is the first one, or that it is not known any more.
func (c *checker) same(of commit, result any) {
	r, ok := result.(metadata.CommitResult)
	if !ok || r.Unknown {
		return
	}
	if old, ok := c.results[of]; ok && !slices.Equal(old.Batches, r.Batches) {
		c.w.fail("duplicate", "segment %d of boot %d in shard %d was decided as %v, then as %v", of.counter, of.ordinal, of.shard, old.Batches, r.Batches)
	}
	c.results[of] = r
}

// fingerprint compares what replicas tell each other of their states.
func (c *checker) fingerprint(shard int, f shardlog.Fingerprint) {
	at := stateAt{shard, f.Seq}
	if old, ok := c.prints[at]; ok && old != f.Hash {
		c.w.fail("state-divergence", "fingerprints of shard %d at seq %d", shard, f.Seq)
	}
	c.prints[at] = f.Hash
}

// acked notes what a client was promised (I1, I3).
func (c *checker) acked(l log, o objectlog.Offset, value string) {
	c.acks++
	c.w.trace("acked "+value, 0, int64(l.topic), int64(l.partition), int64(o))
	c.at(l, o, value)
	c.next[l] = max(c.next[l], o+1)
}

// failed notes what a client was told is not in the log (I4).
func (c *checker) failed(values []string) {
	for _, v := range values {
		c.never[v] = true
		if p, ok := c.where[v]; ok {
			c.w.fail("G1a", "%s was read at %v before it was called failed", v, p)
		}
	}
}

// at holds one value to one offset, and each value to one place.
func (c *checker) at(l log, o objectlog.Offset, value string) {
	all := c.values[l]
	for objectlog.Offset(len(all)) <= o {
		all = append(all, "")
	}
	if all[o] != "" && all[o] != value {
		c.w.fail("inconsistent-offsets", "%v offset %d holds %s and %s", l, o, all[o], value)
	}
	all[o] = value
	c.values[l] = all
	if p, ok := c.where[value]; ok && p != (place{l, o}) {
		c.w.fail("duplicate", "%s is at %v and at %v", value, p, place{l, o})
	}
	c.where[value] = place{l, o}
	if c.never[value] {
		c.w.fail("G1a", "%s is at %v, its producer was told that it failed", value, place{l, o})
	}
}

// read reads a partition from an offset to its end, by the agent's applied state and the bucket, and answers where it ends, or where it could not
// go on.
func (c *checker) read(n *node, l log, from objectlog.Offset) (end objectlog.Offset, ok bool) {
	t := c.w.topic[l.topic]
	state := n.replicas[t.shard].state
	for _, b := range state.Batches(nil, t.id, l.partition, from, 1<<40) {
		body, err := c.w.bucket.Get(context.Background(), c.w.keys.Segment(b.Segment), objectlog.Extent{Start: b.Start, Next: b.Start + int64(b.Row.Bytes)})
		if err != nil {
			c.w.fail("lost-object", "agent %d, %v from %d: %v", n.place, l, b.Base, err)
			return from, false
		}
		objectlog.PatchBatch(body, b.Base, b.Epoch)
		err = objectlog.DecodeBatch(body, objectlog.Limits{}, func(o objectlog.Offset, r objectlog.Record) bool {
			if o < from {
				return true // the batch began before
			}
			if o != from {
				c.w.fail("int-poll-skip", "%v goes on at %d, not at %d", l, o, from)
				return false
			}
			from++
			c.at(l, o, string(r.Value))
			return true
		})
		if err != nil {
			c.w.fail("corrupt", "agent %d, %v from %d: %v", n.place, l, b.Base, err)
			return from, false
		}
	}
	return from, true
}

// whole reads everything through one agent: no acknowledged record may be missing (I1), none be left over.
func (c *checker) whole(n *node) {
	for _, l := range c.w.everywhere() {
		end, ok := c.read(n, l, 0)
		if ok && c.w.err == nil && end < c.next[l] {
			c.w.fail("lost-write", "agent %d reads %v to %d, %d was acknowledged", n.place, l, end, c.next[l])
		}
		for o, v := range c.values[l] {
			if v == "" && objectlog.Offset(o) < end {
				c.w.fail("unseen", "%v offset %d", l, o)
			}
		}
	}
}
