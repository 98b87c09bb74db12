package queues

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// log is a State with the place in the log that it is at.
type log struct {
	*State
	t  testing.TB
	at metadata.Position
}

func newLog(t testing.TB) *log { return &log{State: NewState(), t: t} }

// do applies a command that Prepare accepts.
func (l *log) do(c command) Result {
	l.t.Helper()
	if _, err := l.Prepare(c.Command()); err != nil {
		l.t.Fatal(err)
	}
	l.at.Seq++
	l.at.Time += 10
	result, err := l.Apply(l.at, c.Command())
	if err != nil {
		l.t.Fatal(err)
	}
	return result.(Result)
}

type command interface{ Command() metadata.Command }

// raw is a command that is encoded already.
type raw metadata.Command

func (r raw) Command() metadata.Command { return metadata.Command(r) }

// want applies a command and compares what it answers.
func (l *log) want(c command, want Result) {
	l.t.Helper()
	if got := l.do(c); !reflect.DeepEqual(got, want) {
		l.t.Fatalf("%+v: got %+v, want %+v", c, got, want)
	}
}

func (l *log) queue(k Key) *Queue {
	l.t.Helper()
	q, ok := l.Queue(k)
	if !ok {
		l.t.Fatalf("no queue %v", k)
	}
	return q
}

// phases are the phases of the first records, one letter each: finished "-", never handed out ".".
func (l *log) phases(k Key, n int) string {
	q, b := l.queue(k), []byte{}
	for o := range objectlog.Offset(n) {
		switch p, ok := q.At(o); {
		case ok:
			b = append(b, "RLDFMB"[p.Phase])
		case o < q.Next:
			b = append(b, '-')
		default:
			b = append(b, '.')
		}
	}
	return string(b)
}

func (l *log) wantPhases(k Key, want string) {
	l.t.Helper()
	if got := l.phases(k, len(want)); got != want {
		l.t.Fatalf("phases %s, want %s", got, want)
	}
}

func (l *log) piece(k Key, o objectlog.Offset) Piece {
	l.t.Helper()
	p, ok := l.queue(k).At(o)
	if !ok {
		l.t.Fatalf("no piece of %d", o)
	}
	return p
}

func (l *log) encoded() []byte { return l.View().Encode(nil) }

func topic(n int) objectlog.UUID { return objectlog.UUID{0: byte(n), 15: 1} }

var (
	work    = Key{topic(1), 0, "g"}
	letters = Key{topic(2), 0, ""}
	dlq     = Place{topic(2), 0}
	thrice  = Policy{Deliveries: 3, DeadLetters: "x-dlq"}
)

func acquire(lock uint64, limit int32) Acquire {
	return Acquire{Key: work, Lock: lock, Wait: 30 * time.Second, Limit: limit, Window: 20, Until: 100, Policy: thrice}
}

func settle(from, to objectlog.Offset, lock uint64, v Verdict) Settle {
	return Settle{work, []Settlement{{From: from, To: to, Lock: lock, Verdict: v, Wait: wait(v)}}}
}

func wait(v Verdict) time.Duration {
	if v == Extend {
		return time.Minute
	}
	return 0
}

func moveOut(k Key, p objectlog.ProducerID, to Place, offsets ...objectlog.Offset) MoveOut {
	c := MoveOut{Key: k, Until: 100}
	for _, o := range offsets {
		c.Items = append(c.Items, Departure{Offset: o, To: to, Producer: p})
	}
	return c
}

func moved(k Key, o objectlog.Offset, p objectlog.ProducerID, sequence int32) Moved {
	return Moved{k, []Arrival{{o, p, sequence}}}
}

func fail(o, committed objectlog.Offset) Fail {
	return Fail{Key: work, Offset: o, Committed: committed, Deliveries: 4, First: 5, Error: "bad", Policy: thrice}
}

func refused(from, to objectlog.Offset, why Reason) Result {
	return Result{Refused: []Refusal{{from, to, why}}}
}

func TestAcquireLocksWhatComesAgainBeforeWhatIsNew(t *testing.T) {
	l := newLog(t)
	l.want(acquire(1, 5), Result{Acquired: []Acquired{{0, 5, 1}}})
	l.do(settle(1, 2, 1, Release))
	l.do(settle(3, 4, 1, Release))
	l.wantPhases(work, "LRLRL.")
	l.want(acquire(2, 4), Result{Acquired: []Acquired{{1, 2, 2}, {3, 4, 2}, {5, 7, 1}}})
	l.do(settle(0, 5, 1, Release))
	l.want(acquire(3, 2), Result{Acquired: []Acquired{{0, 1, 2}, {2, 3, 2}}})
	l.wantPhases(work, "LLLLRLL.")
}

