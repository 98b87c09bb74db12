package file

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
)

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(t *testing.T) objectlog.Bucket { return open(t, t.TempDir()) })
}

func open(t testing.TB, root string) *Bucket {
	t.Helper()
	b, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTrailerIsTheDocumentedBytes(t *testing.T) {
	got := trailer{nonce: objectlog.UUID{0: 0xaa, 15: 0xbb}, bytes: 4, crc: 0x01020304}.encode()
	want := "\xaa\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xbb" + "\x00\x00\x00\x00\x00\x00\x00\x04" + "\x01\x02\x03\x04" +
		"\xde\xbf\x81\x49" + "SplashO1"
	if string(got) != want {
		t.Errorf("trailer: %x, want %x", got, want)
	}
}

func TestObjectFileIsTheBodyAndATrailer(t *testing.T) {
	root := t.TempDir()
	b := open(t, root)
	if err := b.Put(context.Background(), "seg/0a/1.seg", []byte("body"), objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "seg/0a/1.seg"))
	if err != nil || len(got) != 4+trailerBytes || string(got[:4]) != "body" {
		t.Errorf("file: %q, %v", got, err)
	}
	if temps, err := os.ReadDir(filepath.Join(root, tempDir)); err != nil || len(temps) != 0 {
		t.Errorf("temporary files after the put: %v, %v", temps, err)
	}
}

func TestKeysThatLeaveTheRootAreRefused(t *testing.T) {
	ctx := context.Background()
	outside := t.TempDir()
	b := open(t, filepath.Join(outside, "root"))
	if err := os.WriteFile(filepath.Join(outside, "secret"), trailer{}.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"", "/", "/etc/passwd", "../secret", "a/../../secret", "..", ".", "a/./b", "a//b", "a/", "/a", ".tmp/put-1", "a/.hidden", `a\b`, "a\x00b",
	} {
		_, get := b.Get(ctx, key, objectlog.Extent{})
		_, stat := b.Stat(ctx, key)
		for method, err := range map[string]error{
			"Put": b.Put(ctx, key, nil, objectlog.UUID{1}), "Get": get, "Stat": stat, "Delete": b.Delete(ctx, key),
		} {
			if err == nil || errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrExists) {
				t.Errorf("%s %q: %v, want it refused", method, key, err)
			}
		}
	}
	for _, prefix := range []string{"../", "..", "/", "a/../../"} {
		if infos, err := b.List(ctx, prefix, "", 10); err != nil || len(infos) != 0 {
			t.Errorf("list %q: %v, %v", prefix, infos, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Errorf("the file outside: %v", err)
	}
}

func TestFoldersAreNotObjects(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	b := open(t, root)
	b.Put(ctx, "a/b", []byte("body"), objectlog.UUID{1})
	b.Delete(ctx, "a/b")
	if err := b.Delete(ctx, "a"); err != nil {
		t.Errorf("delete of a folder's name: %v, want nil as for an absent key", err)
	}
	if _, err := os.Stat(filepath.Join(root, "a")); err != nil {
		t.Errorf("the folder was removed: %v", err)
	}
	if _, err := b.Stat(ctx, "a"); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("stat of a folder's name: %v, want ErrNotFound", err)
	}
}

func TestDamagedFileIsNeverAnObjectNorAbsent(t *testing.T) {
	ctx := context.Background()
	body := bytes.Repeat([]byte("body"), 100)
	for name, damage := range map[string]func(file []byte) []byte{
		"truncated":        func(f []byte) []byte { return f[:len(f)-1] },
		"cut in the body":  func(f []byte) []byte { return f[:200] },
		"without trailer":  func(f []byte) []byte { return f[:len(f)-trailerBytes] },
		"empty":            func([]byte) []byte { return nil },
		"grown":            func(f []byte) []byte { return append(f, 0) },
		"middle cut out":   func(f []byte) []byte { return append(f[:100:100], f[200:]...) },
		"bit of the body":  func(f []byte) []byte { f[7] ^= 1; return f },
		"bit of the nonce": func(f []byte) []byte { f[len(f)-trailerBytes] ^= 1; return f },
		"bit of the magic": func(f []byte) []byte { f[len(f)-2] ^= 1; return f },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			b := open(t, root)
			if err := b.Put(ctx, "k", body, objectlog.UUID{1}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(root, "k")
			whole, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(whole), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := b.Get(ctx, "k", objectlog.Extent{})
			if !errors.Is(err, errDamaged) || got != nil {
				t.Errorf("get: %d bytes, %v, want errDamaged", len(got), err)
			}
		})
	}
}

