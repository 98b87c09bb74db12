package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// The bodies of all commands but Commit, encoder beside decoder. A body is its fields in the order of the struct.

var (
	errNoTopic      = errors.New("no topic id")
	errNoPartitions = fmt.Errorf("partitions: want 1 to %d", partitionsMax)
)

// Command encodes c.
func (c CreateTopic) Command() Command {
	b := wire.AppendString(c.ID[:], c.Name)
	return Command{Kind: kindCreateTopic, Body: appendSettings(wire.AppendInt(b, c.Partitions), c.Settings)}
}

func (c *CreateTopic) decode(r *reader) {
	c.ID, c.Name = r.UUID("topic"), r.String("name", nameBytesMax)
	c.Partitions, c.Settings = r.partitionCount("partitions"), r.settings()
}

func (c *CreateTopic) check() error {
	if c.Partitions < 1 {
		return errNoPartitions
	}
	return errors.Join(checkID(c.ID), CheckTopicName(c.Name), CheckSettings(c.Settings))
}

// Command encodes c.
func (c AlterTopic) Command() Command {
	return Command{Kind: kindAlterTopic, Body: appendSettings(wire.AppendInt(c.ID[:], c.Version), c.Settings)}
}

func (c *AlterTopic) decode(r *reader) {
	c.ID, c.Version, c.Settings = r.UUID("topic"), int64(r.Bounded("version", maxInt63)), r.settings()
}

func (c *AlterTopic) check() error { return errors.Join(checkID(c.ID), CheckSettings(c.Settings)) }

// Command encodes c.
func (c GrowTopic) Command() Command {
	return Command{Kind: kindGrowTopic, Body: wire.AppendInt(c.ID[:], c.Partitions)}
}

func (c *GrowTopic) decode(r *reader) {
	c.ID, c.Partitions = r.UUID("topic"), r.partitionCount("partitions")
}

func (c *GrowTopic) check() error {
	if c.Partitions < 1 {
		return errNoPartitions
	}
	return checkID(c.ID)
}

// Command encodes c.
func (c ActivateTopic) Command() Command {
	return Command{Kind: kindActivateTopic, Body: wire.AppendInt(c.ID[:], c.Partitions)}
}

func (c *ActivateTopic) decode(r *reader) {
	c.ID, c.Partitions = r.UUID("topic"), r.partitionCount("partitions")
}

func (c *ActivateTopic) check() error {
	if c.Partitions < 1 {
		return errNoPartitions
	}
	return checkID(c.ID)
}

// Command encodes c.
func (c DeleteTopic) Command() Command {
	return Command{Kind: kindDeleteTopic, Body: wire.AppendInt(c.ID[:], c.Version)}
}

func (c *DeleteTopic) decode(r *reader) {
	c.ID, c.Version = r.UUID("topic"), int64(r.Bounded("version", maxInt63))
}

func (c *DeleteTopic) check() error { return checkID(c.ID) }

// Command encodes c.
func (c ForgetTopic) Command() Command { return Command{Kind: kindForgetTopic, Body: c.ID[:]} }

func (c *ForgetTopic) decode(r *reader) { c.ID = r.UUID("topic") }
func (c *ForgetTopic) check() error     { return checkID(c.ID) }

// Command encodes c.
func (c AddPartitions) Command() Command {
	return Command{Kind: kindAddPartitions, Body: wire.AppendInt(wire.AppendInt(c.Topic[:], c.From), c.To)}
}

func (c *AddPartitions) decode(r *reader) {
	c.Topic, c.From, c.To = r.UUID("topic"), r.partitionCount("from"), r.partitionCount("to")
}

func (c *AddPartitions) check() error {
	if c.From >= c.To {
		return fmt.Errorf("partitions [%d, %d): empty", c.From, c.To)
	}
	return checkID(c.Topic)
}

// Command encodes c.
func (c DropTopic) Command() Command { return Command{Kind: kindDropTopic, Body: c.Topic[:]} }

func (c *DropTopic) decode(r *reader) { c.Topic = r.UUID("topic") }
func (c *DropTopic) check() error     { return checkID(c.Topic) }

// Command encodes c.
func (c Fence) Command() Command {
	return Command{Kind: kindFence, Body: binary.AppendUvarint(wire.AppendInt(nil, c.Ordinal), c.Below)}
}

func (c *Fence) decode(r *reader) {
	c.Ordinal, c.Below = int64(r.Bounded("ordinal", maxInt63)), r.Uvarint("below")
}

func (c *Fence) check() error { return nil }

// Command encodes c.
func (c RetireBoots) Command() Command {
	return Command{Kind: kindRetireBoots, Body: wire.AppendInt(nil, c.Below)}
}

func (c *RetireBoots) decode(r *reader) { c.Below = int64(r.Bounded("below", maxInt63)) }
func (c *RetireBoots) check() error     { return nil }

// Command encodes c.
func (c Trim) Command() Command {
	return Command{Kind: kindTrim, Body: wire.AppendInt(wire.AppendInt(c.Topic[:], c.Partition), c.LogStart)}
}

func (c *Trim) decode(r *reader) {
	c.Topic, c.Partition = r.UUID("topic"), objectlog.Partition(r.Bounded("partition", maxInt31))
	c.LogStart = objectlog.Offset(r.Bounded("log start", maxInt63))
}

func (c *Trim) check() error { return checkID(c.Topic) }

// Command encodes c.
func (c ExpireProducers) Command() Command {
	return Command{Kind: kindExpireProducers, Body: binary.AppendVarint(nil, int64(c.Before))}
}

func (c *ExpireProducers) decode(r *reader) { c.Before = objectlog.Timestamp(r.Varint("before")) }
func (c *ExpireProducers) check() error     { return nil }

func (r *reader) partitionCount(what string) int32 { return int32(r.Bounded(what, partitionsMax)) }

func checkID(id objectlog.UUID) error {
	if id.IsZero() {
		return errNoTopic
	}
	return nil
}
