package mem

import (
	"fmt"

	"github.com/splashdam/splashdam/metadata"
)

// Op is a kind of request.
type Op uint8

// The kinds of requests.
const (
	OpGet Op = iota
	OpQuery
	OpPut
	OpDelete
	OpCreateAll
	opCount
)

// String is the method's name in lower case.
func (o Op) String() string {
	return [opCount]string{"get", "query", "put", "delete", "create all"}[o]
}

// Request is what a fault is decided by.
type Request struct {
	N     int // numbers the table's requests, from 1
	Op    Op
	Key   metadata.Key // in a query, SK is what the answer begins after; in a CreateAll, the first item's
	Rev   metadata.Rev // that a put writes
	If    metadata.If  // of a put or delete
	Bytes int          // of the values that a put or a CreateAll writes
	Items int          // of a CreateAll
	Limit int          // of a query
}

// Fault is what goes wrong with one request. Where a kind means nothing for an operation, the request fails before it reached the table.
type Fault uint8

// The faults. The answer to a write is Unknown in all of them but Twice and Blind.
const (
	None       Fault = iota
	FailBefore       // the table never saw the request
	FailAfter        // the table did it, and the reply was lost
	Hold             // the table does it when the test calls Release, and judges the condition then
	Twice            // the table does it twice, and the second answer is heard: a put is refused by its own item
	Throttle         // the table never saw the request, and says so as an engine that throttles
	Blind            // done if the condition holds; if not, the engine does not show the item and the read for it fails: Unknown
	Partly           // a CreateAll writes the first half
)

// String names the fault as a transcript does.
func (f Fault) String() string {
	return [...]string{"none", "fail before", "fail after", "hold", "twice", "throttle", "blind", "partly"}[f]
}

// subject is operation and object, for errors.
func (r Request) subject() string { return fmt.Sprintf("%s %s/%s", r.Op, r.Key.PK, r.Key.SK) }

// line is the request as a transcript shows it.
func (t *Table) line(r Request) string {
	rewrite := t.Rewrite
	if rewrite == nil {
		rewrite = func(key string) string { return key }
	}
	key := rewrite(r.Key.PK + " " + r.Key.SK)
	cond := "absent"
	if r.If.Exists {
		cond = fmt.Sprintf("rev %d", r.If.Rev)
	}
	switch r.Op {
	case OpQuery:
		return fmt.Sprintf("query %s after %q limit %d", rewrite(r.Key.PK), r.Key.SK, r.Limit)
	case OpPut:
		return fmt.Sprintf("put %s rev %d %d bytes if %s", key, r.Rev, r.Bytes, cond)
	case OpDelete:
		return fmt.Sprintf("delete %s if %s", key, cond)
	case OpCreateAll:
		return fmt.Sprintf("create all from %s %d items %d bytes", key, r.Items, r.Bytes)
	}
	return r.Op.String() + " " + key
}

func described(r metadata.PutResult) string {
	switch {
	case r.Outcome == metadata.Applied:
		return "applied"
	case r.Outcome == metadata.Unknown:
		return "unknown"
	case r.Current == nil:
		return "refused by absence"
	}
	return fmt.Sprintf("refused by rev %d", r.Current.Rev)
}

// note writes a line with what came of the request. The caller holds mu.
func (t *Table) note(line string, fault Fault, answer string) {
	if t.Transcript == nil {
		return
	}
	if fault != None {
		line += ", fault: " + fault.String()
	}
	fmt.Fprintf(t.Transcript, "%s -> %s\n", line, answer)
}
