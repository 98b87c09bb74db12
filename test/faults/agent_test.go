package faults

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

const (
	// startTimeout is for a busy machine.
	startTimeout = 90 * time.Second
	// restartPause is what supervisors of processes do as well.
	restartPause = 100 * time.Millisecond
)

// process is one run of an agent.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end
	err  error         // of its exit, behind done
}

// instance is an agent that is started again whenever it ends, as long as it is wanted.
type instance struct {
	t       *testing.T
	address string
	args    []string
	log     lockedBuffer

	mu      sync.Mutex
	current *process // guarded by mu; nil: none runs
	wanted  bool     // guarded by mu
	starts  int      // guarded by mu
	ended   sync.WaitGroup
	wake    chan struct{} // closed when it is not wanted any more; guarded by mu
}

// newInstance makes an agent of the cluster with an address of its own. It does not run yet.
func (c *cluster) newInstance(t *testing.T) *instance {
	a := &instance{t: t, address: freeAddress(t)}
	a.args = slices.Concat([]string{"agent", "-o", "json", "--listen", a.address, "--peer-listen", freeAddress(t), "--stop-delay", "0s", "--flush-rate", flushRate, "--stop-timeout", "20s"}, c.stores())
	t.Cleanup(a.crash)
	return a
}

// start starts the agent and keeps it running.
func (a *instance) start() {
	a.mu.Lock()
	a.wanted, a.wake = true, make(chan struct{})
	a.mu.Unlock()
	a.ended.Go(a.supervise)
}

func (a *instance) supervise() {
	for {
		a.mu.Lock()
		if !a.wanted {
			a.mu.Unlock()
			return
		}
		p := &process{cmd: exec.Command(binary, a.args...), done: make(chan struct{})}
		p.cmd.Env = cleanEnvironment()
		p.cmd.Stderr = &a.log
		p.cmd.Stdout = io.Discard
		if err := p.cmd.Start(); err != nil {
			a.mu.Unlock()
			a.t.Error(err)
			return
		}
		a.current, a.starts = p, a.starts+1
		wake := a.wake
		a.mu.Unlock()
		p.err = p.cmd.Wait()
		close(p.done)
		select {
		case <-wake:
		case <-time.After(restartPause):
		}
	}
}

// unwant keeps the agent from being started again, and answers what runs.
func (a *instance) unwant() *process {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wanted {
		close(a.wake)
	}
	a.wanted = false
	return a.current
}

// kill is kill -9; the agent is started again.
func (a *instance) kill() {
	a.mu.Lock()
	p := a.current
	a.mu.Unlock()
	if p != nil {
		p.cmd.Process.Kill()
		<-p.done
	}
}

// crash is kill -9 for good.
func (a *instance) crash() {
	if p := a.unwant(); p != nil {
		p.cmd.Process.Kill()
	}
	a.ended.Wait()
}

// readyz asks the agent whether it is ready, and why not.
func (a *instance) readyz() (ready bool, reason string, err error) {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + a.address + "/readyz")
	if err != nil {
		return false, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r.StatusCode == http.StatusOK, strings.TrimSpace(string(text)), err
}

// awaitReady waits until the agent is ready.
func (a *instance) awaitReady() time.Duration {
	a.t.Helper()
	began := time.Now()
	var ready bool
	var reason string
	var err error
	if !eventually(startTimeout, func() bool { ready, reason, err = a.readyz(); return err == nil && ready }) {
		a.t.Fatalf("agent is not ready because %q (%v): %s", reason, err, a.log.String())
	}
	return time.Since(began)
}

// awaitFollowing waits until the agent follows another, which makes it no target for a load balancer.
func (a *instance) awaitFollowing() {
	a.t.Helper()
	var ready bool
	var reason string
	var err error
	if !eventually(startTimeout, func() bool {
		ready, reason, err = a.readyz()
		return err == nil && (ready || strings.Contains(reason, "stands by"))
	}) {
		a.t.Fatalf("agent does not follow because %q (%v): %s", reason, err, a.log.String())
	}
}

// run executes a verb to its end.
func run(args ...string) (stdout string, err error) {
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnvironment()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// cleanEnvironment is ours without the settings of whoever runs the tests.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "SPLASHDAM_") })
}

// ports of agents, which are down at times.
var ports localstack.Ports

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := ports.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// eventually asks again and again until the answer is yes, which it must be in time.
func eventually(within time.Duration, yes func() bool) bool {
	tick, late := time.NewTicker(20*time.Millisecond), time.After(within)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-late:
			return yes()
		}
	}
	return true
}

// lockedBuffer is a buffer that processes write while the test reads.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
