package history

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

const decideTimeout = 10 * time.Second

// at gives an operation its call and return, in milliseconds.
func at(call, ret int, o Op) Op {
	o.Call, o.Return = time.Duration(call)*time.Millisecond, time.Duration(ret)*time.Millisecond
	return o
}

func TestLinearizeDecidesHandMadeHistories(t *testing.T) {
	appended := func(v int, o objectlog.Offset) Op { return Op{Do: Append, Value: v, Offset: o} }
	unknown := func(v int) Op { return Op{Do: Append, Value: v, Unknown: true} }
	latest := func(o objectlog.Offset) Op { return Op{Do: Latest, Offset: o} }
	read := func(o objectlog.Offset, v int) Op { return Op{Do: ReadAt, Expected: o, Value: v} }
	for _, c := range []struct {
		name string
		ops  []Op
		want Verdict
	}{
		{"nothing", nil, Linearizable},
		{"one after the other", []Op{at(0, 1, appended(1, 0)), at(2, 3, appended(2, 1)), at(4, 5, latest(2)), at(6, 7, read(1, 2))}, Linearizable},
		{"at the same time, in either order", []Op{at(0, 9, appended(1, 1)), at(0, 9, appended(2, 0)), at(1, 5, latest(1))}, Linearizable},
		{"an offset given twice", []Op{at(0, 1, appended(1, 0)), at(2, 3, appended(2, 0))}, NotLinearizable},
		{"a gap", []Op{at(0, 1, appended(1, 0)), at(2, 3, appended(2, 2))}, NotLinearizable},
		{"a gap that an unknown append fills", []Op{at(0, 1, appended(1, 0)), at(0, 1, unknown(3)), at(2, 3, appended(2, 2))}, Linearizable},
		{"an unknown append happens later", []Op{at(0, 1, unknown(1)), at(2, 3, latest(0)), at(4, 5, latest(1)), at(6, 7, read(0, 1))}, Linearizable},
		{"an unknown append never happens", []Op{at(0, 1, unknown(1)), at(2, 3, appended(2, 0)), at(4, 5, latest(1))}, Linearizable},
		{"an unknown append happens and is undone", []Op{at(0, 1, unknown(1)), at(2, 3, latest(1)), at(4, 5, latest(0))}, NotLinearizable},
		{"an unknown append happens twice", []Op{at(0, 1, unknown(1)), at(2, 3, latest(2))}, NotLinearizable},
		{"an append before its call", []Op{at(0, 1, latest(1)), at(2, 3, appended(1, 0))}, NotLinearizable},
		{"a stale latest offset", []Op{at(0, 1, appended(1, 0)), at(2, 3, latest(0))}, NotLinearizable},
		{"a latest offset that runs ahead", []Op{at(0, 1, appended(1, 0)), at(2, 3, latest(2))}, NotLinearizable},
		{"a record that another has elsewhere", []Op{at(0, 1, appended(1, 0)), at(2, 3, appended(2, 1)), at(4, 5, read(0, 2))}, NotLinearizable},
		{"a record read before it is acknowledged", []Op{at(0, 9, appended(1, 0)), at(1, 2, read(0, 1))}, Linearizable},
		{"a record of a failed append", []Op{at(0, 1, appended(1, 0)), at(2, 3, read(0, 7))}, NotLinearizable},
		{"out of range and it is", []Op{at(0, 1, appended(1, 0)), at(2, 3, Op{Do: ReadAt, Expected: 5, Mismatch: true, Offset: 1})}, Linearizable},
		{"out of range and it is not", []Op{at(0, 1, appended(1, 0)), at(2, 3, Op{Do: ReadAt, Expected: 0, Mismatch: true, Offset: 0})}, NotLinearizable},
		{"two conditions, one holds", []Op{at(0, 9, Op{Do: AppendAt, Value: 1, Expected: 0}), at(0, 9, Op{Do: AppendAt, Value: 2, Mismatch: true, Offset: 1})}, Linearizable},
		{"two conditions, both hold", []Op{at(0, 9, Op{Do: AppendAt, Value: 1}), at(0, 9, Op{Do: AppendAt, Value: 2})}, NotLinearizable},
		{"a mismatch that is none", []Op{at(0, 1, appended(1, 0)), at(2, 3, Op{Do: AppendAt, Value: 2, Expected: 1, Mismatch: true, Offset: 1})}, NotLinearizable},
		{"a mismatch with a stale actual offset", []Op{at(0, 1, appended(1, 0)), at(2, 3, appended(2, 1)), at(4, 5, Op{Do: AppendAt, Value: 3, Mismatch: true, Offset: 1})}, NotLinearizable},
		{"a mismatch that says no offset", []Op{at(0, 1, appended(1, 0)), at(4, 5, Op{Do: AppendAt, Value: 3, Mismatch: true, Offset: objectlog.NoOffset})}, Linearizable},
		{"an unknown conditional append moves the log", []Op{at(0, 1, Op{Do: AppendAt, Value: 1, Unknown: true}), at(2, 3, latest(1))}, Linearizable},
		{"an unknown conditional append whose condition cannot hold", []Op{at(0, 1, Op{Do: AppendAt, Value: 1, Expected: 3, Unknown: true}), at(2, 3, latest(1))}, NotLinearizable},
		{"an unknown read", []Op{at(0, 1, Op{Do: ReadAt, Unknown: true}), at(2, 3, latest(0))}, Linearizable},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, why := Linearize(c.ops, decideTimeout)
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got == NotLinearizable && decide(logModel, why, decideTimeout) != NotLinearizable {
				t.Errorf("what is left can have happened:\n%s", Explain(why))
			}
		})
	}
}

