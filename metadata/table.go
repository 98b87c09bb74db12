package metadata

import "context"

// Rev is an item's revision. The writer chooses it: in a ring slot it is the entry's seq, elsewhere it counts up.
type Rev int64

// Key is an item's primary key: partition key and sort key.
type Key struct {
	PK, SK string
}

// Item is one item of the table. Value is opaque to the table, at most 300 KiB.
type Item struct {
	Key   Key
	Rev   Rev
	Value []byte
}

// If is the condition of a write: the zero value wants the item absent, else Rev must be the item's revision.
type If struct {
	Exists bool
	Rev    Rev
}

// RevIs is the condition that the item exists with this revision.
func RevIs(r Rev) If { return If{Exists: true, Rev: r} }

// Outcome is what became of a conditional write. The zero value is Unknown.
type Outcome uint8

// The three outcomes.
const (
	// Unknown: the write may have been applied, or may be at any later time. Timeouts, cut connections, throttling and
	// server errors are all Unknown; they decide nothing about earlier attempts.
	Unknown Outcome = iota
	// Applied: the write took effect, durably, and later reads see it.
	Applied
	// Refused: this attempt did not and will not take effect; the condition did not hold.
	Refused
)

// PutResult is the answer to a conditional write.
type PutResult struct {
	Outcome Outcome
	// Current is the item that refused the write, when Outcome is Refused and an item exists. An
	// implementation whose engine does not tell makes one consistent read, and answers Unknown if that fails.
	Current *Item
	// Err says why the outcome is Unknown; nil otherwise.
	Err error
}

// Table is the strongly consistent table that holds leases, shard logs and counters.
//
// All methods may run together. None retries by itself: retry, throttling and metering are decorators. An error
// of a read means that nothing was learned; an absent item is not an error.
type Table interface {
	// Get is a strongly consistent read. ok is false when the item is absent.
	Get(ctx context.Context, key Key) (item Item, ok bool, err error)

	// Query reads up to limit items of one partition key whose sort key is greater than after, in sort key order
	// (bytewise). Each item is read strongly consistently; the list is not one snapshot.
	Query(ctx context.Context, pk, after string, limit int) ([]Item, error)

	// Put writes the item if the condition holds at that moment. It does not keep item.Value after it returns. A
	// Refused put whose Current equals the item, revision and value, met its own earlier attempt: values carry a nonce.
	Put(ctx context.Context, item Item, cond If) PutResult

	// Delete removes the item if the condition holds. For agent items only: slots and lease items are never deleted.
	Delete(ctx context.Context, key Key, cond If) PutResult

	// CreateAll writes many fresh items without conditions, for the slots of a new ring: no other writer knows
	// their keys yet. Unknown: some may appear at any later time, so the keys must never be used.
	CreateAll(ctx context.Context, items []Item) PutResult
}
