package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

const (
	killRoot = "SPLASHDAM_TEST_KILL_ROOT" // the bucket of the process that is to die
	killAt   = "SPLASHDAM_TEST_KILL_AT"   // the step, from 0: even before the call, odd after it
)

var (
	killBody  = bytes.Repeat([]byte("body"), 10_000)
	killNonce = objectlog.UUID{7}
)

func TestMain(m *testing.M) {
	if root := os.Getenv(killRoot); root != "" {
		putAndDie(root)
	}
	os.Exit(m.Run())
}

// putAndDie puts one object and kills its own process at the step that the environment names. It exits with 0 when there is no such
// step.
func putAndDie(root string) {
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		panic(err)
	}
	b, err := Open(root)
	if err != nil {
		panic(err)
	}
	step := 0
	die := func() {
		if step == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		step++
	}
	whole := b.steps
	b.steps = steps{
		write: func(f *os.File, p []byte) (int, error) { die(); defer die(); return whole.write(f, p) },
		sync:  func(f *os.File) error { die(); defer die(); return whole.sync(f) },
		link:  func(from, to string) error { die(); defer die(); return whole.link(from, to) },
	}
	if err := b.Put(context.Background(), "seg/0a/k", killBody, killNonce); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func TestKillAtAnyStepOfAPutLeavesAllOrNothing(t *testing.T) {
	ctx := context.Background()
	absent, whole := 0, 0
	for at := 0; ; at++ {
		root := t.TempDir()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), killRoot+"="+root, fmt.Sprintf("%s=%d", killAt, at))
		out, err := child.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v: %s", at, err, out)
		}
		b := open(t, root)
		got, err := b.Get(ctx, "seg/0a/k", objectlog.Extent{})
		switch {
		case errors.Is(err, objectlog.ErrNotFound):
			absent++
		case err == nil && bytes.Equal(got, killBody):
			whole++
			if err := b.Put(ctx, "seg/0a/k", []byte("other"), killNonce); !errors.Is(err, objectlog.ErrExists) {
				t.Errorf("step %d: put of another content: %v, want ErrExists", at, err)
			}
		default:
			t.Errorf("step %d: get: %d bytes, %v", at, len(got), err)
		}
		if err := b.Put(ctx, "seg/0a/k", killBody, killNonce); err != nil {
			t.Errorf("step %d: the same put again: %v", at, err)
		}
		if info, err := b.Stat(ctx, "seg/0a/k"); err != nil || info.Nonce != killNonce {
			t.Errorf("step %d: stat: %+v, %v", at, info, err)
		}
	}
	if absent < 8 || whole < 3 {
		t.Errorf("the kills left %d absent and %d whole objects: too few for the steps of a put", absent, whole)
	}
}
