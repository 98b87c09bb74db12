package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/bolt"
	tablemetered "github.com/splashdam/splashdam/metadata/metered"
	tableretry "github.com/splashdam/splashdam/metadata/retry"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
	"github.com/splashdam/splashdam/objectlog/metered"
	"github.com/splashdam/splashdam/objectlog/retry"
)

// The two embedded stores inside the data folder.
const (
	bucketFolder = "bucket"
	tableFile    = "table.db"
)

// stores are the bucket and the table, decorated, of one data folder.
type stores struct {
	bucket  objectlog.Bucket
	table   metadata.Table
	failure *readFailure // of either
	close   func()
}

// openStores opens the stores of a data folder, or makes them in an empty one. Half a data folder is damage, never a
// fresh start: the other half would be taken for empty.
func openStores(folder string, registry *prometheus.Registry) (stores, error) {
	hasBucket, err := hasEntries(filepath.Join(folder, bucketFolder))
	if err != nil {
		return stores{}, explainData(folder, err)
	}
	_, err = os.Stat(filepath.Join(folder, tableFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stores{}, explainData(folder, err)
	}
	hasTable := err == nil
	if hasBucket && !hasTable {
		return stores{}, halfFolder(folder, tableFile)
	}
	if _, err := os.Stat(filepath.Join(folder, bucketFolder)); hasTable && errors.Is(err, fs.ErrNotExist) {
		return stores{}, halfFolder(folder, bucketFolder)
	}
	// The bucket's folder first: a process killed between the two must not leave a table without it.
	if err := os.MkdirAll(filepath.Join(folder, bucketFolder), 0o755); err != nil {
		return stores{}, explainData(folder, err)
	}
	table, err := bolt.Open(folder)
	if err != nil {
		return stores{}, explainData(folder, err)
	}
	bucket, err := file.Open(filepath.Join(folder, bucketFolder))
	if err != nil {
		table.Close()
		return stores{}, explainData(folder, err)
	}
	// One budget for both stores: in an outage the retries of one must not add to those of the other. Meters stand inside,
	// so that they count what the disk was asked for.
	policy := retry.Policy{Budget: retry.NewBudget(50), Attempts: 4, Base: 5 * time.Millisecond, PauseMax: time.Second, Sleep: retry.Sleep, Random: rand.Uint64}
	meteredBucket, meteredTable := metered.New(bucket, time.Now), tablemetered.New(table, time.Now)
	registry.MustRegister(storeMetrics{"bucket", meteredBucket.Snapshot}, storeMetrics{"table", meteredTable.Snapshot})
	failure := &readFailure{stopped: make(chan struct{})}
	return stores{
		bucket:  watchedBucket{retry.New(meteredBucket, policy), failure},
		table:   watchedTable{tableretry.New(meteredTable, policy), failure},
		failure: failure,
		close:   func() { table.Close() },
	}, nil
}

func halfFolder(folder, missing string) error {
	return &terminalError{op: "open", object: folder, cause: fmt.Errorf("%s is missing, the rest of the data is there", missing),
		hint: "put it back, or start with an empty folder: --data FOLDER"}
}

func hasEntries(folder string) (bool, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// explainData puts into words what can be wrong with a data folder, and what to do about it.
func explainData(folder string, err error) error {
	e := &terminalError{op: "open", object: folder, cause: err}
	switch {
	case strings.Contains(err.Error(), "another process has it open"): // metadata/bolt's words; nobody else needs to tell them apart
		e.cause, e.hint = errors.New("another process has it open"), "stop it, or choose another folder with --data"
	case errors.Is(err, syscall.ENOSPC):
		e.hint = "free some space; nothing acknowledged is lost"
	case errors.Is(err, fs.ErrPermission):
		e.hint = "the folder must be writable for this user"
	}
	return e
}
