package localstack

import (
	"os"
	"syscall"
)

// attributes put the process into a group of its own, so that Ctrl-C in a terminal reaches only whoever stops things in order, and end it
// with the thread that starts it: by SIGTERM, on which ministack still saves what it has.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// kill ends the process and those that it has started.
func kill(p *os.Process) {
	if syscall.Kill(-p.Pid, syscall.SIGKILL) != nil {
		p.Kill()
	}
}
