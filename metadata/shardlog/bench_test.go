package shardlog

import (
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// wide is the state of 100,000 partitions with 10 rows and a producer each.
func wide(b *testing.B) *metadata.State {
	const partitions, part = 100_000, 10_000
	state, topic := metadata.NewState(metadata.Config{}), objectlog.UUID{1}
	apply := func(c metadata.Command) {
		if _, err := state.Apply(metadata.Position{Time: 1}, c); err != nil {
			b.Fatal(err)
		}
	}
	apply(metadata.AddPartitions{Topic: topic, To: partitions}.Command())
	batch, counter := make([]byte, 100), uint64(0)
	for n := range int32(10) {
		for from := 0; from < partitions; from += part {
			runs := make([]objectlog.SegmentRun, part)
			for i := range runs {
				runs[i] = objectlog.SegmentRun{Topic: topic, Partition: objectlog.Partition(from + i), Batches: [][]byte{batch},
					Rows: []objectlog.BatchRow{{Bytes: 100, Records: 1, MaxTimestamp: 5000, ProducerID: 7, FirstSequence: n, Expected: objectlog.NoOffset}}}
			}
			counter++
			_, sections := objectlog.EncodeSegment(runs)
			c := metadata.Commit{Ordinal: 1, Segment: objectlog.SegmentName{Boot: objectlog.UUID{2}, Counter: counter}, Section: sections[0].Ref}.Command()
			c.Footer = sections[0].Bytes
			apply(c)
		}
	}
	return state
}

// BenchmarkHashState is what a fingerprint of a wide state costs beside the Core.
func BenchmarkHashState(b *testing.B) {
	e := HashState{names: []string{"state"}, views: []metadata.View{wide(b).View()}}
	e.size = int64(len(e.views[0].Encode(nil)))
	for b.Loop() {
		e.Hash()
	}
	b.ReportMetric(float64(e.size), "bytes")
}

// BenchmarkHashStateView is what it costs in the Core's step.
func BenchmarkHashStateView(b *testing.B) {
	state := wide(b)
	for b.Loop() {
		state.View()
	}
}
