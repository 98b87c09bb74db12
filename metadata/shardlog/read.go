package shardlog

import (
	"context"
	"fmt"
	"sort"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Record is one entry of a shard log, for people.
type Record struct {
	Position metadata.Position
	Bytes    int // of the entry in its slot
	Commands []metadata.Command
}

// ReadLog reads the entries of a shard from a seq on, or from the oldest that its ring still holds, to the end, and gives them to yield in
// order until that answers false. It changes nothing and needs no agent. Damage is an error that names the slot.
//
// A leader may append meanwhile. Where that has overwritten the next entry, the reading goes on at the oldest that is left.
func ReadLog(ctx context.Context, table metadata.Table, s objectlog.Shard, from metadata.Seq, yield func(Record) bool) error {
	r := &logReader{table: table, shard: s}
	err := r.open(ctx)
	if err == nil {
		err = r.read(ctx, from, yield)
	}
	if err != nil {
		return fmt.Errorf("read log of shard %d: %w", s, err)
	}
	return nil
}

// logReader is one reading of a log. An entry is as good as the one before it, of which it carries the hash.
type logReader struct {
	table metadata.Table
	shard objectlog.Shard
	lease lease
	tip   *tip // entry before the next; nil: it was not read
}

func (r *logReader) get(ctx context.Context, k metadata.Key) (metadata.Item, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, itemTimeout)
	defer cancel()
	return r.table.Get(ctx, k)
}

func (r *logReader) open(ctx context.Context) error {
	item, ok, err := r.get(ctx, metadata.LeaseKey(r.shard))
	if err == nil && !ok {
		err = leaseDamage(r.shard, "an item", "none")
	}
	if err != nil {
		return err
	}
	if r.lease, err = decodeLease(item.Value, r.shard); err != nil {
		return leaseDamage(r.shard, "a lease", err.Error())
	}
	return nil
}

// slot answers what is in the slot of n, whichever lap it is of.
func (r *logReader) slot(ctx context.Context, n metadata.Seq) (metadata.Item, error) {
	item, ok, err := r.get(ctx, metadata.SlotKey(r.lease.ring, r.lease.slots, n))
	switch rev := metadata.Seq(item.Rev); {
	case err != nil:
		return item, fmt.Errorf("seq %d: %w", n, err)
	case !ok:
		return item, slotDamage(r.lease, n, "a slot", "none")
	case (rev-n)%metadata.Seq(r.lease.slots) != 0 || rev < -metadata.Seq(r.lease.slots):
		return item, slotDamage(r.lease, n, "a seq of this slot", fmt.Sprintf("seq %d", rev))
	}
	return item, nil
}

// end finds the newest entry by halving: the slots up to it are of the first slot's lap, those behind it of the one before. -1: there is none.
func (r *logReader) end(ctx context.Context) (metadata.Seq, error) {
	first, err := r.slot(ctx, 0)
	if err != nil || first.Rev < 0 {
		return -1, err
	}
	behind := sort.Search(r.lease.slots-1, func(i int) bool {
		if err != nil {
			return true
		}
		var item metadata.Item
		item, err = r.slot(ctx, metadata.Seq(i)+1)
		return err == nil && item.Rev < first.Rev
	})
	return metadata.Seq(first.Rev) + metadata.Seq(behind), err
}

func (r *logReader) read(ctx context.Context, from metadata.Seq, yield func(Record) bool) error {
	end, err := r.end(ctx)
	if err != nil {
		return err
	}
	slots := metadata.Seq(r.lease.slots)
	for n := max(from, end-slots+1, 0); n <= end; {
		item, err := r.slot(ctx, n)
		if err != nil {
			return err
		}
		switch rev := metadata.Seq(item.Rev); {
		case rev < n:
			return slotDamage(r.lease, n, fmt.Sprintf("seq %d, since seq %d is in the ring", n, end), fmt.Sprintf("seq %d", rev))
		case rev > n:
			r.tip, n, end = nil, rev-slots+1, max(end, rev)
			continue
		}
		e, err := r.check(n, item.Value)
		if err != nil {
			return slotDamage(r.lease, n, "an entry that continues the log", err.Error())
		}
		if !yield(Record{Position: metadata.Position{Seq: n, Epoch: e.epoch, Time: e.time}, Bytes: len(item.Value), Commands: e.commands}) {
			return nil
		}
		n++
	}
	return nil
}

// check decodes the entry at n and compares it with the one before.
func (r *logReader) check(n metadata.Seq, raw []byte) (entry, error) {
	e, err := decodeEntry(raw)
	if err != nil {
		return e, err
	}
	before := tip{seq: -1}
	switch {
	case r.tip != nil:
		before = *r.tip
	case n > 0:
		before = tip{seq: n - 1, hash: e.prevHash} // not read
	}
	r.tip = &tip{seq: n, epoch: e.epoch, hash: hashOf(raw), time: e.time}
	return e, before.precedes(&e, n, r.lease.ring)
}
