package sim

import (
	"encoding/binary"
	"errors"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// tagKind is of the command that goes along with every proposal.
const tagKind metadata.Kind = 200

// tag names one proposal at one agent: the same commands that are proposed again have another one.
type tag struct {
	shard int
	id    uint64
}

// fate is what is known of a proposal.
type fate struct {
	at      metadata.Seq // where the log has it; -1: nowhere yet
	refused bool         // it was answered that the log will never have it
}

func (t tag) command() metadata.Command {
	return metadata.Command{Kind: tagKind, Body: binary.AppendUvarint(nil, t.id)}
}

func (c *checker) newTag(s int) tag {
	c.tags[s] = append(c.tags[s], fate{at: -1})
	return tag{s, uint64(len(c.tags[s]) - 1)}
}

// decided: a proposal is answered as the log has it.
func (c *checker) decided(t tag, d shardlog.Decided) {
	f := &c.tags[t.shard][t.id]
	switch {
	case d.Err == nil && f.at != d.Receipt.Seq:
		c.w.fail("lost-proposal", "proposal %d of shard %d is called committed at seq %d, the log has it at %d", t.id, t.shard, d.Receipt.Seq, f.at)
	case errors.Is(d.Err, shardlog.ErrNotLeader) && !errors.Is(d.Err, shardlog.ErrUnknown):
		if f.refused = true; f.at >= 0 {
			c.w.fail("G1a", "proposal %d of shard %d is called never appended, the log has it at seq %d", t.id, t.shard, f.at)
		}
	}
}

// executed: the log has a proposal once, and none that was refused.
func (c *checker) executed(s int, id uint64, at metadata.Seq) {
	f := &c.tags[s][id]
	switch {
	case f.refused:
		c.w.fail("G1a", "proposal %d of shard %d is in the log at seq %d, it was called never appended", id, s, at)
	case f.at >= 0 && f.at != at:
		c.w.fail("duplicate", "proposal %d of shard %d is in the log at seq %d and at seq %d", id, s, f.at, at)
	}
	f.at = at
}

// tags is the Machine of these commands. Its state is their order.
type tags struct {
	w     *world
	shard int
	sum   uint64
}

// Prepare implements metadata.Machine.
func (t *tags) Prepare(c metadata.Command) (metadata.Command, error) { return c, nil }

// Reference implements metadata.Machine.
func (t *tags) Reference(metadata.Command) (metadata.FooterRef, bool, error) {
	return metadata.FooterRef{}, false, nil
}

// Apply implements metadata.Machine.
func (t *tags) Apply(at metadata.Position, c metadata.Command) (any, error) {
	id, _ := binary.Uvarint(c.Body)
	if id >= uint64(len(t.w.check.tags[t.shard])) {
		return nil, objectlog.ErrCorrupt
	}
	t.sum = (t.sum ^ id) * 0x9e3779b97f4a7c15
	t.w.check.executed(t.shard, id, at.Seq)
	return nil, nil
}

// View implements metadata.Machine.
func (t *tags) View() metadata.View { return tagView(t.sum) }

// Restore implements metadata.Machine.
func (t *tags) Restore(b []byte) error {
	if len(b) != 8 {
		return objectlog.ErrCorrupt
	}
	t.sum = binary.BigEndian.Uint64(b)
	return nil
}

type tagView uint64

// Encode implements metadata.View.
func (v tagView) Encode(dst []byte) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }
