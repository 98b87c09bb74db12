package history

import (
	"bytes"
	"testing"
	"time"
)

const (
	crew = "crew"
	desk = "desk"
)

// goodWork is a good history whose records a group and a queue have worked on: 0/1 was taken twice, and 1/0 is a dead letter of the queue.
func goodWork() *History {
	h, r := good()
	r.End(h.Due())
	process := func(who string, generation int64, records ...Record) {
		for _, x := range records {
			h.Process(crew, who, generation, x)
		}
	}
	h.Begin(crew, "a", 0, 0, h.Due())
	process("a", 1, Record{0, 0, "0-0"}, Record{0, 1, "0-1"})
	h.Commit(crew, "a", 0, 1)
	h.Begin(crew, "b", 0, 1, h.Due())
	process("b", 2, Record{0, 1, "0-1"}, Record{0, 2, "0-3"}, Record{1, 0, "1-0"})
	take := func(who string, deliveries int, x Record) { h.Take(desk, who, h.Due(), 0, deliveries, x) }
	settle := func(d Decision, x Record) {
		h.Settle(desk, "c", d, x.Partition, x.Offset)
		h.Settled(desk, "c", d, x.Partition, x.Offset)
	}
	for _, x := range []Record{{0, 0, "0-0"}, {0, 2, "0-3"}} {
		take("c", 1, x)
		settle(Accept, x)
	}
	take("d", 1, Record{0, 1, "0-1"}) // never says anything
	take("c", 2, Record{0, 1, "0-1"})
	settle(Accept, Record{0, 1, "0-1"})
	take("c", 1, Record{1, 0, "1-0"})
	settle(Reject, Record{1, 0, "1-0"})
	h.Bury(desk, "rejected", 1, Record{1, 0, "1-0"})
	return h
}

// drain ends both groups.
func drain(h *History) {
	due := h.Due()
	h.Drain(crew, due, 0)
	h.Drain(desk, due, 3)
}

func TestCheckerPassesGoodWork(t *testing.T) {
	h := goodWork()
	drain(h)
	if got := h.Check().String(); got != "" {
		t.Error(got)
	}
	if got, want := h.Tally().Worked, 10; got != want {
		t.Errorf("worked on %d, want %d", got, want)
	}
}

func TestCheckerFindsWhatIsWrongWithWork(t *testing.T) {
	sent := func(h *History) { // one more record, which everybody has to process
		h.Send(0, Value{0, 4})
		h.Ack(Value{0, 4}, 3)
		r := h.Reader("late")
		r.Start(0, 3)
		r.one(0, 3, "0-4")
	}
	for _, c := range []struct {
		name, want string
		do         func(h *History)
	}{
		{"two members have a partition in one generation", "two-owners 1", func(h *History) { h.Process(crew, "a", 2, Record{0, 0, "0-0"}) }},
		{"a member begins below what was committed", "position-back 1", func(h *History) { h.Begin(crew, "a", 0, 0, h.Due()) }},
		{"a member begins where another tried to commit", "position-back 1", func(h *History) {
			h.Try(crew, "a", 0, 0)
			h.Commit(crew, "b", 0, 3)
			h.Begin(crew, "a", 0, 0, h.Due())
		}},
		{"a member begins where an answered commit was", "position-back 1", func(h *History) {
			h.Try(crew, "b", 0, 2)
			h.Commit(crew, "b", 0, 2)
			h.Commit(crew, "b", 0, 3)
			h.Begin(crew, "a", 0, 2, h.Due())
		}},
		{"nobody processes a record", "unprocessed 2", func(h *History) { sent(h) }},
		{"a queue forgets a record", "unprocessed 1", func(h *History) {
			sent(h)
			h.Process(crew, "b", 2, Record{0, 3, "0-4"})
		}},
		{"a record comes again behind its acceptance", "redelivered 1", func(h *History) { h.Take(desk, "d", h.Due(), 0, 2, Record{0, 0, "0-0"}) }},
		{"two consumers have a record", "locked-twice 1", func(h *History) {
			sent(h)
			h.Process(crew, "b", 2, Record{0, 3, "0-4"})
			h.Take(desk, "c", h.Due(), time.Hour, 1, Record{0, 3, "0-4"})
			h.Take(desk, "d", h.Due(), time.Hour, 2, Record{0, 3, "0-4"})
			h.Settle(desk, "d", Accept, 0, 3)
		}},
		{"a dead letter comes too early", "early-death 1", func(h *History) {
			sent(h)
			h.Process(crew, "b", 2, Record{0, 3, "0-4"})
			h.Bury(desk, "expired", 2, Record{0, 3, "0-4"})
		}},
		{"a dead letter is there twice", "dead-twice 1", func(h *History) { h.Bury(desk, "rejected", 1, Record{1, 0, "1-0"}) }},
		{"a record is accepted and dead", "dead-accepted 1", func(h *History) { h.Bury(desk, "expired", 3, Record{0, 0, "0-0"}) }},
		{"a rejected record is nowhere", "lost-letter 1", func(h *History) {
			sent(h)
			h.Process(crew, "b", 2, Record{0, 3, "0-4"})
			h.Settle(desk, "d", Accept, 0, 3) // with an answer that nobody got
			h.Settled(desk, "d", Reject, 0, 3)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := goodWork()
			c.do(h)
			drain(h)
			if got := h.Check().Names(); got != c.want {
				t.Errorf("got %s, want %s\n%v", got, c.want, h.Check())
			}
		})
	}
}

func TestCheckerExcusesWhatMayBe(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *History)
	}{
		{"a pull that began before the acceptance was answered", func(h *History) { h.Take(desk, "d", 0, 0, 2, Record{0, 0, "0-0"}) }},
		{"a commit that was answered behind the beginning", func(h *History) {
			due := h.Due()
			h.Commit(crew, "b", 0, 3)
			h.Begin(crew, "a", 0, 1, due)
		}},
		{"a rejected record that was trimmed away before it was copied", func(h *History) {
			h.Settled(desk, "d", Reject, 0, 1)
			h.Trim("admin", 0, 2)
		}},
		{"a record that comes when its lock is over", func(h *History) {
			h.Take(desk, "c", h.Due(), time.Hour, 2, Record{0, 3, "?"})
			h.Take(desk, "d", 1, 0, 1, Record{0, 3, "?"})
		}},
		{"a commit without an answer that arrives behind a newer one", func(h *History) {
			h.Try(crew, "b", 0, 2)
			h.Commit(crew, "b", 0, 3)
			h.Begin(crew, "a", 0, 2, h.Due())
		}},
		{"a lock that is over", func(h *History) {
			h.Take(desk, "c", 1, 0, 1, Record{0, 3, "?"})
			h.Take(desk, "d", 1, 0, 2, Record{0, 3, "?"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := goodWork()
			c.do(h)
			drain(h)
			if got := h.Check().Names(); got != "none" {
				t.Errorf("got %s\n%v", got, h.Check())
			}
		})
	}
}

func TestWorkIsReadAsItWasWritten(t *testing.T) {
	h := goodWork()
	h.Process(crew, "a", 2, Record{0, 0, "0-0"})
	drain(h)
	var b bytes.Buffer
	if _, err := h.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	events, err := ReadEvents(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Check(events).String(), h.Check().String(); got != want || want == "" {
		t.Errorf("got %s, want %s", got, want)
	}
}