func TestAcquireBeginsAtStartAndNotBelowTheLog(t *testing.T) {
	l := newLog(t)
	c := acquire(1, 2)
	c.Start, c.LogStart = 7, 4
	l.want(c, Result{Acquired: []Acquired{{7, 9, 1}}})
	c = acquire(1, 2)
	c.Group, c.Start, c.LogStart = "h", 0, 4
	l.want(c, Result{Acquired: []Acquired{{4, 6, 1}}})
	c = acquire(1, 2)
	c.Group, c.Start = "i", 200
	l.want(c, Result{})
}

func TestRepeatOfAnAcquireAnswersWhatIsLockedAndCountsNothing(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 4))
	l.do(settle(1, 2, 1, Accept))
	l.want(acquire(1, 4), Result{Acquired: []Acquired{{0, 1, 1}, {2, 4, 1}}})
	if q := l.queue(work); q.Next != 4 {
		t.Fatalf("next %d", q.Next)
	}
}

func TestAcquireHandsOutNoMoreThanTheWindow(t *testing.T) {
	l := newLog(t)
	l.want(acquire(1, 15), Result{Acquired: []Acquired{{0, 15, 1}}})
	l.want(acquire(2, 15), Result{Acquired: []Acquired{{15, 20, 1}}})
	l.want(acquire(3, 15), Result{})
	l.do(settle(4, 6, 1, Accept))
	l.do(settle(0, 2, 1, Reject)) // a dead letter on its way is in flight
	if n := l.queue(work).InFlight(); n != 18 {
		t.Fatalf("%d in flight", n)
	}
	l.want(acquire(3, 15), Result{Acquired: []Acquired{{20, 22, 1}}})
	narrow := acquire(4, 15)
	narrow.Window = 3
	l.do(settle(7, 9, 1, Release))
	l.want(narrow, Result{Acquired: []Acquired{{7, 9, 2}}})
}

func TestAcknowledgementCountsOnlyUnderTheLockThatIsOnTheRecordNow(t *testing.T) {
	for _, v := range []Verdict{Accept, Release, Reject, Extend, Return} {
		l := newLog(t)
		l.do(acquire(1, 3))
		l.do(settle(1, 2, 1, Release))
		l.do(acquire(2, 1))
		before := l.piece(work, 1)
		l.want(settle(0, 5, 3, v), refused(0, 5, ReasonNotLocked))
		l.want(settle(1, 2, 1, v), refused(1, 2, ReasonNotLocked))
		if after := l.piece(work, 1); after != before {
			t.Fatalf("verdict %d: %+v became %+v", v, before, after)
		}
		l.want(settle(0, 5, 1, v), Result{Refused: []Refusal{{1, 2, ReasonNotLocked}, {3, 5, ReasonNotLocked}}})
	}
}

func TestSettleOfAQueueThatIsNotThereIsRefused(t *testing.T) {
	l := newLog(t)
	l.want(settle(0, 5, 1, Accept), refused(0, 5, ReasonNotLocked))
	if _, ok := l.Queue(work); ok {
		t.Fatal("made a queue")
	}
}

func TestAcceptedIsFinishedForEver(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 5))
	l.want(settle(1, 3, 1, Accept), Result{})
	l.wantPhases(work, "L--LL.")
	l.want(settle(1, 3, 1, Accept), refused(1, 3, ReasonNotLocked))
	l.do(Elapse{work, []int64{1}})
	l.want(acquire(2, 5), Result{Acquired: []Acquired{{0, 1, 2}, {3, 5, 2}, {5, 7, 1}}})
	if n := l.queue(work).Unfinished(0, 100); n != 98 {
		t.Fatalf("%d unfinished", n)
	}
}

func TestLastDeliveryThatFailsMakesADeadLetter(t *testing.T) {
	for name, end := range map[string]func(l *log, lock uint64){
		"released": func(l *log, lock uint64) { l.do(settle(0, 1, lock, Release)) },
		"expired":  func(l *log, _ uint64) { l.do(Elapse{work, []int64{l.piece(work, 0).Stamp}}) },
	} {
		l := newLog(t)
		for lock := uint64(1); lock <= 3; lock++ {
			l.want(acquire(lock, 1), Result{Acquired: []Acquired{{0, 1, int32(lock)}}})
			end(l, lock)
			want := "RRF"[lock-1 : lock]
			l.wantPhases(work, want)
			if p := l.piece(work, 0); p.Failure.First >= p.Failure.Last && lock > 1 || p.Failure.Cause.String() != name || p.Deliveries != int32(lock) {
				t.Fatalf("%s: %+v", name, p)
			}
		}
		l.want(acquire(4, 1), Result{Acquired: []Acquired{{1, 2, 1}}})
	}
}

