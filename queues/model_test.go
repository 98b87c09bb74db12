package queues

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// world is a shard with a group's queue, an ordered group and a dead-letter topic, the leader that ends locks and moves records, leaders that do not know
// that they are none any more and go on writing, the topics that records are moved to, consumers, and what is on its way between them.
type world struct {
	t         *rapid.T
	state     *State
	at        metadata.Position
	now       time.Duration
	clock     *Clock
	formers   []*former
	places    map[Place]*target
	lives     map[Key]int // of the topic that records of the queue go to
	producer  objectlog.ProducerID
	lock      uint64
	until     objectlog.Offset // of the source and of the dead-letter topic
	start     objectlog.Offset
	proposals []*proposal
	held      []token
	records   map[source]*fate
	position  objectlog.Offset // of the ordered consumer
	committed objectlog.Offset
	count     map[string]int // of what happened, so that it is known to happen
}

type source struct {
	Key
	objectlog.Offset
}

// fate is what a record has been through, noted where it is promised, not where it is kept.
type fate struct {
	deliveries int32
	accepted   bool
	rejected   bool
	givenUp    bool
	discarded  bool
	holder     uint64 // the lock under which it was handed out and that was not settled
	since      time.Duration
}

type token struct {
	objectlog.Offset
	lock uint64
}

type proposal struct {
	c     command
	often bool // it may come again
}

// former is a leader that goes on writing what it knew of.
type former struct {
	routes [][]Piece
	key    Key
}

// target is a partition that records go to, with the rule for producers of real ones.
type target struct {
	gone      bool
	producers map[objectlog.ProducerID]*known
	copies    map[source]int
}

type known struct {
	last []int32 // sequences, five at most
	seen int32
}

const rememberedBatches = 5

// write appends the record, unless its producer's sequence says that it is there; arrived: it is there.
func (x *target) write(m *Move, s source) (arrived bool) {
	if x.gone {
		return false
	}
	p := x.producers[m.Producer]
	if p == nil {
		p = &known{}
		x.producers[m.Producer] = p
	} else {
		newest := p.last[len(p.last)-1]
		next := int32((uint32(newest) + 1) & math.MaxInt32)
		back := int32(uint32(next-m.Sequence) & math.MaxInt32)
		if slices.Contains(p.last, m.Sequence) || m.Sequence != next && back <= p.seen {
			return true // a duplicate, or one so old that it is not known any more
		}
		if m.Sequence != next {
			return false
		}
	}
	if p.last = append(p.last, m.Sequence); len(p.last) > rememberedBatches {
		p.last = p.last[1:]
	}
	p.seen++
	x.copies[s]++
	return true
}

var ordered = Key{work.Topic, 0, "o"}

const lockModel = 2 * time.Second

func newWorld(t *rapid.T) *world {
	w := &world{t: t, state: NewState(), now: 1, clock: NewClock(), places: map[Place]*target{}, lives: map[Key]int{}, until: 4, records: map[source]*fate{}, count: map[string]int{}}
	w.at.Epoch = 1
	return w
}

func (w *world) number(most int, what string) int { return rapid.IntRange(0, most).Draw(w.t, what) }

func (w *world) record(k Key, o objectlog.Offset) *fate {
	f := w.records[source{k, o}]
	if f == nil {
		f = &fate{}
		w.records[source{k, o}] = f
	}
	return f
}

// place is where records of a queue go now.
func (w *world) place(k Key) Place {
	p := Place{objectlog.UUID{3, byte(w.lives[k]), k.Topic[0], byte(len(k.Group)), (k.Group + "-")[0]}, 0}
	if w.places[p] == nil {
		w.places[p] = &target{producers: map[objectlog.ProducerID]*known{}, copies: map[source]int{}}
	}
	return p
}

func (w *world) propose(c command, often bool) {
	w.proposals = append(w.proposals, &proposal{c, often})
}

// append applies a proposal, in any order among those that were proposed.
func (w *world) append(*rapid.T) {
	if len(w.proposals) == 0 {
		return
	}
	i := w.number(len(w.proposals)-1, "which")
	p := w.proposals[i]
	if !p.often || w.number(3, "again") > 0 || len(w.proposals) > 30 {
		w.proposals = slices.Delete(w.proposals, i, i+1)
	}
	w.apply(p.c)
}

func (w *world) apply(c command) {
	w.at.Seq++
	w.at.Time++
	if _, err := w.state.Prepare(c.Command()); err != nil {
		w.t.Fatalf("prepare: %v", err)
	}
	result, err := w.state.Apply(w.at, c.Command())
	if err != nil {
		w.t.Fatalf("apply: %v", err)
	}
	r := result.(Result)
	switch c := c.(type) {
	case Acquire:
		w.acquired(c, r)
	case Settle:
		w.settled(c.Items[0], r)
	case Fail:
		if w.record(ordered, c.Offset).givenUp = true; w.position == c.Offset {
			w.position++
		}
	case Discard:
		if len(r.Refused) == 0 {
			w.record(letters, c.Ranges[0].From).discarded = true
		}
	}
}

