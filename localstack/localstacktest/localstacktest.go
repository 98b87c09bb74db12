// Package localstacktest gives tests the servers of package localstack: one of each engine for all tests of a package, or one of their own
// that they may kill. SPLASHDAM_TEST_S3 and SPLASHDAM_TEST_DYNAMODB name servers to use instead.
//
// Where a component is not installed the test skips and says so; with CI set it fails instead, dynoxide excepted, which is always optional.
package localstacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/localstack"
)

// Tests are the tests of a package whose shared servers stop after the last of them:
//
//	func TestMain(m *testing.M) { os.Exit(localstacktest.Tests{M: m}.Run()) }
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(localstacktest.Tests{M: m}) }
type Tests struct{ M *testing.M }

// shared are the servers of this test binary.
var shared struct {
	mu      sync.Mutex // held while one starts: others may want the same
	running bool       // Run is there to stop them
	servers map[localstack.Engine]outcome
}

type outcome struct {
	server *localstack.Server
	err    error
}

// Run runs the tests and stops what Shared has started. Before, it puts the credentials of the local servers into the environment, where
// every client looks for them; with a server named from outside, the environment has the credentials of that one.
func (t Tests) Run() int {
	if os.Getenv(s3Variable) == "" && os.Getenv(dynamoVariable) == "" {
		os.Setenv("AWS_ACCESS_KEY_ID", localstack.AccessKey)
		os.Setenv("AWS_SECRET_ACCESS_KEY", localstack.SecretKey)
		os.Setenv("AWS_REGION", localstack.Region)
		os.Unsetenv("AWS_SESSION_TOKEN")
		os.Unsetenv("AWS_PROFILE")
	}
	shared.mu.Lock()
	shared.running, shared.servers = true, map[localstack.Engine]outcome{}
	shared.mu.Unlock()
	code := t.M.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, o := range shared.servers {
		if o.server == nil {
			continue
		}
		if err := o.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	shared.running = false
	return code
}

const (
	s3Variable     = "SPLASHDAM_TEST_S3"
	dynamoVariable = "SPLASHDAM_TEST_DYNAMODB"
)

// Shared gives the one server of this engine that all tests of the package use; nobody stops or kills it. MinIO is the server that
// SPLASHDAM_TEST_S3 names, if it is set; likewise Ministack and SPLASHDAM_TEST_DYNAMODB, and tests on other tables then skip.
func Shared(t testing.TB, engine localstack.Engine) *localstack.Server {
	t.Helper()
	if s := external(t, engine); s != nil {
		return s
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.running {
		t.Fatal("shared servers want a TestMain that runs localstacktest.Tests, to stop them")
	}
	o, started := shared.servers[engine]
	if !started {
		// The server outlives this test, so it is not started under the test's context.
		o.server, o.err = localstack.Start(context.Background(), localstack.Config{Engine: engine})
		shared.servers[engine] = o
	}
	judge(t, engine, o.err)
	return o.server
}

func external(t testing.TB, engine localstack.Engine) *localstack.Server {
	t.Helper()
	variable := dynamoVariable
	if engine == localstack.MinIO {
		variable = s3Variable
	}
	endpoint := os.Getenv(variable)
	switch {
	case endpoint == "":
		return nil
	case engine == localstack.MinIO || engine == localstack.Ministack:
		return &localstack.Server{Endpoint: endpoint}
	default:
		t.Skipf("NOT RUN on %s: %s is set, and only that server is tested", engine, variable)
		return nil
	}
}

// Start starts a server for one test, which may stop, kill and start it again; it stops with the test.
func Start(t testing.TB, cfg localstack.Config) *localstack.Server {
	t.Helper()
	s, err := localstack.Start(t.Context(), cfg)
	judge(t, cfg.Engine, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Installed skips the test, or fails it, if the engine is not installed.
func Installed(t testing.TB, engine localstack.Engine) {
	t.Helper()
	judge(t, engine, localstack.Installed(engine))
}

// judge ends the test if its server did not start.
func judge(t testing.TB, engine localstack.Engine, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, localstack.ErrMissing) && (os.Getenv("CI") == "" || engine == localstack.Dynoxide):
		t.Skipf("NOT RUN: %v", err)
	default:
		t.Fatal(err)
	}
}
