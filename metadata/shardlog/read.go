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
	r := &logReader{ctx: ctx, table: table, shard: s}
	err := r.open()
	if err == nil {
		err = r.read(from, yield)
	}
	if err != nil {
		return fmt.Errorf("read log of shard %d: %w", s, err)
	}
	return nil
}

// logReader is one reading of a log. An entry is as good as the one before it, of which it carries the hash.
type logReader struct {
	ctx   context.Context // of the one call that this reader lives for
	table metadata.Table
	shard objectlog.Shard
	lease lease
	tip   *tip // entry before the next; nil: none was read
}

func (r *logReader) get(k metadata.Key) (metadata.Item, bool, error) {
	ctx, cancel := context.WithTimeout(r.ctx, itemTimeout)
	defer cancel()
	return r.table.Get(ctx, k)
}

func (r *logReader) open() error {
	item, ok, err := r.get(metadata.LeaseKey(r.shard))
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
func (r *logReader) slot(n metadata.Seq) (metadata.Item, error) {
	item, ok, err := r.get(metadata.SlotKey(r.lease.ring, r.lease.slots, n))
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
func (r *logReader) end() (metadata.Seq, error) {
	first, err := r.slot(0)
	if err != nil {
		return 0, err
	}
	behind := sort.Search(r.lease.slots-1, func(i int) bool {
		if err != nil {
			return true
		}
		var item metadata.Item
		item, err = r.slot(metadata.Seq(i) + 1)
		return err == nil && item.Rev < first.Rev
	})
	if first.Rev < 0 {
		return -1, err
	}
	return metadata.Seq(first.Rev) + metadata.Seq(behind), err
}

func (r *logReader) read(from metadata.Seq, yield func(Record) bool) error {
	end, err := r.end()
	if err != nil {
		return err
	}
	slots := metadata.Seq(r.lease.slots)
	for n := max(from, end-slots+1, 0); n <= end; {
		item, err := r.slot(n)
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
	before := tip{hash: e.prevHash}
	if r.tip != nil {
		before = *r.tip
	}
	r.tip = &tip{seq: n, epoch: e.epoch, hash: hashOf(raw), time: e.time}
	return e, before.precedes(&e, n, r.lease.ring)
}
