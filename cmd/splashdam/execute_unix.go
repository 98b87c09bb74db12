//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// separate puts a process into a group of its own: Ctrl-C at the terminal stops what runs it, and leaves it the time to end. When its context ends, it and all that it
// has begun are told to.
func separate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// endGroup ends what is left of a process that was told to end, and of all that it has begun: it had its time. What began a group of its own goes on.
func endGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
