package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/metadatatest"
)

const childFolder = "SPLASHDAM_TEST_TABLE" // the table of the process that is to be killed

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		putUntilKilled(folder)
	}
	goleak.VerifyTestMain(m)
}

func TestTablePassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(t *testing.T) metadata.Table { return open(t, t.TempDir()) })
}

func open(t testing.TB, folder string) *Table {
	t.Helper()
	table, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

var k = metadata.Key{PK: "p", SK: "000001"}

func item(rev metadata.Rev, value string) metadata.Item {
	return metadata.Item{Key: k, Rev: rev, Value: []byte(value)}
}

func TestEncodedItemIsTheDocumentedBytes(t *testing.T) {
	got, err := encode(item(-2, "value"))
	want := "\x01" + "\xff\xff\xff\xff\xff\xff\xff\xfe" + "value" + "\x9b\x80\xce\x4e"
	if err != nil || string(got) != want {
		t.Errorf("encoded: %x, %v, want %x", got, err, want)
	}
	if got := string(encodeKey(k)); got != "p\x00000001" {
		t.Errorf("encoded key: %q", got)
	}
}

func TestSecondProcessIsToldWhoHoldsTheFolder(t *testing.T) {
	folder := t.TempDir()
	child, _ := startChild(t, folder)
	_, err := Open(folder)
	if err == nil || !strings.Contains(err.Error(), folder) || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("open: %v, want it to name the folder and the other process", err)
	}
	kill(t, child)
	open(t, folder)
}

func TestKilledProcessLosesNoAppliedPut(t *testing.T) {
	folder := t.TempDir()
	for round := range 3 {
		child, lines := startChild(t, folder)
		last := 0
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
			last = n
			if n%40 == 0 {
				break
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it acknowledged before the signal came
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				last = n
			}
		}
		child.Wait()
		table, err := Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := table.Get(context.Background(), k)
		if err != nil || !ok || got.Rev < metadata.Rev(last) || got.Rev > metadata.Rev(last)+1 {
			t.Errorf("round %d: rev %d, %v, %v; the last applied put was rev %d", round, got.Rev, ok, err, last)
		}
		if want := strings.Repeat(fmt.Sprint(got.Rev), 1000); string(got.Value) != want {
			t.Errorf("round %d: the value is not that of rev %d", round, got.Rev)
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// putUntilKilled counts the item up and says so after each applied put.
func putUntilKilled(folder string) {
	ctx := context.Background()
	table, err := Open(folder)
	if err != nil {
		panic(err)
	}
	there, ok, err := table.Get(ctx, k)
	if err != nil {
		panic(err)
	}
	cond := metadata.If{Exists: ok, Rev: there.Rev}
	for rev := there.Rev + 1; ; rev++ {
		if r := table.Put(ctx, item(rev, strings.Repeat(fmt.Sprint(rev), 1000)), cond); r.Outcome != metadata.Applied {
			panic(fmt.Sprintf("%+v", r))
		}
		fmt.Println(rev)
		cond = metadata.RevIs(rev)
	}
}

// startChild starts putUntilKilled in a process of its own and waits for its first applied put.
func startChild(t *testing.T, folder string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+folder)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the child applied nothing")
	}
	return child, lines
}

func kill(t *testing.T, child *exec.Cmd) {
	t.Helper()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
}

