// Package history records what clients of a broker did, were told and read, and checks it for what must not be: records lost, doubled,
// moved, skipped or read though they failed. Anomalies bear the names of Jepsen's Kafka workload, so that outsiders can compare.
// Linearizable does the same for short histories of one partition in which every operation has a beginning and an end.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
)

// Value is the content of a record that occurs once in a history: records of one producer are numbered in the order in which it sends them.
type Value struct{ Producer, Sequence int }

func (v Value) String() string { return fmt.Sprintf("%d-%d", v.Producer, v.Sequence) }

// ParseValue reads what String wrote, and nothing else.
func ParseValue(text string) (v Value, err error) {
	if _, err = fmt.Sscanf(text, "%d-%d", &v.Producer, &v.Sequence); err == nil && v.String() != text {
		err = fmt.Errorf("parse %q: something behind it", text)
	}
	return v, err
}

// Kind says what an event is.
type Kind string

// The kinds of events.
const (
	Sent    Kind = "send"    // a producer is about to send a value; values of one Call travel together
	Acked   Kind = "ack"     // it was promised an offset; NoOffset: that of a duplicate which the log has forgotten
	Failed  Kind = "fail"    // it was told that the value is not in the log
	Unknown Kind = "unknown" // it was told that nobody knows, or gave up waiting
	Loose   Kind = "loose"   // the producer Who gives up exactly-once: what is unknown may be there twice
	Started Kind = "start"   // a reader begins a partition at an offset above 0
	Read    Kind = "read"    // it got a record; records of one Call came together
	Stuck   Kind = "stuck"   // it cannot go on
	Ended   Kind = "end"     // it got as far as the log went; Due is the event before which that was asked
	Trimmed Kind = "trim"    // somebody is about to remove what lies below an offset
	Noted   Kind = "note"    // something happened to the cluster
	Accused Kind = "anomaly" // whoever saw it calls it so: Who is the name

	Begun      Kind = "begin"      // a member of a group was handed its first record of a partition; Due is the event before which that became its own
	Processed  Kind = "process"    // a member has processed a record
	Committing Kind = "committing" // a member is about to commit an offset
	Committed  Kind = "commit"     // a group was promised to go on at an offset
	Taken      Kind = "take"       // a consumer of a queue got a record; Due is the event before which it asked
	Settling   Kind = "settling"   // it is about to acknowledge it; Text is the decision
	Settled    Kind = "settled"    // it was told that this is done
	Dead       Kind = "dead"       // a dead letter was found of the record at a place
	Drained    Kind = "drained"    // a group was said to have nothing left
)

// Event is one thing that happened to a client.
type Event struct {
	At        time.Duration       `json:"at"` // since the history began
	Kind      Kind                `json:"kind"`
	Who       string              `json:"who,omitempty"`
	Call      int                 `json:"call,omitempty"`
	Value     string              `json:"value,omitempty"` // as it was read, or of Value
	Partition objectlog.Partition `json:"partition"`
	Offset    objectlog.Offset    `json:"offset"`
	Due       int                 `json:"due,omitempty"`
	Text      string              `json:"text,omitempty"`

	Group      string        `json:"group,omitempty"`
	Generation int64         `json:"generation,omitempty"`
	Deliveries int           `json:"deliveries,omitempty"`
	Lock       time.Duration `json:"lock,omitempty"` // how long a record is a consumer's at least, from when it asked
}

func (e Event) String() string {
	text := fmt.Sprintf("%10.3fs %-8s", e.At.Seconds(), e.Kind)
	if e.Kind.isWork() {
		return text + " " + e.describeWork()
	}
	switch e.Kind {
	case Sent:
		return fmt.Sprintf("%s %s to partition %d, call %d", text, e.Value, e.Partition, e.Call)
	case Acked:
		return fmt.Sprintf("%s %s at %v", text, e.Value, e.place())
	case Failed, Unknown:
		return fmt.Sprintf("%s %s", text, e.Value)
	case Read:
		return fmt.Sprintf("%s %.40q at %v by %s, poll %d", text, e.Value, e.place(), e.Who, e.Call)
	case Started, Trimmed:
		return fmt.Sprintf("%s at %v by %s", text, e.place(), e.Who)
	}
	return fmt.Sprintf("%s %s %s", text, e.Who, e.Text)
}

func (e Event) place() place { return place{e.Partition, e.Offset} }

// place is where a value is.
type place struct {
	partition objectlog.Partition
	offset    objectlog.Offset
}

func (p place) String() string { return fmt.Sprintf("%d/%d", p.partition, p.offset) }

// History is what the clients of one topic note. Its methods may run together.
type History struct {
	began time.Time

	mu     sync.Mutex // all below
	events []Event
	live   *checker // of all events so far
	calls  int
}

// New begins a history.
func New() *History { return &History{began: time.Now(), live: newChecker()} }

func (h *History) note(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(e)
}

// add notes an event; h.mu is held.
func (h *History) add(e Event) {
	e.At = time.Since(h.began)
	h.events = append(h.events, e)
	h.live.step(len(h.events)-1, e)
}

// Send notes what a producer is about to send to a partition in one call.
func (h *History) Send(p objectlog.Partition, values ...Value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	for _, v := range values {
		h.add(Event{Kind: Sent, Call: h.calls, Value: v.String(), Partition: p, Offset: objectlog.NoOffset})
	}
}

