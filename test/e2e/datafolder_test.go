package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// refuse starts dev where it must not start, and answers what it says.
func refuse(t *testing.T, args ...string) string {
	t.Helper()
	return refuses(t, nil, append([]string{"dev"}, args...)...)
}

func says(t *testing.T, message string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(message, want) {
			t.Errorf("the message does not say %q: %s", want, message)
		}
	}
}

// filledFolder is the data folder of a broker that was stopped with some records in it.
func filledFolder(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "data")
	b := startBroker(t, folder, "")
	b.mustRun(nil, "topic", "create", "orders")
	b.mustRun(strings.NewReader("one\ntwo\nthree\n"), "produce", "orders")
	b.stop()
	return folder
}

func TestSecondBrokerOnOneFolderIsRefused(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	startBroker(t, folder, "")
	says(t, refuse(t, "--data", folder, "--listen", "127.0.0.1:0"), folder, "another process", "--data")
}

func TestTakenPortIsRefusedBeforeTheDataIsTouched(t *testing.T) {
	b := startBroker(t, filepath.Join(t.TempDir(), "data"), "")
	folder := filepath.Join(t.TempDir(), "other")
	says(t, refuse(t, "--data", folder, "--listen", b.address), b.address, "another process", "--listen")
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder was made all the same (%v)", err)
	}
}

func TestHalfADataFolderIsDamageAndNotAFreshStart(t *testing.T) {
	for _, half := range []string{"table.db", "bucket"} {
		folder := filledFolder(t)
		if err := os.Rename(filepath.Join(folder, half), filepath.Join(t.TempDir(), half)); err != nil {
			t.Fatal(err)
		}
		says(t, refuse(t, "--data", folder, "--listen", "127.0.0.1:0"), folder, half, "missing")
	}
}

func TestBucketOfAnotherBrokerIsRefused(t *testing.T) {
	one, other := filledFolder(t), filledFolder(t)
	if err := os.RemoveAll(filepath.Join(one, "bucket")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(one, "bucket"), os.DirFS(filepath.Join(other, "bucket"))); err != nil {
		t.Fatal(err)
	}
	says(t, refuse(t, "--data", one, "--listen", "127.0.0.1:0"), one)
}

// editItems changes the stored items of a table as a disk fault or another version would.
func editItems(t *testing.T, folder string, edit func(key, value []byte) []byte) (edited int) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(folder, "table.db"), 0o644, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		items := tx.Bucket([]byte("items"))
		changed := map[string][]byte{}
		if err := items.ForEach(func(k, v []byte) error {
			if now := edit(k, bytes.Clone(v)); !bytes.Equal(now, v) {
				changed[string(k)] = now
			}
			return nil
		}); err != nil {
			return err
		}
		edited = len(changed)
		for k, v := range changed {
			if err := items.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return edited
}

func TestDamagedTableItemStopsTheBroker(t *testing.T) {
	for _, kind := range []string{"ring#", "lease", "meta"} {
		folder := filledFolder(t)
		n := editItems(t, folder, func(k, v []byte) []byte {
			if bytes.Contains(k, []byte(kind)) && len(v) > 0 {
				v[len(v)/2] ^= 0x20
			}
			return v
		})
		if n == 0 {
			t.Fatalf("no item has %s in its key", kind)
		}
		says(t, refuse(t, "--data", folder, "--listen", "127.0.0.1:0"), folder)
	}
}

