package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runBlock finds the shell blocks of the README that are marked to be run.
var runBlock = regexp.MustCompile("(?s)<!-- run -->\n```sh\n(.*?)```")

func TestQuickStartOfTheReadmeWorksInAnEmptyFolder(t *testing.T) {
	onEachStack(t, quickStartWorks)
}

func quickStartWorks(t *testing.T, s stack) {
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := runBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 2 {
		t.Fatalf("README.md has %d blocks marked to be run, want those with curl and with the command line", len(blocks))
	}
	folder := t.TempDir()
	b := s.start(t, "")
	for _, block := range blocks {
		out := runShell(t, b, folder, block[1])
		for _, scorer := range []string{"Messi", "Kane", "Mbappé"} {
			if !strings.Contains(out, scorer) {
				t.Errorf("the block\n%s\nprinted no %s:\n%s", block[1], scorer, out)
			}
		}
		if strings.Contains(out, `"error"`) || strings.Contains(out, `"code"`) {
			t.Errorf("the block\n%s\nprinted an error:\n%s", block[1], out)
		}
	}
	// Three matches on three partitions, as the README says.
	_, answer, err := b.call("TopicService/GetTopic", `{"name":"matches"}`)
	if err != nil {
		t.Fatal(err)
	}
	partitions, _ := answer["partitions"].([]any)
	for _, p := range partitions {
		if next := p.(map[string]any)["highWatermark"]; next != "1" {
			t.Errorf("partition %v: high watermark %v, want one record on each of three partitions", p, next)
		}
	}
	if len(partitions) != 3 {
		t.Errorf("topic matches: %d partitions in %v, want 3", len(partitions), answer)
	}
}

// runShell executes a block as a user would who has the binary in the PATH; only the port is ours.
func runShell(t *testing.T, b *broker, folder, block string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(block, "127.0.0.1:4510", b.address))
	cmd.Dir = folder
	cmd.Env = append(cleanEnvironment(), "SPLASHDAM_SERVER="+b.address, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the block\n%s\nfailed: %v:\n%s", block, err, out)
	}
	return string(out)
}
