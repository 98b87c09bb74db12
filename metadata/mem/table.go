// Package mem is a Table in memory, for tests and for the simulator: it obeys the contract of metadata.Table, fails on request in every
// way in which a real table fails, and writes down each request it gets. It starts no goroutine and reads no clock, so a run
// from one goroutine repeats exactly.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

var (
	// ErrInjected is the cause of every error that a Fault makes.
	ErrInjected = errors.New("injected fault")
	// errThrottled is the cause of a Throttle's error.
	errThrottled = fmt.Errorf("%w: %w", objectlog.ErrThrottled, ErrInjected)
)

const (
	valueBytesMax = 300 << 10 // the contract's bound
)

// Table is the store. Its zero value is empty and ready; the exported fields are set before the first request.
type Table struct {
	// Fault decides what goes wrong with a request; nil means nothing ever does. It runs outside of the table's lock, so it may call
	// Release or make requests of its own.
	Fault func(Request) Fault
	// Transcript takes one line per request when it has been answered; nil means none.
	Transcript io.Writer
	// Rewrite changes the keys in Transcript, given as "pk sk", so that random parts of names do not change the lines; nil means as
	// they are.
	Rewrite func(key string) string

	mu       sync.Mutex
	items    map[metadata.Key]metadata.Item
	requests int
	counts   [opCount]int
	held     []held
}

// held is a write that was answered Unknown and has not reached the table yet.
type held struct {
	request Request
	land    func() metadata.PutResult // under mu
}

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (item metadata.Item, ok bool, err error) {
	err = t.read(ctx, Request{Op: OpGet, Key: key}, func() string {
		if item, ok = t.items[key]; !ok {
			return "absent"
		}
		item = clone(item)
		return fmt.Sprintf("rev %d", item.Rev)
	})
	return item, ok, err
}

// Query implements metadata.Table.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	var items []metadata.Item
	r := Request{Op: OpQuery, Key: metadata.Key{PK: pk, SK: after}, Limit: limit}
	if limit < 1 {
		return nil, fmt.Errorf("%s: limit %d is below 1", r.subject(), limit)
	}
	err := t.read(ctx, r, func() string {
		for key, item := range t.items {
			if key.PK == pk && key.SK > after {
				items = append(items, clone(item))
			}
		}
		slices.SortFunc(items, func(a, b metadata.Item) int { return strings.Compare(a.Key.SK, b.Key.SK) })
		items = items[:min(limit, len(items))]
		return fmt.Sprintf("%d items", len(items))
	})
	return items, err
}

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	r := Request{Op: OpPut, Key: item.Key, Rev: item.Rev, If: cond, Bytes: len(item.Value)}
	if len(item.Value) > valueBytesMax {
		return metadata.PutResult{Err: fmt.Errorf("%s: value of %d bytes is above %d", r.subject(), len(item.Value), valueBytesMax)}
	}
	item = clone(item)
	return t.write(ctx, r, func() metadata.PutResult { return t.put(item, cond) })
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	return t.write(ctx, Request{Op: OpDelete, Key: key, If: cond}, func() metadata.PutResult {
		if refused, ok := t.judge(key, cond); !ok {
			return refused
		}
		delete(t.items, key)
		return metadata.PutResult{Outcome: metadata.Applied}
	})
}

// CreateAll implements metadata.Table.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	r := Request{Op: OpCreateAll, Items: len(items)}
	if len(items) > 0 {
		r.Key = items[0].Key
	}
	kept := make([]metadata.Item, len(items))
	for i, item := range items {
		if len(item.Value) > valueBytesMax {
			return metadata.PutResult{Err: fmt.Errorf("%s: value of %d bytes is above %d", r.subject(), len(item.Value), valueBytesMax)}
		}
		kept[i] = clone(item)
		r.Bytes += len(item.Value)
	}
	create := func(items []metadata.Item) metadata.PutResult {
		for _, item := range items {
			t.store(item)
		}
		return metadata.PutResult{Outcome: metadata.Applied}
	}
	return t.writeParts(ctx, r, func() metadata.PutResult { return create(kept) }, func() { create(kept[:len(kept)/2]) })
}

