package metadata

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// shard drives a State as a leader does: Prepare, then Apply of the short form.
type shard struct {
	*State
	t   failer
	seq Seq
	now objectlog.Timestamp
}

// failer is what a shard needs of *testing.T, *testing.B and *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newShard(t failer, cfg Config) *shard { return &shard{State: NewState(cfg), t: t, now: 1_000} }

func (s *shard) position() Position {
	s.seq++
	s.now++
	return Position{Seq: s.seq, Epoch: 3, Time: s.now}
}

func (s *shard) do(c Command) any {
	s.t.Helper()
	short, err := s.Prepare(c)
	if err != nil {
		s.t.Fatalf("prepare kind %d: %v", c.Kind, err)
	}
	result, err := s.Apply(s.position(), short)
	if err != nil {
		s.t.Fatalf("apply kind %d: %v", c.Kind, err)
	}
	return result
}

// commit proposes a segment of boot 1 with the runs and answers the decisions.
func (s *shard) commit(counter uint64, runs ...objectlog.Run) []BatchResult {
	s.t.Helper()
	result := s.do(commitOf(1, counter, runs...)).(CommitResult)
	if result.Unknown {
		s.t.Fatalf("commit %d: unknown", counter)
	}
	return result.Batches
}

func (s *shard) encoded() []byte { return s.View().Encode(nil) }

func id(n int) objectlog.UUID { return objectlog.UUID{15: byte(n), 0: byte(n * 7), 6: 0x40} }

var zeros = make([]byte, 1<<20)

// commitOf lays the runs out as a segment of the boot with the ordinal, and refers to it.
func commitOf(ordinal int64, counter uint64, runs ...objectlog.Run) Command {
	laid := make([]objectlog.SegmentRun, len(runs))
	for i, r := range runs {
		laid[i] = objectlog.SegmentRun{Topic: r.Topic, Partition: r.Partition, Rows: slices.Clone(r.Rows)}
		for _, w := range r.Rows {
			laid[i].Batches = append(laid[i].Batches, zeros[:w.Bytes])
		}
	}
	_, sections := objectlog.EncodeSegment(laid)
	c := Commit{Ordinal: ordinal, Section: sections[0].Ref,
		Segment: objectlog.SegmentName{Boot: id(100 + int(ordinal)), Counter: counter, Random: uint32(counter) * 77}}.Command()
	c.Footer = sections[0].Bytes
	return c
}

func runOf(topic, partition int, rows ...objectlog.BatchRow) objectlog.Run {
	return objectlog.Run{Topic: id(topic), Partition: objectlog.Partition(partition), Rows: rows}
}

// plain is a batch without producer or expectation.
func plain(records int32) objectlog.BatchRow {
	return objectlog.BatchRow{Bytes: 100 + records, Records: records, MaxTimestamp: 5_000 + objectlog.Timestamp(records),
		ProducerID: objectlog.NoProducer, CRC: 0xfeed, Expected: objectlog.NoOffset}
}

func produced(producer objectlog.ProducerID, epoch int16, sequence, records int32) objectlog.BatchRow {
	w := plain(records)
	w.ProducerID, w.ProducerEpoch, w.FirstSequence = producer, epoch, sequence
	return w
}

func expecting(w objectlog.BatchRow, o objectlog.Offset) objectlog.BatchRow {
	w.Expected = o
	return w
}

func at(base objectlog.Offset) BatchResult { return BatchResult{Base: base} }
func refused(r Reason) BatchResult         { return BatchResult{Base: objectlog.NoOffset, Reason: r} }

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func withPartitions(t testing.TB, cfg Config, topics, partitions int) *shard {
	s := newShard(t, cfg)
	for n := 1; n <= topics; n++ {
		s.do(AddPartitions{Topic: id(n), To: int32(partitions)}.Command())
	}
	return s
}

func TestUnknownKindIsAnErrorEverywhere(t *testing.T) {
	s := newShard(t, Config{})
	for _, k := range []Kind{0, 15, 16, 17, 18, 63, 64, 255} {
		c := Command{Kind: k}
		if _, err := s.Prepare(c); err == nil {
			t.Errorf("prepare kind %d: no error", k)
		}
		if _, _, err := s.Reference(c); err == nil {
			t.Errorf("reference kind %d: no error", k)
		}
		if _, err := s.Apply(Position{}, c); err == nil {
			t.Errorf("apply kind %d: no error", k)
		}
	}
}

func TestCommandBodiesAreReadStrictly(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	before := s.encoded()
	for _, c := range everyCommand() {
		for _, body := range [][]byte{append(slices.Clone(c.Body), 0), c.Body[:len(c.Body)-1]} {
			if _, err := s.Apply(Position{}, Command{Kind: c.Kind, Body: body, Footer: c.Footer}); err == nil {
				t.Errorf("kind %d: a body of %d bytes instead of %d was applied", c.Kind, len(body), len(c.Body))
			}
		}
	}
	if !bytes.Equal(s.encoded(), before) {
		t.Error("a command that did not decode changed the state")
	}
}

