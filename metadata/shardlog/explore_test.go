package shardlog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

var deep = flag.Bool("deep", false, "explore the larger models, for minutes")

// action is one thing that may happen next.
type action struct {
	name string
	do   func(*model)
}

// actions lists everything that may happen in this state.
func (m *model) actions() (out []action) {
	add := func(name string, do func(*model)) { out = append(out, action{name, do}) }
	for _, x := range m.sent {
		if cur := m.current(x.item); cur.Rev != x.cond.Rev || cur != &m.lease && metadata.Seq(x.item.Rev) > m.left.maxSeq {
			continue
		}
		add(fmt.Sprintf("land %s %d", x.item.Key.PK[:4], x.item.Rev), func(m *model) { m.land(x) })
	}
	for i, r := range m.nodes {
		for j, q := range r.effects {
			m.answers(i, j, q, add)
		}
		for t := range timers {
			if r.core.armed[t] != 0 && m.fires(t) {
				add(fmt.Sprintf("%d: timer %d", i, t), func(m *model) { m.fire(i, t) })
			}
		}
		m.inputs(i, r, add)
	}
	return out
}

// answers lists what may come of a request under way.
func (m *model) answers(i, j int, q request, add func(string, func(*model))) {
	answer := func(name string, e Event, change func(*model)) {
		add(fmt.Sprintf("%d: %s", i, name), func(m *model) {
			r := m.nodes[i]
			r.effects = slices.Delete(r.effects, j, j+1)
			if change != nil {
				change(m)
			}
			if e != nil {
				m.step(i, e)
			}
		})
	}
	switch e := q.effect.(type) {
	case PutItem:
		m.putAnswers(e, q.again, answer)
	case GetItem:
		if q.read != nil {
			answer("late read", *q.read, nil)
			return
		}
		read := ItemRead{ID: e.ID, Item: m.get(e.Key), Found: true}
		if l, _ := decodeLease(m.lease.Value, testShard); e.Key == metadata.LeaseKey(testShard) && m.nodes[i].core.phase == phaseFollowing && l.epoch >= m.left.maxEpoch {
			return // it would claim
		}
		answer(fmt.Sprintf("read %s %d", e.Key.PK[:4], read.Item.Rev), read, nil)
		if p := m.nodes[i].core.phase; m.left.stale > 0 && e.Key != metadata.LeaseKey(testShard) && (p == phaseFollowing || p == phaseLeading) {
			add(fmt.Sprintf("%d: reads %s %d", i, e.Key.PK[:4], read.Item.Rev), func(m *model) {
				m.left.stale--
				m.nodes[i].effects[j].read = &read
			})
		}
	case LoadSnapshot:
		loaded := SnapshotLoaded{ID: e.ID, Body: m.snaps[e.Name]}
		if loaded.Body == nil {
			loaded.Err = objectlog.ErrNotFound
		}
		answer("load snapshot", loaded, nil)
	case StoreSnapshot:
		m.storeAnswers(i, e, answer)
	case DeleteSnapshots:
		answer("delete snapshots", nil, func(m *model) {
			m.deleteSnapshots(e)
		})
	default:
		m.fail("effect %T", e)
	}
}

// putAnswers: the table answers when it has decided; the answer may be lost at any time.
func (m *model) putAnswers(e PutItem, again bool, answer func(string, Event, func(*model))) {
	cur := *m.current(e.Item)
	mine := bytes.Equal(cur.Value, e.Item.Value)
	landed := mine || e.Item.Key != metadata.LeaseKey(testShard) && e.Item.Rev < metadata.Rev(len(m.log)) && bytes.Equal(m.log[e.Item.Rev], e.Item.Value)
	if landed && !again {
		answer("applied", PutDone{ID: e.ID, Result: metadata.PutResult{Outcome: metadata.Applied}}, nil)
	}
	if cur.Rev > e.Cond.Rev && (again || !landed) {
		answer("refused", PutDone{ID: e.ID, Result: metadata.PutResult{Outcome: metadata.Refused, Current: &cur}}, nil)
	}
	if m.left.lost > 0 {
		answer("unknown", PutDone{ID: e.ID, Result: metadata.PutResult{Err: errors.New("lost")}}, func(m *model) { m.left.lost-- })
	}
}

func (m *model) storeAnswers(i int, e StoreSnapshot, answer func(string, Event, func(*model))) {
	stored := e.Encode()
	answer("snapshot stored", SnapshotStored{ID: e.ID, Body: stored}, func(m *model) { m.snaps[e.Name] = stored })
	if m.left.torn > 0 {
		torn := slices.Clone(stored)
		torn[len(torn)/2] ^= 1
		answer("snapshot torn", SnapshotStored{ID: e.ID, Body: torn}, func(m *model) {
			m.left.torn--
			m.nodes[i].stores++
			m.snaps[e.Name] = torn
		})
	}
	if m.left.failed > 0 {
		answer("snapshot failed", SnapshotStored{ID: e.ID, Err: errors.New("lost")}, func(m *model) {
			m.left.failed--
			m.nodes[i].stores++
		})
	}
}

