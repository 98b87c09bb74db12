package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The two embedded stores inside the data folder.
const (
	bucketFolder = "bucket"
	tableFile    = "table.db"
)

// openDataFolder opens the stores of a data folder, or makes them in an empty one. Half a data folder is damage, never a
// fresh start: the other half would be taken for empty.
func openDataFolder(folder string) (bucket bucketStore, table tableStore, err error) {
	hasBucket, err := hasEntries(filepath.Join(folder, bucketFolder))
	if err != nil {
		return bucket, table, err
	}
	_, err = os.Stat(filepath.Join(folder, tableFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bucket, table, err
	}
	hasTable := err == nil
	if hasBucket && !hasTable {
		return bucket, table, halfFolder(folder, tableFile)
	}
	if _, err := os.Stat(filepath.Join(folder, bucketFolder)); hasTable && errors.Is(err, fs.ErrNotExist) {
		return bucket, table, halfFolder(folder, bucketFolder)
	}
	// The bucket's folder first: a process killed between the two must not leave a table without it.
	if bucket, err = openFolder(filepath.Join(folder, bucketFolder)); err != nil {
		return bucket, table, err
	}
	table, err = openFile(folder)
	return bucket, table, err
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
	if terminal := (*terminalError)(nil); errors.As(err, &terminal) {
		return err
	}
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
