package history

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// good is a history of two producers without anything wrong, read by one reader to its end: 0-0 and 0-1 acknowledged in partition 0, 0-2 failed,
// 0-3 unknown and in the log, 1-0 acknowledged in partition 1, 1-1 unknown and not in the log.
func good() (*History, *Reader) {
	h := New()
	for i := range 4 {
		h.Send(0, Value{0, i})
	}
	h.Send(1, Value{1, 0})
	h.Send(1, Value{1, 1})
	h.Ack(Value{0, 0}, 0)
	h.Ack(Value{0, 1}, 1)
	h.Fail(Value{0, 2})
	h.Doubt(Value{0, 3})
	h.Ack(Value{1, 0}, 0)
	h.Doubt(Value{1, 1})
	r := h.Reader("reader")
	r.one(0, 0, "0-0")
	r.Read(Record{0, 1, "0-1"}, Record{1, 0, "1-0"}, Record{0, 2, "0-3"})
	return h, r
}

// one is a poll that brings one record.
func (r *Reader) one(p objectlog.Partition, o objectlog.Offset, value string) {
	r.Read(Record{p, o, value})
}

func TestCheckerPassesAGoodHistory(t *testing.T) {
	h, r := good()
	r.End(h.Due())
	if got := h.Check().String(); got != "" {
		t.Error(got)
	}
	if got, want := h.Check().Names(), "none"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := h.Tally(), (Tally{Acked: 3, Unknown: 2, Failed: 1, Read: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// badHistories are a good one and one thing that is wrong, and what the checker calls it.
var badHistories = []struct {
	name, want string
	do         func(h *History, r *Reader)
}{
	{"an acknowledged record is not there", "lost-write 1, poll-skip 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 3)
		h.Send(0, Value{0, 5})
		h.Ack(Value{0, 5}, 4)
		r.one(0, 4, "0-5")
	}},
	{"another record is where an acknowledged one was", "inconsistent-offsets 1, lost-write 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 3)
		h.Send(0, Value{0, 5})
		h.Doubt(Value{0, 5})
		r.one(0, 3, "0-5")
	}},
	{"an acknowledged record never comes", "unseen 1", func(h *History, _ *Reader) {
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 3)
	}},
	{"a record is there twice, for every reader", "duplicate 1", func(h *History, r *Reader) {
		r.one(0, 3, "0-1")
		other := h.Reader("other")
		other.Read(Record{0, 0, "0-0"}, Record{0, 1, "0-1"}, Record{0, 2, "0-3"}, Record{0, 3, "0-1"})
	}},
	{"a record of unknown outcome is there twice", "duplicate 1", func(_ *History, r *Reader) { r.one(0, 3, "0-3") }},
	{"an acknowledged record of a producer that is not idempotent is there twice", "duplicate 1", func(h *History, r *Reader) {
		h.Loosen(0)
		r.one(0, 3, "0-1")
	}},
	{"a record is acknowledged at an offset and is at another", "duplicate 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 9)
		r.one(0, 3, "0-4")
	}},
	{"two records have one offset", "inconsistent-offsets 1, lost-write 1", func(h *History, _ *Reader) {
		h.Send(0, Value{2, 0})
		h.Ack(Value{2, 0}, 1)
	}},
	{"two readers see different records", "inconsistent-offsets 1", func(h *History, _ *Reader) {
		h.Send(0, Value{2, 0})
		h.Doubt(Value{2, 0})
		h.Reader("other").one(0, 0, "2-0")
	}},
	{"a failed record is read", "G1a 1", func(_ *History, r *Reader) { r.one(0, 3, "0-2") }},
	{"a record fails that was read", "G1a 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		r.one(0, 3, "0-4")
		h.Fail(Value{0, 4})
	}},
	{"a record is read and then is not in the log", "precommitted-read 1", func(h *History, _ *Reader) {
		h.Send(0, Value{0, 4})
		h.Doubt(Value{0, 4})
		other := h.Reader("other")
		other.Start(0, 3)
		other.one(0, 3, "0-4")
	}},
	{"a producer's records change places", "nonmonotonic-send 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Send(0, Value{0, 5})
		h.Ack(Value{0, 5}, 3)
		h.Ack(Value{0, 4}, 4)
		r.one(0, 3, "0-5")
		r.one(0, 4, "0-4")
	}},
	{"a call's records change places", "int-nonmonotonic-send 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4}, Value{0, 5})
		h.Ack(Value{0, 5}, 3)
		h.Ack(Value{0, 4}, 4)
		r.Read(Record{0, 3, "0-5"}, Record{0, 4, "0-4"})
	}},
	{"a reader skips", "poll-skip 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Doubt(Value{0, 4})
		r.one(0, 4, "0-4")
	}},
	{"a reader skips more than was trimmed", "poll-skip 1", func(h *History, r *Reader) {
		h.Trim("admin", 0, 4)
		h.Send(0, Value{0, 4})
		h.Doubt(Value{0, 4})
		r.one(0, 5, "0-4")
	}},
	{"a poll skips", "int-poll-skip 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4}, Value{0, 5})
		h.Doubt(Value{0, 4})
		h.Doubt(Value{0, 5})
		r.Read(Record{0, 3, "0-4"}, Record{0, 5, "0-5"})
	}},
	{"a reader steps back", "nonmonotonic-poll 1", func(_ *History, r *Reader) { r.one(0, 1, "0-1") }},
	{"a poll steps back", "int-nonmonotonic-poll 1", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Doubt(Value{0, 4})
		r.Read(Record{0, 3, "0-4"}, Record{0, 3, "0-4"})
	}},
	{"a value that nobody sent", "corrupt 1", func(_ *History, r *Reader) { r.one(0, 3, "7-7") }},
	{"a value that is damaged", "corrupt 1", func(_ *History, r *Reader) { r.one(0, 3, "0-3\x00") }},
	{"a value in another partition", "corrupt 1", func(_ *History, r *Reader) { r.one(1, 1, "0-3") }},
	{"a record has two outcomes", "answered-twice 1", func(h *History, _ *Reader) { h.Doubt(Value{0, 0}) }},
	{"a record has no outcome", "unanswered 1", func(h *History, _ *Reader) { h.Send(0, Value{0, 4}) }},
	{"a reader is stuck", "unreadable 1", func(_ *History, r *Reader) { r.Stuck(errors.New("data loss")) }},
	{"a witness accuses", "stale-topic 1", func(h *History, _ *Reader) { h.Accuse("stale-topic", "an agent does not know it") }},
}

