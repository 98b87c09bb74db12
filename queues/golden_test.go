package queues

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

var update = flag.Bool("update", false, "write the golden files")

// everyCommand is commands of each kind, in an order in which most of them do something.
func everyCommand() []metadata.Command {
	wide := acquire(0xfedcba9876543210, 12)
	wide.Start, wide.LogStart = 3, 1
	say := func(from, to objectlog.Offset, v Verdict, wait time.Duration, said string) Settlement {
		return Settlement{from, to, wide.Lock, v, wait, said}
	}
	edited := moveOut(letters, 300, Place{topic(1), 99_999}, 2)
	edited.Items[0].Edited, edited.Items[0].HasEdited = []byte("mended"), true
	emptied := moveOut(letters, 301, Place{topic(3), 0}, 4)
	emptied.Items[0].Edited, emptied.Items[0].HasEdited = []byte{}, true
	ordered := func(o, committed objectlog.Offset) metadata.Command {
		c := fail(o, committed)
		c.Group = "o"
		return c.Command()
	}
	o := Key{work.Topic, 0, "o"}
	elsewhere := acquire(7, 1)
	elsewhere.Topic, elsewhere.Until = topic(9), 1<<62
	expired := acquire(8, 1)
	expired.Group, expired.Until = "idle", 0
	return []metadata.Command{
		expired.Command(),
		wide.Command(),
		Settle{work, []Settlement{say(3, 4, Accept, 0, ""), say(5, 6, Release, 0, "größe"), say(6, 7, Release, 90*time.Second, "later"), say(7, 10, Reject, 0, "bad"),
			say(10, 11, Extend, time.Hour, ""), say(11, 12, Return, 0, ""), say(20, 30, Accept, 0, "")}}.Command(),
		Elapse{work, []int64{1, 99}}.Command(),
		acquire(2, 3).Command(),
		moveOut(work, 200, dlq, 7, 8).Command(),
		moveOut(work, objectlog.NoProducer, dlq, 9).Command(),
		moved(work, 7, 200, 0).Command(),
		edited.Command(),
		emptied.Command(),
		Discard{letters, 50, []Range{{0, 2}, {10, 12}}}.Command(),
		moveOut(letters, 302, Place{topic(3), 1}, 5).Command(),
		Reroute{letters, 302}.Command(),
		ordered(4, 2),
		ordered(8, 4),
		moveOut(o, 400, dlq, 4, 8).Command(),
		moved(o, 4, 400, 0).Command(),
		ordered(1<<50, 4),
		Trim{work, 5}.Command(),
		elsewhere.Command(),
		DropTopic{topic(9)}.Command(),
		Expire{15}.Command(),
	}
}

// settled is a state with something of everything.
func settled(t testing.TB) *log {
	l := newLog(t)
	for _, c := range everyCommand() {
		l.do(raw(c))
	}
	return l
}

// golden compares with the file, or writes it. Changing such a file makes entries, snapshots or answers in use unreadable.
func golden(t *testing.T, name string, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != got {
		t.Errorf("%s differs:\n got %s\nwant %s", path, got, stored)
	}
}

func TestCommandsAreWrittenAsEver(t *testing.T) {
	var b strings.Builder
	kinds := map[metadata.Kind]bool{}
	for _, c := range everyCommand() {
		kinds[c.Kind] = true
		fmt.Fprintf(&b, "%d %x\n", c.Kind, c.Body)
	}
	golden(t, "commands.golden", b.String())
	for k := From; k < To; k++ {
		if _, ok := operationOf(k); ok != kinds[k] {
			t.Errorf("kind %d: known %v, in the file %v", k, ok, kinds[k])
		}
	}
}

func TestWhatIsWrittenIsWhatIsRead(t *testing.T) {
	for _, c := range everyCommand() {
		op, err := decodeOperation(c)
		if err != nil {
			t.Fatal(err)
		}
		again := reflect.ValueOf(op).Elem().Interface().(command).Command()
		if !bytes.Equal(again.Body, c.Body) || again.Kind != c.Kind {
			t.Errorf("kind %d was read as %+v", c.Kind, op)
		}
	}
}

// The file has the result of each command and the state behind it, so that old entries keep their meaning.
func TestStoredCommandsStillApply(t *testing.T) {
	stored, err := os.ReadFile("testdata/commands.golden")
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t)
	var states strings.Builder
	for line := range strings.Lines(string(stored)) {
		var c metadata.Command
		var body string
		if _, err := fmt.Sscan(line, &c.Kind, &body); err != nil {
			t.Fatal(err)
		}
		if c.Body, err = hex.DecodeString(body); err != nil {
			t.Fatal(err)
		}
		result := l.do(raw(c))
		fmt.Fprintf(&states, "%d %x %x\n", c.Kind, EncodeResult(result), l.encoded())
	}
	golden(t, "states.golden", states.String())
}

func TestStoredSnapshotStillRestores(t *testing.T) {
	stored, err := os.ReadFile("testdata/states.golden")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stored)) {
		b, err := hex.DecodeString(strings.Fields(line)[2])
		if err != nil {
			t.Fatal(err)
		}
		s := NewState()
		if err := s.Restore(b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.View().Encode(nil), b) {
			t.Errorf("the restored state encodes differently")
		}
	}
}

func TestGoldenStateHasEveryPhase(t *testing.T) {
	seen := map[Phase]bool{}
	settled(t).Queues(Key{}, func(q *Queue) bool {
		for _, p := range q.Pieces {
			seen[p.Phase] = true
		}
		return true
	})
	if len(seen) != 6 {
		t.Fatalf("phases %v", seen)
	}
}

