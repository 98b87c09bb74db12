package metadata

import (
	"runtime"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// benchmarkApply commits 256 partitions × 1 row per entry. It starts afresh now and then, outside the time, so
// that memory stays bounded.
func benchmarkApply(b *testing.B, dense bool, producer objectlog.ProducerID) {
	const partitions = 256
	rows := func(sequence int32) []objectlog.Run {
		runs := make([]objectlog.Run, partitions)
		for p := range runs {
			w := produced(producer, 0, sequence, 1)
			if producer == objectlog.NoProducer {
				w = plain(1)
			}
			runs[p] = runOf(1, p, w)
		}
		return runs
	}
	const lap = 1024
	commands := make([]Command, lap)
	for i := range commands {
		commands[i] = commitOf(1, uint64(i)+1, rows(int32(i))...)
	}
	fresh := func() *State {
		s := NewState(Config{})
		apply(b, s, AddPartitions{Topic: id(1), To: partitions}.Command())
		return s
	}
	s := fresh()
	for i, c := range commands {
		if dense {
			var err error
			if commands[i], err = s.Prepare(c); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%lap == 0 && i > 0 {
			b.StopTimer()
			s = fresh()
			b.StartTimer()
		}
		if i%512 == 0 {
			s.View() // as often as snapshots are taken
		}
		if _, err := s.Apply(Position{Time: objectlog.Timestamp(i)}, commands[i%lap]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*partitions/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(len(commands[1].Body))/partitions, "bytes/row")
}

func BenchmarkApplyRows(b *testing.B)             { benchmarkApply(b, true, objectlog.NoProducer) }
func BenchmarkApplyRowsOfProducer(b *testing.B)   { benchmarkApply(b, true, 7) }
func BenchmarkApplyReferred(b *testing.B)         { benchmarkApply(b, false, objectlog.NoProducer) }
func BenchmarkApplyReferredProducer(b *testing.B) { benchmarkApply(b, false, 7) }
func BenchmarkPrepare(b *testing.B) {
	s := NewState(Config{})
	apply(b, s, AddPartitions{Topic: id(1), To: 256}.Command())
	var runs []objectlog.Run
	for p := range 256 {
		runs = append(runs, runOf(1, p, produced(7, 0, 0, 1)))
	}
	c := commitOf(1, 1, runs...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Prepare(c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "rows/s")
}

// wide is 100,000 partitions with 10 rows and a producer each.
func wide(b *testing.B) *State {
	s := NewState(Config{})
	apply(b, s, AddPartitions{Topic: id(1), To: 100_000}.Command())
	for n := range int32(10) {
		c := commit{ordinal: 1, segment: objectlog.SegmentName{Boot: id(1), Counter: uint64(n) + 1}}
		for p := range objectlog.Partition(100_000) {
			c.runs = append(c.runs, run{number: 1, partition: p, rows: []objectlog.BatchRow{produced(7, 0, n, 1)}})
		}
		s.commit(Position{}, &c)
	}
	return s
}

func BenchmarkView(b *testing.B) {
	s := wide(b)
	for n := range 100_000 { // and 100,000 topics
		apply(b, s, AddPartitions{Topic: objectlog.UUID{1: byte(n), 2: byte(n >> 8), 3: byte(n >> 16), 4: 1}, To: 1}.Command())
	}
	b.ResetTimer()
	for b.Loop() {
		runtime.KeepAlive(s.View())
	}
}

func BenchmarkSnapshotEncode(b *testing.B) {
	v := wide(b).View()
	var encoded []byte
	for b.Loop() {
		encoded = v.Encode(encoded[:0])
	}
	b.ReportMetric(float64(len(encoded)), "bytes")
}

func BenchmarkSnapshotRestore(b *testing.B) {
	encoded := wide(b).View().Encode(nil)
	s := NewState(Config{})
	for b.Loop() {
		if err := s.Restore(encoded); err != nil {
			b.Fatal(err)
		}
	}
}
