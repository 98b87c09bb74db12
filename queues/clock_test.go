package queues

import (
	"reflect"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// led is a log with its leader, whose ticks come every 100 ms.
type led struct {
	*log
	clock *Clock
	now   time.Duration
}

func newLed(t *testing.T) *led { return &led{newLog(t), NewClock(), time.Hour} }

// pass lets time pass under an epoch, and answers what the ticks say; nothing of it is applied.
func (l *led) pass(d time.Duration, epoch objectlog.Epoch) (due []metadata.Command) {
	for range d / (100 * time.Millisecond) {
		l.now += 100 * time.Millisecond
		due = append(due, l.clock.Tick(l.now, epoch, l.State)...)
	}
	return due
}

func (l *led) wantNone(d time.Duration, epoch objectlog.Epoch) {
	l.t.Helper()
	if due := l.pass(d, epoch); len(due) > 0 {
		l.t.Fatalf("due: %v", due)
	}
}

// wantDue lets time pass until something is due, and wants it not long after d.
func (l *led) wantDue(d time.Duration, epoch objectlog.Epoch) raw {
	l.t.Helper()
	l.wantNone(d, epoch)
	due := l.pass(200*time.Millisecond, epoch)
	if len(due) == 0 {
		l.t.Fatalf("nothing is due behind %v", d)
	}
	return raw(due[0])
}

const lockTime = 30 * time.Second

func TestLockEndsNotBeforeItsTimeAndIsDueAgainWhenTheCommandIsLost(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 3))
	c := l.wantDue(lockTime, 1)
	for range 5 {
		if due := l.pass(100*time.Millisecond, 1); len(due) != 1 || !reflect.DeepEqual(raw(due[0]), c) {
			t.Fatalf("due again: %v", due)
		}
	}
	l.want(c, Result{Expired: 3})
	l.want(c, Result{})
	l.wantPhases(work, "RRR.")
	l.wantNone(2*lockTime, 1)
}

func TestNewLeaderGivesEveryWaitItsWholeTime(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 3))
	l.pass(lockTime-time.Second, 1)
	l.wantDue(lockTime, 3) // the same agent, under another epoch
	l.wantDue(lockTime, 4) // though it was due
}

func TestOutageEndsNoLock(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 3))
	l.pass(lockTime-time.Second, 1)
	l.wantNone(10*lockTime, 0) // the lease is not confirmed
	l.now += time.Hour         // and the process stood still
	l.wantNone(900*time.Millisecond, 1)
	if len(l.pass(time.Second, 1)) == 0 {
		t.Fatal("time did not go on")
	}
}

func TestExtendedLockEndsByItsNewTime(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 2))
	l.pass(lockTime-time.Second, 1)
	l.do(settle(0, 1, 1, Extend))
	l.do(l.wantDue(time.Second, 1))
	l.wantPhases(work, "LR.")
	l.do(l.wantDue(time.Minute-1100*time.Millisecond, 1))
	l.wantPhases(work, "RR.")
}

func TestPiecesThatAcknowledgementsPartedEndTogether(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 7))
	for o := objectlog.Offset(1); o < 7; o += 2 {
		l.pass(5*time.Second, 1)
		l.do(settle(o, o+1, 1, Accept))
	}
	l.do(l.wantDue(lockTime-15*time.Second, 1))
	l.wantPhases(work, "R-R-R-R.")
}

func TestDelayEndsLikeALock(t *testing.T) {
	l := newLed(t)
	l.pass(time.Second, 1)
	l.do(acquire(1, 2))
	c := settle(0, 1, 1, Release)
	c.Items[0].Wait = 5 * time.Second
	l.do(c)
	l.do(l.wantDue(5*time.Second, 1))
	l.wantPhases(work, "RL.")
}

func TestClockForgetsQueuesThatAreGone(t *testing.T) {
	l := newLed(t)
	l.do(acquire(1, 2))
	l.pass(time.Second, 1)
	l.do(DropTopic{work.Topic})
	l.wantNone(2*lockTime, 1)
	if n := len(l.clock.watched); n != 0 {
		t.Fatalf("%d watched", n)
	}
}
