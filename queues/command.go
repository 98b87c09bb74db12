package queues

import (
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// The kinds of State. They are in every entry ever written: a number is never reused, and a changed body gets a new number.
const (
	kindAcquire   metadata.Kind = 96
	kindSettle    metadata.Kind = 97
	kindElapse    metadata.Kind = 98
	kindFail      metadata.Kind = 99
	kindMoveOut   metadata.Kind = 100
	kindMoved     metadata.Kind = 101
	kindReroute   metadata.Kind = 102
	kindDiscard   metadata.Kind = 103
	kindTrim      metadata.Kind = 104
	kindDropTopic metadata.Kind = 105
	kindExpire    metadata.Kind = 106
)

// Acquire locks records for a consumer: first those that are to be handed out again, in the order of the log, then new ones. The queue is made if
// it is not there. A repeat, which has the same Lock, locks nothing more and answers what is still locked under it.
type Acquire struct {
	Key
	Lock     uint64        // drawn at random for each Acquire, never 0
	Wait     time.Duration // of the lock
	Limit    int32         // of records
	Window   int32         // of records in flight: beyond it no new ones are handed out
	Until    objectlog.Offset
	LogStart objectlog.Offset // both ends of the log, as the proposer saw them
	Start    objectlog.Offset // where a queue begins that is not there yet
	Policy   Policy
}

// Settle says what became of locked records.
type Settle struct {
	Key
	Items []Settlement // in any order; those of one record count from first to last
}

// Settlement is what became of records that are locked under Lock.
type Settlement struct {
	From, To objectlog.Offset
	Lock     uint64
	Verdict  Verdict
	Wait     time.Duration // of Release: not before; of Extend: from now on
	Error    string        // of Release and Reject: what went wrong
}

// Verdict is what a consumer says of a record. Numbers are in entries.
type Verdict uint8

// The verdicts.
const (
	Accept  Verdict = 1 // it is processed
	Release Verdict = 2 // to be handed out again; a dead letter, if that was the last time
	Reject  Verdict = 3 // it can't be processed: a dead letter
	Extend  Verdict = 4 // the lock begins anew
	Return  Verdict = 5 // it never reached the consumer: the delivery does not count
)

// Elapse is the leader's word that waits are over. Waits that ended otherwise meanwhile are left alone.
type Elapse struct {
	Key
	Stamps []int64 // ascending
}

// Fail makes a record of an ordered group a dead letter. The queue is made if it is not there. Repeats do nothing, as long as the group may go back to the
// record, which it may to Committed.
type Fail struct {
	Key
	Offset     objectlog.Offset
	Committed  objectlog.Offset // the group's position: what lies below is forgotten, and not sent again
	Deliveries int32
	First      objectlog.Timestamp // when it failed for the first time
	Error      string
	Policy     Policy
}

// MoveOut puts records on their way to other partitions: Failed ones, and of a dead-letter topic's own queue those that are Ready or were never touched.
// It does nothing at all with ReasonNoProducer.
type MoveOut struct {
	Key
	Until objectlog.Offset // the end of the log, as the proposer saw it
	Items []Departure      // by offset
}

// Departure is one record of a MoveOut.
type Departure struct {
	Offset objectlog.Offset
	To     Place
	// Producer is for a route that is not there yet, and was drawn for this proposal; objectlog.NoProducer: none.
	Producer  objectlog.ProducerID
	Edited    []byte
	HasEdited bool
}

// Moved finishes records that have arrived.
type Moved struct {
	Key
	Items []Arrival // by offset
}

// Arrival is one record that was written.
type Arrival struct {
	Offset   objectlog.Offset
	Producer objectlog.ProducerID // with the sequence it names the batch
	Sequence int32
}

// Reroute takes back the records that are on their way along a route, none of which has arrived or will, and forgets the route.
type Reroute struct {
	Key
	Producer objectlog.ProducerID // the route's
}

// Discard finishes records of a dead-letter topic's own queue that are Ready or were never touched.
type Discard struct {
	Key
	Until  objectlog.Offset // the end of the log, as the proposer saw it
	Ranges []Range          // by offset
}

// Range is a range of offsets.
type Range struct {
	From, To objectlog.Offset
}

// Trim finishes what the log does not hold any more, and nobody has in hand: what is locked or on its way stays until that is over.
type Trim struct {
	Key
	LogStart objectlog.Offset
}

// DropTopic forgets every queue on a topic that was deleted, dead letters that were on their way included.
type DropTopic struct {
	Topic objectlog.UUID
}

// Expire forgets the queues that nobody has used since before the time and of which nothing is locked, delayed, failed or on its way. Those of dead-letter
// topics themselves stay: what was redriven would come back.
type Expire struct {
	Before objectlog.Timestamp
}
