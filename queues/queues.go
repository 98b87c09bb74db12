// Package queues holds queues and dead letters: which records of a partition are handed out, locked, failed or on their way to another topic, as a
// pure function of the shard log that the partition belongs to; and the pure core with which a leader ends locks. No clock, no I/O, no goroutine.
package queues

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// State owns the kinds in [From, To).
const (
	From metadata.Kind = 96
	To   metadata.Kind = 128
)

// The bounds of what a queue may hold.
const (
	groupBytesMax  = 255
	topicBytesMax  = 249
	ErrorBytesMax  = 256      // of what a consumer says of a failure; the rest is cut off
	EditedBytesMax = 64 << 10 // of a value that takes the place of a dead letter's: entries carry it

	queuesMax     = 1_000_000 // of one shard
	piecesMax     = 20_000    // of one queue: what lies apart in its window, or in a dead-letter topic
	routesMax     = 256       // of one queue
	WindowDefault = 2000      // records in flight, of one queue
	WindowMax     = 10_000

	// WaitMax bounds the time of a lock and of a delay.
	WaitMax = 12 * time.Hour
	// DeliveriesMax bounds how often a record may be handed out.
	DeliveriesMax = 1000

	partitionsMax        = 100_000
	offsetMax     uint64 = 1 << 62
)

// Key names the part of a queue that is of one partition. A queue is a group on a topic. The one without a group is a dead-letter topic's
// own: what is missing in it was redriven or discarded.
type Key struct {
	Topic     objectlog.UUID
	Partition objectlog.Partition
	Group     string
}

// Compare orders keys by topic, partition, then group.
func (k Key) Compare(l Key) int {
	return cmp.Or(slices.Compare(k.Topic[:], l.Topic[:]), cmp.Compare(k.Partition, l.Partition), strings.Compare(k.Group, l.Group))
}

// Place is one partition of one life of a topic.
type Place struct {
	Topic     objectlog.UUID
	Partition objectlog.Partition
}

// Policy is what becomes of records that fail. The newest one that was named with an Acquire or a Fail counts.
type Policy struct {
	Deliveries  int32  // so often a record is handed out; then it is a dead letter
	DeadLetters string // the topic they go to
}

// Queue is a group's queue on one partition. Records below Next are in a piece, or finished. What State hands out are its own parts, which
// nobody else changes.
type Queue struct {
	Key
	// Ordered: the group reads in order and keeps its own positions; only what it gives up on is here.
	Ordered bool
	Next    objectlog.Offset // behind the last record that was handed out, ever
	Policy  Policy
	Used    objectlog.Timestamp // of the last command for it
	Pieces  []Piece             // by offset
	Routes  []Route             // the one used last is last

	stamps int64  // that were given out
	moved  uint64 // the state's count of moves at the newest one in this queue
}

// Phase is what becomes of a record that was handed out.
type Phase uint8

// The phases of a piece. Numbers are in snapshots.
const (
	Ready   Phase = 0 // to be handed out again; in a dead-letter topic: to be redriven
	Locked  Phase = 1 // handed out, under Lock, for Wait
	Delayed Phase = 2 // to be Ready behind Wait
	Failed  Phase = 3 // to become a dead letter
	Moving  Phase = 4 // on its way along Move
	Buried  Phase = 5 // of an ordered queue: it is a dead letter, and will not become one again
)

// Piece is a range of offsets that fare alike.
type Piece struct {
	From, To   objectlog.Offset
	Phase      Phase
	Deliveries int32         // how often they were handed out
	Lock       uint64        // of Locked: what the consumer has to show
	Stamp      int64         // of Locked and Delayed: names the wait; no two waits of a queue have the same
	Wait       time.Duration // of Locked and Delayed, by the leader's clock
	Failure    Failure       // the newest one; the zero value: none yet
	Move       *Move         // of Moving; such a piece is one record
}

// Failure is why a record was not processed.
type Failure struct {
	First, Last objectlog.Timestamp // when it failed for the first time, and when for the last
	Cause       Cause
	Error       string // what the consumer said, at most ErrorBytesMax
}

// Cause is how a delivery failed. Numbers are in snapshots and entries.
type Cause uint8

// The causes.
const (
	CauseNone     Cause = 0
	CauseExpired  Cause = 1 // the lock ended
	CauseReleased Cause = 2 // the consumer gave it back
	CauseRejected Cause = 3 // the consumer said that it can't be processed
	CauseGivenUp  Cause = 4 // a consumer of an ordered group tried as often as it is to
)

var causes = [...]string{"none", "expired", "released", "rejected", "given-up"}

func (c Cause) String() string {
	if int(c) < len(causes) {
		return causes[c]
	}
	return "unknown"
}

