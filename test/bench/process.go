package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a broker that runs.
type process struct {
	cmd     *exec.Cmd
	address string // for clients
	pid     int
	ready   time.Duration // behind its start
}

// startProcess answers when the broker is ready.
func startProcess(binary string, args ...string) (*process, error) {
	cmd := exec.Command(binary, append(args, "-o", "json")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var hello struct {
		Address string
		PID     int
	}
	if err := json.NewDecoder(out).Decode(&hello); err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("start %s: %w", args[0], errors.Join(err, cmd.Wait()))
	}
	return &process{cmd, hello.Address, hello.PID, time.Since(started)}, nil
}

func (p *process) stop() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// cpu is the time that the process has used, from /proc in ticks of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
