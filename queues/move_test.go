package queues

import (
	"math"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

// withFailed is a queue of whose records [0, n) each was rejected on its own.
func withFailed(t testing.TB, n objectlog.Offset) *log {
	l := newLog(t)
	l.do(acquire(1, int32(n)))
	for o := range n {
		l.do(settle(o, o+1, 1, Reject))
	}
	return l
}

func TestDeadLetterIsFinishedOnlyWhenItHasArrived(t *testing.T) {
	l := withFailed(t, 3)
	l.want(moveOut(work, 7, dlq, 0, 1), Result{})
	l.wantPhases(work, "MMF.")
	if m := *l.piece(work, 1).Move; m.To != dlq || m.Producer != 7 || m.Sequence != 1 || !m.Failed {
		t.Fatalf("%+v", m)
	}
	l.do(moved(work, 1, 7, 0)) // another's sequence
	l.do(moved(work, 1, 8, 1)) // another producer
	l.do(moved(work, 2, 7, 2)) // not on its way
	l.wantPhases(work, "MMF.")
	l.want(moved(work, 1, 7, 1), Result{})
	l.wantPhases(work, "M-F.")
	l.want(moveOut(work, 9, dlq, 1), refused(1, 2, ReasonNotThere))
	l.want(moveOut(work, 9, dlq, 0), refused(0, 1, ReasonNotThere))
	l.want(moveOut(work, objectlog.NoProducer, dlq, 2), Result{})
	if m := *l.piece(work, 2).Move; m.Producer != 7 || m.Sequence != 2 {
		t.Fatalf("%+v", m)
	}
}

func TestMoveOutTakesNothingThatDidNotFail(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 3))
	l.do(settle(1, 2, 1, Release))
	l.want(moveOut(work, 7, dlq, 0), refused(0, 1, ReasonNotThere))
	l.want(moveOut(work, 7, dlq, 1), refused(1, 2, ReasonNotThere))
	l.want(moveOut(work, 7, dlq, 5), refused(5, 6, ReasonNotThere))
	l.wantPhases(work, "LRL.")
	other := work
	other.Group = "nobody"
	l.want(moveOut(other, 7, dlq, 5), Result{Reason: ReasonNotThere})
	if len(l.queue(work).Routes) != 0 {
		t.Fatal("made a route for nothing")
	}
}

func TestMoveOutWithoutAProducerDoesNothingAtAll(t *testing.T) {
	l := withFailed(t, 2)
	l.do(moveOut(work, 7, dlq, 0))
	c := moveOut(work, objectlog.NoProducer, dlq, 1)
	c.Items = append(c.Items, Departure{Offset: 1, To: Place{topic(3), 1}, Producer: objectlog.NoProducer})
	l.want(c, Result{Reason: ReasonNoProducer})
	l.wantPhases(work, "MF.")
	l.want(moveOut(letters, objectlog.NoProducer, dlq, 1), Result{Reason: ReasonNoProducer})
	if _, ok := l.Queue(letters); ok {
		t.Fatal("made a queue")
	}
}

func TestRerouteTakesBackWhatIsOnTheRouteAndForgetsIt(t *testing.T) {
	l := withFailed(t, 3)
	l.do(moveOut(work, 7, dlq, 0, 1))
	l.do(moveOut(work, 8, Place{topic(3), 0}, 2))
	failure := l.piece(work, 0).Failure
	l.do(Reroute{work, 7})
	l.wantPhases(work, "FFM.")
	if p := l.piece(work, 0); p.Failure != failure || p.Move != nil || p.Deliveries != 1 {
		t.Fatalf("%+v", p)
	}
	l.want(moveOut(work, objectlog.NoProducer, dlq, 0), Result{Reason: ReasonNoProducer})
	l.do(moveOut(work, 9, dlq, 1, 0))
	if m := *l.piece(work, 1).Move; m.Producer != 9 || m.Sequence != 0 {
		t.Fatalf("%+v", m)
	}
	l.do(moved(work, 0, 7, 0))
	l.wantPhases(work, "MMM.")
	l.do(moveOut(letters, 7, Place{topic(3), 0}, 2))
	l.do(Reroute{letters, 7})
	l.wantPhases(letters, "RRR.")
	l.want(Reroute{Key{topic(9), 0, "g"}, 7}, Result{})
}