// Move is where a record goes, once: Sequence is that of its batch, which it is alone in, among those of the route's producer.
type Move struct {
	To       Place
	Producer objectlog.ProducerID
	Sequence int32
	Failed   bool // it comes from Failed, else from Ready
	// Edited is the value that takes the place of the record's, if HasEdited.
	Edited    []byte
	HasEdited bool
}

// Route is a partition that records of the queue were moved to. Its producer is used for nothing else.
type Route struct {
	To       Place
	Producer objectlog.ProducerID
	Next     int32 // sequence
}

// Reason says why a command, or a part of it, did nothing. Edges map each to their codes in one table; numbers cross between agents and are
// never reused.
type Reason uint8

// The reasons.
const (
	ReasonNone       Reason = 0
	ReasonNotLocked  Reason = 1 // not locked under what was shown: the lock ended, or the record was acknowledged
	ReasonFull       Reason = 2 // of queues, pieces or routes
	ReasonOtherMode  Reason = 3 // the group reads the topic in order, or as a queue, and this was for the other
	ReasonNoProducer Reason = 4 // a new route needs a producer of its own
	ReasonNotThere   Reason = 5 // the record is not in the phase that this is for: it was finished, moved or not handed out
)

var reasons = [...]string{"none", "not locked under this token: the lock ended, or the record was acknowledged before", "the queue is full",
	"the group reads this topic in another mode", "a route without a producer", "the record is not there any more"}

// Error implements error.
func (r Reason) Error() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "unknown reason"
}

// Result is what every command of this package answers.
type Result struct {
	Reason   Reason
	Acquired []Acquired // of Acquire, by offset
	Refused  []Refusal  // of Settle, MoveOut and Discard: what was not done, by offset
	Expired  int64      // of Elapse: records whose locks it ended
}

// Acquired is a range of records that are locked now.
type Acquired struct {
	From, To   objectlog.Offset
	Deliveries int32 // this one included
}

// Refusal is a range of records of which a command did nothing.
type Refusal struct {
	From, To objectlog.Offset
	Reason   Reason
}

// CheckGroup says what is wrong with a queue's group; that of a dead-letter topic's own is empty.
func CheckGroup(id string) error {
	if id == "" {
		return fmt.Errorf("group id: want 1 to %d bytes of text without control characters", groupBytesMax)
	}
	return checkText("group id", id, groupBytesMax)
}

func checkText(what, s string, bytesMax int) error {
	if len(s) > bytesMax || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return fmt.Errorf("%s: want at most %d bytes of text without control characters", what, bytesMax)
	}
	return nil
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// CutError shortens what a consumer says of a failure to what is kept of it: valid text on one line, of at most ErrorBytesMax.
func CutError(s string) string {
	s = strings.Map(func(c rune) rune {
		if isControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s[:min(len(s), 2*ErrorBytesMax)], "\uFFFD"))
	if len(s) <= ErrorBytesMax {
		return s
	}
	cut := ErrorBytesMax
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// InFlight counts the records that were handed out and are not finished.
func (q *Queue) InFlight() int64 {
	n := int64(0)
	for _, p := range q.Pieces {
		if p.Phase != Buried {
			n += int64(p.To - p.From)
		}
	}
	return n
}

// Count counts the records in a phase.
func (q *Queue) Count(phase Phase) int64 {
	n := int64(0)
	for _, p := range q.Pieces {
		if p.Phase == phase {
			n += int64(p.To - p.From)
		}
	}
	return n
}

// Available counts the records that an Acquire with this end of the log and window would get.
func (q *Queue) Available(until objectlog.Offset, window int32) int64 {
	fresh := min(int64(until-q.Next), int64(window)-q.InFlight())
	return q.Count(Ready) + max(0, fresh)
}

// Unfinished counts the records of [logStart, until) that are not finished: of a dead-letter topic's own queue the dead letters, of others the lag.
func (q *Queue) Unfinished(logStart, until objectlog.Offset) int64 {
	n := max(0, int64(until-max(q.Next, logStart)))
	for _, p := range q.Pieces {
		if p.Phase != Buried {
			n += max(0, int64(p.To-max(p.From, logStart)))
		}
	}
	return n
}

// At finds the piece that holds an offset.
func (q *Queue) At(o objectlog.Offset) (Piece, bool) {
	i := q.after(o)
	if i == len(q.Pieces) || q.Pieces[i].From > o {
		return Piece{}, false
	}
	return q.Pieces[i], true
}

// after is the index of the first piece that ends behind o.
func (q *Queue) after(o objectlog.Offset) int {
	i, _ := slices.BinarySearchFunc(q.Pieces, o, func(p Piece, o objectlog.Offset) int {
		if p.To <= o {
			return -1
		}
		return 1
	})
	return i
}