func someResults() []Result {
	results := []Result{{}, {Acquired: []Acquired{{0, 1, 1}, {5, 1 << 62, 1000}}}, {Refused: []Refusal{{3, 4, ReasonNotLocked}, {9, 12, ReasonNotThere}}}, {Expired: 3}}
	for r := ReasonNone; r <= ReasonNotThere; r++ {
		results = append(results, Result{Reason: r})
	}
	return results
}

func TestResultsAreWrittenAsEverAndRead(t *testing.T) {
	var b strings.Builder
	for _, r := range someResults() {
		encoded := EncodeResult(r)
		fmt.Fprintf(&b, "%x\n", encoded)
		decoded, err := DecodeResult(encoded)
		if err != nil || !reflect.DeepEqual(decoded, r) || !IsResult(encoded) {
			t.Errorf("%+v was read as %+v: %v", r, decoded, err)
		}
		for n := range encoded {
			if _, err := DecodeResult(encoded[:n]); err == nil {
				t.Errorf("%x cut to %d bytes was read", encoded, n)
			}
		}
	}
	golden(t, "results.golden", b.String())
	if IsResult(nil) || IsResult([]byte{1}) {
		t.Error("took others' results for its own")
	}
	if _, err := DecodeResult([]byte{1, 0, 0, 0}); err == nil {
		t.Error("read another's result")
	}
}

func TestSnapshotOfALaterFormatIsRefused(t *testing.T) {
	l := settled(t)
	b := l.encoded()
	before := bytes.Clone(b)
	b[0] = snapshotVersion + 1
	if err := l.Restore(b); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Fatalf("error %v", err)
	}
	if !bytes.Equal(l.encoded(), before) {
		t.Fatal("the state changed")
	}
}

func TestEveryCutOfASnapshotIsNoticed(t *testing.T) {
	b := settled(t).encoded()
	for n := range b {
		if NewState().Restore(b[:n]) == nil {
			t.Errorf("%d of %d bytes restored", n, len(b))
		}
	}
	if NewState().Restore(append(b, 0)) == nil {
		t.Error("a byte too many restored")
	}
}

func TestStatesThatNoCommandLeadsToAreNotRestored(t *testing.T) {
	ready := Piece{From: 1, To: 3, Deliveries: 1}
	move := &Move{To: dlq, Producer: 7, Failed: true}
	route := []Route{{dlq, 7, 1}}
	group := func(pieces ...Piece) Queue { return Queue{Key: work, Next: 9, stamps: 5, Pieces: pieces} }
	with := func(q Queue, f func(q *Queue)) Queue {
		f(&q)
		return q
	}
	for name, q := range map[string]Queue{
		"empty piece":                group(Piece{From: 1, To: 1}),
		"beyond next":                group(Piece{From: 8, To: 10}),
		"behind the largest":         with(group(Piece{To: 1 << 62}, Piece{From: -1 << 63, To: -1 << 62}), func(q *Queue) { q.Next = 1 << 62 }),
		"parted for nothing":         group(ready, Piece{From: 3, To: 4, Deliveries: 1}),
		"lock of no delivery":        group(Piece{To: 1, Phase: Locked, Lock: 1, Stamp: 1}),
		"lock of no number":          group(Piece{To: 1, Phase: Locked, Deliveries: 1, Stamp: 1}),
		"stamp that is still to be":  group(Piece{To: 1, Phase: Locked, Lock: 1, Deliveries: 1, Stamp: 6}),
		"delay without a stamp":      group(Piece{To: 1, Phase: Delayed, Deliveries: 1}),
		"unknown phase":              group(Piece{To: 1, Phase: Buried + 1}),
		"unknown cause":              group(Piece{To: 1, Deliveries: 1, Failure: Failure{Cause: CauseGivenUp + 1}}),
		"move without a route":       group(Piece{To: 1, Phase: Moving, Deliveries: 1, Move: move}),
		"move of two":                with(group(Piece{To: 2, Phase: Moving, Deliveries: 1, Move: move}), func(q *Queue) { q.Routes = route }),
		"move of another producer":   with(group(Piece{To: 1, Phase: Moving, Deliveries: 1, Move: move}), func(q *Queue) { q.Routes = []Route{{dlq, 8, 1}} }),
		"sequence still to be given": with(group(Piece{To: 1, Phase: Moving, Deliveries: 1, Move: move}), func(q *Queue) { q.Routes = []Route{{dlq, 7, 0}} }),
		"two routes to a place":      with(group(ready), func(q *Queue) { q.Routes = []Route{{dlq, 7, 1}, {dlq, 8, 1}} }),
		"buried in a queue":          group(Piece{To: 1, Phase: Buried}),
		"ready in an ordered one":    with(group(ready), func(q *Queue) { q.Ordered = true }),
		"failed letter":              with(group(Piece{To: 1, Phase: Moving, Move: move}), func(q *Queue) { q.Group, q.Routes = "", route }),
		"ordered letters":            with(group(), func(q *Queue) { q.Group, q.Ordered = "", true }),
	} {
		if NewState().Restore(view{{q, 1}}.Encode(nil)) == nil {
			t.Errorf("%s: restored", name)
		}
	}
	if err := NewState().Restore(view{{with(group(ready, Piece{From: 3, To: 4, Phase: Moving, Deliveries: 1, Move: move}), func(q *Queue) { q.Routes = route }), 1}}.Encode(nil)); err != nil {
		t.Error(err)
	}
}