func TestCheckerNamesWhatIsWrongWithABadHistory(t *testing.T) {
	for _, bad := range badHistories {
		t.Run(bad.name, func(t *testing.T) {
			h, r := good()
			bad.do(h, r)
			r.End(h.Due())
			if got := h.Check().Names(); got != bad.want {
				t.Errorf("got %s, want %s:\n%s", got, bad.want, h.Check())
			}
		})
	}
}

func TestEveryNameHasABadHistory(t *testing.T) {
	for _, name := range []string{"lost-write", "duplicate", "inconsistent-offsets", "unseen", "G1a", "precommitted-read", "int-nonmonotonic-poll",
		"int-poll-skip", "nonmonotonic-poll", "poll-skip", "int-nonmonotonic-send", "nonmonotonic-send"} {
		found := false
		for _, bad := range badHistories {
			found = found || strings.HasPrefix(bad.want, name+" ")
		}
		if !found {
			t.Errorf("no bad history shows %s first", name)
		}
	}
}

// oddHistories are good, however they look.
var oddHistories = []struct {
	name string
	do   func(h *History, r *Reader)
}{
	{"an unknown record of a producer that is not idempotent is there twice", func(h *History, r *Reader) {
		h.Loosen(0)
		r.one(0, 3, "0-3")
	}},
	{"a record is read before its producer is answered", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		r.one(0, 3, "0-4")
		h.Ack(Value{0, 4}, 3)
	}},
	{"a reader starts behind what is acknowledged", func(h *History, _ *Reader) {
		late := h.Reader("late")
		late.Start(0, 2)
		late.one(0, 2, "0-3")
		late.one(1, 0, "1-0")
		late.End(h.Due())
	}},
	{"what is acknowledged while a reader reads need not come", func(h *History, r *Reader) {
		due := h.Due()
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 3)
		other := h.Reader("other")
		other.Read(Record{0, 0, "0-0"}, Record{0, 1, "0-1"}, Record{0, 2, "0-3"}, Record{1, 0, "1-0"})
		other.End(due)
		r.one(0, 3, "0-4")
	}},
	{"what is trimmed may be skipped", func(h *History, r *Reader) {
		h.Trim("admin", 0, 2)
		late := h.Reader("late")
		late.Read(Record{0, 2, "0-3"}, Record{1, 0, "1-0"})
		late.End(h.Due())
	}},
	{"everything is trimmed", func(h *History, _ *Reader) {
		h.Trim("admin", 0, 3)
		late := h.Reader("late")
		late.one(1, 0, "1-0")
		late.End(h.Due())
	}},
	{"a duplicate whose offset the log has forgotten", func(h *History, r *Reader) {
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, objectlog.NoOffset)
		r.one(0, 3, "0-4")
	}},
}

