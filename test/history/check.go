package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Finding is one anomaly. Its name is one of Jepsen's, where a call of a producer and a poll of a reader stand for Jepsen's transactions:
//
//	lost-write             acknowledged at an offset that a reader went past without getting the value
//	unseen                 acknowledged, and a reader that came to the end of the log ended before it
//	duplicate              one value at two offsets, unless its producer is not idempotent and its outcome unknown
//	inconsistent-offsets   two values at one offset
//	G1a                    read, though its producer was told that it is not in the log
//	precommitted-read      read by one reader, never acknowledged, and at an offset at which, for another that began to read later and came
//	                       to the end, the log had not come yet: it was served before it was committed. (A record that was read before its
//	                       producer had the answer, or that never had an answer, is fine as long as it stays.)
//	int-nonmonotonic-poll  a record of one poll is not behind the one before it
//	int-poll-skip          one poll leaves out an offset between two of its records
//	nonmonotonic-poll      a poll begins before the end of the one before it
//	poll-skip              a poll begins behind the end of the one before it, or behind where its reader started
//	int-nonmonotonic-send  two values of one call have offsets in the other order than they were sent
//	nonmonotonic-send      two values of one producer, not of one call, do
//
// Those of groups and queues are with type work. Offsets that somebody may have trimmed away may be skipped and missed. Further names are corrupt, a value that nobody sent there;
// unreadable, a reader that cannot go on; answered-twice and unanswered, a client without exactly one outcome; and those that a witness gave.
type Finding struct {
	Name   string
	Text   string  // in a sentence
	Events []Event // that contradict each other, oldest first
}

// Findings are all anomalies of a history.
type Findings []Finding

// Check judges a whole history.
func Check(events []Event) Findings {
	c := newChecker()
	for i, e := range events {
		c.step(i, e)
	}
	c.work(events)
	c.close()
	findings := make(Findings, len(c.found))
	for i, f := range c.found {
		slices.Sort(f.at)
		one := Finding{Name: f.name, Text: f.text}
		for _, at := range slices.Compact(f.at) {
			one.Events = append(one.Events, events[at])
		}
		findings[i] = one
	}
	return findings
}

// Check judges the history so far as if it ended here.
func (h *History) Check() Findings { return Check(h.Events()) }

// Count answers how many of a name there are.
func (f Findings) Count(name string) (n int) {
	for _, one := range f {
		if one.Name == name {
			n++
		}
	}
	return n
}

// Names lists the names found, with their numbers, other than those named.
func (f Findings) Names(except ...string) string {
	counts := map[string]int{}
	for _, one := range f {
		counts[one.Name]++
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if !slices.Contains(except, name) {
			words = append(words, fmt.Sprintf("%s %d", name, counts[name]))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}

// casesMax is how many cases of one name are explained.
const casesMax = 3

// String explains the first cases of each name that need the fewest events to be told; without findings it is empty.
func (f Findings) String() string {
	byName := map[string]Findings{}
	for _, one := range f {
		byName[one.Name] = append(byName[one.Name], one)
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all := byName[name]
		slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(len(a.Events), len(b.Events)) })
		fmt.Fprintf(&text, "%s, %d:\n", name, len(all))
		for _, one := range all[:min(len(all), casesMax)] {
			fmt.Fprintf(&text, "  %s\n", one.Text)
			for _, e := range one.Events {
				fmt.Fprintf(&text, "    %v\n", e)
			}
		}
	}
	return text.String()
}

// found is a finding by the numbers of its events.
type found struct {
	name, text string
	at         []int
}

// fact is a place or a value, and the event that says so.
type fact struct {
	value Value
	place place
	at    int
}

// sent is what is known of one value.
type sent struct {
	at        int // the event
	time      time.Duration
	partition objectlog.Partition
	call      int
	answers   int
	answer    int // the event of the last one
	unknown   bool
}

// ack is when a record was sent and acknowledged.
type ack struct {
	sent, acked time.Duration
	partition   objectlog.Partition
}

// reading is how far one reader is.
type reading struct {
	start, next map[objectlog.Partition]objectlog.Offset
	last        map[objectlog.Partition]int // the event of the last record
	call        map[objectlog.Partition]int
	seen        map[Value]int
}

