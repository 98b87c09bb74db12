package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// smallDisk is a bucket on a disk of 1 MiB: a real one where this process may mount, else one whose writes end there.
func smallDisk(t *testing.T) *Bucket {
	root := t.TempDir()
	err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=1m")
	if err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(root, 0); err != nil {
				t.Error(err)
			}
		})
		return open(t, root)
	}
	if !errors.Is(err, syscall.EPERM) {
		t.Fatalf("mount a small disk: %v", err)
	}
	b := open(t, root)
	left := 1 << 20
	b.steps.write = func(f *os.File, p []byte) (int, error) {
		n, err := f.Write(p[:min(len(p), left)])
		left -= n
		if err == nil && n < len(p) {
			err = &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return n, err
	}
	return b
}

func TestFullDiskIsNamedAndLeavesNoHalfObject(t *testing.T) {
	ctx := context.Background()
	b := smallDisk(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 25_000) // 400 kB: two fit
	stored := 0
	for i := range 4 {
		key := fmt.Sprintf("seg/%d", i)
		err := b.Put(ctx, key, body, objectlog.UUID{1})
		if err == nil {
			stored++
			continue
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("put: %v, want ENOSPC", err)
		}
		for _, want := range []string{"put " + key, "write", filepath.Join(b.root, tempDir), "no space left on device"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		if _, err := b.Stat(ctx, key); !errors.Is(err, objectlog.ErrNotFound) {
			t.Errorf("stat %s: %v, want ErrNotFound", key, err)
		}
	}
	if stored != 2 {
		t.Errorf("%d objects were stored, want 2", stored)
	}
	if temps, err := os.ReadDir(filepath.Join(b.root, tempDir)); err != nil || len(temps) != 0 {
		t.Errorf("temporary files: %v, %v", temps, err)
	}
	// What is stored can still be read and confirmed.
	if err := b.Put(ctx, "seg/0", body, objectlog.UUID{1}); err != nil {
		t.Errorf("the same put again: %v", err)
	}
	if got, err := b.Get(ctx, "seg/1", objectlog.Extent{}); err != nil || !bytes.Equal(got, body) {
		t.Errorf("get: %d bytes, %v", len(got), err)
	}
}
