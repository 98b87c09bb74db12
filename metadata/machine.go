// Package metadata holds the replicated state of a shard (topics, partitions, the index of batches, producers) as a
// pure function of its log, the contract of such machines, and the Table in which logs and leases are kept.
package metadata

import "github.com/splashdam/splashdam/objectlog"

// Seq numbers the entries of a shard log, from 0.
type Seq int64

// Kind says which machine applies a command, and as what. Kinds 1 to 63 belong to State, 64 to 95 to groups, 96 to 127 to queues;
// kinds above 127 are reserved. Kinds are written into entries and are never reused.
type Kind uint8

// State owns the kinds in [StateFrom, StateTo).
const (
	StateFrom Kind = 1
	StateTo   Kind = 64
)

// Command is one command of an entry.
type Command struct {
	Kind Kind
	Body []byte // what the entry carries

	// Footer is the section of a segment's footer that Body refers to, when it does. The entry does not carry it: whoever
	// appends or follows hands it along, and a replay fetches it before Apply.
	Footer []byte
}

// Position is where, when and by whom an entry was committed. Time is the leader's clock, made monotone along the log;
// Apply knows no other time.
type Position struct {
	Seq   Seq
	Epoch objectlog.Epoch
	Time  objectlog.Timestamp
}

// FooterRef is where the rows are that a command refers to.
type FooterRef struct {
	Segment objectlog.SegmentName
	Section objectlog.SectionRef
}

// Machine is state that is driven by the commands of a shard log, and by nothing else. Its methods are called by one
// goroutine at a time, and do no I/O, read no clock and draw no random numbers.
type Machine interface {
	// Prepare is called by the leader before a command enters an entry. It validates the command and may rewrite it into its
	// shortest form for this state (rows instead of a reference). An error refuses the command alone; nothing is
	// appended for it. A command that passes Prepare must be safe to Apply in every state.
	Prepare(c Command) (short Command, err error)

	// Reference answers the footer that Apply will need for the command, if any. Error: the body does not decode.
	Reference(c Command) (ref FooterRef, ok bool, err error)

	// Apply changes the state by one committed command and answers its result, which is a value that the kind
	// defines. It is total and deterministic: an error means that the bytes are not what a leader wrote (or are of a later
	// format), and stops the shard.
	Apply(at Position, c Command) (result any, err error)

	// View is an immutable picture of the state, cheap to take: later Applies do not change it.
	View() View

	// Restore replaces the state by what a View encoded. Error: damaged or of a later format; the state is then
	// unusable.
	Restore(b []byte) error
}

// View is an immutable state that can be written down. Encode may run beside the Machine. Equal states encode equally, whatever
// path led there.
type View interface {
	Encode(dst []byte) []byte
}
