// Command mutants breaks one rule of the product at a time and checks that a test notices: a safety property whose
// test passes when the rule is gone is not tested. The source tree is not touched; the compiler is given the broken
// file as an overlay.
//
//	go run ./test/mutants          all of them
//	go run ./test/mutants H1 H10   those whose hole or name begins so
//	go run ./test/mutants -one-in 3   a third of them, another one each day
//
// It exits 1 when a mutant survives or no longer applies.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

func main() {
	list := flag.Bool("list", false, "print the mutants and stop")
	oneIn := flag.Int("one-in", 1, "only one in so many, others each day: all of them take longer than continuous integration has")
	flag.Parse()
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	bad, sound := 0, map[string]bool{}
	for i, m := range mutants {
		if !wanted(m, flag.Args()) || (i+time.Now().YearDay())%max(1, *oneIn) != 0 {
			continue
		}
		if *list {
			fmt.Printf("%-4s %s (%s)\n", m.Hole, m.Rule, m.File)
			continue
		}
		if !sound[m.Test] { // a test that fails anyway catches nothing
			if out, err := run(root, "", append([]string{"test", "-count=1"}, strings.Fields(m.Test)...)); err != nil {
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
