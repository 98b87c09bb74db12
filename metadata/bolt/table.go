// Package bolt is a Table in one file on the local disk, for a broker that is one process. It uses bbolt: a copy-on-write B+ tree whose
// commit writes the changed pages, syncs, writes one meta page and syncs again; a kill or power cut leaves the state before or after.
//
// A lone put is one transaction at once. Puts that come while another one commits wait and then share the next transaction, so that
// the shards of one broker do not queue behind each other's syncs; nobody waits for company.
//
// An item that does not verify is an error that names it, never an absent item. After a failed commit the table answers only errors,
// until it is opened again: pages in the cache may then be newer than those on the disk, and what they show may be gone after a power
// cut.
//
// Not promised: that every flipped bit is found. Items carry a checksum, bbolt's tree pages carry none: a damaged page is mostly an
// error, but one altered bit in a key can hide the item.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/splashdam/splashdam/metadata"
)

const (
	fileName = "table.db"
	lockWait = 200 * time.Millisecond // a process that is just ending gets this long to let go of the file
)

var itemsBucket = []byte("items")

// ErrStopped: a commit failed, and the table answers nothing else until it is opened again. Its process does best to end.
var ErrStopped = errors.New("stopped; open it again when the cause is gone")

// Table is an open table. One process at a time has it open.
type Table struct {
	folder string
	db     *bbolt.DB
	commit func(*bbolt.Tx) error // (*bbolt.Tx).Commit, except in tests

	turn chan struct{} // holds a token while a transaction is under way; its holder commits the queue

	mu    sync.Mutex
	queue []*write // waiting for the next transaction

	// visible is held for writing during a commit. bbolt shows readers a new meta page as soon as it is written, before it is synced: without
	// this lock a read could answer what a power cut then takes back.
	visible sync.RWMutex
	broken  error // why the table answers only errors; under visible
}

// write is one caller's part of a transaction.
type write struct {
	// apply judges and changes the items; changed says that it changed any.
	apply  func(items *bbolt.Bucket) (result metadata.PutResult, changed bool)
	result metadata.PutResult // valid when done is closed
	done   chan struct{}
}

