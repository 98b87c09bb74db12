package localstack

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"testing"
	"time"
)

var write = flag.Bool("write", false, "write haproxy.cfg anew")

// composed is the balancer of compose.yaml.
var composed = balancer{Listen: ":4510", Nobody: "127.0.0.1:4509", Agents: []string{"agent-a:4510", "agent-b:4510", "agent-c:4510"}, Linux: true}

func TestComposeFileBalancesAsEveryOtherBalancer(t *testing.T) {
	want, err := composed.configuration()
	if err != nil {
		t.Fatal(err)
	}
	if *write {
		if err := os.WriteFile("haproxy.cfg", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("haproxy.cfg"); err != nil || string(got) != want {
		t.Errorf("haproxy.cfg is not what the template makes, %v; write it anew: go test ./localstack -run Compose -write", err)
	}
}

func TestBalancerOutwaitsLongPolls(t *testing.T) {
	text, err := composed.configuration()
	if err != nil {
		t.Fatal(err)
	}
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
	c, err := find(HAProxy)
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("NOT RUN: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := balancer{Listen: "127.0.0.1:4510", Nobody: "127.0.0.1:4509", Agents: []string{"127.0.0.1:4521", "127.0.0.1:4522"}, Linux: runtime.GOOS == "linux"}.configuration()
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/haproxy.cfg"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// -dW: warnings are errors.
	if out, err := exec.Command(c.path, "-c", "-dW", "-f", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