func (w *world) acquired(c Acquire, r Result) {
	for _, a := range r.Acquired {
		for o := a.From; o < a.To; o++ {
			f := w.record(work, o)
			if f.accepted {
				w.t.Fatalf("record %d is handed out again, and was accepted", o)
			}
			// A repeat so late that its lock is over locks again, for the same call.
			if late := w.now-f.since >= lockModel && a.Deliveries > f.deliveries; f.holder != c.Lock || late {
				if f.holder != 0 && w.now-f.since < lockModel {
					w.t.Fatalf("record %d is handed out under %d and %d", o, f.holder, c.Lock)
				}
				f.deliveries++
				f.holder, f.since = c.Lock, w.now
			}
			if a.Deliveries != f.deliveries {
				w.t.Fatalf("record %d says it is delivered for the %d. time, it is for the %d.", o, a.Deliveries, f.deliveries)
			}
			if a.Deliveries > 1 {
				w.count["delivered again"]++
			}
			if t := (token{o, c.Lock}); !slices.Contains(w.held, t) {
				w.held = append(w.held, t)
			}
		}
	}
}

func (w *world) settled(i Settlement, r Result) {
	if len(r.Refused) > 0 {
		w.count["refused"]++
		return
	}
	f := w.record(work, i.From)
	if f.holder != i.Lock {
		w.t.Fatalf("record %d is settled under %d, and was handed out under %d", i.From, i.Lock, f.holder)
	}
	switch i.Verdict {
	case Extend:
		f.since = w.now
		return
	case Accept:
		f.accepted = true
	case Reject:
		f.rejected = true
	case Return:
		f.deliveries--
	}
	f.holder = 0
}

// Steps of consumers.

func (w *world) pull(*rapid.T) {
	w.lock++
	c := Acquire{Key: work, Lock: w.lock, Wait: lockModel, Limit: 1 + int32(w.number(3, "limit")), Window: 6, Until: w.until, LogStart: w.start, Policy: thrice}
	w.propose(c, true)
}

// say settles a record that was handed out sometime; it may have been settled before, and handed out to another.
func (w *world) say(*rapid.T) {
	if len(w.held) == 0 {
		return
	}
	t := rapid.SampledFrom(w.held).Draw(w.t, "record")
	i := Settlement{From: t.Offset, To: t.Offset + 1, Lock: t.lock, Verdict: Verdict(1 + w.number(4, "verdict"))}
	if i.Verdict == Extend || i.Verdict == Release && w.number(2, "delay") == 0 {
		i.Wait = lockModel
	}
	if i.Verdict == Return && w.number(2, "really") > 0 {
		return
	}
	w.propose(Settle{work, []Settlement{i}}, true)
}

// read is the ordered consumer: it processes the record at its position, fails sometimes, and crashes sometimes.
func (w *world) read(*rapid.T) {
	if w.position >= w.until {
		return
	}
	switch w.number(4, "how") {
	case 0, 1:
		if w.position%2 == 1 { // nobody can process the odd ones
			w.propose(Fail{Key: ordered, Offset: w.position, Committed: w.committed, Deliveries: 3, First: w.at.Time, Policy: thrice}, true)
			return
		}
		w.position++
	case 2:
		w.committed = w.position
		// Calls of before are over: that they may be late for ever is not promised.
		w.proposals = slices.DeleteFunc(w.proposals, func(p *proposal) bool { f, ok := p.c.(Fail); return ok && f.Offset < w.committed })
	case 3:
		if w.position > w.committed {
			w.count["read again"]++
		}
		w.position = w.committed
	}
}

// Steps of the leader.

func (w *world) tick(*rapid.T) {
	for range 1 + w.number(4, "ticks") {
		w.now += 250 * time.Millisecond
		for _, c := range w.clock.Tick(w.now, w.at.Epoch, w.state) {
			w.count["elapsed"]++
			w.propose(raw(c), true)
		}
	}
}

func (w *world) draw(k Key) objectlog.ProducerID {
	if q, ok := w.state.Queue(k); ok && q.route(w.place(k)) >= 0 {
		return objectlog.NoProducer
	}
	w.producer++
	return w.producer
}

func (w *world) depart(*rapid.T) {
	w.departBut(func(objectlog.Offset) bool { return w.number(3, "not now") == 3 })
}

