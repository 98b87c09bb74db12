package e2e

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// load is two writers that go on through faults: a producer process that lives through all of them, and one that appends over HTTP where
// it says the log must be.
type load struct {
	t           *testing.T
	b           *broker // the first of those that run on its address
	feed, audit *ledger
	stopped     chan struct{}
	produced    chan ran
	audited     chan error
	acks        atomic.Int64 // that the audit has got
}

// startLoad makes the topics and starts to write, so many records a second.
func startLoad(t *testing.T, b *broker, perSecond int) *load {
	t.Helper()
	for _, topic := range []string{"matches", "audit"} {
		b.mustRun(nil, "topic", "create", topic, "--partitions", fmt.Sprint(feedPartitions))
	}
	l := &load{
		t: t, b: b, feed: newLedger(2), audit: newLedger(3),
		stopped: make(chan struct{}), produced: make(chan ran, 1), audited: make(chan error, 1),
	}
	pr, pw := io.Pipe()
	go func() { l.produced <- b.run(pr, "produce", "matches", "--key-field", "match") }()
	go l.writeFeed(pw, perSecond/100)
	go func() { l.audited <- l.writeAudit() }()
	l.awaitFeed()
	return l
}

// awaitFeed waits until the producer is at work: one that knows neither its topic nor its id yet has nothing to lose.
func (l *load) awaitFeed() {
	l.t.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(startTimeout)
	defer tick.Stop()
	for {
		for _, next := range offsetsOf(l.t, l.b, "matches") {
			if next > 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-late:
			l.t.Fatal("the producer does not begin")
		}
	}
}

// finish ends the load and checks that everything is there.
func (l *load) finish(now *broker) {
	l.t.Helper()
	close(l.stopped)
	if r := <-l.produced; r.code != 0 {
		l.t.Fatalf("produce: exit %d: %s", r.code, r.stderr)
	}
	if err := <-l.audited; err != nil {
		l.t.Fatal(err)
	}
	l.check(now)
}

// check reads everything back.
func (l *load) check(now *broker) {
	l.t.Helper()
	l.feed.check(l.t, now, "matches")
	l.audit.check(l.t, now, "audit")
}

// writeFeed writes the feed at a pace that outlasts the faults, at least half of the number of records asked for.
func (l *load) writeFeed(w *io.PipeWriter, chunk int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n += chunk {
		select {
		case <-l.stopped:
			_, err := io.Copy(w, l.feed.lines(max(0, *records/2-n)))
			w.CloseWithError(err)
			return
		case <-tick.C:
			if _, err := io.Copy(w, l.feed.lines(chunk)); err != nil {
				return // the reader is gone; its exit code tells
			}
		}
	}
}

// auditTimeout is shorter than an outage, so that the agent must often answer before it knows the outcome.
const auditTimeout = time.Second

// writeAudit appends one record after the other. An append of unknown outcome may have happened: the same append again tells, since a
// mismatch that shows the next offset means that ours is in. After definite errors alone it must not be in.
func (l *load) writeAudit() error {
	for {
		select {
		case <-l.stopped:
			return nil
		default:
		}
		p, key, line := l.audit.draw()
		at, unknown := len(l.audit.partitions[p])-1, false
		for deadline := time.Now().Add(*throttled + startTimeout); ; {
			err := l.b.appendWithin(auditTimeout, "audit", p, key, line, at)
			if err == nil || unknown && err.actual == fmt.Sprint(at+1) {
				break
			}
			unknown = unknown || err.unknown()
			if err.actual != "" || time.Now().After(deadline) {
				return fmt.Errorf("the audit ends: %w (outcome of earlier attempts unknown: %t)", err, unknown)
			}
			<-time.After(5 * time.Millisecond)
		}
		l.acks.Add(1)
	}
}

// awaitAck answers how long it takes until a record is acknowledged that was not before.
func (l *load) awaitAck(within time.Duration) time.Duration {
	l.t.Helper()
	before, began := l.acks.Load(), time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.acks.Load() == before {
		select {
		case err := <-l.audited:
			l.t.Fatal(err)
		case <-tick.C:
		}
		if time.Since(began) > within {
			l.t.Fatalf("nothing was acknowledged for %s", within)
		}
	}
	return time.Since(began)
}
