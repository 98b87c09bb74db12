package localstack

import "syscall"

// softStopSignal: there is neither this signal nor HAProxy.
const softStopSignal = syscall.SIGTERM