func TestRejectMakesADeadLetterAtOnceWithWhatTheConsumerSaid(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 2))
	c := settle(0, 1, 1, Reject)
	c.Items[0].Error = "not JSON"
	l.want(c, Result{})
	l.wantPhases(work, "FL")
	if p := l.piece(work, 0); p.Failure != (Failure{20, 20, CauseRejected, "not JSON"}) || p.Lock != 0 || p.Stamp != 0 || p.Deliveries != 1 {
		t.Fatalf("%+v", p)
	}
}

func TestReleaseWithADelayComesBackWhenItElapses(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 2))
	c := settle(0, 1, 1, Release)
	c.Items[0].Wait = time.Minute
	l.do(c)
	l.wantPhases(work, "DL")
	l.want(acquire(2, 1), Result{Acquired: []Acquired{{2, 3, 1}}})
	delayed := l.piece(work, 0)
	if delayed.Wait != time.Minute || delayed.Deliveries != 1 {
		t.Fatalf("%+v", delayed)
	}
	l.do(Elapse{work, []int64{delayed.Stamp}})
	l.wantPhases(work, "RLL")
	if p := l.piece(work, 0); p.Failure.Cause != CauseReleased || p.Wait != 0 {
		t.Fatalf("%+v", p)
	}
}

func TestReturnUndoesADelivery(t *testing.T) {
	l := newLog(t)
	for lock := uint64(1); lock < 10; lock++ {
		l.want(acquire(lock, 1), Result{Acquired: []Acquired{{0, 1, 1}}})
		l.want(settle(0, 1, lock, Return), Result{})
		if p := l.piece(work, 0); p.Deliveries != 0 || p.Phase != Ready || p.Failure != (Failure{}) {
			t.Fatalf("%+v", p)
		}
	}
}

func TestExtendBeginsTheLockAnew(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 2))
	old := l.piece(work, 0)
	l.do(settle(0, 1, 1, Extend))
	p := l.piece(work, 0)
	if p.Stamp == old.Stamp || p.Wait != time.Minute || p.Lock != 1 || p.Deliveries != 1 || p.Failure != (Failure{}) {
		t.Fatalf("%+v", p)
	}
	l.do(Elapse{work, []int64{old.Stamp}})
	l.wantPhases(work, "LR")
	l.want(settle(0, 1, 1, Accept), Result{})
}

func TestElapseLeavesWaitsAloneThatEndedOtherwise(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 3))
	stamp := l.piece(work, 0).Stamp
	l.do(settle(0, 1, 1, Release))
	l.do(acquire(2, 1))
	l.do(Elapse{work, []int64{stamp}})
	l.wantPhases(work, "LRR")
	if p := l.piece(work, 0); p.Lock != 2 {
		t.Fatalf("%+v", p)
	}
	l.do(Elapse{work, []int64{stamp}})
	if p := l.piece(work, 1); p.Deliveries != 1 || p.Failure.Cause != CauseExpired {
		t.Fatalf("%+v", p)
	}
	l.want(Elapse{Key{topic(7), 0, "g"}, []int64{1}}, Result{})
}

func TestNewestPolicyCounts(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 2))
	c := acquire(2, 1)
	c.Policy.Deliveries = 1
	l.do(c)
	l.do(settle(0, 1, 1, Release))
	l.wantPhases(work, "FLL")
}

func TestViewStaysAsItWas(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 5))
	view := l.View()
	before := view.Encode(nil)
	l.do(settle(0, 1, 1, Accept))
	l.do(settle(2, 3, 1, Reject))
	l.do(moveOut(work, 1, dlq, 2))
	other := acquire(1, 5)
	other.Group = "h"
	l.do(other)
	l.do(Elapse{work, []int64{1}})
	if !bytes.Equal(view.Encode(nil), before) {
		t.Fatal("the view changed")
	}
}

func TestGroupHasOneModeOnATopic(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 1))
	l.want(fail(0, 0), Result{Reason: ReasonOtherMode})
	ordered := fail(3, 3)
	ordered.Group = "o"
	l.do(ordered)
	c := acquire(1, 1)
	c.Group = "o"
	l.want(c, Result{Reason: ReasonOtherMode})
	s := settle(3, 4, 1, Accept)
	s.Group = "o"
	l.want(s, refused(3, 4, ReasonNotLocked))
}

func TestDropTopicForgetsItsQueuesAlone(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 1))
	l.do(moveOut(letters, 1, Place{topic(3), 0}, 0))
	view := l.View()
	before := view.Encode(nil)
	l.do(DropTopic{topic(1)})
	if _, ok := l.Queue(work); ok {
		t.Fatal("the queue stayed")
	}
	l.wantPhases(letters, "M")
	if !bytes.Equal(view.Encode(nil), before) {
		t.Fatal("the view changed")
	}
}

