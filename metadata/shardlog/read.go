package shardlog

import (
	"context"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Record is one entry of a shard log, for people.
type Record struct {
	Position metadata.Position
	Bytes    int // of the entry in its slot
	Commands []metadata.Command
}

// ReadLog reads the entries of a shard from a seq on, or from the oldest that its ring still holds, to the end, and gives them to yield in
// order until that answers false. It changes nothing and needs no agent. Damage is an error that names the slot.
func ReadLog(ctx context.Context, table metadata.Table, s objectlog.Shard, from metadata.Seq, yield func(Record) bool) error {
	panic("shardlog: ReadLog: to be written")
}
