package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// testTime bounds one mutant's test: a rule whose absence shows as a hang is caught too.
const testTime = 5 * time.Minute

// try answers a verdict and whether the mutant was caught.
func try(root string, m mutant) (string, bool) {
	dir, err := os.MkdirTemp("", "splashdam-mutant")
	if err != nil {
		return err.Error(), false
	}
	defer os.RemoveAll(dir)
	overlay, err := overlayFor(root, dir, m)
	if err != nil {
		return err.Error(), false
	}
	args := strings.Fields(m.Test)
	// By the environment, so that a test which builds the broker builds the broken one.
	broken := "GOFLAGS=-overlay=" + overlay
	if out, err := run(root, broken, append([]string{"test", "-count=1", "-run", "^$"}, packages(args)...)); err != nil {
		return "does not compile: " + lastLine(out), false
	}
	out, err := run(root, broken, append([]string{"test", "-count=1"}, args...))
	switch {
	case err == nil:
		return "SURVIVED", false
	case bytes.Contains(out, []byte("no tests to run")):
		return "NO TEST", false
	}
	return "caught: " + finding(out), true
}

// findings are what failing tests say, the most telling first.
var findings = []*regexp.Regexp{
	regexp.MustCompile(`seed \d+: [a-zA-Z0-9-]+`),
	regexp.MustCompile(`--- FAIL: \w+`),
	regexp.MustCompile(`panic: [^\n]{1,60}`),
}

func finding(out []byte) string {
	for _, r := range findings {
		if f := r.Find(out); f != nil {
			return string(f)
		}
	}
	return lastLine(out)
}

// overlayFor writes the broken files and the compiler's overlay that puts them in place of the real ones.
func overlayFor(root, dir string, m mutant) (string, error) {
	broken := map[string][]byte{}
	for _, e := range m.Edits {
		old, put, file := []byte(e[0]), []byte(e[1]), filepath.Join(root, m.File)
		if len(e) > 2 {
			file = filepath.Join(root, e[2])
		}
		if broken[file] == nil {
			src, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			broken[file] = src
		}
		if n := bytes.Count(broken[file], old); n != 1 {
			return "", fmt.Errorf("STALE: %q stands %d times in %s", old, n, file)
		}
		broken[file] = bytes.Replace(broken[file], old, put, 1)
	}
	replace := map[string]string{}
	for file, src := range broken {
		replace[file] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[file], src, 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

func packages(args []string) []string {
	var p []string
	for _, a := range args {
		if strings.HasPrefix(a, "./") {
			p = append(p, a)
		}
	}
	return p
}

func run(root, env string, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env)
	return cmd.CombinedOutput()
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
