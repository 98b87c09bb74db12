package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

func TestProcessIsToldWhatItsRecordIs(t *testing.T) {
	r := &client.Record{Topic: "jobs", Partition: 3, Offset: 17, Key: []byte("ann\nbo"), Headers: []client.Header{
		{Key: "trace-id", Value: []byte("a=b")}, {Key: "raw", Value: []byte{0xff}}, {Key: "nul", Value: []byte("a\x00b")}, {Key: "none"},
		{Key: "large", Value: bytes.Repeat([]byte("x"), variableBytesMax)}, {Key: "Last", Value: []byte{}},
	}}
	want := []string{"SPLASHDAM_TOPIC=jobs", "SPLASHDAM_PARTITION=3", "SPLASHDAM_OFFSET=17", "SPLASHDAM_DELIVERIES=2", "SPLASHDAM_KEY=ann\nbo",
		"SPLASHDAM_HEADER_TRACE_ID=a=b", "SPLASHDAM_HEADER_RAW_BASE64=/w==", "SPLASHDAM_HEADER_NUL_BASE64=YQBi"}
	if got := variables(r, 2); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r.Headers = slices.Delete(r.Headers, 4, 5)
	all := variables(r, 2)
	if got := all[len(all)-1]; got != "SPLASHDAM_HEADER_LAST=" {
		t.Errorf("an empty value: got %q", got)
	}
	// A splashdam that the process runs takes none of it for a setting.
	if code, _, stderr, _ := runFor(t, append(all, "SPLASHDAM_KEY_BASE64=/w=="), "version"); code != exitDone {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr, _ := runFor(t, []string{"SPLASHDAM_TOPICS=x"}, "version"); code != exitUsage {
		t.Errorf("an unknown setting: exit %d: %s", code, stderr)
	}
}

// executes runs a command for one record.
func executes(t *testing.T, command, value string) (e execution, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{err: &errs, lookup: func() []string { return []string{"PATH=/usr/bin:/bin", "HOME=/"} }}
	x, err := env.newExecutor(command, &out)
	if err != nil {
		t.Fatal(err)
	}
	e = x.run(t.Context(), &client.Record{Topic: "jobs", Value: []byte(value)}, 1)
	return e, out.String(), errs.String()
}

func TestErrorOfAProcessIsTheLastThingThatItSaid(t *testing.T) {
	for command, want := range map[string]string{
		"exit 3":                                        "exit status 3",
		"echo one >&2; echo two >&2; exit 3":            "two",
		"printf 'one\ntwo' >&2; exit 3":                 "two",
		"printf ' two \n\n  \n' >&2; exit 3":            "two",
		"printf a >&2; sleep 0.01; printf b >&2; false": "ab",
		"kill -9 $$":                                    "signal: killed",
		"echo never mind >&2":                           "",
		"cat > /dev/null; exit 0":                       "",
		"printf %05000d 7 >&2; exit 3":                  strings.Repeat("0", saidBytesKept),
	} {
		e, _, stderr := executes(t, command, "x")
		got := ""
		if e.err != nil {
			got = e.err.Error()
		}
		if got != want || e.notRun || stderr != "" && !strings.HasSuffix(stderr, "\n") {
			t.Errorf("%s: got %q, want %q; stderr %q", command, got, want, stderr)
		}
	}
}

func TestProcessThatReadsNothingIsNoFailure(t *testing.T) {
	if e, stdout, _ := executes(t, "echo fine", strings.Repeat("x", 1<<20)); e.err != nil || stdout != "fine\n" {
		t.Errorf("got %v, %q", e.err, stdout)
	}
	if e, stdout, _ := executes(t, "cat", strings.Repeat("x", 1<<20)); e.err != nil || len(stdout) != 1<<20+1 {
		t.Errorf("a line without end: got %v, %d bytes", e.err, len(stdout))
	}
}

func TestProcessIsToldToEndWithItsContextAndAllThatItBegan(t *testing.T) {
	for command, want := range map[string]string{
		"echo begun; sleep 30; true": "begun\n",
		// One that ends well all the same has processed its record.
		`trap 'echo ended; exit 0' TERM; echo begun; while :; do sleep 0.05; done`: "begun\nended\n",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &lines{wrote: cancel}
		env := &environment{err: new(bytes.Buffer), lookup: func() []string { return []string{"PATH=/usr/bin:/bin"} }}
		x, err := env.newExecutor(command, out)
		if err != nil {
			t.Fatal(err)
		}
		e := x.run(ctx, &client.Record{Topic: "jobs"}, 1)
		if fine := e.err == nil; fine != strings.Contains(want, "ended") || e.notRun || e.took > 20*time.Second || out.String() != want {
			t.Errorf("%s: got %+v, printed %q", command, e, out)
		}
	}
}

func TestWhatAProcessBeganEndsWithItAlsoIfItDoesNotWantTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{wrote: cancel}
	env := &environment{err: new(bytes.Buffer), lookup: func() []string { return []string{"PATH=/usr/bin:/bin"} }}
	x, err := env.newExecutor(`sh -c 'trap "" TERM; echo $$; while :; do sleep 0.05; done'; true`, out)
	if err != nil {
		t.Fatal(err)
	}
	x.run(ctx, &client.Record{Topic: "jobs"}, 1)
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	// It is killed when run returns, and gone when whoever has inherited it has looked; until then it is a zombie.
	for limit := time.Now().Add(10 * time.Second); ; {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("process %d is still there: %s", pid, stat)
		}
	}
}

func TestShellThatHasNothingToRunSaysNothingOfTheRecord(t *testing.T) {
	for command, want := range map[string]bool{"./nothing": true, "/dev/null": true, "exit 125": false, "exit 65": false} {
		if e, _, _ := executes(t, command, "x"); e.notRun != want || e.err == nil {
			t.Errorf("%s: got %+v", command, e)
		}
	}
}

func TestLinesOfSeveralProcessesDoNotMix(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{mu: new(sync.Mutex), to: &out}
	one, two := w.process(), w.process()
	for _, part := range []struct {
		p    *processOutput
		text string
	}{{one, "on"}, {two, "two\nsec"}, {one, "e\n"}, {two, "ond\n"}, {one, "last"}} {
		part.p.Write([]byte(part.text))
	}
	one.end()
	two.end()
	if got := out.String(); got != "two\none\nsecond\nlast\n" {
		t.Errorf("got %q", got)
	}
}