func TestBodyChecksAFileAsGetDoesAndAnswersItsBytesAnyway(t *testing.T) {
	body := bytes.Repeat([]byte("body"), 100)
	whole := append(bytes.Clone(body), trailer{nonce: objectlog.UUID{1}, bytes: int64(len(body)), crc: crc32.Checksum(body, castagnoli)}.encode()...)
	for _, c := range []struct {
		name   string
		damage func(file []byte) []byte
		bytes  int
		want   error
	}{
		{"whole", func(f []byte) []byte { return f }, 400, nil},
		{"without trailer", func(f []byte) []byte { return f[:400] }, 400, ErrNoTrailer},
		{"truncated", func(f []byte) []byte { return f[:439] }, 439, ErrNoTrailer},
		{"shorter than a trailer", func(f []byte) []byte { return f[401:] }, 39, ErrNoTrailer},
		{"empty", func([]byte) []byte { return nil }, 0, ErrNoTrailer},
		{"bit of the body", func(f []byte) []byte { f[7] ^= 1; return f }, 400, objectlog.ErrCorrupt},
		{"bit of the nonce", func(f []byte) []byte { f[400] ^= 1; return f }, 400, objectlog.ErrCorrupt},
		{"middle cut out", func(f []byte) []byte { return append(f[:100:100], f[200:]...) }, 300, objectlog.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.damage(bytes.Clone(whole))
			got, err := Body(f)
			if !errors.Is(err, c.want) || !bytes.Equal(got, f[:c.bytes]) {
				t.Errorf("%d bytes, %v; want the first %d, %v", len(got), err, c.bytes, c.want)
			}
		})
	}
}

func TestFailedStepLeavesNothingHalf(t *testing.T) {
	ctx := context.Background()
	eio := &fs.PathError{Op: "sync", Path: "x", Err: syscall.EIO}
	for name, breakIt := range map[string]func(*steps){
		"write": func(s *steps) {
			s.write = func(f *os.File, b []byte) (int, error) { n, _ := f.Write(b[:len(b)/2]); return n, eio }
		},
		"sync": func(s *steps) { s.sync = func(*os.File) error { return eio } },
		"link": func(s *steps) { s.link = func(string, string) error { return eio } },
		"sync of a folder": func(s *steps) {
			s.sync = func(f *os.File) error {
				if info, err := f.Stat(); err != nil || info.IsDir() {
					return eio
				}
				return f.Sync()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			b := open(t, root)
			whole := b.steps
			breakIt(&b.steps)
			for range 2 {
				if err := b.Put(ctx, "a/b/k", []byte("body"), objectlog.UUID{1}); !errors.Is(err, syscall.EIO) {
					t.Errorf("put: %v, want EIO", err)
				}
			}
			if temps, _ := os.ReadDir(filepath.Join(root, tempDir)); len(temps) != 0 {
				t.Errorf("temporary files: %v", temps)
			}
			b.steps = whole
			if err := b.Put(ctx, "a/b/k", []byte("body"), objectlog.UUID{1}); err != nil {
				t.Errorf("the same put again: %v", err)
			}
		})
	}
}

// TestPutSyncsFileThenNameThenFolders holds the order without which a power cut leaves an acknowledged object missing or half.
func TestPutSyncsFileThenNameThenFolders(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	b := open(t, root)
	var order []string
	record := func(b *Bucket) {
		whole := b.steps
		b.steps.sync = func(f *os.File) error {
			name, err := filepath.Rel(root, f.Name())
			if err != nil {
				return err
			}
			if strings.HasPrefix(name, tempDir) {
				name = "file"
			}
			order = append(order, "sync "+name)
			return whole.sync(f)
		}
		b.steps.link = func(from, to string) error {
			order = append(order, "link")
			return whole.link(from, to)
		}
	}
	record(b)
	put := func(b *Bucket, key, want string) {
		t.Helper()
		order = nil
		if err := b.Put(ctx, key, []byte("body"), objectlog.UUID{1}); err != nil {
			t.Error(err)
		}
		if got := strings.Join(order, ", "); got != want {
			t.Errorf("put %s: %s; want %s", key, got, want)
		}
	}
	put(b, "a/b/1", "sync file, sync ., sync a, link, sync a/b")
	put(b, "a/b/2", "sync file, link, sync a/b")
	put(b, "a/b/2", "sync a/b") // landed before: its first attempt may have died just after the link
	fresh := open(t, root)
	record(fresh)
	put(fresh, "a/b/2", "sync ., sync a, sync a/b") // or in another process that died before any folder
}

