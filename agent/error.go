package agent

import (
	"errors"
	"strconv"
	"time"
)

// Fault is a cause that arises in the agent itself. With metadata.Reason and the errors of objectlog it is
// everything that an edge must map to codes.
type Fault uint8

// The faults.
const (
	Busy           Fault = 1 + iota // the buffer is full: retry after
	Draining                        // the agent is stopping: go to another
	Unavailable                     // store, table or leader away: nothing was written
	OutcomeUnknown                  // may or may not be written: retry with the same sequence or expected offset
	OutOfRange                      // offset outside the log; details log_start, high_watermark
	InvalidTopic                    // the name breaks the rules
	InvalidSetting                  // unknown setting or bad value
	InvalidRequest                  // anything else that the caller got wrong
	DataLost                        // a referenced object is missing or corrupt
)

// Error implements error with the fault's name; the words for people are in the *Error around it.
func (f Fault) Error() string {
	names := [...]string{Busy: "busy", Draining: "draining", Unavailable: "unavailable", OutcomeUnknown: "outcome unknown",
		OutOfRange: "offset out of range", InvalidTopic: "invalid topic name", InvalidSetting: "invalid setting",
		InvalidRequest: "invalid request", DataLost: "data lost"}
	if int(f) < len(names) && names[f] != "" {
		return names[f]
	}
	return "fault " + strconv.Itoa(int(f))
}

// Error says operation, object and cause, and carries what an edge shows beside the code.
type Error struct {
	Op         string            // e.g. "produce"
	Object     string            // e.g. "orders/3"
	Cause      error             // a Fault, a metadata.Reason, an error of objectlog, or one that wraps them
	Hint       string            // what to do; may be empty
	RetryAfter time.Duration     // 0: no advice
	Details    map[string]string // e.g. "actual", "log_start"
}

func (e *Error) Error() string {
	text := e.Op
	if e.Object != "" {
		text += " " + e.Object
	}
	return text + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// because joins a cause that edges know with what was met underneath.
func because(known, met error) error {
	if met == nil || errors.Is(met, known) {
		return known
	}
	return &caused{known: known, met: met}
}

// caused is one cause in the words of this package and, beside it, of the layer below.
type caused struct{ known, met error }

func (c *caused) Error() string   { return c.known.Error() + ": " + c.met.Error() }
func (c *caused) Unwrap() []error { return []error{c.known, c.met} }
