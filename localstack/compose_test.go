package localstack_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestComposeFileIsValidAndOpensNothingToOthers(t *testing.T) {
	b, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	ports := regexp.MustCompile(`(?m)^ +ports: (.*)$`).FindAllStringSubmatch(text, -1)
	if len(ports) != 3 || strings.Count(text, "ports:") != len(ports) {
		t.Errorf("%d lines with ports, want one for MinIO, LocalStack and the balancer", len(ports))
	}
	for _, p := range ports {
		if !regexp.MustCompile(`^\["127\.0\.0\.1:\d+:\d+"\]$`).MatchString(p[1]) {
			t.Errorf("ports %s: want one on 127.0.0.1", p[1])
		}
	}
	for _, image := range regexp.MustCompile(`(?m)^ +image: (\S+)$`).FindAllStringSubmatch(text, -1) {
		if _, tag, ok := strings.Cut(image[1], ":"); !ok || tag == "latest" {
			t.Errorf("image %s has no version", image[1])
		}
	}
	for _, zone := range []string{"a", "b", "c"} {
		for _, want := range []string{"\n  agent-" + zone + ":", "SPLASHDAM_ADVERTISE_PEER: agent-" + zone + ":4512\n", "SPLASHDAM_ZONE: " + zone + "\n", "\n      agent-" + zone + ": {condition: service_healthy}"} {
			if strings.Count(text, want) != 1 {
				t.Errorf("want %q once", want)
			}
		}
	}
	if exec.Command("docker", "compose", "version").Run() != nil {
		t.Log("NOT RUN: docker compose config: there is no docker compose")
		return
	}
	if out, err := exec.Command("docker", "compose", "-f", "compose.yaml", "config", "--quiet").CombinedOutput(); err != nil {
		t.Errorf("docker compose config: %v: %s", err, out)
	}
}