// Ack notes what a producer was promised (I1, I3); the partition is the one that it sent to.
func (h *History) Ack(v Value, o objectlog.Offset) { h.answer(Acked, v, o) }

// Fail notes what a producer was told is not in the log (I4).
func (h *History) Fail(v Value) { h.answer(Failed, v, objectlog.NoOffset) }

// Doubt notes what may or may not be in the log.
func (h *History) Doubt(v Value) { h.answer(Unknown, v, objectlog.NoOffset) }

func (h *History) answer(k Kind, v Value, o objectlog.Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(Event{Kind: k, Value: v.String(), Partition: h.live.sent[v].partition, Offset: o})
}

// Loosen notes that a producer is not idempotent.
func (h *History) Loosen(producer int) { h.note(Event{Kind: Loose, Who: fmt.Sprint(producer)}) }

// Trim notes that somebody is about to remove what lies below an offset.
func (h *History) Trim(who string, p objectlog.Partition, below objectlog.Offset) {
	h.note(Event{Kind: Trimmed, Who: who, Partition: p, Offset: below})
}

// Note notes what happens to the cluster; it is no evidence.
func (h *History) Note(format string, args ...any) {
	h.note(Event{Kind: Noted, Text: fmt.Sprintf(format, args...)})
}

// Accuse notes an anomaly that its witness needs no history to see.
func (h *History) Accuse(name, format string, args ...any) {
	h.note(Event{Kind: Accused, Who: name, Text: fmt.Sprintf(format, args...)})
}

// Due is how far the history has come: whoever begins to read then must find what was acknowledged, or read by another, until then.
func (h *History) Due() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events)
}

// Events answers everything so far.
func (h *History) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Event(nil), h.events...)
}

// Tally counts records by their outcome; Worked: how often one was processed, or handed out by a queue.
type Tally struct{ Acked, Unknown, Failed, Read, Worked int }

// Tally counts what was answered so far.
func (h *History) Tally() Tally {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live.tally
}

// Recovered answers how long after a moment the last of so many partitions had a record acknowledged that was sent after it: until then
// something was still down. ok is false while that has not happened.
func (h *History) Recovered(since time.Time, partitions int) (took time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from, seen := since.Sub(h.began), map[objectlog.Partition]bool{}
	for _, a := range h.live.acks {
		if a.sent >= from && !seen[a.partition] {
			seen[a.partition] = true
			took = max(took, a.acked-from)
		}
	}
	return took, len(seen) == partitions
}

// WriteTo writes the events as lines of JSON.
func (h *History) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	encoder := json.NewEncoder(counted)
	for _, e := range h.Events() {
		if err := encoder.Encode(e); err != nil {
			return counted.n, fmt.Errorf("write history: %w", err)
		}
	}
	return counted.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// ReadEvents reads what WriteTo wrote.
func ReadEvents(r io.Reader) ([]Event, error) {
	var events []Event
	decoder := json.NewDecoder(bufio.NewReader(r))
	for {
		var e Event
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF):
			return events, nil
		case err != nil:
			return nil, fmt.Errorf("read history behind event %d: %w", len(events), err)
		}
		events = append(events, e)
	}
}

// Reader is one consumer. It reads partitions from their beginning unless Start says otherwise.
type Reader struct {
	h    *History
	name string
}

// Reader begins one; no two have the same name.
func (h *History) Reader(name string) *Reader { return &Reader{h, name} }

// Start notes that the reader begins a partition at an offset.
func (r *Reader) Start(p objectlog.Partition, o objectlog.Offset) {
	r.h.note(Event{Kind: Started, Who: r.name, Partition: p, Offset: o})
}

// Record is what a reader got.
type Record struct {
	Partition objectlog.Partition
	Offset    objectlog.Offset
	Value     string
}

// Read notes what one poll brought (I2, I3, I4).
func (r *Reader) Read(records ...Record) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.h.calls++
	for _, one := range records {
		r.h.add(Event{Kind: Read, Who: r.name, Call: r.h.calls, Value: one.Value, Partition: one.Partition, Offset: one.Offset})
	}
}

// Polled is Read of what a consumer's poll brought.
func (r *Reader) Polled(records []client.Record) {
	all := make([]Record, len(records))
	for i, one := range records {
		all[i] = Record{Partition: one.Partition, Offset: one.Offset, Value: string(one.Value)}
	}
	if len(all) > 0 {
		r.Read(all...)
	}
}

// Stuck notes that the reader cannot go on.
func (r *Reader) Stuck(err error) { r.h.note(Event{Kind: Stuck, Who: r.name, Text: err.Error()}) }

// Next is where the reader goes on in a partition.
func (r *Reader) Next(p objectlog.Partition) objectlog.Offset {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return r.h.live.reading(r.name).next[p]
}

// Behind says how many records that were acknowledged or that another reader got this one has not got.
func (r *Reader) Behind() int {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return len(r.h.live.missing(r.name, len(r.h.events)))
}

// End notes that the reader got as far as the log went when that much was due (I1).
func (r *Reader) End(due int) { r.h.note(Event{Kind: Ended, Who: r.name, Due: due}) }
