package queues

import (
	"bytes"
	"flag"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// naive is a queue that knows each record by itself.
type naive struct {
	ordered, there bool
	next           objectlog.Offset
	policy         Policy
	stamps         int64
	records        map[objectlog.Offset]Piece // From and To are zero
	routes         []Route
}

// offsets are those of records of a phase, in order.
func (n *naive) offsets(f func(Piece) bool) []objectlog.Offset {
	var all []objectlog.Offset
	for o := range n.next {
		if p, ok := n.records[o]; ok && f(p) {
			all = append(all, o)
		}
	}
	return all
}

func in(phase Phase) func(Piece) bool { return func(p Piece) bool { return p.Phase == phase } }

func (n *naive) make(start objectlog.Offset, ordered bool) bool {
	if !n.there {
		*n = naive{there: true, ordered: ordered, next: start, records: map[objectlog.Offset]Piece{}}
	}
	return n.ordered == ordered
}

func (n *naive) trim(start objectlog.Offset) {
	for o, p := range n.records {
		if o < start && p.Phase != Locked && p.Phase != Moving {
			delete(n.records, o)
		}
	}
	n.next = max(n.next, start)
}

func (n *naive) lockedUnder(lock uint64) Result {
	var r Result
	for _, o := range n.offsets(in(Locked)) {
		if p := n.records[o]; p.Lock == lock {
			if i := len(r.Acquired) - 1; i >= 0 && r.Acquired[i].To == o && r.Acquired[i].Deliveries == p.Deliveries {
				before := n.records[o-1]
				if before == p {
					r.Acquired[i].To++
					continue
				}
			}
			r.Acquired = append(r.Acquired, Acquired{o, o + 1, p.Deliveries})
		}
	}
	return r
}

func (n *naive) acquire(c Acquire) Result {
	if !n.make(max(c.Start, c.LogStart), false) {
		return Result{Reason: ReasonOtherMode}
	}
	n.policy = c.Policy
	n.trim(c.LogStart)
	if r := n.lockedUnder(c.Lock); len(r.Acquired) > 0 {
		return r
	}
	n.stamps++
	got := 0
	for _, o := range n.offsets(in(Ready)) {
		if p := n.records[o]; got < int(c.Limit) {
			got++
			p.Phase, p.Lock, p.Stamp, p.Wait = Locked, c.Lock, n.stamps, c.Wait
			p.Deliveries++
			n.records[o] = p
		}
	}
	for ; got < int(c.Limit) && n.next < c.Until && len(n.records) < int(c.Window); got++ {
		n.records[n.next] = Piece{Phase: Locked, Lock: c.Lock, Stamp: n.stamps, Wait: c.Wait, Deliveries: 1}
		n.next++
	}
	return n.lockedUnder(c.Lock)
}

func (n *naive) refuseEach(r *Result, o objectlog.Offset, why Reason) {
	if i := len(r.Refused) - 1; i >= 0 && r.Refused[i].To == o && r.Refused[i].Reason == why {
		r.Refused[i].To++
		return
	}
	r.Refused = append(r.Refused, Refusal{o, o + 1, why})
}

func (n *naive) settle(c Settle, now objectlog.Timestamp) (r Result) {
	i := c.Items[0]
	if i.Wait > 0 {
		n.stamps++
	}
	for o := i.From; o < i.To; o++ {
		p, ok := n.records[o]
		if !ok || p.Phase != Locked || p.Lock != i.Lock {
			n.refuseEach(&r, o, ReasonNotLocked)
			continue
		}
		switch failed := p.failed(CauseReleased, i.Error, now); {
		case i.Verdict == Accept:
			delete(n.records, o)
			continue
		case i.Verdict == Extend:
			p.Stamp, p.Wait = n.stamps, i.Wait
		case i.Verdict == Return:
			p.Phase, p.Lock, p.Stamp, p.Wait = Ready, 0, 0, 0
			p.Deliveries--
		case i.Verdict == Reject || p.Deliveries >= n.policy.Deliveries:
			p = Piece{Phase: Failed, Deliveries: p.Deliveries, Failure: failed.Failure}
			if i.Verdict == Reject {
				p.Failure.Cause = CauseRejected
			}
		case i.Wait > 0:
			p = Piece{Phase: Delayed, Deliveries: p.Deliveries, Failure: failed.Failure, Stamp: n.stamps, Wait: i.Wait}
		default:
			p = Piece{Phase: Ready, Deliveries: p.Deliveries, Failure: failed.Failure}
		}
		n.records[o] = p
	}
	return r
}

func (n *naive) elapse(c Elapse, now objectlog.Timestamp) (r Result) {
	for _, o := range n.offsets(func(p Piece) bool { return p.Stamp != 0 && slices.Contains(c.Stamps, p.Stamp) }) {
		p := n.records[o]
		after := Piece{Phase: Ready, Deliveries: p.Deliveries, Failure: p.Failure}
		if p.Phase == Locked {
			r.Expired++
			after = after.failed(CauseExpired, "", now)
			if p.Deliveries >= n.policy.Deliveries {
				after.Phase = Failed
			}
		}
		n.records[o] = after
	}
	return r
}

func (n *naive) fail(c Fail, now objectlog.Timestamp) Result {
	if !n.make(0, true) {
		return Result{Reason: ReasonOtherMode}
	}
	n.policy = c.Policy
	for o, p := range n.records {
		if o < c.Committed && p.Phase == Buried {
			delete(n.records, o)
		}
	}
	if _, known := n.records[c.Offset]; !known && c.Offset >= c.Committed {
		n.records[c.Offset] = Piece{Phase: Failed, Deliveries: c.Deliveries, Failure: Failure{c.First, now, CauseGivenUp, c.Error}}
		n.next = max(n.next, c.Offset+1)
	}
	return Result{}
}

func (n *naive) extend(to objectlog.Offset) {
	for ; n.next < to; n.next++ {
		n.records[n.next] = Piece{}
	}
}

func (n *naive) route(to Place) int {
	return slices.IndexFunc(n.routes, func(r Route) bool { return r.To == to })
}

func (n *naive) moveOut(c MoveOut) (r Result) {
	for _, d := range c.Items {
		if d.Producer == objectlog.NoProducer && n.route(d.To) < 0 {
			return Result{Reason: ReasonNoProducer}
		}
	}
	if c.Group == "" {
		n.make(0, false)
	}
	if !n.there {
		return Result{Reason: ReasonNotThere}
	}
	for _, d := range c.Items {
		p, ok := n.records[d.Offset]
		fresh := c.Group == "" && d.Offset >= n.next && d.Offset < c.Until
		if !fresh && (!ok || p.Phase != Failed && (p.Phase != Ready || c.Group != "")) {
			r.Refused = append(r.Refused, Refusal{d.Offset, d.Offset + 1, ReasonNotThere})
			continue
		}
		if c.Group == "" {
			n.extend(d.Offset + 1)
		}
		i := n.route(d.To)
		if i < 0 {
			i, n.routes = len(n.routes), append(n.routes, Route{d.To, d.Producer, 0})
		}
		route := n.routes[i]
		p.Move = &Move{To: d.To, Producer: route.Producer, Sequence: route.Next, Failed: p.Phase == Failed}
		p.Phase = Moving
		route.Next++
		n.routes = append(slices.Delete(n.routes, i, i+1), route)
		n.records[d.Offset] = p
	}
	return r
}

func (n *naive) moved(c Moved) {
	for _, a := range c.Items {
		p := n.records[a.Offset]
		if p.Phase != Moving || p.Move.Producer != a.Producer || p.Move.Sequence != a.Sequence {
			continue
		}
		delete(n.records, a.Offset)
		if n.ordered {
			n.records[a.Offset] = Piece{Phase: Buried}
		}
	}
}

func (n *naive) reroute(c Reroute) {
	n.routes = slices.DeleteFunc(n.routes, func(r Route) bool { return r.Producer == c.Producer })
	for _, o := range n.offsets(in(Moving)) {
		if p := n.records[o]; p.Move.Producer == c.Producer {
			p.Phase = Ready
			if p.Move.Failed {
				p.Phase = Failed
			}
			p.Move = nil
			n.records[o] = p
		}
	}
}

func (n *naive) discard(c Discard) (r Result) {
	n.make(0, false)
	for _, x := range c.Ranges {
		var one Result
		if to := min(x.To, c.Until); x.From < to {
			n.extend(to)
		}
		for o := x.From; o < x.To; o++ {
			if p, ok := n.records[o]; ok && p.Phase == Ready && o < n.next {
				delete(n.records, o)
				continue
			}
			n.refuseEach(&one, o, ReasonNotThere)
		}
		r.Refused = append(r.Refused, one.Refused...)
	}
	return r
}

// compared is a State beside what a naive one says.
type compared struct {
	t      *rapid.T
	state  *State
	other  *State // a replica that restored snapshots on its way
	at     metadata.Position
	queues map[Key]*naive
}

var comparedKeys = []Key{work, {topic(1), 0, "o"}, letters}

func (w *compared) number(most int, what string) int { return rapid.IntRange(0, most).Draw(w.t, what) }

func (w *compared) span() (from, to objectlog.Offset) {
	from = objectlog.Offset(w.number(30, "from"))
	return from, from + 1 + objectlog.Offset(w.number(5, "records"))
}

// step draws a command and answers it with what the naive queue makes of it.
func (w *compared) step() (command, func(now objectlog.Timestamp) Result) {
	k := rapid.SampledFrom(comparedKeys).Draw(w.t, "queue")
	n := w.queues[k]
	nothing := func(f func()) func(objectlog.Timestamp) Result {
		return func(objectlog.Timestamp) Result {
			if n.there {
				f()
			}
			return Result{}
		}
	}
	kind := w.number(11, "command")
	if k == letters { // only what such a queue takes
		kind = 6 + kind%5
	} else if kind == 9 {
		kind = 0
	}
	from, to := w.span()
	switch kind {
	case 0, 1, 11:
		c := acquire(1+uint64(w.number(5, "lock")), 1+int32(w.number(8, "limit")))
		c.Key, c.Until, c.LogStart, c.Start = k, to, max(0, from-25), objectlog.Offset(w.number(3, "start"))
		c.Policy.Deliveries = 1 + int32(w.number(3, "deliveries"))
		return c, func(objectlog.Timestamp) Result { return n.acquire(c) }
	case 2, 3:
		c := Settle{k, []Settlement{w.settlement(from, to)}}
		return c, func(now objectlog.Timestamp) Result {
			if !n.there {
				return Result{Refused: []Refusal{{from, to, ReasonNotLocked}}}
			}
			return n.settle(c, now)
		}
	case 4:
		stamps := rapid.SliceOfNDistinct(rapid.Int64Range(1, n.stamps+2), 0, 3, rapid.ID[int64]).Draw(w.t, "stamps")
		slices.Sort(stamps)
		c := Elapse{k, stamps}
		return c, func(now objectlog.Timestamp) Result {
			if !n.there {
				return Result{}
			}
			return n.elapse(c, now)
		}
	case 5:
		c := fail(from, objectlog.Offset(w.number(20, "committed")))
		c.Key = k
		return c, func(now objectlog.Timestamp) Result { return n.fail(c, now) }
	case 6:
		c := w.moveOut(k)
		return c, func(objectlog.Timestamp) Result { return n.moveOut(c) }
	case 7:
		c := Moved{k, []Arrival{w.arrival(n, from)}}
		return c, nothing(func() { n.moved(c) })
	case 8:
		c := Reroute{k, objectlog.ProducerID(w.number(int(w.at.Seq), "producer"))}
		if len(n.routes) > 0 {
			c.Producer = rapid.SampledFrom(n.routes).Draw(w.t, "route").Producer
		}
		return c, nothing(func() { n.reroute(c) })
	case 9:
		c := Discard{k, 33, []Range{{from, to}}}
		return c, func(objectlog.Timestamp) Result { return n.discard(c) }
	default:
		c := Trim{k, max(0, from-15)}
		return c, nothing(func() { n.trim(c.LogStart) })
	}
}

func (w *compared) settlement(from, to objectlog.Offset) Settlement {
	i := Settlement{From: from, To: to, Lock: 1 + uint64(w.number(5, "lock")), Verdict: Verdict(1 + w.number(4, "verdict")), Error: fmt.Sprint(w.number(1, "error"))}
	if i.Verdict == Extend || i.Verdict == Release && w.number(1, "delay") == 1 {
		i.Wait = time.Duration(1+w.number(2, "wait")) * time.Second
	}
	return i
}

// arrival is mostly that of a record that is on its way.
func (w *compared) arrival(n *naive, o objectlog.Offset) Arrival {
	if moving := n.offsets(in(Moving)); len(moving) > 0 && w.number(3, "real") > 0 {
		o = rapid.SampledFrom(moving).Draw(w.t, "arrived")
		m := n.records[o].Move
		return Arrival{o, m.Producer, m.Sequence}
	}
	return Arrival{o, objectlog.ProducerID(10 * w.number(int(w.at.Seq), "producer")), int32(w.number(2, "sequence"))}
}

func (w *compared) moveOut(k Key) MoveOut {
	c := MoveOut{Key: k, Until: 34}
	for range 1 + w.number(3, "records") {
		d := Departure{Offset: objectlog.Offset(w.number(35, "record")), To: Place{topic(5), objectlog.Partition(w.number(2, "to"))}, Producer: objectlog.NoProducer}
		if w.number(1, "producer") == 1 { // one for each place
			d.Producer = objectlog.ProducerID(10*int(w.at.Seq) + int(d.To.Partition))
		}
		c.Items = append(c.Items, d)
	}
	return c
}

func (w *compared) check(t *rapid.T) {
	w.t = t
	for k, n := range w.queues {
		q, ok := w.state.Queue(k)
		if ok != n.there {
			t.Fatalf("%v: there %v, want %v", k, ok, n.there)
		}
		if !ok {
			continue
		}
		if q.Next != n.next || q.Ordered != n.ordered || q.Policy != n.policy || !slices.Equal(q.Routes, n.routes) {
			t.Fatalf("%+v, want %+v", q, n)
		}
		for o := range n.next + 5 {
			p, ok := q.At(o)
			want, known := n.records[o]
			got := cut(p, 0, 0)
			if ok && known && got.Move != nil && want.Move != nil && reflect.DeepEqual(got.Move, want.Move) {
				got.Move, want.Move = nil, nil
			}
			if ok != known || got != want || ok && (o < p.From || o >= p.To) {
				t.Fatalf("%v: record %d is %+v, want %+v", k, o, p, want)
			}
		}
		buried, ready := int64(len(n.offsets(in(Buried)))), int64(len(n.offsets(in(Ready))))
		below := int64(len(n.offsets(func(Piece) bool { return true }))) - buried
		if q.InFlight() != below || q.Count(Ready) != ready || q.Available(n.next+3, 10) != ready+max(0, min(3, 10-below)) || q.Unfinished(0, n.next+3) != below+3 {
			t.Fatalf("%v: %d in flight, %d available, %d unfinished", k, q.InFlight(), q.Available(n.next+3, 10), q.Unfinished(0, n.next+3))
		}
	}
}

func (w *compared) apply(t *rapid.T) {
	w.t = t
	c, naively := w.step()
	w.at.Seq++
	w.at.Time += objectlog.Timestamp(w.number(1, "time"))
	if _, err := w.state.Prepare(c.Command()); err != nil {
		t.Fatalf("%+v: %v", c, err)
	}
	got, err := w.state.Apply(w.at, c.Command())
	if err != nil {
		t.Fatal(err)
	}
	if want := naively(w.at.Time); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v: answered %+v, want %+v", c, got, want)
	}
	if other, err := w.other.Apply(w.at, c.Command()); err != nil || !reflect.DeepEqual(other, got) {
		t.Fatalf("%+v: a replica answered %+v, want %+v: %v", c, other, got, err)
	}
	if !bytes.Equal(w.state.View().Encode(nil), w.other.View().Encode(nil)) {
		t.Fatalf("%+v: replicas differ", c)
	}
}

