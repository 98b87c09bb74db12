package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
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

var groupBlock = regexp.MustCompile("(?s)<!-- run with groups -->\n```sh\n(.*?)```")

func TestGroupsOfTheReadmeGetEveryOrder(t *testing.T) {
	onEachStack(t, func(t *testing.T, s stack) {
		text, err := os.ReadFile(filepath.Join(repository, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		block := groupBlock.FindStringSubmatch(string(text))
		if block == nil {
			t.Fatal("README.md has no block with groups that is marked to be run")
		}
		out := runShell(t, s.start(t, ""), t.TempDir(), block[1])
		// By email twice, and by inventory all but one.
		n := 0
		for _, item := range []string{"boots", "ball", "scarf"} {
			n += strings.Count(out, item+"\n")
		}
		if n != 8 {
			t.Errorf("%d orders, want 8:\n%s", n, out)
		}
	})
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

var stackBlock = regexp.MustCompile("(?s)<!-- run on the stack -->\n```sh\n(.*?)```")

// TestReadmeMakesAClusterAndStartsAnAgent runs the block as it stands, but for the addresses and the names of bucket and table.
func TestReadmeMakesAClusterAndStartsAnAgent(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := stackBlock.FindStringSubmatch(string(text))
	if block == nil {
		t.Fatal("README.md has no block to be run on the stack")
	}
	name, address := newName(), freeAddress(t)
	script := strings.NewReplacer(
		"s3://events", "s3://"+name, "dynamodb://events", "dynamodb://"+name, "127.0.0.1:4520", address,
		"http://127.0.0.1:9000", objectsEndpoint(t), "http://127.0.0.1:4566", tableEndpoint(t),
	).Replace(block[1])
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that the agent, which bash started, can be stopped too
	cmd.Env = append(cleanEnvironment(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing is left of it, unless the test fails
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	b := &broker{t: t, address: address}
	b.awaitReadyz(startTimeout, true)
	b.mustRun(strings.NewReader("hello\n"), "produce", "greetings")
	if got := b.mustRun(nil, "consume", "greetings"); got != "hello\n" {
		t.Errorf("consumed %q", got)
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-done
	for _, want := range []string{"Made cluster ", "Splashdam agent is ready at http://" + address} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the block did not print %q:\n%s", want, out.String())
		}
	}
}