func TestDamagedItemIsAnErrorThatNamesIt(t *testing.T) {
	ctx := context.Background()
	for name, damage := range map[string]func(b []byte) []byte{
		"bit of the rev":   func(b []byte) []byte { b[8] ^= 1; return b },
		"bit of the value": func(b []byte) []byte { b[10] ^= 1; return b },
		"bit of the sum":   func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":              func(b []byte) []byte { return b[:len(b)-1] },
		"empty":            func([]byte) []byte { return nil },
		"later version":    func(b []byte) []byte { b[0]++; return b },
		"of another key": func([]byte) []byte {
			other, _ := encode(metadata.Item{Key: metadata.Key{PK: "p", SK: "000002"}, Rev: 1, Value: []byte("value")})
			return other
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := open(t, t.TempDir())
			table.Put(ctx, item(1, "value"), metadata.If{})
			if err := table.db.Update(func(tx *bbolt.Tx) error {
				items := tx.Bucket(itemsBucket)
				b := append([]byte{}, items.Get(encodeKey(k))...)
				return items.Put(encodeKey(k), damage(b))
			}); err != nil {
				t.Fatal(err)
			}
			_, ok, get := table.Get(ctx, k)
			_, query := table.Query(ctx, k.PK, "", 10)
			put := table.Put(ctx, item(2, "new"), metadata.RevIs(1))
			create := table.Put(ctx, item(2, "new"), metadata.If{})
			remove := table.Delete(ctx, k, metadata.RevIs(1))
			for op, err := range map[string]error{"get": get, "query": query, "put": put.Err, "create": create.Err, "delete": remove.Err} {
				if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "p/000001") {
					t.Errorf("%s: %v, want the damaged item named", op, err)
				}
			}
			if ok || put.Outcome != metadata.Unknown || create.Outcome != metadata.Unknown || remove.Outcome != metadata.Unknown {
				t.Errorf("ok %v, put %v, create %v, delete %v: damage was taken for an answer", ok, put.Outcome, create.Outcome, remove.Outcome)
			}
		})
	}
}

func TestWritesThatWaitShareOneTransaction(t *testing.T) {
	ctx := context.Background()
	table := open(t, t.TempDir())
	commits := 0
	inCommit, goOn := make(chan struct{}), make(chan struct{})
	table.commit = func(tx *bbolt.Tx) error {
		commits++
		if commits == 1 {
			close(inCommit)
			<-goOn
		}
		return tx.Commit()
	}
	var wg sync.WaitGroup
	put := func(i int) {
		wg.Go(func() {
			one := metadata.Item{Key: metadata.Key{PK: "p", SK: fmt.Sprint(i)}, Rev: 1}
			if r := table.Put(ctx, one, metadata.If{}); r.Outcome != metadata.Applied {
				t.Errorf("put %d: %+v", i, r)
			}
		})
	}
	put(0)
	<-inCommit
	const waiting = 20
	for i := range waiting {
		put(i + 1)
	}
	waitForQueue(table, waiting)
	close(goOn)
	wg.Wait()
	if commits != 2 {
		t.Errorf("%d commits, want one for the first put and one for all that waited", commits)
	}
}

// waitForQueue spins until n writes wait; nothing in the table signals that.
func waitForQueue(t *Table, n int) {
	for {
		t.mu.Lock()
		waiting := len(t.queue)
		t.mu.Unlock()
		if waiting == n {
			return
		}
		runtime.Gosched()
	}
}

func TestWriteWhoseContextEndsInTheQueueIsNotApplied(t *testing.T) {
	table := open(t, t.TempDir())
	table.turn <- struct{}{} // a transaction is under way
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan metadata.PutResult)
	go func() { answer <- table.Put(ctx, item(1, "x"), metadata.If{}) }()
	waitForQueue(table, 1)
	cancel()
	if r := <-answer; r.Outcome != metadata.Unknown || !errors.Is(r.Err, context.Canceled) {
		t.Errorf("put: %+v, want Unknown", r)
	}
	<-table.turn
	other := metadata.Item{Key: metadata.Key{PK: "p", SK: "other"}, Rev: 1}
	if r := table.Put(context.Background(), other, metadata.If{}); r.Outcome != metadata.Applied {
		t.Errorf("put of another item: %+v", r)
	}
	if _, ok, err := table.Get(context.Background(), k); ok || err != nil {
		t.Errorf("get: %v, %v, want absent", ok, err)
	}
}