func (m *model) get(k metadata.Key) metadata.Item {
	if k == metadata.LeaseKey(testShard) {
		return m.lease
	}
	for i := range m.slots {
		if metadata.SlotKey(m.ring, len(m.slots), metadata.Seq(i)) == k {
			return m.slots[i]
		}
	}
	panic("no such key")
}

// fires: renewals are bounded; what depends on nothing but age is left out.
func (m *model) fires(t timer) bool {
	return t != timerChange && (t != timerRenew || m.left.renewals > 0) && (t != timerTenure || m.left.lapses > 0)
}

func (m *model) fire(i int, t timer) {
	if t == timerRenew {
		m.left.renewals--
	}
	if t == timerTenure {
		m.left.lapses--
	}
	m.nodes[i].core.armed[t] = 0
	m.step(i, Tick{})
}

// inputs lists what users and operators may do to a replica.
func (m *model) inputs(i int, r *replica, add func(string, func(*model))) {
	c := r.core
	if m.left.proposals > 0 && c.phase == phaseLeading && len(c.queue) == 0 && c.tip.seq < m.left.maxSeq {
		add(fmt.Sprintf("%d: propose", i), func(m *model) {
			m.left.proposals--
			id := uint64(m.proposals)
			m.proposals++
			m.step(i, Proposed{ID: id, Commands: []metadata.Command{{Kind: kindItem, Body: []byte(body(id))}}})
		})
	}
	if m.left.reads > 0 && (c.phase == phaseLeading || c.phase == phaseFollowing) {
		add(fmt.Sprintf("%d: ask", i), func(m *model) {
			m.left.reads--
			r := m.nodes[i]
			r.need = append(r.need, metadata.Seq(len(m.log)-1))
			m.step(i, CurrentAsked{ID: uint64(len(r.need) - 1)})
		})
	}
	if m.left.crashes > 0 && c.phase > phaseFollowing {
		add(fmt.Sprintf("%d: crash", i), func(m *model) {
			m.left.crashes--
			m.boot(i, m.nodes[i].boot[1])
		})
	}
	if m.left.resigns > 0 && c.phase == phaseLeading {
		add(fmt.Sprintf("%d: resign", i), func(m *model) {
			m.left.resigns--
			m.step(i, Resign{})
		})
	}
}

// explorer walks depth first over every state not seen before.
type explorer struct {
	seen    map[[16]byte]bool
	path    []string
	steps   int
	leading int // states in which somebody leads
	tip     metadata.Seq
	healed  int
	err     error
}

func (x *explorer) walk(m *model) {
	k := m.key()
	if x.err != nil || x.seen[k] {
		return
	}
	x.seen[k] = true
	if m.check(); m.err != nil {
		x.err = fmt.Errorf("%w\n%v", m.err, x.path)
		return
	}
	for _, r := range m.nodes {
		if r.core.phase == phaseLeading {
			x.leading++
		}
		x.tip = max(x.tip, r.core.tip.seq)
	}
	if k[0] == 0 && k[1] < 64 { // one in a thousand
		x.healed++
		if err := m.clone().heal(); err != nil {
			x.err = fmt.Errorf("%w\n%v", err, x.path)
			return
		}
	}
	for _, a := range m.actions() {
		next := m.clone()
		a.do(next)
		x.steps++
		x.path = append(x.path, a.name)
		x.walk(next)
		if x.err != nil {
			return
		}
		x.path = x.path[:len(x.path)-1]
	}
}

// heal lets everything go well from here on: some replica must come to lead and commit, whatever was before.
func (m *model) heal() error {
	m.left = bounds{slots: m.left.slots, every: m.left.every, maxSeq: 1 << 20, maxEpoch: 1 << 20, renewals: 1 << 20}
	asked, turn := uint64(1000), uint32(1)
	for range 3000 {
		for i, r := range m.nodes {
			if r.core.phase == phaseLeading && r.core.append == nil && len(r.core.queue) == 0 {
				asked++
				m.step(i, Proposed{ID: asked, Commands: []metadata.Command{{Kind: kindItem, Body: []byte(body(asked))}}})
			}
		}
		acked := len(m.acked)
		for _, x := range slices.Clone(m.sent) {
			if m.current(x.item).Rev == x.cond.Rev {
				m.land(x)
			}
		}
		all := m.actions()
		if len(all) == 0 {
			return errors.New("deadlock: nothing can happen any more")
		}
		turn = turn*1103515245 + 12345
		all[turn>>8%uint32(len(all))].do(m)
		if m.check(); m.err != nil {
			return m.err
		}
		if len(m.acked) > acked && m.acked[acked] > metadata.Seq(m.left.slots) {
			return nil
		}
	}
	return errors.New("no progress after everything healed")
}

