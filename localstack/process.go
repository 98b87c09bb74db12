package localstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a server that runs as a process: an engine, or an agent of the local stack.
type Program struct {
	Name        string // in errors
	Path        string
	Args        []string
	Env         []string // on top of this process's own
	Endpoint    string   // http://host:port
	Ready       func(ctx context.Context, endpoint string) error
	Output      io.Writer // gets what the process prints; nil: only the end is kept, for errors
	Log         io.Writer // instead of Output: gets only what it prints to its standard error
	StopTimeout time.Duration

	temporary string // folder that goes with the process
	softStop  bool   // it stops gracefully by its own signal, and at once by SIGTERM
}

// Server is one running process.
type Server struct {
	Endpoint string // http://host:port
	PID      int

	program Program
	process *os.Process
	gone    chan struct{} // closed when the process is gone and what it had is cleaned up
	ended   error         // how; written before gone is closed
	output  *tail
}

// Run starts a program and waits until it is ready, for a minute and a half at most.
func Run(ctx context.Context, p Program) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &Server{Endpoint: p.Endpoint, program: p, gone: make(chan struct{}), output: &tail{}}
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.SysProcAttr = environment(p.Env), attributes()
	cmd.Stdout = s.output
	if p.Output != nil {
		cmd.Stdout = io.MultiWriter(s.output, p.Output)
	}
	cmd.Stderr = cmd.Stdout
	if p.Log != nil {
		cmd.Stderr = io.MultiWriter(s.output, p.Log)
	}
	// What a killed process has left running may hold the pipe of its output.
	cmd.WaitDelay = time.Second

	started := make(chan error, 1)
	go s.own(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := s.awaitReady(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("start %s on %s: %w%s", p.Name, p.Endpoint, err, s.output)
	}
	return s, nil
}

// own starts the process and stays with it until it is gone. It keeps its thread: the system ends the process with the thread that
// started it, and that must not be one that ends early.
func (s *Server) own(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	s.process, s.PID = cmd.Process, cmd.Process.Pid
	started <- nil
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	os.RemoveAll(s.program.temporary) // "" removes nothing
	s.ended = err
	close(s.gone)
}

// awaitReady asks until the program answers, is gone, or ctx ends.
func (s *Server) awaitReady(ctx context.Context) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := s.program.Ready(ctx, s.Endpoint)
		select {
		case <-s.gone:
			return fmt.Errorf("it ended: %w", s.how())
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-s.gone:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		}
	}
}

func (s *Server) how() error {
	if s.ended == nil {
		return errors.New("exit status 0")
	}
	return s.ended
}

// Stop ends the server gracefully and answers when it is gone. One that must be killed in the end is an error.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	graceful := syscall.SIGTERM
	if s.program.softStop {
		graceful = softStopSignal
	}
	// Windows knows no SIGTERM; that a process is gone already shows below.
	if err := s.process.Signal(graceful); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.Kill()
		return fmt.Errorf("stop %s: %w; killed", s.program.Name, err)
	}
	late := time.NewTimer(s.program.StopTimeout)
	defer late.Stop()
	select {
	case <-s.gone:
		return nil
	case <-late.C:
		s.Kill()
		return fmt.Errorf("stop %s: still there %v after %v; killed%s", s.program.Name, s.program.StopTimeout, graceful, s.output)
	}
}

// Kill is kill -9; it answers when the server is gone.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	select {
	case <-s.gone: // its id may be another's by now
	default:
		kill(s.process)
	}
	<-s.gone
}

// Wait answers when the server is gone, or ctx ends, with the reason and the end of what it printed.
func (s *Server) Wait(ctx context.Context) error {
	if s.process == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-s.gone:
		return fmt.Errorf("%s ended: %w%s", s.program.Name, s.how(), s.output)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask makes one request on a connection of its own, so that nothing is left over.
func ask(ctx context.Context, method, url, body string, header map[string]string) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a server that is starting may accept and say nothing
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // loopback: no proxy of the environment
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, string(b), err
}

// tailBytesMax bounds what is kept of the output of a process.
const tailBytesMax = 8 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte // under mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailBytesMax; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String is the tail of an error.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.text)); text != "" {
		return "; its output ends:\n" + text
	}
	return "; it printed nothing"
}