func TestQueueIsWhatItsRecordsAreOneByOne(t *testing.T) {
	checks(t, "400", "150")
	rapid.Check(t, func(t *rapid.T) {
		w := &compared{t: t, state: NewState(), other: NewState(), queues: map[Key]*naive{}}
		for _, k := range comparedKeys {
			w.queues[k] = &naive{}
		}
		views := []metadata.View{}
		encoded := [][]byte{}
		t.Repeat(map[string]func(*rapid.T){
			"command 1": w.apply, "command 2": w.apply, "command 3": w.apply, "command 4": w.apply, "command 5": w.apply, "command 6": w.apply, "": w.check,
			"view": func(*rapid.T) {
				views = append(views, w.state.View())
				encoded = append(encoded, views[len(views)-1].Encode(nil))
			},
			"restore": func(t *rapid.T) {
				b := w.state.View().Encode(nil)
				w.other = NewState()
				if err := w.other.Restore(b); err != nil || !bytes.Equal(w.other.View().Encode(nil), b) {
					t.Fatalf("restored: %v", err)
				}
			},
		})
		for i, v := range views {
			if !bytes.Equal(v.Encode(nil), encoded[i]) {
				t.Fatal("a view changed")
			}
		}
	})
}

// checks is how much rapid does, unless the command line says.
func checks(t *testing.T, n, steps string) {
	for name, value := range map[string]string{"rapid.checks": n, "rapid.steps": steps} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := flag.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
}