func TestNothingIsReadBeforeItIsDurable(t *testing.T) {
	table := open(t, t.TempDir())
	table.commit = func(tx *bbolt.Tx) error {
		err := tx.Commit()
		if table.visible.TryRLock() { // the second sync is taken to be still under way
			table.visible.RUnlock()
			t.Error("a read is possible during a commit")
		}
		return err
	}
	if r := table.Put(context.Background(), item(1, "x"), metadata.If{}); r.Outcome != metadata.Applied {
		t.Errorf("put: %+v", r)
	}
}

func TestFailedCommitStopsTheTable(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	table, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	table.commit = func(tx *bbolt.Tx) error {
		if err := tx.Commit(); err != nil {
			return err
		}
		return syscall.EIO // the meta page is written, its sync fails
	}
	if r := table.Put(ctx, item(1, "x"), metadata.If{}); r.Outcome != metadata.Unknown || !errors.Is(r.Err, syscall.EIO) {
		t.Errorf("put: %+v, want Unknown with the cause", r)
	}
	table.commit = (*bbolt.Tx).Commit
	_, ok, get := table.Get(ctx, k)
	_, query := table.Query(ctx, k.PK, "", 1)
	again := table.Put(ctx, item(1, "x"), metadata.If{})
	for op, err := range map[string]error{"get": get, "query": query, "put": again.Err} {
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), folder) {
			t.Errorf("%s: %v, want the cause and the folder", op, err)
		}
	}
	if ok || again.Outcome != metadata.Unknown {
		t.Errorf("ok %v, put again %v: the stopped table gave an answer", ok, again.Outcome)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if r := open(t, folder).Put(ctx, item(1, "x"), metadata.If{}); r.Outcome != metadata.Refused || string(r.Current.Value) != "x" {
		t.Errorf("the same put after opening again: %+v", r)
	}
}

func TestClosedTableAnswersErrors(t *testing.T) {
	ctx := context.Background()
	table, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Get(ctx, k); err == nil {
		t.Error("get: no error")
	}
	if r := table.Put(ctx, item(1, "x"), metadata.If{}); r.Outcome != metadata.Unknown || r.Err == nil {
		t.Errorf("put: %+v, want Unknown", r)
	}
}

func TestItemsAreThereAfterOpeningAgain(t *testing.T) {
	ctx := context.Background()
	folder := filepath.Join(t.TempDir(), "new", "folder")
	table, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	var items []metadata.Item
	for i := range 100 {
		items = append(items, metadata.Item{Key: metadata.Key{PK: "p", SK: fmt.Sprintf("%06d", i)}, Rev: metadata.Rev(i - 100)})
	}
	table.CreateAll(ctx, items)
	table.Put(ctx, item(1, "x"), metadata.RevIs(-99))
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, folder).Query(ctx, "p", "", 1000)
	if err != nil || len(got) != 100 || got[1].Rev != 1 || string(got[1].Value) != "x" || got[99].Rev != -1 {
		t.Errorf("%d items, %v", len(got), err)
	}
}

func TestImpossibleItemsAreRefusedBeforeTheyAreWritten(t *testing.T) {
	ctx := context.Background()
	table := open(t, t.TempDir())
	for name, bad := range map[string]metadata.Item{
		"value too large":             {Key: k, Value: make([]byte, valueBytesMax+1)},
		"zero byte in partition key":  {Key: metadata.Key{PK: "a\x00b", SK: "c"}},
		"key above the bound in size": {Key: metadata.Key{PK: "p", SK: strings.Repeat("s", keyBytesMax)}},
	} {
		if r := table.Put(ctx, bad, metadata.If{}); r.Outcome != metadata.Unknown || r.Err == nil {
			t.Errorf("%s: put: %+v", name, r)
		}
		if r := table.CreateAll(ctx, []metadata.Item{item(1, "x"), bad}); r.Outcome != metadata.Unknown || r.Err == nil {
			t.Errorf("%s: create all: %+v", name, r)
		}
	}
	if _, ok, err := table.Get(ctx, k); ok || err != nil {
		t.Errorf("get: %v, %v, want absent", ok, err)
	}
	if _, _, err := table.Get(ctx, metadata.Key{PK: "a\x00b", SK: "c"}); err == nil {
		t.Error("get with a zero byte in the partition key: no error")
	}
}

