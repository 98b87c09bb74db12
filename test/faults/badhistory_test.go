package faults

import (
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

// good is a history of two producers without anything wrong, read by one reader to its end: 0-0 and 0-1 acknowledged in partition 0, 0-2 failed,
// 0-3 unknown and in the log, 1-0 acknowledged in partition 1, 1-1 unknown and not in the log.
func good() (*history, *reader) {
	h := newHistory()
	for i := range 4 {
		h.send(value{0, i}, 0)
	}
	h.send(value{1, 0}, 1)
	h.send(value{1, 1}, 1)
	h.ack(value{0, 0}, 0)
	h.ack(value{0, 1}, 1)
	h.fail(value{0, 2})
	h.doubt(value{0, 3})
	h.ack(value{1, 0}, 0)
	h.doubt(value{1, 1})
	r := h.reader("reader")
	r.read(0, 0, "0-0")
	r.read(0, 1, "0-1")
	r.read(0, 2, "0-3")
	r.read(1, 0, "1-0")
	return h, r
}

func TestCheckerPassesAGoodHistory(t *testing.T) {
	h, r := good()
	r.end(h.due())
	h.close()
	if got := h.report(); got != "" {
		t.Error(got)
	}
	if got, want := h.tally().names(), "none"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// badHistories are a good one and one thing that is wrong, and what the checker calls it.
var badHistories = []struct {
	name, want string
	do         func(h *history, r *reader)
}{
	{"an acknowledged record is not there", "lost-write 1, poll-skip 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		h.ack(value{0, 4}, 3)
		h.send(value{0, 5}, 0)
		h.ack(value{0, 5}, 4)
		r.read(0, 4, "0-5")
	}},
	{"another record is where an acknowledged one was", "inconsistent-offsets 1, lost-write 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		h.ack(value{0, 4}, 3)
		h.send(value{0, 5}, 0)
		h.doubt(value{0, 5})
		r.read(0, 3, "0-5")
	}},
	{"an acknowledged record never comes", "unseen 1", func(h *history, _ *reader) {
		h.send(value{0, 4}, 0)
		h.ack(value{0, 4}, 3)
	}},
	{"a record is there twice", "duplicate 1", func(_ *history, r *reader) { r.read(0, 3, "0-1") }},
	{"a record of unknown outcome is there twice", "duplicate 1", func(_ *history, r *reader) { r.read(0, 3, "0-3") }},
	{"a record is acknowledged at an offset and is at another", "duplicate 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		h.ack(value{0, 4}, 9)
		r.read(0, 3, "0-4")
	}},
	{"two records have one offset", "inconsistent-offsets 1, lost-write 1", func(h *history, _ *reader) {
		h.send(value{2, 0}, 0)
		h.ack(value{2, 0}, 1)
	}},
	{"two readers see different records", "inconsistent-offsets 1", func(h *history, _ *reader) {
		h.send(value{2, 0}, 0)
		h.doubt(value{2, 0})
		other := h.reader("other")
		other.read(0, 0, "2-0")
	}},
	{"a failed record is read", "G1a 1", func(_ *history, r *reader) { r.read(0, 3, "0-2") }},
	{"a record fails that was read", "G1a 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		r.read(0, 3, "0-4")
		h.fail(value{0, 4})
	}},
	{"a producer's records change places", "nonmonotonic-send 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		h.send(value{0, 5}, 0)
		h.ack(value{0, 5}, 3)
		h.ack(value{0, 4}, 4)
		r.read(0, 3, "0-5")
		r.read(0, 4, "0-4")
	}},
	{"a reader skips", "poll-skip 1", func(h *history, r *reader) {
		h.send(value{0, 4}, 0)
		h.doubt(value{0, 4})
		r.read(0, 4, "0-4")
	}},
	{"a reader steps back", "nonmonotonic-poll 1", func(_ *history, r *reader) { r.read(0, 1, "0-1") }},
	{"a value that nobody sent", "corrupt 1", func(_ *history, r *reader) { r.read(0, 3, "7-7") }},
	{"a value that is damaged", "corrupt 1", func(_ *history, r *reader) { r.read(0, 3, "0-3\x00") }},
	{"a value in another partition", "corrupt 1", func(_ *history, r *reader) { r.read(1, 1, "0-3") }},
	{"a record has two outcomes", "answered-twice 1", func(h *history, _ *reader) { h.doubt(value{0, 0}) }},
	{"a record has no outcome", "unanswered 1", func(h *history, _ *reader) { h.send(value{0, 4}, 0) }},
}

func TestCheckerNamesWhatIsWrongWithABadHistory(t *testing.T) {
	for _, bad := range badHistories {
		t.Run(bad.name, func(t *testing.T) {
			h, r := good()
			bad.do(h, r)
			r.end(h.due())
			h.close()
			if got := h.tally().names(); got != bad.want {
				t.Errorf("got %s, want %s:\n%s", got, bad.want, h.report())
			}
		})
	}
}

func TestRecoveryIsWhenEveryPartitionTakesRecordsAgain(t *testing.T) {
	h := newHistory()
	before := value{0, 0}
	h.send(before, 0)
	healed := time.Now()
	h.ack(before, 0) // was sent before
	if took, ok := h.recovered(healed, 1); ok {
		t.Errorf("recovered after %s by a record that was sent before", took)
	}
	for p := range 2 {
		if took, ok := h.recovered(healed, 2); ok {
			t.Errorf("recovered after %s with %d of 2 partitions", took, p)
		}
		v := value{1, p}
		h.send(v, client.Partition(p))
		h.ack(v, 1)
	}
	if took, ok := h.recovered(healed, 2); !ok || took <= 0 {
		t.Errorf("got %s, %t; want recovered", took, ok)
	}
}