// Open opens the table in the folder and makes both if they are absent. A folder that another process has open is an error at once, and so
// is a file that is there but is not a whole table: it is never begun anew.
func Open(folder string) (*Table, error) {
	if err := create(folder); err != nil {
		return nil, fmt.Errorf("open table %s: %w", folder, err)
	}
	var db *bbolt.DB
	err := guard(func() (err error) {
		if db, err = bbolt.Open(filepath.Join(folder, fileName), 0o644, options()); err == nil {
			err = db.View(checkWhole)
		}
		return err
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open table %s: another process has it open", folder)
	}
	if err != nil {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
		return nil, fmt.Errorf("open table %s: %w", folder, err)
	}
	return &Table{folder: folder, db: db, commit: (*bbolt.Tx).Commit, turn: make(chan struct{}, 1)}, nil
}

// guard turns the panics with which bbolt meets a damaged page into an error. It reads the file through memory, so a page beyond the
// file's end is a fault.
func guard(f func() error) (err error) {
	defer func() {
		if damage := recover(); damage != nil {
			err = fmt.Errorf("the file is damaged: %v", damage)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return f()
}

func checkWhole(tx *bbolt.Tx) error {
	if tx.Bucket(itemsBucket) == nil {
		return fmt.Errorf("the file is not a table: no bucket %q", itemsBucket)
	}
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("the file is damaged: %d bytes, and its pages are %d", info.Size(), tx.Size())
	}
	return nil
}

// create makes the folder and an empty table in it, unless there is a file. The file appears whole, with its bucket: bbolt takes a file
// without bytes for a new one, and what tells checkWhole that it was not new is that the bucket is missing.
func create(folder string) error {
	path, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	file := filepath.Join(path, fileName)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(path, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // after a kill it stays, and means nothing
	fresh := filepath.Join(temp, fileName)
	db, err := bbolt.Open(fresh, 0o644, options())
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(itemsBucket)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(fresh, file); err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return err
	}
	return errors.Join(syncDir(path), syncDir(filepath.Dir(path)))
}

func options() *bbolt.Options {
	o := *bbolt.DefaultOptions
	o.Timeout = lockWait // the default waits for ever
	// As a hash map the freelist finds a run of free pages without a scan. It is written at each commit (NoFreelistSync stays off): without
	// it a put is 6 % faster, but each open walks the whole tree, in a goroutine of bbolt whose panic over a damaged page nobody can catch.
	o.FreelistType = bbolt.FreelistMapType
	o.NoStatistics = true
	return &o
}

// Close waits for the transaction under way and lets go of the file. Writes that still wait are answered Unknown.
func (t *Table) Close() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	t.visible.Lock()
	if t.broken == nil {
		t.broken = errors.New("the table is closed")
	}
	t.visible.Unlock()
	if err := t.db.Close(); err != nil {
		return fmt.Errorf("close table %s: %w", t.folder, err)
	}
	return nil
}

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (item metadata.Item, ok bool, err error) {
	err = t.view(ctx, func(items *bbolt.Bucket) error {
		item, ok, err = lookUp(items, key)
		return err
	})
	if err != nil {
		return metadata.Item{}, false, fmt.Errorf("get %s/%s: %w", key.PK, key.SK, err)
	}
	return item, ok, nil
}

// Query implements metadata.Table. The list is one snapshot, which the contract does not promise.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	var found []metadata.Item
	err := t.view(ctx, func(items *bbolt.Bucket) (err error) {
		found, err = scan(items, pk, after, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("query %s after %q: %w", pk, after, err)
	}
	return found, nil
}

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	value, err := encode(item) // a copy of item.Value, which the transaction may still need when ctx has ended this call
	if err != nil {
		return unknown("put", item.Key, err)
	}
	return t.write(ctx, "put", item.Key, func(items *bbolt.Bucket) (metadata.PutResult, bool) {
		result, ok := judge(items, item.Key, cond)
		if !ok {
			return result, false
		}
		if err := items.Put(encodeKey(item.Key), value); err != nil {
			return metadata.PutResult{Err: err}, false
		}
		return metadata.PutResult{Outcome: metadata.Applied}, true
	})
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	return t.write(ctx, "delete", key, func(items *bbolt.Bucket) (metadata.PutResult, bool) {
		result, ok := judge(items, key, cond)
		if !ok {
			return result, false
		}
		if err := items.Delete(encodeKey(key)); err != nil {
			return metadata.PutResult{Err: err}, false
		}
		return metadata.PutResult{Outcome: metadata.Applied}, true
	})
}

// CreateAll implements metadata.Table, in one transaction: all items appear or none.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	var first metadata.Key
	values := make([][]byte, len(items))
	for i, item := range items {
		var err error
		if values[i], err = encode(item); err != nil {
			return unknown("create", item.Key, err)
		}
		first = items[0].Key
	}
	keys := make([]metadata.Key, len(items))
	for i, item := range items {
		keys[i] = item.Key
	}
	return t.write(ctx, "create items from", first, func(bucket *bbolt.Bucket) (metadata.PutResult, bool) {
		for i, key := range keys {
			if err := bucket.Put(encodeKey(key), values[i]); err != nil {
				return metadata.PutResult{Err: err}, i > 0
			}
		}
		return metadata.PutResult{Outcome: metadata.Applied}, len(keys) > 0
	})
}

// view runs f on the newest durable state.
func (t *Table) view(ctx context.Context, f func(items *bbolt.Bucket) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.visible.RLock()
	defer t.visible.RUnlock()
	if t.broken != nil {
		return t.broken
	}
	return guard(func() error {
		return t.db.View(func(tx *bbolt.Tx) error { return f(tx.Bucket(itemsBucket)) })
	})
}

func unknown(op string, key metadata.Key, err error) metadata.PutResult {
	return metadata.PutResult{Err: fmt.Errorf("%s %s/%s: %w", op, key.PK, key.SK, err)}
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
