package metadata

import (
	"errors"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

// Settings are a topic's settings by Kafka's names. CheckSettings knows them.
type Settings map[string]string

// TopicState is where a topic is in its life.
type TopicState uint8

// The states of a topic.
const (
	TopicCreating TopicState = 1
	TopicActive   TopicState = 2
	TopicDeleting TopicState = 3
)

// Topic is one topic of the catalog.
type Topic struct {
	ID         objectlog.UUID
	Name       string
	Partitions int32 // that every shard has: what clients see
	Target     int32 // that were asked for; above Partitions while growth is under way
	Settings   Settings
	State      TopicState
	Version    int64 // rises with every change
	Created    objectlog.Timestamp
}

// PartitionState is what clients may know of one partition.
type PartitionState struct {
	LogStart      objectlog.Offset
	HighWatermark objectlog.Offset // behind the last committed record
	StoredBytes   int64
}

// LocatedBatch is one committed batch and where it lies.
type LocatedBatch struct {
	Base    objectlog.Offset
	Epoch   objectlog.Epoch
	Segment objectlog.SegmentName
	Start   int64 // position in the segment, bytes
	Row     objectlog.BatchRow
}

// Config bounds a State. Apply depends on it, so it is the same in every agent of a cluster.
type Config struct {
	Shard        objectlog.Shard
	Shards       int // default 1
	ProducersMax int // live (partition, producer) pairs per shard; default 1,000,000
}

// State is the Machine of one shard: catalog (in shard 0), partitions, index, producers, boots.
//
// Views share its parts. Whatever has a gen is copied before its first change after a view, and then is the state's own until the next.
type State struct {
	cfg Config
	gen uint32 // rises with every view

	catalog catalog

	topics     []*topic // by number
	numbers    map[objectlog.UUID]uint32
	nextNumber uint32 // from 1: 0 is no topic
	segments   segments
	producers  int // over all partitions

	dropped []dropped // topics, oldest first

	boots   []*boot // by ordinal
	retired int64   // boots with a lower ordinal are retired

	runs []run                // scratch of Apply
	rows []objectlog.BatchRow // scratch of Apply
}

// NewState is the state before the first entry.
func NewState(cfg Config) *State {
	if cfg.Shards == 0 {
		cfg.Shards = 1
	}
	if cfg.ProducersMax == 0 {
		cfg.ProducersMax = 1_000_000
	}
	return &State{cfg: cfg, catalog: catalog{byID: map[objectlog.UUID]*Topic{}}, numbers: map[objectlog.UUID]uint32{}, nextNumber: 1}
}

// ShardOf is the rule of which shard a partition belongs to: (hash(topic) + partition div 64) mod shards. The hash is
// FNV-1a with 64 bits; where records lie depends on it for ever.
func ShardOf(topic objectlog.UUID, p objectlog.Partition, shards int) objectlog.Shard {
	hash := uint64(14695981039346656037)
	for _, b := range topic {
		hash = (hash ^ uint64(b)) * 1099511628211
	}
	return objectlog.Shard((hash + uint64(p)/64) % uint64(shards))
}

// Prepare implements Machine. A Commit comes back with its rows; it needs its Footer.
func (s *State) Prepare(c Command) (short Command, err error) {
	if c.Kind == kindCommit || c.Kind == kindCommitRows {
		return s.prepareCommit(c)
	}
	op, err := decodeOperation(c)
	if err == nil {
		err = op.check()
	}
	if err != nil {
		return Command{}, fmt.Errorf("prepare command of kind %d: %w", c.Kind, err)
	}
	return Command{Kind: c.Kind, Body: c.Body}, nil
}

// Reference implements Machine.
func (s *State) Reference(c Command) (ref FooterRef, ok bool, err error) {
	if c.Kind != kindCommit {
		if _, known := operationOf(c.Kind); !known && c.Kind != kindCommitRows {
			return FooterRef{}, false, fmt.Errorf("reference of command of kind %d: %w", c.Kind, errUnknownKind)
		}
		return FooterRef{}, false, nil
	}
	r := newReader(c.Body)
	var k Commit
	k.decode(&r)
	if err := r.End(); err != nil {
		return FooterRef{}, false, fmt.Errorf("reference of commit: %w", err)
	}
	return FooterRef{k.Segment, k.Section}, true, nil
}

// Apply implements Machine. Result types are named at the commands.
func (s *State) Apply(at Position, c Command) (result any, err error) {
	if c.Kind == kindCommit || c.Kind == kindCommitRows {
		k, rows, err := decodeCommit(c, s.runs[:0], s.rows)
		if err != nil {
			return nil, fmt.Errorf("apply commit at %d: %w", at.Seq, err)
		}
		result := s.commit(at, &k)
		s.runs, s.rows = k.runs, rows
		clear(s.runs) // rows of a section are not kept
		return result, nil
	}
	op, err := decodeOperation(c)
	if err != nil {
		return nil, fmt.Errorf("apply command of kind %d at %d: %w", c.Kind, at.Seq, err)
	}
	return op.apply(s, at), nil
}

var errUnknownKind = errors.New("not a kind of this version")

func decodeOperation(c Command) (operation, error) {
	op, ok := operationOf(c.Kind)
	if !ok {
		return nil, errUnknownKind
	}
	r := newReader(c.Body)
	op.decode(&r)
	return op, r.End()
}

// View implements Machine. It costs a copy of a few bytes per topic, segment page and boot.
func (s *State) View() View {
	s.gen++
	s.catalog.shared = true
	return &view{
		shard: s.cfg.Shard, shards: s.cfg.Shards,
		catalog: s.catalog.byName,
		topics:  slices.Clone(s.topics), nextNumber: s.nextNumber, segments: s.segments.view(),
		boots: slices.Clone(s.boots), retired: s.retired, dropped: s.dropped,
	}
}