// checker judges one event after the other. Everything is compared as it comes, so that a wrong answer is found even if later ones are right.
type checker struct {
	found   []found
	doubles []found // duplicates, with the value in place of the name: excused at the end if it is of unknown outcome and its producer loose
	tally   Tally
	acks    []ack // in the order in which they came

	sent    map[Value]sent
	values  map[place]fact // acknowledged or read
	where   map[Value]fact // the same the other way round; the first of several
	twins   map[fact]bool  // places of a value other than its first, without their events
	acked   map[Value]fact
	failed  map[Value]int
	first   map[Value]fact // where a value was first read
	loose   map[int]bool
	trimmed map[objectlog.Partition]objectlog.Offset
	readers map[string]*reading
}

func newChecker() *checker {
	return &checker{sent: map[Value]sent{}, values: map[place]fact{}, where: map[Value]fact{}, acked: map[Value]fact{}, failed: map[Value]int{},
		first: map[Value]fact{}, loose: map[int]bool{}, twins: map[fact]bool{}, trimmed: map[objectlog.Partition]objectlog.Offset{}, readers: map[string]*reading{}}
}

func (c *checker) find(name string, at []int, format string, args ...any) {
	c.found = append(c.found, found{name, fmt.Sprintf(format, args...), at})
}

func (c *checker) reading(name string) *reading {
	r := c.readers[name]
	if r == nil {
		r = &reading{map[objectlog.Partition]objectlog.Offset{}, map[objectlog.Partition]objectlog.Offset{}, map[objectlog.Partition]int{},
			map[objectlog.Partition]int{}, map[Value]int{}}
		c.readers[name] = r
	}
	return r
}

func (c *checker) step(i int, e Event) {
	switch e.Kind {
	case Sent:
		v, _ := ParseValue(e.Value)
		c.sent[v] = sent{at: i, time: e.At, partition: e.Partition, call: e.Call}
	case Acked, Failed, Unknown:
		c.answered(i, e)
	case Loose:
		var producer int
		fmt.Sscan(e.Who, &producer)
		c.loose[producer] = true
	case Started:
		r := c.reading(e.Who)
		r.start[e.Partition], r.next[e.Partition] = e.Offset, e.Offset
	case Read:
		c.read(i, e)
	case Stuck:
		c.find("unreadable", []int{i}, "%s cannot go on: %s", e.Who, e.Text)
	case Ended:
		c.end(i, e)
	case Trimmed:
		c.trimmed[e.Partition] = max(c.trimmed[e.Partition], e.Offset)
	case Processed, Taken:
		c.tally.Worked++
	case Accused:
		c.find(e.Who, []int{i}, "%s", e.Text)
	}
}

// answered takes what a producer was told.
func (c *checker) answered(i int, e Event) {
	v, _ := ParseValue(e.Value)
	s, ok := c.sent[v]
	if s.answers++; s.answers > 1 || !ok {
		c.find("answered-twice", []int{s.at, s.answer, i}, "%s has two outcomes, or was never sent", v)
	}
	s.answer, s.unknown = i, s.unknown || e.Kind == Unknown
	c.sent[v] = s
	switch e.Kind {
	case Unknown:
		c.tally.Unknown++
	case Failed:
		c.tally.Failed++
		c.failed[v] = i
		if f, ok := c.first[v]; ok {
			c.find("G1a", []int{s.at, f.at, i}, "%s was read at %v, and its producer told that it failed", v, f.place)
		}
	case Acked:
		c.tally.Acked++
		c.acked[v] = fact{v, e.place(), i}
		c.acks = append(c.acks, ack{s.time, e.At, e.Partition})
		if e.Offset != objectlog.NoOffset {
			c.put(fact{v, e.place(), i})
		}
	}
}

// put holds one value to one place, and each place to one value.
func (c *checker) put(f fact) {
	if old, ok := c.values[f.place]; !ok {
		c.values[f.place] = f
	} else if old.value != f.value {
		c.find("inconsistent-offsets", []int{old.at, f.at}, "%v holds %s and %s", f.place, old.value, f.value)
		c.values[f.place] = f
	}
	if old, ok := c.where[f.value]; !ok {
		c.where[f.value] = f
	} else if twin := (fact{f.value, f.place, 0}); old.place != f.place && !c.twins[twin] {
		c.twins[twin] = true // told once, not by each reader
		c.doubles = append(c.doubles, found{f.value.String(), fmt.Sprintf("%s is at %v and at %v", f.value, old.place, f.place), []int{c.sent[f.value].at, old.at, f.at}})
	}
}

