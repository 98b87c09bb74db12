package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

// binary is the built program.
var binary string

func TestMain(m *testing.M) { goleak.VerifyTestMain(built{localstacktest.Tests{M: m}}) }

// built are the tests of a package behind a build of the program.
type built struct{ tests localstacktest.Tests }

func (b built) Run() int {
	dir, err := os.MkdirTemp("", "splashdam-stack-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "splashdam")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/splashdam").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v: %s\n", err, out)
		return 1
	}
	return b.tests.Run()
}

// run is one run of a stack.
type run struct {
	t         *testing.T
	stack     *stack
	out       *transcript
	interrupt func() // the first Ctrl-C
	hurry     func() // the second
	ended     chan error
}

// startRun starts a stack on free ports and waits until it says how to stop it.
func startRun(t *testing.T, table localstack.Engine, folder string, agents int) *run {
	t.Helper()
	for _, engine := range []localstack.Engine{localstack.MinIO, table} {
		localstacktest.Installed(t, engine)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0") // the usual addresses are all taken
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	r := &run{t: t, out: &transcript{arrived: make(chan struct{}, 1)}, ended: make(chan error, 1)}
	r.stack = &stack{binary: binary, folder: folder, table: table, agentCount: agents, clientAddress: address, objectsAddress: address, tableAddress: address, out: r.out}
	running, interrupt := context.WithCancel(context.Background())
	patient, hurry := context.WithCancel(context.Background())
	r.interrupt, r.hurry = interrupt, hurry
	go func() { r.ended <- r.stack.run(running, patient) }()
	t.Cleanup(func() {
		interrupt()
		hurry()
	})
	for !strings.Contains(r.out.String(), "Ctrl-C stops everything") {
		select {
		case <-r.out.arrived:
		case err := <-r.ended:
			t.Fatalf("ended: %v\n%s", err, r.out)
		}
	}
	return r
}

// end waits until the stack has ended and nothing of it is left.
func (r *run) end() error {
	r.t.Helper()
	err := <-r.ended
	for _, s := range r.stack.servers {
		if e := syscall.Kill(s.PID, 0); e != syscall.ESRCH {
			r.t.Errorf("process %d is left: %v", s.PID, e)
		}
	}
	return err
}

// splashdam runs a verb on the agent, or on the balancer, of the stack.
func (r *run) splashdam(stdin string, args ...string) string {
	r.t.Helper()
	clients := r.stack.servers[2] // behind the stores
	cmd := exec.Command(binary, append(args, "--server", strings.TrimPrefix(clients.Endpoint, "http://"))...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// transcript is what a stack prints.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer // under mu
	arrived chan struct{}
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.arrived <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestStackKeepsItsRecordsBetweenRuns(t *testing.T) {
	for _, table := range []localstack.Engine{localstack.Ministack, localstack.Dynalite} {
		t.Run(string(table), func(t *testing.T) {
			folder := t.TempDir()
			first := startRun(t, table, folder, 1)
			first.splashdam("", "topic", "create", "matches", "--partitions", "3")
			first.splashdam(`bra-arg:{"goal":"Messi","minute":23}`, "produce", "matches", "--key-separator", ":")
			first.interrupt()
			if err := first.end(); err != nil {
				t.Errorf("the first run: %v\n%s", err, first.out)
			}
			second := startRun(t, table, folder, 1)
			if got := second.splashdam("", "consume", "matches"); !strings.Contains(got, "Messi") {
				t.Errorf("consumed from the second run: %q", got)
			}
			second.interrupt()
			if err := second.end(); err != nil {
				t.Errorf("the second run: %v\n%s", err, second.out)
			}
			if !strings.Contains(second.out.String(), "is there already") {
				t.Errorf("the second run made another cluster:\n%s", second.out)
			}
		})
	}
}

func TestStackEndsWithTheFirstOfItsServersThatEnds(t *testing.T) {
	r := startRun(t, localstack.Dynalite, t.TempDir(), 1)
	agent := r.stack.servers[2]
	agent.Kill()
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "agent ended: signal: killed") {
		t.Errorf("got %v", err)
	}
}

func TestStackGoesOnWithoutAnAgentButNotWithoutTheLast(t *testing.T) {
	localstacktest.Installed(t, localstack.HAProxy)
	r := startRun(t, localstack.Dynalite, t.TempDir(), 2)
	r.splashdam("", "topic", "create", "matches", "--partitions", "3")
	r.splashdam(`bra-arg:{"goal":"Messi","minute":23}`, "produce", "matches", "--key-separator", ":")
	first := r.stack.agents[0]
	first.Kill()
	gone := fmt.Sprintf("agent 1 (pid %d) is gone; the others go on", first.PID)
	for !strings.Contains(r.out.String(), gone) {
		<-r.out.arrived
	}
	r.splashdam(`fra-ger:{"goal":"Mbappé","minute":77}`, "produce", "matches", "--key-separator", ":")
	if got := r.splashdam("", "consume", "matches"); !strings.Contains(got, "Messi") || !strings.Contains(got, "Mbappé") {
		t.Errorf("consumed without the first agent: %q", got)
	}
	r.stack.agents[1].Kill()
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "agent 2 ended: signal: killed") {
		t.Errorf("got %v", err)
	}
}

func TestSecondInterruptKillsWhatHasNotStopped(t *testing.T) {
	r := startRun(t, localstack.Dynalite, t.TempDir(), 1)
	objects := r.stack.servers[0]
	if err := syscall.Kill(objects.PID, syscall.SIGSTOP); err != nil { // it will not end when asked
		t.Fatal(err)
	}
	r.interrupt()
	for !strings.Contains(r.out.String(), "Stopping") {
		<-r.out.arrived
	}
	begin := time.Now()
	r.hurry()
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "killed what had not stopped") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// The commands of the compose file are not run where there is no Docker, so at least they must be ones that the program knows.
func TestComposeFileUsesFlagsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	for _, verb := range [][]string{{"cluster", "init", "--help"}, {"agent", "--help"}, {"topic", "list", "--help"}} {
		out, err := exec.Command(binary, verb...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", verb, err, out)
		}
		help.Write(out)
	}
	flags := regexp.MustCompile(`--[a-z-]+\b`)
	commands := regexp.MustCompile(`(?m)^ +(- --|test: \[CMD, /splashdam).*$`).FindAllString(string(text), -1)
	if len(commands) < 10 {
		t.Fatalf("found only %d lines with flags", len(commands))
	}
	for _, line := range commands {
		if flag := flags.FindString(line); !regexp.MustCompile(flag + `\b`).MatchString(help.String()) {
			t.Errorf("no verb has %s, in %s", flag, strings.TrimSpace(line))
		}
	}
}
