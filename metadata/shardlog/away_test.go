package shardlog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// leaveUnknown leaves the outcome of the puts that it selects unknown, until heal is called.
func (w *world) leaveUnknown(cause string, selects func(metadata.Key) bool) (heal func()) {
	w.fault = func(_ *node, e Effect) ([]Event, bool) {
		p, ok := e.(PutItem)
		if !ok || !selects(p.Item.Key) {
			return nil, false
		}
		return []Event{PutDone{ID: p.ID, Result: metadata.PutResult{Err: errors.New(cause)}}}, true
	}
	return func() { w.fault = nil }
}

func slotKey(k metadata.Key) bool { return strings.HasPrefix(k.PK, "ring#") }

func (n *node) wantAway(parts ...string) {
	n.w.t.Helper()
	away := n.status().Away
	if len(parts) == 0 {
		if away != nil {
			n.w.t.Errorf("after %v: away: %v", n.w.now, away)
		}
		return
	}
	for _, p := range parts {
		if away == nil || !strings.Contains(away.Error(), p) {
			n.w.t.Errorf("after %v: away: %v, want it to say %q", n.w.now, away, p)
		}
	}
}

func TestAppendThatStaysUndecidedIsOneAlarmUntilItIsDecided(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.ClaimAtOnce = true })
	w.untilLeading(a)
	for round := range 2 {
		w.pass(time.Minute)
		a.alarms = nil
		heal := w.leaveUnknown("the table is throttled", slotKey)
		since := time.UnixMilli(int64(w.wall())).UTC().Format(time.RFC3339)
		id := a.propose("x")
		w.pass(2900 * time.Millisecond)
		a.wantAway()
		if len(a.alarms) != 0 {
			t.Fatalf("alarms before the lease time: %v", a.alarms)
		}
		w.pass(time.Second)
		a.wantAway("shard 3", "seq "+string(rune('1'+round)), since, "the table is throttled")
		w.pass(time.Minute)
		if len(a.alarms) != 1 || a.alarms[0].Error() != a.status().Away.Error() {
			t.Fatalf("alarms %v, want one that says %v", a.alarms, a.status().Away)
		}
		if s := a.status(); s.Role != RoleLeading || !s.Renewed {
			t.Errorf("status %+v: the lease is renewed all the same", s)
		}
		heal()
		w.until("the decision", func() bool { _, ok := a.decided[id]; return ok })
		a.wantAway()
		w.pass(time.Minute)
		if len(a.alarms) != 1 {
			t.Errorf("alarms behind the decision: %v", a.alarms)
		}
	}
}

func TestLeaderThatCannotRenewSaysSoUntilItCan(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.ClaimAtOnce = true })
	w.untilLeading(a)
	w.pass(10 * time.Second)
	a.wantAway()
	heal := w.leaveUnknown("no route to the table", func(k metadata.Key) bool { return k == leaseKey })
	w.pass(3100 * time.Millisecond)
	if s := a.status(); s.Renewed {
		t.Errorf("status %+v: renewed", s)
	}
	a.wantAway("shard 3", "lease", "since 1970-01-01T00:01:", "no route to the table")
	w.pass(time.Minute)
	if len(a.alarms) != 1 || !strings.Contains(a.alarms[0].Error(), "lease item") {
		t.Errorf("alarms %v, want one", a.alarms)
	}
	heal()
	w.pass(time.Second)
	a.wantAway()
}

func TestLeaderThatDidNotRunForTheLeaseTimeIsAwayUntilItRenewed(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.ClaimAtOnce = true })
	w.untilLeading(a)
	w.now += 10 * time.Second // no step meanwhile
	a.wantAway("lease", "not renewed")
	w.pass(time.Second)
	a.wantAway()
}
