package shardlog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// filled is a world in which a leader has appended items and died: 11 entries, snapshots of seq 3 and 7.
func filled(t *testing.T) *world {
	w := newWorld(t, 16)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
	w.untilLeading(a)
	for i := range 10 {
		a.must(fmt.Sprint(i))
	}
	a.kill()
	return w
}

func (w *world) slotKey(n metadata.Seq) metadata.Key {
	l := w.lease()
	return metadata.SlotKey(l.ring, l.slots, n)
}

// edit changes the value of an item.
func (w *world) edit(k metadata.Key, change func(*metadata.Item)) {
	i := w.table[k]
	i.Value = slices.Clone(i.Value)
	change(&i)
	w.table[k] = i
}

var leaseKey = metadata.LeaseKey(testShard)

// damages are what may happen to the stores of a filled world, and what the error must say.
var damages = []struct {
	name   string
	damage func(*world)
	want   []string
}{
	{"slot missing", func(w *world) { delete(w.table, w.slotKey(10)) }, []string{"seq 10", "want a slot", "found none"}},
	{"slot flipped", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Value[70] ^= 1 }) }, []string{"seq 10", "CRC32C"}},
	{"slot empty", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Value = nil }) }, []string{"seq 10", "magic"}},
	{"slot of a later format", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Value[5] = 9 }) }, []string{"format level 9, this program knows 1"}},
	{"slot one lap too old", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Rev -= 32 }) }, []string{"seq 10", "found seq -22"}},
	{"slot of no such seq", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Rev += 3 }) }, []string{"found seq 13"}},
	{"slot overwritten", func(w *world) { w.edit(w.slotKey(10), func(i *metadata.Item) { i.Rev += 16 }) }, []string{"slot of seq 10 holds seq 26"}},
	{"slot with another entry", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.prevHash[0] ^= 1
			i.Value = e.encode()
		})
	}, []string{"previous hash"}},
	{"slot with the entry of another seq", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.seq = 9
			i.Value = e.encode()
		})
	}, []string{"seq 10", "seq 9 of ring"}},
	{"slot with an entry of another ring", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.ring[0] ^= 1
			i.Value = e.encode()
		})
	}, []string{"of ring ab"}},
	{"slot with an entry of a lower epoch", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.epoch = 0
			i.Value = e.encode()
		})
	}, []string{"epoch 0 below 1"}},
	{"poison", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.commands[0].Body = []byte("poison")
			i.Value = e.encode()
		})
	}, []string{"seq 10", "poison"}},
	{"command of an unknown kind", func(w *world) {
		w.edit(w.slotKey(10), func(i *metadata.Item) {
			e, _ := decodeEntry(i.Value)
			e.commands[0].Kind = 99
			i.Value = e.encode()
		})
	}, []string{"command of kind 99"}},
	{"lease item missing", func(w *world) { delete(w.table, leaseKey) }, []string{"lease item shard#3", "found none"}},
	{"lease item flipped", func(w *world) { w.edit(leaseKey, func(i *metadata.Item) { i.Value[30] ^= 1 }) }, []string{"lease item", "CRC32C"}},
	{"lease item of a later format", func(w *world) { w.edit(leaseKey, func(i *metadata.Item) { i.Value[5] = 9 }) }, []string{"format level 9"}},
	{"both snapshots missing", func(w *world) { clear(w.snapshots) }, []string{"snapshots of seq", "not found"}},
}

