package history

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/splashdam/splashdam/objectlog"
)

// Do is what an operation on a partition's log does.
type Do string

// The operations on a partition's log.
const (
	Append   Do = "append"    // a value, at the end; Offset is where it is
	AppendAt Do = "append-at" // a value, if the log ends at Expected; Offset is that, or with Mismatch where it ends instead
	ReadAt   Do = "read-at"   // the record at Expected is Value, or with Mismatch Expected lies behind the end and Offset is where that is
	Latest   Do = "latest"    // Offset is where the log ends
)

// Op is one operation of a client from its call to its return, on a monotonic clock. A read that brought no record of a place that is not
// definitely out of range says nothing and is no Op: followers may answer so before they have heard of the record. Neither is an append
// that definitely failed: its value, when it is read, makes the history wrong.
type Op struct {
	Client       int
	Do           Do
	Value        int // from 1; each occurs in one append only
	Expected     objectlog.Offset
	Offset       objectlog.Offset // NoOffset: the answer did not say
	Mismatch     bool
	Unknown      bool // it has no answer: an append may have happened, or happen at any later time
	Call, Return time.Duration
}

func (o Op) String() string {
	text := fmt.Sprintf("client %d [%.3fs, %.3fs] %s", o.Client, o.Call.Seconds(), o.Return.Seconds(), o.Do)
	switch o.Do {
	case Append:
		text += fmt.Sprintf(" value %d", o.Value)
	case AppendAt:
		text += fmt.Sprintf(" value %d at %d", o.Value, o.Expected)
	case ReadAt:
		text += fmt.Sprintf(" %d", o.Expected)
	}
	switch {
	case o.Unknown:
		return text + ": unknown"
	case o.Mismatch:
		return fmt.Sprintf("%s: no, the log ends at %d", text, o.Offset)
	case o.Do == ReadAt:
		return fmt.Sprintf("%s: value %d", text, o.Value)
	}
	return fmt.Sprintf("%s: %d", text, o.Offset)
}

// Verdict is what became of a check.
type Verdict string

// The verdicts.
const (
	Linearizable    Verdict = "linearizable"
	NotLinearizable Verdict = "not linearizable"
	Undecided       Verdict = "undecided" // in the time given
)

// Linearize decides whether the operations on one partition's log, empty at first, can have happened one after the other, each between its
// call and its return. If not, why is the shortest part of the history found that cannot.
func Linearize(ops []Op, timeout time.Duration) (v Verdict, why []Op) {
	v = decide(logModel, ops, timeout)
	if v == NotLinearizable {
		why = shortest(ops, timeout)
	}
	return v, why
}

func decide(m porcupine.Model, ops []Op, timeout time.Duration) Verdict {
	history := make([]porcupine.Operation, 0, len(ops))
	for i, o := range ops {
		end := int64(o.Return)
		if o.Unknown {
			if o.Do != Append && o.Do != AppendAt {
				continue // it changed nothing and says nothing
			}
			end = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: i, Input: o, Call: int64(o.Call), Return: end})
	}
	switch porcupine.CheckOperationsTimeout(m, history, max(timeout, time.Millisecond)) { // 0 would be for ever
	case porcupine.Ok:
		return Linearizable
	case porcupine.Illegal:
		return NotLinearizable
	}
	return Undecided
}

// logModel is one partition's log. Its state is the values in it, as bytes in a string, so that states compare and hash by themselves.
var logModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := step(state.(string), input.(Op))
		return ok, next
	},
}

const valueBytes = 4

func step(log string, o Op) (ok bool, next string) {
	end := objectlog.Offset(len(log) / valueBytes)
	appended := func() string { return log + string(binary.BigEndian.AppendUint32(nil, uint32(o.Value))) }
	switch {
	case o.Do == Append && o.Unknown: // an append that never happens is one that happens behind everything else
		return true, appended()
	case o.Do == Append:
		return o.Offset == end || o.Offset == objectlog.NoOffset, appended()
	case o.Do == AppendAt && o.Unknown:
		if end == o.Expected {
			return true, appended()
		}
		return true, log
	case o.Do == AppendAt && o.Mismatch:
		return end != o.Expected && (o.Offset == end || o.Offset == objectlog.NoOffset), log
	case o.Do == AppendAt:
		return end == o.Expected && o.Offset == end, appended()
	case o.Do == ReadAt && o.Mismatch:
		return end < o.Expected && (o.Offset == end || o.Offset == objectlog.NoOffset), log
	case o.Do == ReadAt:
		return o.Expected < end && valueAt(log, o.Expected) == o.Value, log
	default:
		return o.Offset == end, log
	}
}

