package queues

import (
	"runtime"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// full is a queue with a window of single records, each locked on its own and with as long an error as there is.
func full(t testing.TB, window int32) *log {
	l := newLog(t)
	c := acquire(1, window)
	c.Window, c.Until, c.Policy.Deliveries = window, 1<<40, DeliveriesMax
	l.do(c)
	for o := range objectlog.Offset(window) {
		l.do(Settle{work, []Settlement{{From: o, To: o + 1, Lock: 1, Verdict: Release, Error: strings.Repeat("e", ErrorBytesMax)}}})
	}
	c.Lock = 2
	l.do(c)
	return l
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestFullWindowStaysBelowAMebibyteAndAHalf(t *testing.T) {
	before := heap()
	l := full(t, WindowDefault)
	if q := l.queue(work); len(q.Pieces) != WindowDefault {
		t.Fatalf("%d pieces", len(q.Pieces))
	}
	used, snapshot := heap()-before, len(l.encoded())
	t.Logf("%d records: state %d bytes, snapshot %d bytes", WindowDefault, used, snapshot)
	if used > 3<<19 || snapshot > 3<<18 {
		t.Errorf("state %d bytes, snapshot %d bytes", used, snapshot)
	}
	runtime.KeepAlive(l)
}

// benchmark accepts records one by one in a window that is at least half full. Order says which is next.
func benchmark(b *testing.B, order func(i int) objectlog.Offset) {
	l := full(b, WindowDefault)
	view := 0
	do := func(c command) {
		if view++; view%512 == 0 {
			l.View() // as often as snapshots are taken
		}
		if _, err := l.Apply(l.at, c.Command()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n == WindowDefault/2 {
			b.StopTimer()
			l.State = full(b, WindowDefault).State
			b.StartTimer()
			n = 0
		}
		o := order(n)
		do(Settle{work, []Settlement{{From: o, To: o + 1, Lock: 2, Verdict: Accept}}})
		n++
	}
}

func BenchmarkAcceptInOrder(b *testing.B) {
	benchmark(b, func(i int) objectlog.Offset { return objectlog.Offset(i) })
}

func BenchmarkAcceptAnywhere(b *testing.B) {
	benchmark(b, func(i int) objectlog.Offset { return objectlog.Offset(i * 1117 % WindowDefault) })
}

// BenchmarkAcquireAndAccept is 100 records with each command, in a window of single records.
func BenchmarkAcquireAndAccept(b *testing.B) {
	const batch = 100
	l := full(b, WindowDefault)
	for o := range objectlog.Offset(batch) {
		l.do(Settle{work, []Settlement{{From: o, To: o + 1, Lock: 2, Verdict: Accept}}})
	}
	b.ReportAllocs()
	lock := uint64(3)
	for i := 0; b.Loop(); i++ {
		if i%256 == 0 {
			l.View()
		}
		c := acquire(lock, batch)
		c.Window, c.Until = WindowDefault, 1<<40
		r, err := l.Apply(l.at, c.Command())
		if err != nil {
			b.Fatal(err)
		}
		s := Settle{Key: work}
		got := r.(Result).Acquired
		for o := got[0].From; o < got[0].To; o++ {
			s.Items = append(s.Items, Settlement{From: o, To: o + 1, Lock: lock, Verdict: Accept})
		}
		if _, err := l.Apply(l.at, s.Command()); err != nil {
			b.Fatal(err)
		}
		lock++
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "records/s")
}