func TestDamageStopsTheShardLoudly(t *testing.T) {
	for _, x := range damages {
		t.Run(x.name, func(t *testing.T) {
			w := filled(t)
			x.damage(w)
			f := w.start() // one that never claims sees it as well
			f.step(Ranked{Rank: -1})
			w.until("it halts", func() bool { return f.status().Role == RoleHalted })
			b := w.start()
			w.until("it halts", func() bool { return b.status().Role == RoleHalted })
			err := b.status().Fault
			if !errors.Is(err, ErrHalted) || len(b.alarms) == 0 {
				t.Errorf("fault %v, alarms %v", err, b.alarms)
			}
			for _, s := range append(x.want, "shard 3") {
				if !strings.Contains(fmt.Sprint(err), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			id := b.propose("x")
			if got := b.decided[id].Err; !errors.Is(got, ErrHalted) || !errors.Is(got, ErrNotLeader) {
				t.Errorf("a proposal to a halted shard: %v", got)
			}
			if c := b.readCurrent(); !errors.Is(c.Err, ErrHalted) {
				t.Errorf("a current read of a halted shard: %+v", c)
			}
			if at, ok := b.core.NextWake(); ok {
				t.Errorf("a halted shard wants to wake at %v", at)
			}
		})
	}
}

func TestDamagedNewestSnapshotFallsBackToThePrevious(t *testing.T) {
	for _, missing := range []bool{true, false} {
		w := filled(t)
		l := w.lease()
		if l.cur.seq() <= l.prev.seq() || !l.prev.exists() {
			t.Fatalf("snapshots of %d and %d", l.cur.seq(), l.prev.seq())
		}
		if missing {
			delete(w.snapshots, l.cur.name)
		} else {
			w.snapshots[l.cur.name][65] ^= 1
		}
		b := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
		w.untilLeading(b)
		if len(b.alarms) == 0 || !strings.Contains(b.alarms[0].Error(), "trying the previous one") {
			t.Errorf("alarms %v", b.alarms)
		}
		if len(b.list.items) != 10 || b.list.items[9] != "9" {
			t.Errorf("items %q", b.list.items)
		}
		for i := range 10 { // the damaged one must never become the previous one
			b.must(fmt.Sprint("more ", i))
			if now := w.lease(); now.prev.name == l.cur.name {
				t.Fatal("the previous snapshot is the damaged one")
			}
		}
		b.kill()
		c := w.start()
		w.untilLeading(c)
		if len(c.list.items) != 20 || len(c.alarms) != 0 {
			t.Errorf("%d items, alarms %v", len(c.list.items), c.alarms)
		}
	}
}

func TestTableThatWentBackHaltsTheLeader(t *testing.T) {
	for _, what := range []string{"slot", "lease"} {
		w := newWorld(t, 16)
		a := w.start()
		w.untilLeading(a)
		for i := range 20 {
			a.must(fmt.Sprint(i))
		}
		n := a.status().Applied + 1
		if what == "slot" {
			w.edit(w.slotKey(n), func(i *metadata.Item) { i.Rev -= 16 })
		} else {
			w.edit(metadata.LeaseKey(testShard), func(i *metadata.Item) { i.Rev-- })
		}
		id := a.propose("x")
		w.until("it halts", func() bool { return a.status().Role == RoleHalted })
		if err := a.status().Fault; !strings.Contains(err.Error(), "the table went back") {
			t.Errorf("%s: %v", what, err)
		}
		if d := a.decided[id]; what == "slot" && (!errors.Is(d.Err, ErrUnknown) || !errors.Is(d.Err, ErrHalted)) {
			t.Errorf("%s: in flight: %v", what, d.Err)
		}
	}
}

func TestPoisonStopsTheLeaderAfterItsAppend(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start()
	w.untilLeading(a)
	poison, queued := a.propose("poison"), a.propose("behind")
	w.settle()
	if err := a.decided[poison].Err; !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrHalted) {
		t.Errorf("the poison: %v", err)
	}
	if err := a.decided[queued].Err; !errors.Is(err, ErrNotLeader) || !errors.Is(err, ErrHalted) {
		t.Errorf("behind it: %v", err)
	}
}

func TestFollowerThatWasLappedLoadsASnapshot(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start()
	w.untilLeading(a)
	b := w.start(func(c *Config, _ *list) { c.Boot = objectlog.UUID{0xbb} })
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	w.fault = func(n *node, e Effect) ([]Event, bool) { return nil, n == b } // cut off: nothing answers
	for i := range 60 {
		a.must(fmt.Sprint(i))
	}
	w.fault = nil
	b.kill()
	c := w.start() // and one that was asleep instead
	w.until("c follows", func() bool { return c.status().Role == RoleFollowing })
	var asleep []Effect
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		if n == c {
			asleep = append(asleep, e)
		}
		return nil, n == c
	}
	for i := range 60 {
		a.must(fmt.Sprint("second ", i))
	}
	w.fault = nil
	for _, e := range asleep {
		c.run(e)
	}
	w.until("c has caught up", func() bool { return len(c.list.items) == 120 })
	if c.status().Role != RoleFollowing || len(c.alarms) > 0 {
		t.Errorf("%+v, alarms %v", c.status(), c.alarms)
	}
}

func TestPausedWatcherHasNotObserved(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start()
	w.untilLeading(a)
	b := w.start()
	w.pass(2 * time.Second)
	a.kill()
	w.now += time.Minute // both stood still; the lease item did not move
	w.pass(time.Second)
	if b.status().Role != RoleFollowing {
		t.Errorf("claimed right after a pause: %+v", b.status())
	}
	w.untilLeading(b)
}

func TestSecondSuccessorWaitsLonger(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start()
	w.untilLeading(a)
	second, first, never := w.start(), w.start(), w.start()
	second.step(Ranked{Rank: 1})
	never.step(Ranked{Rank: -1})
	w.pass(time.Second)
	a.kill()
	w.pass(20 * time.Second)
	if first.status().Role != RoleLeading || second.status().Role != RoleFollowing || never.status().Role != RoleFollowing {
		t.Errorf("first %v, second %v, never %v", first.status().Role, second.status().Role, never.status().Role)
	}
	if never.status().Leader != first.boot {
		t.Errorf("the one that does not watch knows leader %s", never.status().Leader)
	}
	first.kill()
	w.untilLeading(second)
}

