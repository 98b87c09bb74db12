package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"github.com/splashdam/splashdam/objectlog"
)

// put stores the object unless its name is taken. What a kill, a power cut or an error leaves after each step:
//
//	write, fsync   no object; a temporary file
//	link           the whole object, and a temporary name for it; after a power cut perhaps no object
//	fsync dirs     the object is durable
//
// The same put again repairs each of them: it meets either no object, or one with its own trailer whose directories it syncs.
func (b *Bucket) put(name string, body []byte, t trailer) error {
	// Looking first lets a re-sent put succeed on a disk that has become full, and spares it the write.
	if err := b.meet(name, t); !errors.Is(err, objectlog.ErrNotFound) {
		return err
	}
	temp, err := b.writeTemp(body, t)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // an error leaves a file for Open to remove
	dir := filepath.Dir(name)
	if err := b.makeDirs(dir); err != nil {
		return err
	}
	switch err := b.steps.link(temp, name); {
	case errors.Is(err, fs.ErrExist):
		if err := b.meet(name, t); !errors.Is(err, objectlog.ErrNotFound) {
			return err
		}
		return fmt.Errorf("%s is a folder, or was deleted a moment ago", name)
	case err != nil:
		b.forget() // if a person removed the directory, the next put makes it
		return err
	}
	// Syncs of one directory are not grouped: puts that meet in one are few, and the disk's journal groups what is left.
	return b.syncDir(dir) // the object is durable from here on
}

// meet judges the object that has the name: nil when it is what this put stores, made durable in case that its first attempt died
// before its fsync. objectlog.ErrNotFound when there is none.
func (b *Bucket) meet(name string, t trailer) error {
	f, there, err := openObject(name)
	if err != nil {
		return err
	}
	f.Close()
	if there != t {
		return objectlog.ErrExists
	}
	dir := filepath.Dir(name)
	if err := b.makeDirs(dir); err != nil {
		return err
	}
	return b.syncDir(dir)
}

// writeTemp answers the name of a fresh, synced file with body and trailer. An error leaves no file.
func (b *Bucket) writeTemp(body []byte, t trailer) (name string, err error) {
	f, err := os.CreateTemp(filepath.Join(b.root, tempDir), "put-")
	if err != nil {
		return "", err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return "", err
	}
	n, err := b.writeDirect(f, body)
	if err != nil {
		return "", err
	}
	if _, err := b.steps.write(f, body[n:]); err != nil {
		return "", err
	}
	if _, err := b.steps.write(f, t.encode()); err != nil {
		return "", err
	}
	return f.Name(), b.steps.sync(f)
}

const (
	// directAlign is a multiple of what disks ask of memory, length and place of a direct write.
	directAlign = 4 << 10
	// directBytesMin is where a direct write is faster than a copy.
	directBytesMin = 64 << 10
)

// writeDirect writes the beginning of a large body past the page cache, where that is possible, and answers how much. The copy that is
// spared costs more than all else that a put does, and what is written is read from the agent's cache, if soon. The fsync is needed
// as before: for the file's length and for the disk's own cache.
func (b *Bucket) writeDirect(f *os.File, body []byte) (int, error) {
	whole := len(body) &^ (directAlign - 1)
	if len(body) < directBytesMin || uintptr(unsafe.Pointer(unsafe.SliceData(body)))%directAlign != 0 || !direct(f, true) {
		return 0, nil
	}
	n, err := b.steps.write(f, body[:whole])
	if errors.Is(err, syscall.EINVAL) { // a disk or file system with other wishes: the rest goes the usual way
		err = nil
	}
	if err == nil && !direct(f, false) {
		err = fmt.Errorf("write %s: the way through the page cache is closed", f.Name())
	}
	return n, err
}

// makeDirs makes dir and its parents up to the root, and sees to it that their own entries are durable.
func (b *Bucket) makeDirs(dir string) error {
	b.mu.Lock()
	known := b.durable[dir]
	b.mu.Unlock()
	if known || dir == b.root {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := b.makeDirs(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := b.syncDir(parent); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.durable) >= durableMax {
		clear(b.durable)
	}
	b.durable[dir] = true
	return nil
}

func (b *Bucket) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.durable)
}

// durableMax bounds the memory of Bucket.durable; forgetting costs one fsync per directory.
const durableMax = 1 << 16

// syncDir makes the entries of a directory durable.
func (b *Bucket) syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.steps.sync(f)
}

// syncRoot makes the entries of the root and of the folders above it durable, of which Open may have made some.
func (b *Bucket) syncRoot() error {
	if err := b.syncDir(b.root); err != nil {
		return err
	}
	for dir := b.root; dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		// A folder that we may not read, or whose file system syncs no folders, is not one that Open made.
		if err := b.syncDir(dir); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return nil
}

// remove removes the object. It syncs even when there is none, because an earlier attempt may have died before its sync.
func (b *Bucket) remove(name string) error {
	info, err := os.Lstat(name)
	if err == nil && !info.IsDir() {
		err = os.Remove(name)
	}
	if err != nil && !absent(err) {
		return err
	}
	if err := b.syncDir(filepath.Dir(name)); err != nil && !absent(err) {
		return err
	}
	return nil
}

// removeOldTemps removes what killed puts left. Where the put had linked its file, the object keeps its own name.
func removeOldTemps(temp string, before time.Time) error {
	entries, err := os.ReadDir(temp)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a put of another process has ended
		}
		if err != nil {
			return err
		}
		if !info.ModTime().Before(before) {
			continue
		}
		if err := os.Remove(filepath.Join(temp, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old temporary file: %w", err)
		}
	}
	return nil
}
