package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runFor executes a command line in a made-up environment.
func runFor(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string, env *environment) {
	t.Helper()
	var out, errs bytes.Buffer
	env = &environment{in: strings.NewReader(""), out: &out, err: &errs, lookup: func() []string { return environ }}
	code = run(context.Background(), env, args)
	return code, out.String(), errs.String(), env
}

func TestSettingsComeFromFlagThenEnvironmentThenFileThenDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "splashdam.yaml")
	if err := os.WriteFile(file, []byte("timeout: 1s\nbuffer-max: 16MiB\nauto-create: false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"SPLASHDAM_TIMEOUT=2s", "HOME=/root"}
	code, _, stderr, env := runFor(t, environ, "version", "--config", file)
	if code != exitDone {
		t.Fatalf("version with a config file: exit %d: %s", code, stderr)
	}
	c := env.config
	if c.Timeout != 2*time.Second || c.BufferBytesMax != 16<<20 || c.AutoCreate || c.SegmentBytesMax != 8<<20 {
		t.Errorf("got timeout %s, buffer-max %s, auto-create %t, segment-max %s; want 2s of the environment, 16MiB and false of the file, 8MiB by default",
			c.Timeout, c.BufferBytesMax, c.AutoCreate, c.SegmentBytesMax)
	}
}

func TestWrongSettingStopsWithItsNameAndTheAcceptedForm(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		want    []string
	}{
		{"unit missing", []string{"SPLASHDAM_BUFFER_MAX=1000"}, nil, []string{"SPLASHDAM_BUFFER_MAX", `"1000"`, "such as 8MiB"}},
		{"decimal unit", []string{"SPLASHDAM_BUFFER_MAX=8MB"}, nil, []string{"SPLASHDAM_BUFFER_MAX", "KiB, MiB"}},
		{"duration without unit", []string{"SPLASHDAM_TIMEOUT=30"}, nil, []string{"SPLASHDAM_TIMEOUT", "500ms, 30s"}},
		{"unknown variable", []string{"SPLASHDAM_DATADIR=x"}, nil, []string{"SPLASHDAM_DATADIR: unknown", "known settings: bucket"}},
		{"unknown in file", nil, []string{"--config", file("a.yaml", "datadir: x\n")}, []string{"setting datadir in the file: unknown"}},
		{"nested in file", nil, []string{"--config", file("b.yaml", "data:\n  dir: x\n")}, []string{"setting data: want one plain value"}},
		{"not YAML", nil, []string{"--config", file("c.yaml", "data: [\n")}, []string{"read config", "c.yaml"}},
		{"file absent", nil, []string{"--config", filepath.Join(dir, "none.yaml")}, []string{"none.yaml", "no such file"}},
		{"out of range", []string{"SPLASHDAM_TIMEOUT=1h"}, nil, []string{"setting timeout: 1h0m0s: want 100ms to 10m0s"}},
		{"metrics for everyone", []string{"SPLASHDAM_METRICS_LISTEN=0.0.0.0:9"}, nil, []string{"metrics-listen", "loopback"}},
		{"one certificate of three", []string{"SPLASHDAM_PEER_TLS_CERT=x.pem"}, nil, []string{"peer-tls-cert, peer-tls-key, peer-tls-ca", "only peer-tls-cert", "all three or none"}},
		{"two files of three", []string{"SPLASHDAM_PEER_TLS_KEY=x", "SPLASHDAM_PEER_TLS_CA=y"}, nil, []string{"only peer-tls-key and peer-tls-ca"}},
		{"peer port missing", []string{"SPLASHDAM_PEER_LISTEN=127.0.0.1"}, nil, []string{"peer-listen", "host:port, such as 127.0.0.1:4512"}},
		{"zone too long", []string{"SPLASHDAM_ZONE=" + strings.Repeat("z", 65)}, nil, []string{"setting zone", "at most 64 characters"}},
		{"groups forgotten at once", []string{"SPLASHDAM_GROUP_RETENTION=1s"}, nil, []string{"setting group-retention: 1s: want 1m0s to"}},
		{"delay too long", []string{"SPLASHDAM_STOP_DELAY=10m"}, nil, []string{"setting stop-delay: 10m0s: want 0s to 5m0s"}},
		{"two problems", []string{"SPLASHDAM_LISTEN=x", "SPLASHDAM_LOG_LEVEL=loud"}, nil, []string{"listen", "host:port", "log-level", "debug, info"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr, _ := runFor(t, c.environ, append([]string{"version"}, c.args...)...)
			if code != exitUsage || stdout != "" {
				t.Errorf("got exit %d and output %q, want exit %d and none", code, stdout, exitUsage)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "splashdam: ") {
				t.Errorf("want one line that begins with the program's name, got %q", stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("message %q does not say %q", stderr, want)
				}
			}
		})
	}
}

func TestByteSizeReadsWhatItPrints(t *testing.T) {
	for _, b := range []byteSize{0, 1, 1023, 1 << 10, 3 << 10, 8 << 20, 64 << 30, 1 << 40, 1<<20 + 1} {
		if got, err := parseByteSize(b.String()); err != nil || got != b {
			t.Errorf("parse %q: got %d, %v, want %d", b, got, err, b)
		}
	}
	for _, s := range []string{"", "1", "MiB", "-1B", "1.5GiB", "9999999999TiB", "1 mib"} {
		if got, err := parseByteSize(s); err == nil {
			t.Errorf("parse %q: got %d, want an error", s, got)
		}
	}
}
