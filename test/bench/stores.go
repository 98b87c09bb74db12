package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// onStores is a run with real stores: one agent, started anew for some of the measurements, whose listen address stays.
type onStores struct {
	*bench
	servers []*localstack.Server
	stores  []string // flags that name bucket and table
	listen  string

	best   map[load]float64 // bytes per second, of the broker
	stored map[string]int64 // records by topic
	rawGet float64          // bytes per second
}

// runOnStores starts the stores, measures, and stops and removes everything.
func runOnStores(b *bench, engines string, many, work bool) (err error) {
	objects, table, ok := strings.Cut(engines, "+")
	if !ok {
		return fmt.Errorf("-stores %s: want two engines, such as minio+dynoxide", engines)
	}
	s := &onStores{bench: b, best: make(map[load]float64), stored: make(map[string]int64)}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := s.begin(localstack.Engine(objects), localstack.Engine(table)); err != nil {
		return err
	}
	steps := s.steps()
	if many {
		steps = s.stepsOfMany()
	}
	if work {
		steps = []func() error{s.pacedCommits, s.agent("4"), s.rebalance, func() error { return s.desk(5_000) }}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// begin starts the stores and makes the cluster.
func (s *onStores) begin(objects, table localstack.Engine) error {
	for _, v := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		os.Unsetenv(v)
	}
	os.Setenv("AWS_ACCESS_KEY_ID", localstack.AccessKey)
	os.Setenv("AWS_SECRET_ACCESS_KEY", localstack.SecretKey)
	for _, engine := range []localstack.Engine{objects, table} {
		server, err := localstack.Start(context.Background(), localstack.Config{Engine: engine, Folder: filepath.Join(s.dir, string(engine))})
		if err != nil {
			return err
		}
		s.servers = append(s.servers, server)
	}
	if err := s.cluster("splashdam"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.listen = l.Addr().String()
	return l.Close()
}

// cluster makes a cluster of this name, in the stores that run, where the agents that are started from now on belong.
func (s *onStores) cluster(name string) error {
	s.stores = []string{
		"--bucket", "s3://splashdam/" + name + "?endpoint=" + s.servers[0].Endpoint,
		"--table", "dynamodb://" + name + "?endpoint=" + s.servers[1].Endpoint + "&region=" + localstack.Region,
	}
	out, err := exec.Command(s.binary, append([]string{"cluster", "init", "--create-bucket"}, s.stores...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the cluster: %w: %s", err, out)
	}
	return nil
}

// agent starts the agent with this flush rate, after it has stopped the one that ran.
func (s *onStores) agent(flushRate string) func() error {
	return func() error {
		if err := s.stop(); err != nil {
			return err
		}
		s.args = append([]string{"agent", "--listen", s.listen, "--peer-listen", "127.0.0.1:0", "--flush-rate", flushRate}, s.stores...)
		return s.start()
	}
}

// end stops everything, the agent first.
func (s *onStores) end() error {
	err := s.stop()
	for _, server := range s.servers {
		err = errors.Join(err, server.Stop())
	}
	return err
}

// restart measures from the start of a process to the first acknowledgement: behind a graceful stop, or behind kill -9.
func (s *onStores) restart(kill bool) func() error {
	return func() error {
		how, end := "graceful stop", s.stop
		if kill {
			how, end = "kill -9", s.kill
		}
		if err := end(); err != nil {
			return err
		}
		begun := time.Now()
		if err := s.start(); err != nil {
			return err
		}
		produce := exec.Command(s.binary, "produce", "flat-256", "--server", s.address)
		produce.Stdin = strings.NewReader("back\n")
		if out, err := produce.CombinedOutput(); err != nil {
			return fmt.Errorf("produce after %s: %w: %s", how, err, out)
		}
		took := time.Since(begun).Seconds()
		report(fmt.Sprintf("restart after %s, %d records, 256 partitions", how, s.records()), fmt.Sprintf("first acknowledgement after %.2f s", took), "<= 3 s", took <= 3)
		return nil
	}
}

func (s *onStores) kill() error {
	err := s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed
	s.process = nil
	return err
}

func (s *onStores) records() (sum int64) {
	for _, n := range s.stored {
		sum += n
	}
	return sum
}

// report prints a figure and whether it reaches its goal.
func report(what, measured, goal string, reached bool) {
	verdict := "reached"
	if !reached {
		verdict = "MISSED"
	}
	fmt.Printf("%-58s %-86s goal %-22s %s\n", what, measured, goal, verdict)
}
