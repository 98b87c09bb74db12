// Package usage counts what stores charge for: the requests that went out, each attempt by itself, by kind and cause. objectlog/s3 and
// metadata/dynamo count into it where they send; whoever runs the process shows the counts and knows the prices.
package usage

import (
	"cmp"
	"slices"
	"sync"
)

// Cause is why a request was made.
type Cause string

// The causes.
const (
	Flush    Cause = "flush"    // a segment is stored
	Commit   Cause = "commit"   // an entry is appended to a shard log
	Lease    Cause = "lease"    // leadership is claimed or renewed
	Snapshot Cause = "snapshot" // the state of a shard is stored, read or removed
	Read     Cause = "read"     // segments and log entries are read
	Cluster  Cause = "cluster"  // everything else: creation, agents' items, counters, self-tests
)

// Line is what was counted under one kind and cause since the start.
type Line struct {
	Kind  string // in the words of the store's interface, lower case with underscores: put, get, put_item
	Cause Cause
	// Requests that were sent, whatever came of them.
	Requests uint64
	// Units that the store charges: for a table its write or read units (a write unit per started KiB, a read unit per started 4 KiB);
	// for a bucket one per request.
	Units uint64
	Bytes uint64 // of bodies and values sent or answered
}

// Counter counts requests to one store. A nil Counter counts nothing. Its methods may run together.
type Counter struct {
	mu    sync.Mutex
	lines map[key]*Line
}

type key struct {
	kind  string
	cause Cause
}

// Add counts one request that was sent, or is about to be.
func (c *Counter) Add(kind string, cause Cause, units, bytes int) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == nil {
		c.lines = make(map[key]*Line)
	}
	line := c.lines[key{kind, cause}]
	if line == nil {
		line = &Line{Kind: kind, Cause: cause}
		c.lines[key{kind, cause}] = line
	}
	line.Requests++
	line.Units += uint64(units)
	line.Bytes += uint64(bytes)
}

// Lines answers what was counted so far, sorted by kind and cause.
func (c *Counter) Lines() []Line {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := make([]Line, 0, len(c.lines))
	for _, line := range c.lines {
		lines = append(lines, *line)
	}
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Cause, b.Cause)) })
	return lines
}
