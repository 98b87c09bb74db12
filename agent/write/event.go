package write

import (
	"errors"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Batch is what one request has for one partition. Either Records or Encoded is set. It must not change once
// submitted.
type Batch struct {
	Shard     objectlog.Shard
	Topic     objectlog.UUID
	Partition objectlog.Partition

	Encoded []byte             // one checked record batch, stored as it is
	Row     objectlog.BatchRow // of Encoded

	Records  []objectlog.Record // encoded at seal time, together with their neighbours
	Codec    objectlog.Codec    // of Records
	BytesMax int                // stored size of one batch of Records

	Stamp objectlog.Timestamp // LogAppendTime, of Records to be given, of Encoded given; NoTimestamp: the records keep their own
	Bytes int64               // of memory
	Owner any                 // whom the Answer concerns

	deadline time.Duration
	answered bool
}

// Event is what happens to a Core: Submit, Uploaded, Decided, Flush or Tick.
type Event any

// Submit gives batches their place behind everything submitted before. It is refused as a whole: with Full, or, if the empty buffer
// could not hold it either, by an Answer of ErrTooLarge to each batch.
type Submit struct{ Batches []*Batch }

// Uploaded ends an Upload. An upload whose Err is neither nil nor ErrNotWritten has an unknown outcome.
type Uploaded struct {
	Counter uint64
	Encoded *Encoded
	Err     error
}

// Decided ends a Propose. Results has for each commit a metadata.CommitResult, or the error that refused it; it is
// nil when nothing was decided, or when it is unknown what was.
type Decided struct {
	Shard   objectlog.Shard
	Results []any
}

// Flush seals what is open, and from then on whatever comes.
type Flush struct{}

// Tick is due when a Wake was asked for.
type Tick struct{}

// Effect is what a Core wants done: Upload, Propose, Answer, Appended, Wake, Full or Room.
type Effect any

// Upload asks to encode the batches, unless Encoded is there already, and to put the segment. Sent again, it must
// be the same key, body and nonce: they are in Encoded.
type Upload struct {
	Counter uint64
	Batches []*Batch
	Encoded *Encoded
}

// Propose asks to propose the commits to the shard's log, all in one proposal and in this order.
type Propose struct {
	Shard   objectlog.Shard
	Commits []Commit
}

// Commands are the proposal's commands, of the boot with the ordinal. Their results are what Decided wants.
func (p Propose) Commands(ordinal int64) []metadata.Command {
	commands := make([]metadata.Command, len(p.Commits))
	for i, c := range p.Commits {
		commands[i] = metadata.Commit{Ordinal: ordinal, Segment: c.Name, Section: c.Section.Ref}.Command()
		commands[i].Footer = c.Section.Bytes
	}
	return commands
}

// Commit is one segment's part in a proposal.
type Commit struct {
	Counter uint64
	Name    objectlog.SegmentName
	Section objectlog.Section
}

// Answer decides a batch, once. Parts are set if Err is nil.
type Answer struct {
	Batch *Batch
	Err   error // ErrNotWritten, ErrUnknown, ErrTooLarge, or why this batch alone could not be encoded or committed
	Parts []Part
}

// Part is the decision on those of a batch's records that were stored as one batch.
type Part struct {
	First, Records int // of the submitted batch
	Base           objectlog.Offset
	Reason         metadata.Reason
	Duplicate      bool
	AppendTime     objectlog.Timestamp // NoTimestamp: the records' own
}

// Appended counts the stored bytes of a topic that were acknowledged as new in its log. Batches answered as unknown are never
// counted, even if they turn out to be there.
type Appended struct {
	Topic objectlog.UUID
	Bytes int64
}

// Wake asks for a Tick at this time. Later wakes do not replace earlier ones.
type Wake struct{ At time.Duration }

// Full refuses a Submit: there is no memory for it. Room follows.
type Full struct{}

// Room says that memory was released after a Full.
type Room struct{}

var (
	// ErrNotWritten: the batch is not in the log and never will be.
	ErrNotWritten = errors.New("not written")
	// ErrUnknown: the batch may or may not be in the log.
	ErrUnknown = errors.New("outcome unknown")
)

// undecided is an ErrUnknown whose text is why.
type undecided struct{ why error }

func (u undecided) Error() string   { return u.why.Error() }
func (u undecided) Unwrap() []error { return []error{ErrUnknown, u.why} }