func (w *world) departBut(skip func(objectlog.Offset) bool) {
	for _, k := range []Key{work, ordered} {
		q, ok := w.state.Queue(k)
		if !ok {
			continue
		}
		c := MoveOut{Key: k, Until: w.until}
		for _, o := range q.Departing(3, skip) {
			c.Items = append(c.Items, Departure{Offset: o, To: w.place(k), Producer: w.draw(k)})
		}
		if len(c.Items) > 0 {
			w.propose(c, false)
		}
	}
}

func (w *world) redrive(*rapid.T) {
	o := objectlog.Offset(w.number(int(w.until), "record"))
	if w.number(3, "discard") == 0 {
		w.propose(Discard{letters, w.until, []Range{{o, o + 1}}}, true)
		return
	}
	w.propose(MoveOut{letters, w.until, []Departure{{Offset: o, To: w.place(letters), Producer: w.draw(letters)}}}, false)
}

// carry writes the record that is the first on its route, and often says that it has arrived.
func (w *world) carry(*rapid.T) {
	k := rapid.SampledFrom([]Key{work, ordered, letters}).Draw(w.t, "queue")
	if q, ok := w.state.Queue(k); ok {
		for _, route := range q.Underway() {
			w.write(k, route[0], w.number(3, "crash") > 0)
		}
	}
}

func (w *world) write(k Key, p Piece, say bool) {
	x, m := w.places[p.Move.To], p.Move
	switch arrived := x.write(m, source{k, p.From}); {
	case arrived && say:
		w.propose(Moved{k, []Arrival{{p.From, m.Producer, m.Sequence}}}, true)
	case !arrived:
		if !x.gone {
			w.t.Fatalf("%v: record %d is refused with sequence %d: there is a gap", k, p.From, m.Sequence)
		}
		w.count["rerouted"]++
		w.propose(Reroute{k, m.Producer}, true)
	}
}

// carryOn is a former leader that writes what it took out of its state.
func (w *world) carryOn(*rapid.T) {
	if len(w.formers) == 0 {
		return
	}
	f := rapid.SampledFrom(w.formers).Draw(w.t, "former")
	for i, route := range f.routes {
		if len(route) > 0 && w.places[route[0].Move.To].write(route[0].Move, source{f.key, route[0].From}) {
			f.routes[i] = route[1:]
			w.count["written by a former leader"]++
		}
	}
}

// lead makes another leader, from a snapshot. What was proposed to the one before can be appended no more; its consumers propose again.
func (w *world) lead(*rapid.T) {
	for _, k := range []Key{work, ordered, letters} {
		if q, ok := w.state.Queue(k); ok {
			f := &former{key: k}
			for _, route := range q.Underway() {
				for i, p := range route {
					m := *p.Move
					route[i].Move = &m
				}
				f.routes = append(f.routes, route)
			}
			w.formers = append(w.formers, f)
		}
	}
	fresh := NewState()
	if err := fresh.Restore(w.state.View().Encode(nil)); err != nil {
		w.t.Fatal(err)
	}
	w.state, w.clock = fresh, NewClock()
	w.at.Epoch++
	w.proposals = slices.DeleteFunc(w.proposals, func(p *proposal) bool { return !p.often })
}

func (w *world) grow(*rapid.T) { w.until = min(w.until+2, 24) }

func (w *world) trim(*rapid.T) {
	if w.number(5, "really") == 0 {
		w.start = min(w.start+1, w.until)
		w.propose(Trim{work, w.start}, true)
	}
}

func (w *world) lose(*rapid.T) {
	if len(w.proposals) > 0 {
		i := w.number(len(w.proposals)-1, "which")
		w.proposals = slices.Delete(w.proposals, i, i+1)
	}
}

// drop deletes the topic that records of a queue go to; there will be another.
func (w *world) drop(*rapid.T) {
	k := rapid.SampledFrom([]Key{work, ordered, letters}).Draw(w.t, "queue")
	if w.lives[k] < 3 && w.number(5, "really") == 0 {
		w.places[w.place(k)].gone = true
		w.lives[k]++
	}
}

func (w *world) copies(s source) (n int) {
	for _, x := range w.places {
		if !x.gone {
			n += x.copies[s]
		}
	}
	return n
}

