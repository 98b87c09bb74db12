package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/splashdam/splashdam/metadata"
)

// write has apply run in a transaction and waits for its commit. Whoever gets the turn commits for all who wait.
func (t *Table) write(
	ctx context.Context, op string, key metadata.Key, apply func(*bbolt.Bucket) (metadata.PutResult, bool),
) metadata.PutResult {
	if err := ctx.Err(); err != nil {
		return unknown(op, key, err)
	}
	w := &write{apply: apply, done: make(chan struct{})}
	t.mu.Lock()
	t.queue = append(t.queue, w)
	t.mu.Unlock()
	select {
	case t.turn <- struct{}{}:
		t.commitQueue()
		<-t.turn
		<-w.done // by this turn's commit or by an earlier one's
	case <-w.done:
	case <-ctx.Done():
		t.leave(w)
		return unknown(op, key, ctx.Err())
	}
	if w.result.Err != nil {
		return unknown(op, key, w.result.Err)
	}
	return w.result
}

// leave takes w out of the queue, so that a write which nobody waits for does not surprise a later reader. It may be in a transaction
// already.
func (t *Table) leave(w *write) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queue = slices.DeleteFunc(t.queue, func(q *write) bool { return q == w })
}

// commitQueue commits what waits, as one transaction, and answers it. The caller has the turn.
func (t *Table) commitQueue() {
	t.mu.Lock()
	batch := t.queue
	t.queue = nil
	t.mu.Unlock()
	if len(batch) == 0 {
		return // an earlier turn took them all
	}
	if err := t.transact(batch); err != nil {
		for _, w := range batch {
			w.result = metadata.PutResult{Err: err}
		}
	}
	for _, w := range batch {
		close(w.done)
	}
}

// transact applies the batch in order. On an error nothing is known of any of its writes, refusals included: they may have met a
// write of the same batch.
func (t *Table) transact(batch []*write) (err error) {
	t.visible.RLock()
	err = t.broken
	t.visible.RUnlock()
	if err != nil {
		return err
	}
	tx, err := t.db.Begin(true)
	if err != nil {
		return err
	}
	changed := false
	err = guard(func() error {
		for _, w := range batch {
			var c bool
			w.result, c = w.apply(tx.Bucket(itemsBucket))
			changed = changed || c
			if c && w.result.Err != nil { // half of its items are in the transaction, which so must not be committed
				return w.result.Err
			}
		}
		return nil
	})
	if err != nil || !changed {
		return errors.Join(err, tx.Rollback()) // refusals alone need no sync: what refused them is durable
	}
	t.visible.Lock()
	defer t.visible.Unlock()
	if err := guard(func() error { return t.commit(tx) }); err != nil { // the batch is durable when this returns nil
		tx.Rollback() // an error means that the commit did it
		t.broken = fmt.Errorf("table %s %w: %w", t.folder, ErrStopped, err)
		return t.broken
	}
	return nil
}

// judge says whether the condition holds, and else the answer.
func judge(items *bbolt.Bucket, key metadata.Key, cond metadata.If) (metadata.PutResult, bool) {
	there, exists, err := lookUp(items, key)
	switch {
	case err != nil:
		return metadata.PutResult{Err: err}, false
	case exists != cond.Exists || exists && there.Rev != cond.Rev:
		refused := metadata.PutResult{Outcome: metadata.Refused}
		if exists {
			refused.Current = &there
		}
		return refused, false
	}
	return metadata.PutResult{}, true
}
