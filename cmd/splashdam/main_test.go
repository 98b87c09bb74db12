package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWrongCommandLineIsOneLineAndExitCodeTwo(t *testing.T) {
	for _, args := range [][]string{{"frob"}, {"version", "x"}, {"version", "--x"}, {"version", "-o", "xml"}} {
		code, stdout, stderr, _ := runFor(t, nil, args...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "splashdam: ") {
			t.Errorf("splashdam %s: exit %d, output %q, error %q; want exit %d and one error line",
				strings.Join(args, " "), code, stdout, stderr, exitUsage)
		}
	}
}

func TestVersionPrintsTextAndJSON(t *testing.T) {
	code, stdout, stderr, _ := runFor(t, nil, "version")
	if code != exitDone || !strings.HasPrefix(stdout, "splashdam ") {
		t.Errorf("version: exit %d, output %q, error %q", code, stdout, stderr)
	}
	_, stdout, _, _ = runFor(t, nil, "version", "-o", "json")
	var v versionInfo
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.Version == "" || v.Go == "" {
		t.Errorf("version -o json: got %q (%v), want version and go", stdout, err)
	}
}

func TestCompletionIsWrittenForEveryShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, stderr, _ := runFor(t, nil, "completion", shell); code != exitDone || len(stdout) < 500 {
			t.Errorf("completion %s: exit %d, %d bytes, error %q", shell, code, len(stdout), stderr)
		}
	}
}

func TestMissingBrokerIsToldAtOnceWithWhatToDo(t *testing.T) {
	for _, args := range [][]string{{"topic", "create", "x"}, {"offsets", "x"}, {"consume", "x"}, {"produce", "x"}, {"bench", "produce"}, {"cost"},
		{"group", "list"}, {"lag"}, {"queue", "pull", "x", "--group", "g"}, {"queue", "consume", "x", "--group", "g"}, {"queue", "describe", "x", "--group", "g"},
		{"queue", "ack", "x", "--group", "g", "--accept", "AQID"}, {"dlq", "count"}, {"dlq", "list", "x"}, {"dlq", "redrive", "x", "--all"}, {"dlq", "discard", "x", "0/1"}, {"consume", "x", "--group", "g"}} {
		code, stdout, stderr, _ := runFor(t, nil, append(args, "--server", "127.0.0.1:1")...)
		want := `splashdam: connect to 127.0.0.1:1: connection refused (start a broker with "splashdam dev", or name another with --server)` + "\n"
		if code != exitFailed || stdout != "" || stderr != want {
			t.Errorf("splashdam %s: exit %d, output %q, error %q", strings.Join(args, " "), code, stdout, stderr)
		}
	}
}
