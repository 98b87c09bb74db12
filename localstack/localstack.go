// Package localstack starts an object store, a table server and a load balancer as processes of this machine, on free loopback ports, for
// tests and for the local stack. What it starts stops with it.
package localstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// The credentials that every server of this package accepts.
const (
	AccessKey = "splashdam"
	SecretKey = "splashdamsecret"
	Region    = "us-east-1"
)

// ErrMissing: the component is not installed; `make components` installs it.
var ErrMissing = errors.New("component is not installed")

// Engine names a program.
type Engine string

// The engines.
const (
	MinIO     Engine = "minio"     // objects
	Ministack Engine = "ministack" // table and objects, in memory
	Dynalite  Engine = "dynalite"  // table, on disk
	Dynoxide  Engine = "dynoxide"  // table, on disk; fast
	HAProxy   Engine = "haproxy"   // load balancer before agents
)

// Config says what to start and where its data is.
type Config struct {
	Engine  Engine
	Address string // host:port on loopback; empty: a free port
	// Folder of its data; made if absent. Ministack keeps its data in memory and saves it here on Stop. Empty: the data ends with the
	// server. HAProxy has nothing to keep but its configuration.
	Folder string
	Agents []string // host:port each: the agents behind HAProxy, which asks GET /readyz of each
}

const (
	// startTimeout is for a busy machine: on an idle one MinIO and ministack need a second, the others less.
	startTimeout = 90 * time.Second
	// stopTimeout is how long a store may take to end by itself; they need less than a second.
	stopTimeout = 10 * time.Second
	// portsMax bounds how many free ports are tried: one can be taken by another process before the server listens on it.
	portsMax = 5
)

// Start starts the server and waits until it answers. The process ends with Stop or Kill, and with this process where the system can do
// that.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	installed, err := find(cfg.Engine)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Engine, err)
	}
	var temporary string
	switch {
	case cfg.Folder != "":
		if err := os.MkdirAll(cfg.Folder, 0o755); err != nil {
			return nil, fmt.Errorf("start %s: make its folder: %w", cfg.Engine, err)
		}
	case cfg.Engine == MinIO || cfg.Engine == HAProxy: // these can't do without
		if temporary, err = os.MkdirTemp("", "splashdam-"+string(cfg.Engine)+"-"); err != nil {
			return nil, fmt.Errorf("start %s: make its folder: %w", cfg.Engine, err)
		}
		cfg.Folder = temporary
	}
	s, err := startOnPort(ctx, cfg, installed, temporary)
	if err != nil {
		os.RemoveAll(temporary) // "" removes nothing
		return nil, err
	}
	return s, nil
}

// startOnPort starts the server on its address or on the first free port that nobody takes from under it.
func startOnPort(ctx context.Context, cfg Config, installed component, temporary string) (*Server, error) {
	for tried := 1; ; tried++ {
		address := cfg.Address
		if address == "" {
			free, err := freeAddress()
			if err != nil {
				return nil, fmt.Errorf("start %s: %w", cfg.Engine, err)
			}
			address = free
		} else if err := checkFree(address); err != nil {
			// Else what listens there could answer for the server that could not.
			return nil, fmt.Errorf("start %s on %s: %w", cfg.Engine, address, err)
		}
		program, err := installed.on(address, cfg)
		if err != nil {
			return nil, fmt.Errorf("start %s on %s: %w", cfg.Engine, address, err)
		}
		program.temporary = temporary
		s, err := Run(ctx, program)
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil || cfg.Address != "" || tried == portsMax || checkFree(address) == nil {
			return nil, err
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func checkFree(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}