func valueAt(log string, o objectlog.Offset) int {
	return int(binary.BigEndian.Uint32([]byte(log[o*valueBytes:])))
}

// shortest looks for the few operations that contradict each other. In a log into which others may append at any time each operation can be
// left out for itself; what is wrong only if nobody else appends is told with every append.
func shortest(ops []Op, timeout time.Duration) []Op {
	deadline := time.Now().Add(timeout)
	ops = prefix(ops, deadline)
	wrong := func(m porcupine.Model) func([]Op) bool {
		return func(some []Op) bool { return decide(m, some, time.Until(deadline)/4) == NotLinearizable }
	}
	told := slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.Unknown })
	if sparse := wrong(sparseModel); sparse(told) {
		return reduce(told, sparse, func(Op) bool { return true })
	}
	return reduce(ops, wrong(logModel), func(o Op) bool { return o.Do == ReadAt || o.Do == Latest || o.Mismatch })
}

// prefix is the shortest beginning of a history that is wrong by itself.
func prefix(ops []Op, deadline time.Time) []Op {
	returns := make([]time.Duration, len(ops))
	for i, o := range ops {
		returns[i] = o.Return
	}
	slices.Sort(returns)
	until := func(end time.Duration) (some []Op) {
		for _, o := range ops {
			if o.Call < end {
				o.Unknown = o.Unknown || o.Return > end
				some = append(some, o)
			}
		}
		return some
	}
	n, _ := slices.BinarySearchFunc(returns, true, func(end time.Duration, _ bool) int {
		if decide(logModel, until(end), time.Until(deadline)/8) == NotLinearizable {
			return 0
		}
		return -1
	})
	if n == len(returns) {
		return ops
	}
	return until(returns[n])
}

// reduce leaves out what may be left out, in large parts first, for as long as what is left is wrong.
func reduce(ops []Op, wrong func([]Op) bool, may func(Op) bool) []Op {
	for size := max(1, len(ops)/2); size > 0; size /= 2 {
		for from := 0; from < len(ops); {
			next := min(from+size, len(ops))
			without := slices.Concat(ops[:from], slices.DeleteFunc(slices.Clone(ops[from:next]), may), ops[next:])
			if len(without) < len(ops) && wrong(without) {
				ops = without
			} else {
				from += size
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ops), func(o Op) bool { return o.Unknown && (o.Do == ReadAt || o.Do == Latest) })
}

// sparseModel is a log of which a history tells some operations only, so that every answer may rest on appends that are not told. Its state
// is where the log ends and the places of the values that are known.
var sparseModel = porcupine.Model{
	Init: func() any { return sparse{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(sparse).step(input.(Op))
		return ok, next
	},
}

type sparse struct {
	end   objectlog.Offset
	known string // offset and value, valueBytes each
}

func (s sparse) step(o Op) (ok bool, next sparse) {
	switch {
	case o.Offset == objectlog.NoOffset && o.Do != ReadAt:
		return true, s
	case o.Do == ReadAt && !o.Mismatch:
		next, ok = s.learn(o.Expected, o.Value)
		next.end = max(s.end, o.Expected+1)
		return ok, next
	case o.Do == ReadAt && o.Offset == objectlog.NoOffset:
		return s.end < o.Expected, s
	case o.Mismatch && o.Do == AppendAt && o.Offset == o.Expected || s.end > o.Offset:
		return false, s
	case o.Do == Latest || o.Mismatch:
		s.end = o.Offset
		return true, s
	}
	next, ok = s.learn(o.Offset, o.Value)
	next.end = o.Offset + 1
	return ok && (o.Do == Append || o.Offset == o.Expected), next
}

// learn notes that a value is at an offset; not ok: another is, or it is elsewhere.
func (s sparse) learn(o objectlog.Offset, value int) (next sparse, ok bool) {
	pair := string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(o)), uint32(value)))
	at := 0 // where the pair belongs: in order of offsets, so that equal knowledge is equal
	for i := 0; i < len(s.known); i += len(pair) {
		known := s.known[i : i+len(pair)]
		if known == pair {
			return s, true
		}
		if known[:valueBytes] == pair[:valueBytes] || known[valueBytes:] == pair[valueBytes:] {
			return s, false
		}
		if known < pair {
			at = i + len(pair)
		}
	}
	s.known = s.known[:at] + pair + s.known[at:]
	return s, true
}

// Explain is the operations, one a line.
func Explain(ops []Op) string {
	var text strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&text, "    %v\n", o)
	}
	return text.String()
}