func TestPrepareRefusesPoison(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	s.commit(1, runOf(1, 0, plain(1)))
	otherBoot := commitOf(1, 2, runOf(1, 0, plain(1)))
	otherBoot.Body = slices.Clone(otherBoot.Body)
	otherBoot.Body[5] ^= 1
	badFooter := commitOf(1, 2, runOf(1, 0, plain(1)))
	badFooter.Footer = slices.Clone(badFooter.Footer)
	badFooter.Footer[3] ^= 1
	for what, c := range map[string]Command{
		"topic without id":         CreateTopic{Name: "a", Partitions: 1}.Command(),
		"topic with a bad name":    CreateTopic{ID: id(2), Name: "a/b", Partitions: 1}.Command(),
		"topic with bad settings":  CreateTopic{ID: id(2), Name: "a", Partitions: 1, Settings: Settings{"x": "1"}}.Command(),
		"topic without partitions": CreateTopic{ID: id(2), Name: "a"}.Command(),
		"negative partitions":      CreateTopic{ID: id(2), Name: "a", Partitions: -1}.Command(),
		"too many partitions":      AddPartitions{Topic: id(2), To: partitionsMax + 1}.Command(),
		"empty range":              AddPartitions{Topic: id(2), From: 3, To: 3}.Command(),
		"bad alteration":           AlterTopic{ID: id(1), Settings: Settings{"retention.ms": "soon"}}.Command(),
		"negative log start":       Trim{Topic: id(1), LogStart: -1}.Command(),
		"another boot's ordinal":   otherBoot,
		"damaged section":          badFooter,
		"no section":               {Kind: kindCommit, Body: badFooter.Body},
		"counter zero":             commitOf(1, 0, runOf(1, 0, plain(1))),
		"sequence below zero":      poison(objectlog.BatchRow{Bytes: 70, Records: 1, ProducerID: 4, FirstSequence: -1}),
		"no records":               poison(objectlog.BatchRow{Bytes: 70, ProducerID: -1, Expected: -1}),
	} {
		if _, err := s.Prepare(c); err == nil {
			t.Errorf("%s: prepared", what)
		}
	}
}

// poison is a commit whose rows no section could hold.
func poison(w objectlog.BatchRow) Command {
	runs := []run{{topic: id(1), rows: []objectlog.BatchRow{w}}}
	head := appendCommitHead(nil, 1, objectlog.SegmentName{Boot: id(101), Counter: 9})
	return Command{Kind: kindCommitRows, Body: appendRuns(head, runs, func(objectlog.UUID) uint32 { return 1 })}
}

func TestReferenceNamesTheSectionOfACommitOnly(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	for _, c := range everyCommand() {
		ref, ok, err := s.Reference(c)
		if err != nil || ok != (c.Kind == kindCommit) {
			t.Errorf("reference of kind %d: %v, %v", c.Kind, ok, err)
		}
		if ok {
			if _, err := objectlog.DecodeSection(c.Footer, ref.Section); err != nil || ref.Segment.Counter == 0 {
				t.Errorf("reference of commit: %+v: %v", ref, err)
			}
		}
	}
}

func TestShardOfIsFixedForEver(t *testing.T) {
	for _, c := range []struct {
		topic, partition, shards int
		want                     objectlog.Shard
	}{{1, 0, 4, 1}, {1, 63, 4, 1}, {1, 64, 4, 2}, {1, 200, 4, 0}, {2, 0, 4, 1}, {2, 0, 16, 1}, {9, 5, 1, 0}} {
		got := ShardOf(id(c.topic), objectlog.Partition(c.partition), c.shards)
		want(t, fmt.Sprintf("shard of %d/%d of %d", c.topic, c.partition, c.shards), got, c.want)
	}
}

func TestEveryPartitionBelongsToExactlyOneShard(t *testing.T) {
	const shards, partitions = 4, 1000
	seen := map[objectlog.Partition]int{}
	for n := range shards {
		s := newShard(t, Config{Shard: objectlog.Shard(n), Shards: shards})
		s.do(AddPartitions{Topic: id(1), To: 700}.Command())
		s.do(AddPartitions{Topic: id(1), From: 300, To: partitions}.Command())
		for p := range objectlog.Partition(partitions) {
			if _, ok := s.Partition(id(1), p); ok {
				seen[p]++
			}
		}
	}
	for p := range objectlog.Partition(partitions) {
		if seen[p] != 1 {
			t.Errorf("partition %d is in %d shards", p, seen[p])
		}
	}
}
