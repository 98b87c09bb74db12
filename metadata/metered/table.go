// Package metered counts the requests of a Table: how many, how large, how long, by method and outcome. The counts are plain values
// (objectlog/metered); whoever runs the process exports them.
package metered

import (
	"context"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/metered"
)

// Table is the decorator.
type Table struct {
	table metadata.Table
	meter *metered.Meter
}

// New wraps the table; now is the clock.
func New(table metadata.Table, now func() time.Time) *Table {
	var labels []metered.Labels
	for op, outcomes := range map[string][]string{
		"get": {"ok", "absent", "error"}, "query": {"ok", "error"},
		"put": {"applied", "refused", "unknown"}, "delete": {"applied", "refused", "unknown"}, "create_all": {"applied", "refused", "unknown"},
	} {
		for _, outcome := range outcomes {
			labels = append(labels, metered.Labels{Op: op, Outcome: outcome})
		}
	}
	return &Table{table, metered.NewMeter(now, labels)}
}

// Snapshot answers the counts so far. Outcomes of reads: ok, absent, error; of writes: applied, refused, unknown.
func (t *Table) Snapshot() []metered.Series { return t.meter.Snapshot() }

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (metadata.Item, bool, error) {
	end := t.meter.Start()
	item, ok, err := t.table.Get(ctx, key)
	outcome := "ok"
	switch {
	case err != nil:
		outcome = "error"
	case !ok:
		outcome = "absent"
	}
	end(metered.Labels{Op: "get", Outcome: outcome}, len(item.Value))
	return item, ok, err
}

// Query implements metadata.Table.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	end := t.meter.Start()
	items, err := t.table.Query(ctx, pk, after, limit)
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	end(metered.Labels{Op: "query", Outcome: outcome}, valueBytes(items))
	return items, err
}

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	return t.write("put", len(item.Value), func() metadata.PutResult { return t.table.Put(ctx, item, cond) })
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	return t.write("delete", 0, func() metadata.PutResult { return t.table.Delete(ctx, key, cond) })
}

// CreateAll implements metadata.Table.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	return t.write("create_all", valueBytes(items), func() metadata.PutResult { return t.table.CreateAll(ctx, items) })
}

func (t *Table) write(op string, bytes int, f func() metadata.PutResult) metadata.PutResult {
	end := t.meter.Start()
	r := f()
	outcome := "unknown"
	switch r.Outcome {
	case metadata.Applied:
		outcome = "applied"
	case metadata.Refused:
		outcome = "refused"
	}
	end(metered.Labels{Op: op, Outcome: outcome}, bytes)
	return r
}

func valueBytes(items []metadata.Item) int {
	sum := 0
	for _, item := range items {
		sum += len(item.Value)
	}
	return sum
}
