package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/bolt"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
)

// The two embedded stores inside the data folder.
const (
	bucketFolder = "bucket"
	tableFile    = "table.db"
)

// stores are the bucket and the table, decorated, of one data folder.
type stores struct {
	bucket objectlog.Bucket
	table  metadata.Table
	close  func()
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
	return stores{bucket: bucket, table: table, close: func() { table.Close() }}, nil
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
	case errors.Is(err, syscall.ENOSPC):
		e.hint = "free some space; nothing acknowledged is lost"
	case errors.Is(err, fs.ErrPermission):
		e.hint = "the folder must be writable for this user"
	}
	return e
}
