package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// stack is what runs.
type stack struct {
	binary, folder string
	table          localstack.Engine

	clientAddress, objectsAddress, tableAddress string
	agentCount                                  int

	out io.Writer // gets what the agents print too

	servers []*localstack.Server // in the order of their start
	agents  []*localstack.Server // those of them that are agents
}

// agentStopTimeout is above the 30 s that the agent takes at most.
const agentStopTimeout = 35 * time.Second

// run starts everything, waits until running ends or something ends that the others can't do without, and stops everything, the agents
// first. When patient ends it kills what is still there.
func (s *stack) run(running, patient context.Context) (err error) {
	defer func() { err = errors.Join(err, s.stop(patient)) }()
	if err := s.start(running); err != nil {
		if running.Err() != nil {
			return errInterrupted
		}
		return err
	}
	return s.watch(running)
}

// watch waits for the end of running, of the last agent, or of anything else.
func (s *stack) watch(running context.Context) error {
	type end struct {
		server *localstack.Server
		how    error
	}
	ended := make(chan end, len(s.servers))
	waiting, cancel := context.WithCancel(running)
	defer cancel()
	for _, server := range s.servers {
		go func() { ended <- end{server, server.Wait(waiting)} }()
	}
	for left := len(s.agents); ; {
		e := <-ended
		if running.Err() != nil {
			return nil // as asked
		}
		number := slices.Index(s.agents, e.server) + 1
		if left--; number == 0 || left == 0 {
			return e.how
		}
		fmt.Fprintf(s.out, "agent %d (pid %d) is gone; the others go on\n", number, e.server.PID)
	}
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
	s.announceStores(s.out, objects.Endpoint, table.Endpoint)
	stores := []string{
		"--bucket", "s3://splashdam/?endpoint=" + objects.Endpoint,
		"--table", "dynamodb://splashdam?endpoint=" + table.Endpoint + "&region=" + localstack.Region,
	}
	if err := s.initCluster(ctx, stores); err != nil {
		return err
	}
	return s.startAgents(ctx, stores)
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

// startAgents starts one agent for clients, or several and the load balancer that clients reach them by.
func (s *stack) startAgents(ctx context.Context, stores []string) error {
	clients, err := freeOf(s.clientAddress)
	if err != nil {
		return err
	}
	if s.agentCount == 1 {
		err = s.startAgent(ctx, localstack.Program{Name: "agent", Output: s.out}, clients, stores)
	} else {
		err = s.startBalanced(ctx, clients, stores)
	}
	if err != nil {
		return err
	}
	fmt.Fprint(s.out, "Ctrl-C stops everything; the data stays.\n")
	return nil
}

// startBalanced starts agents, each in a zone of its own, and the balancer before them.
func (s *stack) startBalanced(ctx context.Context, clients string, stores []string) error {
	if err := localstack.Installed(localstack.HAProxy); err != nil {
		return err // before anything else is started in vain
	}
	fmt.Fprintf(s.out, "Starting %d agents and a load balancer\n", s.agentCount)
	addresses := make([]string, s.agentCount)
	for i := range addresses {
		var err error
		if addresses[i], err = freeOf(fmt.Sprintf("127.0.0.1:%d", 4521+i)); err != nil {
			return err
		}
	}
	// The balancer first: an agent tries the address that it tells clients.
	balancer, err := localstack.Start(ctx, localstack.Config{Engine: localstack.HAProxy, Address: clients, Agents: addresses})
	if err != nil {
		return err
	}
	s.servers = append(s.servers, balancer)
	for i, address := range addresses {
		name := fmt.Sprintf("agent %d", i+1)
		err := s.startAgent(ctx, localstack.Program{Name: name, Log: prefixed{s.out, name + ": "}}, address,
			append([]string{"--advertise-client", clients, "--zone", zone(i)}, stores...))
		if err != nil {
			return err
		}
	}
	if err := awaitBalancer(ctx, balancer.Endpoint); err != nil {
		return err
	}
	s.announceAgents(s.out, balancer)
	return nil
}

const (
	// balancerPatience is well above the time in which the balancer's checks come round.
	balancerPatience = 10 * time.Second
	balancerRetry    = 50 * time.Millisecond
)

// awaitBalancer waits until the balancer has found out that an agent is ready: until then it turns clients away.
func awaitBalancer(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, balancerPatience)
	defer cancel()
	for {
		err := localstack.Answers("/readyz")(ctx, endpoint)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the load balancer at %s finds no agent ready: %w", endpoint, err)
		case <-time.After(balancerRetry):
		}
	}
}

// zone is that of one agent.
func zone(i int) string { return string(rune('a' + i)) }

// startAgent starts one agent at the address for clients, and waits until it is ready.
func (s *stack) startAgent(ctx context.Context, p localstack.Program, address string, args []string) error {
	p.Path, p.Env, p.StopTimeout = s.binary, credentials, agentStopTimeout
	p.Args = append([]string{"agent", "--listen", address, "--peer-listen", "127.0.0.1:0"}, args...)
	p.Endpoint, p.Ready = "http://"+address, localstack.Answers("/readyz")
	server, err := localstack.Run(ctx, p)
	if err != nil {
		return err
	}
	s.servers, s.agents = append(s.servers, server), append(s.agents, server)
	return nil
}

// prefixed says on each line whose it is.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p prefixed) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if _, err := fmt.Fprintf(p.w, "%s%s", p.prefix, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
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