func TestCheckerPassesWhatOnlyLooksWrong(t *testing.T) {
	for _, odd := range oddHistories {
		t.Run(odd.name, func(t *testing.T) {
			h, r := good()
			odd.do(h, r)
			r.End(h.Due())
			if got := h.Check().String(); got != "" {
				t.Error(got)
			}
		})
	}
}

func TestExplanationNamesTheEventsThatContradictEachOther(t *testing.T) {
	h, r := good()
	r.one(0, 3, "0-2")
	text := h.Check().String()
	for _, want := range []string{"G1a, 1:", "0-2", "send", "fail", "read", "0/3 by reader"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n != 5 {
		t.Errorf("%d lines, want the name, a sentence and three events:\n%s", n, text)
	}
}

func TestHistoryIsCheckedTheSameBehindAFile(t *testing.T) {
	h, r := good()
	r.one(0, 3, "0-1")
	r.End(h.Due())
	var file bytes.Buffer
	if _, err := h.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	events, err := ReadEvents(&file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Check(events).String(), h.Check().String(); got != want || got == "" {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := ReadEvents(strings.NewReader("{")); err == nil {
		t.Error("a file that is cut short is no history")
	}
}

func TestReaderIsBehindUntilItHasWhatWasAcknowledgedAndWhatOthersGot(t *testing.T) {
	h, r := good()
	h.Send(0, Value{0, 4})
	h.Ack(Value{0, 4}, 3)
	h.Send(1, Value{1, 2})
	h.Doubt(Value{1, 2})
	h.Reader("other").one(1, 1, "1-2")
	if got := r.Behind(); got != 2 {
		t.Errorf("behind by %d, want 2", got)
	}
	r.Read(Record{0, 3, "0-4"}, Record{1, 1, "1-2"})
	if got := r.Behind(); got != 0 {
		t.Errorf("behind by %d, want 0", got)
	}
	if got := r.Next(0); got != 4 {
		t.Errorf("next is %d, want 4", got)
	}
}

func TestRecoveryIsWhenEveryPartitionTakesRecordsAgain(t *testing.T) {
	h := New()
	before := Value{0, 0}
	h.Send(0, before)
	healed := time.Now()
	h.Ack(before, 0) // was sent before
	if took, ok := h.Recovered(healed, 1); ok {
		t.Errorf("recovered after %s by a record that was sent before", took)
	}
	for p := range 2 {
		if took, ok := h.Recovered(healed, 2); ok {
			t.Errorf("recovered after %s with %d of 2 partitions", took, p)
		}
		v := Value{1, p}
		h.Send(objectlog.Partition(p), v)
		h.Ack(v, 1)
	}
	if took, ok := h.Recovered(healed, 2); !ok || took <= 0 {
		t.Errorf("got %s, %t; want recovered", took, ok)
	}
}
