package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Begin notes that a member of an ordered group was handed a first record of a partition. Due is how far the history had come when the partition became its own.
func (h *History) Begin(group, who string, p objectlog.Partition, o objectlog.Offset, due int) {
	h.note(Event{Kind: Begun, Group: group, Who: who, Partition: p, Offset: o, Due: due})
}

// Process notes that a member of an ordered group has processed a record, in the generation in which the partition was its own.
func (h *History) Process(group, who string, generation int64, r Record) {
	h.note(Event{Kind: Processed, Group: group, Who: who, Generation: generation, Partition: r.Partition, Offset: r.Offset, Value: r.Value})
}

// Try notes that a member is about to commit an offset.
func (h *History) Try(group, who string, p objectlog.Partition, o objectlog.Offset) {
	h.note(Event{Kind: Committing, Group: group, Who: who, Partition: p, Offset: o})
}

// Commit notes that a group was promised to go on at an offset.
func (h *History) Commit(group, who string, p objectlog.Partition, o objectlog.Offset) {
	h.note(Event{Kind: Committed, Group: group, Who: who, Partition: p, Offset: o})
}

// Take notes that a consumer of a queue got a record for so long at least, with a pull that it began when the history had come to due.
func (h *History) Take(group, who string, due int, lock time.Duration, deliveries int, r Record) {
	h.note(Event{Kind: Taken, Group: group, Who: who, Due: due, Lock: lock, Deliveries: deliveries, Partition: r.Partition, Offset: r.Offset, Value: r.Value})
}

// Decision is what a consumer says of a record that it took.
type Decision string

// The decisions.
const (
	Accept  Decision = "accept"
	Release Decision = "release"
	Reject  Decision = "reject"
)

// Settle notes that a consumer of a queue is about to acknowledge a record.
func (h *History) Settle(group, who string, v Decision, p objectlog.Partition, o objectlog.Offset) {
	h.note(Event{Kind: Settling, Group: group, Who: who, Text: string(v), Partition: p, Offset: o})
}

// Settled notes that it was told that this is done.
func (h *History) Settled(group, who string, v Decision, p objectlog.Partition, o objectlog.Offset) {
	h.note(Event{Kind: Settled, Group: group, Who: who, Text: string(v), Partition: p, Offset: o})
}

// Bury notes a dead letter that was found, by the place of the record that it was.
func (h *History) Bury(group, reason string, deliveries int, r Record) {
	h.note(Event{Kind: Dead, Group: group, Text: reason, Deliveries: deliveries, Partition: r.Partition, Offset: r.Offset, Value: r.Value})
}

// Drain notes that a group was said to have nothing left of what was due. Deliveries is how often a record may be taken; 0: the group is an ordered one.
func (h *History) Drain(group string, due, deliveries int) {
	h.note(Event{Kind: Drained, Group: group, Due: due, Deliveries: deliveries})
}

// work judges what groups and queues did. Beside those of the log, the anomalies are
//
//	two-owners       two members of a group processed records of one partition in one generation
//	position-back    a member began below a position that had been committed before the partition was its own, and where the one that committed it
//	                 had not tried to commit before: such a call may arrive late
//	unprocessed      a record was acknowledged, and no member or consumer processed it, though nothing was said to be left
//	redelivered      a record was taken by a pull that began behind the answer to its acceptance
//	locked-twice     a record came to a consumer in time while it was another's
//	early-death      a dead letter of a record that was not rejected and could have been taken again
//	dead-twice       two dead letters of one record
//	dead-accepted    a dead letter of a record that was accepted
//	lost-letter      a record was rejected, and there is no dead letter of it
type work struct {
	*checker
	owners    map[owned]tenant
	committed map[grouped]commitment
	tried     map[attempt]bool // to commit, without a promise
	hold      map[grouped]holding
	accepted  map[grouped]int // the event of the answer
	rejected  map[grouped]int
	dead      map[grouped]int
	done      map[grouped]bool // processed, or said to be accepted, whatever the answer
	events    []Event
}

type grouped struct {
	group string
	place
}

// commitment is the furthest position that was promised.
type commitment struct {
	who    string
	offset objectlog.Offset
	at     int
}

type attempt struct {
	grouped
	who string
}

type owned struct {
	group      string
	partition  objectlog.Partition
	generation int64
}

type tenant struct {
	who string
	at  int
}

// holding is a record in a consumer's hands.
type holding struct {
	who   string
	until time.Duration
	at    int
}

// work judges the events of groups and queues; the checker has seen all events.
func (c *checker) work(events []Event) {
	w := &work{checker: c, events: events, owners: map[owned]tenant{}, committed: map[grouped]commitment{}, tried: map[attempt]bool{}, hold: map[grouped]holding{}, accepted: map[grouped]int{},
		rejected: map[grouped]int{}, dead: map[grouped]int{}, done: map[grouped]bool{}}
	for i, e := range events {
		w.step(i, e)
	}
}

