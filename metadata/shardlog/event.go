package shardlog

import (
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Now is the time of a step. Mono decides leases and waits; Wall is only written into entries.
type Now struct {
	Mono time.Duration // of a clock that never steps back, from any start above 0
	Wall objectlog.Timestamp
}

// Event is what a Core is told. Those with an ID answer the Effect with that ID, exactly once; an answer that nobody
// waits for any more is ignored.
type Event interface{ event() }

// Tick tells nothing but the time. The first Step is a Tick and starts the replica; later ones come at NextWake.
type Tick struct{}

// Proposed asks to append commands, together. ID is the proposer's; Decided answers it, once.
type Proposed struct {
	ID       uint64
	Commands []metadata.Command
}

// CurrentAsked asks for a seq that no entry committed by now lies behind. ID is the asker's; CurrentAnswered answers it, once.
type CurrentAsked struct{ ID uint64 }

// PutDone answers a PutItem.
type PutDone struct {
	ID     uint64
	Result metadata.PutResult
}

// ItemRead answers a GetItem, as Table.Get does.
type ItemRead struct {
	ID    uint64
	Item  metadata.Item
	Found bool
	Err   error // nothing was learned
}

// SnapshotLoaded answers a LoadSnapshot: the whole object. Err is Bucket.Get's.
type SnapshotLoaded struct {
	ID   uint64
	Body []byte
	Err  error
}

// SnapshotStored answers a StoreSnapshot. On a nil Err the object was put, and Body is what was read back under its key.
type SnapshotStored struct {
	ID   uint64
	Body []byte
	Err  error
}

// FootersRead answers a ReadFooters, in its order. Err is Bucket.Get's.
type FootersRead struct {
	ID      uint64
	Footers [][]byte
	Err     error
}

// Followed hands over committed entries, in order, from the leader's stream; none is a sign of life. Without one for the
// lease time the replica reads the ring.
type Followed struct {
	Leader  objectlog.UUID
	Entries []Committed
}

// HolderGone says that this boot no longer leads: it offered a hand-off, or its address refused connections twice. If the
// lease item still names it, or nobody, the replica claims at once.
type HolderGone struct{ Holder objectlog.UUID }

// Ranked sets the replica's place among the successors: 0 watches the lease and claims it, 1 likewise but later, below 0 neither.
// A replica starts with 0.
type Ranked struct{ Rank int }

// Resign asks a leader to append what it holds, refuse what comes, and let go of the lease; the replica then follows, with rank -1.
type Resign struct{}

func (Tick) event()           {}
func (Proposed) event()       {}
func (CurrentAsked) event()   {}
func (PutDone) event()        {}
func (ItemRead) event()       {}
func (SnapshotLoaded) event() {}
func (SnapshotStored) event() {}
func (FootersRead) event()    {}
func (Followed) event()       {}
func (HolderGone) event()     {}
func (Ranked) event()         {}
func (Resign) event()         {}

// Effect is what a Core wants done. Effects of one step may run together and in any order.
type Effect interface{ effect() }

// PutItem is one attempt of Table.Put. The Core sends it again, the same but for the ID, when the outcome is Unknown.
type PutItem struct {
	ID   uint64
	Item metadata.Item
	Cond metadata.If
}

// GetItem is one Table.Get.
type GetItem struct {
	ID  uint64
	Key metadata.Key
}

// LoadSnapshot is one Bucket.Get of a whole snapshot.
type LoadSnapshot struct {
	ID   uint64
	Name objectlog.SnapshotName
}

// StoreSnapshot is: Encode, one Bucket.Put under the name with the nonce, one Bucket.Get of the whole object. Appends go on
// meanwhile.
type StoreSnapshot struct {
	ID    uint64
	Name  objectlog.SnapshotName
	Nonce objectlog.UUID

	ring  objectlog.UUID
	tip   tip
	names []string
	views []metadata.View
}

// Encode is the snapshot object. It may run beside the Core.
func (e StoreSnapshot) Encode() []byte {
	s := snapshot{shard: e.Name.Shard, ring: e.ring, tip: e.tip}
	for i, v := range e.views {
		s.sections = append(s.sections, section{name: e.names[i], body: v.Encode(nil)})
	}
	return s.encode()
}

// DeleteSnapshots deletes the shard's snapshots that it Covers: those it names, and if Below is above 0, whatever else a listing shows.
// It has no answer; what stays is covered again by the next leader.
type DeleteSnapshots struct {
	Names []objectlog.SnapshotName
	Below objectlog.Epoch // of a leader whose claim is confirmed
	Keep  []objectlog.SnapshotName
}

// Covers says whether the snapshot may be deleted.
func (e DeleteSnapshots) Covers(n objectlog.SnapshotName) bool {
	for _, k := range e.Keep {
		if k == n {
			return false
		}
	}
	for _, x := range e.Names {
		if x == n {
			return true
		}
	}
	return n.Epoch < e.Below
}

// ReadFooters is one Bucket.Get per reference, of its section's extent.
type ReadFooters struct {
	ID   uint64
	Refs []metadata.FooterRef
}

// Decided answers a Proposed.
type Decided struct {
	ID      uint64
	Receipt Receipt
	Err     error // matches ErrNotLeader, ErrUnknown or ErrHalted
}

// CurrentAnswered answers a CurrentAsked.
type CurrentAnswered struct {
	ID  uint64
	Seq metadata.Seq
	Err error // matches ErrHalted
}

// Committed is one committed entry, applied here, for the followers' streams.
type Committed struct {
	Seq     metadata.Seq
	Entry   []byte   // encoded
	Footers [][]byte // one per command; nil where the entry does not refer to one
}

// Alarm is for a person: the replica goes on, but something is wrong.
type Alarm struct{ Err error }

func (PutItem) effect()         {}
func (GetItem) effect()         {}
func (LoadSnapshot) effect()    {}
func (StoreSnapshot) effect()   {}
func (DeleteSnapshots) effect() {}
func (ReadFooters) effect()     {}
func (Decided) effect()         {}
func (CurrentAnswered) effect() {}
func (Committed) effect()       {}
func (Alarm) effect()           {}

// checkFooter says whether b is the section that ref refers to.
func checkFooter(ref metadata.FooterRef, b []byte) error {
	if int64(len(b)) != ref.Section.Extent.Len() || crc32c(b) != ref.Section.CRC32C {
		return fmt.Errorf("section %d..%d of segment %s/%d: %w: %d bytes with CRC32C %08x, want %d with %08x",
			ref.Section.Extent.Start, ref.Section.Extent.Next, ref.Segment.Boot, ref.Segment.Counter, objectlog.ErrCorrupt,
			len(b), crc32c(b), ref.Section.Extent.Len(), ref.Section.CRC32C)
	}
	return nil
}