func TestPutWorksAfterItsFolderWasRemoved(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	b := open(t, root)
	for _, key := range []string{"a/b/1", "a/b/2"} {
		err := b.Put(ctx, key, []byte("body"), objectlog.UUID{1})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := b.Put(ctx, key, []byte("body"), objectlog.UUID{1}); err != nil {
			t.Errorf("the same put again: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRemovesOldTemporaryFilesOnly(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	for name, age := range map[string]time.Duration{"put-old": tempAge + time.Minute, "put-young": tempAge - time.Minute} {
		file := filepath.Join(root, tempDir, name)
		if err := os.WriteFile(file, []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, root)
	temps, err := os.ReadDir(filepath.Join(root, tempDir))
	if err != nil || len(temps) != 1 || temps[0].Name() != "put-young" {
		t.Errorf("temporary files: %v, %v, want only put-young", temps, err)
	}
	if infos, err := b.List(context.Background(), "", "", 10); err != nil || len(infos) != 0 {
		t.Errorf("list: %v, %v", infos, err)
	}
}

func TestStatKnowsWhenTheObjectWasMade(t *testing.T) {
	b := open(t, t.TempDir())
	before := time.Now().Add(-2 * time.Second).UnixMilli() // a file system may round down
	b.Put(context.Background(), "k", nil, objectlog.UUID{1})
	info, err := b.Stat(context.Background(), "k")
	if now := time.Now().UnixMilli(); err != nil || int64(info.Created) < before || int64(info.Created) > now {
		t.Errorf("created %d, %v, want in [%d,%d]", info.Created, err, before, now)
	}
}

func TestPutOntoAFoldersNameIsNoAnswerOfTheContract(t *testing.T) {
	ctx := context.Background()
	b := open(t, t.TempDir())
	b.Put(ctx, "a/b", []byte("body"), objectlog.UUID{1})
	err := b.Put(ctx, "a", []byte("body"), objectlog.UUID{2})
	if err == nil || errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrExists) {
		t.Errorf("put onto a folder's name: %v", err)
	}
	err = b.Put(ctx, "a/b/c", []byte("body"), objectlog.UUID{3})
	if err == nil || errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrExists) {
		t.Errorf("put below an object: %v", err)
	}
}

// TestDeleteSyncsTheFolder also when there is nothing to remove, because the attempt that removed it may have died before its sync.
func TestDeleteSyncsTheFolder(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	b := open(t, root)
	if err := b.Put(ctx, "a/k", []byte("body"), objectlog.UUID{1}); err != nil {
		t.Fatal(err)
	}
	synced := 0
	b.steps.sync = func(f *os.File) error {
		if f.Name() == filepath.Join(root, "a") {
			synced++
		}
		return f.Sync()
	}
	for n := 1; n <= 2; n++ {
		if err := b.Delete(ctx, "a/k"); err != nil || synced != n {
			t.Errorf("delete %d: %v, the folder was synced %d times", n, err, synced)
		}
	}
}

// FuzzDecodeTrailer: whatever bytes a file ends in, they are a trailer that encodes to them, or none.
func FuzzDecodeTrailer(f *testing.F) {
	whole := trailer{nonce: objectlog.UUID{1, 2}, bytes: 4, crc: 5}.encode()
	f.Add(whole, int64(4+trailerBytes))
	f.Add(whole, int64(5+trailerBytes))
	f.Add(whole[1:], int64(4+trailerBytes))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		if got, ok := decodeTrailer(b, size); ok && (string(got.encode()) != string(b) || got.bytes != size-trailerBytes) {
			t.Errorf("decoded %+v from %x in a file of %d bytes", got, b, size)
		}
	})
}
