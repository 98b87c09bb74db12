// Package throttle slows down the requests to a Table while it answers that they are too many.
package throttle

import (
	"context"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/throttle"
)

// Table is the decorator. A throttled write is Unknown as every other that got no answer, and so is one whose context ended before it might
// be sent: neither says anything about an earlier attempt of the same write.
type Table struct {
	table metadata.Table
	gate  *throttle.Gate
}

// New wraps the table.
func New(table metadata.Table, gate *throttle.Gate) *Table { return &Table{table, gate} }

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (item metadata.Item, ok bool, err error) {
	if err := t.pass(ctx, "get", key); err != nil {
		return metadata.Item{}, false, err
	}
	item, ok, err = t.table.Get(ctx, key)
	t.gate.Answered(err)
	return item, ok, err
}

// Query implements metadata.Table.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	if err := t.pass(ctx, "query", metadata.Key{PK: pk, SK: after}); err != nil {
		return nil, err
	}
	items, err := t.table.Query(ctx, pk, after, limit)
	t.gate.Answered(err)
	return items, err
}

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	return t.write(ctx, "put", item.Key, func() metadata.PutResult { return t.table.Put(ctx, item, cond) })
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	return t.write(ctx, "delete", key, func() metadata.PutResult { return t.table.Delete(ctx, key, cond) })
}

// CreateAll implements metadata.Table.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	var first metadata.Key
	if len(items) > 0 {
		first = items[0].Key
	}
	return t.write(ctx, "create all", first, func() metadata.PutResult { return t.table.CreateAll(ctx, items) })
}

func (t *Table) write(ctx context.Context, op string, key metadata.Key, request func() metadata.PutResult) metadata.PutResult {
	if err := t.pass(ctx, op, key); err != nil {
		return metadata.PutResult{Outcome: metadata.Unknown, Err: err}
	}
	result := request()
	t.gate.Answered(result.Err)
	return result
}

// pass lets the lease items go at once. They are one small write per second and shard, whose absence would hardly relieve the table; but a
// renewal is only worth something in time. Behind the gate those that were throttled a few times in a row waited up to a second more before
// each attempt and came later than the lease of 3 s: with half of all requests throttled, twenty times as often as without the gate. Each of
// them invites another agent to take the shard, which costs the table more than the renewals do. Their answers count as all others do.
func (t *Table) pass(ctx context.Context, op string, key metadata.Key) error {
	pass := t.gate.Pass
	if key.Family() == "shard" {
		pass = func(ctx context.Context) error { return ctx.Err() }
	}
	if err := pass(ctx); err != nil {
		return fmt.Errorf("%s %s/%s: not sent: %w", op, key.PK, key.SK, err)
	}
	return nil
}
