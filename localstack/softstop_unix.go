//go:build unix

package localstack

import "syscall"

// softStopSignal is what HAProxy stops gracefully on.
const softStopSignal = syscall.SIGUSR1