func TestSequencesOfARouteBeginAnewBehindTheLargest(t *testing.T) {
	l := withFailed(t, 2)
	l.do(moveOut(work, 7, dlq, 0))
	l.do(moved(work, 0, 7, 0))
	l.queue(work).Routes[0].Next = math.MaxInt32
	l.do(moveOut(work, objectlog.NoProducer, dlq, 1))
	if q := l.queue(work); q.Pieces[0].Move.Sequence != math.MaxInt32 || q.Routes[0].Next != 0 {
		t.Fatalf("%+v, then %d", q.Pieces[0].Move, q.Routes[0].Next)
	}
	if err := NewState().Restore(l.encoded()); err != nil {
		t.Fatal(err)
	}
}

// A route is displaced only when nothing is on its way along it, and its producer is not used again.
func TestRouteThatWasDisplacedNeedsANewProducer(t *testing.T) {
	l := newLog(t)
	to := func(i int) Place { return Place{topic(3), objectlog.Partition(i)} }
	move := func(i int, p objectlog.ProducerID) Result {
		c := moveOut(letters, p, to(i), objectlog.Offset(i))
		c.Until = 1000
		return l.do(c)
	}
	for i := range routesMax {
		move(i, objectlog.ProducerID(i))
	}
	if r := move(routesMax, routesMax); len(r.Refused) != 1 || r.Refused[0].Reason != ReasonFull {
		t.Fatalf("%+v", r)
	}
	l.do(moved(letters, 3, 3, 0))
	l.do(moved(letters, 5, 5, 0))
	if r := move(routesMax, routesMax); len(r.Refused) != 0 {
		t.Fatalf("%+v", r)
	}
	q := l.queue(letters)
	if q.route(to(3)) >= 0 || q.route(to(5)) < 0 || len(q.Routes) != routesMax {
		t.Fatal("another route was displaced")
	}
	c := moveOut(letters, objectlog.NoProducer, to(3), routesMax+1)
	c.Until = 1000
	l.want(c, Result{Reason: ReasonNoProducer})
	c.Items[0].Producer = 999
	l.want(c, Result{})
	if m := l.piece(letters, routesMax+1).Move; m.Producer != 999 || m.Sequence != 0 {
		t.Fatalf("%+v", m)
	}
}

func TestRouteThatItsOwnCommandDisplacedIsNotMadeWithoutAProducer(t *testing.T) {
	l := newLog(t)
	c := MoveOut{Key: letters, Until: 1000}
	for i := range routesMax {
		c.Items = append(c.Items, Departure{Offset: objectlog.Offset(i), To: Place{topic(3), objectlog.Partition(i)}, Producer: objectlog.ProducerID(i)})
	}
	l.do(c)
	l.do(moved(letters, 0, 0, 0))
	c.Items = []Departure{{Offset: 300, To: Place{topic(4), 0}, Producer: 900}, {Offset: 301, To: Place{topic(3), 0}, Producer: objectlog.NoProducer}}
	l.want(c, refused(301, 302, ReasonFull))
}

func TestRedriveTakesWhatWasNeverTouchedAndIsInTheLog(t *testing.T) {
	l := newLog(t)
	c := moveOut(letters, 7, Place{topic(1), 0}, 2)
	c.Until = 4
	c.Items[0].Edited, c.Items[0].HasEdited = []byte("mended"), true
	l.want(c, Result{})
	l.wantPhases(letters, "RRM.")
	if m := l.piece(letters, 2).Move; string(m.Edited) != "mended" || !m.HasEdited || m.Failed {
		t.Fatalf("%+v", m)
	}
	c = moveOut(letters, 7, Place{topic(1), 0}, 0, 3, 4)
	c.Until = 4
	l.want(c, refused(4, 5, ReasonNotThere))
	l.do(moved(letters, 2, 7, 0))
	l.wantPhases(letters, "MR-M.")
	if n := l.queue(letters).Unfinished(0, 10); n != 9 {
		t.Fatalf("%d dead letters", n)
	}
}

func TestDiscardFinishesWhatIsNotOnItsWay(t *testing.T) {
	l := newLog(t)
	l.do(moveOut(letters, 7, Place{topic(1), 0}, 2))
	l.want(Discard{letters, 6, []Range{{1, 4}, {5, 8}}}, Result{Refused: []Refusal{{2, 3, ReasonNotThere}, {6, 8, ReasonNotThere}}})
	l.wantPhases(letters, "R-M-R-.")
	l.want(Discard{letters, 6, []Range{{1, 2}, {7, 9}, {0, 0}}}, Result{Refused: []Refusal{{1, 2, ReasonNotThere}, {7, 9, ReasonNotThere}}})
	l.want(Discard{letters, 9, []Range{{7, 9}}}, Result{})
	l.wantPhases(letters, "R-M-R-R--.")
}

