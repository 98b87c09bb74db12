// Package localstack starts an object store and a table server as processes of this machine, on free loopback ports, for tests and for
// the local stack. What it starts stops with it.
package localstack

import (
	"context"
	"errors"
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
)

// Config says what to start and where its data is.
type Config struct {
	Engine  Engine
	Address string // host:port on loopback; empty: a free port
	Folder  string // of its data; made if absent. Ministack keeps its data in memory and saves it here on Stop
}

// Server is one running process.
type Server struct {
	Endpoint string // http://host:port
	PID      int
}

// Start starts the server and waits until it answers. The process ends with Stop or Kill, and with this process where the system can do that.
func Start(ctx context.Context, cfg Config) (*Server, error) { panic("localstack: to be written") }

// Stop ends the server gracefully and answers when it is gone.
func (s *Server) Stop() error { panic("localstack: to be written") }

// Kill is kill -9; it answers when the server is gone.
func (s *Server) Kill() { panic("localstack: to be written") }
