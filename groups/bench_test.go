package groups

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// many is a state of so many groups with so many positions each.
func many(t testing.TB, groups, positions int) *State {
	s := NewState()
	for i := range groups {
		c := CommitOffsets{Group: fmt.Sprintf("group-%05d", i)}
		for p := range positions {
			c.Offsets = append(c.Offsets, Committed{TopicPartition: at(1+p/16, p%16), Offset: objectlog.Offset(i), Epoch: -1})
		}
		if _, err := s.Apply(metadata.Position{Time: 1}, c.Command()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTenThousandGroupsOf100PositionsStayBelow300MiB(t *testing.T) {
	before := heap()
	s := many(t, 10_000, 100)
	view := s.View()
	for i := range s.groups {
		s.ownAt(i) // each changes once while a snapshot is written
	}
	if used := (heap() - before) >> 20; used > 300 {
		t.Errorf("%d MiB with a view of it", used)
	} else {
		t.Logf("%d MiB with a view of it", used)
	}
	runtime.KeepAlive(view)
	runtime.KeepAlive(s)
}

func BenchmarkCommitOffsets(b *testing.B) {
	const groups, positions = 1000, 16
	s := many(b, groups, positions)
	commands := make([]metadata.Command, groups)
	for i := range commands {
		c := CommitOffsets{Group: fmt.Sprintf("group-%05d", i)}
		for p := range positions {
			c.Offsets = append(c.Offsets, Committed{TopicPartition: at(1, p), Offset: 1_000_000, Epoch: -1})
		}
		commands[i] = c.Command()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%512 == 0 {
			s.View() // as often as snapshots are taken
		}
		if _, err := s.Apply(metadata.Position{Time: 2}, commands[i%groups]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*positions/b.Elapsed().Seconds(), "offsets/s")
}
