package sim

import (
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// queueMachine is the Machine of a shard's queues, which tells the checks of each entry that it applies.
type queueMachine struct {
	*queues.State
	w      *world
	shard  int
	beside *metadata.State
}

// Apply implements metadata.Machine.
func (m *queueMachine) Apply(at metadata.Position, c metadata.Command) (any, error) {
	result, err := m.State.Apply(at, c)
	if err == nil {
		m.w.check.queues.applied(m, at.Seq)
	}
	return result, err
}

// Restore implements metadata.Machine.
func (m *queueMachine) Restore(b []byte) error {
	if k := m.w.check.queues; k.by[m.shard] == m { // it may apply the newest entry a second time
		k.by[m.shard] = nil
	}
	return m.State.Restore(b)
}

// queueWatch is a queue as the log has it.
type queueWatch struct {
	next    objectlog.Offset
	pieces  []queues.Piece
	records []queueRecord // by offset
}

// queueRecord is what became of a record, by the checks' own count.
type queueRecord struct {
	deliveries int32
	deaths     int
	accepted   bool
	acked      bool // and its consumer knows
	ackedAt    time.Duration
	discarded  bool // somebody wants it to be
	givenUp    bool // somebody of an ordered group has said so
}

// standing is how a record stands: in a piece, never handed out, or finished.
type standing struct {
	queues.Piece
	untouched, finished bool
}

// applied looks at what a command changed, at the first replica that applies it.
func (k *queueChecks) applied(m *queueMachine, seq metadata.Seq) {
	newest := &k.seq[m.shard]
	if seq < *newest || seq == *newest && k.by[m.shard] != m {
		return
	}
	*newest, k.by[m.shard] = seq, m
	m.Queues(queues.Key{}, func(q *queues.Queue) bool {
		k.look(q, m.beside)
		return true
	})
}

// watch answers what is watched of a queue.
func (k *queueChecks) watch(key queues.Key) *queueWatch {
	w := k.of[key]
	if w == nil {
		w = &queueWatch{}
		k.of[key] = w
	}
	return w
}

func (w *queueWatch) record(o objectlog.Offset) *queueRecord {
	for objectlog.Offset(len(w.records)) <= o {
		w.records = append(w.records, queueRecord{})
	}
	return &w.records[o]
}

func (k *queueChecks) look(q *queues.Queue, beside *metadata.State) {
	w := k.watch(q.Key)
	if q.Next == w.next && slices.Equal(q.Pieces, w.pieces) {
		return
	}
	k.shape(q, w, beside)
	low := min(w.next, q.Next)
	for _, pieces := range [2][]queues.Piece{w.pieces, q.Pieces} {
		if len(pieces) > 0 {
			low = min(low, pieces[0].From)
		}
	}
	for o := low; o < q.Next && k.w.err == nil; o++ {
		was, is := standingOf(w.pieces, w.next, o), standingOf(q.Pieces, q.Next, o)
		if !was.same(is) {
			k.turns(q, w.record(o), o, was, is)
		}
	}
	w.next, w.pieces = q.Next, append(w.pieces[:0], q.Pieces...)
}

// shape: pieces are in order and overlap nowhere, and nothing is handed out that the log does not hold.
func (k *queueChecks) shape(q *queues.Queue, w *queueWatch, beside *metadata.State) {
	last := objectlog.Offset(0)
	for _, p := range q.Pieces {
		if p.From < last || p.From >= p.To || p.To > q.Next {
			k.w.fail("two-places", "%v of group %q has [%d, %d) in a piece, behind %d, of %d", k.w.logOfKey(q.Key), q.Group, p.From, p.To, last, q.Next)
		}
		last = p.To
	}
	p, _ := beside.Partition(q.Topic, q.Partition)
	switch {
	case q.Next < w.next:
		k.w.fail("two-places", "%v of group %q goes back from %d to %d", k.w.logOfKey(q.Key), q.Group, w.next, q.Next)
	case q.Next > p.HighWatermark:
		k.w.fail("precommitted-read", "%v of group %q is handed out to %d, the log ends at %d", k.w.logOfKey(q.Key), q.Group, q.Next, p.HighWatermark)
	case q.Group != "" && !q.Ordered && q.Next > w.next && q.InFlight() > queueWindow:
		k.w.fail("beyond-window", "%v of group %q has %d records in flight", k.w.logOfKey(q.Key), q.Group, q.InFlight())
	}
}

func standingOf(pieces []queues.Piece, next, o objectlog.Offset) standing {
	if o >= next {
		return standing{untouched: true}
	}
	i, _ := slices.BinarySearchFunc(pieces, o, func(p queues.Piece, o objectlog.Offset) int {
		if p.To <= o {
			return -1
		}
		return 1
	})
	if i == len(pieces) || pieces[i].From > o {
		return standing{finished: true}
	}
	return standing{Piece: pieces[i]}
}

// same says whether a record fares as before; where its piece ends does not matter.
func (s standing) same(t standing) bool {
	if s.Move != nil && t.Move != nil && s.way() == t.way() {
		t.Move = s.Move
	}
	t.From, t.To = s.From, s.To
	return s == t
}

func (s standing) way() departure { return departure{s.Move.Producer, s.Move.Sequence} }

// holds says whether the record is in a piece of the phase.
func (s standing) holds(phase queues.Phase) bool {
	return !s.untouched && !s.finished && s.Phase == phase
}
