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
	"regexp"
	"strings"
	"time"
)

// mutant is one broken rule.
type mutant struct {
	Hole  string // of the table of known holes, or the name of a promise
	Rule  string // what is broken, in words
	File  string
	Edits []edit
	Test  string // arguments of go test: a test that must fail
}

// edit is the text that stands exactly once in the file, the text to put there, and the file if it is not the mutant's.
type edit []string

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
	bad, sound := 0, map[string]bool{}
	for _, m := range mutants {
		if !wanted(m, flag.Args()) {
			continue
		}
		if *list {
			fmt.Printf("%-4s %s (%s)\n", m.Hole, m.Rule, m.File)
			continue
		}
		if !sound[m.Test] { // a test that fails anyway catches nothing
			if out, err := run(root, append([]string{"test", "-count=1"}, strings.Fields(m.Test)...)); err != nil {
				fmt.Printf("go test %s fails without any mutant:\n%s", m.Test, out)
				os.Exit(2)
			}
			sound[m.Test] = true
		}
		start := time.Now()
		verdict, ok := try(root, m)
		if !ok {
			bad++
		}
		fmt.Printf("%-4s %-72s %5.1f s  %s\n", m.Hole, m.Rule, time.Since(start).Seconds(), verdict)
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