func TestExpireForgetsOnlyWhatNobodyHasInHand(t *testing.T) {
	l := newLog(t)
	in := func(group string) Acquire {
		c := acquire(1, 1)
		c.Group = group
		return c
	}
	for _, group := range []string{"delayed", "done", "failed", "locked", "moving", "ready"} {
		l.do(in(group))
	}
	settled := func(group string, v Verdict, wait time.Duration) {
		l.do(Settle{Key{topic(1), 0, group}, []Settlement{{To: 1, Lock: 1, Verdict: v, Wait: wait}}})
	}
	settled("delayed", Release, time.Second)
	settled("done", Accept, 0)
	settled("failed", Reject, 0)
	settled("moving", Reject, 0)
	settled("ready", Release, 0)
	l.do(moveOut(Key{topic(1), 0, "moving"}, 1, dlq, 0))
	l.do(moveOut(letters, 1, Place{topic(3), 0}, 0))
	l.do(moved(letters, 0, 1, 0))
	l.do(Expire{l.at.Time + 10})
	var stay []string
	l.Queues(Key{}, func(q *Queue) bool {
		stay = append(stay, q.Group)
		return true
	})
	if got := strings.Join(stay, " "); got != "delayed failed locked moving " {
		t.Fatalf("%q stay", got)
	}
	l.do(in("done"))
	l.do(Settle{Key{topic(1), 0, "done"}, []Settlement{{To: 1, Lock: 1, Verdict: Accept}}})
	used := l.queue(Key{topic(1), 0, "done"}).Used
	l.do(Trim{Key{topic(1), 0, "done"}, 1})
	if now := l.queue(Key{topic(1), 0, "done"}).Used; now != used {
		t.Fatal("retention counts as use")
	}
	l.do(Expire{used})
	l.queue(Key{topic(1), 0, "done"})
}

func TestTrimFinishesWhatNobodyHasInHand(t *testing.T) {
	l := newLog(t)
	l.do(acquire(1, 8))
	l.do(settle(0, 1, 1, Release))
	l.do(settle(2, 4, 1, Reject))
	l.do(moveOut(work, 1, dlq, 3))
	l.wantPhases(work, "RLFMLLLL.")
	l.do(Trim{work, 6})
	l.wantPhases(work, "-L-MLLLL.")
	l.do(Trim{work, 2})
	l.do(Elapse{work, []int64{1}})
	c := acquire(2, 3)
	c.LogStart = 7
	l.want(c, Result{Acquired: []Acquired{{7, 8, 2}, {8, 10, 1}}})
	l.wantPhases(work, "---M---LLL.")
	l.do(Trim{work, 50})
	if q := l.queue(work); q.Next != 50 || q.Unfinished(50, 60) != 10 || q.Available(60, 20) != 10 {
		t.Fatalf("next %d, %d unfinished, %d available", q.Next, q.Unfinished(50, 60), q.Available(60, 20))
	}
	l.want(Trim{Key{topic(9), 0, "g"}, 5}, Result{})
}

func TestCommandsThatMustNotEnterAnEntryAreRefused(t *testing.T) {
	noLock, noLimit, wide, noPolicy, noTopic := acquire(0, 1), acquire(1, 0), acquire(1, 1), acquire(1, 1), acquire(1, 1)
	wide.Window = WindowMax + 1
	noPolicy.Policy.Deliveries = 0
	noTopic.Policy.DeadLetters = ""
	own, long := acquire(1, 1), acquire(1, 1)
	own.Group = ""
	long.Wait = WaitMax + time.Millisecond
	noDeliveries, ownFail, beyond := fail(0, 0), fail(0, 0), fail(1<<62, 0)
	noDeliveries.Deliveries = 0
	ownFail.Group = ""
	backwards, unsaid, noTime := settle(2, 1, 1, Accept), settle(0, 1, 1, Return+1), settle(0, 1, 1, Extend)
	noTime.Items[0].Wait = 0
	rude := settle(0, 1, 1, Reject)
	rude.Items[0].Error = "\x1b"
	far := settle(1<<62, 1<<62+1, 1, Accept)
	for _, c := range []command{noLock, noLimit, wide, noPolicy, noTopic, own, long, noDeliveries, ownFail, beyond, backwards, unsaid, noTime, rude, far,
		Elapse{letters, []int64{1}}, Elapse{work, []int64{1 << 62, 1<<62 + 1}}, moveOut(work, 1, Place{}, 0), Discard{work, 9, []Range{{0, 1}}},
		raw{Kind: To - 1}, raw{Kind: kindTrim}} {
		if _, err := NewState().Prepare(c.Command()); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func posAt(time objectlog.Timestamp) metadata.Position { return metadata.Position{Time: time} }