func TestEveryCommitIsSynced(t *testing.T) {
	if db := open(t, t.TempDir()).db; db.NoSync || db.NoGrowSync {
		t.Errorf("no sync: %v, no sync of growth: %v", db.NoSync, db.NoGrowSync)
	}
}

func TestDamagedFileIsNeverOpenedAsAnEmptyTable(t *testing.T) {
	ctx := context.Background()
	for name, damage := range map[string]func(file string) error{
		"without bytes": func(file string) error { return os.Truncate(file, 0) },
		"half":          func(file string) error { return os.Truncate(file, 40<<10) },
		"without its last page": func(file string) error {
			db, err := bbolt.Open(file, 0o644, options())
			if err != nil {
				return err
			}
			var pages int64
			err = db.View(func(tx *bbolt.Tx) error { pages = tx.Size(); return nil })
			if err := errors.Join(err, db.Close()); err != nil {
				return err
			}
			return os.Truncate(file, pages-int64(os.Getpagesize()))
		},
		"two pages": func(file string) error { return os.Truncate(file, 8<<10) },
		"other bytes": func(file string) error {
			return os.WriteFile(file, []byte(strings.Repeat("not a table ", 10_000)), 0o644)
		},
		"other bbolt": func(file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			db, err := bbolt.Open(file, 0o644, options())
			if err != nil {
				return err
			}
			return db.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			table, err := Open(folder)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				one := metadata.Item{Key: metadata.Key{PK: "p", SK: fmt.Sprint(i)}, Rev: 1, Value: make([]byte, 4<<10)}
				if r := table.Put(ctx, one, metadata.If{}); r.Outcome != metadata.Applied {
					t.Fatal(r)
				}
			}
			if err := table.Close(); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(folder, fileName)); err != nil {
				t.Fatal(err)
			}
			table, err = Open(folder)
			if err == nil {
				table.Close()
				t.Fatal("the damaged file was opened")
			}
			if !strings.Contains(err.Error(), folder) {
				t.Errorf("error %q does not name the folder", err)
			}
		})
	}
}

// TestDamagedPagesAreAnErrorOfEachRequest overwrites all pages but the two meta pages under an open table.
func TestDamagedPagesAreAnErrorOfEachRequest(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	table := open(t, folder)
	if r := table.Put(ctx, item(1, "x"), metadata.If{}); r.Outcome != metadata.Applied {
		t.Fatal(r)
	}
	file, err := os.OpenFile(filepath.Join(folder, fileName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte(strings.Repeat("damage", 3000)), int64(2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	_, ok, get := table.Get(ctx, k)
	_, query := table.Query(ctx, k.PK, "", 1)
	put := table.Put(ctx, item(1, "x"), metadata.If{})
	for op, err := range map[string]error{"get": get, "query": query, "put": put.Err} {
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v, want the damage", op, err)
		}
	}
	if ok || put.Outcome != metadata.Unknown {
		t.Errorf("ok %v, put %v: damage was taken for an answer", ok, put.Outcome)
	}
}

func TestOnlyTheTableIsLeftInItsFolder(t *testing.T) {
	folder := t.TempDir()
	open(t, folder)
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 || entries[0].Name() != fileName {
		t.Errorf("folder: %v, %v", entries, err)
	}
}

// FuzzDecode: whatever bytes the file holds, they are an item that encodes to them, or damage.
func FuzzDecode(f *testing.F) {
	whole, err := encode(item(7, "value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(k, b)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("decode: %v", err)
			}
			return
		}
		if again, err := encode(got); len(got.Value) <= valueBytesMax && (err != nil || string(again) != string(b)) {
			t.Errorf("decoded %+v from %x, which encodes to %x, %v", got, b, again, err)
		}
	})
}
