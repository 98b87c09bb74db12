package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
)

// executeHelp is what --exec means, for the help of the verbs that have it.
const executeHelp = `the shell (sh -c) runs CMD once for each record. The value is on its standard input; its environment has
SPLASHDAM_TOPIC, SPLASHDAM_PARTITION, SPLASHDAM_OFFSET, SPLASHDAM_KEY, SPLASHDAM_DELIVERIES (1 the first time), and SPLASHDAM_HEADER_NAME
for each header. What is not text is under the same name with _BASE64 behind it; what goes beyond 64 KiB is left out.
`

const (
	exitReject    = 65  // EX_DATAERR of sysexits.h: the input is wrong
	exitNoExecute = 126 // of the shell: the command can't be executed
	exitNoCommand = 127 // of the shell: there is no such command

	// variableBytesMax bounds key and headers in the environment of a process, which systems bound.
	variableBytesMax = 64 << 10
	// outputDelay is how long a process that is told to end may take, and its output may be open behind its end.
	outputDelay = 3 * time.Second
)

// executor runs a process for each record.
type executor struct {
	command  string
	environ  []string
	out, err *lineWriter
}

// newExecutor makes one whose processes' output goes to out.
func (env *environment) newExecutor(command string, out io.Writer) (*executor, error) {
	if _, err := exec.LookPath("sh"); err != nil {
		return nil, &terminalError{op: "run", object: "sh", cause: errors.New("there is no such program"), hint: "--exec needs a shell"}
	}
	mu := new(sync.Mutex)
	return &executor{command: command, environ: env.lookup(), out: &lineWriter{mu: mu, to: out}, err: &lineWriter{mu: mu, to: env.err}}, nil
}

// execution is what came of the process for one record.
type execution struct {
	err    error // nil: it exited with 0; else it has the last line of its stderr
	reject bool  // it exited with 65
	notRun bool  // it could not be begun, or had nothing to run: another record would fare alike
	took   time.Duration
}

// verdict is the word for it; what is not accepted is released or rejected where there is a queue.
func (e execution) verdict() string {
	switch {
	case e.err == nil:
		return "accepted"
	case e.reject:
		return "rejected"
	}
	return "released"
}

// answer is what a handler says of it.
func (e execution) answer() error {
	if e.reject {
		return client.Rejected(e.err)
	}
	return e.err
}

// run runs the command for one record.
func (x *executor) run(ctx context.Context, r *client.Record, deliveries int32) (e execution) {
	cmd := exec.CommandContext(ctx, "sh", "-c", x.command)
	cmd.Env = append(x.environ[:len(x.environ):len(x.environ)], variables(r, deliveries)...)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(r.Value), outputDelay
	out, errs := x.out.process(), x.err.process()
	cmd.Stdout, cmd.Stderr = out, errs
	separate(cmd)
	begin := time.Now()
	err := cmd.Run()
	if ctx.Err() != nil && cmd.ProcessState != nil {
		endGroup(cmd)
	}
	out.end()
	errs.end()
	e.took = time.Since(begin)
	if cmd.ProcessState == nil {
		e.err, e.notRun = err, ctx.Err() == nil
		return e
	}
	// What else err may say, such as that somebody else still has the output, is no judgement on the record.
	code := cmd.ProcessState.ExitCode()
	if code == 0 {
		return e
	}
	if e.err = errors.New(cmd.ProcessState.String()); errs.last != "" {
		e.err = errors.New(errs.last)
	}
	e.reject, e.notRun = code == exitReject, code == exitNoExecute || code == exitNoCommand
	return e
}

// broken is the error that ends the consuming when a command has nothing to run.
func (x *executor) broken(e execution) error {
	return &terminalError{op: "run", object: x.command, cause: e.err, hint: "the record comes again"}
}

// variables are what a process is told of its record.
func variables(r *client.Record, deliveries int32) []string {
	all := []string{
		"SPLASHDAM_TOPIC=" + r.Topic, fmt.Sprintf("SPLASHDAM_PARTITION=%d", r.Partition), fmt.Sprintf("SPLASHDAM_OFFSET=%d", r.Offset),
		fmt.Sprintf("SPLASHDAM_DELIVERIES=%d", deliveries),
	}
	room := variableBytesMax
	add := func(name string, value []byte) {
		text, raw := objectlog.Readable(value)
		switch {
		case text != nil && !strings.Contains(*text, "\x00"):
			name += "=" + *text
		case text != nil || raw != nil:
			name += "_BASE64=" + base64.StdEncoding.EncodeToString(value)
		default:
			return // a null
		}
		if room -= len(name); room >= 0 {
			all = append(all, name)
		}
	}
	add("SPLASHDAM_KEY", r.Key)
	for _, h := range r.Headers {
		add("SPLASHDAM_HEADER_"+variableName(h.Key), h.Value)
	}
	return all
}

// variableName is a header's name as shells can read it: trace-id is TRACE_ID.
func variableName(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, name)
}

// isRecordVariable says whether variables made it, so that a splashdam that a process runs takes it for no setting.
func isRecordVariable(name string) bool {
	switch strings.TrimSuffix(name, "_BASE64") {
	case "SPLASHDAM_TOPIC", "SPLASHDAM_PARTITION", "SPLASHDAM_OFFSET", "SPLASHDAM_DELIVERIES", "SPLASHDAM_KEY":
		return true
	}
	return strings.HasPrefix(name, "SPLASHDAM_HEADER_")
}

// lineWriter passes on what several processes write, a line at a time.
type lineWriter struct {
	mu *sync.Mutex // of the terminal that to may be
	to io.Writer
}

// lineBytesKept bounds the part of a line that is held until it is complete.
const lineBytesKept = 64 << 10

// saidBytesKept bounds what is told of a process's last line: it is shown, and goes to the dead letters, which keep 256 bytes.
const saidBytesKept = 1 << 10

// processOutput is what one process writes.
type processOutput struct {
	w       *lineWriter
	partial []byte
	last    string // line that is not blank
}

func (w *lineWriter) process() *processOutput { return &processOutput{w: w} }

func (p *processOutput) Write(b []byte) (int, error) {
	p.partial = append(p.partial, b...)
	whole := bytes.LastIndexByte(p.partial, '\n') + 1
	if whole == 0 && len(p.partial) > lineBytesKept {
		whole = len(p.partial)
	}
	if whole > 0 {
		p.pass(p.partial[:whole])
		p.partial = append(p.partial[:0], p.partial[whole:]...)
	}
	return len(b), nil // whoever does not read must not make the process fail
}

// end passes on a last line without an end.
func (p *processOutput) end() {
	if len(p.partial) > 0 {
		p.pass(append(p.partial, '\n'))
	}
}

func (p *processOutput) pass(lines []byte) {
	if text := bytes.TrimSpace(lines); len(text) > 0 {
		last := bytes.TrimSpace(text[bytes.LastIndexByte(text, '\n')+1:])
		p.last = strings.ToValidUTF8(string(last[:min(len(last), saidBytesKept)]), "\uFFFD")
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.to.Write(lines)
}
