package localstack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// components runs the installer on a folder, with stand-ins for the programs that install: name to shell text.
func components(t *testing.T, folder string, env []string, programs map[string]string, args ...string) (out string, code int) {
	t.Helper()
	bin := t.TempDir()
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("./components.sh", args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LOCALSTACK_COMPONENTS="+folder)
	cmd.Env = append(cmd.Env, env...)
	b, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestComponentThatCannotBeHadStopsNoOther(t *testing.T) {
	programs := map[string]string{
		"go":      "echo no network >&2; exit 1",
		"python3": `case $2 in pip) [ "$3" = --version ] || { exit 1; } ;; esac`,
		"node":    "",
		// npm install --prefix FOLDER ….
		"npm": `mkdir -p "$3/node_modules/.bin" && touch "$3/node_modules/.bin/dynalite"`,
	}
	for ci, want := range map[string]int{"CI=": 0, "CI=true": 1} {
		folder := t.TempDir()
		out, code := components(t, folder, []string{ci}, programs)
		if code != want {
			t.Errorf("with %s: exit code %d, want %d:\n%s", ci, code, want, out)
		}
		for _, line := range []string{"no network", "minio v0.0.0-20260212201848-7aac2a2c5b7c: NOT INSTALLED", "ministack 1.5.33: NOT INSTALLED", "dynalite 4.0.0: installed"} {
			if !strings.Contains(out, line) {
				t.Errorf("with %s: %q is missing in:\n%s", ci, line, out)
			}
		}
		if got := names(t, folder); !slices.Equal(got, []string{"dynalite-4.0.0"}) {
			t.Errorf("with %s: left in the folder: %v", ci, got)
		}
	}
}

func TestInstallationThatWasCutOffIsMadeAnew(t *testing.T) {
	folder := t.TempDir()
	for _, half := range []string{"dynalite-4.0.0/node_modules", "minio-20260212201848", "ministack-1.5.33/ministack"} {
		if err := os.MkdirAll(filepath.Join(folder, half), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	programs := map[string]string{
		"go":      `touch "$GOBIN/minio"`,
		"python3": `case $* in *--target*) while [ "$1" != --target ]; do shift; done; mkdir "$2/ministack" && touch "$2/ministack/__main__.py" ;; esac`,
		"node":    "",
		"npm":     `mkdir -p "$3/node_modules/.bin" && touch "$3/node_modules/.bin/dynalite"`,
	}
	if out, _ := components(t, folder, nil, programs, "status"); strings.Count(out, "NOT RUN: ") != 4 {
		t.Errorf("status of four that are not there:\n%s", out)
	}
	if out, code := components(t, folder, []string{"CI=true"}, programs); code != 0 || strings.Count(out, ": installed in ") != 3 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, _ := components(t, folder, nil, programs, "status"); strings.Count(out, ": there") != 3 || !strings.Contains(out, "dynoxide: not installed") {
		t.Errorf("status of three that are there:\n%s", out)
	}
	if out, code := components(t, folder, []string{"CI=true"}, programs); code != 0 || strings.Count(out, ": there") != 3 {
		t.Errorf("installed again? exit code %d:\n%s", code, out)
	}
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
