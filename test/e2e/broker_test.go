// Package e2e runs the real binary as a user does: it is built once, started in a temporary folder, spoken to by its own
// verbs and over plain HTTP, stopped and killed.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

// binary is the built program, repository the root of the checkout.
var binary, repository string

// parallelTests may run at once, though they are more than the processors: they wait most of the time, for leases and outages.
const parallelTests = 4

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) { // nobody asked for another number
		flag.Set("test.parallel", fmt.Sprint(parallelTests))
	}
	dir, err := os.MkdirTemp("", "splashdam-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = localstacktest.Tests{M: m}.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	repository, binary = root, filepath.Join(dir, "splashdam")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/splashdam")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// broker is one running "splashdam dev" or "splashdam agent".
type broker struct {
	t       *testing.T
	stack   stack
	cmd     *exec.Cmd
	address string
	ready   time.Duration
	greeted chan greeting
	done    chan error // the exit of the process, once
	stderr  *lockedBuffer
}

// greeting is what a broker says when it is ready, or why it never will be.
type greeting struct {
	address string
	after   time.Duration
	err     error
}

// startBroker runs dev on a folder and waits until it is ready. address may be empty: a free port is taken.
func startBroker(t *testing.T, folder, address string, args ...string) *broker {
	t.Helper()
	return onFolder(folder).start(t, address, args...)
}

// startTimeout is for a busy machine; dev itself is ready well under a second.
const startTimeout = 60 * time.Second

// start runs the broker of the stack and waits until it is ready.
func (s stack) start(t *testing.T, address string, args ...string) *broker {
	t.Helper()
	b := s.launch(t, address, args...)
	select {
	case g := <-b.greeted:
		if g.err == nil {
			b.address, b.ready = g.address, g.after
			return b
		}
		b.kill()
		t.Fatalf("start %s: %v: %s", s.verb, g.err, b.stderr)
	case <-time.After(startTimeout):
		b.kill()
		t.Fatalf("start %s: not ready in time: %s", s.verb, b.stderr)
	}
	return nil
}

// launch is start without the waiting; only where the address is given it can be spoken to before it is ready.
func (s stack) launch(t *testing.T, address string, args ...string) *broker {
	t.Helper()
	b := &broker{t: t, stack: s, address: address, greeted: make(chan greeting, 1), done: make(chan error, 1), stderr: &lockedBuffer{}}
	if address == "" {
		address = "127.0.0.1:0"
	}
	b.cmd = exec.Command(binary, slices.Concat([]string{s.verb, "-o", "json", "--listen", address}, s.stores, s.settings, args)...)
	b.cmd.Env = cleanEnvironment()
	b.cmd.Stderr = b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.kill)
	go func() {
		var hello struct{ Address string }
		err := json.NewDecoder(stdout).Decode(&hello)
		b.greeted <- greeting{hello.Address, time.Since(started), err}
		io.Copy(io.Discard, stdout)
		b.done <- b.cmd.Wait()
	}()
	return b
}

// kill is kill -9.
func (b *broker) kill() {
	b.cmd.Process.Kill()
	b.wait(10 * time.Second)
}

// wait answers the error of the process's exit; it may be called again.
func (b *broker) wait(timeout time.Duration) error {
	select {
	case err := <-b.done:
		b.done <- err
		return err
	case <-time.After(timeout):
		return errors.New("the broker did not exit in time")
	}
}

// stop is SIGTERM; it answers once the process is gone.
func (b *broker) stop() {
	b.t.Helper()
	b.cmd.Process.Signal(syscall.SIGTERM)
	if err := b.wait(startTimeout); err != nil {
		b.t.Fatalf("stop: %v: %s", err, b.stderr.String())
	}
}

// ran is the outcome of one command line.
type ran struct {
	code           int
	stdout, stderr string
}

// run executes a verb against the broker.
func (b *broker) run(stdin io.Reader, args ...string) ran {
	b.t.Helper()
	return runBinary(b.t, stdin, append(args, "--server", b.address)...)
}

// mustRun is run for what can't fail; it answers the standard output.
func (b *broker) mustRun(stdin io.Reader, args ...string) string {
	b.t.Helper()
	r := b.run(stdin, args...)
	if r.code != 0 {
		b.t.Fatalf("splashdam %s: exit %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

func runBinary(t *testing.T, stdin io.Reader, args ...string) ran {
	t.Helper()
	return runWith(t, nil, stdin, args...)
}

// runWith is runBinary with more in the environment.
func runWith(t *testing.T, env []string, stdin io.Reader, args ...string) ran {
	t.Helper()
	timeout := 5 * time.Minute
	if args[0] == "dev" || args[0] == "agent" { // it is expected to refuse
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(cleanEnvironment(), env...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("splashdam %s: %v", strings.Join(args, " "), err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// cleanEnvironment is ours without the settings of whoever runs the tests.
func cleanEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SPLASHDAM_") {
			env = append(env, kv)
		}
	}
	return env
}

// call is one unary call in JSON, as curl makes it. It answers the status and the body as an object.
func (b *broker) call(method, body string) (status int, answer map[string]any, err error) {
	return b.callWithin(time.Minute, method, body)
}

// callWithin is a call with the deadline that the agent is told.
func (b *broker) callWithin(timeout time.Duration, method, body string) (status int, answer map[string]any, err error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+b.address+"/splashdam.v1."+method, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connect-Timeout-Ms", fmt.Sprint(timeout.Milliseconds()))
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return r.StatusCode, nil, fmt.Errorf("answer to %s is no JSON object: %.200q", method, text)
	}
	return r.StatusCode, answer, nil
}

// freeAddress is an address that was free a moment ago, for brokers that are restarted on it.
func freeAddress(t *testing.T) string {
	t.Helper()
	return freePort()
}

// ports of brokers, which are down at times.
var ports localstack.Ports

func freePort() string {
	address, err := ports.Address()
	if err != nil {
		panic(err)
	}
	return address
}

// lockedBuffer is a buffer that a process writes while the test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
