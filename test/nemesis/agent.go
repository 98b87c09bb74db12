package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/test/faultproxy"
)

const (
	// restartPause is what supervisors of processes do as well.
	restartPause = 100 * time.Millisecond
	stopTimeout  = 20 * time.Second
)

// agent is one agent with everything that stands between it and others. It is started again whenever it ends, as long as it is wanted.
type agent struct {
	index         int
	address       string // where it listens for clients
	peerAddress   string // where it listens for other agents; empty: the program knows none
	bucket, table *faultproxy.Proxy
	clients       *link // in front of address
	peers         *link // in front of peerAddress; nil: none
	program       localstack.Program
	log           *os.File
	running       sync.WaitGroup

	mu      sync.Mutex // all below
	server  *localstack.Server
	wanted  bool
	changed chan struct{} // closed when wanted or server changes
	paused  bool
	starts  int
}

// supervise runs the agent until ctx ends.
func (a *agent) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		a.mu.Lock()
		wanted, changed := a.wanted, a.changed
		a.mu.Unlock()
		if !wanted {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		server, err := localstack.Run(ctx, a.program)
		if err != nil {
			fmt.Fprintf(a.log, "nemesis: %v\n", err)
			pause(ctx, restartPause)
			continue
		}
		a.set(func() { a.server, a.paused, a.starts = server, false, a.starts+1 })
		fmt.Fprintf(a.log, "nemesis: started, pid %d\n", server.PID)
		err = server.Wait(ctx)
		if ctx.Err() != nil {
			server.Kill()
		} else {
			fmt.Fprintf(a.log, "nemesis: %.100s\n", err)
		}
		a.set(func() { a.server = nil })
		pause(ctx, restartPause)
	}
}

func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *agent) current() *localstack.Server {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server
}

// pid is that of the process; 0: none runs.
func (a *agent) pid() int {
	if s := a.current(); s != nil {
		return s.PID
	}
	return 0
}

// up wants the agent to run.
func (a *agent) up() { a.set(func() { a.wanted = true }) }

// kill is kill -9; the agent is started again if it is wanted.
func (a *agent) kill() {
	if s := a.current(); s != nil {
		s.Kill()
	}
}

// down is kill -9 until up.
func (a *agent) down() {
	a.set(func() { a.wanted = false })
	a.kill()
}

// stop ends the agent gracefully, until up.
func (a *agent) stop() error {
	a.set(func() { a.wanted = false })
	if s := a.current(); s != nil {
		return s.Stop()
	}
	return nil
}

// freeze is SIGSTOP, until thaw.
func (a *agent) freeze() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil && !a.paused {
		a.paused = syscall.Kill(a.server.PID, syscall.SIGSTOP) == nil
	}
}

func (a *agent) thaw() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil && a.paused {
		syscall.Kill(a.server.PID, syscall.SIGCONT)
	}
	a.paused = false
}

// readyz asks the agent whether it is ready, and why not.
func (a *agent) readyz() error { return readyz(a.address) }

func readyz(address string) error {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + address + "/readyz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	return err
}

const askTimeout = time.Second

// describe is the cluster as the agent says; false: it does not say.
func (a *agent) describe(ctx context.Context) (client.Cluster, bool) {
	one, err := client.New(client.Config{Addresses: []string{a.address}, RequestTimeout: askTimeout})
	if err != nil {
		return client.Cluster{}, false
	}
	defer one.Close()
	info, err := one.Cluster(ctx)
	return info, err == nil
}

// pause waits; false: ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// until asks again and again until the answer is yes; false: not in time.
func until(ctx context.Context, within time.Duration, yes func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !yes() {
		if !pause(ctx, 20*time.Millisecond) {
			return yes()
		}
	}
	return true
}
