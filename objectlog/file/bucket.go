// Package file is a Bucket on a local directory, for one machine. An object is one file, <root>/<key>, whose bytes are the object's, then
// a trailer of 40 bytes with what the contract keeps beside them (nonce, length, CRC32C): see trailer.go.
//
// Why a trailer. Object and attributes must appear together, or a kill between two steps leaves an object whose own writer can no longer
// tell it from somebody else's. A second file cannot appear in the same step; extended attributes can, but cp, tar and some file systems drop
// them silently. A trailer goes where the file goes, and shows a truncated copy for what it is. The price: who takes a file out of
// the folder by hand cuts the last 40 bytes off (head -c -40).
//
// The steps of a put are: write a temporary file under <root>/.tmp, fsync it, link it to its name, fsync the directories, remove the
// temporary name. link(2) refuses a name that is taken, where a rename would overwrite. A process killed at any point leaves either no
// object or the whole one, and at worst a temporary file, which a later Open removes. Directories are never removed, because a put may
// be about to link into one.
//
// Not promised: protection against a disk that lies about fsync, or keys of which one is the other's folder ("a" and "a/b").
package file

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	tempDir = ".tmp"
	tempAge = time.Hour // no put takes this long; one that did fails at its link, as unknown
)

// errDamaged: the file is not what a put wrote: truncated, altered, or put there by something else.
var errDamaged = fmt.Errorf("damaged file: %w", objectlog.ErrCorrupt)

// Bucket is a directory. Several processes may use one directory at once.
type Bucket struct {
	root string

	mu sync.Mutex
	// durable holds directories whose own entry in the parent is known to be on disk. A directory that exists is not enough: its maker,
	// here or in another process, may not have reached the fsync yet.
	durable map[string]bool

	steps steps
}

// steps are the calls that a test makes fail.
type steps struct {
	write func(f *os.File, b []byte) (int, error)
	sync  func(f *os.File) error
	link  func(from, to string) error
}

// Open opens the bucket in the directory root, which is made if it is absent, and removes temporary files that puts left there more
// than an hour ago.
func Open(root string) (*Bucket, error) {
	path, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", root, err)
	}
	b := &Bucket{root: path, durable: map[string]bool{}, steps: steps{write: (*os.File).Write, sync: (*os.File).Sync, link: os.Link}}
	temp := filepath.Join(path, tempDir)
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", root, err)
	}
	if err := b.syncRoot(); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", root, err)
	}
	if err := removeOldTemps(temp, time.Now().Add(-tempAge)); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", root, err)
	}
	return b, nil
}

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	name, err := b.begin(ctx, key)
	if err == nil {
		err = b.put(name, body, trailer{nonce: nonce, bytes: int64(len(body)), crc: crc32.Checksum(body, castagnoli)})
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// Get implements objectlog.Bucket. A read of the whole object is checked against its CRC32C; a part is for its reader to check.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	name, err := b.begin(ctx, key)
	var part []byte
	if err == nil {
		part, err = read(name, extent)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return part, nil
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (objectlog.ObjectInfo, error) {
	name, err := b.begin(ctx, key)
	var info objectlog.ObjectInfo
	if err == nil {
		info, err = stat(name)
	}
	if err != nil {
		return objectlog.ObjectInfo{}, fmt.Errorf("stat %s: %w", key, err)
	}
	info.Key = key
	return info, nil
}

// Delete implements objectlog.Bucket. The removal is on disk when it returns nil: a power cut does not bring back what the log says is
// gone.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	name, err := b.begin(ctx, key)
	if err == nil {
		err = b.remove(name)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// begin answers the file of the key.
func (b *Bucket) begin(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := checkKey(key); err != nil {
		return "", err
	}
	return filepath.Join(b.root, filepath.FromSlash(key)), nil
}

// checkKey refuses keys that would leave the root, meet our own files, or name one file in two ways.
func checkKey(key string) error {
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment[0] == '.' || strings.ContainsAny(segment, "\\\x00") {
			return fmt.Errorf("key %q: segment %q is empty, begins with a dot, or holds a backslash or NUL", key, segment)
		}
	}
	return nil
}

// absent: there is no such file, or a segment of its path is an object.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
