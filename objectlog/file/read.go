package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/splashdam/splashdam/objectlog"
)

// openObject opens the file and reads its trailer. objectlog.ErrNotFound when there is none, errDamaged when it is not an object.
func openObject(name string) (*os.File, trailer, error) {
	f, err := os.Open(name)
	if absent(err) {
		return nil, trailer{}, objectlog.ErrNotFound
	}
	if err != nil {
		return nil, trailer{}, err
	}
	t, err := readTrailer(f)
	if err != nil {
		f.Close()
		return nil, trailer{}, err
	}
	return f, t, nil
}

func readTrailer(f *os.File) (trailer, error) {
	info, err := f.Stat()
	if err != nil {
		return trailer{}, err
	}
	if info.IsDir() {
		return trailer{}, objectlog.ErrNotFound // a folder of keys
	}
	var b [trailerBytes]byte
	if info.Size() < trailerBytes {
		return trailer{}, fmt.Errorf("%s of %d bytes: %w", f.Name(), info.Size(), errDamaged)
	}
	if _, err := f.ReadAt(b[:], info.Size()-trailerBytes); err != nil {
		return trailer{}, err
	}
	t, ok := decodeTrailer(b[:], info.Size())
	if !ok {
		return trailer{}, fmt.Errorf("%s: its trailer is not that of a file of %d bytes: %w", f.Name(), info.Size(), errDamaged)
	}
	return t, nil
}

func read(name string, extent objectlog.Extent) ([]byte, error) {
	f, t, err := openObject(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	whole := extent == objectlog.Extent{}
	if whole {
		extent.Next = t.bytes
	}
	if extent.Start < 0 || extent.Next < extent.Start || extent.Next > t.bytes {
		return nil, fmt.Errorf("[%d,%d) of %d bytes: %w", extent.Start, extent.Next, t.bytes, objectlog.ErrRange)
	}
	part := make([]byte, extent.Len())
	if _, err := f.ReadAt(part, extent.Start); err != nil {
		return nil, err
	}
	if whole {
		if err := t.check(part); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return part, nil
}

func stat(name string) (objectlog.ObjectInfo, error) {
	f, t, err := openObject(name)
	if err != nil {
		return objectlog.ObjectInfo{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return objectlog.ObjectInfo{}, err
	}
	created := objectlog.Timestamp(info.ModTime().UnixMilli())
	return objectlog.ObjectInfo{Bytes: t.bytes, Created: created, Nonce: t.nonce, CRC32C: t.crc}, nil
}

// List implements objectlog.Bucket. Nonce and CRC32C are absent, because a list opens no file.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) ([]objectlog.ObjectInfo, error) {
	if limit < 1 || limit > 1000 {
		return nil, fmt.Errorf("list %s: limit %d is not in 1 to 1000", prefix, limit)
	}
	l := lister{ctx: ctx, root: b.root, prefix: prefix, after: after, limit: limit}
	if err := l.walk(""); err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return l.found, nil
}

// lister walks the folders in the order of the keys below them and enters only those that can hold an answer.
type lister struct {
	ctx           context.Context // of the one List that this value lives for
	root          string
	prefix, after string
	limit         int
	found         []objectlog.ObjectInfo
}

// walk lists the folder whose keys begin with at, which is empty or ends in a slash.
func (l *lister) walk(at string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(l.root, filepath.FromSlash(at)))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// A folder sorts by its name with the slash: its keys follow "a-" and precede "a0".
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return strings.Compare(piece(x), piece(y)) })
	for _, entry := range entries {
		if len(l.found) == l.limit {
			return nil
		}
		if entry.Name()[0] == '.' {
			continue
		}
		key := at + piece(entry)
		if entry.IsDir() {
			if l.mayHold(key) {
				err = l.walk(key)
			}
		} else if strings.HasPrefix(key, l.prefix) && key > l.after {
			err = l.add(key, entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayHold says whether a key in the folder, whose name ends in a slash, can be an answer.
func (l *lister) mayHold(folder string) bool {
	below := strings.HasPrefix(folder, l.prefix) || strings.HasPrefix(l.prefix, folder)
	// All of the folder's keys precede after, unless after lies in it.
	return below && (folder > l.after || strings.HasPrefix(l.after, folder))
}

func (l *lister) add(key string, entry os.DirEntry) error {
	info, err := entry.Info()
	if absent(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	if info.Size() < trailerBytes {
		return fmt.Errorf("%s of %d bytes: %w", key, info.Size(), errDamaged)
	}
	created := objectlog.Timestamp(info.ModTime().UnixMilli())
	l.found = append(l.found, objectlog.ObjectInfo{Key: key, Bytes: info.Size() - trailerBytes, Created: created})
	return nil
}

func piece(e os.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}
