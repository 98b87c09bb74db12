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
		"npm":      `mkdir -p "$3/node_modules/.bin" && touch "$3/node_modules/.bin/dynalite"`,
		"haproxy":  "echo HA-Proxy version 2.3.9",                                 // too old
		"promtool": "echo 'promtool, version 2.24.1+ds (branch: debian/sid)' >&2", // likewise
		"apt-get":  "echo no mirror >&2; exit 100",
		"dpkg-deb": "",
	}
	for ci, want := range map[string]int{"CI=": 0, "CI=true": 1} {
		folder := t.TempDir()
		out, code := components(t, folder, []string{ci}, programs)
		if code != want {
			t.Errorf("with %s: exit code %d, want %d:\n%s", ci, code, want, out)
		}
		for _, line := range []string{"no network", "minio v0.0.0-20260212201848-7aac2a2c5b7c: NOT INSTALLED", "ministack 1.5.33: NOT INSTALLED", "dynalite 4.0.0: installed",
			"no mirror", "haproxy 2.4-or-later: NOT INSTALLED", "promtool 2.31-or-later: NOT INSTALLED"} {
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
		"go":       `touch "$GOBIN/minio"`,
		"python3":  `case $* in *--target*) while [ "$1" != --target ]; do shift; done; mkdir "$2/ministack" && touch "$2/ministack/__main__.py" ;; esac`,
		"node":     "",
		"npm":      `mkdir -p "$3/node_modules/.bin" && touch "$3/node_modules/.bin/dynalite"`,
		"haproxy":  "echo HAProxy version 2.10.1-dev 2030/01/01",
		"promtool": "echo 'promtool, version 3.0.1 (branch: HEAD)'",
	}
	if out, _ := components(t, folder, nil, programs, "status"); strings.Count(out, "NOT RUN: ") != 6 {
		t.Errorf("status of six that are not there:\n%s", out)
	}
	if out, code := components(t, folder, []string{"CI=true"}, programs); code != 0 || strings.Count(out, ": installed in ") != 5 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, _ := components(t, folder, nil, programs, "status"); strings.Count(out, ": there") != 5 || !strings.Contains(out, "dynoxide: not installed") {
		t.Errorf("status of five that are there:\n%s", out)
	}
	if out, code := components(t, folder, []string{"CI=true"}, programs); code != 0 || strings.Count(out, ": there") != 5 {
		t.Errorf("installed again? exit code %d:\n%s", code, out)
	}
}

func TestHAProxyIsUnpackedWithWhatTheMachineLacks(t *testing.T) {
	folder := t.TempDir()
	programs := map[string]string{
		"haproxy": "exit 1",
		"go":      "exit 1", "python3": "exit 1", "node": "exit 1", "npm": "exit 1",
		// The lists know the package only once they are fetched.
		"apt-get": `case $* in
update*) for o; do case $o in Dir::State::Lists=*) touch "${o#*=}/fetched" ;; esac; done ;;
download*) for o; do case $o in libc6) exit 1 ;; liblua | haproxy) touch "$o.deb" ;; esac; done ;;
install*) ls "$LOCALSTACK_COMPONENTS"/.installing-haproxy.*/apt/lists/fetched >/dev/null || exit 100
	printf 'Inst libc6 [2.36] (2.37)\nInst liblua (5.3)\nInst haproxy (2.6)\nConf haproxy (2.6)\n' ;;
esac`,
		"dpkg-deb": `mkdir -p "$3/usr/sbin" "$3/usr/lib/x-linux-gnu"
case $2 in */haproxy.deb) printf '#!/bin/sh\necho "HAProxy version 2.6.1 with $LD_LIBRARY_PATH"\n' >"$3/usr/sbin/haproxy" && chmod 755 "$3/usr/sbin/haproxy" ;; esac`,
	}
	out, _ := components(t, folder, []string{"LD_LIBRARY_PATH="}, programs)
	if !strings.Contains(out, "haproxy 2.4-or-later: installed") {
		t.Fatalf("not installed:\n%s", out)
	}
	version, err := exec.Command(filepath.Join(folder, "haproxy-2", "haproxy"), "-v").CombinedOutput()
	if want := "HAProxy version 2.6.1 with " + filepath.Join(folder, "haproxy-2", "usr/lib/x-linux-gnu"); err != nil || !strings.Contains(string(version), want) {
		t.Errorf("got %q, %v; want %q", version, err, want)
	}
	if got := names(t, filepath.Join(folder, "haproxy-2")); !slices.Equal(got, []string{"haproxy", "usr"}) {
		t.Errorf("in its folder: %v", got)
	}
}

func TestPromtoolIsTakenOutOfThePackageOfPrometheus(t *testing.T) {
	folder := t.TempDir()
	programs := map[string]string{
		"haproxy": "exit 1", "promtool": "exit 1",
		"go": "exit 1", "python3": "exit 1", "node": "exit 1", "npm": "exit 1",
		"apt-get": `case $* in download*prometheus) touch prometheus.deb ;; *) exit 100 ;; esac`,
		"dpkg-deb": `mkdir -p "$3/usr/bin" "$3/etc" && touch "$3/usr/bin/prometheus"
printf '#!/bin/sh\necho "promtool, version 2.42.0+ds"\n' >"$3/usr/bin/promtool" && chmod 755 "$3/usr/bin/promtool"`,
	}
	out, _ := components(t, folder, nil, programs)
	if !strings.Contains(out, "promtool 2.31-or-later: installed") {
		t.Fatalf("not installed:\n%s", out)
	}
	if got := names(t, filepath.Join(folder, "promtool-2")); !slices.Equal(got, []string{"promtool"}) {
		t.Errorf("in its folder: %v", got)
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
