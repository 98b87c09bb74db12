package localstack_test

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

var writeFlag = flag.Bool("write", false, "write haproxy.cfg anew")

// composed is the configuration of the balancer of compose.yaml.
func composed(t *testing.T) string {
	t.Helper()
	text, err := localstack.BalancerConfiguration(true, ":4510", "127.0.0.1:4509", "agent-a:4510", "agent-b:4510", "agent-c:4510")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestComposeFileBalancesAsEveryOtherBalancer(t *testing.T) {
	want := composed(t)
	if *writeFlag {
		if err := os.WriteFile("haproxy.cfg", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("haproxy.cfg"); err != nil || string(got) != want {
		t.Errorf("haproxy.cfg is not what the template makes, %v; write it anew: go test ./localstack -run Compose -write", err)
	}
}

func TestBalancerOutwaitsLongPolls(t *testing.T) {
	text := composed(t)
	for _, side := range []string{"client", "server", "tunnel"} {
		found := regexp.MustCompile(`(?m)^defaults$[\s\S]*^  timeout ` + side + ` (\w+)$[\s\S]*^frontend clients$`).FindStringSubmatch(text)
		if found == nil {
			t.Errorf("there is no timeout %s", side)
			continue
		}
		// Long polls last 30 s, and their answers may wait for a client that long again.
		if d, err := time.ParseDuration(found[1]); err != nil || d < 65*time.Second {
			t.Errorf("timeout %s %s, want more than a minute (%v)", side, found[1], err)
		}
	}
}

func TestHAProxyFindsNoFaultInItsConfiguration(t *testing.T) {
	localstacktest.Installed(t, localstack.HAProxy)
	program, err := localstack.ProgramOf(localstack.HAProxy)
	if err != nil {
		t.Fatal(err)
	}
	text, err := localstack.BalancerConfiguration(runtime.GOOS == "linux", "127.0.0.1:4510", "127.0.0.1:4509", "127.0.0.1:4521", "127.0.0.1:4522")
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/haproxy.cfg"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// -dW: warnings are errors.
	if out, err := exec.Command(program, "-c", "-dW", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
