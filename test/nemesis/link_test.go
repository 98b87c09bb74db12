package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo is a server that answers what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

func startLink(t *testing.T, caller func(net.Addr) int) *link {
	t.Helper()
	l, err := newLink(echo(t), caller)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func dial(t *testing.T, l *link) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// say sends a word and waits for its echo.
func say(conn net.Conn, within time.Duration) error {
	const word = "goal"
	conn.SetDeadline(time.Now().Add(within))
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, len(word)))
	return err
}

const (
	soon = 10 * time.Second
	wait = 50 * time.Millisecond
)

func TestLinkPassesWhatIsSaid(t *testing.T) {
	conn := dial(t, startLink(t, nil))
	for range 3 {
		if err := say(conn, soon); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCutLinkResetsConnectionsUntilItIsHealed(t *testing.T) {
	l := startLink(t, nil)
	conn := dial(t, l)
	if err := say(conn, soon); err != nil {
		t.Fatal(err)
	}
	l.set(anyone, quality{cut: true})
	if err := say(conn, soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a reset", err)
	}
	if late, err := net.Dial("tcp", l.Address); err == nil { // the reset may come as early as that
		defer late.Close()
		if err := say(late, soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a reset", err)
		}
	}
	l.heal()
	if err := say(dial(t, l), soon); err != nil {
		t.Error(err)
	}
}

func TestDeafAndMuteLinksKeepWhatIsSaidUntilTheyAreHealed(t *testing.T) {
	for name, q := range map[string]quality{"deaf": {deaf: true}, "mute": {mute: true}, "both": {deaf: true, mute: true}} {
		t.Run(name, func(t *testing.T) {
			l := startLink(t, nil)
			conn := dial(t, l)
			l.set(anyone, q)
			if err := say(conn, wait); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("got %v, want silence", err)
			}
			l.heal()
			conn.SetDeadline(time.Now().Add(soon))
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSlowLinkTakesItsTime(t *testing.T) {
	for name, q := range map[string]quality{"delay": {delay: wait}, "loss": {loss: 1}, "bandwidth": {bytesPerSecond: 80}} {
		t.Run(name, func(t *testing.T) {
			l := startLink(t, nil)
			l.set(anyone, q)
			began := time.Now()
			if err := say(dial(t, l), soon); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < wait {
				t.Errorf("took %s, want at least %s", took, wait)
			}
		})
	}
}

func TestLinkPartsOneCallerAndNotTheOthers(t *testing.T) {
	next := make(chan int, 2)
	l := startLink(t, func(net.Addr) int { return <-next })
	next <- 0
	first := dial(t, l)
	if err := say(first, soon); err != nil {
		t.Fatal(err)
	}
	next <- 1
	second := dial(t, l)
	if err := say(second, soon); err != nil {
		t.Fatal(err)
	}
	l.set(0, quality{cut: true})
	if err := say(first, soon); err == nil {
		t.Error("the caller that was cut off is heard")
	}
	if err := say(second, soon); err != nil {
		t.Errorf("the other caller is not heard: %v", err)
	}
}

func TestOwnerOfAConnectionIsTheProcessThatHasIt(t *testing.T) {
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Log("this system does not tell")
		return
	}
	conn := dial(t, startLink(t, nil))
	if err := say(conn, soon); err != nil {
		t.Fatal(err)
	}
	if got := ownerOf(conn.LocalAddr(), []int{1 << 30, os.Getpid()}); got != 1 {
		t.Errorf("got owner %d, want 1", got)
	}
	if got := ownerOf(conn.LocalAddr(), []int{1 << 30}); got != anyone {
		t.Errorf("got owner %d, want none", got)
	}
}

func TestClosedLinkLeavesNothingWaiting(t *testing.T) {
	l := startLink(t, nil)
	conn := dial(t, l)
	l.set(anyone, quality{deaf: true})
	if err := say(conn, wait); err == nil {
		t.Fatal("a deaf link hears")
	}
	l.close()
	if _, err := net.Dial("tcp", l.Address); err == nil {
		t.Error("a closed link listens")
	}
}
