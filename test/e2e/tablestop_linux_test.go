package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// limitFiles makes the process's writes behind so many bytes of a file fail, as a full disk does.
func limitFiles(t *testing.T, pid int, bytes uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
}

func TestBrokerWhoseTableCannotCommitStopsAndSaysWhy(t *testing.T) {
	folder := t.TempDir()
	b := startBroker(t, folder, "")
	b.mustRun(nil, "topic", "create", "orders")
	b.mustRun(strings.NewReader("before\n"), "produce", "orders")
	limitFiles(t, b.cmd.Process.Pid, 4096)
	go b.callWithin(20*time.Second, "LogService/Produce", `{"batches":[{"topic":"orders","records":{"records":[{"value":{"text":"x"}}]}}]}`)
	if err := b.wait(15 * time.Second); err == nil || err.Error() != "exit status 1" {
		t.Errorf("got %v, want exit status 1", err)
	}
	if said := b.stderr.String(); !strings.Contains(said, "the broker stopped") || !strings.Contains(said, "open it again when the cause is gone") {
		t.Errorf("it said %q", said)
	}
	again := startBroker(t, folder, "")
	if got := again.mustRun(nil, "consume", "orders"); !strings.Contains(got, "before") {
		t.Errorf("after a restart: %q, want what was acknowledged", got)
	}
}
