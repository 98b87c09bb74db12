package metadata

import (
	"bytes"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestRestoredStateGoesOnLikeTheLiveOne(t *testing.T) {
	live := settled(t)
	restored := &shard{State: NewState(Config{}), t: t, seq: live.seq, now: live.now}
	if err := restored.Restore(live.encoded()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Command{
		commitOf(1, 4, runOf(1, 0, plain(1))), // decided before
		commitOf(1, 5, runOf(1, 0, produced(70, 2, 5, 5), produced(70, 2, 10, 1)), runOf(2, 1, produced(9, 0, 1, 1))),
		commitOf(2, 2, runOf(2, 0, plain(1))), // fenced
		AddPartitions{Topic: id(4), To: 2}.Command(),
		CreateTopic{ID: id(5), Name: "goals", Partitions: 2}.Command(),
		Trim{Topic: id(1), LogStart: 9}.Command(),
	} {
		want(t, "result", restored.do(c), live.do(c))
	}
	if !bytes.Equal(restored.encoded(), live.encoded()) {
		t.Error("the states differ")
	}
}

func TestEncodingDoesNotDependOnThePath(t *testing.T) {
	straight := withPartitions(t, Config{}, 2, 2)
	straight.commit(9, runOf(1, 0, plain(1)), runOf(2, 1, plain(2)))

	winding := newShard(t, Config{})
	winding.do(AddPartitions{Topic: id(1), From: 1, To: 2}.Command())
	winding.View()
	winding.do(AddPartitions{Topic: id(1), To: 1}.Command())
	winding.do(AddPartitions{Topic: id(2), To: 2}.Command())
	winding.now = straight.now - 1
	winding.commit(9, runOf(1, 0, plain(1)), runOf(2, 1, plain(2)))
	winding.View()
	if !bytes.Equal(straight.encoded(), winding.encoded()) {
		t.Error("equal states encode differently")
	}
}

// TestViewIsNotChangedByLaterCommands is meant for the race detector: the view is read while the state goes on.
func TestViewIsNotChangedByLaterCommands(t *testing.T) {
	s := withPartitions(t, Config{}, 3, 4)
	everything := func(counter uint64) {
		first := int32(counter-1) * 2
		s.commit(counter,
			runOf(1, 0, plain(1), produced(7, 0, first, 2)), runOf(1, 1, plain(3)), runOf(2, int(counter%4), produced(objectlog.ProducerID(counter), 0, 0, 1)))
		if counter%5 == 0 {
			s.do(Trim{Topic: id(1), LogStart: objectlog.Offset(counter * 2)}.Command())
			s.do(ExpireProducers{Before: s.now - 20}.Command())
			s.do(CreateTopic{ID: id(int(counter)), Name: strings.Repeat("t", int(counter)), Partitions: 1}.Command())
		}
		if counter%20 == 0 {
			s.do(DropTopic{Topic: id(3)}.Command())
			s.do(AddPartitions{Topic: id(3), To: 3}.Command())
			s.do(Fence{Ordinal: int64(counter), Below: 3}.Command())
		}
	}
	counter := uint64(0)
	for range 20 {
		v := s.View()
		encoded := v.Encode(nil)
		var again []byte
		var done sync.WaitGroup
		done.Go(func() { again = v.Encode(nil) })
		for range 7 {
			counter++
			everything(counter)
		}
		done.Wait()
		if !bytes.Equal(encoded, again) || !bytes.Equal(encoded, v.Encode(nil)) {
			t.Fatalf("the view taken before segment %d changed", counter-6)
		}
	}
}

func TestRestoreRefusesWhatIsNotItsSnapshot(t *testing.T) {
	good := settled(t).encoded()
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for _, c := range []struct {
		what, says string
		b          []byte
	}{
		{"nothing", "version", nil},
		{"a later version", "version 3, this program knows 1 and 2", change(func(b []byte) []byte { b[0] = 3; return b })},
		{"another shard's", "shard 5 of 1", change(func(b []byte) []byte { b[1] = 5; return b })},
		{"another cluster size's", "shard 0 of 9", change(func(b []byte) []byte { b[2] = 9; return b })},
		{"trailing bytes", "1 bytes too many", change(func(b []byte) []byte { return append(b, 0) })},
	} {
		s := settled(t)
		err := s.Restore(c.b)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", c.what, err, c.says)
		}
	}
	for n := range good {
		if err := NewState(Config{}).Restore(good[:n]); err == nil {
			t.Errorf("restored from %d bytes of %d", n, len(good))
		}
	}
}

func TestRefusedSnapshotLeavesTheStateAsItWas(t *testing.T) {
	s := settled(t)
	before := s.encoded()
	if s.Restore(before[:len(before)-1]) == nil {
		t.Fatal("restored")
	}
	if !bytes.Equal(s.encoded(), before) {
		t.Error("the state changed")
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestIdlePartitionsTakeAtMost200Bytes(t *testing.T) {
	for what, fill := range map[string]func(s *State){
		"100,000 partitions of one topic": func(s *State) { apply(t, s, AddPartitions{Topic: id(1), To: 100_000}.Command()) },
		"100,000 topics of one partition": func(s *State) {
			for n := range 100_000 {
				apply(t, s, AddPartitions{Topic: objectlog.UUID{1: byte(n), 2: byte(n >> 8), 3: byte(n >> 16), 4: 1}, To: 1}.Command())
			}
		},
	} {
		before := heapBytes()
		s := NewState(Config{})
		fill(s)
		each := (heapBytes() - before) / 100_000
		t.Logf("%s: %d bytes each", what, each)
		if each > 200 {
			t.Errorf("%s: %d bytes each", what, each)
		}
		runtime.KeepAlive(s)
	}
}

func TestRowsTakeAtMost56BytesOfMemory(t *testing.T) {
	const rows = 128_000
	section := make([]run, 250)
	for i := range section {
		section[i] = run{number: 1, partition: objectlog.Partition(i), rows: []objectlog.BatchRow{plain(1)}}
	}
	before := heapBytes()
	s := NewState(Config{})
	apply(t, s, AddPartitions{Topic: id(1), To: 250}.Command())
	for n := range rows / len(section) {
		c := commit{ordinal: 1, segment: objectlog.SegmentName{Boot: id(1), Counter: uint64(n) + 1}, runs: section}
		s.commit(Position{}, &c)
	}
	s.boots = nil // remembered results are not rows
	each := (heapBytes() - before) / rows
	t.Logf("%d bytes each", each)
	if each > 56 {
		t.Errorf("%d bytes each", each)
	}
	runtime.KeepAlive(s)
}

func apply(t testing.TB, s *State, c Command) {
	t.Helper()
	if _, err := s.Apply(Position{}, c); err != nil {
		t.Fatal(err)
	}
}
