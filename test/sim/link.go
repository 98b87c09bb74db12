package sim

import (
	"context"
	"errors"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// target is what an agent's link leads to: the table, the bucket, or the agent at a place.
type target int

const (
	theTable  target = places
	theBucket target = places + 1
	targets   target = places + 2
)

// links says which directions are cut: [from place][to target], and back.
type links struct {
	out  [places][targets]bool
	back [places][targets]bool
	// refused says between which places connections are refused though somebody listens.
	refused [places][places]bool
}

// noise is how badly messages fare.
type noise struct {
	loss     float64 // of a request, and again of its reply
	twice    float64 // delivered twice
	late     float64 // held back for seconds: past a successor's barrier, past a lap of a small ring
	throttle float64 // refused by the store without looking at it
	garble   float64 // an entry of a stream is not what the leader committed
	slow     time.Duration
}

const (
	// requestTimeout is after how long an agent gives a request up.
	requestTimeout = 250 * time.Millisecond
	// lateMax is how late a message between agents may be.
	lateMax = 5 * time.Second
)

var errNoAnswer = errors.New("no answer")

func (w *world) delay() time.Duration {
	return between(w.fate, 200*time.Microsecond, 3*time.Millisecond+w.noise.slow)
}

// request sends something that land does when it arrives, maybe twice, maybe late, maybe never. Exactly one of reply and lost happens
// to the sender, unless it dies.
func request[T any](w *world, n *node, to target, writes bool, land func() T, reply func(T), lost func()) {
	done := false
	once := func(f func()) {
		if !done {
			done = true
			f()
		}
	}
	w.to(n, requestTimeout, func() { once(lost) })
	cut, gone, throttled := w.links.out[n.place][to], w.chance(w.noise.loss), w.chance(w.noise.throttle)
	twice, late := w.chance(w.noise.twice), w.chance(w.noise.late)
	if cut || gone {
		return
	}
	if throttled && to >= theTable {
		w.to(n, w.delay(), func() { once(lost) })
		return
	}
	deliver := func(d time.Duration) {
		w.after(d, func() {
			answer := land()
			if cut, gone := w.links.back[n.place][to], w.chance(w.noise.loss); cut || gone {
				return
			}
			w.to(n, w.delay(), func() { once(func() { reply(answer) }) })
		})
	}
	d := w.delay()
	if writes && late {
		d += between(w.fate, requestTimeout, 12*time.Second)
	}
	deliver(d)
	if writes && twice {
		deliver(w.delay() + between(w.fate, 0, 2*time.Second))
	}
}

func (w *world) putItem(n *node, item metadata.Item, cond metadata.If, done func(metadata.PutResult)) {
	request(w, n, theTable, true,
		func() metadata.PutResult {
			r := w.table.Put(context.Background(), item, cond)
			w.check.put(item, r)
			w.trace("put lands", n.place, int64(item.Rev), int64(r.Outcome))
			return r
		},
		done, func() { done(metadata.PutResult{Err: errNoAnswer}) })
}

// found is what a read of the table finds.
type found struct {
	item metadata.Item
	ok   bool
}

func (w *world) getItem(n *node, key metadata.Key, done func(metadata.Item, bool, error)) {
	request(w, n, theTable, false,
		func() found {
			item, ok, _ := w.table.Get(context.Background(), key)
			return found{item, ok}
		},
		func(f found) { done(f.item, f.ok, nil) }, func() { done(metadata.Item{}, false, errNoAnswer) })
}

func (w *world) putObject(n *node, key string, body func() []byte, nonce objectlog.UUID, done func(error)) {
	request(w, n, theBucket, true,
		func() error {
			w.trace("object lands", n.place)
			return w.bucket.Put(context.Background(), key, body(), nonce)
		},
		done, func() { done(errNoAnswer) })
}

// read is what a read of the bucket finds.
type read struct {
	body []byte
	err  error
}

func (w *world) getObject(n *node, key string, extent objectlog.Extent, done func([]byte, error)) {
	request(w, n, theBucket, false,
		func() read {
			b, err := w.bucket.Get(context.Background(), key, extent)
			return read{b, err}
		},
		func(r read) { done(r.body, r.err) }, func() { done(nil, errNoAnswer) })
}

// outcome is how a call to another agent failed.
type outcome uint8

const (
	unheard  outcome = iota // no answer: nobody knows whether it was done
	refused                 // nobody listens there: it was not sent
	stranger                // an agent of another format level is there: nothing was done
)

// call sends a message to whoever runs at a place. land happens there when it arrives, maybe twice, maybe late, maybe never; it may reply, at any
// time, once for each landing. Exactly one of the first landing's reply and fail happens to the sender, unless it dies.
func (n *node) call(place int, limit time.Duration, land func(m *node, reply func(answer func())), fail func(outcome)) {
	w := n.w
	done := false
	once := func(f func()) {
		if !done {
			done = true
			f()
		}
	}
	w.to(n, limit, func() { once(func() { fail(unheard) }) })
	cut, gone := w.links.out[n.place][place], w.chance(w.noise.loss)
	twice, late := w.chance(w.noise.twice), w.chance(w.noise.late)
	if cut || gone {
		return
	}
	back := func(f func()) {
		if cut, gone := w.links.back[n.place][place], w.chance(w.noise.loss); !cut && !gone {
			w.to(n, w.delay(), func() { once(f) })
		}
	}
	d := w.delay()
	if late {
		d += between(w.fate, 0, lateMax)
	}
	w.after(d, func() {
		switch m := w.at[place]; {
		case m == nil && w.dark[place]:
		case m == nil, w.links.refused[n.place][place]:
			back(func() { fail(refused) })
		case m.level != n.level:
			back(func() { fail(stranger) })
		default:
			w.to(m, 0, func() { land(m, back) })
		}
	})
	if twice { // nobody listens for a second answer
		w.after(w.delay()+between(w.fate, 0, lateMax), func() {
			if m := w.at[place]; m != nil && m.level == n.level {
				w.to(m, 0, func() { land(m, func(func()) {}) })
			}
		})
	}
}