func (w *work) step(i int, e Event) {
	at := grouped{e.Group, e.place()}
	switch e.Kind {
	case Begun:
		line := grouped{e.Group, place{e.Partition, 0}}
		if c, ok := w.committed[line]; ok && c.at < e.Due && e.Offset < c.offset && !w.tried[attempt{at, c.who}] {
			w.find("position-back", []int{c.at, i}, "%s of %s begins at %v, and %d was committed", e.Who, e.Group, e.place(), c.offset)
		}
	case Committing:
		w.tried[attempt{at, e.Who}] = true
	case Committed:
		line := grouped{e.Group, place{e.Partition, 0}}
		delete(w.tried, attempt{at, e.Who})
		if c, ok := w.committed[line]; !ok || e.Offset > c.offset {
			w.committed[line] = commitment{e.Who, e.Offset, i}
		}
	case Processed:
		w.done[at] = true
		o := owned{e.Group, e.Partition, e.Generation}
		if t, ok := w.owners[o]; ok && t.who != e.Who {
			w.find("two-owners", []int{t.at, i}, "%s and %s of %s process partition %d in generation %d", t.who, e.Who, e.Group, e.Partition, e.Generation)
		}
		w.owners[o] = tenant{e.Who, i}
	case Taken:
		w.take(i, e, at)
	case Settling:
		delete(w.hold, at)
		w.done[at] = w.done[at] || Decision(e.Text) == Accept
	case Settled:
		switch Decision(e.Text) {
		case Accept:
			w.accepted[at] = i
		case Reject:
			w.rejected[at] = i
		}
	case Dead:
		if before, ok := w.dead[at]; ok {
			w.find("dead-twice", []int{before, i}, "%v of %s has two dead letters", at.place, e.Group)
		}
		w.dead[at] = i
	case Drained:
		w.drained(i, e)
	}
}

func (w *work) take(i int, e Event, at grouped) {
	if accepted, ok := w.accepted[at]; ok && accepted < e.Due {
		w.find("redelivered", []int{accepted, i}, "%s takes %v of %s, which was accepted", e.Who, at.place, e.Group)
	}
	began := time.Duration(0)
	if e.Due > 0 && e.Due <= len(w.events) {
		began = w.events[e.Due-1].At
	}
	if began+e.Lock <= e.At {
		return // its lock was over when it came: whose record it is now is not for this one to say
	}
	if h, ok := w.hold[at]; ok && e.At < h.until {
		w.find("locked-twice", []int{h.at, i}, "%s takes %v of %s, which is in the hands of %s", e.Who, at.place, e.Group, h.who)
	}
	w.hold[at] = holding{e.Who, began + e.Lock, i}
}

// drained judges what a group made of all that was due.
func (w *work) drained(i int, e Event) {
	for _, f := range w.missing("", e.Due) { // of a reader that has read nothing: all that there is
		at := grouped{e.Group, f.place}
		_, dead := w.dead[at]
		if f.place.offset != objectlog.NoOffset && !w.done[at] && !dead {
			w.find("unprocessed", []int{w.sent[f.value].at, f.at, i}, "%s has nothing left, and did not process %s at %v", e.Group, f.value, f.place)
		}
	}
	for at, d := range w.dead {
		if at.group != e.Group || e.Deliveries == 0 {
			continue
		}
		if accepted, ok := w.accepted[at]; ok {
			w.find("dead-accepted", []int{accepted, d}, "%v of %s was accepted, and is a dead letter", at.place, e.Group)
		}
		if letter := w.events[d]; letter.Text != "rejected" && letter.Deliveries < e.Deliveries {
			w.find("early-death", []int{d}, "%v of %s is a dead letter behind %d deliveries: %s", at.place, e.Group, letter.Deliveries, letter.Text)
		}
	}
	for at, r := range w.rejected {
		if _, ok := w.dead[at]; !ok && at.group == e.Group && at.offset >= w.trimmed[at.partition] {
			w.find("lost-letter", []int{r, i}, "%v of %s was rejected, and there is no dead letter of it", at.place, e.Group)
		}
	}
}

// describeWork is an event of a group or queue in words.
func (e Event) describeWork() string {
	text := fmt.Sprintf("%v by %s of %s", e.place(), e.Who, e.Group)
	switch e.Kind {
	case Processed:
		return fmt.Sprintf("%s, generation %d", text, e.Generation)
	case Taken:
		return fmt.Sprintf("%s, delivery %d, begun behind event %d, for %s", text, e.Deliveries, e.Due, e.Lock)
	case Settling, Settled:
		return e.Text + " " + text
	case Dead:
		return fmt.Sprintf("%s, %s, delivery %d", text, e.Text, e.Deliveries)
	}
	return text
}

// workKinds are the kinds of events of groups and queues.
var workKinds = []Kind{Begun, Processed, Committing, Committed, Taken, Settling, Settled, Dead, Drained}

func (k Kind) isWork() bool { return slices.Contains(workKinds, k) }