func TestSnapshotsThatFailAreTriedAgainUnderANewName(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 2 })
	names := map[objectlog.SnapshotName]bool{}
	w.fault = func(n *node, e Effect) ([]Event, bool) {
		s, ok := e.(StoreSnapshot)
		if !ok {
			return nil, false
		}
		if names[s.Name] {
			t.Errorf("name %+v used again", s.Name)
		}
		names[s.Name] = true
		if len(names) <= 3 {
			return []Event{SnapshotStored{ID: s.ID, Err: errors.New("down")}}, true
		}
		return nil, false
	}
	w.untilLeading(a)
	for i := range 40 { // blocked at the limit until the snapshots work
		a.must(fmt.Sprint(i))
	}
	if len(names) < 4 || w.lease().cur.seq() < 30 {
		t.Errorf("%d names, snapshot of %d", len(names), w.lease().cur.seq())
	}
}

func TestSnapshotsThatCannotBeStoredAreOneAlarmAMinute(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEvery = time.Second })
	w.untilLeading(a)
	for range 2 { // the second outage is an alarm at once
		a.alarms = nil
		tries := 0
		w.fault = func(_ *node, e Effect) ([]Event, bool) {
			s, ok := e.(StoreSnapshot)
			if !ok {
				return nil, false
			}
			tries++
			return []Event{SnapshotStored{ID: s.ID, Err: errors.New("no space left")}}, true
		}
		a.must("x")
		w.pass(5*time.Minute - 10*time.Second)
		if len(a.alarms) != 5 || tries < 250 || !strings.Contains(a.alarms[4].Error(), "store snapshot of seq") {
			t.Errorf("%d tries, alarms %v, want one a minute", tries, a.alarms)
		}
		w.fault = nil
		w.pass(2 * time.Second)
		if got := w.lease().cur.seq(); got != a.status().Applied {
			t.Errorf("snapshot of %d, applied %d", got, a.status().Applied)
		}
	}
}

func TestReservedSlotsLeaveRoomForABarrierWithoutSnapshots(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start()
	w.fault = func(_ *node, e Effect) ([]Event, bool) {
		s, ok := e.(StoreSnapshot)
		if !ok {
			return nil, false
		}
		return []Event{SnapshotStored{ID: s.ID, Err: errors.New("down")}}, true
	}
	w.untilLeading(a)
	for i := range 100 {
		a.propose(fmt.Sprint(i))
		w.pass(100 * time.Millisecond)
	}
	// The ring holds 64 entries behind the previous snapshot, which is the empty one; 16 are reserved.
	if got := a.status().Applied; got != 64-16-1 {
		t.Errorf("data was appended up to %d", got)
	}
	a.kill()
	for range 3 { // successors find room
		b := w.start()
		w.untilLeading(b)
		b.kill()
	}
}

func TestSuccessorWithoutRoomForItsBarrierTakesASnapshotFirst(t *testing.T) {
	w := newWorld(t, 8)
	down := true
	w.fault = func(_ *node, e Effect) ([]Event, bool) {
		s, ok := e.(StoreSnapshot)
		if !ok || !down {
			return nil, false
		}
		return []Event{SnapshotStored{ID: s.ID, Err: errors.New("down")}}, true
	}
	a := w.start()
	w.untilLeading(a)
	for i := range 20 {
		a.propose(fmt.Sprint(i))
		w.settle()
	}
	a.kill()
	for range 2 { // use up the reserved slots
		b := w.start()
		w.untilLeading(b)
		b.kill()
	}
	c := w.start()
	w.pass(20 * time.Second)
	if c.status().Role != RoleClaiming {
		t.Fatalf("a barrier without room: %+v", c.status())
	}
	down = false
	w.untilLeading(c)
	c.must("more")
	if len(c.list.items) != 6 { // 5 before the limit
		t.Errorf("items %q", c.list.items)
	}
}

func TestStatusSaysHowFullTheRingIsAndHowOldTheSnapshot(t *testing.T) {
	w := newWorld(t, 64)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
	if s := a.status(); s.Slots != 0 || s.Used != 0 || s.SnapshotAge >= 0 {
		t.Errorf("before anything is known: %+v", s)
	}
	w.untilLeading(a)
	if s := a.status(); s.Slots != 64 || s.Used != 1 || s.SnapshotAge >= 0 {
		t.Errorf("behind the barrier: %+v", s)
	}
	for i := range 10 {
		a.must(fmt.Sprint(i))
	}
	w.pass(10 * time.Second)
	s, l := a.status(), w.lease()
	if want := int(s.Applied - l.prev.seq()); s.Used != want || l.prev.seq() < 0 {
		t.Errorf("%+v, previous snapshot of %d", s, l.prev.seq())
	}
	if s.SnapshotAge < 10*time.Second || s.SnapshotAge > 11*time.Second {
		t.Errorf("a snapshot of ten seconds ago: %+v", s)
	}
	b := w.start()
	w.until("b follows", func() bool { return b.status().Role == RoleFollowing })
	if f := b.status(); f.Slots != 64 || f.Used != s.Used || f.SnapshotAge >= 0 {
		t.Errorf("the follower: %+v", f)
	}
	a.step(Resign{})
	w.settle()
	if s := a.status(); s.SnapshotAge >= 0 {
		t.Errorf("after it let go: %+v", s)
	}
}
