package queues

import (
	"math"
	"reflect"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func TestFailedRecordsDepartInOrderButForThoseThatCannot(t *testing.T) {
	q := &Queue{Key: Key{Group: "g"}, Next: 20, Pieces: []Piece{{From: 1, To: 3, Phase: Ready}, {From: 3, To: 6, Phase: Failed}, {From: 8, To: 10, Phase: Failed}}}
	skip := func(o objectlog.Offset) bool { return o == 4 }
	if got := q.Departing(3, skip); !reflect.DeepEqual(got, []objectlog.Offset{3, 5, 8}) {
		t.Errorf("departing %v", got)
	}
	q.Group = ""
	if got := q.Departing(3, skip); got != nil {
		t.Errorf("departing from a dead-letter topic %v", got)
	}
}

func TestRecordsUnderwayAreInTheOrderOfTheirSequences(t *testing.T) {
	moving := func(o objectlog.Offset, producer objectlog.ProducerID, sequence int32) Piece {
		return Piece{From: o, To: o + 1, Phase: Moving, Move: &Move{Producer: producer, Sequence: sequence}}
	}
	q := &Queue{Next: 20, Routes: []Route{{Producer: 7, Next: 1}, {Producer: 8, Next: 5}, {Producer: 9, Next: 3}},
		Pieces: []Piece{moving(1, 9, 2), moving(2, 7, 0), moving(3, 9, 1), {From: 4, To: 6, Phase: Failed}, moving(6, 7, math.MaxInt32)}}
	var got [][]objectlog.Offset
	for _, route := range q.Underway() {
		var offsets []objectlog.Offset
		for _, p := range route {
			offsets = append(offsets, p.From)
		}
		got = append(got, offsets)
	}
	if want := [][]objectlog.Offset{{6, 2}, {3, 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("underway %v, want %v", got, want)
	}
}

func TestRestIsWhatIsNotFinished(t *testing.T) {
	q := &Queue{Next: 12, Pieces: []Piece{{From: 0, To: 3}, {From: 5, To: 7}, {From: 7, To: 8, Phase: Moving, Move: &Move{}}, {From: 9, To: 10, Phase: Buried}, {From: 11, To: 12}}}
	for _, c := range []struct {
		q           *Queue
		from, until objectlog.Offset
		want        []Range
	}{
		{q, 0, 15, []Range{{0, 3}, {5, 8}, {11, 15}}},
		{q, 2, 7, []Range{{2, 3}, {5, 7}}},
		{q, 3, 5, nil},
		{q, 13, 20, []Range{{13, 20}}},
		{&Queue{}, 4, 9, []Range{{4, 9}}},
		{&Queue{}, 4, 4, nil},
	} {
		if got := c.q.Rest(c.from, c.until); !reflect.DeepEqual(got, c.want) {
			t.Errorf("of [%d, %d): %v, want %v", c.from, c.until, got, c.want)
		}
	}
}

func TestRecordBelowTheGroupsPositionIsNotSentAgain(t *testing.T) {
	s, k := NewState(), Key{Topic: objectlog.UUID{1}, Group: "g"}
	apply := func(c metadata.Command) Result {
		r, err := s.Apply(metadata.Position{Time: 1}, c)
		if err != nil {
			t.Fatal(err)
		}
		return r.(Result)
	}
	fail := func(offset, committed objectlog.Offset) {
		apply(Fail{Key: k, Offset: offset, Committed: committed, Deliveries: 1, Policy: Policy{Deliveries: 1, DeadLetters: "d"}}.Command())
	}
	fail(5, 5)
	to := Place{Topic: objectlog.UUID{2}}
	apply(MoveOut{Key: k, Items: []Departure{{Offset: 5, To: to, Producer: 3}}}.Command())
	apply(Moved{Key: k, Items: []Arrival{{Offset: 5, Producer: 3, Sequence: 0}}}.Command())
	for _, committed := range []objectlog.Offset{5, 6} { // on its place, and gone on
		fail(5, committed)
		if q, _ := s.Queue(k); q.Count(Failed) != 0 {
			t.Errorf("sent again with position %d: %+v", committed, q.Pieces)
		}
	}
}
