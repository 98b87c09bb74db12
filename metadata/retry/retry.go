// Package retry repeats the failed reads of a Table, within the budget that it shares with the buckets (objectlog/retry).
//
// Writes go through once. Their outcome is decided by the slot, and only its writer can read the decision: when an Unknown put is
// sent again and refused, the item that refused it may be the put's own, or one that replaced it (a ring slot one lap later), or a
// rival's that it never got past. Who knows the protocol of the item can tell these apart and sends the same put again itself; a decorator
// that guessed could turn a committed write into a failed one.
package retry

import (
	"context"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/retry"
)

// Table is the decorator. Put, Delete and CreateAll are the wrapped table's own.
type Table struct {
	metadata.Table
	policy retry.Policy
}

// New wraps the table. The policy is valid.
func New(table metadata.Table, policy retry.Policy) *Table { return &Table{table, policy} }

// final: a read of a Table has no error that is an answer; an absent item is none.
func final(error) bool { return false }

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (item metadata.Item, ok bool, err error) {
	err = t.policy.Do(ctx, final, func() error {
		item, ok, err = t.Table.Get(ctx, key)
		return err
	})
	return item, ok, err
}

// Query implements metadata.Table.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) (items []metadata.Item, err error) {
	err = t.policy.Do(ctx, final, func() error {
		items, err = t.Table.Query(ctx, pk, after, limit)
		return err
	})
	return items, err
}
