// Command mutants breaks one rule of the product at a time and checks that a test notices: a safety property whose
// test passes when the rule is gone is not tested. The source tree is not touched; the compiler is given the broken
// file as an overlay.
//
//	go run ./test/mutants          all of them
//	go run ./test/mutants H1 H10   those whose hole or name begins so
//
// It exits 1 when a mutant survives or no longer applies.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// mutant is one broken rule: New stands where Old stood, exactly once in File.
type mutant struct {
	Hole string // of FAULTS.md's table, or the rule's name
	Rule string // what is broken, in words
	File string
	Old  string
	New  string
	Test string // arguments of go test: the narrowest test that must fail
}

// testTime bounds one mutant's test: a rule whose absence shows as a hang is caught too.
const testTime = 5 * time.Minute

func main() {
	list := flag.Bool("list", false, "print the mutants and stop")
	flag.Parse()
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	bad := 0
	for _, m := range mutants {
		if !wanted(m, flag.Args()) {
			continue
		}
		if *list {
			fmt.Printf("%-5s %s (%s)\n", m.Hole, m.Rule, m.File)
			continue
		}
		start := time.Now()
		verdict, ok := try(root, m)
		if !ok {
			bad++
		}
		fmt.Printf("%-5s %-62s %-10s %5.1f s  go test %s\n", m.Hole, m.Rule, verdict, time.Since(start).Seconds(), m.Test)
	}
	if bad > 0 {
		fmt.Printf("%d of the mutants not caught\n", bad)
		os.Exit(1)
	}
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("find the module: run this inside the source tree")
	}
	return filepath.Dir(mod), nil
}

func wanted(m mutant, names []string) bool {
	for _, n := range names {
		if m.Hole == n || strings.Contains(m.Rule, n) {
			return true
		}
	}
	return len(names) == 0
}

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
	if out, err := run(root, append([]string{"test", "-overlay", overlay, "-count=1", "-run", "^$"}, packages(args)...)); err != nil {
		return "does not compile: " + lastLine(out), false
	}
	out, err := run(root, append([]string{"test", "-overlay", overlay, "-count=1"}, args...))
	switch {
	case err == nil:
		return "SURVIVED", false
	case bytes.Contains(out, []byte("no tests to run")):
		return "NO TEST", false
	}
	return "caught", true
}

// overlayFor writes the broken file and the compiler's overlay that puts it in place of the real one.
func overlayFor(root, dir string, m mutant) (string, error) {
	real := filepath.Join(root, m.File)
	src, err := os.ReadFile(real)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(src, []byte(m.Old)); n != 1 {
		return "", fmt.Errorf("STALE: its text stands %d times in %s", n, m.File)
	}
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, bytes.Replace(src, []byte(m.Old), []byte(m.New), 1), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {real: broken}})
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

func run(root string, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
