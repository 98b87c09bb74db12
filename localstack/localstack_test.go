package localstack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

func TestMain(m *testing.M) {
	if engine := os.Getenv(parentVariable); engine != "" {
		startAndWait(localstack.Engine(engine))
	}
	goleak.VerifyTestMain(localstacktest.Tests{M: m})
}

var engines = []localstack.Engine{localstack.MinIO, localstack.Ministack, localstack.Dynalite, localstack.Dynoxide, localstack.HAProxy}

// config is the least that an engine starts with.
func config(engine localstack.Engine) localstack.Config {
	cfg := localstack.Config{Engine: engine}
	if engine == localstack.HAProxy {
		cfg.Agents = []string{"127.0.0.1:1"} // where nobody listens
	}
	return cfg
}

func TestEveryEngineStartsAnswersAndLeavesNothing(t *testing.T) {
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			begin := time.Now()
			s := localstacktest.Start(t, config(engine))
			t.Logf("ready after %v", time.Since(begin).Round(time.Millisecond))
			if resp, err := http.Get(s.Endpoint); err != nil {
				t.Error(err)
			} else {
				resp.Body.Close()
			}
			if gone(s.PID) {
				t.Errorf("process %d is not there while it serves", s.PID)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if !gone(s.PID) {
				t.Errorf("process %d outlived Stop", s.PID)
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left in the folder for temporary files: %v, %v", left, err)
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// gone says whether no process has this id: every process here is waited for, so none stays as a zombie.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestDataSurvivesKill(t *testing.T) {
	for _, engine := range []localstack.Engine{localstack.MinIO, localstack.Dynalite, localstack.Dynoxide} {
		t.Run(string(engine), func(t *testing.T) {
			cfg := localstack.Config{Engine: engine, Folder: t.TempDir()}
			s := localstacktest.Start(t, cfg)
			write(t, engine, s.Endpoint)
			s.Kill()
			if !gone(s.PID) {
				t.Fatalf("process %d outlived Kill", s.PID)
			}
			cfg.Address = strings.TrimPrefix(s.Endpoint, "http://")
			again := localstacktest.Start(t, cfg)
			if again.Endpoint != s.Endpoint {
				t.Errorf("started again at %s, was %s", again.Endpoint, s.Endpoint)
			}
			read(t, engine, again.Endpoint)
		})
	}
}

func TestMinistackKeepsTableAndObjectsOverStop(t *testing.T) {
	cfg := localstack.Config{Engine: localstack.Ministack, Folder: t.TempDir()}
	s := localstacktest.Start(t, cfg)
	for _, kind := range []localstack.Engine{localstack.Ministack, localstack.MinIO} {
		write(t, kind, s.Endpoint)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again := localstacktest.Start(t, cfg)
	for _, kind := range []localstack.Engine{localstack.Ministack, localstack.MinIO} {
		read(t, kind, again.Endpoint)
	}
}

// write stores something that read finds: a bucket on MinIO, else an item of a table.
func write(t *testing.T, engine localstack.Engine, endpoint string) {
	t.Helper()
	if engine == localstack.MinIO {
		if status, body := s3(t, "PUT", endpoint+"/kept"); status != 200 {
			t.Fatalf("make a bucket: %d %s", status, body)
		}
		return
	}
	dynamo(t, endpoint, "CreateTable", `{"TableName":"kept","BillingMode":"PAY_PER_REQUEST","KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}],
		"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}]}`)
	for active := false; !active; {
		active = strings.Contains(dynamo(t, endpoint, "DescribeTable", `{"TableName":"kept"}`), `"ACTIVE"`)
	}
	dynamo(t, endpoint, "PutItem", `{"TableName":"kept","Item":{"pk":{"S":"k"},"v":{"S":"still here"}}}`)
}

func read(t *testing.T, engine localstack.Engine, endpoint string) {
	t.Helper()
	if engine == localstack.MinIO {
		if status, body := s3(t, "HEAD", endpoint+"/kept"); status != 200 {
			t.Errorf("the bucket after the restart: %d %s", status, body)
		}
		return
	}
	if got := dynamo(t, endpoint, "GetItem", `{"TableName":"kept","ConsistentRead":true,"Key":{"pk":{"S":"k"}}}`); !strings.Contains(got, "still here") {
		t.Errorf("the item after the restart: %s", got)
	}
}

func TestMissingComponentSaysWhatToDo(t *testing.T) {
	t.Setenv("LOCALSTACK_COMPONENTS", t.TempDir())
	for _, engine := range engines {
		_, err := localstack.Start(t.Context(), localstack.Config{Engine: engine})
		if !errors.Is(err, localstack.ErrMissing) {
			t.Errorf("%s: got %v, want ErrMissing", engine, err)
		} else if text := err.Error(); !strings.Contains(text, string(engine)) || !strings.Contains(text, "make components") {
			t.Errorf("%s: %q names not the program and what installs it", engine, text)
		}
	}
	for _, engine := range engines {
		if err := localstack.Installed(engine); !errors.Is(err, localstack.ErrMissing) {
			t.Errorf("installed %s: got %v, want ErrMissing", engine, err)
		}
	}
	if _, err := localstack.Start(t.Context(), localstack.Config{Engine: "mongo"}); err == nil || errors.Is(err, localstack.ErrMissing) {
		t.Errorf("an unknown engine: got %v", err)
	}
}

func TestStartRefusesAnAddressThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	localstacktest.Start(t, localstack.Config{Engine: localstack.Dynalite})
	s, err := localstack.Start(t.Context(), localstack.Config{Engine: localstack.Dynalite, Address: l.Addr().String()})
	if err == nil {
		s.Kill()
		t.Fatal("started on an address where something else listens")
	}
	if !strings.Contains(err.Error(), l.Addr().String()) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want the address and that it is in use", err)
	}
}

func TestProgramThatEndsTooEarlyShowsWhatItPrinted(t *testing.T) {
	never := func(context.Context, string) error { return errors.New("not yet") }
	_, err := localstack.Run(t.Context(), localstack.Program{Name: "grumbler", Path: "/bin/sh", Args: []string{"-c", "echo no disk >&2; exit 3"}, Ready: never})
	if err == nil || !strings.Contains(err.Error(), "no disk") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestProgramThatDoesNotStopIsKilled(t *testing.T) {
	listening := make(chan struct{})
	ready := func(ctx context.Context, _ string) error { // the trap is set once something is printed
		select {
		case <-listening:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s, err := localstack.Run(t.Context(), localstack.Program{
		Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo up; while :; do sleep 1; done"},
		Ready: ready, Output: closer(listening), StopTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want that it was killed", err)
	}
	if !gone(s.PID) {
		t.Errorf("process %d outlived Stop", s.PID)
	}
	if err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("wait: got %v", err)
	}
}

// closer is closed by the first write.
type closer chan struct{}

func (c closer) Write(p []byte) (int, error) {
	select {
	case <-c:
	default:
		close(c)
	}
	return len(p), nil
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := func(context.Context, string) error { cancel(); return errors.New("not yet") }
	_, err := localstack.Run(ctx, localstack.Program{Name: "slow", Path: "/bin/sh", Args: []string{"-c", "sleep 600"}, Ready: cancelled})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

// parentVariable makes the test binary a process that starts an engine and waits to be killed.
const parentVariable = "SPLASHDAM_LOCALSTACK_PARENT"

func startAndWait(engine localstack.Engine) {
	s, err := localstack.Start(context.Background(), config(engine))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.PID)
	select {}
}