// read takes one record that a reader got.
func (c *checker) read(i int, e Event) {
	c.tally.Read++
	r, p, at := c.reading(e.Who), e.Partition, e.place()
	internal, before := "", []int{i}
	if last, ok := r.last[p]; ok {
		before = []int{last, i}
		if r.call[p] == e.Call {
			internal = "int-"
		}
	}
	switch next := r.next[p]; {
	case e.Offset > next && e.Offset > c.trimmed[p]:
		c.find(internal+"poll-skip", before, "%s goes on at %v, not at %d", e.Who, at, next)
	case e.Offset < next:
		c.find(internal+"nonmonotonic-poll", before, "%s goes on at %v, not at %d", e.Who, at, next)
	}
	r.next[p], r.last[p], r.call[p] = e.Offset+1, i, e.Call
	v, err := ParseValue(e.Value)
	s, ok := c.sent[v]
	if err != nil || !ok || s.partition != p {
		c.find("corrupt", []int{i}, "%s reads %.40q at %v, which nobody sent there", e.Who, e.Value, at)
		return
	}
	if failed, ok := c.failed[v]; ok {
		c.find("G1a", []int{s.at, failed, i}, "%s reads %s at %v, and its producer was told that it failed", e.Who, v, at)
	}
	if _, ok := c.first[v]; !ok {
		c.first[v] = fact{v, at, i}
	}
	r.seen[v] = i
	c.put(fact{v, at, i})
}

// missing answers what was acknowledged or first read before an event and the reader has not got, though it should have.
func (c *checker) missing(reader string, due int) (all []fact) {
	r := c.reading(reader)
	add := func(f fact) {
		floor := max(c.trimmed[f.place.partition], r.start[f.place.partition]) // a forgotten offset may lie below it
		if _, seen := r.seen[f.value]; !seen && f.at < due && (f.place.offset >= floor || floor == 0) {
			all = append(all, f)
		}
	}
	for _, f := range c.acked {
		add(f)
	}
	for v, f := range c.first {
		if _, ok := c.acked[v]; !ok {
			add(f)
		}
	}
	slices.SortFunc(all, func(a, b fact) int { return cmp.Compare(a.at, b.at) })
	return all
}

// end judges a reader that got as far as the log went.
func (c *checker) end(i int, e Event) {
	r := c.reading(e.Who)
	for _, f := range c.missing(e.Who, e.Due) {
		_, acked := c.acked[f.value]
		behind := f.place.offset >= r.next[f.place.partition]
		events := []int{c.sent[f.value].at, f.at, i}
		if last, ok := r.last[f.place.partition]; ok {
			events = append(events, last)
		}
		switch {
		case acked && behind:
			c.find("unseen", events, "%s does not get %s, acknowledged at %v", e.Who, f.value, f.place)
		case acked:
			c.find("lost-write", events, "%s does not find %s, acknowledged at %v", e.Who, f.value, f.place)
		case behind:
			c.find("precommitted-read", events, "%s comes to an end before %v, where %s was read before", e.Who, f.place, f.value)
		}
		// What was read by another, never acknowledged, and gone past shows as inconsistent-offsets or as the reader's skip.
	}
}

// lane is one producer's part of one partition: what it is acknowledged is in the order of its sequence.
type lane struct {
	producer  int
	partition objectlog.Partition
}

// close judges what can be judged at the end only.
func (c *checker) close() {
	for _, d := range c.doubles {
		v, _ := ParseValue(d.name)
		if !(c.loose[v.Producer] && c.sent[v].unknown) {
			c.find("duplicate", d.at, "%s", d.text)
		}
	}
	lanes := map[lane][]fact{}
	for v, f := range c.acked {
		if f.place.offset != objectlog.NoOffset {
			l := lane{v.Producer, f.place.partition}
			lanes[l] = append(lanes[l], f)
		}
	}
	for _, facts := range lanes {
		slices.SortFunc(facts, func(a, b fact) int { return cmp.Compare(a.place.offset, b.place.offset) })
		for n := 1; n < len(facts); n++ {
			a, b := facts[n-1], facts[n]
			if a.value.Sequence < b.value.Sequence {
				continue
			}
			name := "nonmonotonic-send"
			if c.sent[a.value].call == c.sent[b.value].call {
				name = "int-" + name
			}
			c.find(name, []int{c.sent[b.value].at, c.sent[a.value].at, a.at, b.at}, "%s is at %v, %s at %v", a.value, a.place, b.value, b.place)
		}
	}
	for v, s := range c.sent {
		if s.answers == 0 {
			c.find("unanswered", []int{s.at}, "%s has no outcome", v)
		}
	}
	slices.SortStableFunc(c.found, func(a, b found) int { return cmp.Compare(slices.Max(a.at), slices.Max(b.at)) })
}
