package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// agent is one of them. Only the trial starts and ends it.
type agent struct {
	index   int
	address string // where it listens for clients
	program localstack.Program
	log     *os.File
	server  *localstack.Server // nil before the first start
}

func (c *cluster) newAgent(i int, flushRate string) (*agent, error) {
	a := &agent{index: i}
	log, err := os.Create(filepath.Join(c.folder, fmt.Sprintf("agent-%d.log", i)))
	if err != nil {
		return nil, err
	}
	a.log = log
	at := "127.0.0.1"
	if c.network != nil {
		at = address(i)
	}
	peers := at + ":4512" // nobody else is on its network
	if a.address = at + ":4510"; c.network == nil {
		var errs [2]error
		a.address, errs[0] = freeAddress(at)
		peers, errs[1] = freeAddress(at)
		if err := errors.Join(errs[:]...); err != nil {
			log.Close()
			return nil, err
		}
	}
	args := append([]string{"agent", "-o", "json", "--log-level", "debug", "--listen", a.address, "--peer-listen", peers,
		"--flush-rate", flushRate, "--stop-timeout", stopTimeout.String()}, c.stores()...)
	a.program = localstack.Program{Name: fmt.Sprintf("agent %d", i), Path: c.binary, Args: args, Endpoint: "http://" + a.address, Output: a.log,
		Ready: localstack.Answers("/readyz"), StopTimeout: stopTimeout + 5*time.Second}
	if c.network != nil { // ip becomes the agent, with its process id
		a.program.Path, a.program.Args = "ip", append([]string{"netns", "exec", c.network.places[i], c.binary}, args...)
	}
	return a, nil
}

// start answers when the agent is ready.
func (a *agent) start(ctx context.Context) error {
	fmt.Fprintf(a.log, "failover: start at %s\n", time.Now().Format(time.RFC3339Nano))
	server, err := localstack.Run(ctx, a.program)
	if err == nil {
		a.server = server
	}
	return err
}

// suspend is SIGSTOP: the process runs no further, and its kernel goes on to accept.
func (a *agent) suspend() error { return syscall.Kill(a.server.PID, syscall.SIGSTOP) }

// resume is SIGCONT; it does nothing to an agent that runs.
func (a *agent) resume() {
	if a.server != nil {
		syscall.Kill(a.server.PID, syscall.SIGCONT)
	}
}

// readyz asks the agent whether it is ready, and why not.
func (a *agent) readyz() error {
	c := http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + a.address + "/readyz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 4<<10))
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(string(text))
	}
	return err
}
