package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

// stack is what a broker runs on: dev on a folder, or an agent on an object store and a table server.
type stack struct {
	verb     string   // of splashdam
	stores   []string // arguments that say where the data is
	settings []string // other arguments
}

func onFolder(folder string) stack { return stack{verb: "dev", stores: []string{"--data", folder}} }

// bucketName is of the bucket that tests share; each has a prefix of its own.
const bucketName = "splashdam-e2e"

// cluster counts those of this run. The servers may have outlived another run.
var clusters atomic.Int64

// newName is of a prefix or a table that nobody else has.
func newName() string { return fmt.Sprintf("e2e-%x-%d", time.Now().UnixMicro(), clusters.Add(1)) }

// onServers is an agent on an object store and a table server, in a new prefix and a new table.
func onServers(objects, table string) stack {
	name := newName()
	return onAddresses(bucketAddress(objects, bucketName+"/"+name), tableAddress(table, name))
}

func onAddresses(bucket, table string) stack {
	return stack{
		verb:   "agent",
		stores: []string{"--bucket", bucket, "--table", table},
		// What is tested here is not the economy of requests. The peer address stays with the stack, so that an agent started again knows
		// itself; a second one beside it needs another.
		settings: []string{"--flush-rate", "200", "--stop-delay", "0s", "--peer-listen", freePort()},
	}
}

func bucketAddress(endpoint, name string) string {
	return fmt.Sprintf("s3://%s?endpoint=%s", name, endpoint)
}

func tableAddress(endpoint, name string) string {
	return fmt.Sprintf("dynamodb://%s?endpoint=%s&region=%s", name, endpoint, localstack.Region)
}

// with is the stack with other stores: in its addresses one text is replaced by another.
func (s stack) with(from, to string) stack {
	s.stores = slices.Clone(s.stores)
	for i := range s.stores {
		s.stores[i] = strings.ReplaceAll(s.stores[i], from, to)
	}
	return s
}

// init makes the cluster. Its rings are small: making the usual ones takes a table server on two cores seconds.
func (s stack) init(t *testing.T) stack {
	t.Helper()
	r := runBinary(t, nil, s.initCommand()...)
	if r.code != 0 {
		t.Fatalf("splashdam cluster init: exit %d: %s", r.code, r.stderr)
	}
	return s
}

func (s stack) initCommand() []string {
	return slices.Concat([]string{"cluster", "init", "--create-bucket", "--shards", "2", "--slots", "256"}, s.stores)
}

// command is the broker's, for one that is expected to refuse.
func (s stack) command() []string {
	return slices.Concat([]string{s.verb, "--listen", "127.0.0.1:0"}, s.stores, s.settings)
}

// realStack is an agent on the usual servers, with its cluster.
func realStack(t *testing.T) stack {
	t.Helper()
	objects, table := localstacktest.Shared(t, localstack.MinIO), localstacktest.Shared(t, localstack.Ministack)
	return onServers(objects.Endpoint, table.Endpoint).init(t)
}

// onEachStack runs a test on the embedded stores and on real ones.
func onEachStack(t *testing.T, test func(t *testing.T, s stack)) {
	t.Run("dev", func(t *testing.T) { test(t, onFolder(filepath.Join(t.TempDir(), "data"))) })
	t.Run("minio+ministack", func(t *testing.T) { test(t, realStack(t)) })
}

// server is a store that a test kills and starts again, on its address and folder.
type server struct {
	t   *testing.T
	cfg localstack.Config
	*localstack.Server
}

func startServer(t *testing.T, engine localstack.Engine) *server {
	t.Helper()
	s := &server{t: t, cfg: localstack.Config{Engine: engine, Folder: t.TempDir()}}
	s.Server = localstacktest.Start(t, s.cfg)
	s.cfg.Address = strings.TrimPrefix(s.Endpoint, "http://")
	return s
}

// crash is kill -9 and a new start.
func (s *server) crash() {
	s.t.Helper()
	s.Kill()
	s.Server = localstacktest.Start(s.t, s.cfg)
}
