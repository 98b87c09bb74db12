//go:build !linux

package localstack

import (
	"os"
	"syscall"
)

// attributes asks for nothing: here processes that are not stopped outlive this one.
func attributes() *syscall.SysProcAttr { return nil }

func kill(p *os.Process) { p.Kill() }
