package localstack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

func TestEngineEndsWithTheProcessThatStartedIt(t *testing.T) {
	for _, engine := range []localstack.Engine{localstack.Ministack, localstack.HAProxy} {
		t.Run(string(engine), func(t *testing.T) { endsWithItsParent(t, engine) })
	}
}

func endsWithItsParent(t *testing.T, engine localstack.Engine) {
	localstacktest.Installed(t, engine)
	t.Setenv("TMPDIR", t.TempDir()) // what a killed parent leaves
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+string(engine))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil || pid == 0 {
		t.Fatalf("no pid from the process that starts: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	parent.Wait()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(10 * time.Second); !dead(pid); <-again.C {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d outlived the one that started it", pid)
		}
	}
}

// dead also knows a zombie: an orphan stays one where the first process of the machine waits for nobody.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return gone(pid) || err == nil && strings.Contains(string(stat), ") Z ")
}

func TestServerOutlivesTheThreadThatAsksForIt(t *testing.T) {
	started := make(chan *localstack.Server)
	go onThreadThatEnds(func() {
		s, _ := localstack.Run(t.Context(), localstack.Program{
			Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "exec sleep 600"}, StopTimeout: 10 * time.Second,
			Ready: func(context.Context, string) error { return nil },
		})
		started <- s
	})
	s := <-started
	if s == nil {
		t.Fatal("not started")
	}
	defer s.Stop()
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the server is gone with a thread: %v", err)
	}
}

// onThreadThatEnds runs f on a thread that ends with it; the main thread never does.
func onThreadThatEnds(f func()) {
	runtime.LockOSThread()
	if syscall.Gettid() != syscall.Getpid() {
		f()
		return // still locked: that ends the thread
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		onThreadThatEnds(f)
	}()
	<-ended
	runtime.UnlockOSThread()
}