// Edit damages, replaces or removes an item behind the table's back: change gets a copy of the item and answers the new one, and
// whether there is one. It is no request: no fault, no transcript, no condition.
func (t *Table) Edit(key metadata.Key, change func(item metadata.Item) (metadata.Item, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	item, keep := change(clone(t.items[key]))
	if !keep {
		delete(t.items, key)
		return
	}
	item.Key = key
	t.store(item)
}

// Held lists the writes that a Hold keeps back, oldest first.
func (t *Table) Held() []Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	requests := make([]Request, len(t.held))
	for i, h := range t.held {
		requests[i] = h.request
	}
	return requests
}

// Release lets the held write with this number reach the table now, where its condition is judged now, and answers what nobody hears any
// more.
func (t *Table) Release(n int) (metadata.PutResult, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.held, func(h held) bool { return h.request.N == n })
	if i < 0 {
		return metadata.PutResult{}, fmt.Errorf("release request %d: it is not held", n)
	}
	h := t.held[i]
	t.held = slices.Delete(t.held, i, i+1)
	result := h.land()
	t.note("release "+t.line(h.request), None, described(result))
	return result, nil
}

// Count is how many requests of this kind were made.
func (t *Table) Count(op Op) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[op]
}

// write runs one changing request; land does it, under mu, once or more.
func (t *Table) write(ctx context.Context, r Request, land func() metadata.PutResult) metadata.PutResult {
	return t.writeParts(ctx, r, land, nil)
}

// writeParts is write for a request that may be done in part.
func (t *Table) writeParts(ctx context.Context, r Request, land func() metadata.PutResult, part func()) metadata.PutResult {
	fault, err := t.begin(ctx, &r)
	if err != nil {
		return metadata.PutResult{Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	result := metadata.PutResult{Err: fmt.Errorf("%s: %w", r.subject(), ErrInjected)}
	switch fault {
	case Throttle:
		result.Err = fmt.Errorf("%s: %w", r.subject(), errThrottled)
	case FailAfter:
		land()
	case Hold:
		t.held = append(t.held, held{r, land})
	case Partly:
		if part != nil {
			part()
		}
	case Twice:
		land()
		result = land()
	case Blind:
		if done := land(); done.Outcome == metadata.Applied {
			result = done
		}
	case None:
		result = land()
	}
	t.note(t.line(r), fault, described(result))
	return result
}

// read runs one request that changes nothing; f reads under mu and says what it found.
func (t *Table) read(ctx context.Context, r Request, f func() string) error {
	fault, err := t.begin(ctx, &r)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	found := "error"
	switch fault {
	case None, Twice:
		found = f()
	case Throttle:
		err = fmt.Errorf("%s: %w", r.subject(), errThrottled)
	default:
		err = fmt.Errorf("%s: %w", r.subject(), ErrInjected)
	}
	t.note(t.line(r), fault, found)
	return err
}

// begin numbers the request and asks what is to go wrong with it.
func (t *Table) begin(ctx context.Context, r *Request) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return None, fmt.Errorf("%s: %w", r.subject(), err)
	}
	t.mu.Lock()
	t.requests++
	t.counts[r.Op]++
	r.N = t.requests
	t.mu.Unlock()
	if t.Fault == nil {
		return None, nil
	}
	return t.Fault(*r), nil
}

// put is the one conditional primitive. The caller holds mu.
func (t *Table) put(item metadata.Item, cond metadata.If) metadata.PutResult {
	if refused, ok := t.judge(item.Key, cond); !ok {
		return refused
	}
	t.store(item)
	return metadata.PutResult{Outcome: metadata.Applied}
}

// judge says whether the condition holds now, and else the answer. The caller holds mu.
func (t *Table) judge(key metadata.Key, cond metadata.If) (refused metadata.PutResult, ok bool) {
	there, exists := t.items[key]
	if exists == cond.Exists && (!exists || there.Rev == cond.Rev) {
		return metadata.PutResult{}, true
	}
	refused = metadata.PutResult{Outcome: metadata.Refused}
	if exists {
		current := clone(there)
		refused.Current = &current
	}
	return refused, false
}

// store keeps a copy, because a held or doubled write stores one item more than once and Edit's caller keeps its own. The caller holds
// mu.
func (t *Table) store(item metadata.Item) {
	if t.items == nil {
		t.items = map[metadata.Key]metadata.Item{}
	}
	t.items[item.Key] = clone(item)
}

func clone(item metadata.Item) metadata.Item {
	item.Value = bytes.Clone(item.Value)
	return item
}