// random is a history of a real log: each operation takes effect at some time between its call and its return.
func random(chance *rand.Rand, clients, each int) []Op {
	var ops []Op
	var log []int
	clock := make([]int, clients)
	value := 0
	for range clients * each { // the client whose clock is behind acts next, so effects happen in the order of time
		c := 0
		for i := range clock {
			if clock[i] < clock[c] {
				c = i
			}
		}
		now := clock[c]
		end := objectlog.Offset(len(log))
		o := Op{Client: c}
		switch chance.IntN(6) {
		case 0, 1:
			value++
			o.Do, o.Value, o.Offset = Append, value, end
			log = append(log, value)
		case 2, 3:
			value++
			o.Do, o.Value, o.Expected, o.Offset = AppendAt, value, max(0, end-objectlog.Offset(chance.IntN(2))), end
			if o.Mismatch = o.Expected != end; !o.Mismatch {
				log = append(log, value)
			}
		case 4:
			o.Do, o.Offset = Latest, end
		case 5:
			if end == 0 {
				continue
			}
			o.Do, o.Expected = ReadAt, objectlog.Offset(chance.IntN(len(log)))
			o.Value = log[o.Expected]
		}
		o.Unknown = chance.IntN(40) == 0
		clock[c] = now + 1 + chance.IntN(20)
		ops = append(ops, at(now-chance.IntN(5), now+chance.IntN(5), o))
	}
	return ops
}

func TestLargestHistoriesAreDecidedInTime(t *testing.T) {
	for seed := range uint64(20) {
		ops := random(rand.New(rand.NewPCG(seed, 0)), 8, 37)
		began := time.Now()
		if got, why := Linearize(ops, decideTimeout); got != Linearizable {
			t.Fatalf("seed %d: %s\n%s", seed, got, Explain(why))
		}
		if took := time.Since(began); took > decideTimeout/2 {
			t.Errorf("seed %d: decided after %s", seed, took)
		}
	}
}

func TestOneWrongAnswerInALargeHistoryIsFoundAndExplainedInFewOperations(t *testing.T) {
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 1))
		ops := random(chance, 8, 37)
		for { // an answer of the second half that is certain
			o := &ops[len(ops)/2+chance.IntN(len(ops)/2)]
			if o.Do == Latest && !o.Unknown {
				o.Offset = max(0, o.Offset-20)
				break
			}
		}
		got, why := Linearize(ops, decideTimeout)
		if got != NotLinearizable {
			t.Fatalf("seed %d: %s", seed, got)
		}
		if len(why) > 4 {
			t.Errorf("seed %d: explained by %d operations", seed, len(why))
		}
	}
}
