package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// stack is what runs.
type stack struct {
	binary, folder string
	table          localstack.Engine

	agentAddress, objectsAddress, tableAddress string

	out io.Writer // gets what the agent prints too

	servers []*localstack.Server // in the order of their start
}

// agentStopTimeout is above the 30 s that the agent takes at most.
const agentStopTimeout = 35 * time.Second

// run starts everything, waits until running ends or one of the servers does, and stops everything, the agent first. When patient ends
// it kills what is still there.
func (s *stack) run(running, patient context.Context) (err error) {
	defer func() { err = errors.Join(err, s.stop(patient)) }()
	if err := s.start(running); err != nil {
		if running.Err() != nil {
			return errInterrupted
		}
		return err
	}
	ended := make(chan error, len(s.servers))
	waiting, cancel := context.WithCancel(running)
	defer cancel()
	for _, server := range s.servers {
		go func() { ended <- server.Wait(waiting) }()
	}
	err = <-ended
	if running.Err() != nil {
		return nil // as asked
	}
	return err
}

func (s *stack) start(ctx context.Context) error {
	fmt.Fprintf(s.out, "Starting %s and %s\n", localstack.MinIO, s.table)
	objects, err := s.startStore(ctx, localstack.Config{Engine: localstack.MinIO, Address: s.objectsAddress, Folder: filepath.Join(s.data(), "objects")})
	if err != nil {
		return err
	}
	table, err := s.startStore(ctx, localstack.Config{Engine: s.table, Address: s.tableAddress, Folder: filepath.Join(s.data(), "table")})
	if errors.Is(err, localstack.ErrMissing) {
		return fmt.Errorf("%w, or take another table server: make stack STACK='-table dynalite'", err)
	}
	if err != nil {
		return err
	}
	s.announce(s.out, objects.Endpoint, table.Endpoint)
	stores := []string{
		"--bucket", "s3://splashdam/?endpoint=" + objects.Endpoint,
		"--table", "dynamodb://splashdam?endpoint=" + table.Endpoint + "&region=" + localstack.Region,
	}
	if err := s.initCluster(ctx, stores); err != nil {
		return err
	}
	return s.startAgent(ctx, stores)
}

// data is the folder of this stack. Each kind of table has its own: bucket and table belong together.
func (s *stack) data() string { return filepath.Join(s.folder, string(s.table)) }

// startStore starts a server on its usual address, or on a free port when that is taken.
func (s *stack) startStore(ctx context.Context, cfg localstack.Config) (*localstack.Server, error) {
	server, err := localstack.Start(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		cfg.Address = ""
		server, err = localstack.Start(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	s.servers = append(s.servers, server)
	return server, nil
}

// credentials are those of the local stores; what this shell has for others must not reach them.
var credentials = []string{"AWS_ACCESS_KEY_ID=" + localstack.AccessKey, "AWS_SECRET_ACCESS_KEY=" + localstack.SecretKey, "AWS_SESSION_TOKEN=", "AWS_PROFILE="}

func (s *stack) initCluster(ctx context.Context, stores []string) error {
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"cluster", "init", "--create-bucket", "--shards", "4"}, stores...)...)
	cmd.Env = append(os.Environ(), credentials...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make the cluster: %w (to start anew, remove %s)", err, s.data())
	}
	return nil
}

func (s *stack) startAgent(ctx context.Context, stores []string) error {
	address, err := freeOf(s.agentAddress)
	if err != nil {
		return err
	}
	server, err := localstack.Run(ctx, localstack.Program{
		Name: "agent", Path: s.binary, Args: append([]string{"agent", "--listen", address}, stores...), Env: credentials,
		Endpoint: "http://" + address, Ready: localstack.Answers("/readyz"), Output: s.out, StopTimeout: agentStopTimeout,
	})
	if err != nil {
		return err
	}
	s.servers = append(s.servers, server)
	fmt.Fprint(s.out, "Ctrl-C stops everything; the data stays.\n")
	return nil
}

// freeOf is the address, or one with a free port when it is taken.
func freeOf(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("find an address for the agent: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// stop stops the servers, the last one first: an agent answers what is under way, which needs the stores.
func (s *stack) stop(patient context.Context) error {
	if len(s.servers) > 0 {
		fmt.Fprintln(s.out, "Stopping")
	}
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i := len(s.servers) - 1; i >= 0; i-- {
			errs = append(errs, s.servers[i].Stop())
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-patient.Done():
		for _, server := range s.servers {
			server.Kill()
		}
		<-done
		return errors.New("killed what had not stopped")
	}
}