func TestGarbageInPlaceOfTheTableStopsTheBroker(t *testing.T) {
	folder := filledFolder(t)
	if err := os.WriteFile(filepath.Join(folder, "table.db"), []byte("not a table"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, refuse(t, "--data", folder, "--listen", "127.0.0.1:0"), folder)
}

// objects lists the files of the bucket with a suffix.
func objects(t *testing.T, folder, suffix string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(folder, "bucket"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, suffix) {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no %s in %s", suffix, folder)
	}
	return found
}

func TestDamagedSegmentIsAnErrorToItsReaderAndNeverSkipped(t *testing.T) {
	folder := filledFolder(t)
	for _, name := range objects(t, folder, ".seg") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[60] ^= 0x20 // inside the first batch
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := runBinary(t, nil, "segment", "dump", name)
		if r.code != 1 || !strings.Contains(r.stdout, "DAMAGED") {
			t.Errorf("segment dump of a damaged segment: exit %d, %q", r.code, r.stderr)
		}
	}
	b := startBroker(t, folder, "")
	_, answer, err := b.call("LogService/Fetch", `{"partitions":[{"topic":"orders","start":{"point":"EARLIEST"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(answer); !strings.Contains(text, "data_loss") || strings.Contains(text, "three") {
		t.Errorf("fetch of a damaged segment answered %s", text)
	}
	r := b.run(nil, "consume", "orders")
	if r.code != 1 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "orders/0") {
		t.Errorf("consume of a damaged segment: exit %d, output %q, error %q", r.code, r.stdout, r.stderr)
	}
}

func TestMissingSegmentIsAnErrorToItsReader(t *testing.T) {
	folder := filledFolder(t)
	for _, name := range objects(t, folder, ".seg") {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	b := startBroker(t, folder, "")
	if r := b.run(nil, "consume", "orders"); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "orders/0") {
		t.Errorf("consume of a missing segment: exit %d, output %q, error %q", r.code, r.stdout, r.stderr)
	}
}

func TestDamagedSnapshotStopsTheBroker(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "data")
	b := startBroker(t, folder, "")
	b.mustRun(nil, "topic", "create", "orders")
	const entries = 600 // a snapshot is taken every 512
	for i := range entries {
		if err := b.appendOver("orders", 0, "k", "v", i); err != nil {
			t.Fatal(err)
		}
	}
	b.kill()
	for _, name := range objects(t, folder, ".snap") {
		if err := os.Truncate(name, 20); err != nil {
			t.Fatal(err)
		}
	}
	says(t, refuse(t, "--data", folder, "--listen", "127.0.0.1:0"), folder)
}

func TestFullDiskIsSaidAndNothingAcknowledgedIsLost(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=24m"); err != nil {
		t.Logf("no rights to mount a small file system (%v): nothing to see here", err)
		return
	}
	t.Cleanup(func() { syscall.Unmount(folder, syscall.MNT_DETACH) })
	b := startBroker(t, filepath.Join(folder, "data"), "")
	b.mustRun(nil, "topic", "create", "orders")

	// A file takes the rest of the disk; then a record must not be acknowledged, and is when there is room again.
	b.mustRun(strings.NewReader("before\n"), "produce", "orders")
	ballast := filepath.Join(folder, "ballast")
	fill(t, ballast)
	large := strings.Repeat("x", 400<<10)
	body, err := json.Marshal(large)
	if err != nil {
		t.Fatal(err)
	}
	request := fmt.Sprintf(`{"batches":[{"topic":"orders","partition":0,"records":{"records":[{"value":{"text":%s}}]}}]}`, body)
	_, answer, err := b.callWithin(2*time.Second, "LogService/Produce", request)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(answer); !strings.Contains(text, "deadline_exceeded") || strings.Contains(text, "positions") {
		t.Errorf("produce to a full disk answered %.300s", text)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	b.kill()
	b = startBroker(t, filepath.Join(folder, "data"), "")
	b.mustRun(strings.NewReader("after\n"), "produce", "orders")
	out := b.mustRun(nil, "consume", "orders")
	if !strings.HasPrefix(out, "before\n") || !strings.HasSuffix(out, "after\n") {
		t.Errorf("after the disk was full, the log holds %.100q", out)
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); ; {
		if _, err := f.Write(block); err != nil {
			if len(block) > 512 {
				block = block[:len(block)/2]
				continue
			}
			return
		}
	}
}
