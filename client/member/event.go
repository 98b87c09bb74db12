package member

import (
	"cmp"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// Place is one partition of one life of a topic: a topic that was deleted and made anew has another id, and places of its own.
type Place struct {
	Topic, TopicID string
	Partition      objectlog.Partition
}

// Compare orders places by id of the topic, then number.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.TopicID, q.TopicID), cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}

// Event is something that happened to a member: one of the types below.
type Event interface{ event() }

type (
	// Begin is the first event: the member joins.
	Begin struct{}
	// Answered is what the agent answered to the Send with this number.
	Answered struct {
		Request    int
		Generation int64
		Assigned   []Place       // each once, in any order
		Session    time.Duration // as the agent keeps it; 0: as asked for
	}
	// Failed says that the Send with this number failed.
	Failed struct {
		Request int
		Kind    Kind
		After   time.Duration // do not try again before so long
		Err     error         // for End
	}
	// Stopped says that the places of the Stop with this number are worked on no longer, and that their positions are committed, or will never be.
	Stopped struct{ Stop int }
	// Polling says that the consumer has come for records and waits for them: until Polled it is not slow.
	Polling struct{}
	// Polled says that the consumer went away with records, or without: it has Config.PollMax to come back.
	Polled struct{}
	// Leave says that the consumer is being closed. End follows when everything is stopped and the group has been told.
	Leave struct{}
	// Tick says that time went by.
	Tick struct{}
)

func (Begin) event()    {}
func (Answered) event() {}
func (Failed) event()   {}
func (Stopped) event()  {}
func (Polling) event()  {}
func (Polled) event()   {}
func (Leave) event()    {}
func (Tick) event()     {}

// Kind says what a failure means for a member.
type Kind uint8

// The kinds of failure.
const (
	Retry         Kind = iota // it says nothing: the outcome is unknown, or nothing was done
	UnknownMember             // the group does not know this life of the member
	Fenced                    // a later life of the same instance took over
	Fatal                     // it will fail again and again
)

// Effect is something to be done for a member, in the order in which Step answers them: one of the types below.
type Effect interface{ effect() }

type (
	// Send is a heartbeat to be sent. The one before is given up if it is still under way: what comes of it counts no more.
	Send struct {
		Request    int
		Life       int // from 1; each has a member id of its own, never used before
		Generation int64
		Owned      []Place // sorted
		Wait       time.Duration
		Leave      bool
		// Elsewhere: the one before was not answered in time. Whoever has it may be cut off.
		Elsewhere bool
	}
	// Stop says that places are not the member's any more. Unless Lost, the member is still their owner: finish what is in hand, commit with the
	// generation of Committing, then report Stopped. Lost: others may have them by now; drop them and commit nothing, report nothing. Lost places may
	// be among those of earlier Stops, which are void with it.
	Stop struct {
		Stop   int // its number
		Places []Place
		Lost   bool
	}
	// Start says that places are the member's from now on, from the position on that the group has committed.
	Start struct{ Places []Place }
	// NextWake says when the next Step is due at the latest, in place of what an earlier one said. A Step that answers none waits for events only.
	NextWake struct{ At time.Duration }
	// End says that all is over: nothing follows. Err is why, where that was not Leave.
	End struct{ Err error }
)

func (Send) effect()     {}
func (Stop) effect()     {}
func (Start) effect()    {}
func (NextWake) effect() {}
func (End) effect()      {}
