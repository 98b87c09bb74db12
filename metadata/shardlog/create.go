package shardlog

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// createAttempts bounds how many rings are begun: each costs a write per slot, and an unknown outcome is rare.
const createAttempts = 8

// Create makes the shard's ring and lease item, if there is no lease item yet. The lease item comes last, so that its existence means that
// every slot exists. A ring whose creation has an unknown outcome is abandoned: a write of it that comes late would erase
// entries. It may be called by several agents at once; one wins, all succeed.
func Create(ctx context.Context, table metadata.Table, s objectlog.Shard, slots int, random func() uint64) error {
	if slots < slotsMin {
		return fmt.Errorf("create log of shard %d: %d slots, at least %d are needed", s, slots, slotsMin)
	}
	var last error
	for range createAttempts {
		_, ok, err := table.Get(ctx, metadata.LeaseKey(s))
		if err != nil {
			return fmt.Errorf("create log of shard %d: read lease item: %w", s, err)
		}
		if ok {
			return nil
		}
		ring := objectlog.NewUUID(random)
		if r := table.CreateAll(ctx, freshSlots(ring, slots)); r.Outcome == metadata.Applied {
			return createLease(ctx, table, s, lease{ring: ring, slots: slots, nonce: random()})
		} else if last = r.Err; ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("create log of shard %d: create %d slots: outcome unknown: %w", s, slots, last)
}

func freshSlots(ring objectlog.UUID, slots int) []metadata.Item {
	items := make([]metadata.Item, slots)
	for i := range items {
		n := metadata.Seq(i)
		items[i] = metadata.Item{Key: metadata.SlotKey(ring, slots, n), Rev: metadata.Rev(n) - metadata.Rev(slots), Value: []byte{}}
	}
	return items
}

// createLease puts the lease item, the same until it is decided. Refused: it exists, mine from an earlier sending or another agent's.
func createLease(ctx context.Context, table metadata.Table, s objectlog.Shard, l lease) error {
	item := metadata.Item{Key: metadata.LeaseKey(s), Rev: 1, Value: l.encode()}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		r := table.Put(ctx, item, metadata.If{})
		switch r.Outcome {
		case metadata.Applied:
			return nil
		case metadata.Refused:
			return checkCreated(s, item, r.Current)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("create log of shard %d: put lease item: outcome unknown: %w", s, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func checkCreated(s objectlog.Shard, item metadata.Item, current *metadata.Item) error {
	if current == nil || bytes.Equal(current.Value, item.Value) {
		return nil
	}
	if _, err := decodeLease(current.Value, s); err != nil {
		return fmt.Errorf("create log of shard %d: lease item of another agent: %w", s, err)
	}
	return nil
}
