package mem

import (
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// Op is a kind of request.
type Op uint8

// The kinds of requests.
const (
	OpPut Op = iota
	OpGet
	OpList
	OpDelete
	OpStat
	opCount
)

// String is the method's name in lower case.
func (o Op) String() string { return [opCount]string{"put", "get", "list", "delete", "stat"}[o] }

// Request is what a fault is decided by.
type Request struct {
	N      int // numbers the bucket's requests, from 1
	Op     Op
	Key    string           // the prefix, in a list
	Bytes  int              // of a put's body
	Extent objectlog.Extent // of a get
	After  string           // of a list
	Limit  int              // of a list
}

// Fault is what goes wrong with one request. Where a kind means nothing for an operation, the request fails before it reached the store.
type Fault uint8

// The faults.
const (
	None       Fault = iota
	FailBefore       // an error, and the store never saw the request
	FailAfter        // an error, though the store did it
	Hold             // an error now; the store does it when the test calls Release, and judges put-if-absent then
	Twice            // the store does it twice, and the second answer is heard
	NotFound         // a read answers ErrNotFound, this once
	Corrupt          // a get answers with one bit flipped, and no error
	Short            // a get answers the first half, and no error
	Throttle         // the store never saw the request, and says so as one that throttles
)

// String names the fault as a transcript does.
func (f Fault) String() string {
	return [...]string{"none", "fail before", "fail after", "hold", "twice", "not found", "corrupt", "short", "throttle"}[f]
}

// line is the request as a transcript shows it.
func (b *Bucket) line(r Request) string {
	key := r.Key
	if b.Rewrite != nil {
		key = b.Rewrite(key)
	}
	switch {
	case r.Op == OpPut:
		return fmt.Sprintf("put %s %d bytes", key, r.Bytes)
	case r.Op == OpGet && r.Extent != objectlog.Extent{}:
		return fmt.Sprintf("get %s [%d,%d)", key, r.Extent.Start, r.Extent.Next)
	case r.Op == OpList && r.After != "":
		after := r.After
		if b.Rewrite != nil {
			after = b.Rewrite(after)
		}
		return fmt.Sprintf("list %s after %s limit %d", key, after, r.Limit)
	case r.Op == OpList:
		return fmt.Sprintf("list %s limit %d", key, r.Limit)
	}
	return r.Op.String() + " " + key
}

// note writes a line with what came of the request, unless all went well. The caller holds mu.
func (b *Bucket) note(line string, fault Fault, err error) {
	if b.Transcript == nil {
		return
	}
	if fault != None {
		line += ", fault: " + fault.String()
	}
	switch {
	case err == nil:
	case errors.Is(err, objectlog.ErrNotFound):
		line += " -> not found"
	case errors.Is(err, objectlog.ErrExists):
		line += " -> exists"
	case errors.Is(err, objectlog.ErrRange):
		line += " -> range"
	default:
		line += " -> error"
	}
	fmt.Fprintln(b.Transcript, line)
}
