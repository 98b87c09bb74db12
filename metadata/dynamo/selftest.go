package dynamo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/splashdam/splashdam/metadata"
)

const (
	selfTestRounds  = 5
	selfTestWriters = 64
	selfTestTries   = 5 // of a step whose outcome is unknown for another reason than throttling, which may take as long as ctx allows
)

// errNotConditional: the table cannot hold a log.
var errNotConditional = errors.New("conditional puts do not exclude each other, so records would be lost: this server, or a cache before it, cannot hold the table")

// selfTest lets 64 writers put one scratch item under the same condition, some rounds long: each round has exactly one winner, and every
// loser is shown the winner's item. It also uses every permission that an agent needs. The scratch item has a sort key of its own, so
// agents that start together do not meet; one that dies meanwhile leaves some bytes behind.
func (t *Table) selfTest(ctx context.Context) error {
	current := metadata.Item{Key: metadata.SelfTestKey(rand.Text()), Rev: 1, Value: []byte(rand.Text())}
	if err := t.putScratch(ctx, current); err != nil {
		return err
	}
	for done, tries := 0, 0; done < selfTestRounds; {
		next, err := t.round(ctx, current)
		switch {
		case errors.Is(err, errNotConditional):
			return err
		case err == nil:
			current = *next
			done++
			continue
		case !isThrottled(err):
			tries++
		}
		if tries == selfTestTries {
			return err
		}
		// Some writer's outcome is unknown: the round shows nothing. What is there now is where the next one begins.
		if current, err = t.rest(ctx, current.Key, err); err != nil {
			return err
		}
	}
	if err := t.findScratch(ctx, current); err != nil {
		return err
	}
	return t.deleteScratch(ctx, current)
}

// insist repeats a step while its error says nothing about the table.
func (t *Table) insist(ctx context.Context, step func() error) error {
	var err error
	for tries, every := 0, pollEvery; tries < selfTestTries; every = min(2*every, pollEveryMax) {
		if err = step(); err == nil || isAnswer(err) || errors.Is(err, errNotConditional) {
			return err
		}
		if !isThrottled(err) {
			tries++
		}
		if ended := wait(ctx, every); ended != nil {
			return errors.Join(err, ended)
		}
	}
	return err
}

func (t *Table) putScratch(ctx context.Context, item metadata.Item) error {
	switch r := t.decide(ctx, item, metadata.If{}); r.Outcome {
	case metadata.Applied:
		return nil
	case metadata.Refused:
		return fmt.Errorf("a put of a new item was refused: %w", errNotConditional)
	default:
		return r.Err
	}
}

// decide sends a put until its outcome is known: where one answer in twenty is lost, hardly any round of 64 has all of them.
func (t *Table) decide(ctx context.Context, item metadata.Item, cond metadata.If) (r metadata.PutResult) {
	_ = t.insist(ctx, func() error { // the result says why it is unknown
		r = t.Put(ctx, item, cond)
		return r.Err
	})
	if r.Outcome == metadata.Refused && sameItem(r.Current, &item) { // an earlier sending was applied, or the network repeated this one
		return metadata.PutResult{Outcome: metadata.Applied}
	}
	return r
}

// round answers the winner's item. Its error is errNotConditional, or one that shows nothing.
func (t *Table) round(ctx context.Context, current metadata.Item) (*metadata.Item, error) {
	items, results := make([]metadata.Item, selfTestWriters), make([]metadata.PutResult, selfTestWriters)
	var all sync.WaitGroup
	for i := range items {
		items[i] = metadata.Item{Key: current.Key, Rev: current.Rev + 1, Value: []byte(rand.Text())}
		all.Go(func() { results[i] = t.decide(ctx, items[i], metadata.RevIs(current.Rev)) })
	}
	all.Wait()
	return judgeRound(items, results)
}

func judgeRound(items []metadata.Item, results []metadata.PutResult) (winner *metadata.Item, err error) {
	winners := 0
	for i, r := range results {
		switch r.Outcome {
		case metadata.Applied:
			winner = &items[i]
			winners++
		case metadata.Unknown:
			err = r.Err
		}
	}
	if winners > 1 {
		return nil, fmt.Errorf("%d of %d writers won: %w", winners, len(items), errNotConditional)
	}
	for _, r := range results {
		if winner != nil && r.Outcome == metadata.Refused && !sameItem(r.Current, winner) {
			return nil, fmt.Errorf("a writer that lost was shown another item than the winner's: %w", errNotConditional)
		}
	}
	if winners == 0 && err == nil {
		return nil, fmt.Errorf("none of %d writers won: %w", len(items), errNotConditional)
	}
	return winner, err
}

// rest goes on after a round that showed nothing: it moves the item, so that puts of that round which come late are refused, and answers
// what it put.
func (t *Table) rest(ctx context.Context, key metadata.Key, cause error) (item metadata.Item, err error) {
	if isAnswer(cause) {
		return item, cause
	}
	err = t.insist(ctx, func() error {
		if ended := wait(ctx, pollEvery); ended != nil {
			return errors.Join(cause, ended)
		}
		there, ok, err := t.Get(ctx, key)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("the scratch item is gone: %w", errNotConditional)
		}
		item = metadata.Item{Key: key, Rev: there.Rev + 1, Value: []byte(rand.Text())}
		if r := t.Put(ctx, item, metadata.RevIs(there.Rev)); r.Outcome != metadata.Applied {
			return cmp.Or(r.Err, cause)
		}
		return nil
	})
	return item, err
}

// findScratch wants reads to show the newest put at once.
func (t *Table) findScratch(ctx context.Context, want metadata.Item) error {
	return t.insist(ctx, func() error {
		got, ok, err := t.Get(ctx, want.Key)
		if err == nil && (!ok || !sameItem(&got, &want)) {
			return fmt.Errorf("a consistent read does not show the newest put: %w", errNotConditional)
		}
		if err != nil {
			return err
		}
		found, err := t.Query(ctx, want.Key.PK, want.Key.SK[:len(want.Key.SK)-1], 1)
		if err == nil && (len(found) == 0 || !sameItem(&found[0], &want)) {
			return fmt.Errorf("a consistent query does not show the newest put: %w", errNotConditional)
		}
		return err
	})
}

func (t *Table) deleteScratch(ctx context.Context, item metadata.Item) error {
	return t.insist(ctx, func() error {
		r := t.Delete(ctx, item.Key, metadata.RevIs(item.Rev))
		switch {
		case r.Outcome == metadata.Applied, r.Outcome == metadata.Refused && r.Current == nil: // an earlier try
			return nil
		case r.Outcome == metadata.Refused:
			return fmt.Errorf("a delete of the newest item was refused: %w", errNotConditional)
		}
		return r.Err
	})
}

func sameItem(a, b *metadata.Item) bool {
	return a != nil && b != nil && a.Key == b.Key && a.Rev == b.Rev && bytes.Equal(a.Value, b.Value)
}