func TestOrderedGroupFailsARecordOnceUntilItIsPast(t *testing.T) {
	l := newLog(t)
	l.want(fail(3, 3), Result{})
	first := l.piece(work, 3)
	if first.Deliveries != 4 || first.Failure != (Failure{5, 10, CauseGivenUp, "bad"}) {
		t.Fatalf("%+v", first)
	}
	l.want(fail(3, 3), Result{})
	if p := l.piece(work, 3); p != first {
		t.Fatalf("%+v became %+v", first, p)
	}
	l.do(moveOut(work, 7, dlq, 3))
	l.do(fail(3, 3))
	l.wantPhases(work, "---M.")
	l.do(moved(work, 3, 7, 0))
	l.wantPhases(work, "---B.")
	l.do(fail(3, 3))
	l.wantPhases(work, "---B.")
	l.do(fail(4, 3))
	l.do(moveOut(work, 7, dlq, 4))
	l.do(moved(work, 4, 7, 1))
	l.wantPhases(work, "---BB.")
	if q := l.queue(work); len(q.Pieces) != 1 || q.InFlight() != 0 || q.Unfinished(0, 5) != 0 {
		t.Fatalf("%+v: %d in flight, %d unfinished", q.Pieces, q.InFlight(), q.Unfinished(0, 5))
	}
	l.do(fail(6, 4))
	l.wantPhases(work, "----B-F.")
	l.do(fail(6, 7)) // what failed stays until it has arrived
	l.wantPhases(work, "------F.")
}

// Whatever is in a queue, it empties: no bound refuses for ever what would make room.
func TestFullOrderedQueueMovesOut(t *testing.T) {
	s := NewState()
	apply := func(c command) Result {
		r, err := s.Apply(posAt(1), c.Command()) // so that what fails at once fares alike
		if err != nil {
			t.Fatal(err)
		}
		return r.(Result)
	}
	for o := range objectlog.Offset(piecesMax) {
		c := fail(o+o/3, 0) // in threes
		if r := apply(c); r.Reason != ReasonNone {
			t.Fatalf("record %d: %v", o, r.Reason)
		}
	}
	if r := apply(fail(1<<40, 0)); r.Reason != ReasonFull {
		t.Fatalf("one more: %v", r.Reason)
	}
	if err := NewState().Restore(s.View().Encode(nil)); err != nil {
		t.Fatal(err)
	}
	q, _ := s.Queue(work)
	all := q.Departing(piecesMax, func(objectlog.Offset) bool { return false })
	c := moveOut(work, 7, dlq)
	for i, o := range all {
		if i%3 == 1 { // of each three the one between
			c.Items = append(c.Items, Departure{Offset: o, To: dlq, Producer: 7})
		}
	}
	if r := apply(c); len(r.Refused) > 0 || r.Reason != ReasonNone {
		t.Fatalf("%d refused: %v", len(r.Refused), r.Reason)
	}
	if n := len(q.Pieces); n > piecesMax {
		t.Fatalf("%d pieces", n)
	}
}

func TestFullDeadLetterTopicIsRedrivenInOrderAndDiscarded(t *testing.T) {
	l := newLog(t)
	var holes []Range
	for i := range objectlog.Offset(piecesMax) {
		holes = append(holes, Range{3*i + 2, 3*i + 3})
	}
	r := l.do(Discard{letters, 10 * piecesMax, holes})
	if len(r.Refused) != piecesMax/2 || r.Refused[0].Reason != ReasonFull {
		t.Fatalf("%d refused", len(r.Refused))
	}
	next := l.queue(letters).Next
	l.want(MoveOut{Key: letters, Until: 10 * piecesMax, Items: []Departure{{Offset: next + 5, To: dlq, Producer: 7}}}, refused(next+5, next+6, ReasonFull))
	c := moveOut(letters, 7, dlq, 0, 1, 3, next)
	c.Until = 10 * piecesMax
	l.want(c, Result{})
	l.want(Discard{letters, 10 * piecesMax, []Range{{next + 1, next + 9}, {6, 8}}}, Result{})
	if err := NewState().Restore(l.encoded()); err != nil {
		t.Fatal(err)
	}
}
