package faults

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
)

// place is where a value is.
type place struct {
	partition client.Partition
	offset    client.Offset
}

// lane is one producer's part of one partition: what it acknowledges is in the order of its sequence.
type lane struct {
	producer  int
	partition client.Partition
}

// value is the content of a record that occurs once in a history.
type value struct{ producer, sequence int }

func (v value) String() string { return fmt.Sprintf("%d-%d", v.producer, v.sequence) }

func parseValue(text string) (v value, err error) {
	if _, err = fmt.Sscanf(text, "%d-%d", &v.producer, &v.sequence); err == nil && v.String() != text {
		err = fmt.Errorf("parse %q: something behind it", text)
	}
	return v, err
}

// sent is what is known of one value.
type sent struct {
	at        time.Time
	partition client.Partition
	answered  bool
}

// history is what clients were told and what they read. Anomalies bear the names of Jepsen's Kafka workload, or corrupt for a value that
// nobody sent and unreadable for a reader that cannot go on. Everything is compared as it comes, so that a wrong answer is found even if
// later ones are right.
type history struct {
	mu        sync.Mutex // all below
	sent      map[value]sent
	values    map[place]value // acknowledged or read
	where     map[value]place // the same the other way round
	acked     map[value]place
	unknown   map[value]bool
	failed    map[value]bool
	newest    map[lane]value // with the highest offset acknowledged
	anomalies map[string][]string
	acks      []ack // in the order in which they came
}

// ack is when a record was sent and acknowledged.
type ack struct {
	sent, acked time.Time
	partition   client.Partition
}

func newHistory() *history {
	return &history{sent: map[value]sent{}, values: map[place]value{}, where: map[value]place{}, acked: map[value]place{}, unknown: map[value]bool{},
		failed: map[value]bool{}, newest: map[lane]value{}, anomalies: map[string][]string{}}
}

func (h *history) found(name, format string, args ...any) {
	h.anomalies[name] = append(h.anomalies[name], fmt.Sprintf(format, args...))
}

// send notes what a producer is about to send.
func (h *history) send(v value, p client.Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent[v] = sent{at: time.Now(), partition: p}
}

// ack notes what a producer was promised (I1, I3).
func (h *history) ack(v value, o client.Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := place{h.answer(v).partition, o}
	h.acked[v] = at
	h.acks = append(h.acks, ack{h.sent[v].at, time.Now(), at.partition})
	if o == client.NoOffset {
		return // a duplicate whose offset the log has forgotten
	}
	h.put(v, at)
	l := lane{v.producer, at.partition}
	before, ok := h.newest[l]
	if first := h.acked[before]; ok && (v.sequence > before.sequence) != (o > first.offset) {
		h.found("nonmonotonic-send", "%s is at %v, %s at %v", v, at, before, first)
	}
	if !ok || o > h.acked[before].offset {
		h.newest[l] = v
	}
}

// fail notes what a producer was told is not in the log (I4).
func (h *history) fail(v value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer(v)
	h.failed[v] = true
	if at, ok := h.where[v]; ok {
		h.found("G1a", "%s was read at %v, its producer was told that it failed", v, at)
	}
}

// doubt notes what may or may not be in the log, once.
func (h *history) doubt(v value) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer(v)
	h.unknown[v] = true
}

func (h *history) answer(v value) sent {
	s := h.sent[v]
	if s.answered {
		h.found("answered-twice", "%s", v)
	}
	s.answered = true
	h.sent[v] = s
	return s
}

// put holds one value to one place, and each place to one value.
func (h *history) put(v value, at place) {
	if old, ok := h.values[at]; ok && old != v {
		h.found("inconsistent-offsets", "%v holds %s and %s", at, old, v)
	}
	h.values[at] = v
	if old, ok := h.where[v]; ok && old != at {
		h.found("duplicate", "%s is at %v and at %v", v, old, at)
	}
	h.where[v] = at
}

// reader reads all partitions from the beginning.
type reader struct {
	h    *history
	name string
	next map[client.Partition]client.Offset
	seen map[value]bool
}

func (h *history) reader(name string) *reader {
	return &reader{h: h, name: name, next: map[client.Partition]client.Offset{}, seen: map[value]bool{}}
}

// read notes one record that a consumer got (I2, I3, I4).
func (r *reader) read(p client.Partition, o client.Offset, text string) {
	h := r.h
	h.mu.Lock()
	defer h.mu.Unlock()
	at := place{p, o}
	switch next := r.next[p]; {
	case o > next:
		h.found("poll-skip", "%s goes on at %v, not at %d", r.name, at, next)
	case o < next:
		h.found("nonmonotonic-poll", "%s goes on at %v, not at %d", r.name, at, next)
	}
	r.next[p] = o + 1
	v, err := parseValue(text)
	s, ok := h.sent[v]
	if err != nil || !ok || s.partition != p {
		h.found("corrupt", "%s reads %.40q at %v, which nobody sent there", r.name, text, at)
		return
	}
	if h.failed[v] {
		h.found("G1a", "%s reads %s at %v, its producer was told that it failed", r.name, v, at)
	}
	h.put(v, at)
	r.seen[v] = true
}

// lost notes that the reader cannot go on.
func (r *reader) lost(err error) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	r.h.found("unreadable", "%s: %v", r.name, err)
}

// behind says how many acknowledged records the reader has not got.
func (r *reader) behind() int {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	n := 0
	for v := range r.h.acked {
		if !r.seen[v] {
			n++
		}
	}
	return n
}

// due is what is acknowledged by now: whoever begins to read must find it.
func (h *history) due() map[value]place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.acked)
}

// end judges a reader that got as far as the log went when that much was due (I1). A record that lies behind where the reader came is
// unseen, one that the reader went past is lost.
func (r *reader) end(due map[value]place) {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	for v, at := range due {
		switch {
		case r.seen[v]:
		case at.offset >= r.next[at.partition]:
			r.h.found("unseen", "%s does not get %s at %v", r.name, v, at)
		default:
			r.h.found("lost-write", "%s does not find %s, acknowledged at %v", r.name, v, at)
		}
	}
}

// close judges what the producers left: every record must have been answered.
func (h *history) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v, s := range h.sent {
		if !s.answered {
			h.found("unanswered", "%s", v)
		}
	}
}

// recovered answers how long after a moment the last partition had a record acknowledged that was sent after it: until then something was
// still down. ok is false while that has not happened.
func (h *history) recovered(since time.Time, partitions int) (took time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[client.Partition]bool{}
	for _, a := range h.acks {
		if a.sent.After(since) && !seen[a.partition] {
			seen[a.partition] = true
			took = max(took, a.acked.Sub(since))
		}
	}
	return took, len(seen) == partitions
}

// tally counts records by their outcome and anomalies by their name.
type tally struct {
	acked, unknown, failed int
	anomalies              map[string]int
}

func (h *history) tally() tally {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := tally{len(h.acked), len(h.unknown), len(h.failed), map[string]int{}}
	for name, all := range h.anomalies {
		t.anomalies[name] = len(all)
	}
	return t
}

// names lists the anomalies found, with their numbers.
func (t tally) names(except ...string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(t.anomalies)) {
		if !slices.Contains(except, name) {
			words = append(words, fmt.Sprintf("%s %d", name, t.anomalies[name]))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}

// report says of every anomaly the first few cases.
func (h *history) report() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h.anomalies)) {
		all := h.anomalies[name]
		fmt.Fprintf(&text, "%s, %d: %s\n", name, len(all), strings.Join(all[:min(len(all), 5)], "; "))
	}
	return text.String()
}
