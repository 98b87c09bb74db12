package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
)

// counter is the value of an item that numbers are taken from. The nonce makes every write one of its own, so that
// nobody takes another's for a repeat of theirs.
type counter struct {
	Next  int64  `json:"next"`
	Nonce string `json:"nonce"`
}

// counterTries bounds the contest for a counter: many agents that start together, or a table that answers nothing.
const counterTries = 20

// errDamaged: an item that must exist is missing or does not decode. It is never read as new.
var errDamaged = errors.New("missing or damaged in the table: restore the table from a backup; no number may be given out twice")

// take takes n numbers from the counter and answers the first. A put with an unknown outcome may have taken its
// numbers, now or later, so they are left alone: what the next try takes is decided by the revision it meets.
func (j *joiner) take(ctx context.Context, key metadata.Key, n int64) (int64, error) {
	var last error
	for range counterTries {
		item, ok, err := j.table.Get(ctx, key)
		if err != nil {
			return 0, fmt.Errorf("read counter %s: %w", key.PK, err)
		}
		var c counter
		if !ok || json.Unmarshal(item.Value, &c) != nil || c.Next < 1 {
			return 0, fmt.Errorf("counter %s: %w", key.PK, errDamaged)
		}
		put := j.table.Put(ctx, counterItem(key, item.Rev+1, c.Next+n, j.newUUID().String()), metadata.RevIs(item.Rev))
		if put.Outcome == metadata.Applied {
			return c.Next, nil
		}
		if last = put.Err; ctx.Err() != nil {
			break
		}
	}
	return 0, fmt.Errorf("take from counter %s: outcome of every try refused or unknown: %w", key.PK, errors.Join(last, ctx.Err()))
}

func counterItem(key metadata.Key, rev metadata.Rev, next int64, nonce string) metadata.Item {
	value, _ := json.Marshal(counter{Next: next, Nonce: nonce}) // a struct of numbers and strings always encodes
	return metadata.Item{Key: key, Rev: rev, Value: value}
}
