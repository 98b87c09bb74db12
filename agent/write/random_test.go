package write

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// world is a core among stores that do anything: it holds what is in flight, and what must be true of it.
type world struct {
	t         *rapid.T
	core      *Core
	now       time.Duration
	uploads   []Upload
	proposals map[objectlog.Shard]Propose

	stored    map[uint64]bool                     // segments in the bucket
	committed map[objectlog.Shard][]uint64        // counters, in log order
	holds     map[objectlog.Shard]map[*Batch]bool // batches in a shard's log
	answered  map[*Batch]Answer
	submitted []*Batch
	waitRoom  bool
}

const worldBuffer = 600

func (w *world) step(e Event) (refused bool) {
	for _, f := range w.core.Step(w.now, e) {
		switch f := f.(type) {
		case Upload:
			w.uploads = append(w.uploads, f)
		case Propose:
			if _, ok := w.proposals[f.Shard]; ok {
				w.t.Fatalf("two proposals in flight to shard %d", f.Shard)
			}
			for _, c := range f.Commits {
				if !w.stored[c.Counter] {
					w.t.Fatalf("segment %d is proposed but not stored", c.Counter)
				}
			}
			w.proposals[f.Shard] = f
		case Answer:
			if _, ok := w.answered[f.Batch]; ok {
				w.t.Fatalf("batch answered twice: %+v", f)
			}
			w.answered[f.Batch] = f
			w.judge(f)
		case Full:
			refused, w.waitRoom = true, true
		case Room:
			w.waitRoom = false
		}
	}
	if w.core.used > worldBuffer {
		w.t.Fatalf("%d bytes in use, at most %d", w.core.used, worldBuffer)
	}
	return refused
}

// judge holds an answer against the shard's log.
func (w *world) judge(a Answer) {
	in := w.holds[a.Batch.Shard][a.Batch]
	switch {
	case a.Err == nil && !in:
		w.t.Fatalf("acknowledged, but not in the log")
	case errors.Is(a.Err, ErrNotWritten) && in:
		w.t.Fatalf("answered as not written, but in the log")
	}
}

// commit appends a proposal to the shard's log as the state does: a counter at or below the decided one has no effect.
func (w *world) commit(p Propose) []any {
	var results []any
	log := w.committed[p.Shard]
	for _, c := range p.Commits {
		repeated := false
		for _, n := range log {
			repeated = repeated || n == c.Counter
		}
		switch {
		case repeated:
		case len(log) > 0 && c.Counter < log[len(log)-1]:
			w.t.Fatalf("segment %d is proposed behind %d", c.Counter, log[len(log)-1])
		default:
			log = append(log, c.Counter)
			for _, b := range w.submitted {
				if b.Owner == c.Counter && b.Shard == p.Shard {
					w.holds[p.Shard][b] = true
				}
			}
		}
		runs, err := objectlog.DecodeSection(c.Section.Bytes, c.Section.Ref)
		if err != nil {
			w.t.Fatal(err)
		}
		var r metadata.CommitResult
		for _, run := range runs {
			r.Batches = append(r.Batches, make([]metadata.BatchResult, len(run.Rows))...)
		}
		results = append(results, r)
	}
	w.committed[p.Shard] = log
	return results
}

func (w *world) answerUpload(i int, outcome int) {
	u := w.uploads[i]
	w.uploads = append(w.uploads[:i:i], w.uploads[i+1:]...)
	e := u.Encoded
	if e == nil {
		e = Encode(u.Batches)
		e.Name.Counter = u.Counter
		for _, b := range u.Batches {
			b.Owner = u.Counter
		}
	}
	var err error
	if outcome > 0 {
		err = errors.New("unknown")
	}
	w.stored[u.Counter] = w.stored[u.Counter] || outcome != 1
	w.step(Uploaded{Counter: u.Counter, Encoded: e, Err: err})
}

func TestAnyOrderOfOutcomesKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, proposals: map[objectlog.Shard]Propose{}, stored: map[uint64]bool{}, committed: map[objectlog.Shard][]uint64{},
			holds: map[objectlog.Shard]map[*Batch]bool{0: {}, 1: {}}, answered: map[*Batch]Answer{}}
		w.core = NewCore(Config{Shards: 2, BufferBytesMax: worldBuffer, SegmentBytesMax: 100, FlushRate: 10, FlushBurst: 3,
			Timeout: 5 * time.Second, UploadsMax: 4})
		w.live(t)
		w.settle(t)
	})
}

// live lets anything happen for a while.
func (w *world) live(t *rapid.T) {
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		w.now += time.Duration(rapid.IntRange(0, 900).Draw(t, "ms")) * time.Millisecond
		switch rapid.SampledFrom([]string{"submit", "submit", "upload", "upload", "decide", "decide", "tick"}).Draw(t, "event") {
		case "submit":
			var batches []*Batch
			for range rapid.IntRange(1, 3).Draw(t, "batches") {
				batches = append(batches, batchOf(objectlog.Shard(rapid.IntRange(0, 1).Draw(t, "shard")), int64(rapid.IntRange(1, 80).Draw(t, "bytes"))))
			}
			if !w.step(Submit{Batches: batches}) {
				w.submitted = append(w.submitted, batches...)
			}
		case "upload":
			if n := len(w.uploads); n > 0 {
				w.answerUpload(rapid.IntRange(0, n-1).Draw(t, "which"), rapid.IntRange(0, 2).Draw(t, "outcome"))
			}
		case "decide":
			shard := objectlog.Shard(rapid.IntRange(0, 1).Draw(t, "shard"))
			if p, ok := w.proposals[shard]; ok {
				w.decide(p, rapid.IntRange(0, 2).Draw(t, "outcome"))
			}
		case "tick":
			w.step(Tick{})
		}
	}
}

// decide answers a proposal: accepted; accepted, but the reply is lost; not accepted.
func (w *world) decide(p Propose, outcome int) {
	delete(w.proposals, p.Shard)
	var results []any
	if outcome < 2 {
		results = w.commit(p)
	}
	if outcome > 0 {
		results = nil
	}
	w.step(Decided{Shard: p.Shard, Results: results})
}

// settle lets everything succeed; then all must be answered and nothing held.
func (w *world) settle(t *rapid.T) {
	for range 500 {
		if w.core.Empty() {
			break
		}
		w.now += 100 * time.Millisecond
		w.step(Tick{})
		for len(w.uploads) > 0 {
			w.answerUpload(0, 0)
		}
		for shard := range objectlog.Shard(2) {
			if p, ok := w.proposals[shard]; ok {
				w.decide(p, 0)
			}
		}
	}
	switch {
	case !w.core.Empty() || w.core.used != 0:
		t.Fatalf("not empty at the end: %d bytes, %d segments, %d open", w.core.used, len(w.core.segments), len(w.core.open))
	case len(w.answered) != len(w.submitted):
		t.Fatalf("%d of %d batches answered", len(w.answered), len(w.submitted))
	case w.waitRoom:
		t.Fatal("a refused submission was never told that there is room")
	}
}