// The models. Each is complete within its bounds.
var models = []struct {
	name  string
	nodes int
	deep  bool
	b     bounds
}{
	{"two replicas", 2, false, bounds{slots: 4, maxSeq: 3, maxEpoch: 2, every: 100, proposals: 2}},
	{"lost answers", 2, false, bounds{slots: 4, maxSeq: 2, maxEpoch: 2, every: 100, proposals: 1, lost: 1}},
	{"current reads", 2, false, bounds{slots: 4, maxSeq: 0, maxEpoch: 1, every: 100, reads: 1, stale: 1}},
	{"current reads, two leaders", 2, false, bounds{slots: 4, maxSeq: 1, maxEpoch: 2, every: 100, reads: 1}},
	{"laps and crashes", 1, false, bounds{slots: 2, maxSeq: 4, maxEpoch: 3, every: 100, proposals: 2, crashes: 2}},
	{"snapshots", 1, false, bounds{slots: 3, maxSeq: 5, maxEpoch: 2, every: 2, proposals: 4, crashes: 1, torn: 1}},
	{"late deletes", 1, false, bounds{slots: 3, maxSeq: 5, maxEpoch: 2, every: 2, proposals: 4, crashes: 1, lateDeletes: true}},
	{"resignation", 2, false, bounds{slots: 4, maxSeq: 1, maxEpoch: 2, every: 100, resigns: 1}},
	{"lapse", 2, false, bounds{slots: 4, maxSeq: 1, maxEpoch: 2, every: 100, proposals: 2, lapses: 1}},
	{"lapse and renewal", 1, false, bounds{slots: 4, maxSeq: 3, maxEpoch: 2, every: 100, proposals: 3, lapses: 2, renewals: 2, lost: 1}},
	{"renewal", 2, false, bounds{slots: 4, maxSeq: 0, maxEpoch: 2, every: 100, renewals: 1}},

	{"resignation and more", 2, true, bounds{slots: 4, maxSeq: 2, maxEpoch: 2, every: 100, proposals: 1, resigns: 1}},
	{"lapses and lost answers", 2, true, bounds{slots: 4, maxSeq: 1, maxEpoch: 2, every: 100, proposals: 2, lapses: 2, lost: 1}},
	{"renewals", 2, true, bounds{slots: 4, maxSeq: 2, maxEpoch: 2, every: 100, proposals: 1, renewals: 2}},
	{"laps, crashes and lost answers", 1, true, bounds{slots: 2, maxSeq: 5, maxEpoch: 3, every: 100, proposals: 3, crashes: 2, lost: 1}},
	{"snapshots torn and failed", 1, true, bounds{slots: 3, maxSeq: 6, maxEpoch: 2, every: 2, proposals: 5, crashes: 1, torn: 1, failed: 1, lateDeletes: true}},
	{"two replicas, laps, a crash", 2, true, bounds{slots: 2, maxSeq: 4, maxEpoch: 2, every: 100, proposals: 2, crashes: 1}},
	{"two replicas, lost answers", 2, true, bounds{slots: 4, maxSeq: 3, maxEpoch: 2, every: 100, proposals: 2, lost: 2}},
	{"two replicas, snapshots", 2, true, bounds{slots: 3, maxSeq: 4, maxEpoch: 2, every: 2, proposals: 3}},
	{"two replicas, reads", 2, true, bounds{slots: 4, maxSeq: 2, maxEpoch: 2, every: 100, proposals: 1, reads: 1, stale: 1}},
	{"three epochs", 2, true, bounds{slots: 4, maxSeq: 3, maxEpoch: 3, every: 100, proposals: 2}},
}

func TestEveryReachableStateOfSmallModelsKeepsTheInvariants(t *testing.T) {
	for _, x := range models {
		if x.deep && !*deep {
			continue // complete, but minutes long: go test -run SmallModels -deep -timeout 60m
		}
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			e := explorer{seen: map[[16]byte]bool{}}
			e.walk(newModel(x.b, x.nodes))
			if e.err != nil {
				t.Fatal(e.err)
			}
			if e.leading == 0 {
				t.Error("nobody ever leads: the model shows nothing")
			}
			t.Logf("%d states, %d steps, %d of them led, highest seq %d, %d healed, %v", len(e.seen), e.steps, e.leading, e.tip, e.healed, time.Since(start).Round(time.Millisecond))
		})
	}
}

// The model's copy of a Core must know every field.
func TestModelCopiesEveryField(t *testing.T) {
	for _, x := range []struct {
		of   any
		want int
	}{{Core{}, 39}, {ringReader{}, 9}, {leasePut{}, 4}, {appending{}, 5}, {checkpoint{}, 4}, {attempt{}, 7}} {
		if got := reflect.TypeOf(x.of).NumField(); got != x.want {
			t.Errorf("%T has %d fields, not %d: see that clone and key know the new ones", x.of, got, x.want)
		}
	}
}