func (w *world) check(t *rapid.T) {
	w.t = t
	for _, x := range w.places {
		for s, n := range x.copies {
			if n > 1 || !x.gone && w.copies(s) > 1 {
				t.Fatalf("%d copies of %v/%d in one place, %d in all", n, s.Key, s.Offset, w.copies(s))
			}
			if f := w.record(s.Key, s.Offset); f.accepted || s.Key == work && f.deliveries < thrice.Deliveries && !f.rejected || s.Key == ordered && !f.givenUp {
				t.Fatalf("%v/%d was copied: %+v", s.Key, s.Offset, f)
			}
		}
	}
	q, ok := w.state.Queue(work)
	if !ok {
		return
	}
	if n := q.InFlight(); n > 6 {
		t.Fatalf("%d in flight", n)
	}
	for o := range q.Next {
		f := w.record(work, o)
		p, there := q.At(o)
		switch {
		case !there && o >= w.start && !f.accepted && w.copies(source{work, o}) != 1 && !w.wasCopied(source{work, o}):
			t.Fatalf("record %d is finished: %+v", o, f)
		case there && f.accepted:
			t.Fatalf("record %d was accepted, and is in phase %d", o, p.Phase)
		case there && p.Deliveries != f.deliveries:
			t.Fatalf("record %d was delivered %d times, of which %d are known", o, f.deliveries, p.Deliveries)
		case there && (p.Phase == Failed || p.Phase == Moving) && p.Deliveries < thrice.Deliveries && !f.rejected:
			t.Fatalf("record %d failed behind %d deliveries", o, p.Deliveries)
		}
	}
}

// wasCopied: to a topic that is gone since.
func (w *world) wasCopied(s source) bool {
	for _, x := range w.places {
		if x.copies[s] > 0 {
			return true
		}
	}
	return false
}

// heal lets everything end: each record is accepted, copied once, discarded, or was below the start of the log.
func (w *world) heal(t *rapid.T) {
	w.proposals = nil
	w.committed, w.position = max(w.committed, w.position), w.until
	for range 150 {
		w.pull(t)
		w.departBut(func(objectlog.Offset) bool { return false })
		for o := range w.until {
			if q, ok := w.state.Queue(letters); !ok || o >= q.Next || q.Count(Ready) > 0 {
				w.propose(MoveOut{letters, w.until, []Departure{{Offset: o, To: w.place(letters), Producer: w.draw(letters)}}}, false)
			}
		}
		w.flush()
		for _, k := range []Key{work, ordered, letters} {
			if q, ok := w.state.Queue(k); ok {
				for _, route := range q.Underway() {
					for _, p := range route {
						w.write(k, p, true)
					}
				}
			}
		}
		for _, h := range w.held {
			w.propose(Settle{work, []Settlement{{From: h.Offset, To: h.Offset + 1, Lock: h.lock, Verdict: Accept}}}, false)
		}
		w.held = nil
		w.now += 250 * time.Millisecond
		for _, c := range w.clock.Tick(w.now, w.at.Epoch, w.state) {
			w.propose(raw(c), false)
		}
		w.flush()
		w.carryOn(t)
		w.check(t)
		if w.healed() == nil {
			break
		}
	}
	if err := w.healed(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) flush() {
	for _, p := range w.proposals {
		w.apply(p.c)
	}
	w.proposals = nil
}

func (w *world) healed() error {
	for _, k := range []Key{work, ordered, letters} {
		q, ok := w.state.Queue(k)
		if k == work && (!ok || q.Unfinished(w.start, w.until) > 0) || ok && (q.Count(Failed) > 0 || q.Count(Moving) > 0) {
			return fmt.Errorf("%v does not empty: %+v", k, q)
		}
	}
	for o := range w.until {
		f := w.record(letters, o)
		if s := (source{letters, o}); f.discarded && w.copies(s) > 0 || !f.discarded && !w.wasCopied(s) {
			return fmt.Errorf("dead letter %d has %d copies: %+v", o, w.copies(s), f)
		}
		if s := (source{ordered, o}); w.record(ordered, o).givenUp != w.wasCopied(s) {
			return fmt.Errorf("record %d of the ordered group has %d copies", o, w.copies(s))
		}
	}
	return nil
}

func TestQueueKeepsItsPromisesWhateverHappens(t *testing.T) {
	checks(t, "800", "200")
	happened := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := map[string]func(*rapid.T){"lead": w.lead, "lose": w.lose, "drop": w.drop, "trim": w.trim, "grow": w.grow, "": w.check}
		for i := range 3 { // most of what happens
			for name, step := range map[string]func(*rapid.T){"append": w.append, "append too": w.append, "pull": w.pull, "say": w.say, "read": w.read, "tick": w.tick, "depart": w.depart,
				"redrive": w.redrive, "carry": w.carry, "carry on": w.carryOn} {
				steps[fmt.Sprint(name, i)] = step
			}
		}
		t.Repeat(steps)
		w.heal(t)
		for what, n := range w.count {
			happened[what] += n
		}
	})
	for _, what := range []string{"delivered again", "refused", "elapsed", "rerouted", "written by a former leader", "read again"} {
		if happened[what] == 0 {
			t.Errorf("%s: never happened", what)
		}
	}
	t.Log(happened)
}
